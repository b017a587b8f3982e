//! `cargo xtask`: parse, dispatch, exit code.

mod carried;
mod cli;
mod commands;
mod compose;
mod context;
mod convergence;
mod diagnosis;
mod env_file;
mod failure;
mod install;
mod lock;
mod migrations;
mod output;
mod plan;
mod postgres;
mod process;
mod readiness;
mod stack;
mod stand_in;
mod summary;

use std::process::ExitCode;

use cli::{Cli, Command};
use failure::{Exit, Failure};
use ory_facts::product::Product;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse_line();
    cli.apply_color();
    let options = cli.options();
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
        Command::Completions(args) => commands::completions::run(args),
        Command::Test(args) => commands::test::run(&options, args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if Output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            Output::error(&error, Failure::hint_of(&error));
            let exit = Failure::of(&error).map_or(Exit::Failed, |failure| failure.exit);
            ExitCode::from(exit as u8)
        }
    }
}
