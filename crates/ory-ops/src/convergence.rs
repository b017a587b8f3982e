//! Which containers are as Compose would make them now: what must be recreated, what only be started.
//!
//! Plain `compose up -d` also runs every finished one-shot again, a script that seeds a database among them;
//! and `--no-deps` changes the hash by which Compose itself tells what changed. So xtask compares before it asks.

use anyhow::Result;

use crate::context::Context;
use crate::replicas::Replicas;
use ory_stack::container::{Container, Listed};
use ory_stack::service::Service;

/// The services asked for, by what is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work<'a> {
    /// No container, or one of another configuration or image.
    pub make: Vec<&'a str>,
    /// Its container is right, and stopped.
    pub start: Vec<&'a str>,
    /// Its container is right, and running.
    pub keep: Vec<&'a str>,
    /// Its container is right, and waits longer and longer between two starts that fail.
    pub stuck: Vec<&'a str>,
    /// A one-shot that ended well: it is left alone.
    pub finished: Vec<&'a str>,
}

/// Compares services with their containers.
pub fn compare<'a>(cx: &Context, services: &[&'a Service]) -> Result<Work<'a>> {
    let mut work = Work::default();
    if services.is_empty() {
        return Ok(work);
    }
    let containers = cx.containers()?;
    if containers.is_empty() {
        work.make = services.iter().map(|service| service.name.as_str()).collect();
        return Ok(work);
    }
    for service in services {
        let name = service.name.as_str();
        let own = Replicas::of(&containers, &[*service]);
        let mut is_current = !own.are_missing();
        for container in own.iter() {
            is_current &= cx.has_hash(name, &container.config_hash)?
                && cx.image(&container.image)?.is_some_and(|image| image.id == container.image_id);
        }
        let is_any = |state: &str| own.iter().any(|container| container.state == state);
        let has_ended = own.iter().next().is_some() && own.iter().all(Container::is_finished);
        // A server that was stopped ended well too.
        if has_ended && cx.stack.product_of(service).is_none() {
            work.finished.push(name);
        } else if !is_current {
            work.make.push(name);
        } else if is_any("restarting") {
            work.stuck.push(name);
        } else if own.iter().all(Container::is_running) {
            work.keep.push(name);
        } else {
            work.start.push(name);
        }
    }
    Ok(work)
}

/// Why a container that runs is to be restarted: it isn't as Compose would make it now. Where that can't be told, it isn't
/// said.
pub fn restart_due(cx: &Context, container: &Container) -> Option<String> {
    let service = cx.stack.services.get(&container.service).filter(|_| container.is_running())?;
    // Podman calls an image by another of its names.
    let is_other = |name: &String| {
        *name != container.image
            && !cx.image(name).is_ok_and(|image| image.is_some_and(|image| image.id == container.image_id))
    };
    match &service.image {
        // Another image needs no hash to be told.
        Some(image) if is_other(image) => Some(format!("{} runs, the stack says {image}", container.image)),
        // What Compose hashes of it is another service's container.
        _ if service.network_of.is_some() => None,
        _ => {
            let is_due = compare(cx, &[service]).is_ok_and(|work| !work.make.is_empty());
            is_due.then(|| "what runs isn't as the stack says now".into())
        }
    }
}

/// The services that Compose recreates with those of a work, because these need them and they changed: a database, for one,
/// ends its sessions then.
pub fn made_too<'a>(cx: &'a Context, work: &Work) -> Result<Vec<&'a str>> {
    let names: Vec<_> = work.make.iter().map(ToString::to_string).collect();
    let mut needed =
        if names.is_empty() { vec![] } else { cx.stack.with_dependencies(cx.stack.services(&names)?) };
    needed.retain(|service| !names.contains(&service.name));
    let listed = cx.listed()?;
    let is_there = |name: &&str| listed.iter().any(|container| container.service == *name);
    Ok(compare(cx, &needed)?.make.into_iter().filter(is_there).collect())
}

/// Compares what this run hasn't made: what it has made, and runs, is as the stack says.
pub fn compare_others<'a>(cx: &Context, services: &[&'a Service], made: &[&Service]) -> Result<Work<'a>> {
    let listed = cx.listed()?;
    let runs = |name: &str| {
        let mut own = listed.iter().filter(|container| container.service == name).peekable();
        own.peek().is_some() && own.all(Listed::is_running)
    };
    let is_made = |service: &Service| made.iter().any(|other| other.name == service.name);
    let others = services.iter().filter(|service| !is_made(service) || !runs(&service.name));
    compare(cx, &others.copied().collect::<Vec<_>>())
}
