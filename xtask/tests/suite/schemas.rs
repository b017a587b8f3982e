//! A schema each in a database that others are in: backed up, restored and reset, while the keys of others into it hold.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backups::newest;
use crate::project::{Outcome, outcome};
use crate::shared::Shared;
use crate::stack::{Compose, SERVERS, Stack, docker, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_schema_is_restored_row_for_row_and_the_key_of_others_leads_into_it
    ]
    full: [
        a_schema_that_can_not_be_restored_stays_as_it_is
        a_schema_is_reset_and_its_extensions_stay_where_they_are
        a_schema_that_is_not_there_is_named_and_made_where_that_is_asked_for
        a_schema_of_the_administrators_is_replaced_again_and_again
    ]
}

fn place(product: &str) -> String {
    format!("dbname=acme options=-csearch_path={product}")
}

/// A shared database after `split --in-place`, with an application's key into Kratos's schema.
fn split(compose: Compose) -> Shared {
    let shared = Shared::new(compose);
    shared.stack.run("split --yes").exits(0);
    shared.goes_on(place);
    shared.stack.run("split --finish --yes").exits(0);
    // What belongs to the schema itself.
    shared.sql(
        "create role reader; grant usage on schema kratos to reader; comment on schema kratos is 'it''s'",
    );
    shared.sql("alter default privileges in schema kratos grant select on tables to reader");
    shared
}

const SCHEMAS: [&str; 3] = ["kratos", "hydra", "keto"];

/// All rows of each schema.
fn rows(stack: &Stack, database: &str) -> [String; 3] {
    SCHEMAS.map(|schema| {
        let all = format!(
            "select tablename, query_to_xml(format('select * from %I.%I t order by t::text', schemaname, tablename), \
             true, true, '') from pg_tables where schemaname = '{schema}' order by 1"
        );
        stack.sql(database, &all)
    })
}

/// The schema itself: its owner, rights, comment, default privileges; and the application's key.
fn frame(shared: &Shared) -> String {
    shared.sql(
        "select n.nspname, pg_get_userbyid(nspowner), nspacl, obj_description(n.oid), defaclacl from pg_namespace n
         left join pg_default_acl d on d.defaclnamespace = n.oid where nspname in ('kratos', 'hydra', 'keto') order by 1;
         select conrelid::regclass, convalidated, pg_get_constraintdef(oid) from pg_constraint
         where conname = 'orders_buyer_fkey';
         select extname, extnamespace::regnamespace from pg_extension order by 1;
         select * from orders order by id",
    )
}

fn assert_serves(shared: &Shared) {
    for (service, ports) in SERVERS {
        assert!(shared.stack.is_ready(service, ports), "{service} isn't ready");
    }
    shared.stack.run("status --check --drift").exits(0);
}

/// What xtask has left in the database, and beside it.
fn left(shared: &Shared) -> String {
    shared.sql(
        "select nspname from pg_namespace where nspname like 'xtask%' union all \
         select datname from pg_database where datname like 'xtask%' order by 1",
    )
}

fn a_schema_is_restored_row_for_row_and_the_key_of_others_leads_into_it(compose: Compose) {
    let shared = split(compose);
    let stack = &shared.stack;
    let (before, framed) = (rows(stack, "acme"), frame(&shared));
    stack.run("backup --verify").exits(0).says("kratos: restored and compared");
    let name = newest(stack);
    shared.add_identity("eve@acme.example");
    stack.sql(&place("hydra"), "insert into networks values (gen_random_uuid(), now(), now())");
    let changed = rows(stack, "acme");
    assert!(changed.iter().zip(&before).all(|(changed, before)| changed != before));

    let one = stack.run(&format!("restore {name} kratos --yes")).exits(0);
    one.says("kept until the next restore: the schema xtask_replaced_kratos of acme");
    let after = rows(stack, "acme");
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1..], changed[1..], "another product's rows");
    assert_eq!(frame(&shared), framed);
    assert_serves(&shared);
    assert_eq!(left(&shared), "xtask_replaced_kratos\n");
    let replaced = "select count(*) from xtask_replaced_kratos.identities";
    assert_eq!(shared.sql(replaced).trim(), "3");
    let broken = "do $$ begin insert into orders (buyer) select id from xtask_replaced_kratos.identities
                  except select id from kratos.identities;
                  exception when foreign_key_violation then return; end; raise 'it took it'; $$";
    shared.sql(broken);
    assert_eq!(frame(&shared), framed);

    // As a run leaves it that is killed before its last step.
    shared.sql("create schema xtask_before_kratos create table identities (id int)");
    stack.run("restore latest --yes").exits(0);
    assert_eq!((rows(stack, "acme"), frame(&shared)), (before.clone(), framed));
    assert_serves(&shared);
    assert_eq!(left(&shared), "xtask_replaced_hydra\nxtask_replaced_keto\nxtask_replaced_kratos\n");
    let kept = "select string_agg(tablename, ' ') from pg_tables where schemaname = 'xtask_replaced_kratos'";
    assert_eq!(shared.sql(kept), "identities\n", "what the killed run had replaced");
    assert_eq!(shared.served(place), ["ada@acme.example", "bob@acme.example"]);

    stack.sql("postgres", "create database other");
    stack.run(&format!("restore {name} kratos --into other")).exits(0);
    assert_eq!(rows(stack, "other")[0], before[0]);
    stack.run(&format!("restore {name} kratos --into other")).exits(1).says("isn't empty");
}

fn a_schema_that_can_not_be_restored_stays_as_it_is(compose: Compose) {
    let shared = split(compose);
    let stack = &shared.stack;
    let folder = std::path::PathBuf::from(stack.run("backup").exits(0).stdout.trim());
    shared.add_identity("eve@acme.example");
    shared.sql("insert into orders (buyer, price) select id, 7 from kratos.identities where traits::text like '%eve%'");
    let state = || (rows(stack, "acme"), frame(&shared), stack.containers(), left(&shared));
    let before = state();
    let restore = "restore latest --yes";

    let refused = stack.run(restore).exits(1);
    refused.says("others refer to rows that kratos would no longer have: 1 row by the foreign key orders_buyer_fkey of public.orders");
    assert_eq!(state(), before);
    shared.sql("delete from orders where price = 7");
    let before = state();

    let dump = folder.join("kratos.dump");
    let whole = std::fs::read(&dump).expect("a dump");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&dump, &damaged).expect("written");
    stack.run(restore).exits(1).says("is damaged: ");
    std::fs::write(&dump, &whole).expect("written");

    for (make, what, remove) in [
        (
            "create view buyers as select id from kratos.identities",
            "the view public.buyers",
            "drop view buyers",
        ),
        (
            "create function note() returns trigger language plpgsql as 'begin return new; end';
             create trigger noted before insert on kratos.identities for each row execute function note()",
            "the trigger noted on kratos.identities",
            "drop trigger noted on kratos.identities; drop function note()",
        ),
    ] {
        shared.sql(make);
        let refused = stack.run(restore).exits(1);
        refused.says(&format!("the schema kratos can't be replaced without {what}"));
        shared.sql(remove);
    }
    assert_eq!(state(), before);

    // Somebody uses the application's table for too long.
    let db = stack.container("db").1;
    let hold = "begin; lock table orders in row exclusive mode; select pg_sleep(3600)";
    let mut holder = Command::new("docker");
    let mut holder =
        holder.args(["exec", &db, "psql", "-U", "acme", "-c", hold]).spawn().expect("psql starts");
    let holds = "select 1 from pg_locks where relation = 'orders'::regclass and mode = 'RowExclusiveLock'";
    while shared.sql(holds).is_empty() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let failed = stack.run(&format!("{restore} --db-lock-timeout 1")).exits(1);
    failed
        .says("nothing was replaced: the schema kratos of acme, ")
        .says("others use the tables that are to be replaced: ");
    // Cut off while it waits, it doesn't go on in PostgreSQL.
    let mut run = stack.command("v26.2.0", restore);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("xtask starts");
    let waits = "select 1 from pg_locks l join pg_stat_activity using (pid)
                 where not granted and application_name like 'xtask-%-replace-%'";
    while shared.sql(waits).is_empty() {
        assert!(run.try_wait().expect("asked").is_none(), "it ended, and didn't wait");
        std::thread::sleep(Duration::from_millis(50));
    }
    outcome(Command::new("kill").args(["-INT", &run.id().to_string()])).exits(0);
    Outcome::of(run.wait_with_output().expect("an end")).exits(130).says("nothing was replaced: ");
    let goes_on = "select 1 from pg_stat_activity where application_name like 'xtask-%'";
    assert_eq!(shared.sql(goes_on), "");
    holder.kill().expect("a kill");
    holder.wait().expect("an end");
    shared.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()");
    let of_data = |(rows, frame, _, left): (_, _, _, _)| (rows, frame, left);
    assert_eq!(of_data(state()), of_data(before.clone()));
    assert_serves(&shared);

    // A server that doesn't get ready on what is restored: what was there is put back.
    let (file, command, other) =
        ("docker-compose.yml", "command: serve -c /ory/keto.yml", "entrypoint: [sh, -c, exit 1]");
    stack.project.replace(file, command, other);
    let failed = stack.run(&format!("--timeout 15 {restore}")).exits(1);
    failed.says("keto was recreated as the stack says now");
    stack.project.replace(file, other, command);
    assert_eq!(of_data(state()), of_data(before));
    stack.run("up").exits(0);
    stack.run(restore).exits(0);
    assert_serves(&shared);
}

/// A stack whose products are to have a schema each.
fn with_schemas(compose: Compose) -> Stack {
    let stack = Stack::of_others("shared-with-hydra", compose);
    let file = "docker-compose.yml";
    let dsn =
        |product: &str| format!("postgres://acme:secret@db:5432/acme?sslmode=disable&search_path={product}");
    stack.project.replace(file, "*dsn", &dsn("keto"));
    stack.project.replace(file, "&dsn postgres://acme:secret@db:5432/acme?sslmode=disable", &dsn("kratos"));
    stack.project.replace(file, "SECRETS_SYSTEM:", &format!("DSN: {}\n      SECRETS_SYSTEM:", dsn("hydra")));
    stack
}

fn a_schema_that_is_not_there_is_named_and_made_where_that_is_asked_for(compose: Compose) {
    let stack = with_schemas(compose);
    stack.run("up db").exits(0);
    let named = "the database acme has no schema kratos, which the search_path of kratos's DSN names";
    let status = stack.run("status").says(named);
    assert!(!status.stdout.contains("kratos   0"), "it isn't empty: {status}");
    stack.run("up").exits(1).says(named).says("-c 'create schema \"kratos\" authorization \"acme\"'");
    let schemas = "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname in ('kratos', 'hydra', 'keto')";
    assert_eq!(stack.sql("acme", schemas).trim(), "");
    stack.sql("acme", "create schema keto");
    stack.run("up --create-databases").exits(0).says("created schemas kratos, hydra");
    assert_eq!(stack.sql("acme", schemas).trim(), "hydra keto kratos");
    for schema in SCHEMAS {
        assert_ne!(stack.sql("acme", &format!("select count(*) from {schema}.schema_migration")).trim(), "0");
    }
    stack.run("up --create-databases").exits(0).says("kratos: up to date");
}

fn a_schema_is_reset_and_its_extensions_stay_where_they_are(compose: Compose) {
    // Each with a schema from the start, where its image makes its extensions.
    let stack = with_schemas(compose);
    stack.run("up db").exits(0);
    for schema in SCHEMAS {
        stack.sql("acme", &format!("create schema {schema}"));
    }
    stack.sql("acme", "create table orders (id int); create role reader");
    stack.sql("acme", "grant usage on schema kratos to reader");
    stack.sql("acme", "alter default privileges in schema kratos grant select on tables to reader");
    stack.run("up").exits(0);
    for schema in SCHEMAS {
        let network = "networks values (gen_random_uuid(), now(), now())";
        stack.sql("acme", &format!("insert into {schema}.{network}"));
    }
    if !is_real() {
        stack.sql(
            "acme",
            "create index of_trgm on kratos.identities using gin ((id::text) kratos.gin_trgm_ops)",
        );
    }
    let extensions =
        || stack.sql("acme", "select extname, extnamespace::regnamespace from pg_extension order by 1");
    let (before, there) = (rows(&stack, "acme"), extensions());
    assert!(there.contains("pg_trgm|kratos"), "{there}");

    stack.run("reset kratos hydra").exits(2).says("cargo xtask reset kratos hydra --yes");
    stack.sql("acme", "create table kratos.application (id int)");
    stack.run("reset kratos --yes").exits(1).says("kratos.application");
    stack.sql("acme", "drop table kratos.application");
    assert_eq!((rows(&stack, "acme"), extensions()), (before.clone(), there.clone()));
    stack.run("reset kratos hydra --yes").exits(0).says("kratos: empty, with");
    let after = rows(&stack, "acme");
    assert_ne!(after[0], before[0]);
    let reads = "select has_schema_privilege('reader', 'kratos', 'usage') and has_table_privilege('reader', 'kratos.identities', 'select')";
    assert_eq!(stack.sql("acme", reads), "t\n");
    assert_eq!((&after[2], extensions()), (&before[2], there.clone()));
    let left = "select nspname from pg_namespace where nspname like 'xtask%' union all \
                select datname from pg_database where datname like 'xtask%'";
    assert_eq!(stack.sql("acme", left), "");
    stack.run("status --check").exits(0);

    stack.run("restore latest kratos hydra --yes").exits(0);
    assert_eq!((rows(&stack, "acme"), extensions()), (before.clone(), there));

    // The schema and its extensions are lost.
    stack.sql("acme", "drop schema kratos cascade");
    docker(&["stop", &stack.container("kratos").1]);
    stack.run("restore latest kratos --yes").exits(0);
    assert_eq!((&rows(&stack, "acme")[0], extensions().contains("pg_trgm|kratos")), (&before[0], true));
    stack.run("up").exits(0);
}

fn a_schema_of_the_administrators_is_replaced_again_and_again(compose: Compose) {
    let shared = split(compose);
    let stack = &shared.stack;
    // The usual cure for PostgreSQL 15: rights, not ownership.
    shared.give_keto_a_role("grant usage, create on schema keto to keto");
    let rights = "select nspacl, pg_get_userbyid(nspowner) from pg_namespace where nspname = 'keto'";
    let (before, had) = (rows(stack, "acme"), shared.sql(rights));
    for command in ["backup keto --verify", "restore latest keto --yes", "restore latest keto --yes"] {
        stack.run(command).exits(0);
        assert_eq!((rows(stack, "acme"), shared.sql(rights)), (before.clone(), had.clone()), "{command}");
    }
    stack.run("reset keto --yes").exits(0).says("what an earlier restore has kept goes");
    stack.run("restore latest keto --yes").exits(0);
    assert_eq!((rows(stack, "acme"), shared.sql(rights)), (before, had));
    stack.run("status --check").exits(0);
}
