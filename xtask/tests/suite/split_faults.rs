//! Faults at random moments of `split`, both ways, while somebody writes: the same command run again comes to its end,
//! and every row is in its new place.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::data_faults::{BY_DEFAULT, SHARES};
use crate::data_ground::{
    AIMS, Aim, Holder, TABLES, damaged, folders, hit, partial, start, wait_until_ready,
};
use crate::ground::{Ground, PRODUCTS};
use crate::random::Random;
use crate::round::{FAULTS, Fault, Report, Round};
use crate::shared::{Shared, Writer, own_database};
use crate::stack::{Compose, SERVERS, docker};
use crate::tiers::{scenarios, scenarios_once};

scenarios_once! {
    first: [
        a_few_faults_of_split_lose_nothing
    ]
}

scenarios! {
    full: [
        a_fault_at_any_moment_of_split_loses_nothing
    ]
}

/// What the faults are to hit.
const INSIDE: &str = "inside split";

const WAYS: [&str; 2] = ["--drop-foreign-keys", "--in-place"];

/// The services that run while nothing is split.
const SERVING: [(&str, [u16; 2]); 2] = [SERVERS[0], SERVERS[2]];

/// Tables of which each place has its own part, that are the application's, or that somebody writes to.
const OTHERS: [&str; 4] = ["networks", "schema_migration", "orders", "keto_uuid_mappings"];

/// What faults are tried on.
struct Bench {
    shared: Shared,
    ground: Ground,
    random: Random,
    /// What each table has: its rows counted and summed up.
    before: BTreeMap<String, String>,
    orders: String,
    /// How long each way takes when nothing hits it.
    took: [Duration; 2],
}

fn a_few_faults_of_split_lose_nothing(compose: Compose) {
    try_all(compose, Round::of(compose, 2, INSIDE));
}

fn a_fault_at_any_moment_of_split_loses_nothing(compose: Compose) {
    try_all(compose, Round::new(compose, BY_DEFAULT, SHARES, INSIDE));
}

fn try_all(compose: Compose, mut round: Round) {
    let mut bench = Bench::new(compose, round.random());
    let (mut left, mut way) = (vec![], "");
    for number in 0..round.count {
        let fault = bench.random.draw(&mut left, &FAULTS);
        way = WAYS[number % WAYS.len()];
        round.begin();
        let (what, report) = bench.try_one(fault, AIMS[number % AIMS.len()], way);
        round.end(&what, report);
    }
    // The last one goes on until all is served from its new place.
    match way {
        "--in-place" => bench.shared.goes_on(in_schema),
        _ => bench.shared.goes_on(own_database),
    }
    round.finish();
}

/// Where a product's tables are once it has a schema, as psql names it.
fn in_schema(product: &str) -> String {
    format!("dbname=acme options=-csearch_path={product}")
}

impl Bench {
    fn new(compose: Compose, random: Random) -> Self {
        let shared = Shared::new(compose);
        let ground = Ground { stack: Rc::clone(&shared.stack) };
        ground.psql("alter system set fsync = off; select pg_reload_conf()");
        let orders = shared.orders();
        SERVING.iter().for_each(|(service, _)| drop(docker(&["stop", &ground.stack.container(service).1])));
        ground.psql("create database acme_before template acme");
        let mut bench =
            Self { shared, ground, random, before: BTreeMap::new(), orders, took: Default::default() };
        bench.before = bench
            .tables("acme")
            .into_iter()
            .filter_map(|(schema, table, rows)| {
                (schema == "public" && !OTHERS.contains(&table.as_str())).then_some((table, rows))
            })
            .collect();
        assert!(bench.before.len() > 3, "{:?}", bench.before);
        for (number, way) in WAYS.into_iter().enumerate() {
            bench.begin();
            bench.took[number] = bench.ground.run(&format!("split {way} --yes")).exits(0).took;
        }
        bench
    }

    /// All begins again: the shared database, the services, and nothing else.
    fn begin(&self) {
        start(&self.ground, &["db"]);
        let databases =
            PRODUCTS.iter().flat_map(|product| [product.to_string(), format!("xtask_split_{product}")]);
        let mut script = String::from("set client_min_messages = warning;\n");
        for name in databases.chain(["acme".to_string()]) {
            script += &format!("drop database if exists {name} with (force);\n");
        }
        script += "drop role if exists kratos, hydra, keto;\ncreate database acme template acme_before;\n";
        self.ground.psql(&script);
        let project = &self.ground.stack.project.dir;
        for path in [project.join(".env.split"), project.join("backups")] {
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        start(&self.ground, &SERVING.map(|(service, _)| service));
        for (service, ports) in SERVING {
            wait_until_ready(&self.ground.stack, service, ports).expect("it was ready before");
        }
    }

    /// Commits a fault, and returns what it was and what became of it.
    fn try_one(&mut self, fault: Fault, aim: Aim, way: &str) -> (String, Report) {
        self.begin();
        let command = format!("split {way} --yes");
        let writer = (self.random.below(2) == 0).then(|| Writer::start(&self.shared));
        let mut run = self.ground.start(&command);
        let mut report = Report::default();
        match aim {
            Aim::Anywhere => {
                let took = self.took[usize::from(way == "--in-place")];
                self.random.wait(took.as_millis() as usize);
            }
            Aim::Stopped => {
                run.wait_until_said("stopped");
                self.random.wait(if way == "--in-place" { 300 } else { 2000 });
            }
            Aim::Held => {
                run.wait_until_said("the backup is ");
                let holder = Holder::of_table(&self.ground, "acme", "identities", "access share");
                if !Holder::holds(&self.ground) {
                    report.problems.push(format!("the tables were never altered: {}", run.said()));
                }
                report.phase = "altering, ".into();
                drop(holder);
            }
        }
        let ended = hit(&self.ground, run, fault, &mut self.random, 3, &mut report);
        report.problems.extend(damaged(&self.ground));
        if fault.is_polite() && ended.said.contains("nothing was split: acme as before") {
            report.problems.extend(self.wrong_after_putting_back());
        }

        let again = self.ground.start(&command);
        self.random.wait(1000);
        Holder::let_go(&self.ground);
        let again = again.end();
        report.converged = "plain re-run".into();
        if again.code != Some(0) {
            report.converged = "not at all".into();
            report.problems.push(again.said);
        }
        let (written, _) = writer.map(Writer::end).unwrap_or_default();
        report.problems.extend(self.wrong_at_the_end(way, &written));
        report.problems.extend(self.ground.leftovers());
        let writes =
            if written.is_empty() { String::new() } else { format!(", {} rows written", written.len()) };
        (format!("{command}, {fault}{writes}"), report)
    }

    /// What isn't as before where xtask says so.
    fn wrong_after_putting_back(&self) -> Vec<String> {
        let mut wrong = vec![];
        let new = "select 'the database ' || datname from pg_database where datname ~ '^(xtask_.*|kratos|hydra|keto)$'";
        wrong.extend(self.ground.psql(new).lines().map(String::from));
        wrong.extend(self.lost(&self.tables("acme"), |schema| schema == "public"));
        let ready = |(service, ports)| wait_until_ready(&self.ground.stack, service, ports).err();
        wrong.extend(SERVING.into_iter().filter_map(ready));
        wrong
    }

    fn wrong_at_the_end(&self, way: &str, written: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = damaged(&self.ground);
        wrong.extend(folders(&self.ground).into_iter().filter(partial).map(|(name, _)| name));
        let is_product = |schema: &str| PRODUCTS.contains(&schema);
        let all = self.tables("acme");
        if all.iter().any(|(schema, table, _)| schema == "public" && self.before.contains_key(table)) {
            wrong.push("an old table is where it was".into());
        }
        if self.shared.orders() != self.orders {
            wrong.push(format!("the application had {}, and has {}", self.orders, self.shared.orders()));
        }
        let keto = if way == "--in-place" {
            wrong.extend(self.lost(&all, is_product));
            in_schema("keto")
        } else {
            let each = PRODUCTS.iter().flat_map(|product| self.tables(product)).collect::<Vec<_>>();
            wrong.extend(self.lost(&each, |schema| schema == "public"));
            own_database("keto")
        };
        let there = "select id from keto_uuid_mappings where string_representation = 'written'";
        let there: BTreeSet<_> = self.ground.stack.sql(&keto, there).lines().map(String::from).collect();
        // One more is there where the writer was cut off before it was told.
        if !written.is_subset(&there) || there.len() > written.len() + 1 {
            wrong.push(format!("{} of {} written rows are there", there.len(), written.len()));
        }
        wrong.extend(self.refused());
        wrong
    }

    /// The tables that a place doesn't have as they were.
    fn lost(&self, found: &[(String, String, String)], is_place: impl Fn(&str) -> bool) -> Vec<String> {
        let is_there = |(table, rows): &(&String, &String)| {
            let mut of_name = found.iter().filter(|(schema, name, _)| is_place(schema) && name == *table);
            of_name.next().is_some_and(|(.., found)| found == *rows) && of_name.next().is_none()
        };
        let lost = self.before.iter().filter(|table| !is_there(table));
        lost.map(|(table, rows)| format!("{table} isn't there once, with {rows}")).collect()
    }

    /// The new DSNs that don't let anybody in.
    fn refused(&self) -> Vec<String> {
        let text =
            std::fs::read_to_string(self.ground.stack.project.dir.join(".env.split")).unwrap_or_default();
        let dsns: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let db = self.ground.stack.container("db").1;
        let is_let_in =
            |dsn: &str| docker(&["exec", &db, "psql", "-wXqAt", "-c", "select 'in'", dsn]).trim() == "in";
        // psql knows no `search_path` there.
        let dsn = |dsn: &str| dsn.trim_matches('\'').split('?').next().unwrap_or_default().to_string();
        let refused = dsns.iter().filter(|(_, value)| !is_let_in(&dsn(value)));
        let mut refused: Vec<_> = refused.map(|(name, _)| format!("{name} lets nobody in")).collect();
        if dsns.len() != 3 {
            refused.push(format!("{} new DSNs", dsns.len()));
        }
        refused
    }

    /// The tables of a database: schema, name, and its rows counted and summed up.
    fn tables(&self, database: &str) -> Vec<(String, String, String)> {
        let text = self.ground.psql(&format!("\\connect {database}\n{TABLES}"));
        let table = |line: &str| {
            let (name, rows) = line.split_once(' ')?;
            let (schema, name) = name.split_once('.')?;
            Some((schema.into(), name.into(), rows.into()))
        };
        text.lines().filter_map(table).collect()
    }
}
