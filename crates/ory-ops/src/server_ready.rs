//! Whether a database service takes connections, waited for where it starts.

use std::time::{Duration, Instant};

use anyhow::Result;
use ory_runner::process::Invocation;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::client;
use crate::context::Context;
use crate::explanation;
use crate::pooler;
use crate::postgres;
use crate::server::{ready_query, running};

/// Waits until a server takes connections.
pub fn wait(cx: &Context, server: &Service) -> Result<()> {
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
        if start.elapsed() > cx.options.wait() {
            let seconds = cx.options.wait().as_secs();
            let message = format!("`{}` takes no connections after {seconds} s", server.name);
            return Err(explanation::of_database(cx, &container.name, message));
        }
        cx.options.interrupt.sleep(Duration::from_millis(25))?;
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
