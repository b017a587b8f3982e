//! `logs`: what the services print, secrets masked.

use anyhow::{Result, ensure};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, list, listed, switch};
use ory_ops::context::{Context, Options};
use ory_runner::output::Output;

pub struct Logs {
    services: Vec<String>,
    follow: bool,
}

impl Arguments for Logs {
    fn all() -> Vec<Arg> {
        vec![list("SERVICE", "Only these services"), switch("follow", "Go on with what comes").short('f')]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { services: listed(typed, "SERVICE"), follow: typed.get_flag("follow") }
    }
}

pub fn run(options: &Options, args: &Logs) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    cx.stack.services(&args.services)?;
    if cx.stack.services.is_empty() {
        cx.require_products()?;
    }
    let follow = args.follow.then_some("--follow");
    let command =
        cx.engine.compose(["logs", "--no-color"].into_iter().chain(follow)).args(args.services.clone());
    if options.dry_run {
        return Ok(Output::data(command.to_string())?);
    }
    if cx.listed()?.is_empty() {
        cx.out.say("nothing runs yet: {XTASK} up");
        return Ok(());
    }
    let mut is_read = true;
    let shown = command.stream(|line| {
        is_read = line.map_or(Ok(true), Output::is_read)?;
        ensure!(is_read, "nobody reads the logs any more");
        Ok(())
    });
    if is_read { shown } else { Ok(()) }
}
