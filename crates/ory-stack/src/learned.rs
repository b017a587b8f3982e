//! Which product a service is of: by a label, by the name of its image or by what that starts, by its own name or
//! program.

use ory_facts::product::Product;

use crate::container::Image;
use crate::image;
use crate::service::Service;

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

    /// Whether it belongs to a product: by a label, by the name of its image, else by its own name or program.
    pub fn is_of(&self, product: Product) -> bool {
        let name = product.name();
        let by_name = || match self.image.as_deref().map(image::name) {
            Some(image) if Product::named(image).is_some() => image == name,
            // A database may have the name of who uses it, and a one-shot that is built here that of who it is for.
            _ => {
                let is_database = self.environment.keys().any(|key| key.starts_with("POSTGRES_"));
                let is_for = || self.name.split(['-', '_', '.']).any(|part| part == name);
                (self.name == name && !is_database)
                    || self.words().any(|word| word == name)
                    || (self.is_built && self.is_migration() && is_for())
            }
        };
        self.is_told(product).unwrap_or_else(by_name)
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
    pub(crate) fn is_unclear(&self) -> bool {
        self.labelled().is_none() && !self.image.as_deref().is_some_and(image::is_orys) || self.needs_folder()
    }
}
