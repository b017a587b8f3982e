//! The way back: the old data in its place again, the old image and mount in the stack's files, the old server serving.

use anyhow::{Context as _, Result, bail};
use ory_runner::failure::{Exit, Failure};

use super::kept::{self, Kept, Phase, Way};
use super::moving;
use super::pins;
use super::subject::Subject;
use super::surroundings::{service, start_server, stop_what_runs};
use crate::context::Context;
use crate::image_pin::Edit;
use crate::lock::Locked;
use crate::server_ready;

/// Which server serves after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    Old,
    New,
}

/// Removes what an earlier run has left that came to nothing: the place of the data wasn't touched.
pub fn clear(cx: &Context, service: &str, source: &str, image: &str) -> Result<()> {
    kept::end_containers(cx, service)?;
    let mut has_left = false;
    if let Some(kept) = Kept::find(cx, service)?
        && kept.phase(cx)? == Phase::Untouched
    {
        kept::remove_volume(cx, &kept.service, &kept.volume)?;
        has_left = true;
    }
    let new = kept::new_volume(cx, service);
    has_left |= kept::is_own(cx, service, &new)?;
    kept::remove_volume(cx, service, &new)?;
    // Nothing is staged where there never was a volume.
    if has_left { moving::unstage(cx, service, source, image) } else { Ok(()) }
}

/// Puts everything back as it was before an upgrade. Where the new server has taken writes, it stays.
pub fn put_back(cx: &mut Locked, kept: &Kept, edits: &[Edit]) -> Result<Serves> {
    kept::end_containers(cx, &kept.service)?;
    let there = Kept::find(cx, &kept.service)?;
    let phase = there.as_ref().map(|kept| kept.phase(cx)).transpose()?.unwrap_or(Phase::Untouched);
    if phase == Phase::Untouched {
        let listed = cx.listed()?.into_iter().find(|container| container.service == kept.service);
        let container = listed.context("the server's container is gone")?;
        cx.engine.docker(["start", &container.id]).within(None).read()?;
        server_ready::wait(cx, service(cx, &kept.service)?)?;
        clear(cx, &kept.service, &kept.source, &kept.tools(cx)?)?;
        return Ok(Serves::Old);
    }
    stop_what_runs(cx, &kept.service)?;
    if matches!(phase, Phase::Moved(Way::New) | Phase::Done) && !moving::is_as_proved(cx, kept)? {
        kept.done(cx)?;
        start_server(cx, &kept.service)?;
        return Ok(Serves::New);
    }
    bring_back(cx, kept, phase, Some(edits))?;
    Ok(Serves::Old)
}

/// Brings the old data back into its place, the old image and mount into the stack's files, and starts the old server.
/// `edits`: what this run has written itself.
pub fn bring_back(cx: &mut Locked, kept: &Kept, phase: Phase, edits: Option<&[Edit]>) -> Result<()> {
    match phase {
        Phase::Moved(Way::Old) => {}
        Phase::Moving(Way::Old) => moving::swap(cx, kept, Way::Old, "")?,
        _ => {
            moving::stage(cx, kept, &kept.volume)?;
            moving::swap(cx, kept, Way::Old, "")?;
        }
    }
    let now = kept.new.place.clone();
    // What was written by this run is undone to the letter, where that is all.
    let undone: Vec<_> =
        edits.unwrap_or_default().iter().filter(|edit| edit.stands()).map(Edit::undone).collect();
    cx.read_again()?;
    let own = service(cx, &kept.service)?;
    if undone.is_empty() || pins::write(cx, &undone, own, &now, &kept.old).is_err() {
        let edits = pins::edits(cx, own, &now, &kept.old)?;
        pins::write(cx, &edits, own, &now, &kept.old)?;
        edits.iter().for_each(|edit| cx.out.say(format!("{}: {}", edit.file.display(), edit.line())));
    }
    cx.read_again()?;
    start_server(cx, &kept.service)?;
    let major = Subject::find(cx, service(cx, &kept.service)?)?.facts(cx)?.major;
    if major != kept.old.major {
        bail!(Failure::new(
            Exit::Failed,
            format!("what serves is PostgreSQL {major}, not {}", kept.old.major)
        ));
    }
    kept::remove_volume(cx, &kept.service, &kept.volume)?;
    kept::remove_volume(cx, &kept.service, &kept::new_volume(cx, &kept.service))
}
