//! A new database in the place of a product's, or a new schema: made in a database beside it, filled, and swapped in only
//! when it is good. Until then, and after any failure, the one that was there serves.

use std::path::Path;

use anyhow::{Result, bail};
use ory_facts::backup::Dump;
use ory_facts::contents::Contents;
use ory_facts::rows;
use ory_facts::sql::identifier;
use ory_facts::swap::Swap;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;

use crate::client::Place;
use crate::diagnosis;
use crate::load::{self, Live, Load};
use crate::lock::Locked;
use crate::one_off;
use crate::postgres;
use crate::replace_rights;
use crate::schema::{self, Schema};
use crate::server_lock::{self, ServerLock};
use crate::snapshot;
use crate::store::Store;

/// A database, or a schema, that is to take another one's place.
pub struct Replacement<'a> {
    pub(crate) cx: &'a Locked,
    pub(crate) store: &'a Store<'a>,
    place: Place,
    /// The new database. A schema is made in one too, and brought from there.
    pub(crate) swap: Swap,
    pub(crate) schema: Option<Schema<'a>>,
    live: Option<Live>,
    /// What the current one holds; none where there is none.
    pub current: Option<Contents>,
    /// What earlier runs have replaced, by its name, with its rows.
    pub kept: Vec<(String, u64)>,
    /// What a run had replaced that was killed before its success. It stays.
    pub unfinished: Vec<String>,
    pub(crate) is_made: bool,
    pub(crate) lock: ServerLock<'a>,
}

impl<'a> Replacement<'a> {
    /// Looks at what is there. Fails with what the role may not do, before anything is done.
    pub fn new(cx: &'a Locked, store: &'a Store<'a>) -> Result<Self> {
        let deployment = store.main()?;
        let place = postgres::running_place(cx, deployment)?;
        let schema = Schema::of(cx, store, &place);
        let swap = match &store.schema {
            None => Swap::of(store.database()),
            Some(schema) => Swap::among(store.database(), &[store.database(), schema]),
        };
        let explain = |error| diagnosis::of_product(cx, deployment, error);
        let maintain = |script: String| postgres::maintain(cx, &place, deployment, script).read();
        let is_there = replace_rights::require(cx, store, &place, schema.as_ref())?;
        let lock = server_lock::acquire(cx, deployment)?;
        // A run that was killed may have left it refusing, or goes on in the server. Not one that holds the lock.
        let healed = match &schema {
            None => maintain(swap.heal())?,
            Some(schema) => schema.heal()?,
        };
        let (kept, unfinished) = kept(&healed);
        for name in &unfinished {
            cx.out.warn(format!(
                "an earlier run was killed when it had replaced {}: what was there before that run stays, as {name}",
                store.in_words()
            ));
        }
        let current = (is_there || schema.is_some()).then(|| snapshot::contents(cx, store, store.database()));
        let current = current.transpose().map_err(explain)?;
        let live = match &current {
            Some(current) => {
                Some(Live::read(cx, &place, store, current.extensions.clone()).map_err(explain)?)
            }
            None => None,
        };
        let current = current.filter(|_| is_there);
        let mut replacement = Self {
            cx,
            store,
            place,
            swap,
            schema,
            live,
            current,
            kept: vec![],
            unfinished,
            is_made: false,
            lock,
        };
        for name in kept {
            let rows = replacement.contents_of(&name)?.total();
            replacement.kept.push((name, rows));
        }
        Ok(replacement)
    }

    /// Fails with what of others couldn't come along.
    pub fn refuse_obstacles(&self) -> Result<()> {
        if let Some(schema) = &self.schema {
            return schema.refuse_obstacles();
        }
        let said = self.maintain(self.swap.obstacles())?;
        let obstacles: Vec<_> = rows::read(said.lines()).flatten().collect();
        if obstacles.is_empty() {
            return Ok(());
        }
        let database = self.store.in_words();
        let message = format!("{database} can't be replaced with {}", obstacles.join(", "));
        let hint = "drop what is named, run this again, and make it again; a subscription first lets go of its publisher: \
                    alter subscription ... disable; alter subscription ... set (slot_name = none)";
        bail!(Failure::new(Exit::Failed, message).hint(hint))
    }

    /// Makes the new database, empty, with the rights of the current one.
    pub fn make(&mut self) -> Result<()> {
        let role = &self.store.main()?.dsn.user;
        // One for a schema is the product's, whosever the database is that the schema is in.
        let script = match self.schema {
            None => self.swap.create(role),
            Some(_) => self.swap.create_for(role),
        };
        self.is_made = true;
        let made = self.maintain(script);
        let main = self.store.main()?;
        made.map_err(|error| diagnosis::of_product(self.cx, main, error))?;
        if self.schema.is_some() {
            let extensions = self.live.as_ref().map(|live| live.extensions.clone()).unwrap_or_default();
            schema::prepare(self.cx, &self.place, self.store, &self.swap.new, &extensions)?;
        }
        Ok(())
    }

    /// Gives it, while it is empty, the rights that what is made in it will have: those that the current one gives, as to
    /// a serving role.
    pub fn copy_rights(&self) -> Result<()> {
        self.make_schema()?;
        if self.current.is_none() {
            return Ok(());
        }
        let deployment = self.store.main()?;
        let schema = self.store.schema.as_deref().unwrap_or("public");
        let run = |database: &str, script: &str| {
            let variables = [("PGDATABASE", database)];
            let psql = postgres::as_owner(self.cx, &self.place, deployment, &variables);
            psql.stdin(script).read()
        };
        let ask = ory_facts::rights::schema_rights(schema, schema)
            + &ory_facts::rights::default_rights(Some((schema, schema)));
        let rights = run(&self.swap.current, &ask)?;
        run(&self.swap.new, &rights).map(|_| ())
    }

    /// Fills it from a dump, and compares what it holds then with what was counted when the dump was made. `is_own`: this
    /// stack made the dump.
    pub fn restore(&self, dump: &Dump, path: &Path, is_own: bool) -> Result<()> {
        self.lock.check()?;
        self.load(&self.swap.new, is_own).run(dump, path)
    }

    /// Restores a dump for the proof that it can be restored, in a database that is removed again.
    pub fn verify(&self, dump: &Dump, path: &Path) -> Result<()> {
        self.lock.check()?;
        let name = self.swap.named("verify");
        let swap = Swap::beside(&self.swap.current, &name);
        let role = &self.store.main()?.dsn.user;
        let create = if self.schema.is_some() { swap.create_for(role) } else { swap.create(role) };
        let _removed = Removed { replacement: self, swap: &swap };
        self.maintain(create)?;
        self.load(&name, true).run(dump, path)
    }

    fn load<'b>(&'b self, database: &'b str, is_own: bool) -> Load<'b> {
        let Self { cx, store, place, live, .. } = self;
        Load { cx, store, place, database, live: live.as_ref(), is_own }
    }

    /// Ory makes no schema.
    fn make_schema(&self) -> Result<()> {
        let Some(schema) = &self.store.schema else { return Ok(()) };
        let create = format!("create schema if not exists {};\n", identifier(schema));
        let dsn = self.store.main()?.dsn.with_database(&self.swap.new);
        postgres::change(self.cx, &self.place, &dsn, create).read().map(|_| ())
    }

    /// Lets the images migrate it.
    pub fn migrate(&self) -> Result<()> {
        self.make_schema()?;
        for deployment in &self.store.deployments {
            let _progress = self.cx.out.progress(format!("migrating {}", deployment.product));
            let scratch = deployment.scratch(&self.swap.new);
            one_off::run(self.cx, &scratch).map_err(|error| {
                diagnosis::of_product(self.cx, deployment, error)
                    .context(format!("{} could not be migrated next to the current data", deployment.product))
            })?;
        }
        Ok(())
    }

    /// What it holds by now.
    pub fn contents(&self) -> Result<Contents> {
        snapshot::contents(self.cx, self.store, &self.swap.new)
    }

    /// What something holds that was replaced.
    fn contents_of(&self, name: &str) -> Result<Contents> {
        match &self.schema {
            None => snapshot::contents(self.cx, self.store, name),
            Some(schema) => schema.contents_of(name),
        }
    }

    /// What there is to be replaced, in words; none where there is nothing.
    pub fn in_words(&self) -> Option<String> {
        let rows = counted(self.current.as_ref()?.total() as usize, "row");
        Some(format!("{} ({rows})", self.store.in_words()))
    }

    /// What was replaced before and goes once this is a success, in words.
    pub fn dropped(&self) -> Vec<String> {
        let each = self.kept.iter();
        each.map(|(name, rows)| format!("{} ({})", self.named(name), counted(*rows as usize, "row")))
            .collect()
    }

    /// What was replaced, by its name.
    pub fn replaced(&self) -> String {
        match &self.schema {
            None => self.named(&self.swap.replaced),
            Some(schema) => self.named(&schema.swap().replaced),
        }
    }

    /// What a database or a schema of this place is called.
    pub(crate) fn named(&self, name: &str) -> String {
        match &self.schema {
            None => name.into(),
            Some(_) => format!("the schema {name} of {}", self.swap.current),
        }
    }

    /// Brings a schema to where it is to take its place.
    pub(crate) fn bring(&self) -> Result<()> {
        self.lock.check()?;
        let Some(schema) = &self.schema else { return Ok(()) };
        let is_there = self.current.is_some();
        let extensions = self.live.as_ref().map(|live| live.extensions.clone()).unwrap_or_default();
        schema.bring(&self.swap.new, &self.contents()?, &extensions, is_there)?;
        self.maintain(self.swap.remove_new()).map(|_| ())
    }

    /// Who gets what of a dump's.
    pub(crate) fn owners_of(&self, dump: Option<&Dump>, is_own: bool) -> Vec<ory_facts::owners::Object> {
        let live = self.live.as_ref().zip(dump);
        live.map(|(live, dump)| live.owners_of(dump, is_own)).unwrap_or_default()
    }

    pub(crate) fn maintain(&self, script: String) -> Result<String> {
        postgres::maintain(self.cx, &self.place, self.store.main()?, script).read()
    }

    /// Fails where another run may have the database by now.
    pub(crate) fn check_lock(&self) -> Result<()> {
        self.lock.check()
    }
}

/// Restores a dump into a database that is there, and empty.
pub fn restore_into(
    cx: &Locked,
    store: &Store,
    dump: &Dump,
    path: &Path,
    database: &str,
    is_own: bool,
) -> Result<()> {
    let place = postgres::running_place(cx, store.main()?)?;
    let current = snapshot::contents(cx, store, store.database()).ok();
    let live = current.and_then(|current| Live::read(cx, &place, store, current.extensions).ok());
    let load = Load { cx, store, place: &place, database, live: live.as_ref(), is_own };
    load::into_empty(&load, dump, path)
}

/// What was kept before a run, and of what is kept now the rest: what a killed run has left.
fn kept(healed: &str) -> (Vec<String>, Vec<String>) {
    let named = |what: &str| {
        let rows = rows::read(healed.lines()).filter(|fields| fields.first().is_some_and(|key| key == what));
        rows.filter_map(|fields| fields.into_iter().nth(1)).collect::<Vec<_>>()
    };
    let (before, now) = (named("kept"), named("now"));
    let unfinished = now.into_iter().filter(|name| !before.contains(name)).collect();
    (before, unfinished)
}

/// A database that is removed when this is dropped, also after Ctrl-C.
struct Removed<'a, 'b> {
    replacement: &'b Replacement<'a>,
    swap: &'b Swap,
}

impl Drop for Removed<'_, '_> {
    fn drop(&mut self) {
        if let Err(error) = self.replacement.maintain(self.swap.remove_new()) {
            let name = &self.swap.new;
            let out = &self.replacement.cx.out;
            out.warn(format!("the database {name} is left behind, until this is run again: {error}"));
        }
    }
}

/// Removes what didn't get to its place, also after Ctrl-C.
impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        if !self.is_made {
            return;
        }
        if let Some(Err(error)) = self.schema.as_ref().map(Schema::remove_new) {
            self.cx.out.warn(format!("a schema is left behind, until this is run again: {error}"));
        }
        let swap = self.swap.clone();
        drop(Removed { replacement: self, swap: &swap });
    }
}
