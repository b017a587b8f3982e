//! The same on a real engine: what only containers can tell of stacks that aren't like ours.

use crate::project::outcome;
use crate::stack::{Compose, NEW, OLD, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        the_rows_of_a_database_that_nothing_keeps_are_counted_and_asked_for
        only_the_ports_that_orys_settings_name_are_asked_and_from_the_inside_where_none_leads_there
        what_runs_is_shown_until_it_is_restarted
    ]
    full: [
        rows_of_the_first_releases_are_no_migrations_ahead
    ]
}

fn the_rows_of_a_database_that_nothing_keeps_are_counted_and_asked_for(compose: Compose) {
    let stack = Stack::new(compose);
    stack.project.replace(
        "docker-compose.yml",
        "- db:/var/lib/postgresql/data",
        "- /var/lib/postgresql/data",
    );
    stack.run("up").exits(0);
    stack.insert_rows();
    let rows = stack.rows();
    for command in ["down", "down --volumes"] {
        let asked = stack.run(command).exits(2).says("a volume without a name: kratos has ");
        asked.says(&format!("hint: cargo xtask {command} --yes"));
    }
    assert_eq!(stack.rows(), rows);
    stack.run("down --yes").exits(0).says("deleted");
    assert!(stack.containers().is_empty());
}

fn only_the_ports_that_orys_settings_name_are_asked_and_from_the_inside_where_none_leads_there(
    compose: Compose,
) {
    let stack = Stack::new(compose);
    // A page of somebody's; and an admin API that nobody publishes.
    let from = "- 127.0.0.1:${HYDRA_ADMIN_PORT:-4445}:4445";
    stack.project.replace("docker-compose.yml", from, "- 127.0.0.1::5555");
    stack.run("up --timeout 30").exits(0);
    let shown = stack.run("status hydra").exits(0);
    assert!(shown.stdout.contains(" yes "), "{shown}");
    // Where the engine's networks aren't this machine's, a program in one of the containers asks.
    let mut elsewhere = stack.command(NEW, "status hydra");
    let shown = outcome(elsewhere.env("DOCKER_HOST", "unix:///var/run/docker.sock")).exits(0);
    assert!(shown.stdout.contains(" yes "), "{shown}");
}

fn rows_of_the_first_releases_are_no_migrations_ahead(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let applied = stack.applied("kratos");
    let legacy =
        "insert into schema_migration select left(version, 14) from schema_migration group by 1 limit 20";
    stack.sql("kratos", legacy);
    assert!(stack.applied("kratos") > applied);
    let shown = stack.run("status --check kratos").exits(0);
    let words: Vec<_> = shown.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(words[1..4], [applied.to_string().as_str(), "0", "0"], "{shown}");
    stack.run("migrate-kratos").exits(0).says(&format!("up to date ({applied} migrations"));
    stack.run("up").exits(0);
    outcome(&mut stack.command(NEW, "backup kratos")).exits(0);
}

fn what_runs_is_shown_until_it_is_restarted(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run_release(OLD, "up").exits(0);
    stack.run("status").exits(0).says("cargo xtask restart kratos");
    stack.run("migrate-all").exits(0);
    let shown = stack.run("status kratos").exits(0);
    assert!(shown.stdout.contains(&format!("kratos:{OLD}")), "{shown}");
    shown.says(&format!("kratos:{OLD} runs, the stack says "));
    let told = stack.run("doctor");
    assert!(told.stdout.contains("fix: cargo xtask restart kratos"), "{told}");
    stack.run("restart").exits(0);
    stack.run("status").exits(0).hides("restart kratos").hides(OLD);
}
