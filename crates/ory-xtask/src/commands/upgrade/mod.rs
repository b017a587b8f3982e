//! `upgrade`: to a newer release, planned, rehearsed on a copy of the data, and back if it fails.

mod arguments;
mod back;
mod perform;
mod report;
mod server;
mod servers;

use std::time::Instant;

use anyhow::{Result, bail};

use self::arguments::{Upgrade, is_tag};
use self::perform::Group;
use self::report::Report;
use crate::arguments::Images;
use crate::plan;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_ops::backup;
use ory_ops::context::{Context, Options};
use ory_ops::image_pin;
use ory_ops::lock::Locked;
use ory_ops::other_images;
use ory_ops::other_tables;
use ory_ops::replace::{replacement, rights};
use ory_ops::upgrade::change::{self, Change};
use ory_ops::upgrade::outlook::{self, Trial};
use ory_ops::upgrade::rehearsal;
use ory_ops::upgrade::space;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, seconds};
use ory_stack::service::Service;

pub fn run(options: &Options, args: &Upgrade) -> Result<()> {
    // A service's name stands for the server that it is.
    if let [name] = &args.products[..]
        && server::is_meant(options, name)?
    {
        let Upgrade { products: _, to, plan, rehearse, no_rehearsal, online, back, finish, yes, json } = args;
        if *rehearse || *no_rehearsal || *online {
            let message = "--rehearse, --no-rehearsal and --online are for products: the database server is always \
                           tried in a copy, and stopped";
            bail!(Failure::new(Exit::Usage, message).hint(args.line("--plan")));
        }
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
    if let Some(release) = args.to.as_deref().filter(|release| !is_tag(release)) {
        let message = format!("`{release}` isn't a release");
        bail!(Failure::new(Exit::Usage, message).hint("name one such as v26.2.0"));
    }
    let cx = super::locked(options, &Images { stand_in: None })?;
    let mut report = Report::new(&cx);
    let ended = upgrade(cx, args, &mut report);
    if !options.dry_run {
        let result = ended.as_ref().map_or_else(|error| report.failure(error), |result| *result);
        report.end(args, result)?;
    }
    ended.map(|_| ())
}

/// How it ended, in a word or two.
fn upgrade(cx: Locked, args: &Upgrade, report: &mut Report) -> Result<&'static str> {
    let (clock, options) = (Instant::now(), cx.options.clone());
    let products = super::products(&cx, &args.products)?;
    if args.back {
        return back::run(cx, &products, args);
    }
    let changes = products.iter().map(|product| change::of(&cx, *product, args.to.as_deref()));
    let mut changes = changes.collect::<Result<Vec<_>>>()?;
    changes.retain(Change::is_one);
    if changes.is_empty() {
        if options.dry_run {
            Output::data("# nothing to upgrade, unless a run was killed")?;
            return Ok(report::NOTHING);
        }
        return perform::finish(cx, &products, args);
    }
    let groups = groups(&cx, changes)?;
    let new = other_images::context(&cx, &groups.iter().flat_map(Group::new_images).into_map())?;
    if options.dry_run {
        groups.iter().try_for_each(|group| perform::print(&cx, &new, group))?;
        return Ok(report::NOTHING);
    }
    pull(&cx, &new, &groups)?;
    look(&cx, &new, &groups, args, report)?;
    if !args.no_rehearsal {
        rehearse(&cx, &new, &groups, args, report)?;
    }
    if args.rehearse {
        return Ok("rehearsed");
    }
    if args.online {
        cx.out.warn("the servers stay up: a way back loses what they write from the backup on");
    }
    let names: Vec<_> = groups.iter().map(Group::in_words).collect();
    let names = names.join("; ");
    let mut question = format!("Upgrade {names}?{}", report.downtime_in_words());
    let dropped = would_drop(&cx, &groups)?;
    if !dropped.is_empty() {
        let dropped = format!("a way back drops what an earlier restore has kept: {dropped}");
        cx.out.warn(&dropped);
        question = format!("{question} If it fails, {dropped}.");
    }
    let what = format!("upgrades {names}");
    if !super::confirm(&cx, args.yes, &what, &question, &args.line("--yes"))? {
        cx.out.say("nothing was changed");
        return Ok(report::NOT_CONFIRMED);
    }
    let began = backup::now();
    groups.iter().try_fold(cx, |cx, group| perform::run(cx, group, args, &began, report))?;
    options.output.say(format!("upgraded in {}", seconds(clock.elapsed())));
    Ok(report::UPGRADED)
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
    let each_can = groups.iter().all(|group| image_pin::edits(cx, &group.new_images()).is_ok());
    if !each_can && groups.len() > 1 {
        let merged = groups.into_iter().reduce(Group::with);
        return Ok(merged.into_iter().collect());
    }
    Ok(groups)
}

/// What the way back would drop, with its rows.
fn would_drop(cx: &Locked, groups: &[Group]) -> Result<String> {
    let mut dropped = vec![];
    for target in groups.iter().map(|group| super::targets(cx, &group.products)) {
        for target in target? {
            dropped.extend(replacement::would_drop(cx, &target)?);
        }
    }
    Ok(dropped.join(", "))
}

/// Brings the images that aren't here: they are asked what they carry, and tried.
fn pull(cx: &Locked, new: &Context, groups: &[Group]) -> Result<()> {
    let names: Vec<String> = groups.iter().flat_map(Group::new_images).map(|(service, _)| service).collect();
    let services: Vec<&Service> = new.stack.services(&names)?;
    plan::execute(cx, &super::images(new, &services)?)
}

/// Plans: says what will come, and fails with what is in the way, or, where only that was asked for, that it is due.
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
        // The way back names the old ones again.
        let images = [group.new_images(), group.old_images()];
        obstacles.extend(images.iter().find_map(|images| image_pin::edits(cx, images).err()));
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
        report.ended_as("blocked");
        return Err(first);
    }
    if args.plan {
        report.ended_as("planned");
        let message = "an upgrade is due";
        bail!(Failure::new(Exit::Pending, message).hint(args.line("").trim_end()));
    }
    Ok(())
}

/// Rehearses each group on a copy of its data.
fn rehearse(cx: &Locked, new: &Context, groups: &[Group], args: &Upgrade, report: &mut Report) -> Result<()> {
    for group in groups {
        let changed: Vec<_> = group.changes.iter().map(|change| change.product).collect();
        for target in super::targets(cx, &group.products)? {
            let of_target = |product: &&Instance| target.deployments.iter().any(|d| d.product == **product);
            let products: Vec<_> = changed.iter().filter(of_target).copied().collect();
            let rehearsed = rehearsal::of(cx, new, &target, &products)
                .map_err(|error| error.context("the rehearsal failed, so nothing was changed"))?;
            report.rehearsal(cx, args, &target, &rehearsed)?;
        }
    }
    Ok(())
}
