//! `completions`: a script for the shell, on standard output.

use anyhow::Result;
use clap::{ArgMatches, Command};
use clap_complete::Shell;

use crate::arguments::{option, required, value};
use ory_runner::output::Output;

/// What can be typed.
pub fn command(name: &'static str) -> Command {
    Command::new(name).about("Print a shell's completions, for an alias such as `xt`").args([
        required("SHELL", "The shell to print them for").value_parser(clap::value_parser!(Shell)),
        option("name", "NAME", "The name that is completed").default_value("xtask"),
    ])
}

/// Prints what a shell needs to complete this command line.
pub fn run(mut cli: Command, typed: &ArgMatches) -> Result<()> {
    let (shell, name): (Shell, String) = (value(typed, "SHELL"), value(typed, "name"));
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, name, &mut script);
    Ok(Output::data(String::from_utf8(script)?.trim_end())?)
}
