//! `up`: from nothing, or from any state, to a ready environment.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::cli::Services;
use crate::context::{Context, Options};
use crate::env_file::EnvFile;
use crate::failure::{Exit, Failure};
use crate::output::{Output, seconds};
use crate::plan::{self, Step};
use crate::product::Product;
use crate::service::Service;
use crate::stand_in;

pub fn run(options: &Options, args: &Services) -> Result<()> {
    let start = Instant::now();
    let cx = context(options, args)?;
    let services = with_dependencies(&cx, &args.services)?;
    let products: Vec<Product> = services.iter().filter_map(|service| cx.stack.product_of(service)).collect();
    let deployments = super::deployments(&cx, &products)?;
    super::check_sharing(&cx, &deployments)?;
    cx.stack.check_files(&services)?;

    let mut steps = super::pull(&cx, &services)?;
    steps.extend(super::start_servers(&deployments, true));
    steps.extend(super::migrate(&deployments));
    let wait = services.iter().map(|service| service.name.as_str()).collect();
    steps.push(Step::Start { named: args.services.clone(), wait });
    plan::execute(&cx, &steps)?;
    if !options.dry_run {
        cx.out.say(format!("ready in {}", seconds(start.elapsed())));
    }
    Ok(())
}

/// The context, once the secrets of a new environment are written. Nothing is started before.
fn context(options: &Options, args: &Services) -> Result<Context> {
    let settings = args.images.stand_in.as_deref().map(stand_in::settings).unwrap_or_default();
    let cx = Context::with_placeholders(options, settings)?;
    let env = EnvFile::read(&cx.dir)?;
    let missing = env.missing().join(", ");
    if options.dry_run {
        if !missing.is_empty() {
            Output::data(format!("# writes {missing} to .env"))?;
        }
        return Ok(cx);
    }
    let settings = match &args.images.stand_in {
        Some(release) => stand_in::prepare(&cx, release)?,
        None => vec![],
    };
    if !missing.is_empty() {
        refuse_new_secrets_for_old_data(&cx, &missing)?;
    }
    if env.write(&settings)? {
        let count = env.missing().len();
        cx.out.say(format!(".env: written, with {count} new random secrets (mode 0600)"));
    }
    Context::new(options, settings)
}

/// What was encrypted with the old secrets can't be read with new ones.
fn refuse_new_secrets_for_old_data(cx: &Context, missing: &str) -> Result<()> {
    let volumes = cx.engine.volumes(&cx.stack.project)?;
    if volumes.is_empty() {
        return Ok(());
    }
    let message = format!(
        "this stack has data (volume {}), but .env lacks its {missing}: new secrets could not read it",
        volumes.join(", ")
    );
    let hint = "put the old .env back; or, where the data may go: cargo xtask down --volumes";
    bail!(Failure::new(Exit::Missing, message).hint(hint))
}

/// The services asked for and, as Compose starts them too, those they depend on. None asked for: all.
fn with_dependencies<'a>(cx: &'a Context, names: &[String]) -> Result<Vec<&'a Service>> {
    if names.is_empty() {
        return cx.stack.in_order();
    }
    let mut found = cx.stack.services(names)?;
    let mut next = 0;
    while next < found.len() {
        let dependencies = found[next].depends_on.iter().filter_map(|name| cx.stack.services.get(name));
        for service in dependencies.collect::<Vec<_>>() {
            if !found.iter().any(|known| known.name == service.name) {
                found.push(service);
            }
        }
        next += 1;
    }
    Ok(found)
}
