//! What an upgrade changes: of each product, the images of its services, as they are and as they are to be.

use anyhow::{Result, bail};
use ory_facts::instance::Instance;
use ory_facts::product::parse_release;
use ory_runner::failure::{Exit, Failure};
use ory_stack::container::Container;
use ory_stack::image::tag;
use ory_stack::service::Service;

use crate::context::Context;
use crate::image_pin::Images;
use crate::recreate;
use crate::services;

/// A product from one image to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub product: Instance,
    /// The image that serves, and the one that will.
    pub from: String,
    pub to: String,
    /// The images of all its services, as they were made from, and as they are to be.
    pub old: Images,
    pub new: Images,
}

impl Change {
    /// Whether there is anything to change.
    pub fn is_one(&self) -> bool {
        self.old != self.new
    }
}

/// What changes for a product: to a release, or, without one, from what its containers run to what the stack names.
pub fn of(cx: &Context, product: Instance, release: Option<&str>) -> Result<Change> {
    let containers = there(cx, product)?;
    let (mut old, mut new) = (Images::new(), Images::new());
    let mut serving = None;
    for service in services_of(cx, product)? {
        let Some(named) = service.image.clone() else { continue };
        // What only migrates leaves a container of before, which tells nothing.
        let is_kept =
            |container: &&Container| container.service == service.name && runs_on(cx, product, service);
        let runs = containers.iter().find(is_kept).map(|container| image_of(cx, container, &named));
        let to = match release {
            Some(_) if service.is_built => {
                let message = format!(
                    "the image of `{}` is built here, so no release of it can be named",
                    service.name
                );
                bail!(
                    Failure::new(Exit::Failed, message)
                        .hint("name the release where it is built; then {XTASK} upgrade")
                );
            }
            Some(release) => with_release(&named, release),
            None => named.clone(),
        };
        if cx.stack.product_of(service) == Some(product) {
            serving = serving.or(Some((runs.clone().unwrap_or(named.clone()), to.clone())));
        }
        new.insert(service.name.clone(), to);
        old.insert(service.name.clone(), runs.unwrap_or(named));
    }
    let Some((from, to)) = serving else {
        let message = format!("no service serves {product}");
        bail!(Failure::new(Exit::Usage, message).hint("{XTASK} status"));
    };
    // What has no container that runs had what served, where both have one image.
    for (name, image) in &mut old {
        let is_running = cx.stack.services.get(name).is_some_and(|service| runs_on(cx, product, service));
        let has_container = is_running && containers.iter().any(|container| container.service == *name);
        if !has_container && new.get(name) == Some(&to) {
            image.clone_from(&from);
        }
    }
    Ok(Change { product, from, to, old, new })
}

/// The containers that tell what a product has: those that run, or that a run has left stopped; where there are none, all.
fn there(cx: &Context, product: Instance) -> Result<Vec<Container>> {
    let running = services::serving(cx, &[product])?;
    if running.is_empty() { cx.containers() } else { Ok(running) }
}

/// The image of a container, by the name that the stack has for it.
fn image_of(cx: &Context, container: &Container, named: &str) -> String {
    if recreate::is_made_from(cx, container, named) { named.into() } else { container.image.clone() }
}

/// Whether a service of a product stays up.
fn runs_on(cx: &Context, product: Instance, service: &Service) -> bool {
    cx.stack.running(product).iter().any(|running| running.name == service.name)
}

/// The services of a product: those that run, and who migrates.
fn services_of(cx: &Context, product: Instance) -> Result<Vec<&Service>> {
    let mut services = cx.stack.running(product);
    let migrates = cx.stack.deployment(product)?.map(|deployment| deployment.migrate);
    let is_known = |service: &&Service| services.iter().any(|known| known.name == service.name);
    let migrates = migrates.filter(|service| !is_known(service));
    services.extend(migrates);
    Ok(services)
}

/// An image of another release: what its tag says besides stays, and a digest goes, which is another image's.
pub fn with_release(image: &str, release: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let Some(tag) = tag(name) else { return format!("{name}:{release}") };
    let base = name.strip_suffix(tag).unwrap_or(name);
    if parse_release(tag).is_none() {
        return format!("{base}{release}");
    }
    let release = if tag.starts_with('v') { release } else { release.trim_start_matches('v') };
    let is_variant =
        |variant: &&str| !["alpha", "beta", "rc", "pre"].iter().any(|word| variant.starts_with(word));
    let variant = tag.split_once('-').map(|(_, variant)| variant).filter(is_variant);
    // One that is typed with its variant has it.
    let variant = variant.filter(|_| !release.contains('-'));
    variant.map_or(format!("{base}{release}"), |variant| format!("{base}{release}-{variant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_release_keeps_its_registry_and_its_variant() {
        let to = |image: &str| with_release(image, "v26.2.0");
        assert_eq!(to("oryd/kratos:v25.4.0"), "oryd/kratos:v26.2.0");
        assert_eq!(
            to("registry:5000/oryd/hydra:v2.2.0-distroless@sha256:cafe"),
            "registry:5000/oryd/hydra:v26.2.0-distroless"
        );
        assert_eq!(to("oryd/keto:v0.11.1-alpha.0"), "oryd/keto:v26.2.0");
        assert_eq!(to("mine/kratos:25.4.0"), "mine/kratos:26.2.0");
        assert_eq!(to("mine/kratos:stable"), "mine/kratos:v26.2.0");
        assert_eq!(to("mine/kratos"), "mine/kratos:v26.2.0");
        assert_eq!(with_release("a/b:v1.0.0-x", "v2.0.0-y"), "a/b:v2.0.0-y");
    }
}
