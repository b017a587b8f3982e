//! `completions`: a script for the shell, on standard output.

use anyhow::Result;
use clap::{ArgMatches, Command};
use clap_complete::Shell;

use crate::arguments::{option, required, value};
use ory_runner::output::Output;
use ory_runner::program::Program;

/// What can be typed.
pub fn command(name: &'static str, program: Program) -> Command {
    // Of `cargo xtask` an alias for the shell is completed.
    let completed = if program.is_of_cargo() { "xtask" } else { program.name() };
    Command::new(name).about("Print a shell's completions, for an alias such as `xt`").args([
        required("SHELL", "The shell to print them for").value_parser(clap::value_parser!(Shell)),
        option("name", "NAME", "The name that is completed").default_value(completed),
    ])
}

/// Prints what a shell needs to complete this command line.
pub fn run(mut cli: Command, typed: &ArgMatches) -> Result<()> {
    let (shell, name): (Shell, String) = (value(typed, "SHELL"), value(typed, "name"));
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, name, &mut script);
    Ok(Output::data(String::from_utf8(script)?.trim_end())?)
}
