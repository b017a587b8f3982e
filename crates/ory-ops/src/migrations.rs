//! What an image carries against what a database has: pending, ahead, up to date.
//!
//! They are compared as sets: a new migration can be older than the newest one applied.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::advisory_lock::ServerLock;
use crate::context::Context;
use crate::image_migrations;
use crate::lock::Locked;
use crate::migration_status::{self, Status};
use crate::split::shared;
use crate::{advisory_lock, diagnosis, drift, left_behind, lost_rows, postgres, run_container};
use ory_facts::difference::Remedy;
use ory_facts::image_migrations::State;
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_facts::split::{MEMORY, Memory};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_runner::process::{CommandError, quote};
use ory_runner::session::Session;
use ory_stack::stack::Deployment;

/// What a migration did.
pub enum Outcome {
    UpToDate { total: usize },
    Applied { count: usize, took: Duration },
}

/// How a product's database stands to its image, as it was looked at, else as it is now.
pub fn state(cx: &Context, deployment: &Deployment) -> Result<State> {
    let applied = applied(cx, deployment)?;
    let carried = image_migrations::of(cx, deployment)?;
    Ok(State { others: others(cx, deployment, &applied), ..State::new(applied, carried) })
}

/// What a product's database has, as it was looked at, else as it is now.
fn applied(cx: &Context, deployment: &Deployment) -> Result<BTreeSet<String>> {
    let seen = cx.seen(deployment.product);
    seen.map_or_else(|| postgres::applied(cx, deployment), Ok)
}

/// What the images of the products carry that have their rows in the same table; of one that can't be asked, all that is
/// there may be.
fn others(cx: &Context, deployment: &Deployment, applied: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let sharing = cx.stack.sharing(deployment);
    if sharing.is_empty() {
        return None;
    }
    let carried = |product| {
        let deployment = cx.stack.deployment(product).ok().flatten()?;
        Some(image_migrations::of(cx, &deployment).ok().flatten()?.into_keys().into_set())
    };
    Some(
        sharing
            .into_iter()
            .flat_map(|product| carried(product).unwrap_or_else(|| applied.clone()))
            .into_set(),
    )
}

/// The same of databases that must not be ahead of their images: that is what is said, even if another one can't be asked.
/// Its failure tells the cause.
pub fn states_not_ahead(cx: &Context, deployments: &[Deployment]) -> Result<Vec<State>> {
    let states: Vec<_> = deployments.iter().map(|deployment| state(cx, deployment)).collect();
    for (deployment, state) in deployments.iter().zip(&states) {
        state.as_ref().map_or(Ok(()), |state| refuse_ahead(cx, deployment, state).map(|_| ()))?;
    }
    let told = deployments.iter().zip(states);
    told.map(|(deployment, state)| state.map_err(|error| diagnosis::of_product(cx, deployment, error)))
        .collect()
}

/// How the databases stand, where what was seen already tells that there is nothing to do.
pub fn none_is_pending(cx: &Context, deployments: &[Deployment]) -> Option<Vec<State>> {
    let is_done = |deployment: &&Deployment| {
        cx.seen(deployment.product).is_some()
            && known_pending(cx, deployment) == Some(0)
            && run_container::has_container(cx, deployment).is_ok_and(|has| !has)
    };
    let done = deployments.iter().filter(is_done).filter_map(|deployment| {
        let state = state(cx, deployment).ok()?;
        refuse_ahead(cx, deployment, &state).ok().map(|_| state)
    });
    let done: Vec<_> = done.collect();
    (done.len() == deployments.len()).then_some(done)
}

/// How many migrations are pending, where that is known without starting anything.
pub fn known_pending(cx: &Context, deployment: &Deployment) -> Option<usize> {
    let carried = image_migrations::kept(cx, deployment)?;
    State::new(applied(cx, deployment).ok()?, Some(carried)).pending()
}

/// The lock of a database, what the database has, and what it remembers of a split.
pub struct Ahead<'a> {
    lock: ServerLock<'a>,
    applied: BTreeSet<String>,
    memory: Memory,
}

impl<'a> Ahead<'a> {
    fn read(cx: &Context, deployment: &Deployment, lock: ServerLock<'a>) -> Result<Self> {
        let (applied, memory) = postgres::applied_and(cx, deployment, MEMORY)?;
        Ok(Self { lock, applied, memory: Memory::read(&memory) })
    }
}

/// Locks and reads a database while another one is migrated. None where anything is in the way: that is dealt
/// with in its turn.
pub fn ahead<'a>(cx: &'a Locked, deployment: &Deployment) -> Option<Ahead<'a>> {
    let seen = cx.seen(deployment.product)?;
    // An image is only asked in its turn.
    if !seen.is_empty() && image_migrations::kept(cx, deployment).is_none() {
        return None;
    }
    // In one schema with another product, they would wait for each other.
    if !cx.stack.sharing(deployment).is_empty() || is_up_to_date(cx, deployment, &seen, None).ok()? {
        return None;
    }
    let lock = advisory_lock::acquire_free(cx, deployment).ok()??;
    let is_left = run_container::is_left(cx, deployment, &lock).ok()?;
    if is_left { None } else { Ahead::read(cx, deployment, lock).ok() }
}

/// Migrates a product, unless its database has everything its image carries and it isn't forced. What counts at
/// the end is what the database has, not what Ory printed.
pub fn migrate(
    cx: &Locked,
    deployment: &Deployment,
    is_forced: bool,
    ahead: Option<Ahead>,
) -> Result<Outcome> {
    let product = deployment.product;
    let Ahead { lock, applied: before, memory } = match ahead {
        Some(ahead) => ahead,
        None => {
            let seen = applied(cx, deployment)?;
            let is_done = is_up_to_date(cx, deployment, &seen, None)? && !is_forced;
            if is_done && !run_container::has_container(cx, deployment)? {
                return Ok(Outcome::UpToDate { total: state(cx, deployment)?.count() });
            }
            // To learn it takes the lock of the database.
            others(cx, deployment, &seen);
            let lock = advisory_lock::acquire(cx, deployment)?;
            run_container::take_over(cx, deployment, &lock)?;
            // What was waited for may have done it.
            Ahead::read(cx, deployment, lock)?
        }
    };
    if is_up_to_date(cx, deployment, &before, Some(&lock))? && !is_forced {
        let others = others(cx, deployment, &before);
        let state = State { others, ..State::new(before, image_migrations::of(cx, deployment)?) };
        return Ok(Outcome::UpToDate { total: state.count() });
    }
    shared::refuse_old_dsn(deployment, memory)?;
    // A new database has lost nothing, and its image may not have been asked yet.
    if !before.is_empty() {
        let carried = image_migrations::of_locked(cx, deployment, Some(&lock))?;
        let state = State::new(before.clone(), carried);
        lost_rows::refuse(cx, deployment, &state, Some(&lock), is_forced)?;
    }
    lock.check()?;
    let start = Instant::now();
    // It connects while the migration starts.
    let session = postgres::as_product(cx, deployment, &[]).and_then(Session::start).ok();
    {
        let _progress = cx.out.progress(format!("migrating {product}"));
        run_container::run(cx, deployment).map_err(|error| explain_end(cx, deployment, error))?;
    }
    let took = start.elapsed();
    let (schema, flaws) = drift::first_sight(cx, deployment, session)?;
    let log = cx.log_path(&format!("migrate-{product}"))?;
    let carried = match before.is_empty() {
        true => image_migrations::of_migrated(cx, deployment, &log, &schema.versions, &lock)?,
        false => image_migrations::of(cx, deployment)?,
    };
    let state =
        State { others: others(cx, deployment, &schema.versions), ..State::new(schema.versions, carried) };
    match state.pending() {
        None | Some(0) => {}
        Some(left) => {
            let left = counted(left, "migration");
            let message = format!("{product}'s migration ended well, but leaves {left} pending");
            return Err(Failure::new(Exit::Failed, message)
                .hint(format!("less {}", quote(&log.display().to_string())))
                .into());
        }
    }
    // An index whose building was cut off is found by its name by the run after, which calls it applied.
    if let Some(index) = flaws.iter().find(|flaw| flaw.remedy == Remedy::Reindex) {
        let message = format!("{product} is migrated, but {}", index.text);
        return Err(Failure::new(Exit::Failed, message).hint(drift::hint(cx, deployment, index)).into());
    }
    let count = state.applied.difference(&before).count();
    if count == 0 {
        return Ok(Outcome::UpToDate { total: state.count() });
    }
    Ok(Outcome::Applied { count, took })
}

/// Whether a database has everything its image carries; fails where it has more.
fn is_up_to_date(
    cx: &Context,
    deployment: &Deployment,
    applied: &BTreeSet<String>,
    lock: Option<&ServerLock>,
) -> Result<bool> {
    // A new database has nothing, whatever the image carries.
    if applied.is_empty() {
        return Ok(false);
    }
    let state = State::new(applied.clone(), image_migrations::of_locked(cx, deployment, lock)?);
    Ok(refuse_ahead(cx, deployment, &state)? == Status::UpToDate)
}

/// What an interrupted migration has done; who holds the lock that one gave up on.
fn explain_end(cx: &Context, deployment: &Deployment, error: anyhow::Error) -> anyhow::Error {
    let product = deployment.product;
    if let Some(interrupted) = cx.options.interrupt.failure() {
        let Ok(applied) = postgres::applied(cx, deployment) else { return error };
        let log = cx.log_path(&format!("migrate-{product}")).unwrap_or_default();
        let total =
            image_migrations::count(cx, deployment, &log, &applied).map(|total| format!(" of {total}"));
        let message =
            format!("interrupted: {product} has {}{} migrations", applied.len(), total.unwrap_or_default());
        let hint = format!("{}, which goes on from there", product.migrate_line());
        return Failure::new(interrupted.exit, message).hint(hint).into();
    }
    let gave_up = |command: &CommandError| command.stderr.contains("SQLSTATE 55P03");
    if cx.options.db_lock_timeout.is_some() && error.downcast_ref().is_some_and(gave_up) {
        let holders = postgres::lock_holders(cx, deployment).unwrap_or_default();
        if let Some(first) = holders.first() {
            let message =
                format!("{product} waited too long for a lock that is held by {}", holders.join("; "));
            let pid = first.split(' ').next().unwrap_or_default();
            let psql = diagnosis::admin_psql(cx, deployment);
            let hint = format!("end it: {psql} -c 'select pg_terminate_backend({pid})'; then run this again");
            return error.context(Failure::new(Exit::Failed, message).hint(hint));
        }
    }
    error
}

/// How a database stands to its image; fails where it is ahead: Ory never complains about that, and fails later, when it
/// serves.
pub fn refuse_ahead(cx: &Context, deployment: &Deployment, state: &State) -> Result<Status> {
    let standing = migration_status::of(state, !cx.stack.sharing(deployment).is_empty());
    let (Status::Ahead(ahead) | Status::OtherHistory(ahead)) = standing else { return Ok(standing) };
    let image = deployment.migrate.image.as_deref().unwrap_or("its image");
    let (product, count) = (deployment.product, counted(ahead, "migration"));
    if let Status::OtherHistory(_) = standing {
        let message = format!(
            "{product}'s database is of a release before the history that {image} knows (such as Keto v0.6 or Hydra \
             v1): it has {count} that the image doesn't know, all older than its newest"
        );
        let hint = "{XTASK} backup; then go to the release in between that Ory's own notes name, in *_IMAGE or \
                    the stack's files, and from there to this one";
        return Err(Failure::new(Exit::Ahead, message).hint(hint).into());
    }
    let message =
        format!("{product}'s database is ahead of {image}: it has {count} that the image doesn't know");
    let hint = match left_behind::upgrade(cx, deployment, state) {
        Some(unfinished) => unfinished.in_one_line(),
        None => format!(
            "name the newer image (a *_IMAGE variable in .env, or --stand-in), or restore an earlier backup: \
             {XTASK} restore BACKUP {product}"
        ),
    };
    Err(Failure::new(Exit::Ahead, message).hint(hint).into())
}
