//! What a product's schema has otherwise than its image makes it.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::diagnosis;
use crate::image_migrations;
use crate::image_schema;
use ory_facts::catalog::{self, Catalog};
use ory_facts::difference::{self, Difference, Remedy};
use ory_facts::first_sight;
use ory_facts::image_migrations::{State, is_applied, unknown};
use ory_facts::next::XTASK;
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};
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
    let (expected, actual) = image_schema::schemas(cx, deployment)?;
    compare(cx, deployment, &expected, &actual)
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
        None => image_schema::there(cx, deployment)?,
    };
    // While other migrations are applied, the image's schema isn't the one that should be.
    let is_of_image = |expected: &Catalog| compare(cx, deployment, expected, &actual).is_ok();
    let expected = image_schema::known(cx, deployment, &actual)?.filter(is_of_image);
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
