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
use crate::postgres;
use crate::process::Invocation;
use crate::stack::Deployment;

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
    let State { applied: before, carried } = {
        let state = state(cx, deployment)?;
        refuse_ahead(cx, deployment, &state)?;
        if state.pending() == Some(0) {
            return Ok(Outcome::UpToDate { total: state.applied.len() });
        }
        state
    };
    clear_the_name(cx, deployment)?;
    let start = Instant::now();
    {
        let _progress = cx.out.progress(format!("migrating {product}"));
        cx.run_logged(&format!("migrate-{product}"), &run(cx, deployment))?;
    }
    let took = start.elapsed();
    let after = State { applied: postgres::applied(cx, deployment)?, carried };
    match after.pending() {
        None | Some(0) => {}
        Some(left) => {
            let left = counted(left, "migration");
            let message = format!("{product}'s migration ended well, but leaves {left} pending");
            let log = cx.log_path(&format!("migrate-{product}"))?;
            return Err(Failure::new(Exit::Failed, message).hint(format!("less {}", log.display())).into());
        }
    }
    let count = after.applied.difference(&before).count();
    if count == 0 {
        return Ok(Outcome::UpToDate { total: after.applied.len() });
    }
    Ok(Outcome::Applied { count, took })
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

/// The one-off container that migrates: named, without terminal, known to PostgreSQL by its name.
pub fn run(cx: &Context, deployment: &Deployment) -> Invocation {
    one_off(cx, deployment, &container_name(cx, deployment), &[])
}

/// As [`run`], in a container of another name, with further options.
pub fn one_off(cx: &Context, deployment: &Deployment, name: &str, options: &[&str]) -> Invocation {
    let application = format!("PGAPPNAME={name}");
    let arguments = deployment.product.migrate(deployment.config.as_deref(), deployment.dsn_in_config);
    cx.engine
        .compose(["run", "--rm", "-T", "--no-deps", "--name", name, "-e", &application])
        .args(options.iter().copied())
        .args(["-e", "PGCONNECT_TIMEOUT=5", "--entrypoint", deployment.product.name()])
        .arg(&deployment.migrate.name)
        .args(arguments)
}

fn container_name(cx: &Context, deployment: &Deployment) -> String {
    // Not `PROJECT-kratos-migrate`: a one-shot of the stack may have that name.
    format!("xtask-{}-migrate-{}", cx.stack.project, deployment.product)
}

/// The container of an earlier run may have outlived it: one that still runs is somebody's migration.
fn clear_the_name(cx: &Context, deployment: &Deployment) -> Result<()> {
    let name = container_name(cx, deployment);
    match cx.engine.inspect([name.as_str()])?.first() {
        None => Ok(()),
        Some(container) if container.is_running() => {
            let message = format!("another migration of {} is running, in {name}", deployment.product);
            Err(Failure::new(Exit::Locked, message)
                .hint(format!("docker wait {name}, then try again"))
                .into())
        }
        Some(_) => cx.engine.docker(["rm", &name]).read(&cx.secrets).map(|_| ()),
    }
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
