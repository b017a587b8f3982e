//! New databases put in the places of those that are there, all or none. No row is dropped that is in no backup and wasn't
//! named: neither one that was there, nor one that was accepted meanwhile.

use anyhow::{Context as _, Result};
use ory_facts::manifest::Dump;
use ory_runner::failure::Failure;
use ory_runner::output::counted;

use super::replacement::Replacement;
use crate::lock::Locked;
use crate::services::Stopped;
use crate::snapshot;

/// What becomes of what is replaced.
#[derive(Clone, Copy)]
pub enum Fate<'a> {
    /// It is kept until the next success.
    Kept,
    /// It goes, but for what was written since its backup was taken: each has a dump, in this order.
    Dropped(&'a [Dump]),
}

/// Brings schemas to where they are to take their places, while all serve: what is in the way shows there.
pub fn bring(replacements: &[Replacement]) -> Result<()> {
    replacements.iter().try_for_each(Replacement::bring)
}

/// Puts new databases in the places of those that are there, with the services stopped before, and started afterwards.
/// `dumps`: what each was filled from. After a failure all is as it was.
pub fn put(
    cx: &Locked,
    mut replacements: Vec<Replacement>,
    dumps: &[(Option<&Dump>, bool)],
    fate: Fate,
    stopped: &Stopped,
) -> Result<()> {
    let prepared = replacements.iter().try_for_each(Replacement::check_lock);
    // Of a run that was killed, what is there now can be what takes its place: then it needn't be kept.
    let made =
        prepared.and_then(|()| replacements.iter().map(sums_if_unfinished).collect::<Result<Vec<_>>>());
    let made = made.map_err(|error| cx.options.interrupt.clean_up_after(error, || stopped.start(cx)))?;
    // Taken before: whoever writes to the new ones can do so as soon as they have their places.
    let moments: Result<Vec<_>> = replacements.iter().map(|one| one.replaceable.moment()).collect();
    let moments =
        moments.map_err(|error| cx.options.interrupt.clean_up_after(error, || stopped.start(cx)))?;
    let done = (|| {
        for (one, (dump, is_own)) in replacements.iter().zip(dumps) {
            one.replaceable.swap_in(&one.owners_of(*dump, *is_own))?;
        }
        stopped.start_current(cx)?;
        stopped.wait(cx)
    })();
    let Err(error) = done else {
        if !stopped.is_empty() {
            cx.out.say(format!("{}: started, ready", stopped.names()));
        }
        return finish(&mut replacements, &made, fate);
    };
    let mut left = vec![];
    let back = cx.options.interrupt.clean_up(|| {
        // Else what the new ones accept would be lost.
        let halted = stopped.halt(cx);
        let each: Vec<_> = replacements
            .iter_mut()
            .zip(&moments)
            .map(|(one, moment)| swap_back(one, moment, &mut left))
            .collect();
        halted.and(each.into_iter().collect::<Result<()>>()).and(stopped.start_again(cx))
    });
    left.iter().for_each(|kept| cx.out.warn(kept));
    let names: Vec<_> = replacements.iter().map(|replacement| replacement.target.in_words()).collect();
    let message = format!("nothing was replaced: {} as before", names.join(", "));
    Err(match back {
        Ok(()) => {
            let exit = cx.options.interrupt.exit();
            error.context(Failure::new(exit, message).hint("fix what is said below, then run this again"))
        }
        Err(left) => left.context(format!("{error:#}")),
    })
}

fn sums_if_unfinished(one: &Replacement) -> Result<Option<String>> {
    let is_asked = !one.unfinished.is_empty() && one.current.is_some();
    is_asked.then(|| sums(one, &one.replaceable.names().new)).transpose()
}

/// The sums of one of its names.
fn sums(one: &Replacement, name: &str) -> Result<String> {
    let (database, schema) = one.replaceable.place_of(name);
    snapshot::sums(one.cx, one.target, database, schema)
}

/// Puts what was replaced back, where it was replaced. What took its place is kept where rows came in since `moment`.
fn swap_back(one: &mut Replacement, moment: &str, left: &mut Vec<String>) -> Result<()> {
    let (cx, target) = (one.cx, one.target);
    let back = one.replaceable.swap_back(one.current.is_some());
    back.with_context(|| format!("{} could not be put back in its place", target.in_words()))?;
    let new = one.replaceable.names().new.clone();
    let (database, schema) = one.replaceable.place_of(&new);
    let written = snapshot::written_since(cx, target, database, schema, moment);
    // Where it can't be told, it is kept.
    if matches!(written, Ok(0)) {
        return Ok(());
    }
    let name = match keep(one, &[new], &[])?.pop() {
        Some(name) => name,
        None => return Ok(()),
    };
    one.is_made = false;
    let rows = written.map_or_else(|_| "rows".into(), |rows| counted(rows as usize, "row"));
    let of = target.in_words();
    left.push(format!("{rows} that {of} accepted meanwhile are kept in {}", one.replaceable.in_words(&name)));
    Ok(())
}

/// All have their places: what was replaced is kept instead of what was kept until now, or goes.
fn finish(replacements: &mut [Replacement], made: &[Option<String>], fate: Fate) -> Result<()> {
    replacements.iter_mut().for_each(|replacement| replacement.is_made = false);
    for (at, one) in replacements.iter().enumerate() {
        let before = one.replaceable.names().before.clone();
        one.replaceable.open_replaced()?;
        let mut stay = one.unfinished.clone();
        let mut go = vec![];
        let is_kept = one.current.is_some() && is_kept(one, made.get(at), fate, at, &before)?;
        if one.current.is_some() && is_kept {
            stay.push(before)
        } else {
            go.push(before)
        }
        // It was named in the question.
        go.extend(one.kept.iter().map(|(name, _)| name.clone()));
        keep(one, &stay, &go)?;
    }
    Ok(())
}

/// Whether what was replaced stays, and says so where it wasn't to.
fn is_kept(
    one: &Replacement,
    made: Option<&Option<String>>,
    fate: Fate,
    at: usize,
    before: &str,
) -> Result<bool> {
    let (cx, target) = (one.cx, one.target);
    match fate {
        Fate::Kept => match made {
            Some(Some(made)) => Ok(sums(one, before)? != *made),
            _ => Ok(true),
        },
        Fate::Dropped(dumps) => {
            let Some(dump) = dumps.get(at) else { return Ok(true) };
            let (database, schema) = one.replaceable.place_of(before);
            let written = snapshot::written_since(cx, target, database, schema, &dump.contents.moment)?;
            if written > 0 {
                let rows = counted(written as usize, "row");
                let of = target.in_words();
                cx.out.warn(format!(
                    "{rows} of {of} may have been written after the backup was taken: it is kept as {}",
                    one.replaced()
                ));
            }
            Ok(written > 0)
        }
    }
}

/// Removes some, and gives others the first names for what is kept. Returns these.
fn keep(one: &Replacement, stay: &[String], go: &[String]) -> Result<Vec<String>> {
    let kept = one.kept.iter().map(|(name, _)| name).chain(&one.unfinished);
    let there: Vec<_> = kept.filter(|name| !go.contains(name) && !stay.contains(name)).cloned().collect();
    let places = one.replaceable.keep(&there, stay, go)?;
    let named = |name: &String| {
        places.iter().find(|(from, _)| from == name).map_or_else(|| name.clone(), |(_, to)| to.clone())
    };
    Ok(stay.iter().map(named).collect())
}
