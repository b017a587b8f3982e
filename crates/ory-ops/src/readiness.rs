//! HTTP health: ready is a 200 from `/health/ready` on every port that the settings of an Ory service name.
//!
//! Not a TCP connect, which docker-proxy accepts for a dead server, nor `compose up --wait`, which calls a
//! crash-looping service healthy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::context::Context;
use crate::diagnosis;
use crate::probe::{self, Way};
use ory_runner::at_once::work;
use ory_stack::container::{Container, Listed};
use ory_stack::service::Service;
use ory_stack::settings;

/// A service that starts again more often than this while it is waited for won't become ready.
const RESTARTS: u64 = 3;

/// How long what has nothing to be asked must have run to count as running.
const SETTLED: Duration = Duration::from_secs(2);

/// How long a listener is only looked for where it costs no process.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it takes from one look to the next that costs processes.
const PAUSE: Duration = Duration::from_secs(1);

/// A listener of a service, and the ways to it.
struct Endpoint {
    service: String,
    ways: Vec<Way>,
}

/// What the containers of a service publish: URLs, where it is Ory's; what others speak isn't known.
pub fn urls(cx: &Context, containers: &[Container], service: &str) -> Vec<String> {
    let is_ory = cx.stack.services.get(service).is_some_and(|service| cx.stack.product_of(service).is_some());
    let told = |address: &String| if is_ory { probe::url(address) } else { address.clone() };
    let own = containers.iter().filter(|container| container.service == service);
    own.flat_map(|container| &container.ports).map(|(_, address)| told(address)).collect()
}

/// What is to be asked of an Ory service: each port that its own settings name, whatever else it publishes.
fn endpoints(cx: &Context, containers: &[Container]) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for container in containers {
        let service = cx.stack.services.get(&container.service);
        let Some((service, product)) = service.and_then(|s| Some((s, cx.stack.product_of(s)?))) else {
            continue;
        };
        let published =
            container.ports.iter().map(|(port, _)| *port).filter(|port| product.has_health(*port));
        let published: Vec<_> = published.collect();
        let ports = match settings::are_known(product.kind, service) {
            // They are in the image: what it publishes tells more than what is usual.
            false if !published.is_empty() => published,
            _ => {
                settings::listeners(product.kind, service).into_iter().filter_map(|(_, port)| port).collect()
            }
        };
        let server = cx.stack.deployment(product).ok().flatten().and_then(|deployment| deployment.server);
        let ways = |port: u16| ways(cx, container, server, port);
        let service = &container.service;
        endpoints
            .extend(ports.into_iter().map(|port| Endpoint { service: service.clone(), ways: ways(port) }));
    }
    endpoints
}

/// The ways to a port of a container. Only on Linux are the engine's networks this machine's too.
fn ways(cx: &Context, container: &Container, server: Option<&Service>, port: u16) -> Vec<Way> {
    let published =
        container.ports.iter().filter(|(known, _)| *known == port).map(|(_, address)| address.clone());
    let own = container.is_on_host.then(|| format!("127.0.0.1:{port}"));
    let inside = container.addresses.iter().filter(|_| cx.engine.is_here()).map(|ip| format!("{ip}:{port}"));
    let addresses = published.chain(own).chain(inside).map(Way::Address);
    let exec = |name: &str| cx.engine.docker(["exec", name]).within(PATIENCE);
    let listed = cx.listed().unwrap_or_default();
    let runs = |c: &&Listed| c.is_running() && server.is_some_and(|server| server.name == c.service);
    let beside = listed.iter().find(runs).filter(|_| !container.is_on_host);
    let beside = beside.map(|server| probe::bash(exec(&server.name), &container.name, port));
    addresses.chain([probe::wget(exec(&container.id), port)]).chain(beside).collect()
}

/// Whether a running container of a product answers on all its endpoints, now.
pub fn is_ready(cx: &Context, container: &Container) -> bool {
    container.is_running()
        && endpoints(cx, std::slice::from_ref(container)).iter().all(|e| probe::is_ready(&e.ways, false))
}

/// Waits until each of these services answers on all its endpoints, and returns how long each took from `start`.
/// Fails with the last log lines of a service that ends, keeps restarting, or takes too long.
pub fn wait(cx: &Context, services: &[&str], start: Instant) -> Result<BTreeMap<String, Duration>> {
    let before = cx.containers()?;
    let of_services = |c: &&Container| services.contains(&c.service.as_str());
    let before: Vec<Container> = before.iter().filter(of_services).cloned().collect();
    let endpoints = endpoints(cx, &before);
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for endpoint in &endpoints {
        *open.entry(&endpoint.service).or_default() += 1;
    }
    let _progress = cx.out.progress(format!("waiting for {} to be ready", services.join(", ")));
    let stop = AtomicBool::new(false);
    let mut took = BTreeMap::new();
    std::thread::scope(|scope| {
        let (ready, answers) = mpsc::channel();
        for endpoint in &endpoints {
            let (ready, stop) = (ready.clone(), &stop);
            scope.spawn(work(move || {
                let mut last: Option<Instant> = None;
                while !stop.load(Ordering::Relaxed) {
                    let few = start.elapsed() < PATIENCE || last.is_some_and(|last| last.elapsed() < PAUSE);
                    if !few {
                        last = Some(Instant::now());
                    }
                    if probe::is_ready(&endpoint.ways, few) {
                        // The receiver is gone once the wait has ended.
                        let _ = ready.send(endpoint.service.clone());
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }));
        }
        drop(ready);
        let result = loop {
            if open.values().all(|count| *count == 0) {
                break Ok(());
            }
            match answers.recv_timeout(Duration::from_millis(250)) {
                Ok(service) => {
                    let Some(left) = open.get_mut(service.as_str()) else { continue };
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        took.insert(service, start.elapsed());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let goes_on = cx.options.interrupt.check();
                    if let Err(error) = goes_on.and_then(|()| check(cx, &before, &open, start.elapsed())) {
                        break Err(error);
                    }
                }
            }
        };
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    let has_none = |container: &&Container| !open.contains_key(container.service.as_str());
    settle(cx, &before.iter().filter(has_none).collect::<Vec<_>>(), start)?;
    Ok(took)
}

/// Waits until what runs beside a product's servers, and answers nothing, such as a courier, runs on. Fails where it ends.
fn settle(cx: &Context, before: &[&Container], start: Instant) -> Result<()> {
    let products = cx.stack.products().unwrap_or_default();
    let beside: Vec<_> = products.into_iter().flat_map(|product| cx.stack.running(product)).collect();
    let is_beside = |container: &&&Container| beside.iter().any(|service| service.name == container.service);
    let ids: Vec<_> = before.iter().filter(is_beside).map(|container| container.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let looked = Instant::now();
    loop {
        let mut shaky = None;
        for now in cx.engine.inspect(ids.iter().copied())? {
            let known = before.iter().find(|container| container.id == now.id);
            let restarts = now.restarts.saturating_sub(known.map_or(0, |container| container.restarts));
            if now.is_finished() {
                continue;
            }
            // Between two of them it waits, so that those of before tell as much.
            let told = if now.state == "restarting" { now.restarts } else { restarts };
            if let Some(message) = end_of(&now, told) {
                return Err(diagnosis::of_service(cx, &now.name, message));
            }
            // Where the engine has another clock, it is what was seen that counts.
            let has_run = ran_for(&now) >= SETTLED || restarts == 0 && looked.elapsed() >= SETTLED;
            if !(now.is_running() && has_run) {
                shaky = Some(now);
            }
        }
        let Some(now) = shaky else { return Ok(()) };
        if start.elapsed() > cx.options.wait() {
            let message = format!("`{}` doesn't run on: it is {}", now.service, now.state);
            return Err(diagnosis::of_service(cx, &now.name, message));
        }
        cx.options.interrupt.sleep(Duration::from_millis(200))?;
    }
}

/// How long a container has run.
fn ran_for(container: &Container) -> Duration {
    let started = humantime::parse_rfc3339_weak(&container.started).ok();
    started.and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

/// Fails where waiting longer is of no use.
fn check(cx: &Context, before: &[Container], open: &BTreeMap<&str, usize>, waited: Duration) -> Result<()> {
    let waiting = |container: &&Container| open.get(container.service.as_str()).is_some_and(|left| *left > 0);
    let ids = before.iter().filter(waiting).map(|container| container.id.as_str());
    for now in cx.engine.inspect(ids)? {
        let restarts =
            before.iter().find(|c| c.id == now.id).map_or(0, |c| now.restarts.saturating_sub(c.restarts));
        let late = || {
            let limit = cx.options.wait();
            (waited > limit).then(|| format!("`{}` is not ready after {} s", now.service, limit.as_secs()))
        };
        if let Some(message) = end_of(&now, restarts).or_else(late) {
            return Err(diagnosis::of_service(cx, &now.name, message));
        }
    }
    Ok(())
}

/// How a container has ended, or keeps ending, where it has started again so often.
fn end_of(now: &Container, restarts: u64) -> Option<String> {
    let (service, code) = (&now.service, now.exit_code);
    if now.state == "exited" || now.state == "dead" {
        return Some(format!("`{service}` ended with exit code {code}"));
    }
    (restarts >= RESTARTS).then(|| format!("`{service}` keeps ending, with exit code {code}"))
}
