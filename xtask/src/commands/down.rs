//! `down`: stop and remove the containers; with `--volumes` the data too, which is asked for first.

use std::io::IsTerminal;

use anyhow::{Result, bail};

use crate::cli::Down;
use crate::plan::{self, Step};
use ory_environment::context::{Context, Options};
use ory_environment::lock;
use xtask_runner::failure::{Exit, Failure};

pub fn run(options: &Options, args: &Down) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    let volumes = if args.volumes { cx.engine.volumes(&cx.stack.project)? } else { vec![] };
    if !volumes.is_empty() && !args.yes && !options.dry_run && !confirm(&cx, &volumes)? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    let _lock = lock::acquire(options)?;
    let _project = lock::acquire_project(&cx)?;
    plan::execute(&cx, &[Step::Down { volumes: args.volumes }])?;
    if !options.dry_run {
        let deleted =
            if volumes.is_empty() { String::new() } else { format!(", {} deleted", volumes.join(", ")) };
        cx.out.say(format!("{}: down{deleted}", cx.stack.project));
    }
    Ok(())
}

fn confirm(cx: &Context, volumes: &[String]) -> Result<bool> {
    let volumes = volumes.join(", ");
    if !std::io::stdin().is_terminal() {
        let message = format!("this deletes the data in {volumes}, and there is no terminal to ask on");
        bail!(Failure::new(Exit::Usage, message).hint("cargo xtask down --volumes --yes"));
    }
    cx.out.ask(&format!("Delete the data in {volumes}?"), &cx.options.interrupt)
}
