//! A database service of the stack: whether it runs, and takes connections.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::Listed;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::client;
use crate::context::Context;
use crate::diagnosis;
use crate::pooler;
use crate::postgres;

/// Asks whether the server takes connections over TCP; one that initialises a new volume doesn't yet.
pub fn ready_query(cx: &Context, container: &str) -> Invocation {
    cx.engine.docker(["exec", container, "pg_isready", "-q", "-h", "127.0.0.1"])
}

/// Waits until a server takes connections.
pub fn wait_until_ready(cx: &Context, server: &Service) -> Result<()> {
    let what = format!("waiting for `{}` to take connections", server.name);
    let _progress = cx.out.progress(&what);
    let start = Instant::now();
    let is_its = |deployment: &Deployment| deployment.server.is_some_and(|other| other.name == server.name);
    let through = pooler::is_pooler(cx, server).then(|| cx.stack.readable().find(is_its)).flatten();
    loop {
        let container = running(cx, server)?;
        let answer = match through.as_ref() {
            Some(deployment) => ping(cx, deployment)?.output()?,
            None => ready_query(cx, &container.name).output()?,
        };
        if answer.status.success() {
            return Ok(());
        }
        // pg_isready is quiet: Docker speaks, of a container that doesn't run any more.
        if !answer.stderr.is_empty() {
            cx.known.forget();
        }
        if start.elapsed() > cx.options.wait() {
            let seconds = cx.options.wait().as_secs();
            let message = format!("`{}` takes no connections after {seconds} s", server.name);
            return Err(diagnosis::of_service(cx, &container.name, message));
        }
        cx.options.interrupt.sleep(Duration::from_millis(25))?;
    }
}

/// Waits until Docker no longer calls a server unhealthy: after a pause it does, for some seconds, of one that answers
/// again, and Compose starts nothing that depends on it.
pub fn wait_until_healthy(cx: &Context, server: &Service) -> Result<()> {
    let Some(container) = cx.listed()?.into_iter().find(|c| c.service == server.name) else { return Ok(()) };
    let format = "{{if .State.Health}}{{.State.Health.Status}}{{end}}";
    let health = cx.engine.docker(["inspect", "--format", format, &container.id]);
    let start = Instant::now();
    while start.elapsed() < cx.options.wait() && health.read()?.trim() == "unhealthy" {
        cx.options.interrupt.sleep(Duration::from_millis(100))?;
    }
    Ok(())
}

/// The container of a database service, which must be running.
pub fn running(cx: &Context, server: &Service) -> Result<Listed> {
    let Some(container) = cx.listed()?.into_iter().find(|c| c.service == server.name) else {
        let message = format!("the database service `{}` has no container", server.name);
        let hint = cx.engine.compose(["up", "-d", &server.name]).to_string();
        bail!(Failure::new(Exit::Failed, message).hint(hint));
    };
    match container.state.as_str() {
        "running" => Ok(container),
        "paused" => {
            let message = format!("the database service `{}` is paused", server.name);
            bail!(Failure::new(Exit::Failed, message).hint(format!("docker unpause {}", container.name)))
        }
        state => {
            let message = format!("the database service `{}` is {state}, not running", server.name);
            let inspected = cx.engine.inspect([container.name.as_str()])?;
            if state == "exited" && inspected.iter().all(|container| container.exit_code == 0) {
                let hint = cx.engine.compose(["up", "-d", &server.name]).to_string();
                bail!(Failure::new(Exit::Failed, message).hint(hint));
            }
            Err(diagnosis::of_service(cx, &container.name, message))
        }
    }
}

/// Whether the server behind a DSN answers and isn't starting or stopping, whoever it lets in. Told by an exit code, as what
/// psql prints of a refusal is in the server's language, and has no SQLSTATE.
/// Source: <https://www.postgresql.org/docs/17/app-pg-isready.html>.
pub fn answers(cx: &Context, deployment: &Deployment) -> bool {
    let answer = ping(cx, deployment).and_then(|ping| ping.output());
    answer.is_ok_and(|output| output.status.success())
}

fn ping(cx: &Context, deployment: &Deployment) -> Result<Invocation> {
    let place = postgres::running_place(cx, deployment)?;
    Ok(client::program(cx, &place, deployment.dsn.environment(), &["pg_isready", "-q"]))
}
