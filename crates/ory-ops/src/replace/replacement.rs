//! A new database in the place of a product's, or a new schema: made in a database beside it, filled, and swapped in only
//! when it is good. Until then, and after any failure, the one that was there serves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use ory_facts::contents::Contents;
use ory_facts::database_swap::Swap;
use ory_facts::manifest::Dump;
use ory_facts::rows;
use ory_facts::sql::identifier;
use ory_runner::output::counted;

use super::replaceable::{Made, Replaceable};
use super::rights;
use crate::advisory_lock::{self, ServerLock};
use crate::client::Place;
use crate::diagnosis;
use crate::load_dump::{self, Live, Load};
use crate::lock::Locked;
use crate::postgres;
use crate::run_container;
use crate::snapshot;
use crate::target::Target;

/// A database, or a schema, that is to take another one's place.
pub struct Replacement<'a> {
    pub(crate) cx: &'a Locked,
    pub(crate) target: &'a Target<'a>,
    place: Place,
    /// What takes a place, and what has it.
    pub(super) replaceable: Box<dyn Replaceable + 'a>,
    /// The database in which the new one is made: itself, or one that a schema is brought from.
    made_in: Swap,
    live: Option<Live>,
    /// What the current one holds; none where there is none.
    pub current: Option<Contents>,
    /// What earlier runs have replaced, by its name, with its rows.
    pub kept: Vec<(String, u64)>,
    /// What a run had replaced that was killed before its success. It stays.
    pub unfinished: Vec<String>,
    pub(super) is_made: bool,
    pub(crate) lock: ServerLock<'a>,
}

impl<'a> Replacement<'a> {
    /// Looks at what is there. Fails with what the role may not do, before anything is done.
    pub fn new(cx: &'a Locked, target: &'a Target<'a>) -> Result<Self> {
        let deployment = target.main()?;
        let place = postgres::running_place(cx, deployment)?;
        let replaceable = super::replaceable(cx, target, &place);
        let made_in = match &target.schema {
            None => Swap::of(target.database()),
            Some(schema) => Swap::among(target.database(), &[target.database(), schema]),
        };
        let explain = |error| diagnosis::of_product(cx, deployment, error);
        let is_there = rights::require(cx, target, &place, &*replaceable)?;
        let lock = advisory_lock::acquire(cx, deployment)?;
        // A run that was killed may have left it refusing, or goes on in the server. Not one that holds the lock.
        let healed = replaceable.heal()?;
        let (kept, unfinished) = kept(&healed);
        for name in &unfinished {
            cx.out.warn(format!(
                "an earlier run was killed when it had replaced {}: what was there before that run stays, as {name}",
                target.in_words()
            ));
        }
        let current =
            (is_there || target.schema.is_some()).then(|| snapshot::contents(cx, target, target.database()));
        let current = current.transpose().map_err(explain)?;
        let live = match &current {
            Some(current) => {
                Some(Live::read(cx, &place, target, current.extensions.clone()).map_err(explain)?)
            }
            None => None,
        };
        let current = current.filter(|_| is_there);
        let mut replacement = Self {
            cx,
            target,
            place,
            replaceable,
            made_in,
            live,
            current,
            kept: vec![],
            unfinished,
            is_made: false,
            lock,
        };
        replacement.kept = with_rows(&*replacement.replaceable, kept)?;
        Ok(replacement)
    }

    /// Fails with what of others couldn't come along.
    pub fn refuse_obstacles(&self) -> Result<()> {
        self.replaceable.refuse_obstacles()
    }

    /// Makes the new database, empty, with the rights of the current one.
    pub fn make(&mut self) -> Result<()> {
        let role = &self.target.main()?.dsn.user;
        let script = self.replaceable.create(&self.made_in, role);
        self.is_made = true;
        let made = self.maintain(script);
        let main = self.target.main()?;
        made.map_err(|error| diagnosis::of_product(self.cx, main, error))?;
        self.replaceable.prepare(&self.made_in, &self.extensions())
    }

    /// Those that are there.
    fn extensions(&self) -> BTreeMap<String, String> {
        self.live.as_ref().map(|live| live.extensions.clone()).unwrap_or_default()
    }

    /// Gives it, while it is empty, the rights that what is made in it will have: those that the current one gives, as to
    /// a serving role.
    pub fn copy_rights(&self) -> Result<()> {
        self.make_schema()?;
        if self.current.is_none() {
            return Ok(());
        }
        let deployment = self.target.main()?;
        let schema = self.target.schema.as_deref().unwrap_or("public");
        let run = |database: &str, script: &str| {
            let variables = [("PGDATABASE", database)];
            let psql = postgres::as_owner(self.cx, &self.place, deployment, &variables);
            psql.stdin(script).read()
        };
        let ask = ory_facts::rights::schema_rights(schema, schema)
            + &ory_facts::rights::default_rights(Some((schema, schema)));
        let rights = run(&self.made_in.current, &ask)?;
        run(&self.made_in.new, &rights).map(|_| ())
    }

    /// Fills it from a dump, and compares what it holds then with what was counted when the dump was made. `is_own`: this
    /// stack made the dump.
    pub fn restore(&self, dump: &Dump, path: &Path, is_own: bool) -> Result<()> {
        self.lock.check()?;
        self.load(&self.made_in.new, is_own).run(dump, path)
    }

    /// Restores a dump for the proof that it can be restored, in a database that is removed again.
    pub fn verify(&self, dump: &Dump, path: &Path) -> Result<()> {
        self.lock.check()?;
        let name = self.made_in.named("verify");
        let swap = Swap::beside(&self.made_in.current, &name);
        let role = &self.target.main()?.dsn.user;
        let create = self.replaceable.create(&swap, role);
        let _removed = Removed { replacement: self, swap: &swap };
        self.maintain(create)?;
        self.load(&name, true).run(dump, path)
    }

    fn load<'b>(&'b self, database: &'b str, is_own: bool) -> Load<'b> {
        let Self { cx, target, place, live, .. } = self;
        Load { cx, target, place, database, live: live.as_ref(), is_own }
    }

    /// Ory makes no schema.
    fn make_schema(&self) -> Result<()> {
        let Some(schema) = &self.target.schema else { return Ok(()) };
        let create = format!("create schema if not exists {};\n", identifier(schema));
        let dsn = self.target.main()?.dsn.with_database(&self.made_in.new);
        postgres::change(self.cx, &self.place, &dsn, create).read().map(|_| ())
    }

    /// Lets the images migrate it.
    pub fn migrate(&self) -> Result<()> {
        self.make_schema()?;
        for deployment in &self.target.deployments {
            let _progress = self.cx.out.progress(format!("migrating {}", deployment.product));
            let scratch = deployment.scratch(&self.made_in.new);
            run_container::run(self.cx, &scratch).map_err(|error| {
                diagnosis::of_product(self.cx, deployment, error)
                    .context(format!("{} could not be migrated next to the current data", deployment.product))
            })?;
        }
        Ok(())
    }

    /// What it holds by now.
    pub fn contents(&self) -> Result<Contents> {
        snapshot::contents(self.cx, self.target, &self.made_in.new)
    }

    /// What there is to be replaced, in words; none where there is nothing.
    pub fn in_words(&self) -> Option<String> {
        let rows = counted(self.current.as_ref()?.total() as usize, "row");
        Some(format!("{} ({rows})", self.target.in_words()))
    }

    /// What was replaced before and goes once this is a success, in words.
    pub fn dropped(&self) -> Vec<String> {
        let each = self.kept.iter();
        each.map(|(name, rows)| in_words(&*self.replaceable, name, *rows)).collect()
    }

    /// What was replaced, by its name.
    pub fn replaced(&self) -> String {
        self.replaceable.in_words(&self.replaceable.names().replaced)
    }

    /// Brings it to where it is to take its place.
    pub(super) fn bring(&self) -> Result<()> {
        self.lock.check()?;
        let made = Made {
            database: &self.made_in.new,
            contents: &|| self.contents(),
            extensions: self.extensions(),
            has_current: self.current.is_some(),
        };
        if self.replaceable.bring(&made)? {
            self.maintain(self.made_in.remove_new())?;
        }
        Ok(())
    }

    /// Who gets what of a dump's.
    pub(super) fn owners_of(&self, dump: Option<&Dump>, is_own: bool) -> Vec<ory_facts::owners::Object> {
        let live = self.live.as_ref().zip(dump);
        live.map(|(live, dump)| live.owners_of(dump, is_own)).unwrap_or_default()
    }

    pub(super) fn maintain(&self, script: String) -> Result<String> {
        postgres::maintain(self.cx, &self.place, self.target.main()?, script).read()
    }

    /// Fails where another run may have the database by now.
    pub(super) fn check_lock(&self) -> Result<()> {
        self.lock.check()
    }
}

/// Restores a dump into a database that is there, and empty.
pub fn restore_into(
    cx: &Locked,
    target: &Target,
    dump: &Dump,
    path: &Path,
    database: &str,
    is_own: bool,
) -> Result<()> {
    let place = postgres::running_place(cx, target.main()?)?;
    let current = snapshot::contents(cx, target, target.database()).ok();
    let live = current.and_then(|current| Live::read(cx, &place, target, current.extensions).ok());
    let load = Load { cx, target, place: &place, database, live: live.as_ref(), is_own };
    load_dump::into_empty(&load, dump, path)
}

/// What a replacement would drop: what an earlier one has kept, each with its rows. A line each.
pub fn would_drop(cx: &Locked, target: &Target) -> Result<Vec<String>> {
    let place = postgres::running_place(cx, target.main()?)?;
    let replaceable = super::replaceable(cx, target, &place);
    let _lock = advisory_lock::acquire(cx, target.main()?)?;
    let (kept, _) = kept(&replaceable.heal()?);
    let kept = with_rows(&*replaceable, kept)?;
    Ok(kept.iter().map(|(name, rows)| in_words(&*replaceable, name, *rows)).collect())
}

fn with_rows(replaceable: &dyn Replaceable, names: Vec<String>) -> Result<Vec<(String, u64)>> {
    names.into_iter().map(|name| Ok((name.clone(), replaceable.contents_of(&name)?.total()))).collect()
}

fn in_words(replaceable: &dyn Replaceable, name: &str, rows: u64) -> String {
    format!("{} ({})", replaceable.in_words(name), counted(rows as usize, "row"))
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
        if let Err(error) = self.replaceable.remove_new() {
            self.cx.out.warn(format!("a schema is left behind, until this is run again: {error}"));
        }
        drop(Removed { replacement: self, swap: &self.made_in });
    }
}
