//! `test`: every test of this repository, those on a real engine among them.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

use ory_ops::context::{Context, Options};
use ory_runner::output::Output;
use ory_runner::process::Invocation;
use ory_xtask::arguments::Arguments;
use ory_xtask::install::{self, Install, Need};
use ory_xtask::stand_in;

/// The releases that the tests update between.
const RELEASES: [&str; 2] = ["v25.4.0", "v26.2.0"];

/// What can be typed.
pub fn command() -> Command {
    let filter = Arg::new("FILTER").value_name("FILTER").help("Only the tests whose name contains this");
    Command::new("test")
        .about("Run every test of xtask, with all that they need")
        .arg(filter.num_args(1..).action(ArgAction::Append))
        .args(Install::all())
}

pub fn run(options: &Options, typed: &ArgMatches) -> Result<()> {
    let root = crate::root();
    let locked = std::env::var_os("CI").is_some().then_some("--locked");
    let filter: Vec<String> = typed.get_many("FILTER").into_iter().flatten().cloned().collect();
    let command = Invocation::new("cargo", root)
        .args(["test", "--profile", "xtask", "--workspace"])
        .args(locked)
        .args(["--", "--include-ignored"])
        .args(filter);
    let is_real = std::env::var("XTASK_TEST_IMAGES").is_ok_and(|images| images == "real");
    let need = Need { stand_ins: !is_real, both_composes: true };
    install::engine(options, &Install::read(typed), &need)?;
    if options.dry_run {
        return Ok(Output::data(command.to_string())?);
    }
    if is_real {
        options.output.say("testing on Ory's own images");
    } else {
        options.output.say("testing on stand-ins for Ory's images (XTASK_TEST_IMAGES=real takes Ory's)");
        // Built once and before, as the tests run side by side.
        let options = Options { directory: Some(root.into()), ..options.clone() };
        let cx = Context::with_placeholders(&options, vec![])?;
        RELEASES.iter().try_for_each(|release| stand_in::build(&cx, release).map(|_| ()))?;
    }
    command.inherit()
}
