//! What runs of a stack: the state of each service, and what each product's database says.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use super::errors::of_error;
use ory_facts::difference::Difference;
use ory_facts::image_migrations::State;
use ory_facts::next::XTASK;
use ory_ops::context::Context;
use ory_ops::diagnosis;
use ory_ops::drift;
use ory_ops::image_migrations;
use ory_ops::image_schema;
use ory_ops::left_behind;
use ory_ops::pooler;
use ory_ops::postgres;
use ory_ops::readiness;
use ory_ops::recreate;
use ory_ops::replicas::Replicas;
use ory_runner::at_once::each;
use ory_runner::process::quote;
use ory_stack::checks::{Finding, answers};
use ory_stack::container::Container;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

/// How often a server is asked before it isn't ready: one that has just got its database back needs a moment.
const TRIES: u32 = 10;

/// What is so where nothing is found, and what is found.
pub fn services(cx: &Context, containers: &[Container]) -> (String, Vec<Finding>) {
    let stopped = |service: &Service| {
        let own = Replicas::of(containers, &[service]);
        let is_finished = own.iter().any(Container::is_finished) && cx.stack.product_of(service).is_none();
        if own.all_run() || is_finished || service.replicas == 0 {
            return None;
        }
        let state = Some(own.state()).filter(|state| state.contains(' ')).map(|state| format!(" ({state})"));
        Some(format!("{}{}", service.name, state.unwrap_or_default()))
    };
    let stopped: Vec<_> = cx.stack.services.values().filter_map(stopped).collect();
    let ok = match (!containers.iter().any(Container::is_running), stopped.is_empty()) {
        (true, _) => "nothing runs: {XTASK} up".to_string(),
        (_, true) => "running, and ready".into(),
        _ => format!("ready; not running: {} ({XTASK} up)", stopped.join(", ")),
    };
    let unwell = |container: &Container| {
        let service = cx.stack.services.get(&container.service)?;
        let ask = |attempt| {
            let goes_on = attempt == 0 || cx.options.interrupt.sleep(Duration::from_millis(200)).is_ok();
            goes_on && readiness::is_ready(cx, container)
        };
        let is_ready = || cx.stack.product_of(service).is_none() || (0..TRIES).any(ask);
        let logs = cx.engine.compose(["logs", "--tail=20", &service.name]).to_string();
        let due = || {
            let why = cx.stack.product_of(service).and_then(|_| recreate::restart_due(cx, container))?;
            let fix = format!("{XTASK} restart {}", quote(&service.name));
            Some(Finding::warning(&service.name, why, fix))
        };
        answers::state(container, is_ready, logs).or_else(due)
    };
    (ok, containers.iter().filter_map(unwell).collect())
}

/// The products whose database server runs, or is elsewhere.
fn asked<'a>(cx: &'a Context, containers: &'a [Container]) -> impl Iterator<Item = Deployment<'a>> {
    cx.stack.readable().filter(|deployment| {
        let runs = |name: &str| containers.iter().any(|c| c.service == name && c.is_running());
        deployment.server.is_none_or(|server| runs(&server.name))
    })
}

/// What the databases say, none where no server runs.
pub fn databases(cx: &Context, containers: &[Container]) -> Option<Vec<Finding>> {
    let asked: Vec<_> = asked(cx, containers).collect();
    let found = each(&asked, |deployment| database(cx, deployment));
    (!asked.is_empty()).then(|| found.concat())
}

/// What the database of one product says. Every check that needs a running database is called here.
fn database(cx: &Context, deployment: &Deployment) -> Vec<Finding> {
    let subject = deployment.product.name();
    let client = postgres::client_image(cx);
    if pooler::server_of(cx, deployment).is_none() && !cx.image(&client).is_ok_and(|image| image.is_some()) {
        let message = format!("its server isn't asked: {client}, which has psql, isn't here");
        let fix = format!("docker pull {}, or name one that is here in XTASK_POSTGRES_IMAGE", quote(&client));
        return vec![Finding::warning(subject, message, fix)];
    }
    let drift = |difference: Difference| {
        let fix = drift::hint(cx, deployment, &difference);
        Finding::failure(subject, difference.text, fix)
    };
    match drift::first_sight(cx, deployment, None) {
        Ok((there, differences)) => {
            let unfinished = unfinished(cx, deployment, there.versions);
            differences.into_iter().map(drift).chain(unfinished).collect()
        }
        Err(error) => vec![of_error(subject, &diagnosis::of_product(cx, deployment, error))],
    }
}

/// The upgrade that a killed run has left a product in the middle of.
fn unfinished(cx: &Context, deployment: &Deployment, applied: BTreeSet<String>) -> Option<Finding> {
    let carried = image_migrations::kept(cx, deployment);
    let found = left_behind::upgrade(cx, deployment, &State::new(applied, carried))?;
    let fix = found.next().unwrap_or_default().to_string();
    Some(Finding::failure(deployment.product.name(), found.to_string(), fix))
}

/// The command lines of [`databases`].
pub fn lines(cx: &Context) -> Result<Vec<String>> {
    let listed = cx.listed()?;
    let line = |deployment: Deployment| {
        let query = image_schema::query(cx, &postgres::place(cx, &listed, &deployment), &deployment);
        format!("{query}  # whether {} can use its database, and what it lacks", deployment.product)
    };
    Ok(cx.stack.readable().map(line).collect())
}
