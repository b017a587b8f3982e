//! `doctor` on the real engine: nothing to say of a stack that does it right, each fault named with what mends it,
//! and nothing left to say after that. And what it says of the stacks of others.

use std::net::TcpListener;
use std::process::Command;

use crate::project::{Outcome, outcome};
use crate::stack::{Compose, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        doctor_warns_of_nothing_in_the_recommended_stack
        doctor_names_each_fault_of_a_stack_that_runs
    ]
    full: [
        doctor_names_each_fault_of_a_stack_that_does_not_run
        doctor_finds_in_stacks_of_others_what_is_so
    ]
}

fn doctor_warns_of_nothing_in_the_recommended_stack(compose: Compose) {
    let stack = Stack::new(compose);
    let up = stack.run("up").exits(0);
    assert!(!up.stderr.replace("warning: stand-ins", "").contains("warning"), "{up}");
    let running = is_clean(&stack);
    assert!(running.stdout.contains("running, and ready"), "{running}");
    assert!(running.stdout.contains("each product can use its database"), "{running}");

    // As it is before the first `up`, with the images that can be had here.
    stack.run("down --volumes --yes").exits(0);
    let env = stack.project.read(".env");
    let kept = env.lines().filter(|line| !line.contains("SECRETS") && !line.contains("PASSWORD"));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    stack.project.write(".env", &kept);
    let before = is_clean(&stack);
    assert!(before.stdout.contains("`cargo xtask up` writes 7 secrets to .env"), "{before}");
    assert!(before.stdout.contains("nothing runs: cargo xtask up"), "{before}");
    assert_eq!((stack.project.read(".env"), stack.leftovers()), (kept, String::new()));
}

fn doctor_names_each_fault_of_a_stack_that_does_not_run(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    let (image, _) = stack.container("db");
    stack.run("down").exits(0);
    is_clean(&stack);

    let port = stack.port("HYDRA_ADMIN");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let found = finds(&stack, 1, "hydra", &format!("127.0.0.1:{port} is held by "));
    assert!(found.fix.contains(&format!("stop it (kill {})", std::process::id())), "{}", found.fix);
    drop(listener);
    is_clean(&stack);

    let other = Stack::new(compose);
    let (label, publish) =
        (format!("com.docker.compose.project={}", other.name), format!("127.0.0.1:{port}:5432"));
    let run = ["run", "--detach", "--init", "--name", &other.name, "--label", &label, "--publish", &publish];
    docker(&[&run[..], &["--entrypoint", "sleep", &image, "300"]].concat());
    let found = finds(&stack, 1, "hydra", &format!("is held by the container {}", other.name));
    found.run_fix(&stack, &format!("docker stop {}", other.name));
    is_clean(&stack);

    let file = "ory/kratos/kratos.yml";
    let text = stack.project.read(file);
    set_mode(&stack, file, 0o600);
    let found = finds(&stack, 1, "kratos", "can't be read by its user");
    stack.run("up").exits(1).says("kratos.yml can't be read by its user");
    found.run_fix(&stack, &format!("chmod a+r {file}"));
    is_clean(&stack);

    stack.project.remove(file);
    let found = finds(&stack, 5, "kratos", &format!("{file} is missing"));
    // It isn't tracked there: git couldn't bring it back.
    assert!(found.fix.contains("put it back"), "{}", found.fix);
    stack.project.write(file, &text.replace("\nserve:", "\nserve: ["));
    let found = finds(&stack, 1, "kratos", &format!("{file} isn't valid: "));
    assert!(found.text.contains(" line ") && found.fix.contains("mend"), "{}", found.text);
    stack.project.write(file, &text);
    is_clean(&stack);

    let env = stack.project.read(".env");
    let cipher = env.lines().find(|line| line.starts_with("KRATOS_SECRETS_CIPHER=")).expect("a cipher");
    stack.project.replace(".env", cipher, &cipher[..cipher.len() - 1]);
    let found = finds(&stack, 1, "kratos", "SECRETS_CIPHER has 31 characters, not exactly 32");
    assert!(!found.text.contains(&cipher[25..30]), "a part of it is shown");
    stack.project.write(".env", &env);

    let compose_file = stack.project.read("docker-compose.yml");
    let change = |from: &str, to: &str| stack.project.replace("docker-compose.yml", from, to);
    change("127.0.0.1:${KRATOS_ADMIN_PORT", "0.0.0.0:${KRATOS_ADMIN_PORT");
    let found = finds(&stack, 0, "kratos", "its admin port 4434 is published on every address");
    let port = stack.port("KRATOS_ADMIN");
    assert!(found.fix.ends_with(&format!("- 127.0.0.1:{port}:4434")), "{}", found.fix);

    stack.project.write("docker-compose.yml", &compose_file);
    change("${KETO_IMAGE:-oryd/keto:v26.2.0}", "registry.invalid/oryd/keto:v26.2.0");
    finds(&stack, 5, "keto", "its image registry.invalid/oryd/keto:v26.2.0 isn't here, nor to be pulled");

    for (test, program) in
        [("curl -f http://127.0.0.1:4434/health/ready", "curl"), ("[CMD, nosuch]", "nosuch")]
    {
        stack.project.write("docker-compose.yml", &compose_file);
        let health = format!("    healthcheck: {{ test: {test} }}\n    image: ${{KRATOS_IMAGE");
        change("    image: ${KRATOS_IMAGE", &health);
        finds(&stack, 0, "kratos", &format!("its health check runs {program}, which "));
    }
    stack.project.write("docker-compose.yml", &compose_file);
    is_clean(&stack);

    let write = |version: &str| {
        let (volume, script) =
            (format!("{}_db:/data", stack.name), format!("echo {version} > /data/PG_VERSION"));
        docker(&["run", "--rm", "--volume", &volume, "--entrypoint", "sh", &image, "-c", &script]);
    };
    let cat = format!("{}_db:/data:ro", stack.name);
    let version =
        docker(&["run", "--rm", "--volume", &cat, "--entrypoint", "cat", &image, "/data/PG_VERSION"]);
    write("9");
    let found = finds(&stack, 1, "db", "is of PostgreSQL 9, its image");
    assert!(found.fix.starts_with("name an image of PostgreSQL 9 again"), "{}", found.fix);
    write(version.trim());
    is_clean(&stack);
}

fn doctor_names_each_fault_of_a_stack_that_runs(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.sql("postgres", "alter role keto password 'another'");
    finds(&stack, 1, "keto", "knows no role keto with the password of keto's DSN");
    let env = stack.project.read(".env");
    let password = env.lines().find_map(|line| line.strip_prefix("KETO_DB_PASSWORD=")).expect("a password");
    stack.sql("postgres", &format!("alter role keto password '{password}'"));
    is_clean(&stack);

    docker(&["pause", &stack.container("db").1]);
    let found = finds(&stack, 1, "db", "it is paused");
    assert!(
        found.text.contains("kratos     it runs, and /health/ready doesn't answer 200"),
        "{}",
        found.text
    );
    found.run_fix(&stack, "docker unpause ");
    stack.run("up").exits(0);
    // Docker calls it unhealthy until its next check.
    let health = || docker(&["inspect", "--format", "{{.State.Health.Status}}", &stack.container("db").1]);
    let is_healthy = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        health().trim() == "healthy"
    });
    assert!(is_healthy, "{}", health());
    is_clean(&stack);

    docker(&["stop", &stack.container("hydra").1]);
    let stopped = is_clean(&stack);
    assert!(stopped.stdout.contains("ready; not running: hydra (cargo xtask up)"), "{stopped}");
    stack.sql("postgres", "alter database hydra rename to hydro");
    finds(&stack, 1, "hydra", "`db` has no database hydra, which hydra's DSN names");
    stack.sql("postgres", "alter database hydro rename to hydra");
    stack.run("up").exits(0);
    is_clean(&stack);
}

/// What is said of each, as check and subject; nothing else is.
const OTHERS: [(&str, &[&str]); 16] = [
    ("beside-an-application", &["secrets kratos", "databases db"]),
    (
        "dsn-in-files",
        &[
            "secrets kratos",
            "secrets hydra",
            "databases database",
            "start kratos",
            "start hydra",
            "start keto",
        ],
    ),
    ("kratos-alone", &["secrets auth", "start auth"]),
    ("kratos-beside-keto", &["secrets kratos", "dsns kratos", "start kratos", "start keto"]),
    ("no-entrypoint", &["secrets kratos", "start kratos", "start keto"]),
    ("odd-passwords", &["secrets kratos", "databases postgres", "start kratos", "start hydra", "start keto"]),
    (
        "one-server",
        &[
            "secrets kratos",
            "secrets hydra",
            "databases postgres",
            "admin kratos",
            "admin hydra",
            "admin keto",
        ],
    ),
    (
        "one-shots",
        &[
            "secrets kratos",
            "secrets hydra",
            "databases postgresd",
            "admin kratos",
            "admin hydra",
            "admin keto",
        ],
    ),
    (
        "random-ports",
        &[
            "secrets kratos",
            "secrets hydra",
            "databases db",
            "start kratos",
            "start hydra",
            "start keto",
            "admin keto",
        ],
    ),
    ("schema-of-its-own", &["secrets kratos", "secrets hydra"]),
    (
        "server-each",
        &[
            "secrets kratos",
            "secrets hydra",
            "start kratos",
            "start hydra",
            "start keto",
            "admin kratos",
            "admin hydra",
            "admin keto",
        ],
    ),
    ("server-elsewhere", &["secrets kratos", "dsns kratos"]),
    ("several-files", &["secrets kratos", "secrets hydra", "databases db", "start kratos", "start hydra"]),
    (
        "shared-with-hydra",
        &["secrets kratos", "secrets hydra", "dsns hydra", "start kratos", "start hydra", "start keto"],
    ),
    (
        "shell-entrypoints",
        &["secrets kratos", "secrets hydra", "databases db", "start kratos", "start hydra"],
    ),
    (
        "unpublished",
        &["secrets kratos", "secrets hydra", "databases db", "start kratos", "start hydra", "start keto"],
    ),
];

fn doctor_finds_in_stacks_of_others_what_is_so(compose: Compose) {
    // What depends on the machine isn't compared.
    const CHECKS: [&str; 10] =
        ["files", "secrets", "dsns", "storage", "databases", "start", "admin", "health", "tags", "courier"];
    for (name, expected) in OTHERS {
        let mut stack = Stack::of_others(name, compose);
        stack.folder = (name == "several-files").then_some("deploy");
        let files = stack.project.files();
        let said = stack.run("doctor --json");
        let document = jzon::parse(&said.stdout).expect("JSON");
        let findings = document["findings"].as_array().expect("findings").iter();
        let findings = findings.filter(|finding| finding["level"] != "ok");
        let text = |finding: &jzon::JsonValue, name: &str| finding[name].as_str().expect("text").to_string();
        let findings = findings.map(|finding| (text(finding, "check"), text(finding, "subject")));
        let findings = findings.filter(|(check, _)| CHECKS.contains(&check.as_str()));
        let findings: Vec<_> = findings.map(|(check, subject)| format!("{check} {subject}")).collect();
        assert_eq!(findings, expected, "{name}\n{said}");
        assert_eq!(stack.project.files(), files, "{name}: a file was changed");
        assert_eq!(stack.leftovers(), "", "{name}: something was started");
    }
}

/// Fails unless nothing is found.
#[track_caller]
fn is_clean(stack: &Stack) -> Outcome {
    let said = stack.run("doctor").exits(0);
    let found = said.stdout.lines().find(|line| !line.starts_with("ok "));
    assert_eq!(found, None, "{said}");
    said
}

/// A finding: all that was said, and what mends it.
struct Found {
    text: String,
    fix: String,
}

/// Fails unless something is found of a service, with this exit code.
#[track_caller]
fn finds(stack: &Stack, code: i32, service: &str, message: &str) -> Found {
    let said = stack.run("doctor").exits(code);
    let lines: Vec<_> = said.stdout.lines().collect();
    let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(service) && line.contains(message);
    let Some(place) = lines.iter().position(is_it) else { panic!("{service}: no {message}\n{said}") };
    let fix = lines.get(place + 1).and_then(|line| line.trim().strip_prefix("fix: ")).unwrap_or_default();
    assert_ne!(fix, "", "no fix\n{said}");
    Found { text: said.to_string(), fix: fix.to_string() }
}

impl Found {
    /// Types what mends it, which starts so; an alternative that it names is left out.
    #[track_caller]
    fn run_fix(&self, stack: &Stack, start: &str) {
        assert!(self.fix.starts_with(start), "{}", self.fix);
        let line = self.fix.split(", or ").next().unwrap_or(&self.fix);
        outcome(Command::new("sh").args(["-c", line]).current_dir(&stack.project.dir)).exits(0);
    }
}

#[cfg(unix)]
fn set_mode(stack: &Stack, file: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(stack.project.dir.join(file), permissions).expect("a mode");
}
