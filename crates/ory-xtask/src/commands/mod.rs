//! One file a command; each reads as the script it replaces, and starts no process itself.

pub mod backup;
pub mod backups;
pub mod completions;
pub mod doctor;
pub mod down;
pub mod logs;
pub mod migrate;
pub mod repair;
pub mod reset;
pub mod restart;
pub mod restore;
pub mod split;
pub mod split_finish;
pub mod status;
pub mod up;
pub mod upgrade;

use std::io::IsTerminal;

use anyhow::{Result, bail};

use crate::arguments::{Databases, Images};
use crate::plan::{self, Step};
use crate::stand_in;
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use ory_ops::context::{Context, Options};
use ory_ops::create_databases::MayCreate;
use ory_ops::lock::{FolderLock, Locked};
use ory_ops::services::{self, Stopped};
use ory_ops::target::{self, Target};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::Output;
use ory_stack::checks::storage::CREATE_LABEL;
use ory_stack::checks::{Finding, dsns};
use ory_stack::env_file::EnvFile;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

/// Asks on the terminal, unless `yes` answers already. `what` says what is done, and `line` is what answers where there
/// is no terminal to ask on.
fn confirm(cx: &Context, yes: bool, what: &str, question: &str, line: &str) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        let message = format!("this {what}, and there is no terminal to ask on");
        bail!(Failure::new(Exit::Usage, message).hint(line));
    }
    cx.out.ask(question, &cx.options.interrupt)
}

/// Stops the services of products until their databases are replaced, and says which.
fn stop(cx: &Locked, products: &[Instance]) -> Result<Stopped> {
    let stopped = services::stop(cx, products)?;
    if !stopped.is_empty() {
        cx.out.say(format!("{}: stopped", stopped.names()));
    }
    Ok(stopped)
}

/// The context of a command, with stand-ins where asked for: they are built here.
fn context(options: &Options, images: &Images) -> Result<Context> {
    // A plan can be made before the secrets are written.
    let new = if options.dry_run { Context::with_placeholders } else { Context::new };
    let Some(release) = &images.stand_in else { return new(options, vec![]) };
    let cx = new(options, stand_in::settings(release))?;
    if options.dry_run {
        Output::data(format!("# builds {}", stand_in::images(release).join(", ")))?;
        return Ok(cx);
    }
    Context::new(options, stand_in::prepare(&cx, release)?)
}

/// What a command begins with that changes something: no other run works on the stack until it is dropped.
fn locked(options: &Options, images: &Images) -> Result<Locked> {
    let folder = FolderLock::take(options)?;
    folder.and_project(context(options, images)?)
}

/// Runs a plan, and keeps the images that it was for.
fn execute(cx: &Locked, steps: &[Step], images: &Images) -> Result<()> {
    plan::execute(cx, steps)?;
    keep_images(cx, images)
}

/// Keeps stand-ins in `.env` once all went well, so that later commands, and plain Compose, use the same images.
fn keep_images(cx: &Context, images: &Images) -> Result<()> {
    if images.stand_in.is_some() && !cx.options.dry_run {
        EnvFile::read(&cx.dir)?.set(&cx.settings)?;
    }
    Ok(())
}

/// The products that some services serve, in the order of the migrations.
fn products_of(cx: &Context, services: &[&Service]) -> Vec<Instance> {
    let products = services.iter().filter_map(|service| cx.stack.product_of(service)).into_set();
    products.into_iter().collect()
}

/// The products asked for; none asked for: all that the stack has, one at least.
fn products(cx: &Context, names: &[String]) -> Result<Vec<Instance>> {
    cx.require_products()?;
    if names.is_empty() { cx.stack.products() } else { named(cx, names) }
}

/// The products of these names: one of Ory's stands for all that the stack has of it, a service for the one that it
/// serves or migrates.
fn named(cx: &Context, names: &[String]) -> Result<Vec<Instance>> {
    let mut found: Vec<Instance> = Vec::new();
    for name in names {
        let kind = Product::named(name);
        let of_kind = kind.map(|kind| cx.stack.members(kind)).transpose()?.unwrap_or_default();
        let of_service = cx.stack.services.get(name).and_then(|service| cx.stack.worked_on_by(service));
        // A service can have the name of its kind.
        let mut all: Vec<_> = match of_service {
            Some(own) => vec![own],
            None => of_kind.iter().map(|members| members.product).collect(),
        };
        if all.is_empty() {
            let message = kind.map_or_else(|| format!("the stack has no product {name}"), |k| cx.absence(k));
            let known = cx.stack.products()?.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let hint = match kind {
                None if !known.is_empty() => format!("its products are {known}"),
                _ => format!("the services of this stack are {}", cx.stack.service_names()),
            };
            bail!(Failure::new(Exit::Usage, message).hint(hint));
        }
        all.retain(|product| !found.contains(product));
        found.extend(all);
    }
    Ok(found)
}

/// The products that are asked for, each with what the stack says about it.
fn deployments<'a>(cx: &'a Context, products: &[Instance]) -> Result<Vec<Deployment<'a>>> {
    let mut deployments = Vec::new();
    for product in products {
        deployments.extend(cx.stack.deployment(*product)?);
    }
    Ok(deployments)
}

/// Fails where Hydra's tables would be in one schema with another product's, and warns of the other products.
fn check_sharing(cx: &Context, deployments: &[Deployment]) -> Result<()> {
    let view = cx.stack.view();
    let asked = |finding: &Finding| {
        let of_finding = view.products.iter().find(|deployed| deployed.serve.name == finding.subject);
        deployments.iter().any(|deployment| of_finding.is_some_and(|d| d.product == deployment.product))
    };
    for finding in dsns::check_sharing(&view).into_iter().filter(asked) {
        if finding.is_failure() {
            bail!(Failure::from(finding));
        }
        cx.out.warn(format!("{}; {}", finding.message, finding.fix.unwrap_or_default()));
    }
    Ok(())
}

/// Brings the images that aren't here: builds what the stack builds, pulls the rest.
fn images<'a>(cx: &Context, services: &[&'a Service]) -> Result<Vec<Step<'a>>> {
    if !cx.options.dry_run {
        cx.engine.require_external(&cx.stack.external)?;
    }
    let here = cx.images()?;
    let is_missing = |image: &str| {
        !here.iter().any(|image_here| image_here.name == image) && !stand_in::is_stand_in(image)
    };
    let missing = services.iter().filter(|service| service.image.as_deref().is_some_and(is_missing));
    let (build, pull): (Vec<&Service>, Vec<_>) = missing.partition(|service| service.is_built);
    let build = build.iter().map(|service| service.name.as_str()).into_set();
    let pull = pull.iter().filter_map(|service| service.image.clone()).into_set();
    let build = (!build.is_empty()).then(|| Step::Build(build.into_iter().collect()));
    let pull = (!pull.is_empty()).then(|| Step::Pull(pull.into_iter().collect()));
    Ok(pull.into_iter().chain(build).collect())
}

/// Migrates products; their roles and databases are created, and backed up, before where that is asked for.
fn migrate<'a>(
    cx: &Context,
    deployments: &'a [Deployment<'a>],
    databases: &Databases,
    is_forced: bool,
    early: &[&'a Service],
) -> Vec<Step<'a>> {
    let may_create = if databases.create_databases { MayCreate::Any } else { MayCreate::Labelled };
    let asks =
        move |server: &&Service| may_create == MayCreate::Any || server.labels.contains_key(CREATE_LABEL);
    let create = servers(deployments).into_iter().filter(asks).map(move |server| {
        let is_on = |d: &&Deployment| d.server.is_some_and(|service| service.name == server.name);
        let deployments = deployments.iter().filter(is_on).collect();
        Step::CreateDatabases { server, deployments, may_create }
    });
    let migrate = deployments.iter().map(|deployment| {
        let serves = |service: &&&Service| cx.stack.product_of(service) == Some(deployment.product);
        Step::Migrate { deployment, is_forced, then_start: early.iter().filter(serves).copied().collect() }
    });
    let backup = databases.backup.then_some(Step::Backup(deployments));
    create.chain(backup).chain(migrate).collect()
}

/// The database services behind some products, each once.
fn servers<'a>(deployments: impl IntoIterator<Item = &'a Deployment<'a>>) -> Vec<&'a Service> {
    let servers = deployments.into_iter().filter_map(|deployment| deployment.server);
    servers.map(|server| (server.name.as_str(), server)).into_map().into_values().collect()
}

/// What these products are in, with the servers that are services of the stack started where they don't run.
fn targets<'a>(cx: &'a Locked, products: &[Instance]) -> Result<Vec<Target<'a>>> {
    let targets = target::of(cx, products)?;
    let servers = servers(targets.iter().flat_map(|target| &target.deployments)).into_iter();
    let start = |server| Step::StartServer { server, recreate: false, meanwhile: vec![] };
    plan::execute(cx, &servers.map(start).collect::<Vec<_>>())?;
    target::located(cx, products)
}
