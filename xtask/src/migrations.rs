//! What an image carries against what a database has: pending, ahead, up to date.
//!
//! The versions that `migrate status` lists are exactly those that end up in `schema_migration`. They are a
//! fact of the image, so they are learned once and kept by its id. They are compared as sets: a new
//! migration can be older than the newest one applied.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::context::{Context, work_file};
use crate::failure::{Exit, Failure};
use crate::output::counted;
use crate::postgres;
use crate::process::Invocation;
use crate::product::{Release, parse_release};
use crate::stack::Deployment;

/// Versions of migrations.
pub type Versions = BTreeSet<String>;

/// How a database stands to its image.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub applied: Versions,
    /// What the image carries; none where the image is too old to be asked.
    pub carried: Option<Versions>,
}

impl State {
    /// Versions to apply; none where that can't be known.
    pub fn pending(&self) -> Option<usize> {
        Some(self.carried.as_ref()?.difference(&self.applied).count())
    }

    /// Applied versions that the image doesn't know.
    pub fn ahead(&self) -> usize {
        self.carried.as_ref().map_or(0, |carried| self.applied.difference(carried).count())
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
    Ok(State { applied, carried: carried(cx, deployment)? })
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
            let log = work_file(&format!("logs/{}-migrate-{product}.log", cx.stack.project))?;
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
    let name = container_name(cx, deployment);
    let application = format!("PGAPPNAME={name}");
    let arguments = deployment.product.migrate(deployment.config.as_deref(), deployment.dsn_in_config);
    cx.engine
        .compose(["run", "--rm", "-T", "--no-deps", "--name", &name, "-e", &application])
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

/// Where the list of an image is kept, and what is there. None where the image isn't here.
fn cached(cx: &Context, deployment: &Deployment) -> Result<Option<(PathBuf, Option<Option<Versions>>)>> {
    let here = cx.engine.images(deployment.migrate.image.as_deref())?;
    let Some(image) = here.first() else { return Ok(None) };
    let path = work_file(&format!("images/{}-{}.json", deployment.product, image.id))?;
    let known = std::fs::read(&path).ok().and_then(|bytes| read_cache(&bytes));
    Ok(Some((path, known)))
}

/// What the image carries, from the cache or from the image itself. None where the image is too old to
/// have a status command: a Kratos before v25.4.0 would take the question for a migration.
fn carried(cx: &Context, deployment: &Deployment) -> Result<Option<Versions>> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let (path, known) = cached(cx, deployment)?.with_context(|| format!("the image {name} isn't here"))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let release = tagged_release(deployment).or_else(|| ask_release(cx, deployment));
    let versions = match release {
        Some(release) if deployment.product.has_status(release) => Some(ask(cx, deployment)?),
        _ => None,
    };
    std::fs::write(&path, json!({ "image": name, "carried": versions }).to_string())
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(versions)
}

/// The command that asks an image what it carries; none where that is known, or the tag tells that it
/// can't be asked.
pub fn ask_query(cx: &Context, deployment: &Deployment) -> Option<Invocation> {
    let is_known = matches!(cached(cx, deployment), Ok(Some((_, Some(_)))));
    let is_too_old =
        tagged_release(deployment).is_some_and(|release| !deployment.product.has_status(release));
    (!is_known && !is_too_old).then(|| status(cx, deployment))
}

fn tagged_release(deployment: &Deployment) -> Option<Release> {
    parse_release(deployment.migrate.image.as_deref()?.rsplit_once(':')?.1)
}

/// A cache that can't be read is as good as none.
fn read_cache(bytes: &[u8]) -> Option<Option<Versions>> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    match json.get("carried")? {
        Value::Null => Some(None),
        list => {
            list.as_array()?.iter().map(|v| v.as_str().map(String::from)).collect::<Option<_>>().map(Some)
        }
    }
}

/// The command that lists what the image carries.
fn status(cx: &Context, deployment: &Deployment) -> Invocation {
    let arguments = deployment.product.status(deployment.config.as_deref(), deployment.dsn_in_config);
    cx.engine
        .compose(["run", "--rm", "-T", "--no-deps", "-e", "PGCONNECT_TIMEOUT=5"])
        .args(["--entrypoint", deployment.product.name()])
        .arg(&deployment.migrate.name)
        .args(arguments)
}

fn ask(cx: &Context, deployment: &Deployment) -> Result<Versions> {
    let _progress = cx.out.progress(format!("asking {}'s image for its migrations", deployment.product));
    let text = status(cx, deployment).read(&cx.secrets)?;
    let rows: Value = serde_json::from_str(text.trim())
        .with_context(|| format!("failed to read `{}`", status(cx, deployment)))?;
    let versions = rows.as_array().into_iter().flatten();
    let versions: Versions = versions.filter_map(|row| row["version"].as_str().map(String::from)).collect();
    if versions.is_empty() {
        anyhow::bail!("`{}` lists no migration", status(cx, deployment));
    }
    Ok(versions)
}

/// The release an image says it is, where its tag doesn't tell.
fn ask_release(cx: &Context, deployment: &Deployment) -> Option<Release> {
    let image = deployment.migrate.image.as_deref()?;
    let name = deployment.product.name();
    let args = ["run", "--rm", "--network", "none", "--entrypoint", name, image, "version"];
    let text = cx.engine.docker(args).read(&cx.secrets).ok()?;
    parse_release(text.lines().find_map(|line| line.strip_prefix("Version:"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(applied: &[&str], carried: &[&str]) -> State {
        let set = |versions: &[&str]| versions.iter().map(ToString::to_string).collect();
        State { applied: set(applied), carried: Some(set(carried)) }
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

    #[test]
    fn a_broken_cache_is_learned_again() {
        assert_eq!(read_cache(b"{"), None);
        assert_eq!(read_cache(br#"{"carried":[1]}"#), None);
        assert_eq!(read_cache(br#"{"carried":null}"#), Some(None));
    }
}
