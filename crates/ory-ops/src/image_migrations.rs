//! The migrations that an image carries: a fact of the image, learned once and kept by its id.
//!
//! The versions that `migrate status` lists are exactly those that end up in `schema_migration`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::context::Context;
use crate::folders::work_file;
use crate::image_release;
use crate::image_version;
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

/// The versions that are kept. None where nothing is, or what is there can't be read; nor where it is that an image can't
/// tell them, which only the image itself can have said.
pub fn kept(cx: &Context, deployment: &Deployment) -> Option<Option<Carried>> {
    let path = path(cx, deployment, "versions").ok()??;
    let kept = read_versions(&std::fs::read_to_string(path).ok()?)?;
    let is_told = || cx.image(deployment.migrate.image.as_deref()?).ok()?.map(|image| image.id);
    let has_said = || {
        is_told().is_some_and(|id| image_version::kept(&cx.options, deployment.product.kind, &id).is_some())
    };
    (kept.is_some() || has_said()).then_some(kept)
}

/// What the image carries, SQL included, where that was asked before.
pub fn known(cx: &Context, deployment: &Deployment) -> Option<Carried> {
    read_cache(&std::fs::read_to_string(path(cx, deployment, "json").ok()??).ok()?)?
}

/// What the image carries, maybe without SQL. None where the image is too old to have a status command: a Kratos
/// before v25.4.0 would take the question for a migration.
pub fn of(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    let ask = || kept(cx, deployment).map_or_else(|| learn(cx, deployment), Ok);
    cx.engine.cache().carried(deployment.product).get(ask)
}

/// The same with SQL.
pub fn in_full(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    known(cx, deployment).map_or_else(|| learn(cx, deployment), |carried| Ok(Some(carried)))
}

/// The same of the image that has just migrated an empty database. Its plan and what the database has then agree:
/// it needn't be asked.
pub fn of_migrated(
    cx: &Context,
    deployment: &Deployment,
    log: &Path,
    applied: &BTreeSet<String>,
) -> Result<Option<Carried>> {
    let plan = plan(&std::fs::read_to_string(log).unwrap_or_default());
    let known = image_release::known(cx, deployment).unwrap_or_default();
    let can_tell = deployment.product.has_status(known);
    if can_tell && kept(cx, deployment).is_none() && !plan.is_empty() && plan.keys().eq(applied) {
        keep(cx, deployment, "versions", &write_versions(Some(&plan)))?;
    }
    let carried = of(cx, deployment)?;
    // What an image that can't be asked has applied to an empty database is all that it carries.
    let is_alone = cx.stack.sharing(deployment).is_empty() && !applied.is_empty();
    if carried.is_some() || !is_alone {
        return Ok(carried);
    }
    let carried = of_versions(applied);
    keep(cx, deployment, "versions", &write_versions(Some(&carried)))?;
    cx.engine.cache().carried(deployment.product).set(Some(Some(carried.clone())));
    Ok(Some(carried))
}

/// How many migrations the image carries, as far as that is known without asking it: of its first run, by the plan
/// in the log and what the database has.
pub fn count(cx: &Context, deployment: &Deployment, log: &Path, applied: &BTreeSet<String>) -> Option<usize> {
    if let Some(kept) = kept(cx, deployment) {
        return kept.map(|carried| carried.len());
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
fn learn(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    // Ory's own tag is believed where the answer would show that it is wrong.
    let can_tell = |release: &Release| deployment.product.has_status(*release);
    let known = image_release::known(cx, deployment).filter(can_tell);
    let release = known.or_else(|| image_release::of(cx, deployment));
    // Any Keto can be asked, also one that doesn't know its release.
    let rows = match deployment.product.has_status(release.unwrap_or_default()) {
        true => ask(cx, deployment)?,
        false => Value::Null,
    };
    let cache = json!({ "image": name, "carried": rows }).to_string();
    let carried = read_cache(&cache).with_context(|| format!("{name} lists no migrations"))?;
    keep(cx, deployment, "json", &cache)?;
    // What its first run has shown stays known.
    let shown = kept(cx, deployment).flatten().filter(|_| carried.is_none());
    if shown.is_none() {
        keep(cx, deployment, "versions", &write_versions(carried.as_ref()))?;
    }
    Ok(carried.or(shown))
}

/// The command that asks an image what it carries; none where that is known, or the tag tells that it
/// can't be asked.
pub fn ask_query(cx: &Context, deployment: &Deployment) -> Option<Invocation> {
    let is_known = kept(cx, deployment).is_some();
    let is_too_old =
        image_release::known(cx, deployment).is_some_and(|release| !deployment.product.has_status(release));
    (!is_known && !is_too_old).then(|| status(cx, deployment))
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
