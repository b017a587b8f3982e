//! `migrate-kratos`, `migrate-hydra`, `migrate-keto`, `migrate-all`: bring the databases to what the images carry.

use std::time::Instant;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Databases, Images, switch};
use crate::plan::Step;
use ory_environment::context::{Context, Options};
use ory_environment::known::{Extent, look};
use ory_environment::lock;
use ory_environment::migrations;
use ory_facts::product::Product;
use xtask_runner::output::seconds;

pub struct Migrate {
    images: Images,
    databases: Databases,
    force: bool,
}

impl Arguments for Migrate {
    fn all() -> Vec<Arg> {
        let force = switch("force", "Run Ory's command even where nothing is pending");
        [Images::all(), Databases::all(), vec![force]].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            images: Images::read(typed),
            databases: Databases::read(typed),
            force: typed.get_flag("force"),
        }
    }
}

/// Migrates one product; that the stack hasn't got it is wrong usage.
pub fn one(options: &Options, product: Product, args: &Migrate) -> Result<()> {
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &args.images)?;
    migrate(&cx, &super::products(&cx, &[product])?, args)
}

/// Migrates every product of the stack, in order, and stops at the first failure.
pub fn all(options: &Options, args: &Migrate) -> Result<()> {
    let start = Instant::now();
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &args.images)?;
    let products = super::products(&cx, &[])?;
    for absent in Product::ALL.iter().filter(|product| !products.contains(product)) {
        cx.out.say(cx.absence(*absent));
    }
    migrate(&cx, &products, args)?;
    if !options.dry_run {
        cx.out.say(format!("done in {}", seconds(start.elapsed())));
    }
    Ok(())
}

fn migrate(cx: &Context, products: &[Product], args: &Migrate) -> Result<()> {
    let deployments = super::deployments(cx, products)?;
    super::check_sharing(cx, &deployments)?;
    let services: Vec<_> = deployments.iter().flat_map(|d| [d.migrate].into_iter().chain(d.server)).collect();
    cx.stack.check_files(&services)?;
    look(cx, &deployments, Extent::Databases);
    // What changes nothing waits for nobody, and needn't know which engine this is.
    let _project = if args.force || !migrations::none_is_pending(cx, &deployments) {
        let lock = lock::acquire_project(cx)?;
        // Whoever had it may have changed everything.
        cx.known.forget();
        look(cx, &deployments, Extent::Databases);
        lock
    } else {
        None
    };
    let mut steps = super::images(cx, &services)?;
    let servers = super::servers(&deployments).into_iter();
    steps.extend(servers.map(|server| Step::StartServer { server, recreate: false, meanwhile: vec![] }));
    steps.extend(super::migrate(cx, &deployments, &args.databases, args.force, &[]));
    super::execute(cx, &steps, &args.images)
}
