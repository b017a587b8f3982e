//! What the engine and the databases said: asked once, and again after something was run that may have changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ory_facts::carried::Carried;
use ory_facts::instance::Instance;
use ory_runner::answer::Answer;
use ory_runner::output::Output;
use ory_stack::container::{Container, Image, Listed};
use ory_stack::service::Service;

#[derive(Default, Clone)]
pub(crate) struct Seen {
    pub(crate) servers: BTreeSet<String>,
    pub(crate) applied: BTreeMap<Instance, BTreeSet<String>>,
    pub(crate) unfinished: BTreeMap<Instance, String>,
}

/// What is kept, until [`Cache::forget`].
#[derive(Default)]
pub struct Cache {
    /// The containers of the project, as the engine lists them.
    pub listed: Answer<Vec<Listed>>,
    /// Those of its services, with all that the engine knows of them.
    pub containers: Answer<Vec<Container>>,
    /// Those of the services' images that are here.
    pub images: Answer<Vec<Image>>,
    /// Compose's hash of each service's configuration.
    pub hashes: Answer<BTreeMap<String, String>>,
    /// Those that an earlier run was told of the same configuration.
    pub kept_hashes: Answer<BTreeMap<String, String>>,
    /// The versions that products' databases have, and the servers that told them.
    pub(crate) seen: Answer<Seen>,
    carried: Mutex<BTreeMap<Instance, Arc<Answer<Option<Carried>>>>>,
}

impl Cache {
    /// Something is run, or was, that may change containers and databases.
    pub fn forget(&self) {
        self.forget_containers();
        self.seen.set(None);
    }

    pub fn forget_containers(&self) {
        self.listed.set(None);
        self.containers.set(None);
    }

    /// The database of a product was made just now.
    pub fn set_new(&self, product: Instance) {
        let mut seen = self.seen();
        seen.applied.insert(product, BTreeSet::new());
        self.seen.set(Some(seen));
    }

    /// The databases of these products have changed.
    pub fn forget_versions(&self, products: impl IntoIterator<Item = Instance>) {
        let mut seen = self.seen();
        products.into_iter().for_each(|product| _ = seen.applied.remove(&product));
        self.seen.set(Some(seen));
    }

    /// What the image of a product carries.
    pub fn carried(&self, product: Instance) -> Arc<Answer<Option<Carried>>> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.entry(product).or_default().clone()
    }

    /// What a product's database has, where it was looked at.
    pub fn applied(&self, product: Instance) -> Option<BTreeSet<String>> {
        self.seen().applied.remove(&product)
    }

    /// Says which databases a run has left that was killed when it had replaced them.
    pub fn warn_of_unfinished(&self, out: Output) {
        for (product, name) in self.seen().unfinished {
            out.warn(format!(
                "an earlier restore or reset of {product} was killed before its end: what was there before it is \
                 {name}; the next restore or reset keeps it"
            ));
        }
    }

    /// Whether a server was looked at, and takes connections.
    pub fn answers(&self, server: &Service) -> bool {
        self.seen().servers.contains(&server.name)
    }

    fn seen(&self) -> Seen {
        self.seen.peek().unwrap_or_default()
    }
}
