//! `split --finish`: the old tables deleted, once each product is served from its new place.

use anyhow::{Result, bail};

use ory_ops::lock::Locked;
use ory_ops::migrations;
use ory_ops::split::new_dsns;
use ory_ops::split::shared::{self, State};
use ory_ops::target::Target;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};
use ory_stack::stack::Deployment;

/// Deletes the old tables, once nobody needs them. `is_answered`: with `--yes`, nobody is asked.
pub fn run(cx: &Locked, targets: &[Target], is_answered: bool) -> Result<()> {
    let mut old: Vec<(&Deployment, String)> = Vec::new();
    for deployment in targets.iter().flat_map(|target| &target.deployments) {
        let product = deployment.product;
        match shared::state(cx, deployment, &shared::memory(cx, deployment)?)? {
            State::Own => {}
            State::Waiting(_) => {
                let message = format!("{product}'s DSN is still the old one");
                bail!(
                    Failure::new(Exit::Failed, message)
                        .hint("{XTASK} split, which says where the new one goes")
                )
            }
            State::Moved(from) => {
                let state = migrations::state(cx, deployment)?;
                if state.applied.is_empty() || state.pending().is_some_and(|count| count > 0) {
                    let message = format!("{product} isn't migrated in its new place");
                    bail!(
                        Failure::new(Exit::Pending, message).hint("{XTASK} split, which goes on from there")
                    );
                }
                if !old.iter().any(|(_, known)| *known == from) {
                    old.push((deployment, from));
                }
            }
        }
    }
    let mut tables = Vec::new();
    for (deployment, from) in old {
        if shared::memory_of(cx, deployment, &from)?.note.is_some() {
            let there = shared::put_away(cx, deployment, &from)?;
            tables.push((deployment, from, there));
        }
    }
    if tables.is_empty() {
        cx.out.say("nothing is left of a split");
        return if cx.options.dry_run { Ok(()) } else { forget(cx) };
    }
    let lost = tables.iter().map(|(_, from, there)| {
        let rows = there.iter().map(|(_, rows)| *rows as usize).sum();
        format!("{} with {} in {from}", counted(there.len(), "old table"), counted(rows, "row"))
    });
    let lost = lost.collect::<Vec<_>>().join(", ");
    if cx.options.dry_run {
        return Ok(Output::data(format!("# deletes {lost}"))?);
    }
    let question = format!("Delete {lost}?");
    if !super::confirm(
        cx,
        is_answered,
        &format!("deletes {lost}"),
        &question,
        "{XTASK} split --finish --yes",
    )? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    for (deployment, from, there) in tables {
        let names: Vec<_> = there.into_iter().map(|(name, _)| name).collect();
        shared::finish(cx, deployment, &from, &names)?;
        cx.out.say(format!("{from}: {} deleted", counted(names.len(), "old table")));
    }
    forget(cx)
}

/// The new DSNs are where they belong: what they were handed over in has done its duty.
fn forget(cx: &Locked) -> Result<()> {
    if new_dsns::remove(cx)? {
        cx.out.say(format!("{} is kept: the stack reads it", new_dsns::FILE));
    }
    Ok(())
}
