//! `completions`: a script for the shell, on standard output.

use anyhow::Result;
use clap::{Arg, ArgMatches};
use clap_complete::Shell;

use crate::arguments::{Arguments, option, required, value};
use crate::cli;
use ory_environment::context::Options;
use xtask_runner::output::Output;

pub struct Completions {
    shell: Shell,
    name: String,
}

impl Arguments for Completions {
    fn all() -> Vec<Arg> {
        vec![
            required("SHELL", "The shell to print them for").value_parser(clap::value_parser!(Shell)),
            option("name", "NAME", "The name that is completed").default_value("xtask"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { shell: value(typed, "SHELL"), name: value(typed, "name") }
    }
}

pub fn run(_: &Options, args: &Completions) -> Result<()> {
    let script = cli::completions(args.shell, &args.name);
    Ok(Output::data(String::from_utf8(script)?.trim_end())?)
}
