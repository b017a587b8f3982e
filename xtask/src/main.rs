//! `cargo xtask`: the tool, and the task that only this repository has.

mod generation;
mod leftovers;
mod test;

use std::process::ExitCode;

fn main() -> ExitCode {
    ory_xtask::Tool::of_package().task(test::command(), test::run).main()
}
