//! What is dumped, put back and replaced as a whole: a database, or, where the stack tells schemas of one database
//! apart, a schema of it; with the products whose tables are there.

use anyhow::{Context as _, Result};
use ory_facts::product::Product;
use ory_stack::stack::Deployment;

use crate::context::Context;

/// A database, or a schema of it, and the products in it.
pub struct Store<'a> {
    /// In the order of the migrations; the first connects for all of them.
    pub deployments: Vec<Deployment<'a>>,
    /// The schema, where it isn't the whole database.
    pub schema: Option<String>,
}

/// What these products are in. A product that shares the place with one of them comes with it.
pub fn of<'a>(cx: &'a Context, products: &[Product]) -> Result<Vec<Store<'a>>> {
    // Of one that can't be read the reason is told.
    for product in products {
        cx.stack.deployment(*product)?;
    }
    let mut stores: Vec<Store> = vec![];
    for deployment in cx.stack.readable() {
        match stores.iter_mut().find(|store| store.has_place_of(&deployment)) {
            Some(store) => store.deployments.push(deployment),
            None => stores.push(Store { deployments: vec![deployment], schema: None }),
        }
    }
    let tells_apart = |store: &Store| {
        let is_other = |other: &Store| other.is_database_of(store) && other.path() != store.path();
        store.path().is_some() || stores.iter().any(is_other)
    };
    let schemas: Vec<_> =
        stores.iter().map(|store| tells_apart(store).then(|| store.default_schema())).collect();
    for (store, schema) in stores.iter_mut().zip(schemas) {
        store.schema = schema;
    }
    stores.retain(|store| store.deployments.iter().any(|deployment| products.contains(&deployment.product)));
    Ok(stores)
}

impl<'a> Store<'a> {
    /// The product that connects.
    pub fn main(&self) -> Result<&Deployment<'a>> {
        self.deployments.first().context("a database has no product")
    }

    /// Its products' names, joined.
    pub fn names(&self, separator: &str) -> String {
        let names: Vec<_> = self.deployments.iter().map(|deployment| deployment.product.name()).collect();
        names.join(separator)
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.deployments.first().map_or("", |deployment| &deployment.dsn.database)
    }

    /// What it is called: the database, or the schema of it.
    pub fn in_words(&self) -> String {
        match &self.schema {
            None => self.database().into(),
            Some(schema) => format!("the schema {schema} of {}", self.database()),
        }
    }

    fn path(&self) -> Option<&str> {
        self.deployments.first()?.dsn.search_path()
    }

    fn default_schema(&self) -> String {
        self.deployments.first().and_then(|main| main.dsn.schema()).unwrap_or("public").into()
    }

    fn has_place_of(&self, other: &Deployment) -> bool {
        self.deployments.first().is_some_and(|own| own.dsn.place() == other.dsn.place())
    }

    fn is_database_of(&self, other: &Self) -> bool {
        let mains = self.deployments.first().zip(other.deployments.first());
        mains.is_some_and(|(own, other)| own.dsn.is_database_of(&other.dsn))
    }
}
