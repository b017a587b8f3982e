//! `cargo xtask`: the tool, and the tasks that only this repository has.

mod archive;
mod generation;
mod leftovers;
mod test;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    ory_xtask::Tool::of_package()
        .task(test::command(), test::run)
        .task(archive::command(), archive::run)
        .main()
}

/// The workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
