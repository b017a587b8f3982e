//! What is looked at after a fault that may have hit data: rows, backups, services; and somebody who holds a command up.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ory_ops::backup;

use crate::ground::{Ended, Ground, Run};
use crate::random::Random;
use crate::round::{Fault, Report};
use crate::stack::{Stack, docker};

/// Where a fault is to hit a command that touches data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// While somebody keeps it waiting where it is in the middle of its work.
    Held,
    /// A moment after it has said that the services are stopped.
    Stopped,
    Anywhere,
}

/// In this order, so that however many there are, at least half are inside a command.
pub const AIMS: [Aim; 5] = [Aim::Held, Aim::Anywhere, Aim::Held, Aim::Stopped, Aim::Held];

/// Every table of a database with its rows counted and summed up, a line each.
pub const TABLES: &str = "select format('%I.%I ', nspname, relname) || (xpath('/row/f/text()', query_to_xml(format(
      'select count(*) || '' '' || md5(coalesce(string_agg(t::text, '','' order by t::text), '''')) as f from %I.%I t',
      nspname, relname), false, true, '')))[1]::text
    from pg_class c join pg_namespace n on n.oid = relnamespace
    where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema' order by 1;\n";

/// Fails where a service isn't ready after a while.
pub fn wait_until_ready(stack: &Stack, service: &str, ports: [u16; 2]) -> Result<(), String> {
    let start = Instant::now();
    while stack.container(service).1.is_empty() || !stack.is_ready(service, ports) {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("{service} isn't ready"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Starts containers of services, and waits for the database.
pub fn start(ground: &Ground, services: &[&str]) {
    let project = format!("label=com.docker.compose.project={}", ground.stack.name);
    let format = "{{.ID}} {{.Label \"com.docker.compose.service\"}}";
    let all = docker(&["ps", "--all", "--filter", &project, "--format", format]);
    let pairs = all.lines().filter_map(|line| line.split_once(' '));
    let ids: Vec<_> = pairs.filter(|(_, name)| services.contains(name)).map(|(id, _)| id).collect();
    docker(&[&["start"], &ids[..]].concat());
    let start = Instant::now();
    while ground.psql("select 'up'").trim() != "up" {
        assert!(start.elapsed() < Duration::from_secs(60), "the database doesn't start");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The folders beside each other where backups are, with their names.
pub fn folders(ground: &Ground) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(ground.stack.project.dir.join("backups")).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

/// Whether a folder is a backup that isn't done.
pub fn partial((name, _): &(String, PathBuf)) -> bool {
    name.starts_with(".partial")
}

/// Commits a fault, and waits for the end of the command. Whoever held it lets go while xtask puts all back, afterwards, or,
/// of three `ends`, not yet.
pub fn hit(
    ground: &Ground,
    mut run: Run,
    fault: Fault,
    random: &mut Random,
    ends: usize,
    report: &mut Report,
) -> Ended {
    report.is_inside = !run.has_ended();
    report.phase += &run.phase();
    fault.commit(ground, &run, random);
    let lets_go = random.below(ends);
    if fault == Fault::PauseDatabase || lets_go == 0 {
        Holder::let_go(ground);
    }
    let ended = run.end();
    report.ended = ended.in_words();
    if report.is_inside && fault.is_polite() && !matches!(ended.code, Some(0 | 130 | 143)) {
        report.problems.push(format!("it should end with 130 or 143: {}", ended.said));
    }
    if lets_go == 1 {
        Holder::let_go(ground);
    }
    if random.below(2) == 0 {
        start(ground, &["db"]);
    }
    ended
}

/// What isn't whole of the backups that there are.
pub fn damaged(ground: &Ground) -> Vec<String> {
    let folders = folders(ground).into_iter().filter(|(name, _)| !name.starts_with('.'));
    folders.filter_map(|(_, folder)| is_whole(&folder).err()).collect()
}

/// Fails unless a backup is whole, as `restore` checks it.
pub fn is_whole(folder: &Path) -> Result<(), String> {
    let backup = backup::open(folder).map_err(|error| format!("{error:#}"))?;
    let compare = |dump| backup.compare(dump, |_| Ok(())).map_err(|error| format!("{error:#}"));
    backup.manifest.dumps.iter().try_for_each(compare)
}

/// Somebody in a transaction, for minutes, who keeps others waiting.
pub struct Holder(Child);

impl Holder {
    /// Who changes a database, so that it can't be renamed.
    pub fn of_database(ground: &Ground, database: &str) -> Self {
        Self::of_statement(
            ground,
            "postgres",
            &format!("comment on database {database} is 'held'"),
            "rollback",
        )
    }

    /// Who has a lock on a table.
    pub fn of_table(ground: &Ground, database: &str, table: &str, mode: &str) -> Self {
        Self::of_statement(ground, database, &format!("lock table {table} in {mode} mode"), "rollback")
    }

    /// Who has run a statement, and ends its transaction so where its sleep is cancelled.
    pub fn of_statement(ground: &Ground, database: &str, sql: &str, end: &str) -> Self {
        let sleep = "do $$ begin perform pg_sleep(300); exception when query_canceled then null; end $$";
        let db = ground.stack.container("db").1;
        let psql =
            r#"exec psql -XqAt -U "${POSTGRES_USER:-postgres}" -d "$0" -c begin -c "$1" -c "$2" -c "$3""#;
        let mut command = Command::new("docker");
        command.args(["exec", "-e", "PGAPPNAME=holder", &db, "sh", "-c", psql, database, sql, sleep, end]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql starts");
        assert!(wait_for(
            ground,
            "select from pg_stat_activity where application_name = 'holder' and wait_event = 'PgSleep'"
        ));
        Self(child)
    }

    /// Waits until xtask waits for a holder; false where it never does.
    pub fn holds(ground: &Ground) -> bool {
        let waits = "select from pg_locks l join pg_stat_activity using (pid)
                     where not granted and application_name like 'xtask%'";
        wait_for(ground, waits)
    }

    /// Ends all holders.
    pub fn let_go(ground: &Ground) {
        let end = "select from (select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holder') e";
        ground.psql(end);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its session was ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a question has an answer, for two minutes.
fn wait_for(ground: &Ground, question: &str) -> bool {
    let script = format!(
        "\\set ON_ERROR_STOP on
         do $$ begin for try in 1..12000 loop
           if exists ({question}) then return; end if;
           perform pg_stat_clear_snapshot();
           perform pg_sleep(0.01);
         end loop; raise 'in vain'; end $$;
         select 'yes';\n"
    );
    ground.psql(&script).trim() == "yes"
}
