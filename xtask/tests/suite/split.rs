//! One database that Kratos, Keto and an application share, where Hydra could never migrate: split both ways, while
//! somebody writes, and cut off at any moment.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Outcome, outcome};
use crate::shared::{Shared, Writer, own_database};
use crate::stack::{Compose, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        each_product_gets_a_database_of_its_own_and_serves_the_old_rows_from_it
    ]
    full: [
        each_product_gets_a_schema_and_the_application_keeps_its_key
        an_application_with_a_role_of_its_own_stays_what_it_is
        what_is_written_until_the_last_moment_is_there_afterwards
        a_split_that_is_killed_at_any_moment_is_run_again_to_its_end
        what_a_split_would_cut_off_or_overwrite_is_refused_before_anything_stops
    ]
}

fn each_product_gets_a_database_of_its_own_and_serves_the_old_rows_from_it(compose: Compose) {
    let shared = Shared::new(compose);
    let orders = shared.orders();
    let git = |args: &[&str]| {
        let git =
            std::process::Command::new("git").args(args).current_dir(&shared.stack.project.dir).output();
        String::from_utf8_lossy(&git.expect("git").stdout).into_owned()
    };
    git(&["init", "-q"]);
    shared.stack.run("split --drop-foreign-keys").exits(2).says("and drops 1 object of others");
    let split = shared.hides_passwords(shared.stack.run("split --drop-foreign-keys --yes").exits(0));
    let told = [
        "kratos: DSN in the environment of `kratos`: put KRATOS_DSN of .env.split there",
        "hydra: dsn in /ory/hydra.yml of `hydra`: put HYDRA_DSN of .env.split there",
        "keto: DSN in the environment of `keto`: put KETO_DSN of .env.split there",
    ];
    assert_eq!(split.stdout.lines().collect::<Vec<_>>(), told);
    let seen = git(&["status", "--porcelain", "--untracked-files=all"]);
    assert!(seen.contains("docker-compose.yml") && !seen.contains(".env.split"), "{seen}");

    // Until the new DSNs are there, nothing goes on, and nothing is recreated beside the old tables.
    assert_eq!(shared.stack.run("split").exits(0).stdout, split.stdout);
    let refused = shared.stack.run("migrate-kratos").exits(1);
    refused.says("kratos was split off the database acme, and its DSN is the old one");
    shared.stack.run("split --finish --yes").exits(1).says("kratos's DSN is still the old one");
    assert_eq!(shared.sql("select to_regclass('identities')").trim(), "");

    shared.goes_on(own_database);
    let owners = "select datname || ' ' || pg_get_userbyid(datdba) from pg_database
                  where datname in ('kratos', 'hydra', 'keto') order by 1";
    assert_eq!(shared.sql(owners), "hydra hydra\nketo keto\nkratos kratos\n");
    shared.stack.run("split --finish").exits(2).says("this deletes ");
    shared.stack.run("split --finish --yes").exits(0).says(".env.split: removed");
    assert!(!shared.stack.project.dir.join(".env.split").exists());
    assert_eq!(shared.sql("select count(*) from pg_namespace where nspname = 'split_old'").trim(), "0");
    assert_eq!(shared.orders(), orders);
    shared.stack.run("split --finish").exits(0).says("nothing is left of a split");
    shared.stack.run("split").exits(0).says("kratos: up to date");
    assert_eq!(shared.served(own_database), shared.emails);
}

fn each_product_gets_a_schema_and_the_application_keeps_its_key(compose: Compose) {
    let shared = Shared::new(compose);
    shared.sql("create view buyers as select i.id from identities i join orders on buyer = i.id");
    let orders = shared.orders();
    let split = shared.stack.run("split --yes").exits(0);
    let split = split.says("the foreign key orders_buyer_fkey of public.orders into public.identities");
    split.says("the view public.buyers");
    shared.stack.run("migrate-keto").exits(1).says("keto was split off the database acme");
    let place = |product: &str| format!("dbname=acme options=-csearch_path={product}");
    shared.goes_on(place);
    shared.stack.run("split --finish --yes").exits(0);
    assert_eq!(shared.orders(), orders);
    assert_eq!(shared.sql("select count(*) from buyers").trim(), "2");
    // The key still holds.
    let broken = "do $$ begin insert into orders (buyer) values (gen_random_uuid());
                  exception when foreign_key_violation then raise notice 'held'; return; end $$;
                  select count(*) from orders";
    assert_eq!(shared.sql(broken).trim(), "2");
    let schemas =
        "select table_schema from information_schema.tables where table_name = 'networks' order by 1";
    assert_eq!(shared.sql(schemas), "hydra\nketo\nkratos\n");
}

fn an_application_with_a_role_of_its_own_stays_what_it_is(compose: Compose) {
    let stack = Stack::of_others("shared-with-hydra", compose);
    for file in ["docker-compose.yml", "ory/hydra.yml"] {
        stack.project.replace(file, "acme:secret@", "ory:of-ory@");
    }
    stack.run("up db").exits(0);
    for sql in [
        "create role ory login password 'of-ory'; create role app login password 'of-the-app'",
        "grant create on schema public to ory, app; grant create on database acme to ory",
    ] {
        stack.sql("acme", sql);
    }
    let shared = Shared::with(stack, "ory:of-ory");
    shared.sql("grant select, references on identities to app; alter table orders owner to app");
    let as_app = |sql: &str| shared.sql(&format!("set role app; {sql}"));
    let orders = as_app("select count(*), count(buyer) from orders");
    shared.stack.run("split --yes").exits(0);
    shared.goes_on(|product| format!("dbname=acme options=-csearch_path={product}"));
    shared.stack.run("split --finish --yes").exits(0);
    assert_eq!(as_app("select count(*), count(buyer) from orders"), orders);
    as_app("insert into orders (buyer) select id from kratos.identities limit 1");
    assert_eq!(as_app("select count(*) from orders").trim(), "3");
}

fn what_is_written_until_the_last_moment_is_there_afterwards(compose: Compose) {
    for (flag, place) in [
        ("--drop-foreign-keys", "keto".to_string()),
        ("--in-place", "dbname=acme options=-csearch_path=keto".into()),
    ] {
        let shared = Shared::new(compose);
        let writer = Writer::start(&shared);
        shared.stack.run(&format!("split {flag} --yes")).exits(0);
        let (written, error) = writer.end();
        assert!(error.contains("relation \"keto_uuid_mappings\" does not exist"), "{error}");
        assert!(written.len() > 100, "it wrote {} rows", written.len());
        let there = "select id from keto_uuid_mappings where string_representation = 'written'";
        let there: BTreeSet<_> = shared.stack.sql(&place, there).lines().map(String::from).collect();
        assert_eq!(there, written, "{flag}");
    }
}

fn a_split_that_is_killed_at_any_moment_is_run_again_to_its_end(compose: Compose) {
    let shared = Shared::new(compose);
    let all = "select traits from identities";
    let before = shared.sql(all);
    shared.stack.run("split --dry-run").exits(0);
    let containers = ["kratos", "keto"].map(|service| shared.stack.container(service).1);
    docker(&["stop", &containers[0], &containers[1]]);
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'acme'";
    let server = |sql: &str| shared.stack.sql("postgres", sql);
    server(end);
    server("create database acme_before template acme");

    let is_first = |number: u32| number.is_multiple_of(2);
    let way = |number: u32| if is_first(number) { "--drop-foreign-keys" } else { "--in-place" };
    let mut took = [Duration::ZERO; 2];
    let mut hits = 0;
    for number in 0..12 {
        for name in
            ["acme", "kratos", "hydra", "keto", "xtask_split_kratos", "xtask_split_hydra", "xtask_split_keto"]
        {
            server(&format!("drop database if exists {name} with (force)"));
        }
        server("create database acme template acme_before");
        docker(&["start", &containers[0], &containers[1]]);
        let args = format!("split {} --yes", way(number));
        let clock = Instant::now();
        let mut run = shared.stack.command("v26.2.0", &args);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("xtask starts");
        let of_way = &mut took[number as usize % 2];
        if *of_way == Duration::ZERO {
            // The first of each way tells how long it takes.
            assert!(run.wait().expect("an end").success());
            *of_way = clock.elapsed();
        } else {
            let moment = *of_way * (number / 2) / 6;
            let mut is_running = true;
            while is_running && clock.elapsed() < moment {
                std::thread::sleep(Duration::from_millis(5));
                is_running = run.try_wait().expect("a state").is_none();
            }
            hits += u32::from(is_running);
            // The first one may have had more to learn.
            *of_way = if is_running { *of_way } else { clock.elapsed() };
            run.kill().expect("a kill");
            run.wait().expect("an end");
        }
        shared.stack.run(&args).exits(0);
        let place = if is_first(number) { "kratos" } else { "dbname=acme options=-csearch_path=kratos" };
        assert_eq!(shared.stack.sql(place, all), before, "killed after {number} parts of it");
        assert_eq!(shared.sql("select to_regclass('public.identities')").trim(), "");
        assert_eq!(shared.sql("select count(*) from orders").trim(), "2");
    }
    assert!(hits >= 8, "too few were killed before their end: {hits}");
    let left = server("select datname from pg_database where datname like 'xtask_split_%'");
    assert_eq!(left, "");
    shared.goes_on(|product| format!("dbname=acme options=-csearch_path={product}"));
}

fn what_a_split_would_cut_off_or_overwrite_is_refused_before_anything_stops(compose: Compose) {
    let shared = Shared::new(compose);
    let containers = shared.stack.containers();
    shared.stack.run("split").exits(2).says("hint: cargo xtask split --yes");
    let server = |sql: &str| shared.stack.sql("postgres", sql);

    shared.sql("create function note() returns trigger language plpgsql as 'begin return new; end'");
    shared.sql("create trigger noted after insert on identities for each row execute function note()");
    let args = "split --drop-foreign-keys --yes";
    let refused = shared.stack.run(args).exits(1);
    refused.says("the trigger noted on public.identities can't be in a database of its own with its table");
    shared.sql("drop trigger noted on identities");

    server("create database keto");
    shared.stack.sql("keto", "create table mine (id int)");
    shared.stack.run(args).exits(1).says("there is a database keto already, and it isn't empty");
    server("drop database keto");
    shared.sql("create schema kratos create table mine (id int)");
    shared.stack.run("split --yes").exits(1).says("there is a schema kratos already in acme");
    shared.sql("drop schema kratos cascade");
    assert_eq!(shared.stack.containers(), containers);

    // Somebody keeps the tables: after the wait for them, all is as it was, the servers among it.
    let db = shared.stack.container("db").1;
    let hold = "begin; lock table identities in row exclusive mode; select pg_sleep(120)";
    let mut holder = Command::new("docker");
    let mut holder =
        holder.args(["exec", &db, "psql", "-U", "acme", "-c", hold]).spawn().expect("psql starts");
    while shared
        .sql("select 1 from pg_locks where relation = 'identities'::regclass and mode = 'RowExclusiveLock'")
        .is_empty()
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    for args in [args, "split --in-place --yes"] {
        let failed = shared.stack.run(&format!("{args} --db-lock-timeout 1")).exits(1);
        failed.says("nothing was split: acme as before").says("others use the tables that are to be split");
        for (service, ports) in [("kratos", [4433, 4434]), ("keto", [4466, 4467])] {
            let start = Instant::now();
            while !shared.stack.is_ready(service, ports) {
                assert!(start.elapsed() < Duration::from_secs(30), "{service} isn't ready");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        assert_eq!(server("select datname from pg_database where datname ~ 'xtask|kratos|hydra|keto'"), "");
    }
    let waiting = |args: &str| {
        let mut run = shared.stack.command("v26.2.0", args);
        let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("xtask starts");
        let waits = "select 1 from pg_locks l join pg_stat_activity using (pid)
                     where not granted and application_name like 'xtask-%-split'";
        while shared.sql(waits).is_empty() {
            std::thread::sleep(Duration::from_millis(50));
        }
        run
    };
    for args in [args, "split --in-place --yes"] {
        let run = waiting(args);
        outcome(Command::new("kill").args(["-INT", &run.id().to_string()])).exits(0);
        let ended = Outcome::of(run.wait_with_output().expect("an end"));
        ended.exits(130).says("nothing was split: acme as before");
        assert_eq!(server("select datname from pg_database where datname ~ 'xtask|kratos|hydra|keto'"), "");
        assert!(!shared.stack.container("kratos").1.is_empty(), "kratos doesn't run");
    }
    holder.kill().expect("a kill");
    holder.wait().expect("an end");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(120)%' and pid <> pg_backend_pid()";
    shared.sql(end);
    shared.stack.run(args).exits(0);
}
