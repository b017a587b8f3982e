//! A product as it is deployed: who migrates it, with which files, and where it keeps its state.

use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;

use crate::service::Service;

/// A product in this stack.
pub struct Deployment<'a> {
    pub product: Instance,
    /// The service whose container migrates: a one-shot where there is one, else the serving one.
    pub migrate: &'a Service,
    /// The configuration files, as the container names them. Of two that have a setting, the later one counts.
    pub configs: Vec<String>,
    /// Only a configuration file has the DSN.
    pub dsn_in_config: bool,
    pub dsn: Dsn,
    /// The service of the PostgreSQL server behind the DSN; none where the server is no service of this stack:
    /// a managed one, or another project's.
    pub server: Option<&'a Service>,
    /// The DSN names an empty database of our own, not the one that the stack names.
    pub is_scratch: bool,
}

impl Deployment<'_> {
    /// The same product on another database of the same server, an empty one of our own.
    pub fn scratch(&self, database: &str) -> Self {
        let (dsn, configs) = (self.dsn.with_database(database), self.configs.clone());
        Self { dsn, configs, is_scratch: true, ..*self }
    }

    /// The same product with its DSN naming another database of the same server.
    pub fn with_database(&self, database: &str) -> Self {
        Self { is_scratch: self.is_scratch, ..self.scratch(database) }
    }

    /// The same product with its tables in another schema of the same database, by its name.
    pub fn with_schema(&self, schema: &str) -> Self {
        Self { dsn: self.dsn.with_schemas(&[schema]), configs: self.configs.clone(), ..*self }
    }

    /// What the server is called in words: its service, or its host.
    pub fn server_name(&self) -> &str {
        self.server.map_or(&self.dsn.host, |service| &service.name)
    }
}
