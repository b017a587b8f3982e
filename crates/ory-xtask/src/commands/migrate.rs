//! `migrate-kratos`, `migrate-hydra`, `migrate-keto`, `migrate-all`: bring the databases to what the images carry.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Databases, Images, list, listed, switch};
use crate::new_secrets;
use crate::plan::{self, Step};
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_ops::context::{Context, Options};
use ory_ops::lock::FolderLock;
use ory_ops::migrations::{self, Outcome};
use ory_ops::prefetch::{Extent, look};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::seconds;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

pub struct Migrate {
    images: Images,
    databases: Databases,
    force: bool,
}

impl Arguments for Migrate {
    fn all() -> Vec<Arg> {
        let force = switch("force", "Run Ory's command even if nothing is pending");
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

/// What `migrate-kratos` and its like take besides.
pub struct One {
    services: Vec<String>,
    migrate: Migrate,
}

impl Arguments for One {
    fn all() -> Vec<Arg> {
        let services = list("SERVICE", "Only what these services serve, if the stack has several");
        [vec![services], Migrate::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { services: listed(typed, "SERVICE"), migrate: Migrate::read(typed) }
    }
}

/// Migrates one of Ory's products, all that the stack has of it; that the stack hasn't got it is wrong usage.
pub fn one(options: &Options, kind: Product, args: &One) -> Result<()> {
    let One { services, migrate: args } = args;
    let folder = FolderLock::take(options)?;
    new_secrets::write(&folder, options, &[])?;
    let cx = super::context(options, &args.images)?;
    let all = super::products(&cx, &[kind.name().into()])?;
    let asked = super::named(&cx, services)?;
    if let Some(other) = asked.iter().find(|product| !all.contains(product)) {
        let message = format!("{other} is {}, not {kind}", other.kind);
        bail!(Failure::new(Exit::Usage, message).hint(other.migrate_line()));
    }
    migrate(folder, cx, if asked.is_empty() { &all } else { &asked }, args)
}

/// Migrates every product of the stack, in order, and stops at the first failure.
pub fn all(options: &Options, args: &Migrate) -> Result<()> {
    let start = Instant::now();
    let folder = FolderLock::take(options)?;
    new_secrets::write(&folder, options, &[])?;
    let cx = super::context(options, &args.images)?;
    let products = super::products(&cx, &[])?;
    for absent in Product::ALL.iter().filter(|kind| !products.iter().any(|product| product.kind == **kind)) {
        cx.out.say(cx.absence(*absent));
    }
    migrate(folder, cx, &products, args)?;
    if !options.dry_run {
        options.output.say(format!("done in {}", seconds(start.elapsed())));
    }
    Ok(())
}

fn migrate(folder: FolderLock, cx: Context, products: &[Instance], args: &Migrate) -> Result<()> {
    {
        let deployments = super::deployments(&cx, products)?;
        super::check_sharing(&cx, &deployments)?;
        cx.stack.check_files(&services(&deployments))?;
        look(&cx, &deployments, Extent::Databases);
        // What changes nothing waits for nobody, and needn't know which engine this is.
        let is_here = super::images(&cx, &services(&deployments))?.is_empty();
        let done = (is_here && !args.force).then(|| migrations::none_is_pending(&cx, &deployments)).flatten();
        if let Some(done) = done {
            for (deployment, state) in deployments.iter().zip(done) {
                cx.out.say(plan::told(&cx, deployment, &Outcome::UpToDate { total: state.count() })?);
            }
            return super::keep_images(&cx, &args.images);
        }
    }
    let cx = folder.and_project(cx)?;
    let deployments = super::deployments(&cx, products)?;
    look(&cx, &deployments, Extent::Databases);
    let mut steps = super::images(&cx, &services(&deployments))?;
    let servers = super::servers(&deployments).into_iter();
    steps.extend(servers.map(|server| Step::StartServer { server, recreate: false, meanwhile: vec![] }));
    steps.extend(super::migrate(&cx, &deployments, &args.databases, args.force, &[]));
    super::execute(&cx, &steps, &args.images)
}

/// The services that migrate, and the database services.
fn services<'a>(deployments: &[Deployment<'a>]) -> Vec<&'a Service> {
    deployments.iter().flat_map(|d| [d.migrate].into_iter().chain(d.server)).collect()
}
