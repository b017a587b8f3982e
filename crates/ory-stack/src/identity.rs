//! What a stack learns from the images of its services: which product each is, where nothing that is written tells.

use ory_facts::product::Product;
use ory_facts::sorted::Sorted;

use crate::container::Image;
use crate::image;
use crate::service::Service;
use crate::stack::Stack;

impl Stack {
    /// The images to look at: those whose own program may tell a product that nothing else tells, those of a product
    /// that aren't called as Ory's own are, and those whose folder a configuration file is named from.
    pub fn untold(&self) -> Vec<&str> {
        let is_absent = |product: &Product| !self.services.values().any(|service| service.is_of(*product));
        let is_untold = |service: &&Service| !Product::ALL.iter().any(|p| service.is_of(*p));
        let is_searched = Product::ALL.iter().any(is_absent)
            || self.services.values().filter(is_untold).any(Service::is_migration);
        let is_looked_at =
            |service: &&Service| if is_untold(service) { is_searched } else { service.is_unclear() };
        let images = self.services.values().filter(is_looked_at).filter_map(|s| s.image.as_deref());
        let images = images.filter(|image| image::name(image) != "postgres").into_set();
        images.into_iter().collect()
    }

    /// Takes what images start by themselves.
    pub fn learn(&mut self, images: &[Image]) {
        for image in images {
            let own = self.services_mut().values_mut().filter(|s| s.image.as_ref() == Some(&image.name));
            own.for_each(|service| service.learn(image));
        }
    }

    /// The services that are taken for a product's, and not by a label or the name of an image of Ory's.
    pub fn claims(&self) -> Vec<(Product, &Service)> {
        let of = |product: Product| {
            let own = self.services.values().filter(move |service| service.is_of(product));
            own.map(move |service| (product, service))
        };
        let all = Product::ALL.into_iter().flat_map(of);
        let is_orys = |service: &Service| service.image.as_deref().is_some_and(image::is_orys);
        all.filter(|(_, service)| service.labelled().is_none() && !is_orys(service)).collect()
    }

    /// Takes that a service isn't a product's, whatever it is called.
    pub fn deny(&mut self, service: &str, product: Product) {
        self.services_mut().get_mut(service).into_iter().for_each(|service| service.others.push(product));
    }
}
