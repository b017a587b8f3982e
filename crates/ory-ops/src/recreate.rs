//! Which containers are as Compose would make them now: what must be recreated, what only be started.
//!
//! Plain `compose up -d` also runs every finished one-shot again, a script that seeds a database among them;
//! and `--no-deps` changes the hash by which Compose itself tells what changed. So xtask compares before it asks.

use anyhow::Result;

use crate::context::Context;
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
        let own = containers.iter().filter(|container| container.service == service.name);
        let own = own.map(|container| -> Result<_> {
            let is_current = cx.has_hash(&service.name, &container.config_hash)?
                && cx.image(&container.image)?.is_some_and(|image| image.id == container.image_id);
            Ok(Own { state: &container.state, is_finished: container.is_finished(), is_current })
        });
        let own = own.collect::<Result<Vec<_>>>()?;
        let due = due(service.replicas, &own, cx.stack.product_of(service).is_some());
        work.of(due).push(&service.name);
    }
    Ok(work)
}

/// What is to be done with the containers of a service. `wanted`: how many the stack says; `is_of_ory`: a server, which
/// serves again where it has ended well.
fn due(wanted: usize, own: &[Own], is_of_ory: bool) -> Due {
    let has_ended = !own.is_empty() && own.iter().all(|container| container.is_finished);
    let is_current = own.len() >= wanted && own.iter().all(|container| container.is_current);
    if has_ended && !is_of_ory {
        Due::Nothing
    } else if !is_current {
        Due::Make
    } else if own.iter().any(|container| container.state == "restarting") {
        Due::Restart
    } else if own.iter().all(|container| container.state == "running") {
        Due::Keep
    } else {
        Due::Start
    }
}

/// What decides of a container.
#[derive(Debug, Clone, Copy)]
struct Own<'a> {
    state: &'a str,
    /// It ended, and well.
    is_finished: bool,
    /// Compose would make it just so.
    is_current: bool,
}

/// What is to be done with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Make,
    Start,
    Keep,
    Restart,
    Nothing,
}

impl<'a> Work<'a> {
    /// The services of which this is due.
    fn of(&mut self, due: Due) -> &mut Vec<&'a str> {
        match due {
            Due::Make => &mut self.make,
            Due::Start => &mut self.start,
            Due::Keep => &mut self.keep,
            Due::Restart => &mut self.stuck,
            Due::Nothing => &mut self.finished,
        }
    }
}

/// Whether a container was made from an image, by whatever name: Podman calls it by another of its names.
pub fn is_made_from(cx: &Context, container: &Container, name: &str) -> bool {
    let is_it =
        || cx.image(name).is_ok_and(|image| image.is_some_and(|image| image.id == container.image_id));
    name == container.image || is_it()
}

/// Why a container that runs is to be restarted: it isn't as Compose would make it now. Where that can't be told, it isn't
/// said.
pub fn restart_due(cx: &Context, container: &Container) -> Option<String> {
    let service = cx.stack.services.get(&container.service).filter(|_| container.is_running())?;
    match &service.image {
        // Another image needs no hash to be told.
        Some(image) if !is_made_from(cx, container, image) => {
            Some(format!("{} runs, the stack says {image}", container.image))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A container by its state; `-` behind it: of another configuration.
    fn own(state: &str) -> Own<'_> {
        let current = state.trim_end_matches('-');
        Own { state: current, is_finished: current == "exited", is_current: current == state }
    }

    fn due_of(wanted: usize, states: &str, is_of_ory: bool) -> Due {
        due(wanted, &states.split_whitespace().map(own).collect::<Vec<_>>(), is_of_ory)
    }

    #[test]
    fn what_changed_or_is_missing_is_made_and_what_is_right_stays() {
        for (wanted, states, right) in [
            (1, "", Due::Make),
            (1, "running", Due::Keep),
            (1, "running-", Due::Make),
            (1, "created", Due::Start),
            (1, "exited", Due::Start),
            (1, "exited-", Due::Make),
            (1, "restarting", Due::Restart),
            (1, "restarting-", Due::Make),
            (2, "running", Due::Make),
            (2, "running running", Due::Keep),
            (2, "running exited", Due::Start),
            (2, "running restarting", Due::Restart),
            (2, "running running-", Due::Make),
            // Compose removes what is too many where something is made.
            (1, "running running", Due::Keep),
            (0, "", Due::Keep),
        ] {
            assert_eq!(due_of(wanted, states, true), right, "{wanted} of {states}");
        }
    }

    #[test]
    fn a_one_shot_that_ended_well_is_never_run_again() {
        assert_eq!(due_of(1, "exited", false), Due::Nothing);
        assert_eq!(due_of(1, "exited-", false), Due::Nothing);
        assert_eq!(due_of(1, "", false), Due::Make);
        assert_eq!(due_of(2, "exited running", false), Due::Start);
    }
}
