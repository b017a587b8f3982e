//! Faults at random moments of `backup`, `restore` and `reset`: nothing is lost at any moment, a backup that exists is
//! whole, and the same command run again comes to its end, the services included.
//!
//! Half of XTASK_TEST_FAULTS is tried here, the other half in `split_faults`; without it, ten in all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ory_ops::backup;

use crate::data_ground::{
    AIMS, Aim, Holder, TABLES, damaged, folders, hit, partial, start, wait_until_ready,
};
use crate::end_to_end::rows_of_a_user;
use crate::ground::{Ground, PRODUCTS};
use crate::random::Random;
use crate::round::{FAULTS, Fault, Report, Round};
use crate::stack::{Compose, Stack, docker, ports};
use crate::tiers::{scenarios, scenarios_once};

scenarios_once! {
    first: [
        a_few_faults_of_backup_restore_or_reset_lose_nothing
    ]
}

scenarios! {
    full: [
        a_fault_at_any_moment_of_backup_restore_or_reset_loses_nothing
    ]
}

/// What the faults are to hit.
const INSIDE: &str = "inside a command";

/// By default, how many are tried here and in `split_faults`, and in how many parts.
pub const BY_DEFAULT: u64 = 10;
pub const SHARES: usize = 2;

/// What faults are tried on.
struct Bench {
    ground: Ground,
    random: Random,
    /// The backup that is restored.
    backup: PathBuf,
    /// What was backed up, and what is there when a command begins.
    restored: BTreeMap<String, Vec<String>>,
    before: BTreeMap<String, Vec<String>>,
    /// How long a command takes that nothing hits, by its first word.
    took: BTreeMap<&'static str, Duration>,
}

fn a_few_faults_of_backup_restore_or_reset_lose_nothing(compose: Compose) {
    try_all(compose, Round::of(compose, 2, INSIDE));
}

fn a_fault_at_any_moment_of_backup_restore_or_reset_loses_nothing(compose: Compose) {
    try_all(compose, Round::new(compose, BY_DEFAULT, SHARES, INSIDE));
}

fn try_all(compose: Compose, mut round: Round) {
    let mut bench = Bench::new(compose, round.random());
    let mut left = vec![];
    for number in 0..round.count {
        let fault = bench.random.draw(&mut left, &FAULTS);
        round.begin();
        let (what, report) = bench.try_one(fault, AIMS[number % AIMS.len()]);
        round.end(&what, report);
    }
    round.finish();
}

impl Bench {
    fn new(compose: Compose, random: Random) -> Self {
        let mut stack = Stack::new(compose);
        stack.run("up").exits(0);
        // From here on the images are named, not built: that would only cost time.
        stack.set("XTASK_TEST", "faults");
        rows_of_a_user(&stack);
        // So many that a dump doesn't fit into the buffers on its way.
        let many =
            "insert into networks select gen_random_uuid(), now(), now() from generate_series(1, 20000)";
        PRODUCTS.iter().for_each(|product| drop(stack.sql(product, many)));
        let ground = Ground { stack: Rc::new(stack) };
        // Faults end processes, not the machine: the disk may be lazy.
        ground.psql("alter system set fsync = off; select pg_reload_conf()");
        let made = ground.stack.run("backup").exits(0);
        let (took, none) = (BTreeMap::new(), BTreeMap::new());
        let backup = PathBuf::from(made.stdout.trim());
        let mut bench = Self { ground, random, backup, restored: none.clone(), before: none, took };
        bench.restored = bench.tables();
        bench.ground.stack.insert_rows();
        for service in PRODUCTS {
            docker(&["stop", &bench.ground.stack.container(service).1]);
        }
        bench.before = bench.tables();
        let keep =
            |product| format!("create database {product}_before template {product} owner {product};\n");
        bench.ground.psql(&PRODUCTS.map(keep).concat());
        for (name, command) in
            [("backup", "backup"), ("restore", "restore latest --yes"), ("reset", "reset keto --yes")]
        {
            bench.begin();
            let ended = bench.ground.run(command).exits(0);
            bench.took.insert(name, ended.took);
        }
        bench
    }

    /// All begins again: the rows, the one backup, the services.
    fn begin(&self) {
        start(&self.ground, &["db"]);
        let begin = |product| {
            format!(
                "drop database if exists {product} with (force);
                 create database {product} template {product}_before owner {product};\n"
            )
        };
        let replaced = |product| {
            ["replaced", "before"]
                .map(|name| format!("drop database if exists xtask_{name}_{product};\n"))
                .concat()
        };
        let quietly = "set client_min_messages = warning;\n".to_string();
        self.ground.psql(&(quietly + &PRODUCTS.map(begin).concat() + &PRODUCTS.map(replaced).concat()));
        for (name, folder) in folders(&self.ground) {
            if folder != self.backup {
                std::fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        start(&self.ground, &PRODUCTS);
        for service in PRODUCTS {
            self.wait_until_ready(service).expect("it was ready before");
        }
    }

    /// Commits a fault, and returns what it was and what became of it.
    fn try_one(&mut self, fault: Fault, aim: Aim) -> (String, Report) {
        self.begin();
        let product = self.random.pick(&PRODUCTS);
        let name = self.random.pick(&["backup", "restore", "reset", "restore", "reset"]);
        let command = match name {
            "backup" => "backup".to_string(),
            "restore" => "restore latest --yes".into(),
            _ => format!("reset {product} --yes"),
        };
        let holder = (aim == Aim::Held).then(|| match name {
            "backup" => Holder::of_table(&self.ground, product, "networks", "access exclusive"),
            _ => Holder::of_database(&self.ground, product),
        });
        let mut run = self.ground.start(&command);
        let mut report = Report::default();
        match aim {
            Aim::Held => {
                report.phase = format!("held in {product}, ");
                if !Holder::holds(&self.ground) {
                    report.problems.push(format!("it was never held in {product}: {}", run.said()));
                }
            }
            Aim::Stopped if name != "backup" => {
                run.wait_until_said("stopped");
                self.random.wait(1000);
            }
            Aim::Stopped | Aim::Anywhere => self.random.wait(self.took[name].as_millis() as usize),
        }
        // A table that is held couldn't be looked at.
        let ends = if name == "backup" { 2 } else { 3 };
        let ended = hit(&self.ground, run, fault, &mut self.random, ends, &mut report);
        report.problems.extend(self.wrong_meanwhile(name, product));
        if report.is_inside && fault.is_polite() {
            report.problems.extend(self.wrong_after_putting_back(name, ended.code == Some(0)));
        }

        let again = self.ground.start(&command);
        self.random.wait(1000);
        Holder::let_go(&self.ground);
        drop(holder);
        let again = again.end();
        report.converged = "plain re-run".into();
        if again.code != Some(0) {
            report.converged = "not at all".into();
            report.problems.push(again.said);
        }
        report.problems.extend(self.wrong_at_the_end(name, product));
        if name == "restore" && ended.code != Some(0) {
            report.problems.extend(self.not_kept());
        }
        report.problems.extend(self.ground.leftovers());
        (format!("{command}, {fault}"), report)
    }

    /// What is lost, or isn't whole, while a command may not have come to its end.
    fn wrong_meanwhile(&self, name: &str, product: &str) -> Vec<String> {
        let mut wrong = damaged(&self.ground);
        if self.ground.stack.container("db").1.is_empty() {
            return wrong;
        }
        let all = self.ground.psql("select datname from pg_database");
        let there = |product: &&&str| !all.lines().any(|name| name == **product);
        wrong.extend(PRODUCTS.iter().filter(there).map(|product| format!("the database {product} is gone")));
        for (found, tables) in self.tables() {
            let may_be = match name {
                "restore" => tables == self.restored[&found],
                "reset" => found == product && is_empty(&tables) && self.has_backup_of(product),
                _ => false,
            };
            if tables != self.before[&found] && !may_be {
                wrong.push(format!("{found} is neither as before nor as it was to be: {tables:?}"));
            }
        }
        wrong
    }

    /// What isn't as before where xtask has ended by itself: all or nothing was done, and all serves.
    fn wrong_after_putting_back(&self, name: &str, is_done: bool) -> Vec<String> {
        let mut wrong = vec![];
        let closed = "select datname from pg_database where not datallowconn and not datistemplate";
        wrong.extend(self.ground.psql(closed).lines().map(|name| format!("{name} takes no connections")));
        let tables = self.tables();
        if !is_done && tables != self.before {
            wrong.push(format!("not all is as before: {tables:?}"));
        }
        if is_done && name == "restore" && tables != self.restored {
            wrong.push(format!("not all is restored: {tables:?}"));
        }
        wrong.extend(PRODUCTS.into_iter().filter_map(|service| self.wait_until_ready(service).err()));
        wrong
    }

    fn wrong_at_the_end(&self, name: &str, product: &str) -> Vec<String> {
        let mut wrong = damaged(&self.ground);
        wrong.extend(folders(&self.ground).into_iter().filter(partial).map(|(name, _)| name));
        for (found, tables) in self.tables() {
            let is_right = match name {
                "restore" => tables == self.restored[&found],
                "reset" if found == product => is_empty(&tables) && self.has_backup_of(product),
                _ => tables == self.before[&found],
            };
            if !is_right {
                wrong.push(format!("{found} isn't as it was to be: {tables:?}"));
            }
        }
        wrong.extend(PRODUCTS.into_iter().filter_map(|service| self.wait_until_ready(service).err()));
        wrong
    }

    /// What the run that came to its end has not kept of what the one before it had replaced, or would have.
    fn not_kept(&self) -> Vec<String> {
        let kept = self.tables_of("xtask_replaced_");
        let is_lost = |product: &&&str| kept.get(**product) != self.before.get(**product);
        PRODUCTS.iter().filter(is_lost).map(|product| format!("what was in {product} isn't kept")).collect()
    }

    /// The tables of each product's database that takes connections.
    fn tables(&self) -> BTreeMap<String, Vec<String>> {
        self.tables_of("")
    }

    /// The same of the databases whose name begins otherwise.
    fn tables_of(&self, prefix: &str) -> BTreeMap<String, Vec<String>> {
        let open = self.ground.psql("select datname from pg_database where datallowconn");
        let is_open = |name: &&str| open.lines().any(|open| open == format!("{prefix}{name}"));
        let open: Vec<_> = PRODUCTS.into_iter().filter(is_open).collect();
        let script = open.iter().map(|name| format!("\\connect {prefix}{name}\n\\echo {name}\n{TABLES}"));
        let mut all = BTreeMap::<String, Vec<String>>::new();
        let text = self.ground.psql(&script.collect::<String>());
        let mut current = String::new();
        for line in text.lines() {
            if PRODUCTS.contains(&line) {
                current = line.into();
                all.insert(line.into(), vec![]);
            } else if let Some(tables) = all.get_mut(&current) {
                tables.push(line.into());
            }
        }
        all
    }

    /// Whether some backup has as many rows of a product as there were, in each table.
    fn has_backup_of(&self, product: &str) -> bool {
        let count = |line: &String| {
            let mut words = line.split(' ');
            Some((words.next()?.to_string(), words.next()?.parse::<u64>().ok()?))
        };
        let rows: BTreeMap<_, _> = self.before[product].iter().filter_map(count).collect();
        let folders = folders(&self.ground).into_iter().filter(|(_, folder)| *folder != self.backup);
        let mut manifests = folders.filter_map(|(_, folder)| Some(backup::open(&folder).ok()?.manifest));
        manifests.any(|manifest| manifest.dumps.iter().any(|dump| dump.contents.rows == rows))
    }

    /// Fails where a service isn't ready after a while.
    fn wait_until_ready(&self, service: &str) -> Result<(), String> {
        wait_until_ready(&self.ground.stack, service, ports(service))
    }
}

/// Whether a product begins anew: migrated, with hardly a row.
fn is_empty(tables: &[String]) -> bool {
    let rows =
        |name: &str| tables.iter().find_map(|line| line.strip_prefix(name)?.split(' ').next()?.parse().ok());
    rows("public.networks ").is_some_and(|rows: u64| rows < 10)
        && rows("public.schema_migration ").is_some_and(|rows| rows > 0)
}
