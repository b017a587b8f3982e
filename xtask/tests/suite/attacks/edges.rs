//! Inputs at the edges: names, arguments, signals, and what other users of the machine have put in the way.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::data_ground::{Holder, wait_until_ready};
use crate::fake::Fake;
use crate::ground::{Ground, Run};
use crate::project::{Project, outcome};
use crate::stack::{Compose, NEW, SERVERS, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_closed_terminal_leaves_no_service_stopped
        two_clones_have_one_lock_wherever_they_keep_temporary_files_and_however_the_engine_is_named
    ]
    full: [
        a_database_may_have_any_name
        a_search_path_may_have_any_form
        what_a_server_or_a_role_is_set_to_has_a_cause_of_its_own
    ]
}

fn a_closed_terminal_leaves_no_service_stopped(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.insert_rows();
    stack.run("backup").exits(0);
    stack.insert_rows();
    let rows = stack.rows();
    let ground = Ground { stack: Rc::new(stack) };
    let serves = || {
        for (service, ports) in SERVERS {
            wait_until_ready(&ground.stack, service, ports).expect("it serves");
        }
    };
    // The shell says it to its jobs, then the system to whoever is in front.
    let holder = Holder::of_database(&ground, "kratos");
    let run = ground.start("--timeout 15 restore latest --yes");
    assert!(Holder::holds(&ground), "{}", run.said());
    run.signal("HUP", true);
    run.signal("HUP", true);
    run.end().exits(129).says("nothing was replaced: kratos, hydra, keto as before");
    Holder::let_go(&ground);
    drop(holder);
    assert_eq!(ground.stack.rows(), rows);
    serves();

    // A terminal that is gone takes no words any more.
    let holder = Holder::of_database(&ground, "kratos");
    let command = ground.stack.command(NEW, "restore latest --yes");
    let mut terminal = ground.stack.project.command("script");
    let xtask = format!("exec {} --timeout 15 restore latest --yes", env!("CARGO_BIN_EXE_xtask"));
    terminal.args(["--quiet", "--command", &xtask, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null());
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = terminal.process_group(0).spawn().expect("script starts");
    assert!(Holder::holds(&ground));
    terminal.kill().expect("it is killed");
    terminal.wait().expect("it has ended");
    let start = Instant::now();
    while !ground.leftovers().is_empty() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Holder::let_go(&ground);
    drop(holder);
    assert_eq!(ground.stack.rows(), rows);
    serves();
    assert_eq!(ground.leftovers(), [""; 0]);
}

fn two_clones_have_one_lock_wherever_they_keep_temporary_files_and_however_the_engine_is_named(
    compose: Compose,
) {
    let ground = Ground::new(compose);
    let twin = ground.stack.twin();
    ground.hold("kratos", 1);
    let first = ground.start_held("migrate-kratos", "kratos");
    let mut second = twin.command(NEW, "migrate-hydra --lock-timeout 1");
    second.env("TMPDIR", twin.project.dir.parent().expect("a folder"));
    second.env("DOCKER_HOST", "unix:///var/run/docker.sock").env("XDG_RUNTIME_DIR", "/nowhere");
    let refused = Run::start(&twin, &mut second).end().exits(6);
    refused.says("waiting for another run on this stack: cargo xtask migrate-kratos");
    ground.let_go();
    first.end().exits(0);
}

#[test]
fn what_another_user_put_where_a_lock_is_to_be_is_left_alone() {
    // Each fake is an engine of its own; the name of the lock is that of the first run.
    let fake = Fake::new();
    let shared = fake.project.dir.join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    let down = || outcome(fake.command("down").env("TMPDIR", &shared).env("XDG_RUNTIME_DIR", &shared));
    down().exits(0);
    let canary = fake.project.dir.join("canary");
    std::fs::write(&canary, "canary").expect("a file");
    std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o600)).expect("a mode");
    let locks = std::fs::read_dir(shared.join("xtask-locks")).into_iter().flatten().flatten();
    for lock in locks {
        std::fs::remove_file(lock.path()).expect("removed");
        symlink(&canary, lock.path()).expect("a link");
    }
    down();
    assert_eq!(std::fs::read_to_string(&canary).expect("a file"), "canary");
    let mode = canary.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code() {
    // What is pending is pending also where nobody reads the table.
    let fake = Fake::new().with_database("");
    let status = |stdout: Stdio| {
        let mut command = fake.command("status --check");
        command.stdout(stdout).stderr(Stdio::null()).status().expect("xtask starts").code()
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let read = status(Stdio::null());
    assert_ne!(read, Some(0));
    assert_eq!(status(writer.into()), read);
}

#[test]
fn an_argument_that_is_not_utf_8_is_wrong_usage() {
    for words in
        [&["restore"][..], &["backup", "--output"], &["up"], &["-C"], &["migrate-all", "--lock-timeout"]]
    {
        let fake = Fake::new();
        let mut command = fake.command("");
        let refused = outcome(command.args(words).arg(OsStr::from_bytes(b"\xff\x1b[31m"))).exits(2);
        refused.says("an argument isn't UTF-8: \"\\xFF\\u{1b}[31m\"").hides("panicked");
    }
}

#[test]
fn a_hint_can_be_typed_where_the_folder_has_an_odd_name() {
    let project = Project::new();
    let odd = project.dir.join("it's \"$HOME\" & more");
    std::fs::create_dir(&odd).expect("a folder");
    let compose = "services:\n  kratos:\n    image: oryd/kratos:v26.2.0\n    volumes: ['./none/kratos.yml:/k.yml']\n    \
                   command: serve -c /k.yml\n    environment: {DSN: 'postgres://a:b@db/kratos'}\n  \
                   db: {image: 'postgres:17'}\n";
    std::fs::write(odd.join("docker-compose.yml"), compose).expect("a file");
    std::fs::create_dir(odd.join(".env")).expect("a folder");
    let hint = |command: &mut Command| {
        let failed = outcome(command);
        let hint = failed.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).map(String::from);
        hint.unwrap_or_else(|| panic!("no hint: {failed}"))
    };
    // A folder where the file is to be can't be read.
    let listed = hint(project.xtask().arg("-C").arg(&odd).arg("status"));
    outcome(Command::new("sh").args(["-c", &listed])).exits(0);
    assert!(listed.starts_with("ls -ld "), "{listed}");
}

const ODD_NAMES: [(&str, &str); 4] = [
    ("a%b", "a%25b"),
    ("a=b", "a=b"),
    ("postgres://x", "postgres:%2F%2Fx"),
    ("it's \\ \"q\" é", "it%27s%20%5C%20%22q%22%20%C3%A9"),
];

fn a_database_may_have_any_name(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    let mut before = "kratos".to_string();
    for (name, encoded) in ODD_NAMES {
        let (from, to) = (format!("@db:5432/{before}?"), format!("@db:5432/{encoded}?"));
        stack.project.replace("docker-compose.yml", &from, &to);
        stack.run("migrate-kratos --create-databases").exits(0).says("kratos: applied");
        stack.run("migrate-all").exits(0).says("kratos: up to date");
        stack.run("backup --verify").exits(0).says("kratos: restored and compared");
        stack.run("restore latest kratos --yes").exits(0).says("kratos: restored");
        stack.run("reset kratos --yes").exits(0).says("kratos: empty, with");
        stack.run("--timeout 100 status --check --drift kratos").exits(0);
        let there = format!("select count(*) from pg_database where datname = $n${name}$n$");
        assert_eq!(stack.sql("postgres", &there), "1\n", "{name}");
        before = encoded.into();
    }
}

fn a_search_path_may_have_any_form(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-kratos").exits(0);
    let mut before = "sslmode=disable".to_string();
    for (path, made, schema) in [
        ("search_path=a,b", "create schema a; create schema b", "a"),
        ("search_path=a,%20public", "create schema a", "a"),
        ("search_path=%22A%20b%22,public", "create schema \"A b\"", "A b"),
        ("search_path=A,public", "create schema a", "a"),
        ("search_path=%22$user%22,public", "create schema kratos", "kratos"),
        ("search_path=%22$user%22,public", "select 1", "public"),
        ("search_path=missing,a,public", "create schema a", "a"),
        ("search_path=%22a%27b%5Cc%2A%22,public", "create schema \"a'b\\c*\"", "a'b\\c*"),
        ("options=-csearch_path%3D%22A%5C%20b%22,public", "create schema \"A b\"", "A b"),
    ] {
        // Compose has a use for the dollar sign itself.
        let after = format!("sslmode=disable&{}", path.replace('$', "$$"));
        let (from, to) = (format!("/kratos?{before}"), format!("/kratos?{after}"));
        stack.project.replace("docker-compose.yml", &from, &to);
        stack.sql("postgres", "drop database kratos with (force)");
        stack.sql("postgres", "create database kratos owner kratos");
        stack.sql("kratos", &format!("set role kratos; {made}"));
        stack.run("migrate-kratos").exits(0);
        let table = format!("\"{schema}\".networks");
        stack.sql("kratos", &format!("insert into {table} values (gen_random_uuid(), now(), now())"));
        let networks = || stack.sql("kratos", &format!("select id from {table}"));
        let rows = networks();
        assert!(!rows.is_empty(), "{path}: nothing is in {schema}");
        stack.run("backup kratos --verify").exits(0).says("kratos: restored and compared");
        stack.run("restore latest kratos --yes").exits(0);
        assert_eq!(networks(), rows, "{path}");
        stack.run("status --check --drift kratos").exits(0);
        before = after;
    }
}

fn what_a_server_or_a_role_is_set_to_has_a_cause_of_its_own(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    let fails = |command: &str, message: &str| {
        let failed = stack.run(command).says(message);
        let hint = failed.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).map(String::from);
        hint.unwrap_or_else(|| panic!("no hint: {failed}"))
    };
    stack.run("migrate-all").exits(0);
    stack.sql("postgres", "drop database kratos with (force)");
    stack.sql("postgres", "create database kratos owner kratos");
    let type_it = |hint: &str| assert_eq!(stack.type_line(hint, &[]).code, Some(0), "{hint}");
    stack.sql("postgres", "alter role kratos set default_transaction_read_only = on");
    type_it(&fails("migrate-kratos", "default_transaction_read_only is set on the role kratos\n"));
    stack.sql("postgres", "alter role kratos in database kratos set default_transaction_read_only = on");
    type_it(&fails("migrate-kratos", "is set on the role kratos in the database kratos"));
    // No statement that defines something is done in time.
    stack.sql(
        "kratos",
        "create function slow() returns event_trigger language plpgsql as 'begin perform pg_sleep(60); end'; \
         create event trigger slow on ddl_command_end execute function slow()",
    );
    stack.sql("postgres", "alter database kratos set statement_timeout = 500");
    let cause = "a statement of kratos took longer than the statement_timeout allows that is set on the database kratos";
    let hint = fails("migrate-kratos", cause);
    stack.sql("kratos", "set statement_timeout = 0; drop event trigger slow; drop function slow()");
    type_it(&hint);
    stack.run("migrate-kratos").exits(0);

    // The owner may not read all rows, the administrator may: none goes missing.
    stack.insert_rows();
    let rows = stack.rows();
    stack.sql("kratos", "alter table networks enable row level security, force row level security");
    stack.run("backup kratos --verify").exits(0).says("kratos: restored and compared");
    stack.run("restore latest kratos --yes").exits(0);
    assert_eq!(stack.rows(), rows);

    let data = stack.sql("postgres", "show data_directory");
    let signal = format!("{}/standby.signal", data.trim());
    let db = stack.container("db").1;
    docker(&["exec", &db, "touch", &signal]);
    docker(&["restart", &db]);
    stack.sql("kratos", "select 1");
    let standby = "`db` is a standby: it follows another server, and takes no writes itself";
    assert_eq!(fails("restore latest kratos --yes", standby), "name the primary in kratos's DSN");
}
