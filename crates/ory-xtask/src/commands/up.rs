//! `up`: from nothing, or from any state, to a ready environment.

use std::time::Instant;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Databases, Images, list, listed};
use crate::doctor;
use crate::install::{self, Install, Need};
use crate::new_secrets;
use crate::plan::Step;
use ory_ops::context::{Context, Options};
use ory_ops::left_behind;
use ory_ops::lock::FolderLock;
use ory_ops::prefetch::{Extent, look};
use ory_runner::output::seconds;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

pub struct Up {
    services: Vec<String>,
    images: Images,
    databases: Databases,
    install: Install,
}

impl Arguments for Up {
    fn all() -> Vec<Arg> {
        let services = list("SERVICE", "Only these services, and what they depend on");
        [vec![services], Images::all(), Databases::all(), Install::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            services: listed(typed, "SERVICE"),
            images: Images::read(typed),
            databases: Databases::read(typed),
            install: Install::read(typed),
        }
    }
}

pub fn run(options: &Options, args: &Up) -> Result<()> {
    let start = Instant::now();
    let need = Need { stand_ins: args.images.stand_in.is_some(), both_composes: false };
    install::engine(options, &args.install, &need)?;
    let folder = FolderLock::take(options)?;
    new_secrets::write(&folder, options, &args.services)?;
    let cx = folder.and_project(super::context(options, &args.images)?)?;
    if args.services.is_empty() || cx.stack.services.is_empty() {
        cx.require_products()?;
    }
    let mut services = with_dependencies(&cx, &args.services)?;
    let products = super::products_of(&cx, &services);
    let deployments = super::deployments(&cx, &products)?;
    // A database is needed though no `depends_on` says so.
    let is_new = |server: &&Service| !services.iter().any(|known| known.name == server.name);
    let servers: Vec<_> = super::servers(&deployments).into_iter().filter(is_new).collect();
    services.extend(servers);
    super::check_sharing(&cx, &deployments)?;
    cx.stack.check_files(&services)?;
    doctor::before_up(&cx, &services)?;

    look(&cx, &deployments, Extent::Changes);
    left_behind::warn_of_databases(&cx);
    let mut steps = super::images(&cx, &services)?;
    let servers =
        cx.stack.servers().into_iter().filter(|s| services.iter().any(|wanted| wanted.name == s.name));
    let servers: Vec<_> = servers.collect();
    let early = early(&cx, &services, &servers, &deployments)?;
    for (index, server) in servers.iter().enumerate() {
        let meanwhile = if index + 1 == servers.len() { early.clone() } else { vec![] };
        steps.push(Step::StartServer { server, recreate: true, meanwhile });
    }
    steps.extend(super::migrate(&cx, &deployments, &args.databases, false, &early));
    let started = if early.is_empty() { vec![] } else { [servers, early].concat() };
    steps.push(Step::Start { services, started });
    super::execute(&cx, &steps, &args.images)?;
    if !options.dry_run {
        cx.out.say(format!("ready in {}", seconds(start.elapsed())));
    }
    Ok(())
}

/// The services that can be made while their server starts, and started once their product is migrated, while the
/// next one migrates: those that have no container yet and wait for nothing but servers.
fn early<'a>(
    cx: &Context,
    services: &[&'a Service],
    servers: &[&'a Service],
    deployments: &[Deployment],
) -> Result<Vec<&'a Service>> {
    // The start of docker-compose 1.x takes longer than what is won.
    if cx.engine.is_v1 {
        return Ok(vec![]);
    }
    let listed = cx.listed()?;
    let is_server = |name: &String| servers.iter().any(|server| server.name == *name);
    let is_early = |service: &&&Service| {
        let product = cx.stack.product_of(service);
        deployments.iter().any(|deployment| Some(deployment.product) == product)
            && !listed.iter().any(|container| container.service == service.name)
            && service.depends_on.keys().all(is_server)
    };
    Ok(services.iter().filter(is_early).copied().collect())
}

/// The services asked for and, as Compose starts them too, those they depend on. None asked for: all.
fn with_dependencies<'a>(cx: &'a Context, names: &[String]) -> Result<Vec<&'a Service>> {
    if names.is_empty() {
        return cx.stack.in_order();
    }
    Ok(cx.stack.with_dependencies(cx.stack.services(names)?))
}
