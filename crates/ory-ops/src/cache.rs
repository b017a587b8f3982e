//! What the engine and the databases said: asked once, and again after something was run that may have changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::invalidation::Effect;
use ory_facts::image_migrations::Carried;
use ory_facts::instance::Instance;
use ory_facts::sorted::Sorted;
use ory_runner::memo::Memo;
use ory_stack::container::{Container, Image, Listed};
use ory_stack::service::Service;

/// What the databases told.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) servers: BTreeSet<String>,
    pub(crate) applied: BTreeMap<Instance, BTreeSet<String>>,
    pub(crate) unfinished: BTreeMap<Instance, String>,
}

/// What is kept until something is run that may change it.
#[derive(Default)]
pub(crate) struct Cache {
    /// The containers of the project, as the engine lists them.
    pub listed: Memo<Vec<Listed>>,
    /// Those of its services, with all that the engine knows of them.
    pub containers: Memo<Vec<Container>>,
    /// Those of the services' images that are here.
    pub images: Memo<Vec<Image>>,
    /// Compose's hash of each service's configuration.
    pub hashes: Memo<BTreeMap<String, String>>,
    /// Those that an earlier run was told of the same configuration.
    pub kept_hashes: Memo<BTreeMap<String, String>>,
    /// The versions that products' databases have, and the servers that told them.
    seen: Mutex<Seen>,
    carried: Mutex<BTreeMap<Instance, Arc<Memo<Option<Carried>>>>>,
}

impl Cache {
    /// Forgets what a command of the engine may have changed.
    pub fn forget(&self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Images => self.images.set(None),
            Effect::Containers => {
                self.listed.set(None);
                self.containers.set(None);
            }
            Effect::Everything => {
                self.forget(Effect::Containers);
                self.forget_databases();
            }
        }
    }

    /// Something was run that may have changed databases.
    pub fn forget_databases(&self) {
        *self.seen() = Seen::default();
    }

    /// The databases of these products have changed.
    pub fn forget_versions(&self, products: &[Instance]) {
        let mut seen = self.seen();
        let applied = std::mem::take(&mut seen.applied).into_iter();
        seen.applied = applied.filter(|(product, _)| !products.contains(product)).into_map();
    }

    /// The database of a product was made just now.
    pub fn set_new(&self, product: Instance) {
        self.seen().applied.insert(product, BTreeSet::new());
    }

    /// The databases were looked at.
    pub fn set_seen(&self, seen: Seen) {
        *self.seen() = seen;
    }

    /// What the image of a product carries.
    pub fn carried(&self, product: Instance) -> Arc<Memo<Option<Carried>>> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.entry(product).or_default().clone()
    }

    /// What a product's database has, where it was looked at.
    pub fn applied(&self, product: Instance) -> Option<BTreeSet<String>> {
        self.seen().applied.get(&product).cloned()
    }

    /// What a run has left that was killed when it had replaced a product's database.
    pub fn unfinished(&self) -> BTreeMap<Instance, String> {
        self.seen().unfinished.clone()
    }

    /// Whether a server was looked at, and takes connections.
    pub fn answers(&self, server: &Service) -> bool {
        self.seen().servers.contains(&server.name)
    }

    /// Whether any database was looked at.
    pub fn has_seen(&self) -> bool {
        !self.seen().applied.is_empty()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ory_facts::product::Product;

    use super::*;

    #[test]
    fn what_may_have_changed_is_forgotten_and_nothing_else() {
        let cache = Cache::default();
        let [kratos, hydra] = [Product::Kratos, Product::Hydra].map(Instance::from);
        let fill = || {
            cache.listed.set(Some(vec![]));
            cache.images.set(Some(vec![]));
            [kratos, hydra].into_iter().for_each(|product| cache.set_new(product));
        };
        let kept = || {
            let products = [kratos, hydra].map(|product| cache.applied(product).is_some());
            (cache.listed.peek().is_some(), cache.images.peek().is_some(), products)
        };
        let forgets = |work: &dyn Fn()| {
            fill();
            work();
            kept()
        };
        assert_eq!(forgets(&|| cache.forget(Effect::Nothing)), (true, true, [true, true]));
        assert_eq!(forgets(&|| cache.forget(Effect::Images)), (true, false, [true, true]));
        assert_eq!(forgets(&|| cache.forget(Effect::Containers)), (false, true, [true, true]));
        assert_eq!(forgets(&|| cache.forget(Effect::Everything)), (false, true, [false, false]));
        assert_eq!(forgets(&|| cache.forget_databases()), (true, true, [false, false]));
        assert_eq!(forgets(&|| cache.forget_versions(&[kratos])), (true, true, [false, true]));
    }
}
