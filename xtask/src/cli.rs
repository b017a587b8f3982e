//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::data_args::{Backup, Backups, Reset, Restore, Split};
use ory_environment::context::Options;
use ory_facts::product::{Product, parse_release};
use xtask_runner::interrupt::Interrupt;
use xtask_runner::output::{Output, Verbosity};

/// The environment of Ory Kratos, Hydra and Keto on PostgreSQL, in Docker Compose
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The stack's folder [default: the workspace root]
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print the command lines and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Bounds each wait [default: 60] and migration
    #[arg(long, global = true, value_name = "SECS", value_parser = positive)]
    timeout: Option<u64>,
    /// How long to wait for another run
    #[arg(long, global = true, value_name = "SECS", default_value = "300", value_parser = positive)]
    lock_timeout: u64,
    /// Bounds a migration's waits for locks
    #[arg(long, global = true, value_name = "SECS", value_parser = positive)]
    db_lock_timeout: Option<u64>,
    /// Show every line that the containers print
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Show errors and data only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the environment up, from any state, until it is ready
    Up(Up),
    /// Restart services after an update; recreate what changed
    Restart(Restart),
    /// Stop and remove the containers; the data stays
    Down(Down),
    /// Show the services' logs
    Logs(Logs),
    /// Show each product's migrations, container and readiness
    Status(Status),
    /// Check every prerequisite, each with what mends it
    Doctor(Doctor),
    /// Apply the migrations of Kratos
    MigrateKratos(Migrate),
    /// Apply the migrations of Hydra
    MigrateHydra(Migrate),
    /// Apply the migrations of Keto
    MigrateKeto(Migrate),
    /// Apply all migrations: Kratos, then Hydra, then Keto
    MigrateAll(Migrate),
    /// Repair what a killed migration left, then migrate on
    Repair(Repair),
    /// Back the databases up, each as it is at one moment
    Backup(Backup),
    /// List the backups
    Backups(Backups),
    /// Put a backup in the place of the databases
    Restore(Restore),
    /// Back up, then start anew with empty databases
    Reset(Reset),
    /// Give products that share a schema a place each
    Split(Split),
    /// Run every test of xtask, with all that they need
    Test(Test),
    /// Print a shell's completions, for an alias such as `xt`
    Completions(Completions),
}

#[derive(Debug, Args)]
pub struct Up {
    /// Only these services, and what they depend on
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub databases: Databases,
    #[command(flatten)]
    pub install: Install,
}

#[derive(Debug, Args)]
pub struct Install {
    /// Install Docker and Compose where missing, and start the daemon
    #[arg(long)]
    pub install_docker: bool,
    /// Don't ask before that
    #[arg(short, long, requires = "install_docker")]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Restart {
    /// Only these services [default: those of Ory]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    #[command(flatten)]
    pub images: Images,
}

#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub databases: Databases,
    /// Run Ory's command even where nothing is pending
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Databases {
    /// Create roles and databases that a DSN names and the server lacks
    #[arg(long)]
    pub create_databases: bool,
    /// Back up first what has migrations pending, and go on only if that is good
    #[arg(long)]
    pub backup: bool,
}

#[derive(Debug, Args)]
pub struct Images {
    /// Use stand-ins for Ory's images, built here, without a registry
    #[arg(long, value_name = "RELEASE", num_args = 0..=1, require_equals = true, default_missing_value = "v26.2.0", value_parser = release)]
    pub stand_in: Option<String>,
}

#[derive(Debug, Args)]
pub struct Down {
    /// Remove the volumes too: this deletes the data
    #[arg(long)]
    pub volumes: bool,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only these products [default: all of the stack]
    #[arg(value_name = "PRODUCT", value_parser = product())]
    pub products: Vec<Product>,
    /// Exit with 3 where migrations are pending, 4 where a database is ahead
    #[arg(long)]
    pub check: bool,
    /// Compare each schema with what its image makes; exit with 1 where they differ
    #[arg(long)]
    pub drift: bool,
    /// Print the SQL of what is pending
    #[arg(long, conflicts_with_all = ["json", "drift"])]
    pub sql: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Repair {
    /// The product to repair
    #[arg(value_parser = product())]
    pub product: Product,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// Only the tests whose name contains this
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    #[command(flatten)]
    pub install: Install,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to print them for
    pub shell: Shell,
    /// The name that is completed
    #[arg(long, default_value = "xtask")]
    pub name: String,
}

/// Products are typed by their names.
pub fn product() -> impl TypedValueParser<Value = Product> {
    let names = PossibleValuesParser::new(Product::ALL.map(Product::name));
    names.try_map(|name| Product::named(&name).ok_or("it isn't a product"))
}

/// A number of seconds above 0.
fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| "it isn't a number above 0".to_string())
}

/// A release of Ory, such as v26.2.0.
fn release(text: &str) -> Result<String, String> {
    parse_release(text)
        .map(|_| text.to_string())
        .ok_or_else(|| "it isn't a release such as v26.2.0".to_string())
}

/// The commands as `--help` groups them.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Environment", &["up", "status", "doctor", "restart", "down", "logs"]),
    ("Migrations", &["migrate-kratos", "migrate-hydra", "migrate-keto", "migrate-all", "repair"]),
    ("Data", &["backup", "backups", "restore", "reset", "split"]),
    ("Project", &["test", "completions"]),
];

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
  6 another run holds the lock       130, 143 interrupted";

impl Cli {
    /// Parses the command line. Wrong usage ends the process with exit code 2, help with 0.
    pub fn parse_line() -> Self {
        let command = grouped(Self::command()).after_help(AFTER_HELP);
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// A shell's completions of a program that takes these arguments.
    pub fn completions(shell: Shell, name: &str) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Self::command(), name, &mut script);
        script
    }

    /// The options that every command has.
    pub fn options(&self, interrupt: Interrupt) -> Options {
        let verbosity = match (self.global.quiet, self.global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Options {
            directory: self.global.directory.clone(),
            dry_run: self.global.dry_run,
            timeout: self.global.timeout.map(Duration::from_secs),
            lock_timeout: Duration::from_secs(self.global.lock_timeout),
            db_lock_timeout: self.global.db_lock_timeout.map(Duration::from_secs),
            interrupt,
            output: Output { verbosity },
        }
    }

    /// Applies `--color` to everything that is printed.
    pub fn apply_color(&self) {
        match self.global.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// `--help` with the commands in groups, from their own descriptions; clap has one list only.
fn grouped(command: clap::Command) -> clap::Command {
    let about = |name: &str| {
        let found = command.get_subcommands().find(|sub| sub.get_name() == name);
        found.and_then(clap::Command::get_about).map(ToString::to_string).unwrap_or_default()
    };
    let mut text = String::new();
    for (group, names) in GROUPS {
        text += &format!("{group}:\n");
        for name in names {
            text += &format!("  {name:16}{}\n", about(name));
        }
        text.push('\n');
    }
    let template = format!(
        "{{about}}\n\nUsage: cargo xtask <COMMAND> [OPTIONS]\n\n{text}Options:\n{{options}}{{after-help}}\n"
    );
    command.help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_of_the_help() {
        let grouped: Vec<_> =
            GROUPS.iter().flat_map(|(_, names)| names.iter().map(ToString::to_string)).collect();
        let mut known: Vec<_> =
            Cli::command().get_subcommands().map(|sub| sub.get_name().to_string()).collect();
        let mut sorted = grouped.clone();
        sorted.sort();
        known.sort();
        assert_eq!(sorted, known);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
