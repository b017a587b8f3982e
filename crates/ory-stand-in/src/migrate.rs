//! `migrate`: plan, apply, status.

use std::collections::HashSet;
use std::io::Write;

use crate::arguments::Arguments;
use crate::config::Config;
use crate::connect::connect;
use crate::database::Database;
use crate::migrations::{Migration, carried};
use crate::product::{Exit, Product, Program};

/// Stands for the hundreds of lines of stack trace that follow every error.
const TRACE: &str = "github.com/ory/x/popx.(*MigrationBox).UpTo\n\tgithub.com/ory/x/popx/migrator.go:51\n\
    main.main\n\tmain.go:14\nruntime.goexit\n\truntime/asm_amd64.s:1771";

/// Applies what is pending; a DSN may stand at word `place`.
pub fn up(program: &Program, arguments: &Arguments, place: usize) -> Result<(), Exit> {
    let mut database = open(program, arguments, place)?;
    let is_keto = program.product == Product::Keto;
    println!("{}", if is_keto { "Current status:" } else { "The migration plan is as follows:" });
    let carried = carried(program);
    let applied = applied(&mut database).map_err(|error| {
        let gap = if is_keto { "migration status: " } else { "the migration status:\n" };
        eprintln!("Could not get {gap}{error}\n{TRACE}");
        program.failed()
    })?;
    print!("{}", table(&carried, &applied));
    let pending: Vec<&Migration> = carried.iter().filter(|one| !applied.contains(&one.version)).collect();

    if is_keto && pending.is_empty() {
        println!("All migrations are already applied, there is nothing to do.");
        return Ok(());
    }
    if !is_keto {
        println!("\nThe SQL statements to be executed from top to bottom are:\n");
        for Migration { version, name, up, .. } in &pending {
            println!("------------ {version} - {name} ------------\n{up}\n");
        }
    }
    if !arguments.yes && !confirmed(program)? {
        println!(
            "{}",
            if is_keto { "Aborting" } else { "------------ WARNING ------------\nMigration aborted." }
        );
        return Ok(());
    }
    if is_keto {
        println!("Applying migrations...");
    }
    if let Err(error) = apply(program, &mut database, &carried) {
        let gap = if is_keto { " " } else { "\n" };
        if !is_keto {
            println!("------------ ERROR ------------");
        }
        eprintln!("Could not apply migrations:{gap}{error}\n{TRACE}");
        return Err(program.failed());
    }
    if is_keto {
        let all = carried.iter().map(|one| one.version.clone()).collect();
        print!("Successfully applied all migrations:\n{}", table(&carried, &all));
    } else {
        println!("------------ SUCCESS ------------\nSuccessfully applied migrations!");
    }
    Ok(())
}

/// Prints what is applied and what is pending.
pub fn status(program: &Program, arguments: &Arguments, place: usize) -> Result<(), Exit> {
    let mut database = open(program, arguments, place)?;
    let carried = carried(program);
    let applied = loop {
        let applied = applied(&mut database).map_err(|error| {
            eprintln!("Could not get migration status: {error}\n{TRACE}");
            program.failed()
        })?;
        let pending: Vec<_> = carried.iter().filter(|one| !applied.contains(&one.version)).collect();
        if pending.is_empty() || !arguments.block {
            break applied;
        }
        println!("Waiting for migrations to finish...");
        pending.iter().for_each(|one| println!(" - {}", one.name));
        std::thread::sleep(std::time::Duration::from_secs(1));
    };
    match arguments.format.as_str() {
        "json" => println!("{}", json(&carried, &applied)),
        _ => print!("{}", table(&carried, &applied)),
    }
    Ok(())
}

/// The versions in `schema_migration`; none if there is no such table.
pub fn applied(database: &mut Database) -> Result<HashSet<String>, String> {
    match database.run("SELECT version FROM schema_migration") {
        Ok(versions) => Ok(versions.into_iter().collect()),
        Err(error) if error.contains("SQLSTATE 42P01") => Ok(HashSet::new()),
        Err(error) => Err(format!("unable to fetch records: {error}\nproblem with migration")),
    }
}

fn open(program: &Program, arguments: &Arguments, place: usize) -> Result<Database, Exit> {
    let positional = arguments.word(place);
    let needs_dsn = program.product == Product::Kratos && !arguments.read_from_env;
    if needs_dsn && positional.is_empty() {
        program.help();
        return Err(program.failed());
    }
    let config = Config::read(program, arguments)?;
    let takes_dsn =
        needs_dsn || program.product == Product::Hydra && !positional.is_empty() && program.has_status();
    let dsn = if takes_dsn { positional.to_owned() } else { config.dsn(program)? };
    if program.product == Product::Keto {
        config.check_namespaces(program)?;
    }
    connect(program, &dsn)
}

fn apply(program: &Program, database: &mut Database, carried: &[Migration]) -> Result<(), String> {
    // As in the real ones, nothing keeps two runs from finding no table and both creating it.
    if database.run("SELECT version, version_self FROM schema_migration LIMIT 0").is_err() {
        let statement = "CREATE TABLE schema_migration (version VARCHAR (48) NOT NULL, version_self INT NOT NULL DEFAULT 0)";
        let indexes = "CREATE UNIQUE INDEX schema_migration_version_idx ON schema_migration (version);\n\
            CREATE INDEX schema_migration_version_self_idx ON schema_migration (version_self)";
        database
            .run(&format!("BEGIN;\n{statement};\n{indexes};\nCOMMIT"))
            .map_err(|error| format!("{error}\nunable to execute statement: {statement}"))?;
    }
    let mut count = 0;
    for migration in carried {
        let Migration { version, name, autocommit, .. } = migration;
        if database.run(&format!("SELECT 1 FROM schema_migration WHERE version = '{version}'"))?.is_empty() {
            run_one(program, database, migration)?;
            let file = migration.file(program.product);
            let autocommit = ("autocommit", if *autocommit { "true" } else { "false" });
            let fields =
                [autocommit, ("migration_file", &file), ("migration_name", name), ("version", version)];
            program.log("info", &format!("> {name} applied successfully"), &fields);
            count += 1;
        }
    }
    match count {
        _ if !program.at_least("v25.4.0") => {}
        0 => program.info("Migrations already up to date, nothing to apply"),
        _ => program.info(&format!("Successfully applied {count} migrations.")),
    }
    Ok(())
}

fn run_one(program: &Program, database: &mut Database, migration: &Migration) -> Result<(), String> {
    let Migration { version, name, up, .. } = migration;
    let file = migration.file(program.product);
    let fields = [("migration_file", file.as_str()), ("migration_name", name), ("version", version)];
    program.log("info", "Migration has not yet been applied, running migration.", &fields);
    let (begin, commit, warning) = if migration.autocommit {
        program.log("info", "NOT running migrations inside a transaction", &fields);
        ("", "", ". YOUR DATABASE MAY BE IN AN INCONSISTENT STATE! MANUAL INTERVENTION REQUIRED!")
    } else {
        ("BEGIN;\n", ";\nCOMMIT", "")
    };
    database
        .run(&format!("{begin}{up}"))
        .map_err(|error| format!("{error}\nerror executing {file}, sql: {up}"))?;
    database
        .run(&format!("INSERT INTO schema_migration (version) VALUES ('{version}'){commit}"))
        .map_err(|error| format!("{error}\nproblem inserting migration version {version}{warning}"))?;
    Ok(())
}

/// Asks on stdin until the answer is yes or no.
fn confirmed(program: &Program) -> Result<bool, Exit> {
    let question = if program.product == Product::Keto {
        "Are you sure that you want to apply this migration? \
            Make sure to check the CHANGELOG.md for breaking changes beforehand."
    } else {
        eprintln!("To skip the next question use flag --yes (at your own risk).");
        "Do you wish to execute this migration plan?"
    };
    loop {
        print!("{question} [y/n]: ");
        let _ = std::io::stdout().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ if matches!(read, Ok(length) if length > 0) => {}
            _ => {
                eprintln!("Unable to confirm: unable to read from stdin: EOF");
                return Err(Exit(1));
            }
        }
    }
}

fn state(migration: &Migration, applied: &HashSet<String>) -> &'static str {
    if applied.contains(&migration.version) { "Applied" } else { "Pending" }
}

/// Columns of tabs, eight wide.
fn table(carried: &[Migration], applied: &HashSet<String>) -> String {
    let widest = carried.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let column = |text: &str, widest: usize| text.to_owned() + &"\t".repeat(widest / 8 + 1 - text.len() / 8);
    let line = |version, name, state| column(version, 20) + &column(name, widest) + state + "\t\n";
    let lines = carried.iter().map(|one| line(&one.version, &one.name, state(one, applied)));
    line("Version", "Name", "Status") + &lines.collect::<String>()
}

fn json(carried: &[Migration], applied: &HashSet<String>) -> String {
    let rows = carried.iter().map(|one| {
        format!(
            r#"{{"state":"{}","version":"{}","name":"{}","content":"{}","content_down":"{}"}}"#,
            state(one, applied),
            one.version,
            one.name,
            escape(&one.up),
            escape(&one.down)
        )
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t")
}
