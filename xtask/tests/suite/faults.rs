//! Faults at random moments of `migrate-*`, `up` and `restart`: after each, the same command run again ends well,
//! nothing is lost and nothing is left behind.
//!
//! XTASK_TEST_FAULTS is how many, over both generations of Compose. The seed is printed; XTASK_TEST_SEED
//! repeats it. Each fault prints a line, and the last line has the totals.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::ground::{Ended, Ground, PRODUCTS, Run, unpause};
use crate::project::outcome;
use crate::stack::{Compose, NEW, docker, scenarios};
use crate::templates::{Start, Templates, remove_services};

scenarios! { a_fault_at_any_moment_is_mended_by_the_same_command_run_again }

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// To the whole group of processes, as a terminal does, or to xtask alone.
    Signal {
        name: &'static str,
        to_group: bool,
    },
    KillMigration,
    KillDatabase,
    PauseDatabase,
    EightRuns,
}

const FAULTS: [Fault; 10] = [
    Fault::Signal { name: "INT", to_group: true },
    Fault::Signal { name: "INT", to_group: false },
    Fault::Signal { name: "TERM", to_group: true },
    Fault::Signal { name: "TERM", to_group: false },
    Fault::Signal { name: "KILL", to_group: true },
    Fault::Signal { name: "KILL", to_group: false },
    Fault::KillMigration,
    Fault::KillDatabase,
    Fault::PauseDatabase,
    Fault::EightRuns,
];

/// Where a fault is to hit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Aim {
    /// In a statement of a migration, the one after so many versions.
    Held,
    /// A moment later, while the migration goes on at its own speed.
    LetGo,
    Anywhere,
}

/// In this order, so that however many there are, at least half are inside a migration.
const AIMS: [Aim; 5] = [Aim::Held, Aim::Anywhere, Aim::Held, Aim::LetGo, Aim::Held];

/// Random numbers that a seed repeats: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn wait(&mut self, milliseconds: usize) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds) as u64));
    }
}

/// What faults are tried on.
struct Bench {
    ground: Ground,
    random: Random,
    templates: Templates,
}

/// One fault: where it hit, and what became of it.
#[derive(Default)]
struct Report {
    phase: String,
    is_inside: bool,
    ended: String,
    converged: String,
    /// What is wrong after it; empty where all is well.
    problems: Vec<String>,
}

fn a_fault_at_any_moment_is_mended_by_the_same_command_run_again(compose: Compose) {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let seed = setting("XTASK_TEST_SEED").unwrap_or(now);
    let both = setting("XTASK_TEST_FAULTS").unwrap_or(20) as usize;
    let (count, salt) = match compose {
        Compose::V2 => (both.div_ceil(2), 2),
        Compose::V1 => (both / 2, 1),
    };
    say(format!("{compose:?}: {count} faults, XTASK_TEST_SEED={seed} repeats them"));
    let clock = Instant::now();
    let ground = Ground::new(compose);
    let templates = Templates::new(&ground);
    let mut bench = Bench { ground, templates, random: Random(seed ^ salt) };
    let (mut left, mut bad, mut totals) = (vec![], vec![], BTreeMap::<String, usize>::new());
    for number in 1..=count {
        if left.is_empty() {
            left = FAULTS.to_vec();
        }
        let fault = left.swap_remove(bench.random.below(left.len()));
        let clock = Instant::now();
        let (what, report) = bench.try_one(fault, AIMS[(number - 1) % AIMS.len()]);
        let Report { phase, is_inside, ended, converged, problems } = report;
        let took = clock.elapsed().as_secs_f64();
        let line = format!("{compose:?} {number:3}: {what}; {phase}; {ended}; {converged}; {took:.1} s");
        say(&line);
        for total in [if is_inside { "inside a migration" } else { "outside" }, &converged] {
            *totals.entry(total.into()).or_default() += 1;
        }
        if !problems.is_empty() {
            bad.push(format!("{line}\n  {}", problems.join("\n  ")));
        }
    }
    say(format!("{compose:?}: {count} faults in {:.0} s: {totals:?}", clock.elapsed().as_secs_f64()));
    let total = |name| totals.get(name).copied().unwrap_or_default();
    assert!(bad.is_empty(), "seed {seed}:\n{}", bad.join("\n"));
    assert!(total("inside a migration") * 2 >= count, "too few were inside a migration: {totals:?}");
    assert!(total("plain re-run") * 100 >= count * 98, "too few converged by the plain re-run: {totals:?}");
}

/// Prints a line that no test runner holds back.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Bench {
    /// Commits a fault, and returns what it was and what became of it.
    fn try_one(&mut self, fault: Fault, aim: Aim) -> (String, Report) {
        let aim = if fault == Fault::KillMigration { Aim::Held } else { aim };
        let (start, product, command) = self.plan(aim);
        if self.random.below(2) == 0 {
            remove_services(&self.ground);
        }
        let of = |start| self.templates.versions(start, product);
        let (has, all) = (of(start).max(1), of(Start::New));
        let mut script = Templates::begin_sql(start);
        if aim != Aim::Anywhere {
            // The last ones may define nothing, and couldn't be held.
            let applied = has + self.random.below((all - has - 1).max(1));
            script += &Ground::hold_sql(product, applied);
        }
        self.ground.psql(&script);

        let mut run = self.ground.start(&command);
        let mut report = Report::default();
        if aim == Aim::Anywhere {
            self.random.wait(if command.starts_with("migrate") { 3000 } else { 6000 });
            (report.phase, report.is_inside) = self.phase(&mut run);
        } else {
            let held = self.ground.wait_until_held(product);
            report.is_inside = held.is_some();
            let held = held.map(|has| format!("inside {product}'s migration, {has} of {all}"));
            report.phase = held.unwrap_or("never inside a migration".into());
        }
        if aim == Aim::LetGo {
            self.ground.let_go();
            self.random.wait(200);
            report.phase += " or more";
            report.is_inside = !run.has_ended() && self.ground.migrating().is_some();
        }
        let ended = self.commit(fault, &command, run, &mut report);
        let code = ended.code.map_or("killed".into(), |code| format!("exit {code}"));
        report.ended = format!("{code} after {:.1} s", ended.took.as_secs_f64());
        if aim == Aim::Held && report.is_inside {
            report.problems.extend(wrong_end(fault, &ended));
        }
        self.ground.let_go();
        self.converge(&command, &mut report);
        let is_done = |product: &str| {
            command == format!("migrate-{product}")
                || ["migrate-all", "up", "restart"].contains(&command.as_str())
        };
        report.problems.extend(self.templates.wrong(&self.ground, start, is_done));
        report.problems.extend(self.ground.leftovers());
        (format!("{command} on {}, {}", start, name(fault)), report)
    }

    /// What the databases are, the product whose migration is aimed at, and the command.
    fn plan(&mut self, aim: Aim) -> (Start, &'static str, String) {
        let product = self.random.pick(&PRODUCTS);
        // Between the two releases, Keto has no migration of its own.
        let start =
            if product == "keto" { Start::Empty } else { self.random.pick(&[Start::Empty, Start::Old]) };
        let own = format!("migrate-{product}");
        let command = self.random.pick(&[own.as_str(), "migrate-all", "up"]).to_string();
        match self.random.below(4) {
            0 | 1 if aim == Aim::Anywhere => (Start::New, product, "restart".into()),
            2 if aim == Aim::Anywhere => (Start::New, product, "up".into()),
            _ => (start, product, command),
        }
    }

    /// Where a command is, in words, and whether that is inside a running migration.
    fn phase(&self, run: &mut Run) -> (String, bool) {
        if run.has_ended() {
            return ("after the end".into(), false);
        }
        match self.ground.migrating() {
            Some(product) => (format!("inside {product}'s migration"), true),
            None => match run.said().lines().last() {
                Some(line) => (format!("after \"{line}\""), false),
                None => ("at its beginning".into(), false),
            },
        }
    }

    /// Commits the fault, and waits for the end of the command.
    fn commit(&mut self, fault: Fault, command: &str, run: Run, report: &mut Report) -> Ended {
        let (_, db) = self.ground.stack.container("db");
        match fault {
            Fault::Signal { name, to_group } => run.signal(name, to_group),
            Fault::KillMigration => {
                for product in PRODUCTS {
                    let name = format!("name={}", self.ground.migration(product));
                    let running = docker(&["ps", "--quiet", "--filter", &name]);
                    running.lines().for_each(|id| drop(docker(&["kill", id])));
                }
            }
            Fault::KillDatabase => drop(docker(&["kill", &db])),
            Fault::PauseDatabase => {
                docker(&["pause", &db]);
                if report.is_inside && self.random.below(2) == 0 {
                    let ended = run.end();
                    report.phase += ", unpaused by the hint";
                    if !ended.hint().starts_with("docker unpause ") {
                        report.problems.push(format!("no hint to unpause: {}", ended.said));
                    }
                    unpause(&mut self.typed(ended.hint()), &db);
                    return ended;
                }
                self.random.wait(6000);
                unpause(Command::new("docker").args(["unpause", &db]), &db);
                self.ground.let_go();
            }
            Fault::EightRuns => {
                let others = [(); 7].map(|()| self.ground.start(command));
                self.ground.let_go();
                let ended = others.map(Run::end);
                let failed = ended.iter().filter(|ended| ended.code != Some(0));
                report.problems.extend(failed.map(|ended| format!("one of eight failed: {}", ended.said)));
            }
        }
        run.end()
    }

    /// Runs the command again; where that isn't enough, what its error names.
    fn converge(&self, command: &str, report: &mut Report) {
        let again = self.ground.run(command);
        if again.code == Some(0) {
            report.converged = "plain re-run".into();
            return;
        }
        say(format!("not by the plain re-run: {}", again.said));
        let hint = again.hint().split(", ").next().unwrap_or_default();
        let may_lose = ["reset", "restore", "--volumes"].iter().any(|word| hint.contains(word));
        if !may_lose
            && !hint.is_empty()
            && outcome(&mut self.typed(hint)).code == Some(0)
            && self.ground.run(command).code == Some(0)
        {
            report.converged = format!("by `{hint}`");
        } else {
            report.converged = "not at all".into();
            report.problems.push(again.said);
        }
    }

    /// A command as it is typed; `repair` asks, and here is nobody to answer.
    fn typed(&self, line: &str) -> Command {
        if let Some(args) = line.strip_prefix("cargo xtask ") {
            let yes = if args.starts_with("repair") { " --yes" } else { "" };
            return self.ground.stack.command(NEW, &format!("{args}{yes}"));
        }
        let mut sh = self.ground.stack.project.command("sh");
        sh.args(["-c", line]);
        sh
    }
}

/// How a command ends that was held in a migration, where it doesn't.
fn wrong_end(fault: Fault, ended: &Ended) -> Option<String> {
    let (code, text) = match fault {
        Fault::Signal { name: "INT", .. } => (130, "interrupted: "),
        Fault::Signal { name: "TERM", .. } => (143, "interrupted: "),
        Fault::EightRuns => (0, ""),
        Fault::KillMigration | Fault::KillDatabase => (1, "error: failed to migrate "),
        Fault::Signal { .. } | Fault::PauseDatabase => return None,
    };
    let is_right = ended.code == Some(code) && ended.said.contains(text);
    (!is_right).then(|| format!("it should end with {code}, {text:?}: {}", ended.said))
}

fn name(fault: Fault) -> String {
    match fault {
        Fault::Signal { name, to_group: true } => format!("SIG{name} to the group"),
        Fault::Signal { name, to_group: false } => format!("SIG{name} to xtask alone"),
        Fault::KillMigration => "docker kill of the migration".into(),
        Fault::KillDatabase => "docker kill of the database".into(),
        Fault::PauseDatabase => "docker pause of the database".into(),
        Fault::EightRuns => "eight runs at once".into(),
    }
}
