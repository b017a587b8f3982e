//! The migrations that an image carries: a fact of the image, learned once and kept by its id.
//!
//! The versions that `migrate status` lists are exactly those that end up in `schema_migration`: of an image without
//! that command, an empty database that it has migrated tells the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::advisory_lock::ServerLock;
use crate::context::Context;
use crate::folders::work_file;
use crate::image_release;
use crate::image_schema;
use ory_facts::image_migrations::{Carried, of_versions, plan, read_cache, read_versions, write_versions};
use ory_facts::product::Release;
use ory_runner::process::Invocation;
use ory_stack::stack::Deployment;

/// Where is kept what an image carries: with the SQL, which takes long to read, or only the versions. None where
/// the image isn't here.
fn path(cx: &Context, deployment: &Deployment, kind: &str) -> Result<Option<PathBuf>> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let image = cx.image(name)?;
    image
        .map(|image| {
            work_file(&cx.options, &format!("images/{}-{}.{kind}", deployment.product.kind, image.id))
        })
        .transpose()
}

/// The versions that are kept. None where nothing is, or what is there can't be read.
pub fn kept(cx: &Context, deployment: &Deployment) -> Option<Carried> {
    let path = path(cx, deployment, "versions").ok()??;
    read_versions(&std::fs::read_to_string(path).ok()?)
}

/// What the image carries, SQL included, where that was asked before.
pub fn known(cx: &Context, deployment: &Deployment) -> Option<Carried> {
    read_cache(&std::fs::read_to_string(path(cx, deployment, "json").ok()??).ok()?)
}

/// What the image carries, maybe without SQL. None where the image is too old to be asked, and what it makes of an empty
/// database can't be learned either.
pub fn of(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    of_locked(cx, deployment, None)
}

/// The same by who holds the lock of the database, if anybody does: without it, it is waited for where the image is to show
/// what it carries.
pub fn of_locked(
    cx: &Context,
    deployment: &Deployment,
    lock: Option<&ServerLock>,
) -> Result<Option<Carried>> {
    let learn = || match can_be_asked(cx, deployment) {
        true => learn(cx, deployment).map(Some),
        false => shown(cx, deployment, lock),
    };
    let ask = || kept(cx, deployment).map_or_else(learn, |carried| Ok(Some(carried)));
    cx.engine.cache().carried(deployment.product).get(ask)
}

/// The same with SQL. None where the image can't be asked for it.
pub fn in_full(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    match known(cx, deployment) {
        Some(carried) => Ok(Some(carried)),
        None => can_be_asked(cx, deployment).then(|| learn(cx, deployment)).transpose(),
    }
}

/// The same of the image that has just migrated an empty database. Its plan and what the database has then agree:
/// it needn't be asked.
pub fn of_migrated(
    cx: &Context,
    deployment: &Deployment,
    log: &Path,
    applied: &BTreeSet<String>,
    lock: &ServerLock,
) -> Result<Option<Carried>> {
    if kept(cx, deployment).is_none() && !applied.is_empty() {
        let plan = plan(&std::fs::read_to_string(log).unwrap_or_default());
        // What an image that can't be asked has applied where no other product is, is all that it carries.
        let is_alone = cx.stack.sharing(deployment).is_empty();
        let carried = match can_be_asked(cx, deployment) {
            true => Some(plan).filter(|plan| plan.keys().eq(applied)),
            false => is_alone.then(|| of_versions(applied)),
        };
        carried.map_or(Ok(()), |carried| keep(cx, deployment, "versions", &write_versions(&carried)))?;
        cx.engine.cache().carried(deployment.product).set(None);
    }
    of_locked(cx, deployment, Some(lock))
}

/// Whether the image has a status command; one that doesn't tell its release is taken for an old one: a Kratos before
/// v25.4.0 would take the question for a migration. Any Keto has it.
fn can_be_asked(cx: &Context, deployment: &Deployment) -> bool {
    let can_tell = |release: &Release| deployment.product.has_status(*release);
    // Ory's own tag is believed where the answer would show that it is wrong.
    let known = image_release::known(cx, deployment).filter(can_tell);
    can_tell(&known.or_else(|| image_release::of(cx, deployment)).unwrap_or_default())
}

/// How many migrations the image carries, as far as that is known without asking it: of its first run, by the plan
/// in the log and what the database has.
pub fn count(cx: &Context, deployment: &Deployment, log: &Path, applied: &BTreeSet<String>) -> Option<usize> {
    if let Some(kept) = kept(cx, deployment) {
        return Some(kept.len());
    }
    let plan = plan(&std::fs::read_to_string(log).unwrap_or_default());
    (!plan.is_empty())
        .then(|| plan.len() + applied.iter().filter(|version| !plan.contains_key(*version)).count())
}

fn keep(cx: &Context, deployment: &Deployment, kind: &str, text: &str) -> Result<()> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let path = path(cx, deployment, kind)?.with_context(|| format!("the image {name} isn't here"))?;
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Asks the image.
fn learn(cx: &Context, deployment: &Deployment) -> Result<Carried> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let cache = json!({ "image": name, "carried": ask(cx, deployment)? }).to_string();
    let carried = read_cache(&cache).with_context(|| format!("{name} lists no migrations"))?;
    keep(cx, deployment, "json", &cache)?;
    keep(cx, deployment, "versions", &write_versions(&carried))?;
    Ok(carried)
}

/// What an image that can't be asked carries is what it notes as applied in an empty database. None where it can't be
/// given one, which is said.
fn shown(cx: &Context, deployment: &Deployment, lock: Option<&ServerLock>) -> Result<Option<Carried>> {
    if cx.options.dry_run {
        return Ok(None);
    }
    let made = image_schema::there(cx, deployment)
        .and_then(|actual| image_schema::made(cx, deployment, &actual, &BTreeSet::new(), lock));
    match made {
        Ok(made) => {
            let carried = made.map(|schema| of_versions(&schema.versions)).filter(|all| !all.is_empty());
            let text = carried.as_ref().map(write_versions);
            text.map_or(Ok(()), |text| keep(cx, deployment, "versions", &text))?;
            Ok(carried)
        }
        Err(error) => {
            cx.options.interrupt.check()?;
            let product = deployment.product;
            cx.out.warn(format!(
                "{product}'s image is too old to tell what it carries, and it can't show that in an empty database: {error}"
            ));
            Ok(None)
        }
    }
}

/// What is run to learn what the image carries, as `--dry-run` prints it; nothing where that is known.
pub fn lines(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let is_too_old =
        image_release::known(cx, deployment).is_some_and(|release| !deployment.product.has_status(release));
    match (kept(cx, deployment), is_too_old) {
        (Some(_), _) => Ok(vec![]),
        (None, true) => image_schema::scratch_lines(cx, deployment),
        (None, false) => {
            Ok(vec![format!("{}  # what the image carries, once an image", status(cx, deployment))])
        }
    }
}

/// The command that lists what the image carries.
fn status(cx: &Context, deployment: &Deployment) -> Invocation {
    let arguments = deployment.product.status(&deployment.configs, deployment.dsn_in_config);
    cx.engine
        .compose(["run", "--rm", "-T", "--no-deps", "-e", "PGCONNECT_TIMEOUT=5"])
        .arg("--entrypoint")
        .arg(deployment.migrate.program(deployment.product.kind))
        .arg(&deployment.migrate.name)
        .args(arguments)
}

fn ask(cx: &Context, deployment: &Deployment) -> Result<Value> {
    let status = status(cx, deployment).within(cx.options.wait());
    let text = status.read()?;
    let rows: Value =
        serde_json::from_str(text.trim()).with_context(|| format!("failed to read `{status}`"))?;
    let keep =
        |row: &Value| json!({ "version": row["version"], "name": row["name"], "content": row["content"] });
    Ok(rows.as_array().into_iter().flatten().map(keep).collect::<Vec<_>>().into())
}
