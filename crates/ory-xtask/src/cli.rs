//! The commands: their names, what they do, and the help.

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use crate::arguments::Arguments;
use crate::commands::{
    backup, backups, completions, doctor, down, logs, migrate, repair, reset, restart, restore, split,
    status, up, upgrade,
};
use crate::global;
use ory_facts::next::Xtask;
use ory_facts::product::Product;
use ory_ops::context::Options;
use ory_runner::program::Program;

/// Reads what was typed after a command; what that gives runs the command with it.
type Read = Box<dyn Fn(&ArgMatches) -> Run>;
type Run = Box<dyn FnOnce(&Options) -> Result<()>>;

/// A task that isn't ours, and what runs it.
pub type Task = (Command, Box<dyn Fn(&Options, &ArgMatches) -> Result<()>>);

/// A command of ours. What can be typed after it is asked for only where the command line is made.
struct Ours {
    name: &'static str,
    about: &'static str,
    arguments: fn() -> Vec<Arg>,
    read: Read,
}

/// Every command, in the groups of `--help`.
fn groups() -> [(&'static str, Vec<Ours>); 3] {
    let environment = vec![
        command("up", "Bring the environment up, from any state, until it is ready", up::run),
        command("status", "Show each product's migrations, container and readiness", status::run),
        command("doctor", "Check every prerequisite, and say how to fix it", doctor::run),
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
        command("upgrade", "Go to another release, rehearsed, and back if it fails", upgrade::run),
        command("repair", "Repair what a killed migration left, then migrate on", repair::run),
    ];
    let data = vec![
        command("backup", "Back up the databases, each from one snapshot", backup::run),
        command("backups", "List the backups", backups::run),
        command("restore", "Replace the databases with a backup", restore::run),
        command("reset", "Back up, then start again with empty databases", reset::run),
        command("split", "Give products that share a schema a place each", split::run),
    ];
    [("Environment", environment), ("Migrations", migrations), ("Data", data)]
}

/// A command, and what runs it.
fn command<A: Arguments + 'static>(
    name: &'static str,
    about: &'static str,
    run: fn(&Options, &A) -> Result<()>,
) -> Ours {
    let read = move |typed: &ArgMatches| -> Run {
        let arguments = A::read(typed);
        Box::new(move |options| run(options, &arguments))
    };
    Ours { name, about, arguments: A::all, read: Box::new(read) }
}

impl Ours {
    fn command(&self) -> Command {
        Command::new(self.name).about(self.about).args((self.arguments)())
    }
}

const COMPLETIONS: &str = "completions";

const AFTER_HELP: &str = "\
Examples:
  {XTASK} up                        a ready environment, from nothing
  {XTASK} up --stand-in             the same, without a registry
  {XTASK} migrate-all --dry-run     what would be run, and nothing else
  {XTASK} restart kratos            after a change of image or settings
  {XTASK} -C deploy migrate-all     a stack in another folder

Environment:
  XTASK_DIRECTORY       the stack's folder, as -C
  XTASK_COMPOSE         how Compose is called, such as \"docker-compose\"
  XTASK_POSTGRES_IMAGE  where psql comes from, for a server that is no service
  COMPOSE_FILE, COMPOSE_PROJECT_NAME, DOCKER_HOST ... as Docker knows them

Exit codes:
  0 done   1 failed   2 wrong usage   3 migrations pending
  4 database ahead of the image   5 a prerequisite is missing
  6 another run holds the lock       129, 130, 143 interrupted";

/// The command line of a program: our commands, and the tasks that it has of its own.
pub struct Cli<'a> {
    pub program: Program,
    pub tasks: &'a [Task],
}

impl Cli<'_> {
    /// The whole command line.
    pub fn command(&self) -> Command {
        let name = self.program.name();
        let mut groups: Vec<_> = groups()
            .into_iter()
            .map(|(title, commands)| (title, commands.iter().map(Ours::command).collect()))
            .collect();
        let tasks = self.tasks.iter().map(|(command, _)| command.clone());
        groups.push((
            "Project",
            tasks.chain([completions::command(COMPLETIONS, self.program)]).collect::<Vec<_>>(),
        ));
        // Below another command line clap finds it by the last of its words.
        let (mut cli, mut list) = (Command::new(name.rsplit(' ').next().unwrap_or(name)), String::new());
        for (title, commands) in groups {
            // clap has one list of commands only.
            list += &format!("{title}:\n");
            for command in commands {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                list += &format!("  {:16}{about}\n", command.get_name());
                cli = cli.subcommand(command);
            }
            list.push('\n');
        }
        cli.bin_name(name)
            .display_name(name)
            .version(env!("CARGO_PKG_VERSION"))
            .about("The environment of Ory Kratos, Hydra and Keto on PostgreSQL, in Docker Compose")
            .args(global::all(self.program))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .help_template(format!(
                "{{about}}\n\nUsage: {name} <COMMAND> [OPTIONS]\n\n{list}Options:\n{{options}}{{after-help}}\n"
            ))
            .after_help(Xtask::called(AFTER_HELP, name))
    }

    /// Runs the command that was typed.
    pub fn run(&self, options: &Options, typed: &ArgMatches) -> Result<()> {
        let Some((name, typed)) = typed.subcommand() else {
            // A line without a command is wrong.
            clap::Error::new(ErrorKind::MissingSubcommand).exit()
        };
        if name == COMPLETIONS {
            return completions::run(self.command(), typed);
        }
        if let Some((_, run)) = self.tasks.iter().find(|(command, _)| command.get_name() == name) {
            return run(options, typed);
        }
        let mut commands = groups().into_iter().flat_map(|(_, commands)| commands);
        match commands.find(|command| command.name == name) {
            Some(command) => (command.read)(typed)(options),
            None => clap::Error::new(ErrorKind::InvalidSubcommand).exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli { program: Program::called("cargo xtask"), tasks: &[] }.command().debug_assert();
    }

    #[test]
    fn every_command_reads_what_it_takes() {
        for ours in groups().into_iter().flat_map(|(_, commands)| commands) {
            let command = ours.command();
            let required = command.get_positionals().filter(|argument| argument.is_required_set());
            let value = |argument: &Arg| {
                let possible = argument.get_possible_values();
                possible.first().map_or("latest".to_string(), |value| value.get_name().to_string())
            };
            let line: Vec<_> = required.map(value).collect();
            let name = command.get_name().to_string();
            let typed = command.try_get_matches_from([vec![name], line].concat());
            drop((ours.read)(&typed.unwrap()));
        }
    }
}
