//! What is around the server while it is upgraded: the services that use it, which are stopped meanwhile, its own container,
//! and the stack as its files are by now.

use anyhow::{Context as _, Result};
use ory_stack::service::Service;

use super::moving;
use crate::context::Context;
use crate::diagnosis;
use crate::lock::Locked;
use crate::server_ready;
use crate::services::{self, Stopped};

/// The services that use a server: products, what waits for it, and those with sessions in it, where these are known.
pub fn users_of(cx: &Context, server: &str, has_sessions: impl Fn(&Service) -> bool) -> Vec<String> {
    let uses = |service: &&Service| {
        service.name != server
            && (cx.stack.product_of(service).is_some()
                || service.depends_on.contains_key(server)
                || has_sessions(service))
    };
    cx.stack.services.values().filter(uses).map(|service| service.name.clone()).collect()
}

/// A service of the stack.
pub fn service<'a>(cx: &'a Context, name: &str) -> Result<&'a Service> {
    cx.stack.services.get(name).with_context(|| format!("the stack has no service `{name}` any more"))
}

/// Stops the services that use the server, and says which.
pub fn stop_users(cx: &Locked, users: &[String]) -> Result<Stopped> {
    let services: Vec<_> = users.iter().filter_map(|name| cx.stack.services.get(name)).collect();
    let stopped = services::stop_those(cx, &services)?;
    if !stopped.is_empty() {
        cx.out.say(format!("{}: stopped", stopped.names()));
    }
    Ok(stopped)
}

/// Has Compose make and start the server's container, as the stack says now.
pub fn start_server(cx: &Locked, name: &str) -> Result<()> {
    let up = cx.engine.compose(["up", "-d", "--no-deps", name]);
    cx.run_logged("upgrade", &up).map_err(diagnosis::of_engine)?;
    server_ready::wait(cx, service(cx, name)?)
}

/// Stops the server, whichever image it runs.
pub fn stop_what_runs(cx: &Context, service: &str) -> Result<()> {
    let listed = cx.listed()?.into_iter().find(|container| container.service == service);
    match listed.filter(|container| container.state != "exited" && container.state != "created") {
        Some(container) => moving::stop_server(cx, &container.name),
        None => Ok(()),
    }
}
