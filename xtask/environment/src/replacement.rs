//! A new database in the place of a product's, or a new schema: made in a database beside it, filled, and swapped in only
//! when it is good. Until then, and after any failure, the one that was there serves.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Error, Result, bail};
use ory_facts::backup::Dump;
use ory_facts::contents::{self, Contents};
use ory_facts::sql::{self, identifier, literal};
use ory_facts::swap::{self, Swap};
use ory_stack::stack::Deployment;
use xtask_runner::failure::{Exit, Failure};
use xtask_runner::output::counted;

use crate::context::Context;
use crate::diagnosis;
use crate::one_off;
use crate::postgres::{self, Place};
use crate::schema::{self, Schema};
use crate::server_lock::{self, ServerLock};
use crate::services;
use crate::snapshot;
use crate::store::Store;

/// A database, or a schema, that is to take another one's place.
pub struct Replacement<'a> {
    cx: &'a Context,
    store: &'a Store<'a>,
    place: Place,
    /// The new database. A schema is made in one too, and brought from there.
    swap: Swap,
    schema: Option<Schema<'a>>,
    /// The extensions of a schema's database.
    extensions: BTreeMap<String, String>,
    /// What the current one holds; none where there is none.
    pub current: Option<Contents>,
    is_made: bool,
    _lock: ServerLock<'a>,
}

impl<'a> Replacement<'a> {
    /// Looks at what is there. Fails with what the role may not do, before anything is done.
    pub fn new(cx: &'a Context, store: &'a Store<'a>) -> Result<Self> {
        let deployment = store.main()?;
        let place = postgres::running_place(cx, deployment)?;
        let mut schema = Schema::of(cx, store, &place);
        let mut swap = match &store.schema {
            None => Swap::of(store.database()),
            Some(schema) => Swap {
                current: store.database().into(),
                ..Swap::of(&format!("{}_{schema}", store.database()))
            },
        };
        let explain = |error| diagnosis::of_product(cx, deployment, error);
        let maintain = |script: String| postgres::maintain(cx, &place, deployment, script).read(&cx.secrets);
        let mut rights = maintain(rights(store)).map_err(|error| no_maintenance(store, deployment, error))?;
        if let Some(schema) = &schema {
            rights += &schema.rights().map_err(explain)?;
        }
        refuse_without_rights(store, &rights)?;
        let is_there = rights.lines().any(|line| line == "there");
        let lock = server_lock::acquire(cx, deployment)?;
        // A run that was killed may have left it refusing, or goes on in the server. Not one that holds the lock.
        swap.is_unfinished = match &mut schema {
            None => !maintain(swap.heal() + &swap.unfinished())?.is_empty(),
            Some(schema) => schema.heal()?,
        };
        let current = (is_there || schema.is_some()).then(|| snapshot::contents(cx, store, store.database()));
        let current = current.transpose().map_err(explain)?;
        let extensions = current.as_ref().map(|current| current.extensions.clone()).unwrap_or_default();
        let current = current.filter(|_| is_there);
        Ok(Self { cx, store, place, swap, schema, extensions, current, is_made: false, _lock: lock })
    }

    /// Fails with what of others couldn't come along.
    pub fn refuse_obstacles(&self) -> Result<()> {
        self.schema.as_ref().map_or(Ok(()), Schema::refuse_obstacles)
    }

    /// Makes the new database, empty, with the rights and settings of the current one.
    pub fn make(&mut self) -> Result<()> {
        let role = &self.store.main()?.dsn.user;
        // One for a schema is the product's, whosever the database is that the schema is in.
        let script = match self.schema {
            None => self.swap.create(role) + &self.swap.copy_settings(),
            Some(_) => self.swap.create_for(role),
        };
        self.is_made = true;
        let made = self.maintain(script);
        let main = self.store.main()?;
        made.map_err(|error| diagnosis::of_product(self.cx, main, error))?;
        if self.schema.is_some() {
            schema::prepare(self.cx, &self.place, self.store, &self.swap.new, &self.extensions)?;
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
            psql.stdin(script).read(&self.cx.secrets)
        };
        let rights = run(&self.swap.current, &swap::rights(schema, schema))?;
        run(&self.swap.new, &rights).map(|_| ())
    }

    /// Fills it from a dump, and compares what it holds then with what was counted when the dump was made.
    pub fn restore(&self, dump: &Dump, path: &Path) -> Result<()> {
        fill(self.cx, self.store, &self.place, dump, path, &self.swap.new)?;
        compare(self.cx, self.store, dump, &self.swap.new)
    }

    /// Ory makes no schema.
    fn make_schema(&self) -> Result<()> {
        let Some(schema) = &self.store.schema else { return Ok(()) };
        let create = format!("create schema if not exists {};\n", identifier(schema));
        let dsn = self.store.main()?.dsn.with_database(&self.swap.new);
        postgres::query(self.cx, &self.place, &dsn, create).read(&self.cx.secrets).map(|_| ())
    }

    /// Lets the images migrate it.
    pub fn migrate(&self) -> Result<()> {
        self.make_schema()?;
        for deployment in &self.store.deployments {
            let _progress = self.cx.out.progress(format!("migrating {}", deployment.product));
            let scratch = deployment.scratch(&self.swap.new);
            one_off::run(self.cx, &scratch).map_err(|error| {
                diagnosis::of_product(self.cx, deployment, error)
                    .context(format!("{} could not be migrated beside what is there", deployment.product))
            })?;
        }
        Ok(())
    }

    /// What it holds by now.
    pub fn contents(&self) -> Result<Contents> {
        snapshot::contents(self.cx, self.store, &self.swap.new)
    }

    /// What there is to be replaced, in words; none where there is nothing.
    pub fn in_words(&self) -> Option<String> {
        let rows = counted(self.current.as_ref()?.total() as usize, "row");
        Some(format!("{} ({rows})", self.store.in_words()))
    }

    /// What was replaced, by its name.
    pub fn replaced(&self) -> String {
        match &self.store.schema {
            None => self.swap.replaced.clone(),
            Some(schema) => format!("the schema {} of {}", Swap::of(schema).replaced, self.swap.current),
        }
    }

    /// Brings a schema to where it is to take its place.
    fn bring(&self) -> Result<()> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let is_there = self.current.is_some();
        schema.bring(&self.swap.new, &self.contents()?, &self.extensions, is_there)?;
        self.maintain(self.swap.remove_new()).map(|_| ())
    }

    /// Swaps it in.
    fn swap_in(&self) -> Result<()> {
        if let Some(schema) = &self.schema {
            return schema.swap();
        }
        let swapped = self.maintain(self.swap.swap());
        let Swap { new, current, .. } = &self.swap;
        swapped.map(|_| ()).with_context(|| format!("{new} can't take the place of {current}"))
    }

    /// Puts what was replaced back, where it was replaced.
    fn swap_back(&self) -> Result<()> {
        if let Some(schema) = &self.schema {
            return schema.swap_back(self.current.is_some());
        }
        let back = self.maintain(self.swap.swap_back(self.current.is_some()));
        let database = &self.swap.current;
        back.map(|_| ())
            .with_context(|| format!("the database {database} could not be put back in its place"))
    }

    fn maintain(&self, script: String) -> Result<String> {
        postgres::maintain(self.cx, &self.place, self.store.main()?, script).read(&self.cx.secrets)
    }
}

/// Puts new databases in the places of those that are there, all or none, with the services stopped and started around
/// it. The replaced ones are kept until the next success, where `keeps`. After a failure all is as it was.
pub fn put_in_place(cx: &Context, mut replacements: Vec<Replacement>, keeps: bool) -> Result<()> {
    let deployments = replacements.iter().flat_map(|replacement| &replacement.store.deployments);
    let products: Vec<_> = deployments.map(|deployment| deployment.product).collect();
    replacements.iter().try_for_each(Replacement::bring)?;
    for replacement in replacements.iter().filter(|replacement| replacement.swap.is_unfinished) {
        cx.out.warn(format!(
            "an earlier run was killed when it had replaced {}: what was there before that run stays, and what is there \
             now goes",
            replacement.store.in_words()
        ));
    }
    let stopped = services::stop(cx, &products)?;
    if !stopped.is_empty() {
        cx.out.say(format!("{}: stopped", stopped.names()));
    }
    let done = replacements.iter().try_for_each(Replacement::swap_in).and_then(|()| {
        cx.known.forget();
        stopped.start_current(cx)?;
        stopped.wait(cx)
    });
    let Err(error) = done else {
        if !stopped.is_empty() {
            cx.out.say(format!("{}: started, ready", stopped.names()));
        }
        return finish(&mut replacements, keeps);
    };
    let back = cx.options.interrupt.clean_up(|| {
        let each: Vec<_> = replacements.iter().map(Replacement::swap_back).collect();
        cx.known.forget();
        each.into_iter().collect::<Result<()>>().and(stopped.start_again(cx))
    });
    let names: Vec<_> = replacements.iter().map(|replacement| replacement.store.in_words()).collect();
    let message = format!("nothing was replaced: {} as before", names.join(", "));
    Err(match back {
        Ok(()) => {
            let exit = cx.options.interrupt.exit();
            error.context(Failure::new(exit, message).hint("mend what is said below, then run this again"))
        }
        Err(left) => left.context(format!("{error:#}")),
    })
}

/// All have their places: what was replaced is kept instead of what was kept until now, or goes. On one server at once: of
/// a run that was killed in between, what the first had replaced would count as kept, and the next would remove it.
fn finish(replacements: &mut [Replacement], keeps: bool) -> Result<()> {
    replacements.iter_mut().for_each(|replacement| replacement.is_made = false);
    let mut at_once: Vec<(&Replacement, String)> = vec![];
    for replacement in replacements.iter() {
        if let Some(schema) = &replacement.schema {
            schema.finish(keeps)?;
            continue;
        }
        let swap = &replacement.swap;
        replacement
            .maintain(swap.remove_kept() + &if keeps { String::new() } else { swap.remove_before() })?;
        let server = |replacement: &Replacement| Some(replacement.store.main().ok()?.server?.name.clone());
        let its = server(replacement);
        match at_once.iter_mut().find(|(first, _)| its.is_some() && server(first) == its) {
            Some((_, script)) => *script += &swap.keep(),
            None => at_once.push((replacement, swap.keep())),
        }
    }
    let keep =
        |(first, script): &(&Replacement, String)| first.maintain(format!("begin;\n{script}commit;\n"));
    at_once.iter().try_for_each(|one| keep(one).map(|_| ()))
}

/// Restores a dump into a database that is there, and empty.
pub fn restore_into(cx: &Context, store: &Store, dump: &Dump, path: &Path, database: &str) -> Result<()> {
    let deployment = store.main()?;
    let place = postgres::running_place(cx, deployment)?;
    let explain = |error| diagnosis::of_product(cx, &deployment.with_database(database), error);
    let before = snapshot::contents(cx, store, database).map_err(explain)?;
    if let Some(table) = before.rows.keys().next() {
        let message = format!("the database {database} isn't empty: it has {table}");
        bail!(Failure::new(Exit::Failed, message).hint("name an empty one"));
    }
    fill(cx, store, &place, dump, path, database)?;
    compare(cx, store, dump, database)
}

/// pg_restore: where all belongs to the product, as the product; else as who may give each object its owner. It restores
/// all or nothing.
fn fill(cx: &Context, store: &Store, place: &Place, dump: &Dump, path: &Path, database: &str) -> Result<()> {
    let deployment = store.main()?;
    let into = format!("--dbname={}", sql::database(database));
    let mut words = [&postgres::RESTORE[..], &[&into]].concat();
    let within = store.schema.as_ref().map(|schema| format!("--schema={schema}"));
    if let Some(within) = &within {
        // Where the schema is there, it isn't made anew.
        let is_there = schema::prepare(cx, place, store, database, &dump.contents.extensions)?;
        words.extend(is_there.then_some(within.as_str()));
    }
    let is_own = dump.contents.owners.iter().all(|owner| *owner == deployment.dsn.user);
    let name = snapshot::application(cx, store);
    let variables = [("PGAPPNAME", name.as_str())];
    let restore = if !is_own && deployment.server.is_some() {
        postgres::owner_tool(cx, place, deployment, &variables, &words)
    } else {
        words.push("--no-owner");
        postgres::tool(cx, place, &deployment.dsn, &variables, &words)
    };
    let _progress = cx.out.progress(format!("restoring {} beside what is there", store.names(", ")));
    let restored = restore.stdin_file(path).read(&cx.secrets);
    restored.with_context(|| format!("{} can't be restored", dump.file))?;
    Ok(())
}

/// Fails unless a database holds what was counted when the dump was made.
fn compare(cx: &Context, store: &Store, dump: &Dump, database: &str) -> Result<()> {
    let mut expected = dump.contents.clone();
    if store.schema.is_some() {
        // Others in the database have some too; without its own, a schema can't be restored.
        expected.extensions.clear();
    }
    let differences = contents::differences(&expected, &snapshot::contents(cx, store, database)?);
    if !differences.is_empty() {
        let message = format!("what was restored isn't what was dumped: {}", differences.join("; "));
        bail!(Failure::new(Exit::Failed, message).hint("take another backup: cargo xtask backups"));
    }
    // Else the first questions would be answered slowly.
    let analyze = postgres::as_product(cx, store.main()?, &[("PGDATABASE", database)])?.stdin("analyze;\n");
    analyze.until(&cx.options.interrupt, cx.options.timeout).read(&cx.secrets)?;
    Ok(())
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
        let Ok(deployment) = self.store.main() else { return };
        let remove = postgres::maintain(self.cx, &self.place, deployment, self.swap.remove_new());
        if let Err(error) = remove.read(&self.cx.secrets) {
            let name = &self.swap.new;
            self.cx.out.warn(format!("the database {name} is left behind, until this is run again: {error}"));
        }
    }
}

/// A line for each thing that the role may do, and for what is there.
fn rights(store: &Store) -> String {
    let creates =
        "select 'creates' from pg_roles where rolname = current_user and (rolcreatedb or rolsuper);\n";
    if store.schema.is_some() {
        return creates.into();
    }
    let database = literal(store.database());
    format!(
        "{creates}\
         select 'owns' from pg_database where datname = {database} and pg_has_role(datdba, 'usage')\n\
         union all select 'owns' where not exists (select from pg_database where datname = {database});\n\
         select 'there' from pg_database where datname = {database};\n"
    )
}

fn refuse_without_rights(store: &Store, rights: &str) -> Result<()> {
    let (role, database) = (&store.main()?.dsn.user, store.database());
    let may = |right: &str| rights.lines().any(|line| line == right);
    let named = identifier(role);
    let (message, sql) = match (may("creates"), may("owns"), &store.schema) {
        (true, true, _) => return Ok(()),
        (false, ..) => (
            format!("the role {role} may not create the database that would take the place of {database}"),
            format!("alter role {named} createdb"),
        ),
        (true, false, None) => (
            format!("the role {role} doesn't own the database {database}, and may not rename it"),
            format!("alter database {} owner to {named}", identifier(database)),
        ),
        (true, false, Some(schema)) => (
            format!("the role {role} may not rename {}", store.in_words()),
            format!(
                "alter schema {} owner to {named}; grant create on database {} to {named}",
                identifier(schema),
                identifier(database)
            ),
        ),
    };
    let hint = format!(
        "have an administrator run: {sql}; or make an empty database, and: cargo xtask restore BACKUP --into NAME"
    );
    bail!(Failure::new(Exit::Failed, message).hint(hint))
}

fn no_maintenance(store: &Store, deployment: &Deployment, error: Error) -> Error {
    let beside = postgres::beside(deployment);
    let message =
        format!("{} can't be replaced: it takes a session in the database {beside}", store.in_words());
    let hint = format!(
        "have an administrator run: grant connect on database {beside} to public; or make an empty database, and: \
         cargo xtask restore BACKUP --into NAME"
    );
    error.context(Failure::new(Exit::Failed, message).hint(hint))
}
