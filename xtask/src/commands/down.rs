//! `down`: stop and remove the containers; with `--volumes` the data too, which is asked for first. What isn't Compose's to
//! remove is named.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, switch, yes};
use crate::plan::{self, Step};
use ory_environment::context::{Context, Options};
use ory_environment::lock;
use ory_environment::outside;
use xtask_runner::output::Output;

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
    let Data { volumes, stays } = if args.volumes { data(&cx)? } else { Data::default() };
    if let Some(stays) = &stays {
        match options.dry_run {
            true => Output::data(format!("# {stays}"))?,
            false => cx.out.warn(format!("{stays}: it is not Compose's to remove")),
        }
    }
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
        let deleted = (!volumes.is_empty()).then(|| format!("{names} deleted"));
        let told = [Some("down".to_string()), deleted, stays].into_iter().flatten().collect::<Vec<_>>();
        cx.out.say(format!("{}: {}", cx.stack.project, told.join(", ")));
    }
    Ok(())
}

/// What becomes of the data.
#[derive(Default)]
struct Data {
    /// The volumes that go.
    volumes: Vec<String>,
    /// What stays, in words.
    stays: Option<String>,
}

fn data(cx: &Context) -> Result<Data> {
    let mut volumes = cx.engine.volumes(&cx.stack.project)?;
    let (taken, left): (Vec<_>, Vec<_>) =
        outside::places(cx, &volumes)?.into_iter().partition(|place| place.is_removed);
    volumes.extend(taken.into_iter().map(|place| place.name));
    let left: Vec<_> = left.iter().map(|place| format!("the {place}")).collect();
    Ok(Data {
        volumes,
        stays: (!left.is_empty()).then(|| format!("the data in {} stays", left.join(" and "))),
    })
}
