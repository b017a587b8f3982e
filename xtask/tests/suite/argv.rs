//! No secret is in the arguments of any process, xtask's own and those in containers among them, while data is backed
//! up, restored, reset and split; nor in what is printed, logged or kept.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::end_to_end::rows_of_a_user;
use crate::project::outcome;
use crate::shared::{Shared, own_database};
use crate::stack::{Compose, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        no_secret_is_in_an_argument_a_log_or_a_backup
    ]
}

/// Who reads the arguments of all processes of this machine, as fast as it can.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let watch = move || {
            let mut seen = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                    seen.insert(String::from_utf8_lossy(&arguments).replace('\0', " "));
                }
            }
            seen
        };
        Self { is_over, thread: std::thread::spawn(watch) }
    }

    /// Every command line that there was.
    fn end(self) -> BTreeSet<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("an end")
    }
}

/// Runs commands while somebody watches, and returns all that can be read of it.
fn watched(stack: &Stack, commands: &[&str]) -> BTreeSet<String> {
    let watch = Watch::start();
    // What is in a container for a moment is seen too.
    let marker = format!(": {}-marker; sleep 0.05", stack.name);
    docker(&["exec", &stack.container("db").1, "sh", "-c", &marker]);
    let said = commands.iter().map(|command| stack.run(command).exits(0).to_string()).collect::<Vec<_>>();
    let mut seen = watch.end();
    assert!(
        seen.iter().any(|line| line.starts_with("sh -c") && line.contains(&marker)),
        "the marker wasn't seen"
    );
    for program in ["docker", "psql", "pg_dump", "pg_restore"] {
        let is_seen = |line: &String| line.split(' ').next().is_some_and(|first| first.ends_with(program));
        assert!(seen.iter().any(is_seen), "{program} wasn't seen");
    }
    seen.extend(said);
    let ids = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", stack.name)]);
    seen.extend(ids.lines().map(|id| outcome(Command::new("docker").args(["logs", id])).to_string()));
    read_all(&stack.project.dir.join("backups"), &mut seen);
    seen
}

/// Reads every file in a folder.
fn read_all(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            read_all(&entry.path(), into);
        } else {
            into.insert(String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file")).into_owned());
        }
    }
}

#[track_caller]
fn assert_unseen(secrets: &[String], seen: &BTreeSet<String>) {
    for secret in secrets {
        assert!(secret.len() >= 16, "{secret:?} could be there by chance");
        let shown = seen.iter().find(|text| text.contains(secret));
        assert!(shown.is_none(), "{secret} is in: {}", shown.map(String::as_str).unwrap_or_default());
    }
}

fn no_secret_is_in_an_argument_a_log_or_a_backup(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    rows_of_a_user(&stack);
    let commands = ["backup --verify", "backups", "restore latest --yes", "reset hydra --yes"];
    let seen = watched(&stack, &commands);
    let env = stack.project.read(".env");
    let is_secret = |line: &&str| line.contains("SECRET") || line.contains("PASSWORD");
    let value = |line: &str| line.split_once('=').map(|(_, value)| value.to_string());
    let secrets: Vec<_> = env.lines().filter(is_secret).filter_map(value).collect();
    assert_eq!(secrets.len(), 7);
    assert_unseen(&secrets, &seen);

    const LOGIN: &str = "acme:a-password-of-this-test";
    let stack = Stack::of_others("shared-with-hydra", compose);
    for file in ["docker-compose.yml", "ory/hydra.yml"] {
        stack.project.replace(file, "acme:secret@", &format!("{LOGIN}@"));
    }
    stack.project.replace(
        "docker-compose.yml",
        "POSTGRES_PASSWORD: secret",
        "POSTGRES_PASSWORD: a-password-of-this-test",
    );
    let shared = Shared::with(stack, LOGIN);
    let mut seen = watched(&shared.stack, &["split --drop-foreign-keys --yes"]);
    let dsns = shared.stack.project.read(".env.split");
    let password =
        |line: &str| Some(line.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_string());
    let mut secrets: Vec<_> = dsns.lines().filter_map(password).collect();
    assert_eq!(secrets.len(), 3);
    secrets.push("a-password-of-this-test".into());
    let watch = Watch::start();
    shared.goes_on(own_database);
    shared.stack.run("split --finish --yes").exits(0);
    seen.extend(watch.end());
    assert_unseen(&secrets, &seen);
}
