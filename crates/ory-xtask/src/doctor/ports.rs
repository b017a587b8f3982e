//! The ports that the stack publishes: free, or who holds them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;

use ory_ops::context::Context;
use ory_stack::checks::Finding;
use ory_stack::container::Container;
use ory_stack::listener::processes_at;
use ory_stack::service::Service;

/// The ports of some services that can't be had now: the service, the address, the port.
fn taken<'a>(
    cx: &Context,
    services: impl IntoIterator<Item = &'a Service>,
) -> Vec<(&'a Service, String, u16)> {
    let mut taken = Vec::new();
    if !cx.engine.is_here() {
        return taken;
    }
    for service in services {
        for port in &service.ports {
            let Some(published) = port.published else { continue };
            let host = port.host.clone().unwrap_or_else(|| "0.0.0.0".into());
            let is_taken = TcpListener::bind((host.trim_matches(['[', ']']), published))
                .is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
            if is_taken {
                taken.push((service, host, published));
            }
        }
    }
    taken
}

/// Every port that isn't free, and not held by a container of this stack.
pub fn check(cx: &Context, containers: &[Container]) -> Vec<Finding> {
    let own: Vec<_> = containers
        .iter()
        .filter(|container| container.is_running())
        .flat_map(|container| &container.ports)
        .filter_map(|(_, address)| address.rsplit_once(':')?.1.parse::<u16>().ok())
        .collect();
    let mut foreign = taken(cx, cx.stack.services.values());
    foreign.retain(|(_, _, port)| !own.contains(port));
    let processes = holders(&foreign);
    foreign
        .into_iter()
        .map(|(service, host, port)| {
            let filter = format!("publish={port}");
            let names = cx.engine.docker(["ps", "--filter", &filter, "--format", "{{.Names}}"]);
            let names = names.read().unwrap_or_default();
            match (names.lines().next(), processes.get(&port)) {
                (Some(container), _) => {
                    let message = format!("{host}:{port} is held by the container {container}");
                    let fix = format!("docker stop {container}, or publish another port");
                    Finding::failure(&service.name, message, fix)
                }
                (None, Some((id, name))) => held_by(service, &host, port, *id, name),
                (None, None) => {
                    let message = format!("{host}:{port} is held by a process of another user");
                    let fix = format!("sudo ss -ltnp 'sport = :{port}' tells which; or publish another port");
                    Finding::failure(&service.name, message, fix)
                }
            }
        })
        .collect()
}

/// Ports held by a process that isn't the engine's, without asking the engine: who is behind one of its own is
/// left for the engine to say.
pub fn held_by_processes(cx: &Context, services: &[&Service]) -> Vec<Finding> {
    let taken = taken(cx, services.iter().copied());
    let processes = holders(&taken);
    let held = taken.into_iter().filter_map(|(service, host, port)| {
        let (id, name) = processes.get(&port)?;
        let is_engine =
            ["docker", "rootless", "slirp4netns", "pasta", "conmon"].iter().any(|own| name.starts_with(own));
        (!is_engine).then(|| held_by(service, &host, port, *id, name))
    });
    held.collect()
}

fn holders(taken: &[(&Service, String, u16)]) -> BTreeMap<u16, (u32, String)> {
    processes_at(&taken.iter().map(|(_, _, port)| *port).collect::<Vec<_>>())
}

fn held_by(service: &Service, host: &str, port: u16, id: u32, name: &str) -> Finding {
    let message = format!("{host}:{port} is held by {name} (process {id})");
    Finding::failure(&service.name, message, format!("stop it (kill {id}), or publish another port"))
}
