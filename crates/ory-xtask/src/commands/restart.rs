//! `restart`: after an update. Compose's own restart keeps the old container, image and environment.

use std::time::Instant;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Images, list, listed};
use crate::plan::Step;
use ory_ops::context::Options;
use ory_ops::prefetch::{Extent, look};
use ory_runner::output::seconds;
use ory_stack::service::Service;

pub struct Restart {
    services: Vec<String>,
    images: Images,
}

impl Arguments for Restart {
    fn all() -> Vec<Arg> {
        [vec![list("SERVICE", "Only these services [default: those of Ory]")], Images::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { services: listed(typed, "SERVICE"), images: Images::read(typed) }
    }
}

pub fn run(options: &Options, args: &Restart) -> Result<()> {
    let start = Instant::now();
    let cx = super::locked(options, &args.images)?;
    if cx.stack.services.is_empty() {
        cx.require_products()?;
    }
    let mut services: Vec<&Service> = cx.stack.services(&args.services)?;
    if services.is_empty() {
        cx.require_products()?;
        let listed = cx.listed()?;
        services = cx.stack.in_order()?;
        let is_running = |service: &Service| {
            listed.iter().any(|container| container.service == service.name && container.is_running())
        };
        let products = cx.stack.products()?;
        let beside: Vec<_> = products.iter().flat_map(|product| cx.stack.companions(*product)).collect();
        let is_beside = |service: &Service| beside.iter().any(|other| other.name == service.name);
        services.retain(|s| cx.stack.product_of(s).is_some() || is_beside(s) && is_running(s));
    }
    let products = super::products_of(&cx, &services);
    let deployments = super::deployments(&cx, &products)?;
    cx.stack.check_files(&services)?;

    look(&cx, &deployments, Extent::Changes);
    let mut steps = super::images(&cx, &services)?;
    let servers = super::servers(&deployments).into_iter();
    steps.extend(servers.map(|server| Step::StartServer { server, recreate: false, meanwhile: vec![] }));
    steps.push(Step::RequireMigrated(&deployments));
    steps.push(Step::Restart(services));
    super::execute(&cx, &steps, &args.images)?;
    if !options.dry_run {
        cx.out.say(format!("ready in {}", seconds(start.elapsed())));
    }
    Ok(())
}
