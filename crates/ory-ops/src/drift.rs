//! What a product's schema has otherwise than its image makes it. What it makes is a fact of the image and of
//! PostgreSQL's major version: learned once, in a scratch database, and kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::advisory_lock::ServerLock;
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::folders::work_file;
use crate::image_migrations;
use crate::postgres;
use crate::scratch_database::{Made, Scratch};
use ory_facts::catalog::{self, Catalog};
use ory_facts::difference::{self, Difference, Remedy};
use ory_facts::first_sight;
use ory_facts::image_migrations::{State, is_applied, unknown};
use ory_facts::next::XTASK;
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_runner::session::Session;
use ory_stack::stack::Deployment;

/// Compares a product's schema with what its image makes. Fails where that can't be told, as while migrations
/// are pending.
pub fn of(cx: &Context, deployment: &Deployment, state: &State) -> Result<Vec<Difference>> {
    if let Some(carried) = &state.carried {
        refuse_other_versions(cx, deployment, &carried.keys().collect::<Vec<_>>(), &state.applied)?;
    } else if state.applied.is_empty() {
        return Err(pending(deployment));
    }
    let (expected, actual) = schemas(cx, deployment)?;
    compare(cx, deployment, &expected, &actual)
}

/// The schema that a product's image makes, and the one that there is.
pub fn schemas(cx: &Context, deployment: &Deployment) -> Result<(Catalog, Catalog)> {
    let actual = there(cx, deployment)?;
    let expected = made(cx, deployment, &actual, &BTreeSet::new(), None)?;
    Ok((expected.context("the image ends before its last migration")?, actual))
}

/// The schema that there is.
pub fn there(cx: &Context, deployment: &Deployment) -> Result<Catalog> {
    actual(cx, deployment, &postgres::running_place(cx, deployment)?)
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

/// What shows at once, and without making anything: invalid indexes, and where the image's schema is known,
/// missing tables. With it, the schema that there is. `session`: one that was begun before, which is faster.
pub fn first_sight(
    cx: &Context,
    deployment: &Deployment,
    session: Option<Session>,
) -> Result<(Catalog, Vec<Difference>)> {
    // The server may have restarted meanwhile.
    let told = session.and_then(|mut session| session.ask(catalog::QUERY).ok());
    let actual = match told.and_then(|lines| Catalog::parse(&lines.join("\n"))) {
        Some(catalog) => catalog,
        None => actual(cx, deployment, &postgres::running_place(cx, deployment)?)?,
    };
    // While other migrations are applied, the image's schema isn't the one that should be.
    let is_of_image = |expected: &Catalog| compare(cx, deployment, expected, &actual).is_ok();
    let expected = cached(&cache(cx, deployment, &actual)?).filter(is_of_image);
    // Rarely is an index invalid: only then is it asked whose it is.
    let is_suspect = expected.is_none() && actual.indexes.values().any(|index| !index.is_valid);
    let carried = if is_suspect { image_migrations::in_full(cx, deployment)? } else { None };
    let differences = first_sight::differences(expected.as_ref(), carried.as_ref(), &actual);
    Ok((actual, differences))
}

/// The next command for a difference.
pub fn hint(cx: &Context, deployment: &Deployment, difference: &Difference) -> String {
    match &difference.remedy {
        Remedy::Reindex => format!("{XTASK} repair {}", deployment.product),
        Remedy::Restore => format!("{XTASK} restore latest {}", deployment.product),
        Remedy::Sql(statements) => {
            let psql = diagnosis::admin_psql(cx, deployment);
            psql.args(["-d", &sql::database(&deployment.dsn.database)]).options("-c", statements).to_string()
        }
    }
}

/// What is run, as `--dry-run` prints it.
pub fn lines(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let place = postgres::place(cx, &cx.listed()?, deployment);
    let query = format!("{}  # the schema in {}", query(cx, &place, deployment), deployment.dsn.database);
    Ok([query].into_iter().chain(Scratch::new(cx, deployment, &place).lines()).collect())
}

fn compare(
    cx: &Context,
    deployment: &Deployment,
    expected: &Catalog,
    actual: &Catalog,
) -> Result<Vec<Difference>> {
    // Of an older image, only what it did tells what it carries.
    refuse_other_versions(cx, deployment, &expected.versions.iter().collect::<Vec<_>>(), &actual.versions)?;
    Ok(difference::compare(expected, actual))
}

/// A schema is judged by the image that made it.
fn refuse_other_versions(
    cx: &Context,
    deployment: &Deployment,
    carried: &[&String],
    applied: &BTreeSet<String>,
) -> Result<()> {
    if carried.iter().any(|version| !is_applied(applied, version)) {
        return Err(pending(deployment));
    }
    // In a shared schema the rows of the other product are in the same table.
    let is_ahead = unknown(applied, |version| carried.iter().any(|own| *own == version)).next().is_some();
    if is_ahead && cx.stack.sharing(deployment).is_empty() {
        let image = deployment.migrate.image.as_deref().unwrap_or("its image");
        let message = format!(
            "{}'s database is ahead of {image}: its drift shows with the newer one",
            deployment.product
        );
        bail!(Failure::new(Exit::Failed, message).hint("name the newer image"));
    }
    Ok(())
}

fn pending(deployment: &Deployment) -> anyhow::Error {
    let product = deployment.product;
    let message = format!("{product} has migrations pending: its drift shows after them");
    Failure::new(Exit::Failed, message).hint(product.migrate_line()).into()
}

/// Asks for the schema that there is.
pub fn query(cx: &Context, place: &Place, deployment: &Deployment) -> Invocation {
    postgres::query(cx, place, &deployment.dsn, catalog::QUERY)
}

fn actual(cx: &Context, deployment: &Deployment, place: &Place) -> Result<Catalog> {
    let text = query(cx, place, deployment).read();
    read(&text.map_err(|error| diagnosis::of_product(cx, deployment, error))?)
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
