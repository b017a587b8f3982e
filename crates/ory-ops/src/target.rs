//! What is dumped, put back and replaced as a whole: a database, or, where the stack tells schemas of one database
//! apart, a schema of it; with the products whose tables are there.

use anyhow::{Context as _, Result};
use ory_facts::instance::Instance;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::past_pooler;
use crate::postgres;

/// A database, or a schema of it, and the products in it.
pub struct Target<'a> {
    /// In the order of the migrations; the first connects for all of them.
    pub deployments: Vec<Deployment<'a>>,
    /// The schema, where it isn't the whole database.
    pub schema: Option<String>,
}

/// What these products are in, as their DSNs tell. A product that shares the place with one of them comes with it.
pub fn of<'a>(cx: &'a Context, products: &[Instance]) -> Result<Vec<Target<'a>>> {
    find(cx, products, cx.stack.readable().collect(), &|target| target.first_schema())
}

/// The same as PostgreSQL tells, once the servers run: past a pooler, where there is one, and of the schemas that a search_path names, it passes over those that
/// aren't there.
pub fn located<'a>(cx: &'a Context, products: &[Instance]) -> Result<Vec<Target<'a>>> {
    let past = cx.stack.readable().map(|deployment| past_pooler::past(cx, deployment)).collect();
    find(cx, products, past, &|target| {
        let ask = target.main().and_then(|main| postgres::as_product(cx, main, &[]));
        let said = ask.and_then(|psql| psql.stdin("select :'own_schema';\n").read());
        // Where it can't be asked, or none is there, it is the one that will be made.
        let said = said.ok().and_then(|said| Some(said.strip_suffix('\n')?.to_string()));
        said.filter(|schema| !schema.is_empty()).unwrap_or_else(|| target.first_schema())
    })
}

fn find<'a>(
    cx: &'a Context,
    products: &[Instance],
    readable: Vec<Deployment<'a>>,
    schema_of: &dyn Fn(&Target) -> String,
) -> Result<Vec<Target<'a>>> {
    // Of one that can't be read the reason is told.
    for product in products {
        cx.stack.deployment(*product)?;
    }
    let mut targets: Vec<Target> = vec![];
    for deployment in readable {
        match targets.iter_mut().find(|target| target.has_place_of(&deployment)) {
            Some(target) => target.deployments.push(deployment),
            None => targets.push(Target { deployments: vec![deployment], schema: None }),
        }
    }
    let tells_apart = |target: &Target| {
        let is_other = |other: &Target| other.is_database_of(target) && other.path() != target.path();
        target.path().is_some() || targets.iter().any(is_other)
    };
    let schemas: Vec<_> =
        targets.iter().map(|target| tells_apart(target).then(|| schema_of(target))).collect();
    let mut found: Vec<Target> = vec![];
    for (mut target, schema) in targets.into_iter().zip(schemas) {
        target.schema = schema;
        let is_same = |other: &&mut Target| other.schema == target.schema && other.is_database_of(&target);
        match found.iter_mut().find(is_same) {
            Some(same) => same.deployments.extend(target.deployments),
            None => found.push(target),
        }
    }
    found.retain(|target| target.deployments.iter().any(|deployment| products.contains(&deployment.product)));
    Ok(found)
}

impl<'a> Target<'a> {
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

    /// Takes another schema for its own that isn't there, and that PostgreSQL would take first if it were.
    pub fn prefer(&mut self, schema: &str) {
        let named = self.deployments.first().and_then(|main| main.dsn.schemas()).unwrap_or_default();
        let place = |schema: &str| named.iter().position(|known| known == schema);
        if self.schema.as_deref().and_then(place) > place(schema) && place(schema).is_some() {
            self.schema = Some(schema.into());
        }
    }

    fn path(&self) -> Option<String> {
        self.deployments.first()?.dsn.search_path()
    }

    /// The first that the DSN names.
    fn first_schema(&self) -> String {
        self.deployments.first().and_then(|main| main.dsn.schema()).unwrap_or_else(|| "public".into())
    }

    fn has_place_of(&self, other: &Deployment) -> bool {
        self.deployments.first().is_some_and(|own| own.dsn.place() == other.dsn.place())
    }

    fn is_database_of(&self, other: &Self) -> bool {
        let mains = self.deployments.first().zip(other.deployments.first());
        mains.is_some_and(|(own, other)| own.dsn.is_database_of(&other.dsn))
    }
}
