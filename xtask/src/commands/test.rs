//! `test`: every test of xtask, those on a real engine among them.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Install, list, listed};
use crate::install::{self, Need};
use crate::stand_in;
use ory_environment::context::{Context, Options, workspace_root};
use xtask_runner::output::Output;
use xtask_runner::process::Invocation;

/// The crates of this tool, beside which a workspace has its own.
const CRATES: [&str; 5] = ["xtask", "ory-environment", "ory-facts", "ory-stack", "xtask-runner"];

/// The releases that the tests update between.
const RELEASES: [&str; 2] = ["v25.4.0", "v26.2.0"];

pub struct Test {
    filter: Vec<String>,
    install: Install,
}

impl Arguments for Test {
    fn all() -> Vec<Arg> {
        [vec![list("FILTER", "Only the tests whose name contains this")], Install::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { filter: listed(typed, "FILTER"), install: Install::read(typed) }
    }
}

pub fn run(options: &Options, args: &Test) -> Result<()> {
    let root = workspace_root()?;
    let locked = std::env::var_os("CI").is_some().then_some("--locked");
    let command = Invocation::new("cargo", &root)
        .args(["test", "--profile", "xtask"])
        .args(CRATES.iter().flat_map(|name| ["--package", name]))
        .args(locked)
        .args(["--", "--include-ignored"])
        .args(args.filter.clone());
    let is_real = std::env::var("XTASK_TEST_IMAGES").is_ok_and(|images| images == "real");
    if args.install.install_docker {
        let need = Need { stand_ins: !is_real, both_composes: true };
        install::engine(options, args.install.yes, &need)?;
    }
    if options.dry_run {
        return Ok(Output::data(command.to_string())?);
    }
    if is_real {
        options.output.say("testing on Ory's own images");
    } else {
        options.output.say("testing on stand-ins for Ory's images (XTASK_TEST_IMAGES=real takes Ory's)");
        // Built once and before, as the tests run side by side.
        let options = Options { directory: Some(root), ..options.clone() };
        let cx = Context::with_placeholders(&options, vec![])?;
        RELEASES.iter().try_for_each(|release| stand_in::build(&cx, release).map(|_| ()))?;
    }
    command.inherit()
}
