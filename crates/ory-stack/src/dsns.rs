//! Where a service keeps its state: its DSN as it is written, what that comes to, and the server that it leads to. This is
//! the only rule for it, and it is followed once for each service.

use std::collections::BTreeMap;

use ory_facts::dsn::Dsn;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;

use crate::reach;
use crate::service::Service;
use crate::settings;
use crate::text::scalar;

/// A DSN as it is written, and where.
pub struct Source {
    pub text: String,
    /// None in the environment.
    pub file: Option<String>,
}

/// A database that a DSN names.
pub struct Database {
    /// The DSN as its service reads it.
    pub written: Dsn,
    /// The same as the server's own container has to read it.
    pub dsn: Dsn,
    /// The service of the server; none where it is no service of the stack.
    pub server: Option<String>,
}

/// The DSN of a service.
pub struct ServiceDsn {
    /// The one that counts.
    pub source: Source,
    /// What is written beside it, and doesn't count.
    pub others: Vec<Source>,
    /// What it comes to, or why it can't be used.
    pub database: Result<Database, String>,
}

impl ServiceDsn {
    fn read(services: &BTreeMap<String, Service>, product: Product, service: &Service) -> Option<Self> {
        let mut sources = sources(product, service).into_iter();
        let source = sources.next()?;
        let database = Dsn::parse(&source.text).map(|dsn| {
            let written = dsn.with_variables(&service.environment);
            match reach::server(services, service, &written) {
                Some(reached) => Database {
                    written: written.on_server(&reached.service.name, reached.port),
                    dsn: reached.dsn.on_server(&reached.service.name, reached.port),
                    server: Some(reached.service.name.clone()),
                },
                None => Database { dsn: written.clone(), written, server: None },
            }
        });
        Some(Self { source, others: sources.collect(), database })
    }
}

/// Where a service has a DSN, the one that counts first: its environment, then its files, of which the last one wins.
fn sources(product: Product, service: &Service) -> Vec<Source> {
    let set = service.environment.get("DSN").filter(|text| !text.is_empty());
    let set = set.map(|text| Source { text: text.clone(), file: None });
    let files = settings::of(product, service).into_iter().rev();
    let written =
        files.filter_map(|(file, yaml)| Some(Source { text: scalar(&yaml["dsn"])?, file: Some(file) }));
    set.into_iter().chain(written).collect()
}

/// The DSNs of a stack's services, by the products that they are of.
pub struct Dsns(BTreeMap<(Product, String), ServiceDsn>);

impl Dsns {
    /// Reads them, from the services and the files that they mount.
    pub fn read(services: &BTreeMap<String, Service>) -> Self {
        let of = |product: Product| {
            services.values().filter(move |service| service.is_of(product)).filter_map(move |service| {
                Some(((product, service.name.clone()), ServiceDsn::read(services, product, service)?))
            })
        };
        Self(Product::ALL.into_iter().flat_map(of).into_map())
    }

    /// That of a service; none where it has none.
    pub fn of(&self, product: Product, service: &Service) -> Option<&ServiceDsn> {
        self.0.get(&(product, service.name.clone()))
    }

    /// The database of a service, as far as its DSN can be used.
    pub fn database(&self, product: Product, service: &Service) -> Option<&Database> {
        self.of(product, service)?.database.as_ref().ok()
    }

    /// That of a product, and the service that has it: the one that migrates, else the one that serves.
    pub fn of_product<'a>(
        &self,
        product: Product,
        migrate: &'a Service,
        serve: &'a Service,
    ) -> Option<(&'a Service, &ServiceDsn)> {
        [migrate, serve].into_iter().find_map(|service| Some((service, self.of(product, service)?)))
    }
}
