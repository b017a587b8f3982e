//! A small program that behaves on the command line like Ory Kratos, Hydra or Keto, for tests and trials
//! without Ory's images.
//!
//! It applies a few migrations of its own to a real PostgreSQL and keeps `schema_migration`, prints, retries
//! and fails as the real ones do. It has no switch for failures: they all come from PostgreSQL, the file
//! system or the arguments.

mod arguments;
mod config;
mod connect;
mod database;
mod dsn;
mod health;
mod log;
mod migrate;
mod migrations;
mod product;
mod serve;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use arguments::Arguments;
use product::{Exit, Product, Program};

/// Ends on a signal as PID 1, for which the kernel ignores signals that have no handler; a handler is out of
/// the standard library's reach. When the shell ends, the kernel ends everything else in the container. The
/// descriptor is kept because a shell gives its background jobs no stdin.
const INIT: &str = r#"exec 3<&0; trap "exit $CODE" INT TERM; "$0" "$@" <&3 3<&- & wait $!"#;

fn main() -> ExitCode {
    let mut typed = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program_name = typed.next().unwrap_or_default();
    let typed: Vec<String> = typed.collect();

    let Some(product) = Product::named(&program_name) else {
        eprintln!("start this program as kratos, hydra or keto, not as {program_name}");
        return ExitCode::from(2);
    };
    let arguments = Arguments::parse(product, &typed);
    if std::process::id() == 1 {
        // A server stops cleanly; a migration ends at once, like a Go program without a handler.
        let code = if arguments.word(0) == "serve" { "0" } else { "2" };
        let mut shell = Command::new("/bin/sh");
        // Returns only where there is no shell; then signals are lost and nothing else.
        let _ = shell.args(["-c", INIT, &program_name]).args(&typed).env("CODE", code).exec();
    }
    match run(&Program::new(product, &arguments.words), &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit(code)) => ExitCode::from(code),
    }
}

fn run(program: &Program, arguments: &Arguments) -> Result<(), Exit> {
    let is_sql =
        program.product != Product::Keto && arguments.word(0) == "migrate" && arguments.word(1) == "sql";
    let action = match (is_sql, program.has_status()) {
        (true, true) => arguments.word(2),
        // `migrate sql` of older releases has no subcommands: it takes `status` for a DSN, which `-e` overrides.
        (true, false) => "",
        (false, _) => arguments.word(1),
    };
    if is_sql && program.has_status() && !matches!(action, "up" | "status" | "down") {
        let instead =
            if program.product == Product::Hydra { "hydra migrate sql up" } else { "kratos migrate sql" };
        eprintln!("Command \"sql\" is deprecated, Please use `{instead}` instead.");
    }
    if let Some(error) = &arguments.error {
        return Err(program.fail(error));
    }
    match arguments.word(0) {
        "" | "help" => program.help(),
        _ if arguments.help => program.help(),
        "version" => program.version(),
        "serve" => return serve::serve(program, arguments),
        "migrate" if is_sql && action == "status" => return migrate::status(program, arguments, 3),
        "migrate" if is_sql && action == "down" => {
            return Err(program.fail("the stand-in cannot migrate down"));
        }
        "migrate" if is_sql => return migrate::up(program, arguments, if action == "up" { 3 } else { 2 }),
        "migrate" if program.product == Product::Keto && action == "up" => {
            return migrate::up(program, arguments, 2);
        }
        "migrate" if program.product == Product::Keto && action == "status" => {
            return migrate::status(program, arguments, 2);
        }
        "migrate" => program.help(),
        unknown => return Err(program.unknown_command(unknown)),
    }
    Ok(())
}
