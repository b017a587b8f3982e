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
use crate::failure::{Exit, Failure};
use crate::plan::Step;
use crate::product::Product;
use crate::service::Service;
use crate::stack::Deployment;
use crate::stand_in;

/// The context of a command that needs the secrets to be there, with stand-ins where asked for.
fn context(options: &Options, images: &Images) -> Result<Context> {
    let Some(release) = &images.stand_in else { return Context::new(options, vec![]) };
    let cx = Context::new(options, stand_in::settings(release))?;
    if options.dry_run {
        return Ok(cx);
    }
    let settings = stand_in::prepare(&cx, release)?;
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

/// What comes before anything is run for products: images, their database servers, their databases.
fn prepare<'a>(
    cx: &'a Context,
    deployments: &'a [Deployment<'a>],
    images: &[&'a Service],
    recreate: bool,
) -> Result<Vec<Step<'a>>> {
    let mut steps = Vec::new();
    let mut wanted: Vec<&str> =
        images.iter().filter(|s| !s.is_built).filter_map(|s| s.image.as_deref()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let here = cx.engine.images(wanted.iter().copied())?;
    wanted.retain(|name| !here.iter().any(|image| image.name == *name));
    if !wanted.is_empty() {
        steps.push(Step::Pull(wanted.into_iter().map(String::from).collect()));
    }
    for server in servers(deployments) {
        steps.push(Step::StartServer { server, recreate });
        let on_server = deployments.iter().filter(|d| d.server.name == server.name);
        if server.labels.contains_key(crate::stack::CREATE_LABEL) {
            steps.push(Step::CreateDatabases { server, deployments: on_server.collect() });
        }
    }
    Ok(steps)
}

/// The database services behind some products, each once.
fn servers<'a>(deployments: &'a [Deployment<'a>]) -> Vec<&'a Service> {
    let mut servers: Vec<&Service> = deployments.iter().map(|deployment| deployment.server).collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    servers.dedup_by(|a, b| a.name == b.name);
    servers
}
