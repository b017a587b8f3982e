//! `upgrade`: to a newer release, planned, rehearsed on a copy of the data, and back if it fails.

mod back;
mod perform;
mod report;
mod server;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use self::perform::Group;
use self::report::Report;
use crate::arguments::{Arguments, Images, listed, option, products, switch, yes};
use crate::plan;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_ops::backup;
use ory_ops::context::{Context, Options};
use ory_ops::image_pin;
use ory_ops::lock::Locked;
use ory_ops::other_images;
use ory_ops::other_tables;
use ory_ops::replace::rights;
use ory_ops::upgrade::change::{self, Change};
use ory_ops::upgrade::outlook::{self, Trial};
use ory_ops::upgrade::rehearsal;
use ory_ops::upgrade::space;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, seconds};
use ory_stack::service::Service;

pub struct Upgrade {
    products: Vec<String>,
    to: Option<String>,
    plan: bool,
    rehearse: bool,
    no_rehearsal: bool,
    online: bool,
    back: bool,
    finish: bool,
    yes: bool,
    json: bool,
}

impl Arguments for Upgrade {
    fn all() -> Vec<Arg> {
        vec![
            products("Only these products, or `db`, PostgreSQL's own major [default: all products]"),
            option("to", "RELEASE", "The release, or PostgreSQL's major [default: what the stack names]")
                .value_parser(tag),
            switch("plan", "Only say what would be done, and what is in the way"),
            switch("rehearse", "Only plan it, and rehearse it on a copy of the data"),
            switch("no-rehearsal", "Don't rehearse it").conflicts_with("rehearse"),
            switch("online", "Leave the servers up: a way back loses what they write meanwhile"),
            switch("back", "Go back to what was there before the last upgrade")
                .conflicts_with_all(["to", "plan", "rehearse", "online"]),
            switch("finish", "With `db`: delete the volume that was kept"),
            yes(),
            switch("json", "Print one JSON document"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            products: listed(typed, "PRODUCT"),
            to: typed.get_one("to").cloned(),
            plan: typed.get_flag("plan"),
            rehearse: typed.get_flag("rehearse"),
            no_rehearsal: typed.get_flag("no-rehearsal"),
            online: typed.get_flag("online"),
            back: typed.get_flag("back"),
            finish: typed.get_flag("finish"),
            yes: typed.get_flag("yes"),
            json: typed.get_flag("json"),
        }
    }
}

/// A tag of an image, which goes into files of the stack.
fn tag(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_tag = !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain);
    is_tag.then(|| text.to_string()).ok_or_else(|| "it isn't a release such as v26.2.0".to_string())
}

impl Upgrade {
    /// Whether nothing is to be changed.
    fn only_looks(&self) -> bool {
        self.plan || self.rehearse
    }

    /// The command line as it was typed, with these flags.
    fn line(&self, flags: &str) -> String {
        let products = self.products.iter().map(|product| format!(" {product}")).collect::<String>();
        let to = self.to.iter().map(|release| format!(" --to {release}")).collect::<String>();
        format!("{XTASK} upgrade{products}{to} {flags}")
    }
}

pub fn run(options: &Options, args: &Upgrade) -> Result<()> {
    // A service's name stands for the server that it is.
    if let [name] = &args.products[..]
        && server::is_meant(options, name)?
    {
        let Upgrade { to, plan, back, finish, yes, json, .. } = args;
        let asked = server::Asked {
            server: name,
            to: to.as_deref(),
            plan: *plan,
            back: *back,
            finish: *finish,
            yes: *yes,
            json: *json,
        };
        return server::run(options, &asked);
    }
    if args.finish {
        bail!(Failure::new(Exit::Usage, "--finish is for `db` alone").hint("{XTASK} upgrade db --finish"));
    }
    let clock = Instant::now();
    let cx = super::locked(options, &Images { stand_in: None })?;
    let products = super::products(&cx, &args.products)?;
    if args.back {
        return back::run(cx, &products, args);
    }
    let changes = products.iter().map(|product| change::of(&cx, *product, args.to.as_deref()));
    let mut changes = changes.collect::<Result<Vec<_>>>()?;
    changes.retain(Change::is_one);
    if changes.is_empty() && !options.dry_run {
        return perform::finish(cx, &products, args);
    }
    let groups = groups(&cx, changes)?;
    let new = other_images::context(&cx, &groups.iter().flat_map(Group::new_images).collect())?;
    let mut report = Report::new(&cx);
    if options.dry_run {
        return groups.iter().try_for_each(|group| perform::print(&cx, &new, group));
    }
    pull(&cx, &new, &groups)?;
    look(&cx, &new, &groups, args, &mut report)?;
    if !args.plan && !args.no_rehearsal {
        rehearse(&cx, &new, &groups, &mut report)?;
    }
    if args.only_looks() {
        return report.end(args, if args.plan { "planned" } else { "rehearsed" });
    }
    if args.online {
        cx.out.warn("the servers stay up: a way back loses what they write from the backup on");
    }
    let names: Vec<_> = groups.iter().map(Group::in_words).collect();
    let names = names.join("; ");
    let question = format!("Upgrade {names}?{}", report.downtime_in_words());
    let what = format!("upgrades {names}");
    if !super::confirm(&cx, args.yes, &what, &question, &args.line("--yes"))? {
        cx.out.say("nothing was changed");
        return Ok(());
    }
    let began = backup::now();
    let done = groups.iter().try_fold(cx, |cx, group| perform::run(cx, group, args, &began, &mut report));
    match done {
        Ok(_) => {
            options.output.say(format!("upgraded in {}", seconds(clock.elapsed())));
            report.end(args, "upgraded")
        }
        Err(error) => {
            report.end(args, "failed")?;
            Err(error)
        }
    }
}

/// What is upgraded at once: what is in one database, as a way back restores all that is in it.
fn groups(cx: &Locked, mut changes: Vec<Change>) -> Result<Vec<Group>> {
    let products: Vec<Instance> = changes.iter().map(|change| change.product).collect();
    let mut groups: Vec<Group> = vec![];
    for target in super::targets(cx, &products)? {
        let all: Vec<_> = target.deployments.iter().map(|deployment| deployment.product).collect();
        let (own, rest) = changes.into_iter().partition(|change: &Change| all.contains(&change.product));
        changes = rest;
        let others = other_tables::at_first_sight(cx, &target)?;
        groups.push(Group {
            changes: own,
            products: all,
            others: others.into_iter().map(|(name, _)| name).collect(),
        });
    }
    // One variable can name the images of several products.
    let each_can = groups.iter().all(|group| image_pin::edits(cx, &group.new_images().collect()).is_ok());
    if !each_can && groups.len() > 1 {
        let merged = groups.into_iter().reduce(Group::with);
        return Ok(merged.into_iter().collect());
    }
    Ok(groups)
}

/// Brings the images that aren't here: they are asked what they carry, and tried.
fn pull(cx: &Locked, new: &Context, groups: &[Group]) -> Result<()> {
    let names: Vec<String> = groups.iter().flat_map(Group::new_images).map(|(service, _)| service).collect();
    let services: Vec<&Service> = new.stack.services(&names)?;
    plan::execute(cx, &super::images(new, &services)?)
}

/// Plans: says what will come, and fails with what is in the way.
fn look(cx: &Locked, new: &Context, groups: &[Group], args: &Upgrade, report: &mut Report) -> Result<()> {
    let mut obstacles: Vec<anyhow::Error> = vec![];
    for group in groups {
        for change in &group.changes {
            let Some(deployment) = new.stack.deployment(change.product)? else { continue };
            let outlook = outlook::of(cx, new, change, &deployment)?;
            report.plan(cx, args, change, &outlook)?;
            if let Trial::Refused(error) = outlook.configuration {
                let message =
                    format!("{}'s new server doesn't start with this configuration", change.product);
                obstacles.push(error.context(message));
            }
        }
        if !group.others.is_empty() {
            let message = format!(
                "the database of {} has tables of others, which a way back would take along: {}",
                group.in_words(),
                group.others.join(", ")
            );
            let hint = format!("{XTASK} split, or give them a database of their own");
            obstacles.push(Failure::new(Exit::Failed, message).hint(hint).into());
        }
        if let Err(error) = image_pin::edits(cx, &group.new_images().collect()) {
            obstacles.push(error);
        }
        for target in super::targets(cx, &group.products)? {
            if let Some(missing) = rights::missing(cx, &target)? {
                let hint = "without it there is no way back: have it granted, then run this again";
                obstacles.push(Failure::new(Exit::Failed, missing).hint(hint).into());
            }
            if let Some(full) = space::missing(cx, &target)? {
                let hint = "free some space, or name another folder for backups: a link from backups/";
                obstacles.push(Failure::new(Exit::Failed, full).hint(hint).into());
            }
        }
    }
    let mut obstacles = obstacles.into_iter();
    if let Some(first) = obstacles.next() {
        for other in obstacles {
            cx.out.warn(format!("{other:#}"));
        }
        report.end(args, "blocked")?;
        return Err(first);
    }
    if args.plan {
        report.end(args, "planned")?;
        let message = "an upgrade is due";
        bail!(Failure::new(Exit::Pending, message).hint(args.line("").trim_end()));
    }
    Ok(())
}

/// Rehearses each group on a copy of its data.
fn rehearse(cx: &Locked, new: &Context, groups: &[Group], report: &mut Report) -> Result<()> {
    for group in groups {
        let changed: Vec<_> = group.changes.iter().map(|change| change.product).collect();
        for target in super::targets(cx, &group.products)? {
            let of_target = |product: &&Instance| target.deployments.iter().any(|d| d.product == **product);
            let products: Vec<_> = changed.iter().filter(of_target).copied().collect();
            let rehearsed = rehearsal::of(cx, new, &target, &products)
                .map_err(|error| error.context("the rehearsal failed, so nothing was changed"))?;
            report.rehearsal(cx, &target, rehearsed);
        }
    }
    Ok(())
}

/// A line of a plan: data where the plan is what was asked for, else talk.
fn tell(cx: &Context, args: &Upgrade, line: String) -> Result<()> {
    if args.only_looks() && !args.json {
        return Ok(Output::data(line)?);
    }
    cx.out.say(line);
    Ok(())
}
