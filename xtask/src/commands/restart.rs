//! `restart`: after an update. Compose's own restart keeps the old container, image and environment.

use std::time::Instant;

use anyhow::Result;

use crate::cli::Services;
use crate::context::Options;
use crate::output::seconds;
use crate::plan::{self, Step};
use crate::service::Service;

pub fn run(options: &Options, args: &Services) -> Result<()> {
    let start = Instant::now();
    let cx = super::context(options, &args.images)?;
    let products = cx.stack.products()?;
    let mut services: Vec<&Service> = cx.stack.services(&args.services)?;
    if services.is_empty() {
        for product in &products {
            services.extend(cx.stack.serving(*product)?);
        }
    }
    let mut deployments = super::deployments(&cx, &products)?;
    deployments.retain(|deployment| services.iter().any(|service| service.name == deployment.serve.name));
    cx.stack.check_files(&services)?;

    let mut steps = super::pull(&cx, &services)?;
    steps.extend(super::start_servers(&deployments, false));
    steps.extend(deployments.iter().map(Step::RequireMigrated));
    steps.push(Step::Restart(services.iter().map(|service| service.name.as_str()).collect()));
    plan::execute(&cx, &steps)?;
    if !options.dry_run {
        cx.out.say(format!("ready in {}", seconds(start.elapsed())));
    }
    Ok(())
}
