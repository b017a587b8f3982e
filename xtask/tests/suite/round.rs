//! A round of faults at random moments: how many, from which seed, which, a line for each, and the totals.
//!
//! XTASK_TEST_FAULTS is how many a suite has, over both generations of Compose. The seed is printed; XTASK_TEST_SEED
//! repeats it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use crate::ground::{Ground, Run, unpause};
use crate::random::Random;
use crate::stack::{Compose, docker};

/// A fault that any command can have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// To the whole group of processes, as a terminal does, or to xtask alone.
    Signal {
        name: &'static str,
        to_group: bool,
    },
    KillDatabase,
    PauseDatabase,
}

pub const FAULTS: [Fault; 8] = [
    Fault::Signal { name: "INT", to_group: true },
    Fault::Signal { name: "INT", to_group: false },
    Fault::Signal { name: "TERM", to_group: true },
    Fault::Signal { name: "TERM", to_group: false },
    Fault::Signal { name: "KILL", to_group: true },
    Fault::Signal { name: "KILL", to_group: false },
    Fault::KillDatabase,
    Fault::PauseDatabase,
];

impl Fault {
    /// Commits it.
    pub fn commit(self, ground: &Ground, run: &Run, random: &mut Random) {
        let (_, db) = ground.stack.container("db");
        match self {
            Self::Signal { name, to_group } => run.signal(name, to_group),
            Self::KillDatabase => drop(docker(&["kill", &db])),
            Self::PauseDatabase => {
                docker(&["pause", &db]);
                random.wait(6000);
                unpause(Command::new("docker").args(["unpause", &db]).stdout(Stdio::null()), &db);
            }
        }
    }

    /// Whether xtask is told of it, and can still put all back.
    pub fn is_polite(self) -> bool {
        matches!(self, Self::Signal { name: "INT" | "TERM", .. })
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Signal { name, to_group: true } => write!(f, "SIG{name} to the group"),
            Self::Signal { name, to_group: false } => write!(f, "SIG{name} to xtask alone"),
            Self::KillDatabase => write!(f, "docker kill of the database"),
            Self::PauseDatabase => write!(f, "docker pause of the database"),
        }
    }
}

/// One fault: where it hit, and what became of it.
#[derive(Default)]
pub struct Report {
    pub phase: String,
    pub is_inside: bool,
    pub ended: String,
    pub converged: String,
    /// What is wrong after it; empty where all is well.
    pub problems: Vec<String>,
}

/// The faults of one suite under one generation of Compose.
pub struct Round {
    compose: Compose,
    pub seed: u64,
    pub count: usize,
    clock: Instant,
    of_fault: Instant,
    inside: &'static str,
    bad: Vec<String>,
    times: Vec<f64>,
    totals: BTreeMap<String, usize>,
}

impl Round {
    /// A share of the faults of a suite, which has so many by default. `inside` is what they are to hit.
    pub fn new(compose: Compose, by_default: u64, shares: usize, inside: &'static str) -> Self {
        let both = setting("XTASK_TEST_FAULTS").unwrap_or(by_default) as usize / shares;
        let count = match compose {
            Compose::V2 => both.div_ceil(2),
            Compose::V1 => both / 2,
        };
        Self::of(compose, count, inside)
    }

    /// A number of them, whatever is set: the few of the first tier.
    pub fn of(compose: Compose, count: usize, inside: &'static str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
        let seed = setting("XTASK_TEST_SEED").unwrap_or(now);
        say(format!("{compose:?}: {count} faults {inside}, XTASK_TEST_SEED={seed} repeats them"));
        let (clock, bad, times, totals) = (Instant::now(), vec![], vec![], BTreeMap::new());
        Self { compose, seed, count, clock, of_fault: clock, inside, bad, times, totals }
    }

    pub fn random(&self) -> Random {
        Random(self.seed ^ if matches!(self.compose, Compose::V2) { 2 } else { 1 })
    }

    /// Another fault begins.
    pub fn begin(&mut self) {
        self.of_fault = Instant::now();
    }

    /// Prints the line of a fault.
    pub fn end(&mut self, what: &str, report: Report) {
        let Report { phase, is_inside, ended, converged, problems } = report;
        let took = self.of_fault.elapsed().as_secs_f64();
        self.times.push(took);
        let (compose, number) = (self.compose, self.times.len());
        let line = format!("{compose:?} {number:3}: {what}; {phase}; {ended}; {converged}; {took:.1} s");
        say(&line);
        for total in [if is_inside { self.inside } else { "outside" }, &converged] {
            *self.totals.entry(total.into()).or_default() += 1;
        }
        if !problems.is_empty() {
            say(format!("  {}", problems.join("\n  ")));
            self.bad.push(format!("{line}\n  {}", problems.join("\n  ")));
        }
    }

    /// Prints the totals. Fails where something was wrong, or too little was tried.
    pub fn finish(mut self) {
        self.times.sort_by(f64::total_cmp);
        let Self { compose, count, seed, totals, bad, .. } = &self;
        let median = self.times.get(self.times.len() / 2).copied().unwrap_or_default();
        let all = self.clock.elapsed().as_secs_f64();
        say(format!("{compose:?}: {count} faults in {all:.0} s, {median:.1} s in the median: {totals:?}"));
        let total = |name| totals.get(name).copied().unwrap_or_default();
        assert!(bad.is_empty(), "seed {seed}:\n{}", bad.join("\n"));
        assert!(total(self.inside) * 2 >= *count, "too few were {}: {totals:?}", self.inside);
        assert!(
            total("plain re-run") * 100 >= count * 98,
            "too few converged by the plain re-run: {totals:?}"
        );
    }
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Prints a line that no test runner holds back.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
