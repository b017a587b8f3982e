//! A row that was lost from `schema_migration` makes its migration look pending, and Ory's second run of one drops tables
//! and deletes rows. Where a pending one is older than an applied one, the schema is looked at first: against what the
//! image makes with it and without it.
//!
//! Where nothing is pending, or only what is newer, nothing is looked at.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use crate::advisory_lock::ServerLock;
use crate::context::Context;
use crate::drift;
use crate::image_schema;
use ory_facts::catalog::Catalog;
use ory_facts::difference;
use ory_facts::image_migrations::State;
use ory_facts::lost::{self, Verdict};
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_stack::stack::Deployment;

/// More than these of the newest are a release, not what a killed run left.
const FEW: usize = 2;

/// Versions that must not be applied again.
#[derive(Default)]
struct Lost {
    /// What they make is there, or what was applied after them needs it.
    applied: BTreeSet<String>,
    /// The schema tells nothing of them.
    unclear: BTreeSet<String>,
}

/// Fails, with its name, where the row of a migration is lost, or where that can't be told. `lock`: that of the
/// database, where it is held; `is_forced`: who typed it knows that what can't be told is to be applied.
pub fn refuse(
    cx: &Context,
    deployment: &Deployment,
    state: &State,
    lock: Option<&ServerLock>,
    is_forced: bool,
) -> Result<()> {
    let product = deployment.product;
    let suspects = lost::suspects(product.kind, state);
    if suspects.is_empty() {
        return Ok(());
    }
    let repair = format!("{XTASK} repair {product}");
    let Lost { applied, unclear } = find(cx, deployment, state, &BTreeSet::new(), lock).with_context(|| {
        let suspects = list(&suspects);
        format!("whether {product} has applied {suspects} can't be told: it is older than what was applied last")
    })?;
    if !applied.is_empty() {
        let message = format!(
            "{product}'s database has lost what it noted of {}: the schema has what was applied, and to apply it again \
             can delete data",
            list(&applied)
        );
        bail!(Failure::new(Exit::Failed, message).hint(repair));
    }
    if !unclear.is_empty() && !is_forced {
        let message = format!(
            "whether {product} has applied {} can't be told from the schema: it is older than what was applied last, and to \
             apply it again can delete data",
            list(&unclear)
        );
        let hint = format!(
            "if it was applied, and what was noted of it is lost: {repair}; if this image is the first that has it: \
             {} --force",
            product.migrate_line()
        );
        bail!(Failure::new(Exit::Failed, message).hint(hint));
    }
    Ok(())
}

/// The statements that note again what was applied, proved by the schema that the image makes.
pub fn notes(cx: &Context, deployment: &Deployment, state: &State) -> Result<Vec<String>> {
    let pending = lost::pending(state);
    let mut newer = &pending - &lost::suspects(deployment.product.kind, state);
    if newer.len() > FEW || state.applied.is_empty() {
        newer.clear();
    }
    let Lost { applied, unclear } = find(cx, deployment, state, &newer, None)?;
    // A new one is applied as ever, where nothing shows that it was.
    let all = &applied | &(&unclear - &newer);
    if all.is_empty() {
        return Ok(vec![]);
    }
    let (whole, actual) = image_schema::schemas(cx, deployment)?;
    let each = all.iter().map(|version| [version.clone()].into_iter().into_set());
    let mut first = None;
    // Where it fails without several, one of them may have been applied.
    for noted in [all.clone()].into_iter().chain(each.filter(|_| all.len() > 1)) {
        let Some(made) = image_schema::made(cx, deployment, &actual, &(&pending - &noted), None)? else {
            continue;
        };
        let near = lost::nearest(&made, &whole, &actual);
        match difference::compare(&near, &actual).into_iter().next() {
            None => return Ok(noted.iter().map(|version| lost::insert(&actual.schema, version)).collect()),
            Some(difference) => first = first.or(Some(difference)),
        }
    }
    let Some(difference) = first else { return Ok(vec![]) };
    let message = format!(
        "{}'s database has lost what it noted of {}, but the schema isn't as they leave it: {}",
        deployment.product,
        list(&all),
        difference.text
    );
    Err(Failure::new(Exit::Failed, message).hint(drift::hint(cx, deployment, &difference)).into())
}

/// Looks at the schema for what those that are older than an applied one make, and these newer ones.
fn find(
    cx: &Context,
    deployment: &Deployment,
    state: &State,
    newer: &BTreeSet<String>,
    lock: Option<&ServerLock>,
) -> Result<Lost> {
    let older = lost::suspects(deployment.product.kind, state);
    let mut lost = Lost::default();
    let suspects = &older | newer;
    if suspects.is_empty() {
        return Ok(lost);
    }
    let pending = lost::pending(state);
    let actual = image_schema::there(cx, deployment)?;
    let made = |noted: &BTreeSet<String>| image_schema::made(cx, deployment, &actual, noted, lock);
    let is_there =
        |made: Option<Catalog>| made.is_some_and(|made| difference::compare(&made, &actual).is_empty());
    if pending == older && is_there(made(&BTreeSet::new())?) {
        return Ok(Lost { applied: older, ..lost });
    }
    let mut noted = pending;
    let Some(alone) = made(&noted)? else { return Ok(Lost { applied: older, ..lost }) };
    // Each with those before it, as it would be applied.
    let mut without = Some(alone.clone());
    for version in suspects {
        noted.remove(&version);
        let with = made(&noted)?;
        let verdict = match (&without, &with) {
            (Some(without), Some(with)) => lost::judge(&alone, without, with, &actual),
            _ => Verdict::Unclear,
        };
        match verdict {
            Verdict::Pending => {}
            Verdict::Applied => _ = lost.applied.insert(version),
            Verdict::Unclear => _ = lost.unclear.insert(version),
        }
        without = with;
    }
    Ok(lost)
}

fn list(versions: &BTreeSet<String>) -> String {
    versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
