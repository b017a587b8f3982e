//! The upgrade itself: stop, copy, make, prove, put in place; and if anything fails before the new server serves, everything
//! as it was before.

use anyhow::{Context as _, Result, bail};
use ory_facts::server_contents;
use ory_facts::server_facts::Database;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::Container;

use super::bench::Bench;
use super::comparison::All;
use super::kept::{self, Kept, Way};
use super::moving;
use super::pins;
use super::proof::{self, Proved};
use super::returning::{self, Serves};
use super::subject::Subject;
use super::surroundings::{service, start_server, stop_users, users_of};
use super::survey::Survey;
use crate::administrator::MAINTENANCE_DATABASE;
use crate::context::Context;
use crate::image_pin::Edit;
use crate::lock::Locked;
use crate::server_ready;
use crate::services::{self, Stopped};

/// What an upgrade needs to know once the stack was read again.
struct Job {
    kept: Kept,
    edits: Vec<Edit>,
}

/// What [`run`] runs, as far as it doesn't depend on what databases hold.
pub fn commands(cx: &Context, survey: &Survey) -> Result<Vec<Invocation>> {
    let Survey { subject, facts, kept, .. } = survey;
    let services: Vec<_> = survey.users.iter().filter_map(|name| cx.stack.services.get(name)).collect();
    let containers = cx.containers()?.into_iter().filter(Container::is_running);
    let containers: Vec<_> = containers.filter(|c| services.iter().any(|s| s.name == c.service)).collect();
    let new = kept::new_volume(cx, &kept.service);
    let up = cx.engine.compose(["up", "-d", "--no-deps", &kept.service]);
    let mut commands: Vec<_> = services::stop_command(cx, &containers).into_iter().collect();
    commands.extend([
        moving::stop_command(cx, &subject.container),
        kept.make_command(cx),
        moving::keep_command(cx, kept),
        kept::volume_command(cx, &new, &kept::of(cx, &kept.service), &[]),
        Bench::command(cx, &proof::of_old(subject, kept, &facts.owner)).0,
        moving::stage_command(cx, kept, &new)?,
        moving::swap_command(cx, kept, Way::New, "")?,
        up,
    ]);
    Ok(commands)
}

/// Makes an end of what an earlier run has left that came to nothing: everything runs again as before it.
pub fn make_ready(cx: &Locked, name: &str) -> Result<()> {
    let subject = Subject::find(cx, service(cx, name)?)?;
    returning::clear(cx, name, &subject.source, &subject.image)?;
    if !subject.is_running {
        cx.engine.docker(["start", &subject.container]).within(None).read()?;
        server_ready::wait(cx, &subject.service)?;
    }
    let users = users_of(cx, name, |_| false);
    let users: Vec<_> = users.iter().filter_map(|name| cx.stack.services.get(name)).collect();
    services::start_left(cx, &users)
}

/// Upgrades a server. Whatever fails before the new one serves, the old one serves again.
pub fn run(cx: &mut Locked, survey: Survey) -> Result<()> {
    let stopped = stop_users(cx, &survey.users)?;
    let made = proof::make(cx, &survey);
    let job = Job { kept: survey.kept, edits: survey.edits };
    let outcome = made.and_then(|proved| put_in_place(cx, &job, &proved));
    end(cx, &job, &stopped, outcome)
}

/// Goes on with an upgrade whose data was being put in its place when it was ended.
pub fn go_on(cx: &mut Locked, kept: Kept) -> Result<()> {
    kept::end_containers(cx, &kept.service)?;
    let users = users_of(cx, &kept.service, |_| false);
    let stopped = stop_users(cx, &users)?;
    let edits = service(cx, &kept.service).and_then(|own| pins::edits(cx, own, &kept.old.place, &kept.new));
    let (edits, found) = edits.map_or_else(|error| (vec![], Err(error)), |edits| (edits, Ok(())));
    let job = Job { kept, edits };
    let outcome = found.and_then(|()| {
        // Where all is moved, only what was left beside it goes.
        moving::swap(cx, &job.kept, Way::New, "")?;
        serve(cx, &job, None)
    });
    end(cx, &job, &stopped, outcome)
}

/// Puts the proved cluster in the old one's place, and has Compose start the new server.
fn put_in_place(cx: &mut Locked, job: &Job, proved: &Proved) -> Result<()> {
    moving::swap(cx, &job.kept, Way::New, &proved.moment)?;
    serve(cx, job, Some(&proved.contents))
}

/// Names the new image and mount in the stack's files, starts the server, and sees that it serves.
fn serve(cx: &mut Locked, job: &Job, expected: Option<&All>) -> Result<()> {
    let kept = &job.kept;
    pins::write(cx, &job.edits, service(cx, &kept.service)?, &kept.old.place, &kept.new)?;
    ends(cx)?;
    for edit in &job.edits {
        cx.out.say(format!("{}: {}", edit.file.display(), edit.line()));
    }
    cx.read_again()?;
    start_server(cx, &kept.service)?;
    let subject = Subject::find(cx, service(cx, &kept.service)?)?;
    let facts = subject.facts(cx)?;
    if facts.major != kept.new.major {
        bail!(Failure::new(Exit::Failed, format!("what serves is PostgreSQL {}", facts.version)));
    }
    if let Some(expected) = expected {
        check_again(cx, &subject, &facts.databases, expected, kept.old.major >= 17)?;
    }
    ends(cx)?;
    kept.done(cx)?;
    cx.out.say(format!("{}: PostgreSQL {} serves, in {}", kept.service, facts.version, subject.told));
    Ok(())
}

/// Fails where a signal came, also one that came while something was written, and was held back.
fn ends(cx: &Context) -> Result<()> {
    cx.options.interrupt.failure().map_or(Ok(()), |failure| Err(failure.into()))
}

/// A last look, by the way that everybody goes: roles, databases, settings and rights are what was proved.
fn check_again(
    cx: &Context,
    subject: &Subject,
    databases: &[Database],
    expected: &All,
    maintain: bool,
) -> Result<()> {
    let said = subject.psql(cx, MAINTENANCE_DATABASE).stdin(server_contents::of_server(maintain)).read()?;
    let now = server_contents::read(&said).context("psql didn't tell what the server holds")?;
    let mut before = expected.get("").cloned().unwrap_or_default();
    // The settings' files were compared before.
    before.retain(|name, _| !name.starts_with("setting "));
    let differences = server_contents::differences(&before, &now);
    if !differences.is_empty() || databases.len() + 1 != expected.len() {
        let message =
            format!("the server that serves isn't the one that was proved: {}", differences.join("; "));
        bail!(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

/// The end of an upgrade: services start again, whichever server serves.
fn end(cx: &mut Locked, job: &Job, stopped: &Stopped, outcome: Result<()>) -> Result<()> {
    let kept = &job.kept;
    let Err(error) = outcome else {
        // What was stopped for this starts again, whatever asks to end now.
        cx.options.interrupt.clean_up(|| {
            kept::remove_volume(cx, &kept.service, &kept::new_volume(cx, &kept.service))?;
            stopped.start(cx)
        })?;
        cx.out.say(format!(
            "the old data is in the volume {}: {{XTASK}} upgrade {} --back goes back to it, --finish deletes it",
            kept.volume, kept.service
        ));
        return stopped.wait(cx);
    };
    let interrupt = cx.options.interrupt.clone();
    let put_back = interrupt.clean_up(|| {
        let serves = returning::put_back(cx, kept, &job.edits)?;
        stopped.start(cx).map(|()| serves)
    });
    Err(match put_back {
        Ok(Serves::Old) => {
            cx.out.say(format!("{}: PostgreSQL {} serves again, as before", kept.service, kept.old.major));
            error
        }
        Ok(Serves::New) => {
            let message = format!(
                "PostgreSQL {} has taken writes by now, so it stays; the old data is in the volume {}",
                kept.new.major, kept.volume
            );
            let hint = format!(
                "{{XTASK}} up, or {{XTASK}} upgrade {} --back, which says what would be lost",
                kept.service
            );
            error.context(Failure::new(interrupt.exit(), message).hint(hint))
        }
        Err(left) => {
            let message = format!("the upgrade failed ({error:#}), and the old server isn't back yet");
            left.context(
                Failure::new(interrupt.exit(), message)
                    .hint(format!("{{XTASK}} upgrade {}, which goes on with that", kept.service)),
            )
        }
    })
}
