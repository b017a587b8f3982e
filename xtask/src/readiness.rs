//! HTTP health: ready is a 200 from `/health/ready` on every published port of an Ory service.
//!
//! Not a TCP connect, which docker-proxy accepts for a dead server, nor `compose up --wait`, which calls a
//! crash-looping service healthy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::compose::Container;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::stack::Stack;

/// How long one probe may take. Shorter than what docker-proxy lets a connection hang that it accepted
/// too early.
const PROBE: Duration = Duration::from_millis(200);

/// A service that starts again more often than this while it is waited for won't become ready.
const RESTARTS: u64 = 3;

/// A base URL of a service, and whether it has `/health/ready`.
pub struct Endpoint {
    pub service: String,
    pub url: String,
    has_health: bool,
}

/// The published ports of the running containers.
pub fn endpoints(stack: &Stack, containers: &[Container]) -> Vec<Endpoint> {
    let has_health = |container: &Container, port: u16| {
        let service = stack.services.get(&container.service);
        service.and_then(|service| stack.product_of(service)).is_some_and(|product| product.has_health(port))
    };
    let endpoint = |container: &Container, port: u16, address: &String| Endpoint {
        service: container.service.clone(),
        url: format!("http://{address}"),
        has_health: has_health(container, port),
    };
    let of_container = |container: &Container| -> Vec<Endpoint> {
        container.ports.iter().map(|(port, address)| endpoint(container, *port, address)).collect()
    };
    containers.iter().flat_map(of_container).collect()
}

/// Waits until each of these services answers on all its endpoints, and returns how long each took from `start`.
/// Fails with the last log lines of a service that ends, keeps restarting, or takes too long.
pub fn wait(cx: &Context, services: &[&str], start: Instant) -> Result<BTreeMap<String, Duration>> {
    let before = cx.containers()?;
    let of_services = |c: &&Container| services.contains(&c.service.as_str());
    let before: Vec<Container> = before.iter().filter(of_services).cloned().collect();
    let endpoints = endpoints(&cx.stack, &before);
    let endpoints: Vec<_> = endpoints.into_iter().filter(|endpoint| endpoint.has_health).collect();
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
                    if probe(&endpoint.url) == Some(200) {
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
            match answers.recv_timeout(Duration::from_millis(500)) {
                Ok(service) => {
                    let left = open.entry(service).or_default();
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        took.insert(service.to_string(), start.elapsed());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = check(cx, &before, &open, start.elapsed()) {
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
        } else if waited > cx.options.timeout {
            format!("`{service}` is not ready after {} s", cx.options.timeout.as_secs())
        } else {
            continue;
        };
        let hint = cx.engine.compose(["logs", service]).to_string();
        let failure = Failure::new(Exit::Failed, message).hint(hint);
        return Err(anyhow::Error::msg(cx.last_lines(&now)).context(failure));
    }
    Ok(())
}

/// The status that `/health/ready` answers; none where nothing answers in time. Redirects are followed:
/// the admin port of Kratos before v26 has its health elsewhere.
fn probe(url: &str) -> Option<u16> {
    let (answer, wait) = mpsc::channel();
    let request = minreq::get(format!("{url}/health/ready")).with_timeout(1);
    // The library counts in whole seconds: the thread is left to itself when that is too long.
    std::thread::spawn(move || answer.send(request.send().ok().map(|response| response.status_code)));
    wait.recv_timeout(PROBE).ok()?
}
