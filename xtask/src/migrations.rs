//! What an image carries against what a database has: pending, ahead, up to date.
//!
//! They are compared as sets: a new migration can be older than the newest one applied.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::carried::{self, Carried, Migration};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::counted;
use crate::process::CommandError;
use crate::stack::Deployment;
use crate::{diagnosis, drift, one_off, postgres, server_lock};
use ory_facts::difference::Remedy;

/// How a database stands to its image.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub applied: BTreeSet<String>,
    /// What the image carries; none where the image is too old to be asked.
    pub carried: Option<Carried>,
}

impl State {
    /// How many are to be applied; none where that can't be known.
    pub fn pending(&self) -> Option<usize> {
        self.carried.as_ref().map(|carried| carried.keys().filter(|v| !self.applied.contains(*v)).count())
    }

    /// What is to be applied, in order.
    pub fn pending_migrations(&self) -> impl Iterator<Item = (&String, &Migration)> {
        let carried = self.carried.iter().flatten();
        carried.filter(|(version, _)| !self.applied.contains(*version))
    }

    /// Applied versions that the image doesn't know.
    pub fn ahead(&self) -> usize {
        let unknown = |carried: &Carried| self.applied.iter().filter(|v| !carried.contains_key(*v)).count();
        self.carried.as_ref().map_or(0, unknown)
    }
}

/// What a migration did.
pub enum Outcome {
    UpToDate { total: usize },
    Applied { count: usize, took: Duration },
}

/// Reads how a product's database stands to its image.
pub fn state(cx: &Context, deployment: &Deployment) -> Result<State> {
    let applied = postgres::applied(cx, deployment)?;
    Ok(State { applied, carried: carried::of(cx, deployment)? })
}

/// Migrates a product, unless its database has everything its image carries. What counts at the end is
/// what the database has, not what Ory printed.
pub fn migrate(cx: &Context, deployment: &Deployment) -> Result<Outcome> {
    let product = deployment.product;
    let is_up_to_date = |state: &State| state.pending() == Some(0);
    let mut state = state(cx, deployment)?;
    refuse_ahead(cx, deployment, &state)?;
    if is_up_to_date(&state) {
        return Ok(Outcome::UpToDate { total: state.applied.len() });
    }
    let mut lock = server_lock::acquire(cx, deployment)?;
    one_off::take_over(cx, deployment, &mut lock)?;
    // What was waited for may have done it.
    state.applied = postgres::applied(cx, deployment)?;
    refuse_ahead(cx, deployment, &state)?;
    if is_up_to_date(&state) {
        return Ok(Outcome::UpToDate { total: state.applied.len() });
    }
    let start = Instant::now();
    {
        let _progress = cx.out.progress(format!("migrating {product}"));
        one_off::run(cx, deployment).map_err(|error| explain_end(cx, deployment, &state, error))?;
    }
    let took = start.elapsed();
    let before = std::mem::replace(&mut state.applied, postgres::applied(cx, deployment)?);
    match state.pending() {
        None | Some(0) => {}
        Some(left) => {
            let left = counted(left, "migration");
            let message = format!("{product}'s migration ended well, but leaves {left} pending");
            let log = cx.log_path(&format!("migrate-{product}"))?;
            return Err(Failure::new(Exit::Failed, message).hint(format!("less {}", log.display())).into());
        }
    }
    refuse_invalid_indexes(cx, deployment)?;
    let count = state.applied.difference(&before).count();
    if count == 0 {
        return Ok(Outcome::UpToDate { total: state.applied.len() });
    }
    Ok(Outcome::Applied { count, took })
}

/// An index whose building was cut off is found by its name by the run after, which calls it applied.
fn refuse_invalid_indexes(cx: &Context, deployment: &Deployment) -> Result<()> {
    let found = drift::cheap(cx, deployment)?;
    let Some(first) = found.iter().find(|difference| difference.remedy == Remedy::Reindex) else {
        return Ok(());
    };
    let message = format!("{} is migrated, but {}", deployment.product, first.text);
    Err(Failure::new(Exit::Failed, message).hint(drift::hint(cx, deployment, first)).into())
}

/// What an interrupted migration has done; who holds the lock that one gave up on.
fn explain_end(cx: &Context, deployment: &Deployment, state: &State, error: anyhow::Error) -> anyhow::Error {
    let product = deployment.product;
    if let Some(interrupted) = cx.options.interrupt.failure() {
        let Ok(applied) = postgres::applied(cx, deployment) else { return error };
        let total = state.carried.as_ref().map(|carried| format!(" of {}", carried.len()));
        let message =
            format!("interrupted: {product} has {}{} migrations", applied.len(), total.unwrap_or_default());
        let hint = format!("cargo xtask migrate-{product}, which goes on from there");
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

/// Ory never complains about a database newer than its image; it fails later, when it serves.
pub fn refuse_ahead(cx: &Context, deployment: &Deployment, state: &State) -> Result<()> {
    // In a shared schema the rows of the other product are in the same table.
    let ahead = state.ahead();
    if ahead == 0 || !cx.stack.sharing(deployment).is_empty() {
        return Ok(());
    }
    let image = deployment.migrate.image.as_deref().unwrap_or("its image");
    let message = format!(
        "{}'s database is ahead of {image}: it has {} that the image doesn't know",
        deployment.product,
        counted(ahead, "migration")
    );
    Err(Failure::new(Exit::Ahead, message)
        .hint(
            "name the newer image (a *_IMAGE variable in .env, or --stand-in), or restore a backup of before",
        )
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(applied: &[&str], carried: &[&str]) -> State {
        let migration = || Migration { name: "a".into(), sql: String::new() };
        let carried = carried.iter().map(|version| (version.to_string(), migration())).collect();
        State { applied: applied.iter().map(ToString::to_string).collect(), carried: Some(carried) }
    }

    #[test]
    fn pending_and_ahead_are_sets_and_not_a_maximum() {
        let state = state(&["1", "5", "9"], &["1", "3", "5"]);
        assert_eq!((state.pending(), state.ahead()), (Some(1), 1));
    }

    #[test]
    fn an_image_that_can_not_be_asked_leaves_pending_unknown() {
        let state = State { carried: None, ..state(&["1"], &[]) };
        assert_eq!((state.pending(), state.ahead()), (None, 0));
    }
}
