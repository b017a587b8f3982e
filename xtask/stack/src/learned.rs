//! What isn't written where it is looked for first: which service is of which product by a label or by what its image
//! starts, who is left out by the profiles, and who comes with a service.

use std::collections::{BTreeMap, BTreeSet};

use ory_facts::product::Product;
use yaml_rust2::Yaml;

use crate::container::Image;
use crate::image;
use crate::service::Service;
use crate::stack::{Stack, read_services};

/// The label that tells which product a service is of, where neither its image nor its name does.
pub const PRODUCT_LABEL: &str = "xtask.product";

impl Service {
    /// The product that its label names.
    pub fn labelled(&self) -> Option<Product> {
        Product::named(self.labels.get(PRODUCT_LABEL)?)
    }

    /// Whether a product is told by its label, else by what its image starts.
    pub fn is_told(&self, product: Product) -> Option<bool> {
        self.labelled().or(self.started).map(|told| told == product)
    }

    /// Takes what its image starts, where the stack doesn't name another program.
    pub fn learn(&mut self, entrypoint: &[String]) {
        let program = entrypoint.first().filter(|_| self.entrypoint.is_empty());
        self.started = program.and_then(|program| Product::named(program.rsplit('/').next()?));
    }
}

/// How many containers Compose makes of a service, as it prints either of its two settings.
pub(crate) fn replicas(yaml: &Yaml) -> usize {
    let number = [&yaml["deploy"]["replicas"], &yaml["scale"]].into_iter().find_map(Yaml::as_i64);
    number.and_then(|number| number.try_into().ok()).unwrap_or(1)
}

impl Stack {
    /// The images whose own program may tell a product that nothing else tells; none where all are found.
    pub fn untold(&self) -> Vec<&str> {
        let is_absent = |product: &Product| self.services_of(*product).next().is_none();
        let is_untold = |service: &&Service| !Product::ALL.iter().any(|p| self.is_of(service, *p));
        let mut untold = self.services.values().filter(is_untold);
        if !Product::ALL.iter().any(is_absent) && !untold.any(Service::is_migration) {
            return vec![];
        }
        let images = self.services.values().filter(is_untold).filter_map(|s| s.image.as_deref());
        let images: BTreeSet<_> = images.filter(|image| image::name(image) != "postgres").collect();
        images.into_iter().collect()
    }

    fn is_of(&self, service: &Service, product: Product) -> bool {
        self.services_of(product).any(|own| own.name == service.name)
    }

    /// Takes what images start by themselves.
    pub fn learn(&mut self, images: &[Image]) {
        for image in images {
            let own = self.services.values_mut().filter(|s| s.image.as_ref() == Some(&image.name));
            own.for_each(|service| service.learn(&image.entrypoint));
        }
    }

    /// The services that are left out because no profile of theirs is active: the profile, and who is in it. `every` is
    /// what Compose prints of all profiles.
    pub fn inactive(&self, every: &Yaml) -> BTreeMap<String, Vec<String>> {
        let mut inactive: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, service) in read_services(every) {
            if let Some(profile) = service.profiles.first().filter(|_| !self.services.contains_key(&name)) {
                inactive.entry(profile.clone()).or_default().push(name);
            }
        }
        inactive
    }

    /// Services, and all that they depend on.
    pub fn with_dependencies<'a>(&'a self, mut found: Vec<&'a Service>) -> Vec<&'a Service> {
        let mut next = 0;
        while let Some(service) = found.get(next) {
            let dependencies = service.depends_on.keys().filter_map(|name| self.services.get(name));
            for service in dependencies.collect::<Vec<_>>() {
                if !found.iter().any(|known| known.name == service.name) {
                    found.push(service);
                }
            }
            next += 1;
        }
        found
    }
}
