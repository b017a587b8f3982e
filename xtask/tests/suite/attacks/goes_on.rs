//! What goes on in PostgreSQL while xtask was killed, or can't look at it: databases that are being created, and a
//! migration on a server that has no connection left.

use std::rc::Rc;
use std::time::Duration;

use crate::data_ground::Holder;
use crate::ground::Ground;
use crate::stack::{Compose, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        databases_that_a_killed_run_creates_are_waited_for
        what_somebody_else_creates_at_the_same_time_is_there
        a_migration_goes_on_where_the_server_has_no_connection_left
        a_role_with_too_few_connections_is_told_so
    ]
}

/// A stack of which the database runs, without the products' databases.
fn empty(compose: Compose) -> Ground {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    Ground { stack: Rc::new(stack) }
}

fn wait_for(ground: &Ground, condition: &str) {
    let start = std::time::Instant::now();
    while ground.psql(&format!("select {condition};\n")).trim() != "t" {
        assert!(start.elapsed() < Duration::from_secs(60), "never true: {condition}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn databases_that_a_killed_run_creates_are_waited_for(compose: Compose) {
    let ground = empty(compose);
    // Who copies the template waits for it.
    let holder = Holder::of_database(&ground, "template1");
    let run = ground.start("migrate-kratos");
    // What its session does is shown nowhere, as a password is in it.
    wait_for(&ground, "exists (select from pg_locks where not granted)");
    run.signal("KILL", false);
    let again = ground.start("migrate-kratos");
    std::thread::sleep(Duration::from_secs(2));
    Holder::let_go(&ground);
    again.end().exits(0).says("kratos: applied");
    drop(holder);
}

fn what_somebody_else_creates_at_the_same_time_is_there(compose: Compose) {
    let ground = empty(compose);
    let env = ground.stack.project.read(".env");
    let password = env.lines().find_map(|line| line.strip_prefix("KRATOS_DB_PASSWORD=")).expect("a password");
    let create = format!("create role kratos login password '{password}'");
    let holder = Holder::of_statement(&ground, "postgres", &create, "commit");
    let run = ground.start("migrate-kratos");
    // What its session does is shown nowhere, as a password is in it.
    wait_for(&ground, "exists (select from pg_locks where not granted)");
    ground.psql("select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'holder'");
    run.end().exits(0).says("kratos: applied");
    drop(holder);
}

fn a_migration_goes_on_where_the_server_has_no_connection_left(compose: Compose) {
    let ground = Ground::new(compose);
    ground.hold("kratos", 3);
    let run = ground.start_held("migrate-kratos", "kratos");
    ground.psql("alter role kratos connection limit 1");
    // Longer than a server may be silent, and not answer.
    std::thread::sleep(Duration::from_secs(12));
    ground.let_go();
    run.end().exits(0).says("kratos: applied");
}

fn a_role_with_too_few_connections_is_told_so(compose: Compose) {
    let ground = empty(compose);
    ground.run("migrate-kratos").exits(0);
    ground.stack.sql("kratos", "alter role kratos connection limit 1");
    let told =
        ground.run("migrate-kratos --force").exits(1).says("the role kratos has a connection limit of 1");
    assert!(told.hint().contains("alter role"), "{}", told.said);
    ground.stack.sql("kratos", "alter role kratos connection limit 3");
    ground.run("migrate-kratos --force").exits(0);
    ground.stack.sql("kratos", "alter database kratos connection limit 2");
    ground.run("migrate-kratos --force").exits(1).says("the database kratos has a connection limit of 2");
}
