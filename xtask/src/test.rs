//! `test`: the tests of this repository in two tiers, those on a real engine among them.

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use ory_facts::next::XTASK;
use ory_ops::context::{Context, Options};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};
use ory_runner::process::Invocation;
use ory_xtask::arguments::{Arguments, switch};
use ory_xtask::install::{self, Install, Need};
use ory_xtask::stand_in;

use crate::generation::{COMPOSE_V1, COMPOSE_V2};
use crate::leftovers;

/// The releases that the tests update between.
const RELEASES: [&str; 2] = ["v25.4.0", "v26.2.0"];

/// The names of the modules with tests of the second tier end so, and those with tests under docker-compose 1.29 begin so:
/// see `tests/suite/tiers.rs`.
const SECOND_TIER: &str = "_full::";
const UNDER_V1: &str = "::compose_v1";

/// What can be typed.
pub fn command() -> Command {
    let filter = Arg::new("FILTER").value_name("FILTER").help("Only the tests whose name contains this");
    Command::new("test")
        .about("Run the tests of xtask, with all that they need")
        .arg(filter.num_args(1..).action(ArgAction::Append))
        .arg(switch("full", "Run every test, and not only the first tier"))
        .arg(switch(
            "no-compose-v1",
            "Leave out what runs under docker-compose 1.29, where that can't be had",
        ))
        .args(Install::all())
}

/// Which tests are asked for.
struct Tests {
    filter: Vec<String>,
    is_full: bool,
    has_v1: bool,
}

/// How many of the tests that a filter leaves run, and how many don't.
#[derive(Debug, Default, PartialEq)]
struct Count {
    run: usize,
    second_tier: usize,
    under_v1: usize,
}

impl Tests {
    fn read(typed: &ArgMatches) -> Self {
        let filter = typed.get_many("FILTER").into_iter().flatten().cloned().collect();
        let (is_full, has_v1) = (typed.get_flag("full"), !typed.get_flag("no-compose-v1"));
        Self { filter, is_full, has_v1 }
    }

    /// A call of the test programs.
    fn cargo(&self, args: &[&str]) -> Invocation {
        let locked = std::env::var_os("CI").is_some().then_some("--locked");
        let command = Invocation::new("cargo", crate::root());
        command.args(["test", "--profile", "xtask", "--workspace"]).args(locked).args(args.iter().copied())
    }

    /// What runs them: all, whatever fails.
    fn command(&self) -> Invocation {
        // They wait for containers as long as they compute.
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get()) + 1;
        let threads = format!("--test-threads={threads}");
        let skip = [(SECOND_TIER, self.is_full), (UNDER_V1, self.has_v1)];
        let skip = skip.into_iter().filter(|(_, runs)| !runs).flat_map(|(name, _)| ["--skip", name]);
        let all = ["--no-fail-fast", "--", "--include-ignored", &threads];
        self.cargo(&all).args(skip).args(self.filter.clone())
    }

    /// The error where a filter leaves none.
    fn none(&self, count: &Count) -> Failure {
        let filter = self.filter.join(" ");
        let none = Failure::new(Exit::Usage, format!("no test is called `{filter}` here"));
        match count.second_tier {
            0 => none,
            _ => none.hint(format!("{XTASK} test --full {filter}")),
        }
    }

    /// How many there are, once they are built.
    fn count(&self) -> Result<Count> {
        let list = self.cargo(&["--quiet", "--", "--include-ignored", "--list"]).args(self.filter.clone());
        Ok(self.counted(&list.read()?))
    }

    /// The same of what the test programs list.
    fn counted(&self, list: &str) -> Count {
        let mut count = Count::default();
        for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
            if !self.has_v1 && name.contains(UNDER_V1) {
                count.under_v1 += 1;
            } else if !self.is_full && name.contains(SECOND_TIER) {
                count.second_tier += 1;
            } else {
                count.run += 1;
            }
        }
        count
    }
}

impl Count {
    /// What ran and what was left out: nobody shall take the first tier for all.
    fn in_words(&self) -> String {
        let mut text = format!("that was {}", counted(self.run, "test"));
        if self.second_tier > 0 {
            text += &format!(", the first tier; --full has {} more", self.second_tier);
        }
        if self.under_v1 > 0 {
            let left_out = counted(self.under_v1, "test");
            text += &format!("; not run: {left_out} under docker-compose 1.29 (--no-compose-v1)");
        }
        text
    }
}

pub fn run(options: &Options, typed: &ArgMatches) -> Result<()> {
    let tests = Tests::read(typed);
    let is_real = std::env::var("XTASK_TEST_IMAGES").is_ok_and(|images| images == "real");
    let need = Need { stand_ins: !is_real, both_composes: true };
    install::engine(options, &Install::read(typed), &need)?;
    if options.dry_run {
        return Ok(Output::data(tests.command().to_string())?);
    }
    COMPOSE_V2.require(crate::root())?;
    if tests.has_v1 {
        COMPOSE_V1.require(crate::root())?;
    }
    if is_real {
        options.output.say("testing on Ory's own images");
    } else {
        options.output.say("testing on stand-ins for Ory's images (XTASK_TEST_IMAGES=real takes Ory's)");
        build_stand_ins(options)?;
    }
    leftovers::remove(options, crate::root())?;
    let ended = tests.command().inherit();
    // What doesn't compile can't be counted.
    let Ok(count) = tests.count() else { return ended };
    if count.run == 0 {
        bail!(tests.none(&count));
    }
    options.output.say(count.in_words());
    ended
}

/// Built once and before, as the tests run side by side.
fn build_stand_ins(options: &Options) -> Result<()> {
    let options = Options { directory: Some(crate::root().into()), ..options.clone() };
    let cx = Context::with_placeholders(&options, vec![])?;
    RELEASES.iter().try_for_each(|release| stand_in::build(&cx, release).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "swap::tests::a_name: test\nend_to_end::compose_v2::up: test\nend_to_end::compose_v1::up: test\n\
                        adoption::compose_v1_full::up: test\nadoption::compose_v2_full::up: test\n\
                        split::once_full::a: test\n\n6 tests, 0 benchmarks\n";

    fn tests(is_full: bool, has_v1: bool) -> Tests {
        Tests { filter: vec!["up".into()], is_full, has_v1 }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let count = |is_full, has_v1| {
            let Count { run, second_tier, under_v1 } = tests(is_full, has_v1).counted(LIST);
            [run, second_tier, under_v1]
        };
        assert_eq!(count(false, true), [3, 3, 0]);
        assert_eq!(count(true, true), [6, 0, 0]);
        assert_eq!(count(false, false), [2, 2, 2]);
        assert_eq!(count(true, false), [4, 0, 2]);
        let words = |is_full, has_v1| tests(is_full, has_v1).counted(LIST).in_words();
        assert_eq!(words(true, true), "that was 6 tests");
        assert_eq!(words(false, true), "that was 3 tests, the first tier; --full has 3 more");
        let without_v1 = "; not run: 2 tests under docker-compose 1.29 (--no-compose-v1)";
        assert_eq!(words(true, false), format!("that was 4 tests{without_v1}"));
    }

    #[test]
    fn what_is_left_out_is_skipped() {
        let args = |is_full, has_v1| {
            let command = tests(is_full, has_v1).command().to_string();
            let (_, args) = command.split_once("--test-threads=").expect("arguments");
            args.split_once(' ').expect("a number").1.to_string()
        };
        assert_eq!(args(true, true), "up");
        assert_eq!(args(false, true), "--skip _full:: up");
        assert_eq!(args(false, false), "--skip _full:: --skip ::compose_v1 up");
    }
}
