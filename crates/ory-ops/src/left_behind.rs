//! What a run has left that was killed: databases beside the products' own, and an upgrade between two releases.

use anyhow::Result;

use crate::backup::{self, Backup};
use crate::context::Context;
use crate::diagnosis;
use crate::image_pin;
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
    let (parent, key) = (backup::folder(cx), backup_key::key(&cx.dir)?);
    for (name, backup) in backup::all(&parent)?.into_iter().rev() {
        match backup {
            Err(error) if backup::is_unfinished(&parent.join(name)) => return Err(error),
            Err(_) => {}
            Ok(backup) if is_of(cx, &backup, products, key.as_deref()) => {
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
    let key = backup_key::key(&cx.dir)?;
    let (mut found, mut damaged): (Vec<Backup>, _) = (vec![], None);
    for (_, backup) in backup::all(&backup::folder(cx))?.into_iter().rev() {
        match backup {
            Err(error) => damaged = damaged.or(Some(error)),
            Ok(backup) if !is_of(cx, &backup, products, key.as_deref()) => {}
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

/// Whether this stack, whose key it is, has made a backup before an upgrade of some of these products.
fn is_of(cx: &Context, backup: &Backup, products: &[Instance], key: Option<&str>) -> bool {
    backup.manifest.project == cx.stack.project
        && backup.manifest.upgrades.iter().any(|one| products.contains(&one.product))
        && backup.foreign(key).is_none()
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
    let (exit, hint) = match (image_pin::are_named(cx, &one.new), image_pin::are_named(cx, &one.old)) {
        (true, _) if is_pending => {
            (Exit::Pending, "{XTASK} upgrade, which goes on; or {XTASK} upgrade --back")
        }
        (false, true) if is_ahead => (Exit::Ahead, "{XTASK} upgrade --back"),
        _ => return None,
    };
    let message = format!("the upgrade of {product} of {} isn't finished", backup.manifest.time);
    Some(Failure::new(exit, message).hint(hint))
}
