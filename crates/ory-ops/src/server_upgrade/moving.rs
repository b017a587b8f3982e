//! The data of a stopped server copied away, and put in another's place by renaming alone.

use anyhow::{Result, bail};
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;

use super::kept::{self, Kept, Way, mount, mount_volume};
use super::scripts;
use super::subject::Subject;
use crate::context::Context;

/// How long the server may take to end what its sessions do.
const STOP: &str = "600";

/// Stops a server, in order.
pub fn stop_server(cx: &Context, container: &str) -> Result<()> {
    let _progress = cx.out.progress(format!("stopping {container}"));
    // The engine goes on stopping it, whoever waits for that: what follows must not find it half stopped.
    stop_command(cx, container).uninterrupted().read().map(|_| ())
}

/// What [`stop_server`] runs.
pub fn stop_command(cx: &Context, container: &str) -> Invocation {
    cx.engine.docker(["stop", "--time", STOP, container]).within(None)
}

/// Copies the stopped server's data into the volume that is kept.
pub fn keep(cx: &Context, kept: &Kept) -> Result<()> {
    let _progress = cx.out.progress(format!("copying the old data into the volume {}", kept.volume));
    kept.make_command(cx).read()?;
    // What has the name already is taken as it is, without a word.
    if Kept::find(cx, &kept.service)?.as_ref() != Some(kept) {
        let message = format!("the volume {} is another one than was to be made", kept.volume);
        bail!(Failure::new(Exit::Failed, message).hint(format!("docker volume inspect {}", kept.volume)));
    }
    keep_command(cx, kept).read().map(|_| ())
}

/// What [`keep`] runs, once there is a volume.
pub fn keep_command(cx: &Context, kept: &Kept) -> Invocation {
    let mounts = [mount(&kept.source, "/from") + ",readonly", mount_volume(&kept.volume, "/to")];
    scripts::run(cx, &kept.new.image, &kept::of(cx, &kept.service), &mounts, scripts::COPY, &[])
}

/// Puts a copy of a volume's data beside that of the server, where nobody uses it yet.
pub fn stage(cx: &Context, kept: &Kept, volume: &str) -> Result<()> {
    let _progress = cx.out.progress(format!("copying what is in the volume {volume}"));
    stage_command(cx, kept, volume)?.read().map(|_| ())
}

/// What [`stage`] runs.
pub fn stage_command(cx: &Context, kept: &Kept, volume: &str) -> Result<Invocation> {
    let mounts = [mount_volume(volume, "/from") + ",readonly", mount(&kept.source, "/to")];
    let of = kept::of(cx, &kept.service);
    Ok(scripts::run(cx, &kept.tools(cx)?, &of, &mounts, scripts::STAGE, &[]))
}

/// Removes what is staged.
pub fn unstage(cx: &Context, service: &str, source: &str, image: &str) -> Result<()> {
    let mounts = [mount(source, "/to")];
    scripts::run(cx, image, &kept::of(cx, service), &mounts, scripts::UNSTAGE, &[]).read().map(|_| ())
}

/// Puts what is staged in the place of what is there. It takes a moment, and no signal ends it.
pub fn swap(cx: &Context, kept: &Kept, way: Way, moment: &str) -> Result<()> {
    swap_command(cx, kept, way, moment)?.uninterrupted().read().map(|_| ())
}

/// What [`swap`] runs.
pub fn swap_command(cx: &Context, kept: &Kept, way: Way, moment: &str) -> Result<Invocation> {
    let mounts = [mount_volume(&kept.volume, "/kept"), mount(&kept.source, "/to")];
    let of = kept::of(cx, &kept.service);
    Ok(scripts::run(cx, &kept.tools(cx)?, &of, &mounts, scripts::MOVE, &[way.word(), moment]))
}

/// Fails where somebody has started the server since it was stopped, or uses its data otherwise.
pub fn check_untouched(cx: &Context, subject: &Subject) -> Result<()> {
    let format = "{{.State.StartedAt}} {{.State.Running}}";
    let state = cx.engine.docker(["inspect", "--format", format, &subject.container]).read()?;
    let of_volume = subject.source.rsplit("source=").next().unwrap_or_default();
    let users = cx.engine.docker(["ps", "--quiet", "--filter", &format!("volume={of_volume}")]).read()?;
    if state.trim() == format!("{} false", subject.started) && users.trim().is_empty() {
        return Ok(());
    }
    let message =
        format!("somebody started `{}` meanwhile, so what was copied isn't all any more", subject.name());
    bail!(Failure::new(Exit::Failed, message).hint("see who does, then this again"))
}

/// Whether the new server, which is stopped, has given out no transaction since its cluster was proved.
pub fn is_as_proved(cx: &Context, kept: &Kept) -> Result<bool> {
    let new = kept::new_volume(cx, &kept.service);
    if !cx.engine.has_volume(&new)? {
        return Ok(false);
    }
    let mounts = [mount_volume(&new, "/from") + ",readonly", mount(&kept.source, "/to") + ",readonly"];
    let of = kept::of(cx, &kept.service);
    let same = scripts::run(cx, &kept.new.image, &of, &mounts, scripts::SAME, &[kept.new.place.within()]);
    Ok(same.output()?.status.success())
}
