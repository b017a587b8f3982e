//! `ory-xtask`: the tool as a program of its own, for a stack in any folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    ory_xtask::Tool::called("ory-xtask").main()
}
