//! A database service of the stack: its container, which must run.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::Listed;
use ory_stack::service::Service;

use crate::context::Context;
use crate::explanation;

/// Asks whether the server takes connections over TCP; one that initialises a new volume doesn't yet.
pub fn ready_query(cx: &Context, container: &str) -> Invocation {
    cx.engine.docker(["exec", container, "pg_isready", "-q", "-h", "127.0.0.1"])
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
            Err(explanation::of_database(cx, &container.name, message))
        }
    }
}
