//! What of a stack is shared, and what was split already: as the databases themselves remember it.

use anyhow::{Context as _, Error, Result, bail};
use ory_facts::catalog::Catalog;
use ory_facts::dsn::Dsn;
use ory_facts::names;
use ory_facts::next::XTASK;
use ory_facts::product::Product;
use ory_facts::rows;
use ory_facts::split::dependents::{self, Dependent};
use ory_facts::split::{self, Division, Fault, MEMORY, Memory, Way};
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_runner::process::Invocation;
use ory_stack::checks::dsns;
use ory_stack::stack::Deployment;

use crate::advisory_lock::{self, ServerLock};
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::image_schema;
use crate::lock::Locked;
use crate::postgres;
use crate::target::Target;

/// How a product stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was not split.
    Own,
    /// It was, and its old DSN stands somewhere.
    Waiting(Way),
    /// It was, out of this database, and all its DSNs are the new one.
    Moved(String),
}

/// How a product stands, by what the database of its DSN remembers.
pub fn state(cx: &Context, deployment: &Deployment, memory: &Memory) -> Result<State> {
    let (product, dsn) = (deployment.product, &deployment.dsn);
    let is_old_left = || {
        let view = cx.stack.view();
        let own = view.products.iter().filter(|deployed| deployed.product == product);
        own.flat_map(dsns::written).any(|written| written.dsn.place() != dsn.place())
    };
    Ok(decide(product.kind, dsn, memory, is_old_left))
}

/// Decides. `is_old_left`: a DSN of the product stands somewhere that names another place.
fn decide(kind: Product, dsn: &Dsn, memory: &Memory, is_old_left: impl FnOnce() -> bool) -> State {
    let was_split = memory.note.as_ref().filter(|note| note.products.contains(&kind));
    let from = match (&memory.from, was_split) {
        (_, Some(note)) if note.way == Way::Schemas && is_in_schema(kind, dsn) => dsn.database.clone(),
        (_, Some(note)) => return State::Waiting(note.way),
        (Some(from), None) if dsn.database == kind.name() => from.clone(),
        _ => return State::Own,
    };
    let way = if memory.from.is_some() { Way::Databases } else { Way::Schemas };
    if is_old_left() { State::Waiting(way) } else { State::Moved(from) }
}

/// Whether a DSN names the schema that a split gives its product.
fn is_in_schema(kind: Product, dsn: &Dsn) -> bool {
    dsn.schema().as_deref() == Some(kind.name())
}

/// What the database of a product's DSN remembers.
pub fn memory(cx: &Context, deployment: &Deployment) -> Result<Memory> {
    let ask = postgres::as_product(cx, deployment, &[])?.stdin(MEMORY).read();
    let text = ask.map_err(|error| diagnosis::of_product(cx, deployment, error))?;
    Ok(Memory::read(&text))
}

/// The question, as `--dry-run` prints it.
pub fn memory_query(cx: &Context, deployment: &Deployment) -> Result<Invocation> {
    let place = postgres::place(cx, &cx.listed()?, deployment);
    Ok(postgres::query(cx, &place, &deployment.dsn, MEMORY))
}

/// A migration there would create the tables again, empty, next to those that were split off.
pub fn refuse_old_dsn(deployment: &Deployment, memory: Memory) -> Result<()> {
    let note = memory.note.filter(|note| note.products.contains(&deployment.product.kind));
    let Some(note) = note else { return Ok(()) };
    if note.way == Way::Schemas && is_in_schema(deployment.product.kind, &deployment.dsn) {
        return Ok(());
    }
    let product = deployment.product;
    let message = format!(
        "{product} was split off the database {}, and its DSN is the old one",
        deployment.dsn.database
    );
    bail!(Failure::new(Exit::Failed, message).hint("{XTASK} split, which says where the new one goes"))
}

/// A place that is shared, and how it can be divided.
pub struct Shared<'a> {
    pub target: &'a Target<'a>,
    pub place: Place,
    actual: Catalog,
    expected: Vec<(Product, Catalog)>,
}

/// Looks at a place with all that its products' images make.
pub fn look<'a>(cx: &Context, target: &'a Target<'a>) -> Result<Shared<'a>> {
    let place = postgres::running_place(cx, target.main()?)?;
    let mut expected = Vec::new();
    let mut actual = Catalog::default();
    for deployment in &target.deployments {
        let (of_image, there) = image_schema::schemas(cx, deployment)?;
        expected.push((deployment.product.kind, of_image));
        actual = there;
    }
    Ok(Shared { target, place, actual, expected })
}

impl Shared<'_> {
    /// Divides it, by what was there when it was looked at.
    pub fn division(&self, way: Way) -> Result<Division> {
        self.divide(&self.actual, way)
    }

    /// Keeps other runs out, and ends what a killed one has left. Fails where another one has split it.
    pub fn begin<'c>(&self, cx: &'c Locked) -> Result<ServerLock<'c>> {
        let main = self.target.main()?;
        let lock = advisory_lock::acquire(cx, main)?;
        end_leftovers(cx, &self.place, main)?;
        if memory(cx, main)?.note.is_some() {
            let message = format!("the database {} was split meanwhile", main.dsn.database);
            bail!(Failure::new(Exit::Failed, message).hint("{XTASK} split, which goes on from there"));
        }
        Ok(lock)
    }

    /// Fails where what is there now would be divided otherwise.
    pub fn refuse_changed(&self, cx: &Context, division: &Division, way: Way) -> Result<()> {
        let main = self.target.main()?;
        let text = image_schema::query(cx, &self.place, main).read()?;
        let now = Catalog::parse(&text).context("failed to read PostgreSQL's catalog")?;
        if self.divide(&now, way)? != *division {
            let message = format!("the tables of {} were changed meanwhile", main.dsn.database);
            bail!(Failure::new(Exit::Failed, message).hint("run this again"));
        }
        Ok(())
    }

    /// Who else uses the tables, where that is in the way.
    pub fn explain_lock(&self, cx: &Context, error: Error) -> Error {
        postgres::explain_lock(cx, self.target.deployments.first(), error, "split")
    }

    /// In a database with the name of a product, the product stays.
    fn divide(&self, actual: &Catalog, way: Way) -> Result<Division> {
        let stays = |product: Product| way == Way::Databases && product.name() == self.target.database();
        let expected = self.expected.iter().filter(|(product, _)| !stays(*product));
        let expected: Vec<_> = expected.map(|(product, catalog)| (*product, catalog)).collect();
        Division::of(actual, &expected).map_err(|fault| match fault {
            Fault::Pending(product, count) => {
                let count = counted(count, "migration");
                let message = format!(
                    "{product} has {count} pending, and only what its image makes is known to be its own"
                );
                Failure::new(Exit::Pending, message)
                    .hint(format!("{XTASK} migrate-{product}, then this again"))
                    .into()
            }
            Fault::Missing(product, table) => {
                let message = format!("the table {table} of {product} is missing");
                Failure::new(Exit::Failed, message).hint(format!("{XTASK} status {product} --drift")).into()
            }
        })
    }

    /// What an image makes, and the schema that is there.
    pub fn schemas(&self, product: Product) -> Result<(&Catalog, &Catalog)> {
        let expected = self.expected.iter().find(|(known, _)| *known == product);
        Ok((&expected.context("a product was not looked at")?.1, &self.actual))
    }

    /// What of others goes with its tables.
    pub fn dependents(&self, cx: &Context, division: &Division) -> Result<Vec<Dependent>> {
        let script = dependents::query(division);
        let ask = postgres::as_product(cx, self.target.main()?, &[])?.stdin(script);
        Ok(dependents::read(ask.read()?.lines()))
    }

    /// What names the tables of a product and is in no copy of them, in words.
    pub fn left_behind(&self, cx: &Context, division: &Division) -> Result<Vec<String>> {
        let script = dependents::left_behind(division);
        let ask = postgres::as_product(cx, self.target.main()?, &[])?.stdin(script);
        Ok(rows::read(ask.read()?.lines()).flatten().collect())
    }

    /// The deployment of a part.
    pub fn deployment(&self, product: Product) -> Result<&Deployment<'_>> {
        let found = self.target.deployments.iter().find(|deployment| deployment.product.kind == product);
        found.context("a product is not in its place")
    }
}

/// Lets another run on a database come to its end, and ends what a killed one has left: who looks while it goes on
/// would see one product split and the next one not.
pub fn settle(cx: &Locked, target: &Target) -> Result<()> {
    let main = target.main()?;
    let settle = || {
        let _lock = advisory_lock::acquire(cx, main)?;
        end_leftovers(cx, &postgres::running_place(cx, main)?, main)
    };
    settle().map_err(|error| diagnosis::of_product(cx, main, error))
}

/// What the sessions of a split are called in PostgreSQL.
pub fn application(cx: &Context) -> String {
    names::session(&format!("xtask-{}-split", cx.stack.project))
}

/// Ends what a killed run may have left going on in a database. What it has begun is undone, or was done whole.
pub fn end_leftovers(cx: &Locked, place: &Place, deployment: &Deployment) -> Result<()> {
    let script = postgres::end_script(&application(cx));
    let end = postgres::as_owner(cx, place, deployment, &[]).stdin(script).read();
    end.map(|_| ()).context("an earlier split goes on in PostgreSQL")
}

/// What a database remembers from which products were split off.
pub fn memory_of(cx: &Context, deployment: &Deployment, database: &str) -> Result<Memory> {
    let place = postgres::running_place(cx, deployment)?;
    let ask = postgres::as_owner(cx, &place, deployment, &[("PGDATABASE", database)]).stdin(MEMORY);
    Ok(Memory::read(&ask.read()?))
}

/// The tables that were put away in a database, with their rows.
pub fn put_away(cx: &Context, deployment: &Deployment, database: &str) -> Result<Vec<(String, u64)>> {
    let old = split::OLD;
    let script = format!(
        "select format('copy (select count(*), %L from {old}.%I) to stdout', relname, relname) from pg_class\n\
         where relnamespace = '{old}'::regnamespace and relkind in ('r', 'p') order by relname \\gexec\n"
    );
    let place = postgres::running_place(cx, deployment)?;
    let ask = postgres::as_owner(cx, &place, deployment, &[("PGDATABASE", database)]).stdin(script);
    let text = ask.read()?;
    let row = |fields: Vec<String>| {
        let [count, name] = <[String; 2]>::try_from(fields).ok()?;
        Some((name, count.parse().ok()?))
    };
    Ok(rows::read(text.lines()).filter_map(row).collect())
}

/// Deletes what was put away, and nothing that depends on it.
pub fn finish(cx: &Locked, deployment: &Deployment, database: &str, tables: &[String]) -> Result<()> {
    let place = postgres::running_place(cx, deployment)?;
    let psql = postgres::as_owner(cx, &place, deployment, &[("PGDATABASE", database)]);
    let finished = psql.stdin(Division::finish(tables)).read().map(|_| ());
    finished.map_err(|error| {
        if !sqlstate::has(&format!("{error:#}"), &["2BP01"]) {
            return error;
        }
        let message = format!("something in {database} depends on what would be deleted");
        error.context(
            Failure::new(Exit::Failed, message)
                .hint("see what, below; drop it, or let it lead to the new tables"),
        )
    })
}

#[cfg(test)]
mod tests {
    use ory_facts::split::Note;

    use super::*;

    fn dsn(text: &str) -> Dsn {
        Dsn::parse(&format!("postgres://ory:geheim@db:5432/{text}")).expect("a DSN")
    }

    fn note(way: Way, products: &[Product]) -> Memory {
        Memory { note: Some(Note { way, products: products.to_vec() }), from: None }
    }

    fn decided(dsn_of: &str, memory: &Memory, is_old_left: bool) -> State {
        decide(Product::Kratos, &dsn(dsn_of), memory, || is_old_left)
    }

    #[test]
    fn a_product_that_was_never_split_has_its_own() {
        assert_eq!(decided("ory", &Memory::default(), false), State::Own);
        assert_eq!(decided("ory", &note(Way::Databases, &[Product::Hydra]), false), State::Own);
        // A database that a product of that name was split into is no other one's.
        let from = Memory { note: None, from: Some("ory".into()) };
        assert_eq!(decided("hydra", &from, false), State::Own);
    }

    #[test]
    fn a_product_waits_until_each_of_its_dsns_is_the_new_one() {
        let split = note(Way::Databases, &[Product::Kratos]);
        assert_eq!(decided("ory", &split, false), State::Waiting(Way::Databases));
        let from = Memory { note: None, from: Some("ory".into()) };
        assert_eq!(decided("kratos", &from, true), State::Waiting(Way::Databases));
        assert_eq!(decided("kratos", &from, false), State::Moved("ory".into()));
    }

    #[test]
    fn a_schema_of_its_own_is_told_by_the_search_path() {
        let split = note(Way::Schemas, &[Product::Kratos, Product::Keto]);
        assert_eq!(decided("ory", &split, false), State::Waiting(Way::Schemas));
        assert_eq!(decided("ory?search_path=kratos", &split, true), State::Waiting(Way::Schemas));
        assert_eq!(decided("ory?search_path=kratos", &split, false), State::Moved("ory".into()));
    }
}
