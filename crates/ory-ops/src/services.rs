//! Containers of services started and restarted by the engine itself, and held still while their database is put in
//! another one's place.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use ory_facts::instance::Instance;
use ory_runner::at_once::each;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::{Container, Listed};
use ory_stack::service::Service;

use crate::context::Context;
use crate::diagnosis;
use crate::folders::work_file;
use crate::lock::Locked;
use crate::readiness;
use crate::recreate;

/// Containers that ran, and were stopped.
pub struct Stopped {
    services: Vec<String>,
    ids: Vec<String>,
    /// Those that are no longer as the stack says, as where an image of before is to serve again.
    changed: Vec<Container>,
}

/// The running containers that serve these products, or run beside as a courier. Those that a killed run has left stopped
/// are among them.
pub fn serving(cx: &Context, products: &[Instance]) -> Result<Vec<Container>> {
    running(cx, &products.iter().flat_map(|product| cx.stack.running(*product)).collect::<Vec<_>>())
}

/// The same of services, whatever they are.
fn running(cx: &Context, services: &[&Service]) -> Result<Vec<Container>> {
    let mut containers = cx.containers()?;
    containers.retain(|c| {
        let was_running = c.is_running() || note(cx, &c.id).is_ok_and(|note| note.exists());
        was_running && services.iter().any(|service| service.name == c.service)
    });
    Ok(containers)
}

/// What stops containers; none where there are none.
pub fn stop_command(cx: &Context, containers: &[Container]) -> Option<Invocation> {
    command(cx, "stop", containers.iter().map(|container| &container.id))
}

/// Stops what serves these products.
pub fn stop(cx: &Locked, products: &[Instance]) -> Result<Stopped> {
    stop_those(cx, &products.iter().flat_map(|product| cx.stack.running(*product)).collect::<Vec<_>>())
}

/// Stops what runs of these services.
pub fn stop_those(cx: &Locked, services: &[&Service]) -> Result<Stopped> {
    let listed = running(cx, services)?;
    let work = recreate::compare(cx, services)?;
    let changed = listed.iter().filter(|container| work.make.contains(&container.service.as_str()));
    let stopped = Stopped {
        changed: changed.cloned().collect(),
        services: listed.iter().map(|container| container.service.clone()).collect(),
        ids: listed.into_iter().map(|container| container.id).collect(),
    };
    for id in &stopped.ids {
        let note = note(cx, id)?;
        fs::write(&note, "").with_context(|| format!("failed to write {}", note.display()))?;
    }
    if let Err(error) = run(cx, "stop", &stopped.ids) {
        // Some of them may have stopped before.
        return Err(cx.options.interrupt.clean_up_after(error, || stopped.start(cx)));
    }
    Ok(stopped)
}

/// Starts those of these services again that a killed run has left stopped.
pub fn start_left(cx: &Locked, services: &[&Service]) -> Result<()> {
    let mut left = running(cx, services)?;
    left.retain(|container| !container.is_running());
    let stopped = Stopped {
        services: vec![],
        ids: left.into_iter().map(|container| container.id).collect(),
        changed: vec![],
    };
    stopped.start(cx)
}

/// Starts a service's containers as they are; where there is none, the one that is being made.
pub fn start(cx: &Context, containers: &[Listed], service: &Service) -> Invocation {
    let own = containers.iter().filter(|container| container.service == service.name);
    let mut names: Vec<_> = own.map(|container| container.name.clone()).collect();
    if names.is_empty() {
        names.push(cx.container_name(containers, service));
    }
    cx.engine.docker(["start"]).args(names)
}

/// The same beside the steps of a plan, the last of which tells why it fails. What is known of other containers stays so.
pub fn start_beside(cx: &Locked, service: &Service) {
    let containers = cx.listed().unwrap_or_default();
    let _ = start(cx, &containers, service).within(None).output();
}

/// Restarts the containers of services, all at the same time. Compose takes longer, and does no more where nothing
/// depends on them.
pub fn restart(cx: &Locked, names: &[&str]) -> Result<()> {
    let commands = restart_commands(cx, names)?;
    let _progress = cx.out.progress("restarting".to_string());
    let failed = each(&commands, Invocation::read).into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |error| Err(diagnosis::of_engine(error).context("failed to restart")))
}

/// What [`restart`] runs.
pub fn restart_commands(cx: &Context, names: &[&str]) -> Result<Vec<Invocation>> {
    let names_one =
        |service: &Service| service.depends_on.keys().any(|other| names.contains(&other.as_str()));
    if cx.stack.services.values().any(names_one) {
        return Ok(vec![cx.engine.compose(["restart"].into_iter().chain(names.iter().copied()))]);
    }
    let listed = cx.listed()?;
    let containers = names.iter().flat_map(|name| listed.iter().filter(|c| c.service == **name));
    Ok(containers.map(|container| cx.engine.docker(["restart", &container.name]).within(None)).collect())
}

impl Stopped {
    /// Their services' names.
    pub fn names(&self) -> String {
        self.services.join(", ")
    }

    /// Whether there was none to be stopped.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Stops what runs by now in their place, so that nothing more is written.
    pub fn halt(&self, cx: &Locked) -> Result<()> {
        let there = cx.containers()?;
        let runs = there.into_iter().filter(|c| c.is_running() && self.services.contains(&c.service));
        let ids: Vec<_> = runs.map(|container| container.id).collect();
        run(cx, "stop", &ids)
    }

    /// Starts them again, as they were.
    pub fn start(&self, cx: &Locked) -> Result<()> {
        run(cx, "start", &self.ids)?;
        self.leave(cx)
    }

    /// Leaves them stopped, also for the runs that follow.
    pub fn leave(&self, cx: &Locked) -> Result<()> {
        // Where it is gone already, all the better.
        self.ids.iter().try_for_each(|id| note(cx, id).map(|note| drop(fs::remove_file(note))))
    }

    /// Starts them again as the stack says: those that changed are recreated.
    pub fn start_current(&self, cx: &Locked) -> Result<()> {
        if !self.changed.is_empty() {
            let names = self.changed.iter().map(|container| container.service.as_str());
            let make = cx.engine.compose(["up", "-d"].into_iter().chain(names));
            cx.run_logged("start", &make).map_err(diagnosis::of_engine)?;
        }
        self.start_unchanged(cx)
    }

    /// Starts them again after [`Stopped::start_current`] failed. Fails where one that was recreated can't be as it was.
    pub fn start_again(&self, cx: &Locked) -> Result<()> {
        let there = cx.containers()?;
        let is_gone = |container: &&Container| !there.iter().any(|other| other.id == container.id);
        let Some(gone) = self.changed.iter().find(is_gone) else { return self.start(cx) };
        self.start_unchanged(cx)?;
        let Container { service, image, .. } = gone;
        let message =
            format!("{service} was recreated as the stack says now; the data that is there needs {image}");
        let hint = "name that image again, in .env, and: {XTASK} up";
        Err(Failure::new(Exit::Failed, message).hint(hint).into())
    }

    fn start_unchanged(&self, cx: &Locked) -> Result<()> {
        let ids = self.ids.iter().filter(|id| !self.changed.iter().any(|container| container.id == **id));
        run(cx, "start", ids)?;
        self.leave(cx)
    }

    /// Waits until they are ready.
    pub fn wait(&self, cx: &Context) -> Result<()> {
        let services: Vec<_> = self.services.iter().map(String::as_str).collect();
        readiness::wait(cx, &services, Instant::now()).map(|_| ())
    }
}

fn run<'a>(cx: &Locked, verb: &str, ids: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let Some(command) = command(cx, verb, ids) else { return Ok(()) };
    // The engine goes on stopping them, whoever waits for that: started meanwhile, they would stop after all.
    let command = if verb == "stop" { command.uninterrupted() } else { command };
    command.read().map(|_| ()).map_err(diagnosis::of_engine)
}

fn command<'a>(cx: &Context, verb: &str, ids: impl IntoIterator<Item = &'a String>) -> Option<Invocation> {
    let ids: Vec<_> = ids.into_iter().cloned().collect();
    (!ids.is_empty()).then(|| cx.engine.docker([verb]).args(ids))
}

/// Forgets that a run has left the containers of these services stopped: they run again.
pub fn forget_stopped(cx: &Locked, services: &[&str]) -> Result<()> {
    for container in cx.containers()?.iter().filter(|one| services.contains(&one.service.as_str())) {
        // Where it is gone already, all the better.
        let _ = fs::remove_file(note(cx, &container.id)?);
    }
    Ok(())
}

/// The file that is there while a container is stopped, so that a run that is killed meanwhile leaves word of it.
fn note(cx: &Context, id: &str) -> Result<PathBuf> {
    work_file(&cx.options, &format!("stopped/{}-{id}", cx.stack.project))
}
