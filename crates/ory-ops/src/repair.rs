//! What a killed migration left behind that a re-run doesn't fix, and lost rows of `schema_migration`: the SQL that repairs it,
//! proved by what the image makes, and run.

use anyhow::Result;
use ory_facts::next::XTASK;
use ory_facts::repair;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::image_schema;
use crate::lock::Locked;
use crate::lost_rows;
use crate::migrations;
use crate::postgres;

/// The SQL that repairs, each statement proved by what the image itself makes.
pub fn statements(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let state = migrations::state(cx, deployment)?;
    migrations::refuse_ahead(cx, deployment, &state)?;
    let (expected, actual) = image_schema::schemas(cx, deployment)?;
    let pending = expected.versions.difference(&actual.versions).cloned().into_set();
    let product = deployment.product;
    let mut statements = repair::statements(product.kind, &pending, &expected, &actual).map_err(|other| {
        let message = format!("{product} isn't as a killed migration leaves it: {other}");
        let hint = format!("change it to what the image creates, then: {XTASK} repair {product}");
        Failure::new(Exit::Failed, message).hint(hint)
    })?;
    // What was found to be noted needs no closer look.
    let notes = lost_rows::notes(cx, deployment, &state)?;
    statements.extend(notes.into_iter().filter(|note| !statements.contains(note)).collect::<Vec<_>>());
    Ok(statements)
}

/// Runs it as the product.
pub fn run(cx: &Locked, deployment: &Deployment, script: String) -> Result<()> {
    let product = deployment.product;
    let place = postgres::running_place(cx, deployment)?;
    let psql = postgres::change(cx, &place, &deployment.dsn, script);
    let _progress = cx.out.progress(format!("repairing {product}"));
    psql.within(cx.options.timeout).read().map_err(|error| {
        let message = format!("{product} could not be repaired as a whole; what was done stays done");
        let hint = format!(
            "fix what PostgreSQL says, then {XTASK} repair {product}; or: {XTASK} restore latest {product}"
        );
        error.context(Failure::new(Exit::Failed, message).hint(hint))
    })?;
    Ok(())
}
