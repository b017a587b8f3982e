//! The upgrade itself, of what is in one database: stop, back up, name the new image, migrate, start, read. Whatever fails, it
//! goes back.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::arguments::Upgrade;
use super::back;
use super::report::{self, Report};
use super::servers::{running, start};
use crate::backup_step;
use crate::plan;
use ory_facts::instance::Instance;
use ory_facts::manifest::Upgraded;
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_ops::backup::Backup;
use ory_ops::context::Context;
use ory_ops::diagnosis;
use ory_ops::image_pin::{self, Images};
use ory_ops::left_behind;
use ory_ops::lock::Locked;
use ory_ops::migrations;
use ory_ops::run_container;
use ory_ops::services;
use ory_ops::snapshot;
use ory_ops::target::Target;
use ory_ops::upgrade::change::Change;
use ory_ops::upgrade::rehearsal;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, seconds};
use ory_stack::container::Container;

/// Products that are upgraded at once.
pub struct Group {
    pub changes: Vec<Change>,
    /// All that are in the same database, those that don't change among them.
    pub products: Vec<Instance>,
    /// The tables that aren't theirs.
    pub others: Vec<String>,
}

impl Group {
    /// The images that services are to have.
    pub fn new_images(&self) -> Images {
        self.changes.iter().flat_map(|change| change.new.clone()).into_map()
    }

    /// Those that they had.
    pub fn old_images(&self) -> Images {
        self.changes.iter().flat_map(|change| change.old.clone()).into_map()
    }

    /// Two as one.
    pub fn with(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        self.products.extend(other.products);
        self.others.extend(other.others);
        self
    }

    pub fn in_words(&self) -> String {
        let each = self.changes.iter().map(|change| format!("{} to {}", change.product, change.to));
        each.collect::<Vec<_>>().join(", ")
    }

    fn upgrades(&self, began: &str) -> Vec<Upgraded> {
        let upgraded = |change: &Change| Upgraded {
            product: change.product,
            began: began.into(),
            old: change.old.clone(),
            new: change.new.clone(),
        };
        self.changes.iter().map(upgraded).collect()
    }
}

/// Upgrades a group. What comes back is the stack as it is then.
pub fn run(cx: Locked, group: &Group, args: &Upgrade, began: &str, report: &mut Report) -> Result<Locked> {
    let clock = Instant::now();
    cx.options.interrupt.check().with_context(|| format!("not reached: {}", group.in_words()))?;
    let wanted = group.new_images();
    // Where it can't be told where the image is named, nothing happens.
    let edits = image_pin::edits(&cx, &wanted)?;
    let running = running(&cx, &group.products)?;
    let (backup, is_kept) = back_up(&cx, group, args, began)?;
    let options = cx.options.clone();
    let forward = || -> Result<Locked, Stop> {
        image_pin::write(&cx, &edits, &wanted)?;
        // While files were written, nobody looked.
        if let Some(interrupted) = cx.options.interrupt.failure() {
            return Err(interrupted.into());
        }
        let mut cx = cx;
        cx.read_again()?;
        forward(cx, &group.products, &running)
    };
    match forward() {
        Ok(cx) => {
            backup.set_finished()?;
            cx.out.say(format!("{}: upgraded in {}", group.in_words(), seconds(clock.elapsed())));
            Ok(cx)
        }
        // What was written since a run that was killed, nobody has told.
        Err(Stop::Back(error)) if is_kept => Err(unfinished(error, &backup)),
        Err(Stop::Back(error)) => {
            let (is_back, error) = back::after(&options, error, &backup, Some(&edits), &running);
            if is_back {
                report.ended_as(report::WENT_BACK);
            }
            Err(error)
        }
        Err(Stop::Stay(error)) => Err(error),
    }
}

/// Goes on with an upgrade that was killed once the stack named its images; where there is none, there is nothing to do.
pub fn finish(cx: Locked, products: &[Instance], args: &Upgrade) -> Result<&'static str> {
    let mut left = vec![];
    for product in products {
        let Some(deployment) = cx.stack.deployment(*product)? else { continue };
        let containers = services::serving(&cx, &[*product])?;
        let state = super::super::targets(&cx, &[*product])
            .and_then(|_| Ok(migrations::states_not_ahead(&cx, &[deployment])?.remove(0)))?;
        let is_served = !containers.is_empty() && containers.iter().all(|container| container.is_running());
        if state.pending() == Some(0) && (is_served || containers.is_empty()) {
            let serving = cx.stack.serving(*product);
            let image = serving.first().and_then(|service| service.image.clone()).unwrap_or_default();
            cx.out.say(format!("{product}: nothing to upgrade, it has {image}"));
        } else {
            left.push((*product, state.pending()));
        }
    }
    if left.is_empty() {
        left_behind::set_finished(&cx, products)?;
        return Ok(report::NOTHING);
    }
    let names = left.iter().map(|(product, _)| product.to_string()).collect::<Vec<_>>().join(", ");
    let is_pending = left.iter().any(|(_, pending)| *pending != Some(0));
    let left: Vec<_> = left.iter().map(|(product, _)| *product).collect();
    let begun = left_behind::unfinished(&cx, &left)?;
    let begun = begun.filter(|backup| image_pin::are_named(&cx, &backup.manifest.new_images()));
    let Some(backup) = begun else {
        if is_pending {
            let message = format!("{names}: migrations are pending, and the image is the one that runs");
            let hint = "back up, migrate and restart: {XTASK} migrate-all --backup && {XTASK} restart";
            bail!(Failure::new(Exit::Pending, message).hint(hint));
        }
        // It was killed before it had changed anything.
        match args.only_looks() {
            true => cx.out.say(format!("{names}: nothing to upgrade; not running: {XTASK} up")),
            false => start(&cx, &running(&cx, &left)?)?,
        }
        return Ok(report::NOTHING);
    };
    if args.only_looks() {
        let message = "an upgrade that was killed isn't finished";
        bail!(
            Failure::new(Exit::Pending, message)
                .hint("{XTASK} upgrade, which goes on; or {XTASK} upgrade --back")
        );
    }
    cx.out.say(format!("going on with the upgrade of {}", backup.manifest.time));
    let running = running(&cx, &left)?;
    match forward(cx, &left, &running) {
        Ok(cx) => left_behind::set_finished(&cx, products).map(|()| report::UPGRADED),
        Err(Stop::Back(error) | Stop::Stay(error)) => Err(unfinished(error, &backup)),
    }
}

/// A failure after a run that was killed: the new servers may have been up before, and have accepted what no backup has.
fn unfinished(error: anyhow::Error, backup: &Backup) -> anyhow::Error {
    let exit = Failure::exit_of(&error);
    let message = format!("the upgrade of {} isn't finished", backup.manifest.time);
    let hint =
        "fix that, then: {XTASK} upgrade; or {XTASK} upgrade --back, which tells what was written since";
    error.context(Failure::new(exit, message).hint(hint))
}

/// How an upgrade fails.
enum Stop {
    /// Nothing was accepted that the backup hasn't got.
    Back(anyhow::Error),
    /// The new servers have accepted something: a way back would lose it.
    Stay(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Back(error.into())
    }
}

/// Stops the servers and backs up. Where an upgrade of these products was killed once its migrations had begun, its backup
/// stays the way back, and true is with it: what is there now is none of a release.
fn back_up(cx: &Locked, group: &Group, args: &Upgrade, began: &str) -> Result<(Backup, bool)> {
    let stopped = if args.online { None } else { Some(super::super::stop(cx, &group.products)?) };
    let made = || -> Result<(Backup, bool)> {
        let targets = super::super::targets(cx, &group.products)?;
        if let Some(last) = left_behind::unfinished(cx, &group.products)? {
            back::await_migrations(cx, &targets)?;
            if back::has_changed(cx, &last, &group.products)? {
                let name = last.name();
                cx.out.say(format!("the way back is the backup {name}, of before the run that was killed"));
                return Ok((last, true));
            }
        }
        let _locks = ory_ops::advisory_lock::acquire_all(cx, &targets)?;
        let targets: Vec<_> = targets.iter().collect();
        Ok((backup_step::before_upgrade(cx, &targets, group.upgrades(began))?, false))
    };
    made().map_err(|error| {
        let error = error.context("failed to back up, so nothing was changed");
        match &stopped {
            Some(stopped) => cx.options.interrupt.clean_up_after(error, || stopped.start(cx)),
            None => error,
        }
    })
}

/// Migrates with the images that the stack names, starts what ran, and reads from it.
fn forward(cx: Locked, products: &[Instance], running: &[String]) -> Result<Locked, Stop> {
    for product in products {
        let Some(deployment) = cx.stack.deployment(*product)? else { continue };
        let outcome = migrations::migrate(&cx, &deployment, false, None);
        let outcome = outcome.map_err(|error| diagnosis::of_product(&cx, &deployment, error));
        let outcome = outcome.with_context(|| format!("failed to migrate {product}"))?;
        cx.out.say(plan::told(&cx, &deployment, &outcome)?);
    }
    let moments = moments(&cx, products)?;
    let Err(error) = start(&cx, running).and_then(|()| read(&cx, products)) else { return Ok(cx) };
    // From the start on, the new servers may have accepted something.
    match cx.options.interrupt.clean_up(|| accepted(&cx, products, &moments)) {
        Ok(0) => Err(Stop::Back(error)),
        accepted => {
            let rows = accepted.map_or("what they accepted".into(), |rows| counted(rows, "row"));
            let exit = Failure::exit_of(&error);
            let message =
                format!("the upgrade failed after the new servers had written {rows}, so they stay");
            Err(Stop::Stay(error.context(Failure::new(exit, message).hint(
                "fix that, then: {XTASK} upgrade; or go back without what they wrote: {XTASK} upgrade --back",
            ))))
        }
    }
}

/// Reads from the servers of products.
fn read(cx: &Locked, products: &[Instance]) -> Result<()> {
    for product in products {
        let Some(deployment) = cx.stack.deployment(*product)? else { continue };
        let serves = |container: &&Container| cx.stack.product_of_name(&container.service) == Some(*product);
        for container in services::serving(cx, &[*product])?.iter().filter(serves) {
            rehearsal::read(cx, &deployment, container)?;
        }
    }
    Ok(())
}

/// Of each database the moment, and how many rows were ever deleted in it.
fn moments(cx: &Locked, products: &[Instance]) -> Result<Vec<(String, u64)>> {
    let targets = super::super::targets(cx, products)?;
    let moment = |target: &Target| {
        let deleted = snapshot::deleted(cx, target)?;
        Ok((snapshot::moment(cx, target, target.database(), false)?, deleted))
    };
    targets.iter().map(moment).collect()
}

/// How many rows were written or deleted since. The servers are stopped to be asked, and started again where there are any.
fn accepted(cx: &Locked, products: &[Instance], moments: &[(String, u64)]) -> Result<usize> {
    let stopped = services::stop(cx, products)?;
    let count = || -> Result<u64> {
        let mut rows = 0;
        for (target, (moment, deleted)) in super::super::targets(cx, products)?.iter().zip(moments) {
            rows += snapshot::written_since(cx, target, target.database(), target.schema.as_deref(), moment)?;
            rows += snapshot::deleted(cx, target)?.saturating_sub(*deleted);
        }
        Ok(rows)
    };
    let rows = count();
    if !matches!(rows, Ok(0)) {
        stopped.start(cx)?;
    }
    Ok(usize::try_from(rows?).unwrap_or(usize::MAX))
}

/// What is run, as `--dry-run` prints it.
pub fn print(cx: &Locked, new: &Context, group: &Group) -> Result<()> {
    let wanted = group.new_images();
    if let Some(stop) = services::stop_command(cx, &services::serving(cx, &group.products)?) {
        Output::data(stop.to_string())?;
    }
    for target in ory_ops::target::of(cx, &group.products)? {
        backup_step::print_dump(cx, &target)?;
    }
    for edit in image_pin::edits(cx, &wanted)? {
        Output::data(format!("# writes to {}: {}", edit.file.display(), edit.line()))?;
    }
    for change in &group.changes {
        if let Some(deployment) = new.stack.deployment(change.product)? {
            Output::data(run_container::command(new, &deployment).to_string())?;
        }
    }
    let running = running(cx, &group.products)?;
    let up = cx.engine.compose(["up", "-d"].into_iter().chain(running.iter().map(String::as_str)));
    Ok(Output::data(up.to_string())?)
}
