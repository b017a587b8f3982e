//! The table at the end of `up` and `restart`: each service, its image, its URLs, how long it took.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use ory_ops::context::Context;
use ory_ops::readiness;
use ory_ops::replicas::Replicas;
use ory_runner::output::{Output, seconds, table};

/// Prints the services that have a container, on standard output. `took` is how long each was waited for;
/// those in `kept` ran before.
pub fn print(
    cx: &Context,
    services: &[&str],
    took: &BTreeMap<String, Duration>,
    kept: &[&str],
) -> Result<()> {
    let containers = cx.containers()?;
    let mut rows = vec![["SERVICE", "READY", "IMAGE", "URL"].map(String::from).to_vec()];
    let mut stand_ins = Vec::new();
    for service in services.iter().filter_map(|name| cx.stack.services.get(*name)) {
        let own = Replicas::of(&containers, &[service]);
        let Some(image) = own.images() else { continue };
        let ready = match took.get(&service.name) {
            Some(_) if kept.contains(&service.name.as_str()) => "ready".into(),
            Some(duration) => seconds(*duration),
            None => own.state(),
        };
        let urls = readiness::urls(cx, &containers, &service.name).join(" ");
        rows.push(vec![service.name.clone(), ready, image, urls]);
        if cx.stack.product_of(service).is_some() && cx.is_stand_in(service)? {
            stand_ins.push(service.name.as_str());
        }
    }
    for line in table(&rows) {
        Output::data(line)?;
    }
    if !stand_ins.is_empty() {
        cx.out.warn(format!("stand-ins, not Ory's servers: {}", stand_ins.join(", ")));
    }
    Ok(())
}
