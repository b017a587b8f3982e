//! `logs`: what the services print, secrets masked.

use anyhow::Result;

use crate::cli::Logs;
use ory_environment::context::{Context, Options};
use xtask_runner::output::Output;

pub fn run(options: &Options, args: &Logs) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    cx.stack.services(&args.services)?;
    let follow = args.follow.then_some("--follow");
    let command =
        cx.engine.compose(["logs", "--no-color"].into_iter().chain(follow)).args(args.services.clone());
    if options.dry_run {
        return Ok(Output::data(command.to_string())?);
    }
    if cx.listed()?.is_empty() {
        cx.out.say("nothing runs yet: cargo xtask up");
        return Ok(());
    }
    let command = command.until(&options.interrupt, None);
    command.stream(&cx.secrets, |line| line.map_or(Ok(()), |line| Ok(Output::data(line)?)))
}
