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

    /// Whether a product is told by its label, else by what its image says that it is, or starts.
    pub fn is_told(&self, product: Product) -> Option<bool> {
        let denied = self.others.contains(&product).then_some(false);
        self.labelled().map(|told| told == product).or(denied).or(self.started.map(|told| told == product))
    }

    /// Takes what its image starts, where the stack doesn't name another program.
    pub fn learn(&mut self, image: &Image) {
        let program = image.entrypoint.first().filter(|_| self.entrypoint.is_empty());
        self.started = program.and_then(|program| Product::named(program.rsplit('/').next()?));
        self.image_line = (image.entrypoint.clone(), image.command.clone());
        if !image.folder.is_empty() {
            self.working_dir.get_or_insert(image.folder.clone());
        }
    }

    /// The program of a product in it: where the stack, or the image, says that it is.
    pub fn program(&self, product: Product) -> String {
        let first = [&self.entrypoint, &self.image_line.0].into_iter().filter_map(|words| words.first());
        let is_it = |word: &&String| word.rsplit('/').next() == Some(product.name());
        { first }.find(is_it).cloned().unwrap_or(product.name().into())
    }

    /// Whether what it does can't be told without looking at its image.
    fn is_unclear(&self) -> bool {
        self.labelled().is_none() && !self.image.as_deref().is_some_and(image::is_orys) || self.needs_folder()
    }
}

/// How many containers Compose makes of a service, as it prints either of its two settings.
pub(crate) fn replicas(yaml: &Yaml) -> usize {
    let number = [&yaml["deploy"]["replicas"], &yaml["scale"]].into_iter().find_map(Yaml::as_i64);
    number.and_then(|number| number.try_into().ok()).unwrap_or(1)
}

impl Stack {
    /// The images to look at: those whose own program may tell a product that nothing else tells, those of a product
    /// that aren't called as Ory's own are, and those whose folder a configuration file is named from.
    pub fn untold(&self) -> Vec<&str> {
        let is_absent = |product: &Product| self.services_of(*product).next().is_none();
        let is_untold = |service: &&Service| !Product::ALL.iter().any(|p| self.is_of(service, *p));
        let is_searched = Product::ALL.iter().any(is_absent)
            || self.services.values().filter(is_untold).any(Service::is_migration);
        let is_looked_at =
            |service: &&Service| if is_untold(service) { is_searched } else { service.is_unclear() };
        let images = self.services.values().filter(is_looked_at).filter_map(|s| s.image.as_deref());
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
            own.for_each(|service| service.learn(image));
        }
    }

    /// The services that are taken for a product's, and not by a label or the name of an image of Ory's.
    pub fn claims(&self) -> Vec<(Product, &Service)> {
        let of = |product: Product| self.services_of(product).map(move |service| (product, service));
        let all = Product::ALL.into_iter().flat_map(of);
        let is_orys = |service: &Service| service.image.as_deref().is_some_and(image::is_orys);
        all.filter(|(_, service)| service.labelled().is_none() && !is_orys(service)).collect()
    }

    /// Takes that a service isn't a product's, whatever it is called.
    pub fn deny(&mut self, service: &str, product: Product) {
        self.services.get_mut(service).into_iter().for_each(|service| _ = service.others.insert(product));
    }

    /// The services that are left out because no profile of theirs is active: the profile, and who is in it. `every` is
    /// what Compose prints of all profiles.
    pub fn inactive(&self, every: &Yaml) -> BTreeMap<String, Vec<String>> {
        let mut inactive: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, service) in read_services(every, |_| None) {
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
