//! A server of an image, started with the stack's own configuration on a database of our own, where nobody uses it: whether it
//! becomes ready, and what it says if not.

use std::time::{Duration, Instant};

use anyhow::Result;
use ory_facts::names;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::Container;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::diagnosis;
use crate::other_images;
use crate::readiness;
use crate::run_container::{DSN_FILE, DsnFile, dsn_file, with_dsn};

/// What Kratos sends messages with, which are real ones where the data is a copy of real data.
const COURIER: &str = "--watch-courier";

/// Why a server can't be tried; none where it can.
pub fn obstacle(cx: &Context, deployment: &Deployment) -> Option<String> {
    let Some(service) = serving(cx, deployment) else { return Some("no service serves it".into()) };
    let name = &service.name;
    if service.is_on_host || service.network_of.is_some() {
        return Some(format!("`{name}` has the ports of another network, which are taken while it runs"));
    }
    if service.serve_arguments(deployment.product.kind).is_none() {
        return Some(format!("`{name}` is started by a script"));
    }
    if other_images::tells_others(cx, name) {
        return Some(format!(
            "`{name}` has labels by which a proxy could send it what is for the server, and this Compose can't leave \
             them out (2.24 can)"
        ));
    }
    let lacks_file = deployment.dsn_in_config && dsn_file(cx, deployment).is_none();
    lacks_file.then(|| "the DSN is in a file, and the engine is on another machine".into())
}

/// Starts it, waits until it is ready, and asks it something. Whatever happens, it is gone afterwards. `deployment`: on a
/// database of our own.
pub fn serve<T>(
    cx: &Context,
    deployment: &Deployment,
    ask: impl FnOnce(&Container) -> Result<T>,
) -> Result<(Duration, T)> {
    let name = name(cx, deployment);
    let remove = || cx.engine.docker(["rm", "--force", "--volumes", &name]).read().map(|_| ());
    // That of a killed run, if there is one.
    let _ = remove();
    let _dsn = DsnFile::write(cx, deployment, false)?;
    let _progress =
        cx.out.progress(format!("trying {}'s server on {}", deployment.product, deployment.dsn.database));
    let start = Instant::now();
    let done = command(cx, deployment, &name)
        .within(cx.options.timeout)
        .read()
        .map_err(|error| diagnosis::of_product(cx, deployment, error))
        .and_then(|_| ready(cx, &name, start))
        .and_then(|container| Ok((start.elapsed(), ask(&container)?)));
    cx.options.interrupt.clean_up(remove).and(done)
}

/// What starts it, as `--dry-run` prints it.
pub fn line(cx: &Context, deployment: &Deployment) -> String {
    let name = name(cx, deployment);
    format!("{}  # until it is ready; then it is removed", command(cx, deployment, &name))
}

fn name(cx: &Context, deployment: &Deployment) -> String {
    names::session(&format!("xtask-{}-trial-{}", cx.stack.project, deployment.product))
}

fn serving<'a>(cx: &'a Context, deployment: &Deployment) -> Option<&'a Service> {
    cx.stack.serving(deployment.product).first().copied()
}

fn command(cx: &Context, deployment: &Deployment, name: &str) -> Invocation {
    let kind = deployment.product.kind;
    let service = serving(cx, deployment).unwrap_or(deployment.migrate);
    let mut arguments = service.serve_arguments(kind).unwrap_or_default();
    arguments.retain(|word| !word.starts_with(COURIER));
    // Of two files that have a setting, the later one counts.
    arguments.extend(dsn_file(cx, deployment).iter().flat_map(|_| ["-c".to_string(), DSN_FILE.into()]));
    let run = cx.engine.compose(["run", "-d", "--no-deps", "--name", name, "-e", "PGCONNECT_TIMEOUT=5"]);
    with_dsn(cx, deployment, run)
        .args(["--entrypoint", &service.program(kind)])
        .arg(&service.name)
        .args(arguments)
}

fn ready(cx: &Context, name: &str, start: Instant) -> Result<Container> {
    loop {
        cx.options.interrupt.check()?;
        let containers = cx.engine.inspect([name])?;
        let Some(container) = containers.into_iter().next() else {
            let message = format!("the container {name} is gone");
            return Err(Failure::new(Exit::Failed, message).hint("run this again").into());
        };
        if !matches!(container.state.as_str(), "created" | "running" | "restarting") {
            let message = format!("its server ended with exit code {}", container.exit_code);
            return Err(diagnosis::of_service(cx, name, message));
        }
        if readiness::is_ready(cx, &container) {
            return Ok(container);
        }
        if start.elapsed() > cx.options.wait() {
            let message = format!("its server is not ready after {} s", cx.options.wait().as_secs());
            return Err(diagnosis::of_service(cx, name, message));
        }
        cx.options.interrupt.sleep(Duration::from_millis(100))?;
    }
}
