//! Drift on the real engine: what was done to a schema is named, and what is made to find it is gone again.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::project::{Outcome, outcome};
use crate::stack::{Compose, NEW, OLD, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        each_difference_is_named_and_what_its_line_says_to_type_fixes_it
    ]
    full: [
        nothing_is_left_of_the_database_that_is_made_to_compare_with
    ]
}

fn each_difference_is_named_and_what_its_line_says_to_type_fixes_it(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run_release(OLD, "up").exits(0);
    stack.run("status --drift").exits(1).says("kratos has migrations pending");
    stack.run("status --drift --check").exits(3);
    stack.run("migrate-all").exits(0);
    stack.run_release(OLD, "status --drift").exits(1).says("kratos's database is ahead of");

    // An application's own tables beside, with an invalid index, and an index of its own on one of Kratos's.
    for sql in [
        "create table orders (id uuid primary key, buyer uuid references identities, price int)",
        "insert into orders select gen_random_uuid(), null, 1 from generate_series(1, 2)",
        "create unique index concurrently on orders (price)",
        "create index on identities (created_at)",
    ] {
        stack.sql("kratos", sql);
    }
    let upgraded = outcome(&mut stack.forgetful(NEW, "status --drift --check")).exits(0);
    // The images of before still run.
    let is_told = |line: &&str| !line.ends_with(" ...") && !line.contains(" runs, the stack says ");
    let told: Vec<_> = upgraded.stderr.lines().filter(is_told).collect();
    assert_eq!(told, ["kratos: no drift", "hydra: no drift", "keto: no drift"], "{upgraded}");
    assert_eq!(scratch(&stack), "");

    for (database, sql) in [
        ("kratos", "drop index schema_migration_version_self_idx"),
        ("kratos", "alter table identities alter traits type text"),
        ("kratos", "alter table networks drop updated_at"),
        // It fails on the row that is there twice, and leaves an invalid index behind.
        ("kratos", "drop index schema_migration_version_idx"),
        ("kratos", "insert into schema_migration select * from schema_migration limit 1"),
        (
            "kratos",
            "create unique index concurrently schema_migration_version_idx on schema_migration (version)",
        ),
        ("hydra", "drop table hydra_jwk cascade"),
        ("keto", "alter table keto_uuid_mappings drop constraint keto_uuid_mappings_pkey"),
        ("keto", "alter table networks alter updated_at drop not null"),
        ("keto", "create unique index added on networks (created_at)"),
    ] {
        stack.sql(database, sql);
    }
    let told =
        stack.run("status --drift").exits(1).says("error: the schema differs from what the image creates");
    let differences: Vec<_> = lines(&told).filter(|line| !line.starts_with("  hint: ")).collect();
    let expected = [
        "kratos: the column identities.traits is text, not jsonb",
        "kratos: the column networks.updated_at is missing",
        "kratos: the index schema_migration_version_idx is invalid",
        "kratos: the index schema_migration_version_self_idx is missing",
        "hydra: the table hydra_jwk is missing",
        "keto: the column networks.updated_at may be null",
        "keto: the constraint keto_uuid_mappings.keto_uuid_mappings_pkey is missing",
        "keto: the unique index added was added",
    ];
    assert_eq!(differences, expected, "{told}");

    let hints: Vec<_> = lines(&told).filter_map(|line| line.strip_prefix("  hint: ")).collect();
    let typed: Vec<_> = hints.iter().filter(|hint| hint.contains(" exec db psql ")).collect();
    assert_eq!(typed.len(), 4, "{told}");
    assert_eq!(hints[2], "cargo xtask repair kratos");
    for hint in typed {
        // Here is no terminal.
        let line = hint.replacen(" exec ", " exec -T ", 1);
        outcome(stack.project.command("sh").args(["-c", &line])).exits(0);
    }
    let left = stack.run("status --drift").exits(1);
    let left: Vec<_> = lines(&left).filter(|line| !line.starts_with("  hint: ")).collect();
    assert_eq!(left, [expected[0], expected[1], expected[2], expected[4]]);
}

fn nothing_is_left_of_the_database_that_is_made_to_compare_with(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-kratos").exits(0);
    stack.sql("postgres", "create database xtask_scratch_of_somebody");

    // What keeps the product out of it fails at once, not after Ory's five minutes.
    stack.sql("postgres", "alter role kratos set default_transaction_read_only = on");
    let failed = outcome(&mut stack.forgetful(NEW, "status kratos --drift")).exits(1);
    assert!(failed.stderr.contains("error: kratos's drift can't be told"), "{failed}");
    assert_eq!(scratch(&stack), "");
    stack.sql("postgres", "alter role kratos reset default_transaction_read_only");

    let mut killed = learning(&stack);
    killed.kill().expect("a kill");
    killed.wait().expect("an end");
    assert_eq!(scratch(&stack), "xtask_scratch_kratos_kratos\n");
    let left =
        "the database xtask_scratch_kratos_kratos is a copy beside kratos's; unless a run works with it now";
    stack.run("status kratos").exits(0).says(left).says("-c 'drop database \"xtask_scratch_kratos_kratos\"'");
    outcome(&mut stack.forgetful(NEW, "status kratos --drift")).exits(0).says("kratos: no drift");
    assert_eq!(scratch(&stack), "");

    let interrupted = learning(&stack);
    outcome(Command::new("kill").args(["-INT", &interrupted.id().to_string()])).exits(0);
    let output = interrupted.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scratch(&stack), "");
    assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", container(&stack))]), "");
    assert_ne!(
        stack.sql("postgres", "select 1 from pg_database where datname = 'xtask_scratch_of_somebody'"),
        ""
    );
}

/// A run that learns what Kratos's image makes, held up while the image migrates.
fn learning(stack: &Stack) -> Child {
    let mut command = stack.forgetful(NEW, "status kratos --drift");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("xtask starts");
    while outcome(Command::new("docker").args(["pause", &container(stack)])).code != Some(0) {
        sleep(Duration::from_millis(5));
    }
    child
}

fn container(stack: &Stack) -> String {
    format!("xtask-{}-scratch-kratos", stack.name)
}

/// The databases that xtask made to compare with.
fn scratch(stack: &Stack) -> String {
    let sql =
        "select datname from pg_database where datname like 'xtask_scratch_%' and datname !~ 'somebody'";
    stack.sql("postgres", sql)
}

/// What is told below the table.
fn lines(outcome: &Outcome) -> impl Iterator<Item = &str> {
    outcome.stdout.lines().skip_while(|line| !line.contains(": "))
}
