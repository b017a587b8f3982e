//! What the checks look at: a stack's services, and which of them are whose.

use std::collections::{BTreeMap, BTreeSet};

use ory_facts::instance::Instance;
use ory_facts::sorted::Sorted;

use crate::dsns::{Database, Dsns};
use crate::reach;
use crate::service::Service;

/// What the checks look at.
pub struct View<'a> {
    pub services: &'a BTreeMap<String, Service>,
    /// The products, in the order of the migrations; one with several servers is there as often.
    pub products: Vec<Deployed<'a>>,
    /// A network comes from elsewhere, and with it hosts that no service here explains.
    pub has_external_network: bool,
    /// The values of secrets that `.env.example` has.
    pub examples: &'a BTreeSet<String>,
}

/// A product, and its services.
pub struct Deployed<'a> {
    pub product: Instance,
    pub serve: &'a Service,
    /// A one-shot where there is one, else the serving one.
    pub migrate: &'a Service,
    /// Those of all services.
    pub dsns: &'a Dsns,
}

impl<'a> Deployed<'a> {
    /// Its services, each once.
    pub fn services(&self) -> impl Iterator<Item = &'a Service> + use<'a> {
        let one_shot = (self.migrate.name != self.serve.name).then_some(self.migrate);
        [self.serve].into_iter().chain(one_shot)
    }

    /// The databases that its services work with, as far as their DSNs can be used.
    pub fn databases(&self) -> impl Iterator<Item = &'a Database> + use<'a> {
        let (kind, dsns) = (self.product.kind, self.dsns);
        self.services().filter_map(move |service| dsns.database(kind, service))
    }
}

impl<'a> View<'a> {
    /// The service that other containers reach by this name.
    pub fn reached_by(&self, host: &str) -> Option<&'a Service> {
        self.services.values().find(|service| service.is_reached_by(host))
    }

    /// The database servers that are services of the stack, each once.
    pub fn servers(&self) -> Vec<&'a Service> {
        let names = self.products.iter().flat_map(Deployed::databases).filter_map(|d| d.server.as_deref());
        names.into_set().into_iter().filter_map(|name| self.services.get(name)).collect()
    }

    /// Whether it serves others than its developers: each database is on a server elsewhere, and no product runs
    /// with `--dev`.
    pub fn is_production(&self) -> bool {
        let mut databases = self.products.iter().flat_map(Deployed::databases).peekable();
        let is_elsewhere =
            |database: &Database| database.server.is_none() && !reach::is_here(&database.written.host);
        let is_dev = |deployed: &Deployed| deployed.serve.words().any(|word| word == "--dev");
        databases.peek().is_some() && databases.all(is_elsewhere) && !self.products.iter().any(is_dev)
    }
}
