//! `cargo xtask`: parse, dispatch, exit code.

mod absent_image;
mod arguments;
mod cli;
mod commands;
mod doctor;
mod global;
mod install;
mod plan;
mod stand_in;
mod summary;

use std::process::ExitCode;

use xtask_runner::failure::{Exit, Failure};
use xtask_runner::interrupt::Interrupt;
use xtask_runner::output::Output;

fn main() -> ExitCode {
    let (typed, run) = cli::parse();
    global::apply_color(&typed);
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&anyhow::Error::new(error).context("failed to listen for Ctrl-C")),
    };
    let options = global::read(&typed, interrupt);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match options.interrupt.failure() {
            // Whatever failed, failed because of it.
            Some(interrupted)
                if !Failure::of(&error).is_some_and(|failure| failure.exit == interrupted.exit) =>
            {
                fail(&error.context(interrupted))
            }
            _ => fail(&error),
        },
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    Output::error(error, Failure::hint_of(error));
    ExitCode::from(Failure::of(error).map_or(Exit::Failed, |failure| failure.exit) as u8)
}
