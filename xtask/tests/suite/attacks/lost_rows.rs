//! Rows of `schema_migration` that are lost: their migrations look pending, and Ory's second run of some drops tables.
//!
//! XTASK_TEST_SWEEP=all loses each row of each product once, in their order.

use std::collections::BTreeMap;

use crate::data_ground::TABLES;
use crate::stack::{Compose, OLD, SERVERS, Stack, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_migration_that_a_release_brought_late_is_applied
    ]
    full: [
        no_row_is_lost_by_a_migration_that_looks_pending
        a_row_lost_before_an_upgrade_is_named_and_the_upgrade_goes_on_after_it_is_put_back
    ]
}

/// The worst of Ory's own, and each kind of the others: first and last, one that later ones need, one without a trace.
const CHOSEN: [(&str, &str); 12] = [
    ("keto", "20150100000001000000"),
    ("keto", "20220512151000000000"),
    ("keto", "20220513200600000000"),
    ("keto", "20230228091200000000"),
    ("hydra", "20190200000003000000"),
    ("hydra", "20220210000001000003"),
    ("hydra", "20241609000001000001"),
    ("hydra", "20251202130532000001"),
    ("kratos", "20191100000001000000"),
    ("kratos", "20200812124254000000"),
    ("kratos", "20210410175418000057"),
    ("kratos", "20260114175904000000"),
];

fn no_row_is_lost_by_a_migration_that_looks_pending(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    fill(&stack);
    stack.run("down").exits(0);
    stack.run("up db").exits(0);
    let is_sweep = std::env::var("XTASK_TEST_SWEEP").is_ok_and(|sweep| sweep == "all");
    let mut problems = vec![];
    let mut tried = 0;
    for (product, _) in SERVERS {
        let all = stack.sql(product, "select version from schema_migration order by 1");
        let all: Vec<_> = all.lines().collect();
        let is_chosen = |version: &str| {
            is_sweep || !is_real() || CHOSEN.contains(&(product, version)) || all.last() == Some(&version)
        };
        let good = format!("{product}_good");
        stack.sql("postgres", &format!("create database {good} template {product}"));
        for version in all.iter().filter(|version| is_chosen(version)) {
            tried += 1;
            if let Err(problem) = lose(&stack, product, version, all.len()) {
                eprintln!("{product} {version}: {problem}");
                problems.push(format!("{product} {version}: {problem}"));
                stack.sql("postgres", &format!("drop database {product} with (force)"));
                stack.sql("postgres", &format!("create database {product} owner {product} template {good}"));
            }
        }
    }
    eprintln!("{tried} rows tried");
    assert!(problems.is_empty(), "{} of {tried}:\n{}", problems.len(), problems.join("\n"));
}

/// Loses a row, lets the product migrate, and repairs it.
fn lose(stack: &Stack, product: &str, version: &str, all: usize) -> Result<(), String> {
    let before = rows(stack, product);
    let is_less = || -> Option<String> {
        let now = rows(stack, product);
        let lost = before.iter().filter(|(table, count)| now.get(*table).unwrap_or(&0) < count);
        lost.map(|(table, count)| format!("{table} had {count}, and has {:?}", now.get(table))).next()
    };
    stack.sql(product, &format!("delete from schema_migration where version = '{version}'"));
    let run = stack.run(&format!("migrate-{product} --timeout 60"));
    if let Some(table) = is_less() {
        return Err(format!("{table} after {run}"));
    }
    if run.code == Some(0) {
        let drift = stack.run(&format!("status {product} --drift --check"));
        return if drift.code == Some(0) { Ok(()) } else { Err(drift.to_string()) };
    }
    if !run.stderr.contains(version) || run.stderr.contains(" restore ") {
        return Err(format!("it isn't named, or a backup is: {run}"));
    }
    let repair = stack.run(&format!("repair {product} --yes"));
    match is_less() {
        Some(table) => Err(format!("{table} after {repair}")),
        None if repair.code != Some(0) || stack.applied(product) != all => Err(repair.to_string()),
        None => Ok(()),
    }
}

/// How many rows each table has, but for the list itself.
fn rows(stack: &Stack, product: &str) -> BTreeMap<String, usize> {
    let told = stack.sql(product, TABLES);
    let read = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_string(), words.next()?.parse().ok()?))
    };
    told.lines().filter_map(read).filter(|(table, _)| !table.ends_with("schema_migration")).collect()
}

/// Data as the products' own APIs make it; their keys are made when they start.
fn fill(stack: &Stack) {
    stack.insert_rows();
    if !is_real() {
        return;
    }
    let send = |request: minreq::Request, body: &str| {
        let answer = request.with_header("content-type", "application/json").with_body(body).with_timeout(10);
        let answer = answer.send().expect("an answer");
        assert!((200..300).contains(&answer.status_code), "{}", answer.as_str().unwrap_or_default());
    };
    let url =
        |service: &str, port: u16, path: &str| format!("http://{}:{port}{path}", stack.address(service));
    let tuple = r#"{"namespace":"Document","object":"d","relation":"owners","subject_id":"alice"}"#;
    send(minreq::put(url("keto", 4467, "/admin/relation-tuples")), tuple);
    send(minreq::post(url("hydra", 4445, "/admin/clients")), r#"{"client_name":"c"}"#);
    send(minreq::post(url("hydra", 4445, "/admin/keys/own")), r#"{"alg":"RS256","use":"sig","kid":"own"}"#);
    let identity = r#"{"schema_id":"default","traits":{"email":"a@example.com"},
                       "credentials":{"password":{"config":{"password":"correct-horse-7-battery"}}}}"#;
    send(minreq::post(url("kratos", 4434, "/admin/identities")), identity);
    let session = "insert into sessions (id, identity_id, nid, token, logout_token, issued_at, expires_at, authenticated_at, \
                   created_at, updated_at, active, aal, authentication_methods) \
                   select gen_random_uuid(), id, nid, 'token', 'logout', now(), now() + '1 day', now(), now(), now(), true, \
                   'aal1', '[]' from identities";
    stack.sql("kratos", session);
}

fn a_row_lost_before_an_upgrade_is_named_and_the_upgrade_goes_on_after_it_is_put_back(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run_release(OLD, "up").exits(0);
    stack.insert_rows();
    let networks = stack.sql("hydra", "select * from networks order by 1");
    // The first makes tables; the last, of Ory's own, leaves no trace.
    for number in [0, 3].into_iter().chain(is_real().then_some(8)) {
        let lost = format!("select version from schema_migration order by 1 offset {number} limit 1");
        let lost = stack.sql("hydra", &lost).trim().to_string();
        stack.sql("hydra", &format!("delete from schema_migration where version = '{lost}'"));
        for command in ["migrate-hydra", "restart hydra", "up"] {
            let refused = stack.run(command).exits(1).says(&lost).says("cargo xtask repair hydra");
            assert!(!refused.stderr.contains("20241609000001000001"), "{refused}");
        }
        if number == 8 {
            stack.run_release(OLD, "repair hydra --yes").exits(0).says("hydra: repaired");
        } else {
            stack.sql("hydra", &format!("insert into schema_migration (version) values ('{lost}')"));
        }
    }
    let lost = stack.sql("hydra", "select min(version) from schema_migration").trim().to_string();
    stack.sql("hydra", &format!("delete from schema_migration where version = '{lost}'"));
    stack.run("repair hydra --yes").exits(0).says("hydra: applied");
    stack.run("status hydra --drift").exits(0);
    assert_eq!(stack.sql("hydra", "select * from networks order by 1"), networks);
}

fn a_migration_that_a_release_brought_late_is_applied(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run_release(OLD, "up").exits(0);
    stack.run("migrate-all").exits(0);
    // One that no list has: it is as before that release, and the next one is applied.
    let (version, index) = match is_real() {
        true => ("20250708190000000001", "identities_nid_external_id_idx"),
        false => ("20241029153900000001", "identities_nid_created_at_idx"),
    };
    stack.sql("kratos", &format!("drop index {index}"));
    stack.sql("kratos", &format!("delete from schema_migration where version = '{version}'"));
    stack.run("migrate-kratos").exits(0).says("kratos: applied 1 migration");
    stack.run("status kratos --drift").exits(0);
}
