//! Whose tables are put back with a database, or a schema, beside those of its products: those that none of their images
//! makes are somebody else's.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ory_facts::catalog::Catalog;
use ory_facts::contents::Contents;
use ory_facts::rows;
use ory_facts::sorted::Sorted;
use ory_facts::tables;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::image_schema;
use crate::postgres;
use crate::replace::replacement::Replacement;
use crate::snapshot;
use crate::target::Target;

/// Tables by name, each with its rows.
pub type Tables = Vec<(String, u64)>;

/// Those in what is to be replaced. What isn't known is asked of the images, which takes a moment once an image.
pub fn of(replacement: &Replacement) -> Result<Tables> {
    let Some(current) = &replacement.current else { return Ok(vec![]) };
    let Replacement { cx, target, lock, .. } = replacement;
    find(cx, target, current, &|deployment, actual| {
        image_schema::made(cx, deployment, actual, &BTreeSet::new(), Some(lock))
    })
}

/// The same of a target, before anything is made ready. Where `cx` has the stack with other images, it is these that count.
pub fn of_target(cx: &Context, target: &Target) -> Result<Tables> {
    let current = snapshot::contents(cx, target, target.database())?;
    find(cx, target, &current, &|deployment, actual| {
        image_schema::made(cx, deployment, actual, &BTreeSet::new(), None)
    })
}

/// The same without making anything: what an image makes is taken into account where it is known.
pub fn at_first_sight(cx: &Context, target: &Target) -> Result<Tables> {
    let current = snapshot::contents(cx, target, target.database())?;
    find(cx, target, &current, &|deployment, actual| image_schema::known(cx, deployment, actual))
}

fn find(
    cx: &Context,
    target: &Target,
    current: &Contents,
    made: &dyn Fn(&Deployment, &Catalog) -> Result<Option<Catalog>>,
) -> Result<Tables> {
    let main = target.main()?;
    let ask = |script: String| postgres::as_product(cx, main, &[])?.stdin(script).read();
    let home = match &target.schema {
        Some(schema) => schema.clone(),
        None => ask("select :'own_schema';\n".into())?.trim_end_matches('\n').to_string(),
    };
    let said = ask(tables::homes(target.schema.as_deref(), &home))?;
    let known = target.deployments.iter().flat_map(|deployment| deployment.product.known_tables());
    let mut own = known.map(String::from).into_set();
    let pairs = rows::read(said.lines()).map(|fields| <[String; 2]>::try_from(fields).ok());
    let pairs = pairs.collect::<Option<Vec<_>>>().context("psql didn't tell which tables there are")?;
    // One that was made since hasn't been counted.
    let of_others = |own: &BTreeSet<String>| -> Tables {
        let others = pairs.iter().filter(|[_, name]| !own.contains(name));
        others.filter_map(|[name, _]| Some((name.clone(), *current.rows.get(name)?))).collect()
    };
    if of_others(&own).is_empty() {
        return Ok(vec![]);
    }
    for deployment in &target.deployments {
        let actual = image_schema::there(cx, deployment)?;
        own.extend(made(deployment, &actual)?.into_iter().flat_map(|catalog| catalog.tables));
    }
    Ok(of_others(&own))
}
