//! `down`: stop and remove the containers; with `--volumes` the data too. Data that would go is asked for first, and what
//! isn't Compose's to remove is named.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, switch, yes};
use crate::plan::{self, Step};
use ory_facts::next::XTASK;
use ory_ops::context::{Context, Options};
use ory_ops::external_data;
use ory_ops::lock::FolderLock;
use ory_ops::server_upgrade::kept;
use ory_ops::snapshot;
use ory_ops::target;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};
use ory_stack::container::{self, Container, Listed};
use ory_stack::stack::Deployment;

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
    let unkept = if options.dry_run { vec![] } else { unkept(&cx)? };
    let lost = volumes.iter().cloned().chain(unkept).collect::<Vec<_>>().join(", ");
    let asks = !lost.is_empty() && !options.dry_run;
    let (what, question) = (format!("deletes the data in {lost}"), format!("Delete the data in {lost}?"));
    let line = format!("{XTASK} down{} --yes", if args.volumes { " --volumes" } else { "" });
    if asks && !super::confirm(&cx, args.yes, &what, &question, &line)? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    let cx = FolderLock::take(options)?.and_project(cx)?;
    // Compose leaves alone what no active profile has.
    let is_inactive = |container: &Listed| !cx.stack.services.contains_key(&container.service);
    let every = !cx.engine.is_v1 && cx.listed()?.iter().any(is_inactive);
    plan::execute(&cx, &[Step::Down { volumes: args.volumes, every }])?;
    if !options.dry_run {
        refuse_leftovers(&cx)?;
        let deleted = (!lost.is_empty()).then(|| format!("{lost} deleted"));
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
        external_data::places(cx, &volumes)?.into_iter().partition(|place| place.is_removed);
    volumes.extend(taken.into_iter().map(|place| place.name));
    let kept = kept::volumes(cx)?.into_iter().map(|name| format!("the volume {name} of an upgrade"));
    let left: Vec<_> = left.iter().map(|place| format!("the {place}")).chain(kept).collect();
    Ok(Data {
        volumes,
        stays: (!left.is_empty()).then(|| format!("the data in {} stays", left.join(" and "))),
    })
}

/// The databases that no volume with a name keeps, each with what is in it.
fn unkept(cx: &Context) -> Result<Vec<String>> {
    let servers = cx.stack.servers();
    // An image made from PostgreSQL's may be anything else, as a stand-in.
    let is_ory = |name: &str| cx.stack.services.get(name).is_some_and(|s| cx.stack.product_of(s).is_some());
    let is_server = |container: &Container| {
        let is_known = servers.iter().any(|server| server.name == container.service);
        is_known || container.is_postgres && !is_ory(&container.service)
    };
    let containers = cx.containers()?.into_iter().filter(|c| is_server(c) && c.data.is_lost());
    let words = |container: Container| {
        let place = match container.data {
            container::Data::Nameless => "a volume without a name",
            _ => "its container alone",
        };
        format!("{} ({place}: {})", container.service, held(cx, &container))
    };
    Ok(containers.map(words).collect())
}

/// What the databases of a server hold, in words.
fn held(cx: &Context, container: &Container) -> String {
    if !container.is_running() {
        return "it doesn't run, so its rows aren't counted".into();
    }
    let is_on = |d: &Deployment| d.server.is_some_and(|server| server.name == container.service);
    let products: Vec<_> = cx.stack.readable().filter(is_on).map(|d| d.product).collect();
    let targets = target::located(cx, &products).unwrap_or_default();
    let each = targets.iter().map(|target| match snapshot::contents(cx, target, target.database()) {
        Ok(held) => format!("{} has {}", target.names(", "), counted(held.total() as usize, "row")),
        Err(_) => format!("the rows of {} can't be counted", target.names(", ")),
    });
    let each: Vec<_> = each.collect();
    if each.is_empty() { "its rows can't be counted".into() } else { each.join(", ") }
}

/// Fails where a container of the project goes on.
fn refuse_leftovers(cx: &Context) -> Result<()> {
    let left: Vec<_> = cx.listed()?.into_iter().filter(Listed::is_running).map(|c| c.name).collect();
    if left.is_empty() {
        return Ok(());
    }
    let names = left.join(", ");
    let message = format!("{names}: still running, but not, or no longer, in the stack");
    let hint = cx.engine.compose(["down", "--remove-orphans"]).to_string();
    bail!(Failure::new(Exit::Failed, message).hint(hint))
}
