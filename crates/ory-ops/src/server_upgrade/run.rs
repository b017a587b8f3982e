//! The upgrade itself: stop, copy, make, prove, put in place; and if anything fails before the new server serves, everything
//! as it was before.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use ory_facts::server_contents;
use ory_facts::tables;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_runner::process::Invocation;
use ory_stack::container::Container;
use ory_stack::data_mount::Place;
use ory_stack::service::Service;

use super::bench::{Bench, QUIET, Start};
use super::comparison::{self, All};
use super::kept::{self, Kept, Phase, Way, mount_volume};
use super::moving;
use super::pins;
use super::scripts;
use super::subject::Subject;
use super::survey::Survey;
use super::transfer;
use crate::administrator::MAINTENANCE_DATABASE;
use crate::context::Context;
use crate::diagnosis;
use crate::image_pin::Edit;
use crate::lock::Locked;
use crate::readiness;
use crate::server_ready;
use crate::services::{self, Stopped};

/// Where the kept volume is mounted beside the new one.
const OLD: &str = "/xtask-old";

/// What an upgrade needs to know once the stack was read again.
struct Job {
    kept: Kept,
    edits: Vec<Edit>,
    users: Vec<String>,
}

/// Which server serves after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    Old,
    New,
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
        Bench::command(cx, &of_old(subject, kept, &facts.owner)).0,
        moving::stage_command(cx, kept, &new)?,
        moving::swap_command(cx, kept, Way::New, "")?,
        up,
    ]);
    Ok(commands)
}

/// Makes an end of what an earlier run has left that came to nothing: everything runs again as before it.
pub fn make_ready(cx: &Locked, name: &str) -> Result<()> {
    let subject = Subject::find(cx, service(cx, name)?)?;
    clear(cx, name, &subject.source, &subject.image)?;
    if !subject.is_running {
        cx.engine.docker(["start", &subject.container]).within(None).read()?;
        server_ready::wait(cx, &subject.service)?;
    }
    let users = users_of(cx, name);
    let users: Vec<_> = users.iter().filter_map(|name| cx.stack.services.get(name)).collect();
    services::start_left(cx, &users)
}

/// Upgrades a server. Whatever fails before the new one serves, the old one serves again.
pub fn run(cx: &mut Locked, survey: Survey) -> Result<()> {
    let stopped = stop_users(cx, &survey.users)?;
    let made = make(cx, &survey);
    let job = Job { kept: survey.kept, edits: survey.edits, users: survey.users };
    let outcome = made.and_then(|proved| put_in_place(cx, &job, &proved));
    end(cx, &job, &stopped, outcome)
}

/// Goes on with an upgrade whose data was being put in its place when it was ended.
pub fn go_on(cx: &mut Locked, kept: Kept, phase: Phase) -> Result<()> {
    kept::end_containers(cx, &kept.service)?;
    let users = users_of(cx, &kept.service);
    let stopped = stop_users(cx, &users)?;
    let edits = pins::edits(cx, service(cx, &kept.service)?, &kept.old.place, &kept.new)?;
    let job = Job { kept, edits, users };
    let outcome = (|| {
        if phase == Phase::Moving(Way::New) {
            moving::swap(cx, &job.kept, Way::New, "")?;
        }
        serve(cx, &job, None)
    })();
    end(cx, &job, &stopped, outcome)
}

/// The services that use a server, where no session tells.
fn users_of(cx: &Context, server: &str) -> Vec<String> {
    let uses = |service: &&Service| {
        service.name != server
            && (cx.stack.product_of(service).is_some() || service.depends_on.contains_key(server))
    };
    cx.stack.services.values().filter(uses).map(|service| service.name.clone()).collect()
}

fn service<'a>(cx: &'a Context, name: &str) -> Result<&'a Service> {
    cx.stack.services.get(name).with_context(|| format!("the stack has no service `{name}` any more"))
}

fn stop_users(cx: &Locked, users: &[String]) -> Result<Stopped> {
    let services: Vec<_> = users.iter().filter_map(|name| cx.stack.services.get(name)).collect();
    let stopped = services::stop_those(cx, &services)?;
    if !stopped.is_empty() {
        cx.out.say(format!("{}: stopped", stopped.names()));
    }
    Ok(stopped)
}

/// Goes back to the old server, on purpose or where that was begun.
pub fn go_back(cx: &mut Locked, kept: &Kept, phase: Phase) -> Result<()> {
    let users = users_of(cx, &kept.service);
    let stopped = stop_users(cx, &users)?;
    let interrupt = cx.options.interrupt.clone();
    // Begun, it isn't ended: each of its steps can be done again, and none be left out.
    interrupt.clean_up(|| {
        kept::end_containers(cx, &kept.service)?;
        stop_what_runs(cx, &kept.service)?;
        bring_back(cx, kept, phase, None)?;
        stopped.start(cx)
    })?;
    cx.out.say(format!("{}: PostgreSQL {} serves again", kept.service, kept.old.major));
    stopped_ready(cx, &users, &stopped)
}

/// Removes what an earlier run has left that came to nothing: the place of the data wasn't touched.
fn clear(cx: &Context, service: &str, source: &str, image: &str) -> Result<()> {
    kept::end_containers(cx, service)?;
    let mut has_left = false;
    if let Some(kept) = Kept::find(cx, service)?
        && kept.phase(cx)? == Phase::Untouched
    {
        kept::remove_volume(cx, &kept.volume)?;
        has_left = true;
    }
    let new = kept::new_volume(cx, service);
    has_left |= cx.engine.has_volume(&new)?;
    kept::remove_volume(cx, &new)?;
    // Nothing is staged where there never was a volume.
    if has_left { moving::unstage(cx, service, source, image) } else { Ok(()) }
}

/// What was proved of a new cluster.
struct Proved {
    contents: All,
    /// From which moment on only the server in its place writes.
    moment: String,
}

/// Makes the new cluster beside a copy of the old one, and proves it. The place of the data isn't touched.
fn make(cx: &Context, survey: &Survey) -> Result<Proved> {
    let Survey { subject, facts, kept, .. } = survey;
    moving::stop_server(cx, &subject.container)?;
    cx.out.say(format!("{}: stopped; nothing is written from here on", subject.name()));
    moving::keep(cx, kept)?;
    transfer::make_cluster(cx, subject, kept, facts)?;
    let new = mount_volume(&kept::new_volume(cx, subject.name()), &kept.new.place.target);
    let old = Bench::start(cx, of_old(subject, kept, &facts.owner))?;
    let bench = Start {
        subject,
        purpose: "upgrade-new",
        image: &kept.new.image,
        owner: &facts.owner,
        data: vec![new.clone()],
        folder: &kept.new.place.folder,
        with_mounts: false,
        beside: Some(&old.name),
        words: words(&[LOADING, QUIET, ALONE], &[]),
    };
    let loading = Bench::start(cx, bench)?;
    transfer::copy(cx, &loading, facts)?;
    loading.stop()?;
    settings(cx, kept, &new)?;
    // As the service will start it, but for what reaches others.
    let bench = Start {
        subject,
        purpose: "upgrade-proof",
        image: &kept.new.image,
        owner: &facts.owner,
        data: vec![new],
        folder: &kept.new.place.folder,
        with_mounts: true,
        beside: None,
        words: words(&[QUIET, ALONE], subject.arguments.as_deref().unwrap_or_default()),
    };
    let proof = Bench::start(cx, bench)?;
    for database in &facts.databases {
        let _progress = cx.out.progress(format!("analysing {}", database.name));
        proof.psql(&database.name).stdin("analyze;\n").read()?;
    }
    let progress = cx.out.progress("comparing the two servers");
    let maintain = facts.major >= 17;
    let contents = comparison::compare(&old, &proof, &facts.databases, maintain)?;
    for other in comparison::other_versions(&old, &proof, &facts.databases)? {
        cx.out.say(format!("the extension {other}"));
    }
    drop(progress);
    let moment = proof.ask(MAINTENANCE_DATABASE).stdin(format!("{};\n", tables::NEXT)).read()?;
    proof.stop()?;
    old.stop()?;
    let counts = contents.values().map(server_contents::counted);
    let (tables, rows) = counts.fold((0, 0), |(t, r), (tables, rows)| (t + tables, r + rows));
    let databases = counted(facts.databases.len(), "database");
    cx.out.say(format!(
        "{databases} with {} and {} are the same in PostgreSQL {}",
        counted(tables, "table"),
        counted(rows as usize, "row"),
        kept.new.major
    ));
    moving::stage(cx, kept, &kept::new_volume(cx, subject.name()))?;
    moving::check_untouched(cx, subject)?;
    Ok(Proved { contents, moment: moment.trim().into() })
}

/// What makes loading faster. Where it ends before its end, what was loaded is thrown away.
const LOADING: &[&str] = &[
    "-c",
    "fsync=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "wal_level=minimal",
    "-c",
    "max_wal_senders=0",
    "-c",
    "max_wal_size=2GB",
    "-c",
    "maintenance_work_mem=256MB",
];

/// Who is asked in its own container only.
const ALONE: &[&str] = &["-c", "listen_addresses="];

/// The copy of the old server is read by the new one, on the loopback network that they share, and changes nothing.
const READING: &[&str] = &[
    "-c",
    "listen_addresses=127.0.0.1",
    "-c",
    "port=5432",
    "-c",
    "default_transaction_read_only=on",
    "-c",
    "shared_buffers=64MB",
    "-c",
    "huge_pages=off",
];

/// The service's own words come first: of two of the same setting, the last one counts.
fn words(ours: &[&[&str]], own: &[String]) -> Vec<String> {
    own.iter().cloned().chain(ours.iter().copied().flatten().map(ToString::to_string)).collect()
}

fn of_old<'a>(subject: &'a Subject, kept: &'a Kept, owner: &'a str) -> Start<'a> {
    Start {
        subject,
        purpose: "upgrade-old",
        image: &kept.old.image,
        owner,
        data: vec![mount_volume(&kept.volume, &kept.old.place.target)],
        folder: &kept.old.place.folder,
        with_mounts: true,
        beside: None,
        words: words(&[QUIET, READING], subject.arguments.as_deref().unwrap_or_default()),
    }
}

/// The old cluster's settings, who it lets in, and what else is beside them, into the new one.
fn settings(cx: &Context, kept: &Kept, new: &str) -> Result<()> {
    let mounts = [new.to_string(), mount_volume(&kept.volume, OLD) + ",readonly"];
    let old = format!("{OLD}/{}", kept.old.place.within());
    let words = [old.trim_end_matches('/'), &kept.new.place.folder];
    scripts::run(cx, &kept.new.image, &kept::of(cx, &kept.service), &mounts, scripts::SETTINGS, &words)
        .read()?;
    // What was loaded without waiting for the disk is there from now on, whatever happens.
    let sync = ["-D", kept.new.place.folder.as_str()];
    let script = "exec initdb --sync-only \"$@\"";
    let user = cx.stack.services.get(&kept.service).and_then(|service| service.user.as_deref());
    let (of, user) = (kept::of(cx, &kept.service), user.unwrap_or("postgres"));
    scripts::bare(cx, &kept.new.image, &of, user, &mounts[..1], script, &sync).read().map(|_| ())
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
    for edit in &job.edits {
        cx.out.say(format!("{}: {}", edit.file.display(), edit.line()));
    }
    read_again(cx)?;
    start_server(cx, &kept.service)?;
    let subject = Subject::find(cx, service(cx, &kept.service)?)?;
    let facts = subject.facts(cx)?;
    if facts.major != kept.new.major {
        bail!(Failure::new(Exit::Failed, format!("what serves is PostgreSQL {}", facts.version)));
    }
    if let Some(expected) = expected {
        check_again(cx, &subject, &facts.databases, expected, kept.old.major >= 17)?;
    }
    cx.options.interrupt.check()?;
    kept.done(cx)?;
    cx.out.say(format!("{}: PostgreSQL {} serves, in {}", kept.service, facts.version, subject.told));
    Ok(())
}

/// A last look, by the way that everybody goes: roles, databases, settings and rights are what was proved.
fn check_again(
    cx: &Context,
    subject: &Subject,
    databases: &[ory_facts::server_facts::Database],
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

/// The stack as its files are now.
fn read_again(cx: &mut Locked) -> Result<()> {
    let options = cx.options.clone();
    let settings = cx.settings.clone();
    **cx = Context::new(&options, settings)?;
    Ok(())
}

/// Has Compose make and start the server's container, as the stack says now.
pub fn start_server(cx: &Locked, name: &str) -> Result<()> {
    let up = cx.engine.compose(["up", "-d", "--no-deps", name]);
    cx.run_logged("upgrade", &up).map_err(diagnosis::of_engine)?;
    server_ready::wait(cx, service(cx, name)?)
}

/// The end of an upgrade: services start again, whichever server serves.
fn end(cx: &mut Locked, job: &Job, stopped: &Stopped, outcome: Result<()>) -> Result<()> {
    let kept = &job.kept;
    let Err(error) = outcome else {
        kept::remove_volume(cx, &kept::new_volume(cx, &kept.service))?;
        stopped.start(cx)?;
        stopped_ready(cx, &job.users, stopped)?;
        cx.out.say(format!(
            "the old data is in the volume {}: {{XTASK}} upgrade db --back goes back to it, --finish deletes it",
            kept.volume
        ));
        return Ok(());
    };
    let interrupt = cx.options.interrupt.clone();
    let put_back = interrupt.clean_up(|| {
        let serves = put_back(cx, kept, &job.edits)?;
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
            let hint = "{XTASK} up, or {XTASK} upgrade db --back, which says what would be lost";
            error.context(Failure::new(interrupt.exit(), message).hint(hint))
        }
        Err(left) => {
            let message = format!("the upgrade failed ({error:#}), and the old server isn't back yet");
            left.context(
                Failure::new(interrupt.exit(), message).hint("{XTASK} upgrade db, which goes on with that"),
            )
        }
    })
}

/// Waits until the products among the services that ran are ready again.
fn stopped_ready(cx: &Context, users: &[String], stopped: &Stopped) -> Result<()> {
    let ran = stopped.names();
    let is_product = |name: &&str| {
        let service = cx.stack.services.get(*name);
        service.is_some_and(|service| cx.stack.product_of(service).is_some())
    };
    let ran = |name: &&str| ran.split(", ").any(|other| other == *name);
    let names: Vec<_> = users.iter().map(String::as_str).filter(ran).filter(is_product).collect();
    readiness::wait(cx, &names, Instant::now()).map(|_| ())
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

fn stop_what_runs(cx: &Context, service: &str) -> Result<()> {
    let listed = cx.listed()?.into_iter().find(|container| container.service == service);
    match listed.filter(|container| container.state != "exited" && container.state != "created") {
        Some(container) => moving::stop_server(cx, &container.name),
        None => Ok(()),
    }
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
    let now: Place = kept.new.place.clone();
    // What was written by this run is undone to the letter.
    let is_written = |edit: &Edit| edit.stands();
    let undone: Vec<Edit> = match edits {
        Some(edits) if edits.iter().all(is_written) => edits.iter().map(Edit::undone).collect(),
        _ => {
            read_again(cx)?;
            pins::edits(cx, service(cx, &kept.service)?, &now, &kept.old)?
        }
    };
    read_again(cx)?;
    pins::write(cx, &undone, service(cx, &kept.service)?, &now, &kept.old)?;
    read_again(cx)?;
    start_server(cx, &kept.service)?;
    let major = Subject::find(cx, service(cx, &kept.service)?)?.facts(cx)?.major;
    if major != kept.old.major {
        bail!(Failure::new(
            Exit::Failed,
            format!("what serves is PostgreSQL {major}, not {}", kept.old.major)
        ));
    }
    kept::remove_volume(cx, &kept.volume)?;
    kept::remove_volume(cx, &kept::new_volume(cx, &kept.service))
}
