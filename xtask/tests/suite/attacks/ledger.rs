//! Commands in random order, some of them cut off, while somebody writes to all three products: whatever was acknowledged
//! is somewhere afterwards, in a database, in what is kept of one, in a backup, or in what was named before it went.
//!
//! XTASK_TEST_FAULTS is how many commands; without it, eight. The first tier has three. The seed is printed;
//! XTASK_TEST_SEED repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use crate::attacks::rows::rows;
use crate::data_ground::{folders, wait_until_ready};
use crate::ground::{Ground, PRODUCTS};
use crate::random::Random;
use crate::round::setting;
use crate::stack::{Compose, Stack, docker, ports};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_few_commands_lose_nothing_that_was_acknowledged
    ]
    full: [
        commands_in_any_order_lose_nothing_that_was_acknowledged
    ]
}

/// Somebody who writes to a product's database whenever it takes a connection, and notes what was acknowledged.
pub struct Writer {
    child: Child,
    said: PathBuf,
}

impl Writer {
    pub fn start(stack: &Stack, database: &str) -> Self {
        let said = stack.project.dir.with_file_name(format!("{database}.written"));
        let insert = "insert into networks values (gen_random_uuid(), now(), now()) returning id";
        let script = format!(
            "while :; do echo \"{insert};\"; sleep 0.01; done | psql -XqAt -U \"${{POSTGRES_USER:-postgres}}\" -d {database}; sleep 0.05"
        );
        let line = format!("while :; do {script}; done");
        let mut command = Command::new("docker");
        command.args(["exec", &stack.container("db").1, "sh", "-c", &line]);
        let file = std::fs::File::create(&said).expect("a file");
        let child = command.stdout(file).stderr(Stdio::null()).spawn().expect("docker starts");
        Self { child, said }
    }

    pub fn written(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(&self.said).expect("a file");
        text.lines().filter(|line| line.len() == 36).map(String::from).collect()
    }

    /// Ends it, and returns what was acknowledged.
    pub fn end(mut self, stack: &Stack) -> BTreeSet<String> {
        docker(&["exec", &stack.container("db").1, "sh", "-c", "pkill -f 'returning id' || :"]);
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
        self.written()
    }
}

/// What is kept of a product's database, or is being made for it.
pub fn kept(stack: &Stack, product: &str) -> Vec<String> {
    let kept =
        format!("select datname from pg_database where datname ~ '^xtask_.*{product}' and datallowconn");
    stack.sql("postgres", &kept).lines().map(String::from).collect()
}

/// Whether a database of a product lets nobody in, as one that a killed run was putting away: nobody can count it.
fn is_closed(stack: &Stack, product: &str) -> bool {
    let closed = format!(
        "select count(*) from pg_database where datname ~ '^(xtask_.*)?{product}' and not datallowconn"
    );
    stack.sql("postgres", &closed).trim() != "0"
}

/// The ids of the networks in a dump.
pub fn of_dump(stack: &Stack, dump: &Path) -> BTreeSet<String> {
    let mut restore = Command::new("docker");
    let line = "pg_restore --data-only --table=networks -f -";
    restore.args(["exec", "-i", &stack.container("db").1, "sh", "-c", line]);
    let mut restore = restore.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker starts");
    let bytes = std::fs::read(dump).expect("a dump");
    let mut input = restore.stdin.take().expect("an input");
    let feed = std::thread::spawn(move || input.write_all(&bytes));
    let text = restore.wait_with_output().expect("an end").stdout;
    // It may end before it has read all.
    let _ = feed.join().expect("an end");
    let lines = String::from_utf8_lossy(&text).into_owned();
    lines
        .lines()
        .filter_map(|line| Some(line.split('\t').next()?.to_string()))
        .filter(|id| id.len() == 36)
        .collect()
}

/// What is known of where rows went.
#[derive(Default)]
struct Ledger {
    /// In backups, each of which was looked at once.
    backed_up: BTreeMap<&'static str, BTreeSet<String>>,
    looked_at: BTreeSet<PathBuf>,
    /// In what went after it was named, with its rows.
    named: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Ledger {
    fn read_backups(&mut self, ground: &Ground) {
        for (name, folder) in folders(ground) {
            if name.starts_with('.') || !self.looked_at.insert(folder.clone()) {
                continue;
            }
            for product in PRODUCTS {
                let dump = folder.join(format!("{product}.dump"));
                if dump.is_file() {
                    self.backed_up.entry(product).or_default().extend(of_dump(&ground.stack, &dump));
                }
            }
        }
    }

    fn lost(&mut self, ground: &Ground, writers: &[(&'static str, Writer)]) -> Vec<String> {
        // What is acknowledged from here on is somewhere too, and isn't asked for yet.
        let written: Vec<_> = writers.iter().map(|(product, writer)| (*product, writer.written())).collect();
        self.read_backups(ground);
        let mut lost = vec![];
        for (product, mut written) in written {
            // It is counted once a later command has let everybody in again.
            if is_closed(&ground.stack, product) {
                continue;
            }
            for place in [vec![product.to_string()], kept(&ground.stack, product)].concat() {
                let there = rows(&ground.stack, &place, "networks");
                written.retain(|id| !there.contains(id));
            }
            for known in [&self.backed_up, &self.named].into_iter().filter_map(|known| known.get(product)) {
                written.retain(|id| !known.contains(id));
            }
            if !written.is_empty() {
                lost.push(format!("{} rows of {product}", written.len()));
            }
        }
        lost
    }
}

fn a_few_commands_lose_nothing_that_was_acknowledged(compose: Compose) {
    run_any(compose, 3);
}

fn commands_in_any_order_lose_nothing_that_was_acknowledged(compose: Compose) {
    run_any(compose, setting("XTASK_TEST_FAULTS").unwrap_or(8));
}

fn run_any(compose: Compose, count: u64) {
    let seed = setting("XTASK_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("{count} commands, seed {seed}");
    let mut random = Random(seed);
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup").exits(0);
    let ground = Ground { stack: Rc::new(stack) };
    ground.psql("alter system set fsync = off; select pg_reload_conf()");
    let writers = PRODUCTS.map(|product| (product, Writer::start(&ground.stack, product)));
    let mut ledger = Ledger::default();
    let mut problems = vec![];
    for at in 0..count {
        let product = random.pick(&PRODUCTS);
        let command = match random.below(8) {
            0 => "backup".to_string(),
            1 | 2 => "restore latest --yes".into(),
            3 => format!("restore latest {product} --yes"),
            4 | 5 => format!("reset {product} --yes"),
            6 => "migrate-all".into(),
            _ => "up".into(),
        };
        let signal = random.pick(&["", "INT", "TERM", "KILL", "HUP", "KILL"]);
        let places = |ground: &Ground| -> BTreeMap<String, (&'static str, BTreeSet<String>)> {
            let each = PRODUCTS.into_iter().flat_map(|product| {
                kept(&ground.stack, product).into_iter().map(move |name| (product, name))
            });
            each.map(|(product, name)| (name.clone(), (product, rows(&ground.stack, &name, "networks"))))
                .collect()
        };
        let before = places(&ground);
        let run = ground.start(&command);
        if !signal.is_empty() {
            random.wait(7000);
            run.signal(signal, random.below(2) == 0);
        }
        let ended = run.end();
        for (name, (product, ids)) in before {
            // It may be named under the name that it was given meanwhile.
            if ended.said.contains(&format!("{name} (")) {
                ledger.named.entry(product).or_default().extend(ids);
            }
        }
        let lost = ledger.lost(&ground, &writers);
        println!(
            "{at}: {command}, {signal}: {}{}",
            ended.in_words(),
            lost.iter().map(|lost| format!("; LOST {lost}")).collect::<String>()
        );
        if !lost.is_empty() {
            problems.push(format!("{at}: {command}, {signal}: {lost:?}: {}", ended.said));
        }
        if signal.is_empty() && ended.code != Some(0) {
            problems.push(format!("{at}: {command} failed: {}", ended.said));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    ground.run("up").exits(0);
    for service in PRODUCTS {
        problems.extend(wait_until_ready(&ground.stack, service, ports(service)).err());
    }
    for product in PRODUCTS.into_iter().filter(|product| is_closed(&ground.stack, product)) {
        ground.run(&format!("restore latest {product} --yes")).exits(0);
        assert!(!is_closed(&ground.stack, product), "{product}");
    }
    problems.extend(ledger.lost(&ground, &writers));
    let written: usize = writers.map(|(_, writer)| writer.end(&ground.stack).len()).iter().sum();
    println!("{count} commands, {written} rows acknowledged, {} problems", problems.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
