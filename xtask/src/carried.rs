//! The migrations that an image carries: a fact of the image, learned once and kept by its id.
//!
//! The versions that `migrate status` lists are exactly those that end up in `schema_migration`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::context::{Context, work_file};
use ory_facts::carried::{Carried, read_cache};
use ory_facts::product::{Release, parse_release};
use ory_stack::stack::Deployment;
use xtask_runner::process::Invocation;

/// Where the list of an image is kept, and what is there. None where the image isn't here.
fn cached(cx: &Context, deployment: &Deployment) -> Result<Option<(PathBuf, Option<Option<Carried>>)>> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let Some(image) = cx.image(name)? else { return Ok(None) };
    let path = work_file(&format!("images/{}-{}.json", deployment.product, image.id))?;
    let known = std::fs::read(&path).ok().and_then(|bytes| read_cache(&bytes));
    Ok(Some((path, known)))
}

/// What the image carries, where that was learned before.
pub fn known(cx: &Context, deployment: &Deployment) -> Option<Carried> {
    cached(cx, deployment).ok()??.1?
}

/// What the image carries: [`learn`]ed once.
pub fn of(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    cx.known.carried(deployment.product).get(|| learn(cx, deployment))
}

/// What the image carries, from the cache or from the image itself. None where the image is too old to
/// have a status command: a Kratos before v25.4.0 would take the question for a migration.
fn learn(cx: &Context, deployment: &Deployment) -> Result<Option<Carried>> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let (path, known) = cached(cx, deployment)?.with_context(|| format!("the image {name} isn't here"))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let release = tagged_release(deployment).or_else(|| ask_release(cx, deployment));
    // Any Keto can be asked, also one that doesn't know its release.
    let rows = match deployment.product.has_status(release.unwrap_or_default()) {
        true => ask(cx, deployment)?,
        false => Value::Null,
    };
    let cache = json!({ "image": name, "carried": rows }).to_string();
    let carried = read_cache(cache.as_bytes()).with_context(|| format!("{name} lists no migrations"))?;
    std::fs::write(&path, cache).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(carried)
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

/// The command that lists what the image carries.
fn status(cx: &Context, deployment: &Deployment) -> Invocation {
    let arguments = deployment.product.status(deployment.config.as_deref(), deployment.dsn_in_config);
    cx.engine
        .compose(["run", "--rm", "-T", "--no-deps", "-e", "PGCONNECT_TIMEOUT=5"])
        .args(["--entrypoint", deployment.product.name()])
        .arg(&deployment.migrate.name)
        .args(arguments)
}

fn ask(cx: &Context, deployment: &Deployment) -> Result<Value> {
    let status = status(cx, deployment).until(&cx.options.interrupt, Some(cx.options.wait()));
    let text = status.read(&cx.secrets)?;
    let rows: Value =
        serde_json::from_str(text.trim()).with_context(|| format!("failed to read `{status}`"))?;
    let keep =
        |row: &Value| json!({"version": row["version"], "name": row["name"], "content": row["content"]});
    Ok(rows.as_array().into_iter().flatten().map(keep).collect())
}

/// The release an image says it is, where its tag doesn't tell.
fn ask_release(cx: &Context, deployment: &Deployment) -> Option<Release> {
    let image = deployment.migrate.image.as_deref()?;
    let name = deployment.product.name();
    let args = ["run", "--rm", "--network", "none", "--entrypoint", name, image, "version"];
    let text = cx.engine.docker(args).read(&cx.secrets).ok()?;
    parse_release(text.lines().find_map(|line| line.strip_prefix("Version:"))?)
}
