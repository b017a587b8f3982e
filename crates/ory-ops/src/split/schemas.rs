//! A schema of its own for each product, in the database that they share: one transaction, in which nothing is copied
//! but what each of them has.

use anyhow::{Context as _, Result, bail};
use ory_facts::split::{Division, Part, Way};
use ory_runner::failure::{Exit, Failure};

use crate::context::Context;
use crate::lock::Locked;
use crate::postgres;
use crate::split::shared::{self, Shared};

/// Splits. The services are stopped.
pub fn run(cx: &Locked, shared: &Shared, division: &Division) -> Result<()> {
    let main = shared.target.main()?;
    let lock = shared.begin(cx)?;
    shared.refuse_changed(cx, division, Way::Schemas)?;
    let _progress = cx.out.progress("giving each product a schema of its own");
    let limit = cx.options.db_lock_timeout.unwrap_or(cx.options.wait());
    let owner = |part: &Part| {
        let deployment = shared.deployment(part.product);
        deployment.map_or_else(|_| main.dsn.user.clone(), |deployment| deployment.dsn.user.clone())
    };
    let name = shared::application(cx);
    let script = division.to_schemas(owner, limit);
    let session = postgres::as_owner(cx, &shared.place, main, &[("PGAPPNAME", &name)]).stdin(script);
    lock.check()?;
    session.read().map(|_| ()).map_err(|error| shared.explain_lock(cx, error))
}

/// Fails where a schema has a product's name and isn't empty, before anything is done.
pub fn check(cx: &Context, shared: &Shared, division: &Division) -> Result<()> {
    let names: Vec<_> = division.parts.iter().map(|part| format!("'{}'", part.product)).collect();
    let script = format!(
        "select distinct nspname from pg_namespace n join pg_class c on relnamespace = n.oid where nspname in ({});\n",
        names.join(", ")
    );
    let main = shared.target.main()?;
    let said = postgres::as_product(cx, main, &[])?.stdin(script).read();
    let said = said.context("failed to look for schemas")?;
    if let Some(name) = said.lines().next() {
        let message =
            format!("there is a schema {name} already in {}, and it isn't empty", main.dsn.database);
        bail!(
            Failure::new(Exit::Failed, message).hint(format!("rename it: alter schema {name} rename to ..."))
        );
    }
    Ok(())
}
