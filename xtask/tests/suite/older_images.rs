//! Images without a status command: what they carry shows in an empty database, once.

use crate::project::outcome;
use crate::stack::{Compose, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    full: [
        what_an_older_image_carries_shows_in_an_empty_database
    ]
}

/// A Kratos that takes the question for a migration.
const OLDER: &str = "v1.3.1";

fn what_an_older_image_carries_shows_in_an_empty_database(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run_release(OLDER, "migrate-kratos").exits(0).says("kratos: applied");
    let forgetful = |args: &str| outcome(&mut stack.forgetful(OLDER, args));
    // Whoever hasn't migrated with it knows nothing of it.
    forgetful("status kratos --check").exits(0);
    forgetful("migrate-kratos").exits(0).says("kratos: up to date");
    forgetful("restart kratos").exits(0);

    stack.run("migrate-kratos").exits(0).says("kratos: applied");
    let applied = stack.applied("kratos");
    for command in ["status kratos --check", "migrate-kratos", "restart kratos"] {
        forgetful(command).exits(4).says("kratos's database is ahead of");
    }
    assert_eq!(stack.applied("kratos"), applied);

    let left = stack.sql("postgres", "select datname from pg_database where datname like 'xtask%'");
    assert_eq!(left, "", "the empty database is left");
}
