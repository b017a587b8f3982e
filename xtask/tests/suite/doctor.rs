//! What `doctor` says on a fake engine, whole; and the part of it that `up` runs first.

use std::net::TcpListener;

use crate::fake::Fake;
use crate::project::{Outcome, golden};

/// A machine with all that the recommended stack needs, and nothing running.
fn healthy(fake: Fake) -> Fake {
    let fake = fake.with_program("df");
    let space = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 99 9 90000000 9% /\n";
    with_free_ports(fake).answers("docker info *", "20.10.24 /var/lib/docker\n").answers("df *", space)
}

/// The recommended stack at ports that are free on the machine of the test.
fn with_free_ports(fake: Fake) -> Fake {
    changed(fake, |config| config)
}

/// The recommended stack with a change.
fn changed(fake: Fake, change: impl Fn(String) -> String) -> Fake {
    let is_v1 = fake.has_program("docker-compose");
    let (config, pattern) = match is_v1 {
        true => (include_str!("fixtures/config-v1.yml"), "docker-compose config"),
        false => (include_str!("fixtures/config-v2.yml"), "docker compose config"),
    };
    let mut config = config.replace("DIR", &fake.project.dir.display().to_string());
    // All are held at once, so that they differ.
    let held: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    for (port, listener) in [4433, 4434, 4444, 4445, 4466, 4467].iter().zip(&held) {
        let free = listener.local_addr().expect("an address").port();
        config = config
            .replace(&format!("published: \"{port}\""), &format!("published: \"{free}\""))
            .replace(&format!("127.0.0.1:{port}:{port}/tcp"), &format!("127.0.0.1:{free}:{port}/tcp"));
    }
    fake.answers(pattern, &change(config))
}

#[test]
fn a_stack_that_does_it_right_gets_not_one_warning() {
    golden("doctor", &healthy(Fake::new()).run("doctor"));
    golden("doctor_v1", &healthy(Fake::v1()).run("doctor"));
    let runs = healthy(Fake::new()).with_database("1\n").run("doctor").exits(0);
    assert!(runs.stdout.contains("ok  logins"), "{runs}");
    assert!(runs.stdout.contains("ready; not running: hydra, keto, kratos (cargo xtask up)"), "{runs}");
}

#[test]
fn what_is_on_another_machine_is_said_not_to_be_looked_at() {
    let fake = healthy(Fake::new());
    let outcome = crate::project::outcome(fake.command("doctor").env("DOCKER_HOST", "tcp://192.0.2.1:2376"));
    for check in ["readable", "ports"] {
        let is_of_check = |line: &&str| line.split_whitespace().take(2).eq(["ok", check]);
        let line = outcome.stdout.lines().find(is_of_check).unwrap_or_default();
        assert!(line.contains("not looked at"), "{check}: {outcome}");
    }
}

#[test]
fn before_the_secrets_are_written_it_says_that_up_writes_them() {
    let fake = healthy(Fake::new());
    fake.project.remove(".env");
    let outcome = fake.run("doctor").exits(0);
    assert!(outcome.stdout.contains("`cargo xtask up` writes 7 secrets to .env"), "{outcome}");
    assert!(!fake.project.dir.join(".env").exists());
    let old = fake.answers("docker volume ls *", "stack_db\n").run("doctor").exits(5);
    assert!(old.stdout.contains("failure  env  "), "{old}");
    assert!(old.stdout.contains("new secrets could not read it"), "{old}");
}

#[test]
fn without_docker_it_still_says_what_it_can() {
    golden("doctor_without_docker", &Fake::new().without_programs().run("doctor"));
}

#[test]
fn without_the_daemon_the_files_are_still_checked() {
    let text =
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n";
    let fake = with_free_ports(Fake::new()).fails("docker ps *", 1, text);
    fake.project.remove("ory/hydra/hydra.yml");
    golden("doctor_without_daemon", &fake.run("doctor"));
}

#[test]
fn json_is_one_document_of_a_kept_shape() {
    let space = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 99 9 100 9% /\n";
    golden("doctor_json", &healthy(Fake::new()).answers("df *", space).run("doctor --json"));
}

#[test]
fn a_stack_with_faults_gets_each_with_its_fix_and_no_secret() {
    let fake = changed(healthy(Fake::new()), |config| {
        config
            .replace("SECRETS_CIPHER: 0123456789abcdef0123456789abcdef", "SECRETS_CIPHER: geheim")
            .replace("SECRETS_SYSTEM: 0123456789abcdef", "SECRETS_SYSTEM: youReallyNeedToChangeThis")
            .replace("host_ip: 127.0.0.1\n        target: 4467", "target: 4467")
            .replace("condition: service_healthy", "condition: service_started")
            .replace("oryd/hydra:v26.2.0", "oryd/hydra:latest")
            .replace("target: /var/lib/postgresql/data", "target: /var/lib/postgresql")
            .replace("@db:5432/keto", "@db.example.com:5432/keto")
    });
    let fake = fake.fails("docker image inspect oryd/keto*", 1, "Error: No such image\n").fails(
        "docker manifest *",
        1,
        "no such manifest: docker.io/oryd/keto:v26.2.0\n",
    );
    // The published ports differ from run to run.
    let outcome = fake.run("doctor").hides("geheim").hides("youReally");
    let port = outcome.stdout.split_once("- 127.0.0.1:").and_then(|(_, rest)| rest.split_once(':'));
    let port = port.expect("a port").0.to_string();
    let stdout = outcome.stdout.replace(&port, "PORT");
    golden("doctor_faults", &Outcome { stdout, ..outcome });
}

#[test]
fn what_stops_every_command_is_said_though_no_check_looks_for_it() {
    let fake = changed(healthy(Fake::new()), |config| {
        config
            .replace("DSN: postgres://hydra", "NONE: postgres://hydra")
            .replace("@db:5432/keto", "@dbb/keto")
    });
    let outcome = fake.run("doctor").exits(1);
    assert!(outcome.stdout.contains("failure  stack      hydra has no DSN (looked at: "), "{outcome}");
    assert_eq!(outcome.stdout.matches("names the server `dbb`, no service here").count(), 1, "{outcome}");
}

#[test]
fn a_dry_run_prints_what_is_asked_and_asks_nothing() {
    let fake = healthy(Fake::new());
    golden("plan_doctor", &fake.run("doctor --dry-run"));
    assert!(!fake.calls().contains("psql") && !fake.calls().contains("df "), "{}", fake.calls());
}

#[test]
fn up_stops_at_a_failure_before_anything_starts() {
    let short = |config: String| config.replace("SECRETS_SYSTEM: 0123456789abcdef", "SECRETS_SYSTEM: geheim");
    let fake = changed(Fake::new(), short);
    fake.run("up").exits(1).says("error: hydra: SECRETS_SYSTEM has 6 characters").hides("geheim");
    assert!(!fake.calls().contains("compose up"), "{}", fake.calls());
    // Only of what is asked for.
    fake.run("up kratos --dry-run").exits(0);
}

#[test]
fn up_warns_only_of_what_loses_data_and_starts_no_program_for_it() {
    let fake = changed(Fake::new(), |config| {
        config.replace("host_ip: 127.0.0.1", "host_ip: 0.0.0.0").replace("service_healthy", "service_started")
    });
    assert_eq!(fake.run("up --dry-run").exits(0).stderr, "");
    // The first two are asked at the same time.
    let sorted = |calls: String| calls.lines().map(String::from).collect::<std::collections::BTreeSet<_>>();
    let calls = sorted(fake.calls());
    let lost =
        changed(Fake::new(), |config| config.replace("type: volume\n        source: db\n", "type: volume\n"));
    lost.run("up --dry-run").exits(0).says("warning: db: its data is in no volume with a name");
    assert_eq!(sorted(lost.calls()), calls);
}

#[test]
fn up_names_the_process_that_holds_a_port() {
    let fake = changed(Fake::new(), |config| config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let fake = changed(fake, |config| {
        let at = config.find("published: ").expect("a port");
        config.replacen(&config[at..at + 18], &format!("published: \"{port}\""), 1)
    });
    fake.run("up")
        .exits(1)
        .says(&format!("error: hydra: 127.0.0.1:{port} is held by "))
        .says(&format!("(process {})", std::process::id()));
}
