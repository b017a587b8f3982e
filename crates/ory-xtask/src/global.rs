//! The options that every command has.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, ColorChoice};

use crate::arguments::{option, switch, value};
use ory_ops::context::Options;
use ory_runner::interrupt::Interrupt;
use ory_runner::output::{Output, Verbosity};
use ory_runner::program::Program;

/// What can be typed with every command.
pub fn all(program: Program) -> Vec<Arg> {
    let seconds = |name, help| option(name, "SECS", help).value_parser(positive);
    let directory = match program.is_of_cargo() {
        true => "The stack's folder [default: the workspace root]",
        false => "The stack's folder [default: nearest upwards]",
    };
    let options = vec![
        option("directory", "DIR", directory).short('C').value_parser(clap::value_parser!(PathBuf)),
        switch("dry-run", "Print the command lines and change nothing"),
        seconds("timeout", "Bounds each wait [default: 60] and migration"),
        seconds("lock-timeout", "How long to wait for another run").default_value("300"),
        seconds("db-lock-timeout", "Bounds a migration's waits for locks"),
        switch("verbose", "Show every line that the containers print").short('v'),
        switch("quiet", "Show errors and data only").short('q').conflicts_with("verbose"),
        option("color", "WHEN", "When to use colours")
            .default_value("auto")
            .value_parser(clap::value_parser!(ColorChoice))
            .hide_possible_values(true),
    ];
    options.into_iter().map(|option| option.global(true).help_heading("Global options")).collect()
}

/// What was typed, for the commands.
pub fn read(typed: &ArgMatches, interrupt: Interrupt, program: Program) -> Options {
    let seconds = |name| typed.get_one(name).copied().map(Duration::from_secs);
    let verbosity = match (typed.get_flag("quiet"), typed.get_flag("verbose")) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    Options {
        directory: typed.get_one("directory").cloned(),
        dry_run: typed.get_flag("dry-run"),
        timeout: seconds("timeout"),
        lock_timeout: Duration::from_secs(value(typed, "lock-timeout")),
        db_lock_timeout: seconds("db-lock-timeout"),
        interrupt,
        output: Output { verbosity, program },
    }
}

/// Applies `--color` to everything that is printed.
pub fn apply_color(typed: &ArgMatches) {
    match value(typed, "color") {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// A number of seconds above 0.
fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| "it isn't a number above 0".to_string())
}
