//! Faults at random moments of `migrate-*`, `up` and `restart`: after each, the same command run again ends well,
//! nothing is lost and nothing is left behind.

use std::process::Command;

use crate::ground::{Ended, Ground, PRODUCTS, Run, unpause};
use crate::project::outcome;
use crate::random::Random;
use crate::round::{self, Report, Round, say};
use crate::stack::{Compose, NEW, docker};
use crate::templates::{Start, Templates, remove_services};
use crate::tiers::{scenarios, scenarios_once};

scenarios_once! {
    first: [
        a_few_faults_are_mended_by_the_same_command_run_again
    ]
}

scenarios! {
    full: [
        a_fault_at_any_moment_is_mended_by_the_same_command_run_again
    ]
}

/// What the faults are to hit.
const INSIDE: &str = "inside a migration";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Any(round::Fault),
    KillMigration,
    EightRuns,
}

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

/// What faults are tried on.
struct Bench {
    ground: Ground,
    random: Random,
    templates: Templates,
    /// Each time without databases: XTASK_TEST_START=nothing.
    from_nothing: bool,
}

fn a_few_faults_are_mended_by_the_same_command_run_again(compose: Compose) {
    try_all(compose, Round::of(compose, 4, INSIDE));
}

fn a_fault_at_any_moment_is_mended_by_the_same_command_run_again(compose: Compose) {
    try_all(compose, Round::new(compose, 20, 1, INSIDE));
}

fn try_all(compose: Compose, mut round: Round) {
    let ground = Ground::new(compose);
    let templates = Templates::new(&ground);
    let from_nothing = std::env::var("XTASK_TEST_START").is_ok_and(|start| start == "nothing");
    let mut bench = Bench { ground, templates, random: round.random(), from_nothing };
    let all = [&round::FAULTS.map(Fault::Any)[..], &[Fault::KillMigration, Fault::EightRuns]].concat();
    let mut left = vec![];
    for number in 0..round.count {
        let fault = bench.random.draw(&mut left, &all);
        round.begin();
        let (what, report) = bench.try_one(fault, AIMS[number % AIMS.len()]);
        round.end(&what, report);
    }
    round.finish();
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
        report.ended = ended.in_words();
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
        if self.from_nothing || self.random.below(4) == 0 {
            return (Start::Nothing, product, self.random.pick(&["migrate-all", "up"]).to_string());
        }
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
        match self.ground.migrating().filter(|_| !run.has_ended()) {
            Some(product) => (format!("inside {product}'s migration"), true),
            None => (run.phase(), false),
        }
    }

    /// Commits the fault, and waits for the end of the command.
    fn commit(&mut self, fault: Fault, command: &str, run: Run, report: &mut Report) -> Ended {
        let (_, db) = self.ground.stack.container("db");
        match fault {
            Fault::KillMigration => {
                for product in PRODUCTS {
                    let name = format!("name={}", self.ground.migration(product));
                    let running = docker(&["ps", "--quiet", "--filter", &name]);
                    running.lines().for_each(|id| drop(docker(&["kill", id])));
                }
            }
            Fault::Any(round::Fault::PauseDatabase) if report.is_inside && self.random.below(2) == 0 => {
                docker(&["pause", &db]);
                let ended = run.end();
                report.phase += ", unpaused by the hint";
                if !ended.hint().starts_with("docker unpause ") {
                    report.problems.push(format!("no hint to unpause: {}", ended.said));
                }
                unpause(&mut self.typed(ended.hint()), &db);
                return ended;
            }
            Fault::Any(fault) => {
                fault.commit(&self.ground, &run, &mut self.random);
                if fault == round::Fault::PauseDatabase {
                    self.ground.let_go();
                }
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
        Fault::Any(round::Fault::Signal { name: "INT", .. }) => (130, "interrupted: "),
        Fault::Any(round::Fault::Signal { name: "TERM", .. }) => (143, "interrupted: "),
        Fault::EightRuns => (0, ""),
        Fault::KillMigration | Fault::Any(round::Fault::KillDatabase) => (1, "error: failed to migrate "),
        Fault::Any(_) => return None,
    };
    let is_right = ended.code == Some(code) && ended.said.contains(text);
    (!is_right).then(|| format!("it should end with {code}, {text:?}: {}", ended.said))
}

fn name(fault: Fault) -> String {
    match fault {
        Fault::Any(fault) => fault.to_string(),
        Fault::KillMigration => "docker kill of the migration".into(),
        Fault::EightRuns => "eight runs at once".into(),
    }
}
