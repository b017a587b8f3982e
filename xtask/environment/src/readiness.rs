//! HTTP health: ready is a 200 from `/health/ready` on every published port of an Ory service; where none is
//! published, on its own ports, from inside the engine's network.
//!
//! Not a TCP connect, which docker-proxy accepts for a dead server, nor `compose up --wait`, which calls a
//! crash-looping service healthy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::compose::Engine;
use crate::context::Context;
use crate::diagnosis;
use ory_stack::container::Container;
use ory_stack::settings;
use xtask_runner::process::Invocation;

/// How long one probe may take. Shorter than what docker-proxy lets a connection hang that it accepted
/// too early.
const PROBE: Duration = Duration::from_millis(200);

/// A service that starts again more often than this while it is waited for won't become ready.
const RESTARTS: u64 = 3;

/// Where a service is asked whether it is ready.
struct Endpoint {
    service: String,
    probe: Probe,
}

#[derive(Clone)]
enum Probe {
    /// From here: a published port, or on Linux the container's own address.
    Url(String),
    /// From inside the container, where nothing of it can be reached from here.
    Exec(Box<Invocation>),
}

/// The URLs that the running containers publish.
pub fn urls<'a>(containers: &'a [Container], service: &str) -> impl Iterator<Item = String> + 'a {
    let container = containers.iter().find(|container| container.service == service);
    container.into_iter().flat_map(|c| &c.ports).map(|(_, address)| format!("http://{address}"))
}

/// What is to be asked of an Ory service: each published port, else each port that its settings name.
fn endpoints(cx: &Context, containers: &[Container]) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for container in containers {
        let service = cx.stack.services.get(&container.service);
        let Some((service, product)) = service.and_then(|s| Some((s, cx.stack.product_of(s)?))) else {
            continue;
        };
        let published = container.ports.iter().filter(|(port, _)| product.has_health(*port));
        let mut probes: Vec<_> =
            published.map(|(_, address)| Probe::Url(format!("http://{address}"))).collect();
        if probes.is_empty() {
            let ports = settings::ports(product, service);
            probes = ports.into_iter().map(|port| inside(cx, container, port)).collect();
        }
        let service = &container.service;
        endpoints.extend(probes.into_iter().map(|probe| Endpoint { service: service.clone(), probe }));
    }
    endpoints
}

/// Whether a running container of a product answers on all its endpoints, now.
pub fn is_ready(cx: &Context, container: &Container) -> bool {
    container.is_running()
        && endpoints(cx, std::slice::from_ref(container)).iter().all(|e| e.probe.is_ready())
}

/// A port that isn't published. Only on Linux are the engine's networks this machine's too.
fn inside(cx: &Context, container: &Container, port: u16) -> Probe {
    match container.address.as_ref().filter(|_| Engine::is_here()) {
        Some(address) => Probe::Url(format!("http://{address}:{port}")),
        None => {
            let url = format!("http://127.0.0.1:{port}/health/ready");
            let wget = ["exec", &container.id, "wget", "-q", "-O", "/dev/null", &url];
            Probe::Exec(Box::new(cx.engine.docker(wget)))
        }
    }
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
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if endpoint.probe.is_ready() {
                        // The receiver is gone once the wait has ended.
                        let _ = ready.send(endpoint.service.as_str());
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        drop(ready);
        let result = loop {
            if open.values().all(|count| *count == 0) {
                break Ok(());
            }
            match answers.recv_timeout(Duration::from_millis(250)) {
                Ok(service) => {
                    let left = open.entry(service).or_default();
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        took.insert(service.to_string(), start.elapsed());
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
    Ok(took)
}

/// Fails where waiting longer is of no use.
fn check(cx: &Context, before: &[Container], open: &BTreeMap<&str, usize>, waited: Duration) -> Result<()> {
    let waiting = |container: &&Container| open.get(container.service.as_str()).is_some_and(|left| *left > 0);
    let ids = before.iter().filter(waiting).map(|container| container.id.as_str());
    for now in cx.engine.inspect(ids)? {
        let restarts =
            before.iter().find(|c| c.id == now.id).map_or(0, |c| now.restarts.saturating_sub(c.restarts));
        let service = &now.service;
        let message = if now.state == "exited" || now.state == "dead" {
            format!("`{service}` ended with exit code {}", now.exit_code)
        } else if restarts >= RESTARTS {
            format!("`{service}` keeps ending, with exit code {}", now.exit_code)
        } else if waited > cx.options.wait() {
            format!("`{service}` is not ready after {} s", cx.options.wait().as_secs())
        } else {
            continue;
        };
        return Err(diagnosis::of_service(cx, &now.name, message));
    }
    Ok(())
}

impl Probe {
    /// Whether `/health/ready` answers 200. Redirects are followed: the admin port of Kratos before v26 has
    /// its health elsewhere.
    fn is_ready(&self) -> bool {
        match self {
            Self::Url(url) => {
                let (answer, wait) = mpsc::channel();
                let request = minreq::get(format!("{url}/health/ready")).with_timeout(1);
                // The library counts in whole seconds: the thread is left to itself when that is too long.
                std::thread::spawn(move || answer.send(request.send().map(|r| r.status_code)));
                matches!(wait.recv_timeout(PROBE), Ok(Ok(200)))
            }
            Self::Exec(command) => command.output().is_ok_and(|output| output.status.success()),
        }
    }
}
