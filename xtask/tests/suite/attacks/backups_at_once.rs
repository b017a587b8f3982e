//! Backups of several runs at once: into one folder, of one database, from several machines.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Outcome, outcome};
use crate::stack::{Compose, NEW, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_folder_that_several_projects_back_up_into_keeps_what_is_of_others
    ]
    full: [
        an_interrupted_backup_ends_no_session_of_another_run
    ]
}

/// A backup that waits for a lock of somebody else.
struct Waiting<'a> {
    stack: &'a Stack,
    child: Option<Child>,
}

impl<'a> Waiting<'a> {
    fn new(stack: &'a Stack, args: &str) -> Self {
        let script = "begin; lock table networks in access exclusive mode; select pg_sleep(300)";
        session(stack, "postgres", "holder", script);
        until(
            stack,
            "select count(*) from pg_stat_activity where application_name = 'holder' and wait_event = 'PgSleep'",
            "1",
        );
        let mut command = stack.command(NEW, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("it starts");
        until(
            stack,
            "select count(distinct 1) from pg_locks join pg_stat_activity using (pid)
             where not granted and application_name like 'xtask%'",
            "1",
        );
        Self { stack, child: Some(child) }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().map(Child::id).unwrap_or_default();
        outcome(Command::new("kill").args([signal, &id.to_string()])).exits(0);
    }

    fn let_go(&self) {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holder'";
        self.stack.sql("kratos", end);
    }

    fn end(mut self) -> Outcome {
        Outcome::of(self.child.take().expect("a child").wait_with_output().expect("output"))
    }
}

/// A session in Kratos's database that goes on by itself.
fn session(stack: &Stack, role: &str, application: &str, script: &str) {
    let name = format!("PGAPPNAME={application}");
    let words = ["psql", "-XqAt", "-U", role, "-d", "kratos", "-c", script];
    docker(&[&["exec", "-d", "-e", &name, &stack.container("db").1], &words[..]].concat());
}

#[track_caller]
fn until(stack: &Stack, question: &str, answer: &str) {
    let start = Instant::now();
    while stack.sql("kratos", question).trim() != answer {
        assert!(start.elapsed() < Duration::from_secs(60), "in vain: {question}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_folder_that_several_projects_back_up_into_keeps_what_is_of_others(compose: Compose) {
    let (one, other) = (Stack::new(compose), Stack::new(compose));
    one.run("up").exits(0);
    other.run("up").exits(0);
    let shared = one.project.dir.join("shared");
    fs::create_dir_all(shared.join(".partial-download")).expect("a folder");
    fs::write(shared.join(".partial-download/data"), "mine").expect("a file");
    let names = || {
        let entries = fs::read_dir(&shared).expect("a folder").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let backup = format!("backup kratos --output {}", shared.display());
    let waiting = Waiting::new(&one, &backup);
    other.run(&backup).exits(0);
    waiting.let_go();
    waiting.end().exits(0);
    let listed = one.run(&format!("backups --output {}", shared.display())).exits(0).stdout;
    assert!(listed.contains(&one.name) && listed.contains(&other.name), "{listed}");
    assert_eq!(fs::read_to_string(shared.join(".partial-download/data")).expect("a file"), "mine");
    assert_eq!(names().len(), 3, "{:?}", names());

    // What a killed run has left goes, once its own project backs up again.
    let killed = Waiting::new(&one, &backup);
    killed.signal("-KILL");
    killed.let_go();
    killed.end();
    other.run(&backup).exits(0);
    assert_eq!(names().len(), 5, "{:?}", names());
    one.run(&backup).exits(0);
    assert_eq!(names().len(), 5, "{:?}", names());
    assert_eq!(
        names().iter().filter(|name| name.starts_with('.')).collect::<Vec<_>>(),
        [".partial-download"]
    );

    // Whole, both of them, at once.
    let mut children = [&one, &other].map(|stack| {
        let mut command = stack.command(NEW, &backup);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    });
    children.iter_mut().for_each(|child| assert!(child.wait().expect("an end").success()));
    let listed = one.run(&format!("backups --output {}", shared.display())).exits(0).stdout;
    assert_eq!(listed.lines().count(), 7, "{listed}");
}

fn an_interrupted_backup_ends_no_session_of_another_run(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let waiting = Waiting::new(&stack, "backup kratos");
    // A machine with a clone of the same project has its backup, called as this one is but for the run.
    let called = "select application_name from pg_locks join pg_stat_activity using (pid)
                  where not granted and application_name like 'xtask%' limit 1";
    let called = stack.sql("kratos", called);
    let run = |name: &str| name.split('-').nth(1).unwrap_or_default().to_string();
    let mut others = vec![format!("xtask-{}-backup-kratos", stack.name)];
    if run(&called) != "xtask" {
        others.push(called.trim().replacen(&run(&called), "aaaaaaaa", 1));
    }
    others.iter().for_each(|name| session(&stack, "kratos", name, "select pg_sleep(299)"));
    let count = "select count(*) from pg_stat_activity where query = 'select pg_sleep(299)'";
    let all = others.len().to_string();
    until(&stack, count, &all);
    waiting.signal("-INT");
    waiting.end().exits(130);
    assert_eq!(stack.sql("kratos", count).trim(), all);
    let waits = "select count(*) from pg_locks join pg_stat_activity using (pid)
                 where not granted and application_name like 'xtask%'";
    assert_eq!(stack.sql("kratos", waits), "0\n", "its own are ended");
}
