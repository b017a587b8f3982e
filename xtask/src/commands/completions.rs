//! `completions`: a script for the shell, on standard output.

use anyhow::Result;

use crate::cli::{Cli, Completions};
use xtask_runner::output::Output;

pub fn run(args: &Completions) -> Result<()> {
    let script = Cli::completions(args.shell, &args.name);
    Ok(Output::data(String::from_utf8(script)?.trim_end())?)
}
