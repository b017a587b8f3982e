//! The schema that an image makes of an empty database, and the one that a product's database has. What an image makes is
//! a fact of the image and of PostgreSQL's major version: learned once, in a scratch database, and kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::advisory_lock::ServerLock;
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::folders::work_file;
use crate::postgres;
use crate::scratch_database::{Made, Scratch};
use ory_facts::catalog::{self, Catalog};
use ory_runner::process::Invocation;
use ory_stack::stack::Deployment;

/// The schema that a product's image makes, and the one that there is.
pub fn schemas(cx: &Context, deployment: &Deployment) -> Result<(Catalog, Catalog)> {
    let actual = there(cx, deployment)?;
    let expected = made(cx, deployment, &actual, &BTreeSet::new(), None)?;
    Ok((expected.context("the image ends before its last migration")?, actual))
}

/// The schema that there is.
pub fn there(cx: &Context, deployment: &Deployment) -> Result<Catalog> {
    let text = query(cx, &postgres::running_place(cx, deployment)?, deployment).read();
    read(&text.map_err(|error| diagnosis::of_product(cx, deployment, error))?)
}

/// The schema that a product's image makes, where that was learned before.
pub fn known(cx: &Context, deployment: &Deployment, actual: &Catalog) -> Result<Option<Catalog>> {
    Ok(cached(&cache(cx, deployment, actual)?))
}

/// The schema that a product's image makes where it finds these versions noted as applied, and doesn't apply them; none
/// where it fails without what they make. `lock`: that of the database, where it is held.
pub fn made(
    cx: &Context,
    deployment: &Deployment,
    actual: &Catalog,
    noted: &BTreeSet<String>,
    lock: Option<&ServerLock>,
) -> Result<Option<Catalog>> {
    let path = cache(cx, deployment, actual)?;
    let is_whole = noted.is_empty();
    if let Some(expected) = Some(&path).filter(|_| is_whole).and_then(|path| cached(path)) {
        return Ok(Some(expected));
    }
    let place = postgres::running_place(cx, deployment)?;
    let text = match Scratch::new(cx, deployment, &place).learn(&actual.schema, noted, lock)? {
        Made::Whole(text) => text,
        Made::Failed(_) => return Ok(None),
    };
    let expected = read(&text)?;
    if is_whole {
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(Some(expected))
}

/// What is run, as `--dry-run` prints it.
pub fn lines(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let place = postgres::place(cx, &cx.listed()?, deployment);
    let query = format!("{}  # the schema in {}", query(cx, &place, deployment), deployment.dsn.database);
    Ok([vec![query], scratch_lines(cx, deployment)?].concat())
}

/// What is run to learn what an image makes, as `--dry-run` prints it.
pub fn scratch_lines(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let place = postgres::place(cx, &cx.listed()?, deployment);
    Ok(Scratch::new(cx, deployment, &place).lines().into())
}

/// Asks for the schema that there is.
pub fn query(cx: &Context, place: &Place, deployment: &Deployment) -> Invocation {
    postgres::query(cx, place, &deployment.dsn, catalog::QUERY)
}

fn read(text: &str) -> Result<Catalog> {
    Catalog::parse(text).context("failed to read PostgreSQL's catalog")
}

/// Where the schema of an image is kept.
fn cache(cx: &Context, deployment: &Deployment, actual: &Catalog) -> Result<PathBuf> {
    let name = deployment.migrate.image.as_deref().unwrap_or_default();
    let image = cx.image(name)?.with_context(|| format!("the image {name} isn't here"))?;
    work_file(
        &cx.options,
        &format!("images/{}-{}-postgres-{}.schema", deployment.product.kind, image.id, actual.major),
    )
}

/// A schema that can't be read is as good as none.
fn cached(path: &Path) -> Option<Catalog> {
    Catalog::parse(&std::fs::read_to_string(path).ok()?)
}
