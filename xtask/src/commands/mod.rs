//! One file a command; each reads as the script it replaces, and starts no process itself.

pub mod down;
pub mod logs;
pub mod migrate;
pub mod restart;
pub mod test;
pub mod up;

use anyhow::{Result, bail};

use crate::cli::Images;
use crate::context::{Context, Options};
use crate::env_file::EnvFile;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::plan::Step;
use crate::product::Product;
use crate::service::Service;
use crate::stack::{CREATE_LABEL, Deployment};
use crate::stand_in;

/// The context of a command, with stand-ins where asked for: they are built, and kept in `.env`, so that later
/// commands, and plain Compose, use the same images.
fn context(options: &Options, images: &Images) -> Result<Context> {
    // A plan can be made before the secrets are written.
    let new = if options.dry_run { Context::with_placeholders } else { Context::new };
    let Some(release) = &images.stand_in else { return new(options, vec![]) };
    let cx = new(options, stand_in::settings(release))?;
    if options.dry_run {
        Output::data(format!("# builds {}", stand_in::images(release).join(", ")))?;
        return Ok(cx);
    }
    let settings = stand_in::prepare(&cx, release)?;
    EnvFile::read(&cx.dir)?.set(&settings)?;
    Context::new(options, settings)
}

/// The products that are asked for, each with what the stack says about it.
fn deployments<'a>(cx: &'a Context, products: &[Product]) -> Result<Vec<Deployment<'a>>> {
    let mut deployments = Vec::new();
    for product in products {
        deployments.extend(cx.stack.deployment(*product)?);
    }
    Ok(deployments)
}

/// Hydra can't migrate in a schema with another product's tables; Kratos and Keto can.
fn check_sharing(cx: &Context, deployments: &[Deployment]) -> Result<()> {
    for deployment in deployments {
        let others = cx.stack.sharing(deployment);
        let Some(other) = others.first() else { continue };
        let database = format!("the database {} on `{}`", deployment.dsn.database, deployment.server.name);
        let product = deployment.product;
        let names = others.iter().map(|p| p.name()).collect::<Vec<_>>().join(" and ");
        if product == Product::Hydra {
            let message =
                format!("hydra shares one schema of {database} with {names}, where it can never migrate");
            let hint = format!(
                "give hydra a database of its own in its DSN, or a schema: ...?search_path=hydra ({other} stays)"
            );
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
        cx.out.warn(format!("{product} shares one schema of {database} with {names}; give each its own"));
    }
    Ok(())
}

/// Pulls the images that aren't here.
fn pull(cx: &Context, services: &[&Service]) -> Result<Vec<Step<'static>>> {
    let images = services.iter().filter(|service| !service.is_built);
    let mut wanted: Vec<&str> = images.filter_map(|service| service.image.as_deref()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let here = cx.engine.images(wanted.iter().copied())?;
    wanted.retain(|name| !here.iter().any(|image| image.name == *name) && !stand_in::is_stand_in(name));
    let missing: Vec<_> = wanted.into_iter().map(String::from).collect();
    Ok(if missing.is_empty() { vec![] } else { vec![Step::Pull(missing)] })
}

/// Migrates products, their roles and databases created before where the stack asks for it.
fn migrate<'a>(deployments: &'a [Deployment<'a>]) -> impl Iterator<Item = Step<'a>> {
    let asks = |server: &&Service| server.labels.contains_key(CREATE_LABEL);
    let create = servers(deployments).into_iter().filter(asks).map(|server| {
        let deployments = deployments.iter().filter(|d| d.server.name == server.name).collect();
        Step::CreateDatabases { server, deployments }
    });
    create.chain(deployments.iter().map(Step::Migrate))
}

/// The database services behind some products, each once.
fn servers<'a>(deployments: &'a [Deployment<'a>]) -> Vec<&'a Service> {
    let mut servers: Vec<&Service> = deployments.iter().map(|deployment| deployment.server).collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    servers.dedup_by(|a, b| a.name == b.name);
    servers
}
