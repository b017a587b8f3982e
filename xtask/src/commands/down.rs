//! `down`: stop and remove the containers; with `--volumes` the data too, which is asked for first.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, switch, yes};
use crate::plan::{self, Step};
use ory_environment::context::{Context, Options};
use ory_environment::lock;

pub struct Down {
    volumes: bool,
    yes: bool,
}

impl Arguments for Down {
    fn all() -> Vec<Arg> {
        vec![switch("volumes", "Remove the volumes too: this deletes the data"), yes()]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { volumes: typed.get_flag("volumes"), yes: typed.get_flag("yes") }
    }
}

pub fn run(options: &Options, args: &Down) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    let volumes = if args.volumes { cx.engine.volumes(&cx.stack.project)? } else { vec![] };
    let names = volumes.join(", ");
    let asks = !volumes.is_empty() && !options.dry_run;
    let (what, question) = (format!("deletes the data in {names}"), format!("Delete the data in {names}?"));
    let line = "cargo xtask down --volumes --yes";
    if asks && !super::confirm(&cx, args.yes, &what, &question, line)? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    let _lock = lock::acquire(options)?;
    let _project = lock::acquire_project(&cx)?;
    plan::execute(&cx, &[Step::Down { volumes: args.volumes }])?;
    if !options.dry_run {
        let deleted = if volumes.is_empty() { String::new() } else { format!(", {names} deleted") };
        cx.out.say(format!("{}: down{deleted}", cx.stack.project));
    }
    Ok(())
}
