//! Runs that are interrupted, doubled, killed or kept waiting: what is said, what is left, and when they end.

use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::data_ground::{Holder, wait_until_ready};
use crate::ground::{Ground, PRODUCTS, Run};
use crate::project::outcome;
use crate::stack::{Compose, NEW, OLD, SERVERS, Stack, docker};
use crate::tiers::scenarios;

scenarios! {
    first: [
        a_signal_ends_a_migration_in_order_and_the_state_is_told
        a_second_ctrl_c_ends_at_once
        a_lock_that_is_not_given_is_given_up_and_its_holder_is_named
        a_restore_that_is_ended_while_it_swaps_swaps_nothing_later
    ]
    full: [
        what_a_killed_run_left_is_named_and_waited_for
        another_machine_waits_for_the_database_and_says_who_holds_it
        a_frozen_database_ends_each_migration_in_seconds
    ]
}

const NOTHING: [&str; 0] = [];

fn a_signal_ends_a_migration_in_order_and_the_state_is_told(compose: Compose) {
    let ground = Ground::new(compose);
    for (signal, to_group, code, applied) in [("INT", true, 130, 1), ("TERM", false, 143, 3)] {
        ground.hold("kratos", applied);
        let run = ground.start_held("migrate-kratos", "kratos");
        run.signal(signal, to_group);
        let ended = run.end().exits(code).says(&format!("interrupted: kratos has {applied} of "));
        assert_eq!(ended.hint(), "cargo xtask migrate-kratos, which goes on from there");
        assert_eq!(ground.stack.applied("kratos"), applied);
        let left =
            docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", ground.migration("kratos"))]);
        assert_eq!((left.as_str(), ground.migrating()), ("", None), "something goes on");
    }
    ground.let_go();
    ground.run("migrate-all").exits(0).says("kratos: applied");
    assert_eq!(ground.leftovers(), NOTHING);
}

fn a_second_ctrl_c_ends_at_once(compose: Compose) {
    let ground = Ground::new(compose);
    ground.hold("kratos", 1);
    let run = ground.start_held("migrate-kratos", "kratos");
    // The engine waits for five seconds before it kills what doesn't react.
    docker(&["pause", &ground.migration("kratos")]);
    run.signal("INT", true);
    std::thread::sleep(Duration::from_millis(500));
    let second = Instant::now();
    run.signal("INT", true);
    run.end().exits(130);
    assert!(second.elapsed() < Duration::from_secs(2), "{:?}", second.elapsed());
    docker(&["rm", "--force", &ground.migration("kratos")]);
    ground.let_go();
    ground.run("migrate-all").exits(0);
    assert_eq!(ground.leftovers(), NOTHING);
}

fn what_a_killed_run_left_is_named_and_waited_for(compose: Compose) {
    let ground = Ground::new(compose);
    let name = ground.migration("kratos");
    let waits = format!("waiting for kratos's migration of an earlier run, {name}");
    let kill_held = |applied| {
        ground.hold("kratos", applied);
        let run = ground.start_held("migrate-kratos", "kratos");
        run.signal("KILL", true);
        run.end();
    };
    kill_held(1);
    let given_up = ground.run("migrate-kratos --lock-timeout 1").exits(6).says(&waits);
    assert_eq!(given_up.hint(), format!("wait for it, or end it: docker stop {name}"));
    let mut waiting = ground.start("migrate-all");
    waiting.wait_until_said(&waits);
    ground.let_go();
    waiting.end().exits(0);
    assert_eq!(ground.leftovers(), NOTHING);

    // A statement goes on where its container is gone too.
    ground.psql("drop database kratos with (force)");
    kill_held(3);
    docker(&["kill", &name]);
    let mut waiting = ground.start("migrate-kratos");
    waiting.wait_until_said(&waits);
    ground.let_go();
    waiting.end().exits(0).says("kratos: applied");
    assert_eq!(ground.leftovers(), NOTHING);

    // Where Compose was killed too, nobody has removed a container that came to its end.
    let label = format!("com.docker.compose.project={}", ground.stack.name);
    let image = ground.stack.container("db").0;
    docker(&["run", "--name", &name, "--label", &label, "--entrypoint", "true", &image]);
    ground.run("migrate-kratos").exits(0).says("kratos: up to date");
    assert_eq!(ground.leftovers(), NOTHING);
}

fn another_machine_waits_for_the_database_and_says_who_holds_it(compose: Compose) {
    let ground = Ground::new(compose);
    let machine = ground.stack.twin();
    // What is another engine by its name has a lock of its own.
    machine.project.write_program(
        "bin/docker",
        "#!/bin/sh\n[ \"$1\" = info ] && echo another && exit\nPATH=${PATH#*:}\nexec docker \"$@\"\n",
    );
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", machine.project.dir.join("bin").display());
    let start = |args: &str| Run::start(&machine, machine.command(NEW, args).env("PATH", &path));
    ground.hold("kratos", 1);
    let first = ground.start_held("migrate-kratos", "kratos");
    let holder = "waiting for another run on kratos's database: xtask migrate-kratos, process ";
    let given_up = start("migrate-kratos --lock-timeout 1").end().exits(6).says(holder).says(", for ");
    given_up.says("another run still holds kratos's database after 1 s");
    let mut second = start("migrate-kratos");
    second.wait_until_said(holder);
    ground.let_go();
    first.end().exits(0).says("kratos: applied");
    second.end().exits(0).says("kratos: up to date");
}

fn a_lock_that_is_not_given_is_given_up_and_its_holder_is_named(compose: Compose) {
    let ground = Ground::new(compose);
    ground.stack.run_release(OLD, "migrate-kratos").exits(0);
    let (_, db) = ground.stack.container("db");
    let lock = "begin; lock table schema_migration in share mode; select pg_sleep(300)";
    let psql = ["exec", &db, "psql", "-U", "postgres", "-d", "kratos", "-c", lock];
    let mut holder = Command::new("docker").args(psql).spawn().expect("docker starts");
    let pid = loop {
        let holds = "select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = 'kratos'";
        match ground.psql(holds).trim() {
            "" => std::thread::sleep(Duration::from_millis(50)),
            pid => break pid.to_string(),
        }
    };
    let ended = ground.run("migrate-kratos --db-lock-timeout 1").exits(1);
    let ended =
        ended.says(&format!("kratos waited too long for a lock that is held by {pid} (postgres, psql"));
    let typed =
        ended.hint().strip_prefix("end it: ").and_then(|hint| hint.strip_suffix("; then run this again"));
    let typed = typed.unwrap_or_else(|| panic!("another hint: {}", ended.said));
    // On a terminal, where hints are typed. Docker tells its size late, so that psql may page.
    let terminal =
        format!("(sleep 3; printf q) | script -qec {} /dev/null", shlex::try_quote(typed).expect("words"));
    outcome(ground.stack.project.command("sh").args(["-c", &terminal])).exits(0);
    holder.wait().expect("it was ended");
    ground.run("migrate-kratos").exits(0).says("kratos: applied");
}

fn a_frozen_database_ends_each_migration_in_seconds(compose: Compose) {
    let ground = Ground::new(compose);
    let (_, db) = ground.stack.container("db");
    for product in PRODUCTS {
        for (options, applied, limit) in [(" --timeout 6", 1, 10), ("", 2, 15)] {
            ground.hold(product, applied);
            let run = ground.start_held(&format!("migrate-{product}{options}"), product);
            docker(&["pause", &db]);
            let start = Instant::now();
            let ended = run.end();
            let took = start.elapsed();
            docker(&["unpause", &db]);
            let ended = ended.exits(1).says("is paused");
            assert!(ended.hint().contains(" unpause "), "{}", ended.said);
            assert!(took < Duration::from_secs(limit), "{took:?}: {}", ended.said);
        }
        ground.let_go();
        ground.run(&format!("migrate-{product}")).exits(0).says(&format!("{product}: applied"));
    }
    assert_eq!(ground.leftovers(), NOTHING);
}

fn a_restore_that_is_ended_while_it_swaps_swaps_nothing_later(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.insert_rows();
    let rows = stack.rows();
    stack.run("backup").exits(0);
    stack.insert_rows();
    let changed = stack.rows();
    let ground = Ground { stack: Rc::new(stack) };
    let serves = || {
        for (service, ports) in SERVERS {
            wait_until_ready(&ground.stack, service, ports).expect("it serves");
        }
    };
    let held = |signal| {
        let holder = Holder::of_database(&ground, "kratos");
        let run = ground.start("restore latest --yes");
        assert!(Holder::holds(&ground), "{}", run.said());
        run.signal(signal, true);
        (run.end(), holder)
    };

    let (ended, holder) = held("INT");
    ended.exits(130).says("nothing was replaced: kratos, hydra, keto as before");
    Holder::let_go(&ground);
    drop(holder);
    assert_eq!(ground.stack.rows(), changed);
    serves();
    assert_eq!(ground.leftovers(), NOTHING);

    // Killed, it can tell nobody; the next command does.
    let (_, holder) = held("KILL");
    let end =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'xtask_swap_kratos'";
    assert_eq!(ground.psql(end), "t\n");
    Holder::let_go(&ground);
    drop(holder);
    ground.run("migrate-kratos").exits(1).says("the database kratos takes no connections");
    ground.run("restore latest --yes").exits(0);
    assert_eq!(ground.stack.rows(), rows);
    serves();
    assert_eq!(ground.leftovers(), NOTHING);
}
