//! What a run has left that was killed: databases beside the products' own, and an upgrade between two releases.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::backup::{self, Backup};
use crate::context::Context;
use crate::diagnosis;
use ory_facts::image_migrations::State;
use ory_facts::instance::Instance;
use ory_facts::names;
use ory_facts::sql::identifier;
use ory_runner::failure::{Exit, Failure};
use ory_stack::backup_key;
use ory_stack::stack::Deployment;

/// Says which databases were left, as they were looked at.
pub fn warn_of_databases(cx: &Context) {
    for (product, name) in cx.unfinished() {
        if !name.starts_with(names::SCRATCH) {
            cx.out.warn(format!(
                "an earlier restore or reset of {product} was killed before its end: what was there before it is \
                 {name}; the next restore or reset keeps it"
            ));
        } else if let Ok(Some(deployment)) = cx.stack.deployment(product) {
            let drop = format!("drop database {}", identifier(&name));
            let psql = diagnosis::admin_psql(cx, &deployment).args(["-c", &drop]);
            cx.out.warn(format!(
                "the database {name} is a copy beside {product}'s; unless a run works with it now, one that was killed \
                 has left it: {psql}"
            ));
        }
    }
}

/// The backup of the newest upgrade of some of these products, where that has neither ended nor been undone. A damaged one
/// that may be it is told.
pub fn unfinished(cx: &Context, products: &[Instance]) -> Result<Option<Backup>> {
    let parent = backup::folder(cx);
    for (name, backup) in backup::all(&parent)?.into_iter().rev() {
        match backup {
            Err(error) if backup::is_unfinished(&parent.join(name)) => return Err(error),
            Err(_) => {}
            Ok(backup) if is_of(cx, &backup, products)? => {
                return Ok(Some(backup).filter(Backup::is_unfinished));
            }
            Ok(_) => {}
        }
    }
    Ok(None)
}

/// Remembers of these products that no upgrade is unfinished.
pub fn set_finished(cx: &Context, products: &[Instance]) -> Result<()> {
    for product in products {
        if let Some(backup) = unfinished(cx, &[*product])? {
            backup.set_finished()?;
        }
    }
    Ok(())
}

/// All backups of the upgrade that was the last one of some of these products, the newest first. A damaged one that may be
/// among them is told, not passed over for those of another upgrade.
pub fn of_upgrade(cx: &Context, products: &[Instance]) -> Result<Vec<Backup>> {
    let began = |backup: &Backup| backup.manifest.upgrades.first().map(|one| one.began.clone());
    let (mut found, mut damaged): (Vec<Backup>, _) = (vec![], None);
    for (_, backup) in backup::all(&backup::folder(cx))?.into_iter().rev() {
        match backup {
            Err(error) => damaged = damaged.or(Some(error)),
            Ok(backup) if !is_of(cx, &backup, products)? => {}
            Ok(backup) if found.first().is_some_and(|first| began(first) != began(&backup)) => break,
            Ok(backup) => {
                if let Some(error) = damaged.take() {
                    return Err(error);
                }
                found.push(backup);
            }
        }
    }
    Ok(found)
}

/// Whether this stack has made a backup before an upgrade of some of these products.
fn is_of(cx: &Context, backup: &Backup, products: &[Instance]) -> Result<bool> {
    let is_meant = backup.manifest.project == cx.stack.project
        && backup.manifest.upgrades.iter().any(|one| products.contains(&one.product));
    Ok(is_meant && backup.foreign(backup_key::key(&cx.dir)?.as_deref()).is_none())
}

/// Whether the stack names all of these images.
pub fn are_named(cx: &Context, images: &BTreeMap<String, String>) -> bool {
    images.iter().all(|(name, image)| {
        cx.stack.services.get(name).is_some_and(|service| service.image.as_ref() == Some(image))
    })
}

/// The upgrade that a product is in the middle of: the stack names its new image, whose migrations are pending, or again its
/// old one, which the database is ahead of. Where it can't be told, it is none.
pub fn upgrade(cx: &Context, deployment: &Deployment, state: &State) -> Option<Failure> {
    state.carried.as_ref()?;
    let product = deployment.product;
    // In a shared schema the rows of the other product are in the same table.
    let is_told = state.others.is_some() || cx.stack.sharing(deployment).is_empty();
    let (is_pending, is_ahead) = (state.pending() > Some(0), state.ahead() > 0 && is_told);
    if !is_pending && !is_ahead {
        return None;
    }
    let backup = unfinished(cx, &[product]).ok().flatten()?;
    let one = backup.manifest.upgrades.iter().find(|one| one.product == product)?;
    let (exit, hint) = match (are_named(cx, &one.new), are_named(cx, &one.old)) {
        (true, _) if is_pending => {
            (Exit::Pending, "{XTASK} upgrade, which goes on; or {XTASK} upgrade --back")
        }
        (false, true) if is_ahead => (Exit::Ahead, "{XTASK} upgrade --back"),
        _ => return None,
    };
    let message = format!("the upgrade of {product} of {} isn't finished", backup.manifest.time);
    Some(Failure::new(exit, message).hint(hint))
}
