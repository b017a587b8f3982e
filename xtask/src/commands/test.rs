//! `test`: every test of xtask, those on a real engine among them.

use anyhow::Result;

use crate::cli::Test;
use crate::context::{Options, workspace_root};
use crate::output::Output;
use crate::process::Invocation;

pub fn run(options: &Options, args: &Test) -> Result<()> {
    let locked = std::env::var_os("CI").is_some().then_some("--locked");
    let command = Invocation::new("cargo", &workspace_root()?)
        .args(["test", "--package", "xtask", "--profile", "xtask"])
        .args(locked)
        .args(["--", "--include-ignored"])
        .args(args.filter.clone());
    if options.dry_run {
        return Ok(Output::data(command.to_string())?);
    }
    command.inherit()
}
