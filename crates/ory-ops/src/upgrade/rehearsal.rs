//! An upgrade rehearsed: the real data, copied from one snapshot into a database of our own, migrated by the new image and served
//! from there. The copy is removed whatever happens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ory_facts::image_migrations::State;
use ory_facts::instance::Instance;
use ory_facts::manifest::Dump;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_stack::container::Container;
use ory_stack::settings;
use ory_stack::stack::Deployment;

use super::lock_watch::{Watch, Watched};
use crate::context::Context;
use crate::diagnosis;
use crate::image_migrations;
use crate::load_dump::{Live, Load};
use crate::lock::Locked;
use crate::postgres;
use crate::run_container;
use crate::scratch_database::Scratch;
use crate::snapshot::{self, Snapshot};
use crate::target::Target;
use crate::temporary_dump::WorkDump;
use crate::trial;

/// What a rehearsal has shown of a database.
#[derive(Default)]
pub struct Rehearsal {
    /// How long the dump took, which a backup takes too, and loading it.
    pub dump: Duration,
    pub load: Duration,
    pub products: Vec<Rehearsed>,
    /// The tables that have fewer rows than before: how many they had, and have.
    pub lost: BTreeMap<String, (u64, u64)>,
    /// All rows before.
    pub rows: u64,
}

/// A product's part.
pub struct Rehearsed {
    pub product: Instance,
    pub took: Duration,
    pub migrations: Vec<Watched>,
    /// How long the new server took to be ready, and what it answered; or why it wasn't tried.
    pub served: Result<(Duration, Vec<String>), String>,
}

impl Rehearsal {
    /// How long the servers will be down: for the backup, the migrations and the start.
    pub fn downtime(&self) -> Duration {
        let of = |one: &Rehearsed| one.took + one.served.as_ref().map_or(Duration::ZERO, |(start, _)| *start);
        self.dump + self.products.iter().map(of).sum::<Duration>()
    }
}

/// Rehearses it for what is in a database. `new`: the stack with the new images; `products`: those that change.
pub fn of(cx: &Locked, new: &Context, target: &Target, products: &[Instance]) -> Result<Rehearsal> {
    let main = target.main()?;
    let place = postgres::running_place(cx, main)?;
    let scratch = Scratch::new(cx, main, &place);
    scratch.empty(|copy| {
        let mut rehearsal = Rehearsal::default();
        let clock = Instant::now();
        let mut snapshot = Snapshot::take(cx, target)?;
        let contents = snapshot.contents(target)?;
        let dumped =
            WorkDump::take(cx, &format!("rehearsal-{}", target.names("-")), &snapshot.dump(cx, target)?)?;
        drop(snapshot);
        rehearsal.dump = clock.elapsed();
        rehearsal.rows = contents.total();

        let clock = Instant::now();
        let database = &copy.dsn.database;
        let live = Live::read(cx, &place, target, contents.extensions.clone())?;
        let dump = Dump {
            file: "the copy".into(),
            database: target.database().into(),
            schema: target.schema.clone(),
            contents,
            ..Dump::default()
        };
        Load { cx, target, place: &place, database, live: Some(&live), is_own: true }
            .run(&dump, dumped.path())?;
        drop(dumped);
        rehearsal.load = clock.elapsed();

        for product in products {
            let Some(deployment) = new.stack.deployment(*product)? else { continue };
            rehearsal.products.push(migrate(new, &deployment.scratch(database), &dump)?);
        }
        let after = snapshot::contents(cx, target, database)?;
        let has = |table: &String| after.rows.get(table).copied().unwrap_or_default();
        let fewer = dump.contents.rows.iter().filter(|(table, rows)| has(table) < **rows);
        rehearsal.lost = fewer.map(|(table, rows)| (table.clone(), (*rows, has(table)))).into_map();
        for one in &mut rehearsal.products {
            let Some(deployment) = new.stack.deployment(one.product)? else { continue };
            one.served = serve(new, &deployment.scratch(database))?;
        }
        Ok(rehearsal)
    })
}

/// Migrates the copy, watched from beside.
fn migrate(new: &Context, copy: &Deployment, dump: &Dump) -> Result<Rehearsed> {
    let carried = image_migrations::of(new, copy)?;
    let state = State::new(dump.contents.versions.clone(), carried);
    let pending: Vec<_> = state.pending_migrations().map(|(version, _)| version.clone()).collect();
    let watch = Watch::new(new, copy, &run_container::name(new, copy), pending)?;
    let stop = AtomicBool::new(false);
    let clock = Instant::now();
    let (run, migrations) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch.run(&stop));
        let run = run_container::run(new, copy);
        let took = clock.elapsed();
        stop.store(true, Ordering::Relaxed);
        (run.map(|()| took), watching.join().unwrap_or_default())
    });
    let took = run.map_err(|error| diagnosis::of_product(new, copy, error));
    let took = took.with_context(|| format!("the copy of {}'s data can't be migrated", copy.product))?;
    Ok(Rehearsed { product: copy.product, took, migrations, served: Err("it wasn't reached".into()) })
}

/// Serves the copy, and reads from it.
fn serve(new: &Context, copy: &Deployment) -> Result<Result<(Duration, Vec<String>), String>> {
    if let Some(why) = trial::obstacle(new, copy) {
        return Ok(Err(why));
    }
    let served = trial::serve(new, copy, |container| read(new, copy, container));
    served.map(Ok).with_context(|| format!("{}'s new server can't serve the copy of its data", copy.product))
}

/// What the server of a product tells of its data, and where: the name of a listener, a path, and what it is about.
fn questions(product: Product) -> [&'static str; 3] {
    match product {
        Product::Kratos => ["admin", "/admin/identities?page_size=1", "identities"],
        Product::Hydra => ["admin", "/admin/clients?page_size=1", "clients"],
        Product::Keto => ["read", "/relation-tuples?page_size=1", "relations"],
    }
}

/// Reads from a server. Fails where it doesn't answer as it should; a server that isn't reached from here isn't asked.
pub fn read(cx: &Context, deployment: &Deployment, container: &Container) -> Result<Vec<String>> {
    let kind = deployment.product.kind;
    let [listener, path, what] = questions(kind);
    let service = cx.stack.services.get(&container.service).unwrap_or(deployment.migrate);
    let port = settings::listeners(kind, service).into_iter().find(|(name, _)| *name == listener);
    // A stand-in has no data to tell of, and what speaks TLS is asked by who knows its certificate.
    let is_asked = cx.engine.is_here() && !cx.is_stand_in(service)?;
    let address = container.addresses.first().filter(|_| is_asked).zip(port.and_then(|(_, port)| port));
    let Some((address, port)) = address else { return Ok(vec![]) };
    let said = minreq::get(format!("http://{address}:{port}{path}")).with_timeout(10).send();
    match said {
        Ok(said) if said.status_code == 200 => Ok(vec![what.into()]),
        Ok(said) if said.status_code == 400 => Ok(vec![]),
        Ok(said) => {
            let message =
                format!("{}'s server answers {} where {what} are read", deployment.product, said.status_code);
            bail!(Failure::new(Exit::Failed, message).hint("{XTASK} logs"))
        }
        Err(error) => {
            Err(error).with_context(|| format!("{what} can't be read from {}'s server", deployment.product))
        }
    }
}
