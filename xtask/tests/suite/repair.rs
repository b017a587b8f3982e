//! What a killed migration leaves behind that a re-run doesn't mend: made for real, found, proved, repaired; what only
//! looks like it is refused.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::project::Outcome;
use crate::stack::{Compose, NEW, Stack, docker, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_step_killed_between_statement_and_note_is_repaired
        an_index_whose_building_was_cut_off_is_built_anew
    ]
}

/// Kratos's step that adds a column. Its index, in a later step, goes with the column.
const COLUMN: (&str, &str) = (
    "20250708190000000000",
    "alter table identities drop column external_id;
     delete from schema_migration where version in ('20250708190000000000', '20250708190000000001')",
);

/// Its step that adds a foreign key. The stand-ins haven't got it.
const CONSTRAINT: (&str, &str) = (
    "20241031094100000002",
    "alter table session_token_exchanges drop constraint session_token_exchanges_nid_fk;
     delete from schema_migration where version = '20241031094100000002'",
);

fn a_step_killed_between_statement_and_note_is_repaired(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-kratos").exits(0);
    stack.sql("kratos", "insert into networks values (gen_random_uuid(), now(), now())");
    let networks = stack.sql("kratos", "select * from networks order by 1");
    let all = stack.applied("kratos");
    let steps = [Some(COLUMN), is_real().then_some(CONSTRAINT)];
    for (version, undo) in steps.into_iter().flatten() {
        stack.sql("kratos", undo);
        kill_before_note(&stack, version);
        // Newer ones are there: it isn't begun again.
        let lost = format!("what it noted of {version}");
        stack.run("migrate-kratos").exits(1).says(&lost).says("hint: cargo xtask repair kratos");

        let asked = stack.run("repair kratos").exits(2).says("hint: cargo xtask repair kratos --yes");
        assert_eq!(
            asked.stdout,
            format!("insert into \"public\".schema_migration (version) values ('{version}');\n")
        );
        stack.run("repair kratos --yes").exits(0).says("kratos: repaired");
        assert_eq!(stack.applied("kratos"), all);
        stack.run("repair kratos").exits(0).says("kratos: nothing to repair");
    }
    assert_eq!(stack.sql("kratos", "select * from networks order by 1"), networks);

    // A column of the same name that somebody else made.
    let other = "delete from schema_migration where version = '20250708190000000000'; \
                 alter table identities alter column external_id type varchar(65)";
    stack.sql("kratos", other);
    let refused = stack.run("repair kratos --yes").exits(1).says("external_id of the table identities is");
    assert_eq!((refused.stdout.as_str(), stack.applied("kratos")), ("", all - 1));
    // Nothing is gone, so no backup is named.
    refused.says("hint: make it as the image makes it, then: cargo xtask repair kratos");
}

/// Kills the migration's container after a step, before it can note it.
fn kill_before_note(stack: &Stack, version: &str) {
    let hold = format!(
        "create function hold() returns trigger language plpgsql \
           as $$ begin perform pg_sleep(600); return new; end $$; \
         create trigger hold before insert on schema_migration for each row \
           when (new.version = '{version}') execute function hold()"
    );
    stack.sql("kratos", &hold);
    let mut command = stack.command(NEW, "migrate-kratos");
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xtask starts");
    wait_for(stack, "kratos", "select exists (select from pg_stat_activity where wait_event = 'PgSleep')");
    docker(&["kill", &format!("xtask-{}-migrate-kratos", stack.name)]);
    Outcome::of(run.wait_with_output().expect("xtask ends")).exits(1);
    stack.sql("kratos", "drop function hold cascade");
}

fn an_index_whose_building_was_cut_off_is_built_anew(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-hydra").exits(0);
    let index = "hydra_oauth2_flow_device_challenge_idx";
    let definition = |valid: &str| {
        let sql = format!(
            "select pg_get_indexdef(indexrelid) from pg_index where indisvalid = {valid} and indexrelid = '{index}'::regclass"
        );
        stack.sql("hydra", &sql)
    };
    let made = definition("true");
    stack.sql("hydra", &format!("drop index {index}"));
    let concurrently = made.trim().replace("UNIQUE INDEX", "UNIQUE INDEX CONCURRENTLY");
    // Its building waits for a transaction that writes to the table, and is ended there.
    let in_background = |sql: &str| {
        let psql = r#"exec psql -XqAt -U postgres -d hydra -c "$0""#;
        docker(&["exec", "--detach", &stack.container("db").1, "sh", "-c", psql, sql]);
    };
    in_background("begin; lock table hydra_oauth2_flow in row exclusive mode; select pg_sleep(600)");
    wait_for(&stack, "hydra", "select exists (select from pg_stat_activity where wait_event = 'PgSleep')");
    in_background(&concurrently);
    wait_for(&stack, "hydra", &format!("select to_regclass('{index}') is not null"));
    for query in ["CREATE UNIQUE%", "begin; lock%"] {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where query like";
        stack.sql("hydra", &format!("{end} '{query}'"));
    }
    assert_eq!(definition("false"), made);

    let drift = stack.run("status hydra --drift").exits(1);
    assert!(drift.to_string().contains("cargo xtask repair hydra"), "{drift}");
    let doctor = stack.run("doctor").exits(1);
    assert!(doctor.stdout.contains(&format!("the index {index} is invalid")), "{doctor}");
    let repaired = stack.run("repair hydra --yes").exits(0).says("hydra: repaired");
    assert_eq!(repaired.stdout, format!("reindex index concurrently \"public\".\"{index}\";\n"));
    assert_eq!(definition("true"), made);
    stack.run("status hydra --drift").exits(0);
}

fn wait_for(stack: &Stack, database: &str, sql: &str) {
    let start = Instant::now();
    while stack.sql(database, sql).trim() != "t" {
        assert!(start.elapsed() < Duration::from_secs(30), "never true: {sql}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
