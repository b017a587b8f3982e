//! After an upgrade: back to what was before it, with what that loses said first; or the kept data deleted.

use anyhow::{Context as _, Result};
use ory_facts::rows;
use ory_facts::tables;
use ory_runner::process::Invocation;

use super::kept::{self, Kept, Phase, Way};
use super::moving;
use super::returning;
use super::subject::Subject;
use super::surroundings::{stop_users, stop_what_runs, users_of};
use crate::context::Context;
use crate::lock::Locked;

/// Rows written since an upgrade, by the names of their databases and tables.
pub type Written = Vec<(String, u64)>;

/// What going back loses: the rows that the new server has written since it serves. Rows that were deleted aren't counted.
pub fn lost(cx: &Context, kept: &Kept) -> Result<Written> {
    let moment = kept.moment(cx)?;
    let service = cx.stack.services.get(&kept.service).context("the server's service is gone")?;
    let subject = Subject::find(cx, service)?;
    let mut lost = vec![];
    for database in subject.facts(cx)?.databases.iter().filter(|database| !database.is_closed) {
        let count = tables::written_since(None, &moment);
        let said = subject.psql(cx, &database.name).stdin(count).read()?;
        for row in rows::read(said.lines()) {
            if let [table, count] = &row[..]
                && let Some(count) = count.parse().ok().filter(|count| *count > 0)
            {
                lost.push((format!("{}: {table}", database.name), count));
            }
        }
    }
    Ok(lost)
}

/// Goes back to the old server, on purpose or where that was begun. Returns what is lost by that, as it was when nothing of
/// the stack wrote any more; nothing where it was begun before.
pub fn back(cx: &mut Locked, kept: &Kept, phase: Phase) -> Result<Written> {
    let users = users_of(cx, &kept.service, |_| false);
    let stopped = stop_users(cx, &users)?;
    let interrupt = cx.options.interrupt.clone();
    // Begun, it isn't ended: each of its steps can be done again, and none be left out.
    let lost = interrupt.clean_up(|| {
        let lost = if phase == Phase::Done { lost(cx, kept)? } else { vec![] };
        kept::end_containers(cx, &kept.service)?;
        stop_what_runs(cx, &kept.service)?;
        returning::bring_back(cx, kept, phase, None)?;
        stopped.start(cx).map(|()| lost)
    })?;
    cx.out.say(format!("{}: PostgreSQL {} serves again", kept.service, kept.old.major));
    stopped.wait(cx)?;
    Ok(lost)
}

/// What [`back`] runs, but for the services that it stops and what it changes in the stack's files.
pub fn commands(cx: &Context, kept: &Kept) -> Result<Vec<Invocation>> {
    Ok(vec![
        cx.engine.compose(["stop", &kept.service]),
        moving::stage_command(cx, kept, &kept.volume)?,
        moving::swap_command(cx, kept, Way::Old, "")?,
        cx.engine.compose(["up", "-d", "--no-deps", &kept.service]),
        cx.engine.docker(["volume", "rm", &kept.volume]),
    ])
}

/// What [`finish`] runs.
pub fn finish_commands(cx: &Context, kept: &Kept) -> Vec<Invocation> {
    vec![cx.engine.docker(["volume", "rm", &kept.volume])]
}

/// Deletes what was kept.
pub fn finish(cx: &Context, kept: &Kept) -> Result<()> {
    kept::remove_volume(cx, &kept.service, &kept::new_volume(cx, &kept.service))?;
    kept::remove_volume(cx, &kept.service, &kept.volume)
}
