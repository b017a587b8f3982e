//! The commands: their names, what they do, and the help.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::commands::{
    backup, backups, completions, doctor, down, logs, migrate, repair, reset, restart, restore, split,
    status, test, up,
};
use crate::global;
use ory_environment::context::Options;
use ory_facts::product::Product;

/// Reads what was typed after a command; what that gives runs the command with it.
type Read = Box<dyn Fn(&ArgMatches) -> Run>;
pub type Run = Box<dyn FnOnce(&Options) -> Result<()>>;

/// Every command, in the groups of `--help`.
fn groups() -> [(&'static str, Vec<(Command, Read)>); 4] {
    let environment = vec![
        command("up", "Bring the environment up, from any state, until it is ready", up::run),
        command("status", "Show each product's migrations, container and readiness", status::run),
        command("doctor", "Check every prerequisite, each with what mends it", doctor::run),
        command("restart", "Restart services after an update; recreate what changed", restart::run),
        command("down", "Stop and remove the containers; the data stays", down::run),
        command("logs", "Show the services' logs", logs::run),
    ];
    let migrations = vec![
        command("migrate-kratos", "Apply the migrations of Kratos", |options, args| {
            migrate::one(options, Product::Kratos, args)
        }),
        command("migrate-hydra", "Apply the migrations of Hydra", |options, args| {
            migrate::one(options, Product::Hydra, args)
        }),
        command("migrate-keto", "Apply the migrations of Keto", |options, args| {
            migrate::one(options, Product::Keto, args)
        }),
        command("migrate-all", "Apply all migrations: Kratos, then Hydra, then Keto", migrate::all),
        command("repair", "Repair what a killed migration left, then migrate on", repair::run),
    ];
    let data = vec![
        command("backup", "Back the databases up, each as it is at one moment", backup::run),
        command("backups", "List the backups", backups::run),
        command("restore", "Put a backup in the place of the databases", restore::run),
        command("reset", "Back up, then start anew with empty databases", reset::run),
        command("split", "Give products that share a schema a place each", split::run),
    ];
    let project = vec![
        command("test", "Run every test of xtask, with all that they need", test::run),
        command("completions", "Print a shell's completions, for an alias such as `xt`", completions::run),
    ];
    [("Environment", environment), ("Migrations", migrations), ("Data", data), ("Project", project)]
}

/// A command, and what runs it.
fn command<A: Arguments + 'static>(
    name: &'static str,
    about: &'static str,
    run: fn(&Options, &A) -> Result<()>,
) -> (Command, Read) {
    let read = move |typed: &ArgMatches| -> Run {
        let arguments = A::read(typed);
        Box::new(move |options| run(options, &arguments))
    };
    (Command::new(name).about(about).args(A::all()), Box::new(read))
}

const AFTER_HELP: &str = "\
Examples:
  cargo xtask up                        a ready environment, from nothing
  cargo xtask up --stand-in             the same, without a registry
  cargo xtask migrate-all --dry-run     what would be run, and nothing else
  cargo xtask restart kratos            after a change of image or settings
  cargo xtask -C deploy migrate-all     a stack in another folder

Environment:
  XTASK_DIRECTORY       the stack's folder, as -C
  XTASK_COMPOSE         how Compose is called, such as \"docker-compose\"
  XTASK_POSTGRES_IMAGE  where psql comes from, for a server that is no service
  COMPOSE_FILE, COMPOSE_PROJECT_NAME, DOCKER_HOST ... as Docker knows them

Exit codes:
  0 done   1 failed   2 wrong usage   3 migrations pending
  4 database ahead of the image   5 a prerequisite is missing
  6 another run holds the lock       129, 130, 143 interrupted";

/// The whole command line, and what reads each command.
fn cargo_xtask() -> (Command, BTreeMap<String, Read>) {
    let (mut cli, mut list, mut reads) = (Command::new("cargo xtask"), String::new(), BTreeMap::new());
    for (group, commands) in groups() {
        // clap has one list of commands only.
        list += &format!("{group}:\n");
        for (command, read) in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            list += &format!("  {:16}{about}\n", command.get_name());
            reads.insert(command.get_name().to_string(), read);
            cli = cli.subcommand(command);
        }
        list.push('\n');
    }
    let cli = cli
        .bin_name("cargo xtask")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The environment of Ory Kratos, Hydra and Keto on PostgreSQL, in Docker Compose")
        .args(global::all())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .help_template(format!(
            "{{about}}\n\nUsage: cargo xtask <COMMAND> [OPTIONS]\n\n{list}Options:\n{{options}}{{after-help}}\n"
        ))
        .after_help(AFTER_HELP);
    (cli, reads)
}

/// What was typed, and what runs it. Wrong usage ends the process with exit code 2, help with 0.
pub fn parse() -> (ArgMatches, Run) {
    let (mut cli, reads) = cargo_xtask();
    // No hint could name it, and nothing that is started could be told.
    if let Some(word) = std::env::args_os().find(|word| word.to_str().is_none()) {
        let message = format!("an argument isn't UTF-8: {word:?}");
        cli.error(ErrorKind::InvalidUtf8, message).exit();
    }
    let typed = cli.get_matches();
    let run = typed.subcommand().and_then(|(name, typed)| Some(reads.get(name)?(typed)));
    // A line without a command is wrong.
    let run = run.unwrap_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand).exit());
    (typed, run)
}

/// A shell's completions of a program that takes these arguments.
pub fn completions(shell: Shell, name: &str) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cargo_xtask().0, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        cargo_xtask().0.debug_assert();
    }

    #[test]
    fn every_command_reads_what_it_takes() {
        for (command, read) in groups().into_iter().flat_map(|(_, commands)| commands) {
            let required = command.get_positionals().filter(|argument| argument.is_required_set());
            let value = |argument: &Arg| {
                let possible = argument.get_possible_values();
                possible.first().map_or("latest".to_string(), |value| value.get_name().to_string())
            };
            let line: Vec<_> = required.map(value).collect();
            let name = command.get_name().to_string();
            let typed = command.try_get_matches_from([vec![name], line].concat());
            drop(read(&typed.unwrap()));
        }
    }
}
