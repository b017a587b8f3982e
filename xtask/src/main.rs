//! `cargo xtask`: parse, dispatch, exit code.

mod cli;
mod commands;
mod data_args;
mod doctor;
mod install;
mod plan;
mod stand_in;
mod summary;

use std::process::ExitCode;

use cli::{Cli, Command};
use ory_facts::product::Product;
use xtask_runner::failure::{Exit, Failure};
use xtask_runner::interrupt::Interrupt;
use xtask_runner::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse_line();
    cli.apply_color();
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&anyhow::Error::new(error).context("failed to listen for Ctrl-C")),
    };
    let options = cli.options(interrupt);
    let result = match &cli.command {
        Command::Up(args) => commands::up::run(&options, args),
        Command::Restart(args) => commands::restart::run(&options, args),
        Command::Down(args) => commands::down::run(&options, args),
        Command::Logs(args) => commands::logs::run(&options, args),
        Command::MigrateKratos(args) => commands::migrate::one(&options, Product::Kratos, args),
        Command::MigrateHydra(args) => commands::migrate::one(&options, Product::Hydra, args),
        Command::MigrateKeto(args) => commands::migrate::one(&options, Product::Keto, args),
        Command::MigrateAll(args) => commands::migrate::all(&options, args),
        Command::Status(args) => commands::status::run(&options, args),
        Command::Repair(args) => commands::repair::run(&options, args),
        Command::Backup(args) => commands::backup::run(&options, args),
        Command::Backups(args) => commands::backups::run(&options, args),
        Command::Restore(args) => commands::restore::run(&options, args),
        Command::Reset(args) => commands::reset::run(&options, args),
        Command::Split(args) => commands::split::run(&options, args),
        Command::Doctor(args) => commands::doctor::run(&options, args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Test(args) => commands::test::run(&options, args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if Output::is_broken_pipe(&error) => ExitCode::SUCCESS,
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
