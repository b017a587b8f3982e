//! The servers of what is upgraded: which ones are to run, and starting them as the stack says.

use std::time::Instant;

use anyhow::Result;
use ory_facts::instance::Instance;
use ory_ops::context::Context;
use ory_ops::diagnosis;
use ory_ops::lock::Locked;
use ory_ops::readiness;
use ory_ops::services;
use ory_runner::output::seconds;

/// The services that are to run afterwards: those that run, or that a run has left stopped.
pub fn running(cx: &Context, products: &[Instance]) -> Result<Vec<String>> {
    let mut names: Vec<_> =
        services::serving(cx, products)?.into_iter().map(|container| container.service).collect();
    names.dedup();
    Ok(names)
}

/// Starts services as the stack says, and waits until they are ready.
pub fn start(cx: &Locked, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let clock = Instant::now();
    let make = cx.engine.compose(["up", "-d"].into_iter().chain(names.iter().copied()));
    cx.run_logged("start", &make).map_err(diagnosis::of_engine)?;
    services::forget_stopped(cx, &names)?;
    readiness::wait(cx, &names, clock)?;
    cx.out.say(format!("{}: ready ({})", names.join(", "), seconds(clock.elapsed())));
    Ok(())
}
