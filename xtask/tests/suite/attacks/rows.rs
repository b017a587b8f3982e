//! Accidents that cost rows, or that end with a success that isn't: rewritten tables, killed runs, writers, names that are
//! cut, things that no restore can make.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ory_ops::backup;

use crate::attacks::ledger::{Writer, kept, of_dump};
use crate::backups::newest;
use crate::data_ground::{Holder, TABLES};
use crate::ground::Ground;
use crate::shared::Shared;
use crate::stack::{Compose, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_table_that_is_rewritten_meanwhile_is_backed_up_whole
        a_lock_is_held_whatever_ends_idle_sessions
        what_a_split_leaves_behind_is_named
    ]
    full: [
        what_a_killed_restore_left_is_kept_and_told
        what_others_write_during_a_reset_is_somewhere
        what_others_write_during_a_failed_restore_is_somewhere
        names_that_postgresql_would_cut_do_not_meet
        what_no_restore_can_make_is_told_by_a_backup_and_loses_nothing
        what_could_not_come_along_is_refused_and_what_can_does
        a_database_in_another_encoding_comes_back
    ]
}

pub fn rows(stack: &Stack, database: &str, table: &str) -> BTreeSet<String> {
    let ids = format!("select id from {table}");
    stack.sql(database, &ids).lines().map(String::from).collect()
}

const INSERT: &str =
    "insert into networks select gen_random_uuid(), now(), now() from generate_series(1, 500)";

fn a_table_that_is_rewritten_meanwhile_is_backed_up_whole(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.sql("keto", INSERT);
    let there = rows(&stack, "keto", "networks").len() as u64;
    let ground = Ground { stack: Rc::new(stack) };
    // As Hydra's own migration of `hydra_oauth2_flow` does: the whole table is written again.
    let rewrite = "alter table networks add column rewritten text default gen_random_uuid()::text";
    let holder = Holder::of_statement(&ground, "keto", rewrite, "commit");
    let run = ground.start("backup keto");
    assert!(Holder::holds(&ground), "{}", run.said());
    ground.psql("select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'holder'");
    run.end().exits(0).says("keto: backed up");
    drop(holder);
    let folder = ground.stack.project.dir.join("backups").join(newest(&ground.stack));
    let manifest = backup::open(&folder).expect("a backup").manifest;
    assert_eq!(manifest.dumps[0].contents.rows["public.networks"], there);
}

fn what_a_killed_restore_left_is_kept_and_told(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup keto").exits(0);
    stack.sql("keto", INSERT);
    let first = rows(&stack, "keto", "networks");
    stack.run("restore latest keto --yes").exits(0);
    let killed = "alter database xtask_replaced_keto rename to xtask_before_keto";
    for (command, drops) in [("restore latest keto --yes", true), ("reset keto --yes", false)] {
        stack.sql("postgres", killed);
        // What is there by now was accepted after the kill, and is in no backup.
        stack.sql("keto", INSERT);
        let second = rows(&stack, "keto", "networks");
        for command in ["status", "up"] {
            stack
                .run(command)
                .says("an earlier restore or reset of keto was killed")
                .says("xtask_before_keto");
        }
        stack.run(command).exits(0).says("stays, as xtask_replaced_keto");
        assert_eq!(rows(&stack, "xtask_replaced_keto", "networks"), first, "after `{command}`");
        if drops {
            assert_eq!(rows(&stack, "xtask_replaced2_keto", "networks"), second, "after `{command}`");
            let asked = stack.run("restore latest keto").exits(2);
            asked.says("xtask_replaced_keto (").says("xtask_replaced2_keto (");
            stack.sql("postgres", "drop database xtask_replaced2_keto");
        } else {
            let folder = stack.project.dir.join("backups").join(newest(&stack));
            let manifest = backup::open(&folder).expect("a backup").manifest;
            assert_eq!(manifest.dumps[0].contents.rows["public.networks"], second.len() as u64);
        }
    }
}

/// The ids of a product's networks that are somewhere: in its database, in what is kept of it, in a backup.
fn somewhere(stack: &Stack, product: &str) -> BTreeSet<String> {
    let mut found = rows(stack, product, "networks");
    kept(stack, product).iter().for_each(|name| found.extend(rows(stack, name, "networks")));
    let folders = std::fs::read_dir(stack.project.dir.join("backups")).into_iter().flatten().flatten();
    let dumps = folders.map(|entry| entry.path().join(format!("{product}.dump")));
    dumps.filter(|path| path.is_file()).for_each(|path| found.extend(of_dump(stack, &path)));
    found
}

fn what_others_write_during_a_reset_is_somewhere(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let writer = Writer::start(&stack, "keto");
    while writer.written().len() < 10 {
        std::thread::sleep(Duration::from_millis(20));
    }
    stack.run("reset keto --yes").exits(0);
    let written = writer.end(&stack);
    let lost: Vec<_> = written.difference(&somewhere(&stack, "keto")).cloned().collect();
    assert!(lost.is_empty(), "{} of {} acknowledged rows are lost", lost.len(), written.len());
}

fn what_others_write_during_a_failed_restore_is_somewhere(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup").exits(0);
    // Keto never gets ready: all three are put back, after Kratos has served for a while.
    let (file, command) = ("docker-compose.yml", "command: serve --config /etc/config/keto/keto.yml");
    stack.project.replace(file, command, "entrypoint: [sh, -c, exit 1]");
    let writer = Writer::start(&stack, "kratos");
    while writer.written().len() < 10 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let failed = stack.run("--timeout 5 restore latest --yes").exits(1);
    failed.says("that kratos accepted meanwhile are kept in xtask_replaced_kratos");
    let written = writer.end(&stack);
    let lost: Vec<_> = written.difference(&somewhere(&stack, "kratos")).cloned().collect();
    assert!(lost.is_empty(), "{} of {} acknowledged rows are lost", lost.len(), written.len());
}

fn names_that_postgresql_would_cut_do_not_meet(compose: Compose) {
    let stack = Stack::new(compose);
    let long = "a-name-of-more-than-forty-eight-bytes-for-each-of-them";
    let names = ["hydra", "keto"].map(|product| format!("{long}-{product}"));
    for (product, name) in ["hydra", "keto"].into_iter().zip(&names) {
        stack.project.replace(
            "docker-compose.yml",
            &format!("@db:5432/{product}?"),
            &format!("@db:5432/{name}?"),
        );
    }
    stack.run("up --create-databases").exits(0);
    stack.run("backup").exits(0);
    names.iter().for_each(|name| _ = stack.sql(name, INSERT));
    let before = names.each_ref().map(|name| rows(&stack, name, "networks"));
    for _ in 0..2 {
        stack.run("restore latest hydra keto --yes").exits(0);
    }
    let kept =
        stack.sql("postgres", "select datname from pg_database where datname like 'xtask%' order by 1");
    assert_eq!(kept.lines().count(), 2, "{kept}");
    names.iter().for_each(|name| _ = stack.sql(name, INSERT));
    stack.run("restore latest hydra keto --yes").exits(0);
    assert!(before.iter().all(|rows| rows.len() >= 500));
    stack.run("status --drift").exits(0);
}

fn what_no_restore_can_make_is_told_by_a_backup_and_loses_nothing(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.sql("keto", INSERT);
    stack.sql(
        "keto",
        "create extension postgres_fdw; create extension file_fdw; create schema tools;
         create extension pageinspect schema tools; create role shop; grant create on schema public to shop;
         alter default privileges for role shop grant select on tables to keto;
         alter default privileges for role shop in schema tools grant select on tables to keto;
         create function watch() returns event_trigger language plpgsql as 'begin end';
         create event trigger watch on ddl_command_end execute function watch();
         create publication everything for all tables",
    );
    let there = rows(&stack, "keto", "networks");
    let default_rights = "select defaclrole::regrole, defaclnamespace::regnamespace, defaclacl from pg_default_acl order by 1, 2";
    let before = stack.sql("keto", default_rights);
    let made = stack.run("backup keto").exits(0);
    made.says("a restore leaves out the event trigger watch").says("the publication everything");
    stack.run("backup --verify keto").exits(0);
    stack.run("restore latest keto --yes").exits(0);
    assert_eq!(stack.sql("keto", default_rights), before);
    stack.run("reset keto --yes --force").exits(0).says("default privileges");
    stack.run("restore latest keto --yes").exits(0);
    assert_eq!(rows(&stack, "keto", "networks"), there);
    let extensions = "select string_agg(extname, ' ' order by extname) from pg_extension";
    assert_eq!(stack.sql("keto", extensions).trim(), "file_fdw pageinspect plpgsql postgres_fdw");

    // What can't be restored isn't reset.
    stack.sql(
        "keto",
        "create function sums(int, int) returns int language internal immutable strict as 'int4pl';
         create table summed (a int, b int generated always as (sums(1, 1)) stored); alter table summed owner to keto",
    );
    let there = stack.sql("keto", TABLES);
    let refused = stack.run("reset keto --yes --force").exits(1);
    refused.says("keto isn't reset: its backup could not be restored");
    assert_eq!(stack.sql("keto", TABLES), there);
    assert!(stack.is_ready("keto", [4466, 4467]), "it serves again");
}

fn what_could_not_come_along_is_refused_and_what_can_does(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup keto").exits(0);
    stack.sql("keto", "create subscription s connection 'host=none' publication p with (connect = false)");
    for command in ["restore latest keto --yes", "reset keto --yes"] {
        stack
            .run(command)
            .exits(1)
            .says("keto can't be replaced with the subscription s")
            .says("slot_name = none");
    }
    for statement in
        ["alter subscription s disable", "alter subscription s set (slot_name = none)", "drop subscription s"]
    {
        stack.sql("keto", statement);
    }
    stack.sql("postgres", "alter database keto is_template true");
    let is_template = "select datistemplate from pg_database where datname = 'keto'";
    for _ in 0..3 {
        stack.run("restore latest keto --yes").exits(0);
        assert_eq!(stack.sql("postgres", is_template).trim(), "t");
    }
    stack.run("reset keto --yes").exits(0);
    assert_eq!(stack.sql("postgres", is_template).trim(), "t");
}

fn a_lock_is_held_whatever_ends_idle_sessions(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup keto").exits(0);
    stack.sql(
        "postgres",
        "alter role keto set idle_session_timeout = '500ms'; alter role keto set statement_timeout = '1s'",
    );
    let ground = Ground { stack: Rc::new(stack) };
    let held = "select count(*) from pg_locks where locktype = 'advisory'";
    let holder = Holder::of_database(&ground, "keto");
    let run = ground.start("restore latest keto --yes");
    assert!(Holder::holds(&ground), "{}", run.said());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ground.psql(held).trim(), "1", "{}", run.said());
    Holder::let_go(&ground);
    drop(holder);
    run.end().exits(0);

    // Lost all the same, it isn't gone on without.
    let run = ground.start("restore latest keto --yes");
    let end = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'";
    while ground.psql(end).trim() != "t" {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.end().exits(1).says("the lock on keto's database was lost");
}

fn a_database_in_another_encoding_comes_back(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.sql("postgres", "drop database keto with (force)");
    stack.sql(
        "postgres",
        "create database keto owner keto template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'",
    );
    stack.run("up").exits(0);
    stack.sql(
        "dbname=keto user=keto client_encoding=UTF8",
        "create table \"é\" (\"ü\" text); insert into \"é\" values ('ß')",
    );
    stack.run("backup --verify keto").exits(0);
    stack.run("restore latest keto --yes --force").exits(0);
    let there =
        stack.sql("dbname=keto client_encoding=UTF8", "select \"ü\", getdatabaseencoding() from \"é\"");
    assert_eq!(there.trim(), "ß|LATIN1");
}

fn what_a_split_leaves_behind_is_named(compose: Compose) {
    let shared = Shared::new(compose);
    shared.sql(
        "create publication told for table identities, orders; create publication everything for all tables;
         create statistics known on id, nid from identities",
    );
    let split = shared.stack.run("split --drop-foreign-keys --yes").exits(0);
    let split = split.says("the new databases don't have the publication told of public.identities");
    let split = split.says("the publication everything of all tables");
    split.says("the statistics public.known of public.identities");
}
