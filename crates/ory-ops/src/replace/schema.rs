//! A schema in the place of a product's, in a database that others are in: made in a database of its own, under the name
//! that it will have, brought from there under another one and compared, and put in its place in one transaction.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use ory_facts::contents::{self, Contents};
use ory_facts::database_swap::Swap;
use ory_facts::names;
use ory_facts::owners::Object;
use ory_facts::rights;
use ory_facts::rows;
use ory_facts::schema_swap::{SchemaSwap, create_extensions};
use ory_facts::sorted::Sorted;
use ory_facts::sql::{self, identifier, literal};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_runner::process::Invocation;

use super::replaceable::{Made, Replaceable};
use crate::client::Place;
use crate::context::Context;
use crate::postgres;
use crate::snapshot;
use crate::target::Target;
use crate::temporary_dump::WorkDump;

/// Where a schema is to be replaced.
pub struct Schema<'a> {
    cx: &'a Context,
    target: &'a Target<'a>,
    place: Place,
    swap: SchemaSwap,
}

impl<'a> Schema<'a> {
    /// That of a target, of this name.
    pub fn of(cx: &'a Context, target: &'a Target<'a>, schema: &str, place: &Place) -> Self {
        Self { cx, target, place: place.clone(), swap: SchemaSwap::of(schema) }
    }

    /// Brings it from the database in which it was made, and compares. `extensions`: those that are there; `is_there`: the
    /// schema is.
    fn bring_from(
        &self,
        from: &str,
        made: &Contents,
        extensions: &BTreeMap<String, String>,
        is_there: bool,
    ) -> Result<()> {
        let (cx, names) = (self.cx, self.target.names(", "));
        let Swap { current, new, .. } = &self.swap.0;
        let database = self.target.database();
        self.remove_new()?;
        self.run_in(from, self.swap.name_new())?;
        if !is_there {
            // Its own rights come with it.
            let ask = rights::schema_rights(current, new) + &rights::default_rights(Some((current, new)));
            let rights = self.run_in(from, ask)?;
            self.run_in(from, rights)?;
        }
        self.bring_extensions(made, extensions, is_there)?;
        // As the product, for whom it was made: whoever loads it runs the code that is in it.
        let main = self.target.main()?;
        self.run(self.swap.make_new(&main.dsn.user))?;
        let schema = format!("--schema={}", identifier(new));
        let dump = WorkDump::take(cx, new, &self.tool(from, &["pg_dump", "-w", "-Fc", &schema])?)?;
        {
            let _progress =
                cx.out.progress(format!("copying {names} into {database}, next to the current tables"));
            let (into, within) = (format!("--dbname={}", sql::database(database)), format!("--schema={new}"));
            let words = [&postgres::RESTORE[..], &["--no-owner", &into, &within]].concat();
            let restore = self.tool(database, &words)?.stdin_file(dump.path()).read();
            restore.with_context(|| format!("{names} can't be brought into {database}"))?;
        }
        self.run(self.swap.analyze())?;
        let expected = Contents { extensions: BTreeMap::new(), ..made.clone() }.without_schema();
        let differences = contents::differences(&expected, &self.contents()?.without_schema());
        if !differences.is_empty() {
            bail!("what was brought into {database} isn't what was made: {}", differences.join("; "));
        }
        self.refuse_orphans()
    }

    /// Those that the migrations have made, or the backup had, and that aren't there.
    fn bring_extensions(
        &self,
        made: &Contents,
        extensions: &BTreeMap<String, String>,
        is_there: bool,
    ) -> Result<()> {
        let current = &self.swap.0.current;
        let missing = made.extensions.iter().filter(|(name, _)| !extensions.contains_key(*name));
        let missing = missing.map(|(name, schema)| (name.clone(), schema.clone())).into_map();
        let mut script = String::new();
        if !is_there && missing.values().any(|schema| schema == current) {
            let role = identifier(&self.target.main()?.dsn.user);
            script = format!("create schema {} authorization {role};\n", identifier(current));
        }
        self.run(script + &create_extensions(&missing)).map(|_| ())
    }

    /// Rows of others refer to rows that must be there.
    fn refuse_orphans(&self) -> Result<()> {
        let said = self.run(self.swap.orphans())?;
        let count = |fields: Vec<String>| {
            let [count, key] = <[String; 2]>::try_from(fields).ok()?;
            Some((count.parse::<usize>().ok()?, key))
        };
        let orphans = rows::read(said.lines()).filter_map(count);
        let orphans: Vec<_> = orphans.filter(|(count, _)| *count > 0).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let each = orphans.iter().map(|(count, key)| format!("{} by {key}", counted(*count, "row")));
        let each = each.collect::<Vec<_>>().join(", ");
        let names = self.target.names(", ");
        let message = format!("others refer to rows that {names} would no longer have: {each}");
        let hint = "delete those rows, or let them refer to nothing, then run this again";
        bail!(Failure::new(Exit::Failed, message).hint(hint))
    }

    /// What the new one holds.
    fn contents(&self) -> Result<Contents> {
        self.contents_of(&self.swap.0.new)
    }

    /// Ends what goes on in PostgreSQL of a run that was cut off.
    fn end(&self) -> Result<()> {
        self.unending(postgres::end_script(&self.application()))
    }

    /// What its sessions are called in PostgreSQL.
    fn application(&self) -> String {
        names::session(&format!("xtask-{}-replace-{}", self.cx.stack.project, self.target.names("-")))
    }

    /// No signal ends this.
    fn unending(&self, script: String) -> Result<()> {
        let psql = postgres::unending(self.cx, self.psql(&[])?.stdin(script));
        psql.read().map(|_| ())
    }

    fn run(&self, script: String) -> Result<String> {
        self.run_in(self.target.database(), script)
    }

    fn run_in(&self, database: &str, script: String) -> Result<String> {
        let name = self.application();
        let psql = self.psql(&[("PGDATABASE", database), ("PGAPPNAME", &name)])?;
        psql.stdin(script).read()
    }

    fn psql(&self, variables: &[(&str, &str)]) -> Result<Invocation> {
        Ok(postgres::as_owner(self.cx, &self.place, self.target.main()?, variables))
    }

    /// pg_dump, or pg_restore, as the product.
    fn tool(&self, database: &str, words: &[&str]) -> Result<Invocation> {
        let (main, name) = (self.target.main()?, self.application());
        let variables = [("PGAPPNAME", name.as_str()), ("PGDATABASE", database)];
        Ok(postgres::tool(self.cx, &self.place, &main.dsn, &variables, words))
    }
}

impl Replaceable for Schema<'_> {
    fn names(&self) -> &Swap {
        &self.swap.0
    }

    fn in_words(&self, name: &str) -> String {
        format!("the schema {name} of {}", self.target.database())
    }

    fn place_of<'n>(&'n self, name: &'n str) -> (&'n str, Option<&'n str>) {
        (self.target.database(), Some(name))
    }

    fn create(&self, made_in: &Swap, role: &str) -> String {
        // The product's, whosever the database is that the schema is in.
        made_in.create_for(role)
    }

    fn prepare(&self, made_in: &Swap, extensions: &BTreeMap<String, String>) -> Result<()> {
        prepare(self.cx, &self.place, self.target, &made_in.new, extensions).map(|_| ())
    }

    fn rights(&self) -> Result<String> {
        self.run(self.swap.rights())
    }

    fn heal(&self) -> Result<String> {
        self.end()?;
        self.run(self.swap.heal())
    }

    fn refuse_obstacles(&self) -> Result<()> {
        let said = self.run(self.swap.obstacles())?;
        let obstacles: Vec<_> = rows::read(said.lines()).flatten().collect();
        if obstacles.is_empty() {
            return Ok(());
        }
        let (schema, obstacles) = (&self.swap.0.current, obstacles.join(", "));
        let message = format!("the schema {schema} can't be replaced without {obstacles}");
        let hint = "drop what is named, run this again, and recreate it; or, of one product: \
                    {XTASK} restore BACKUP PRODUCT --into DATABASE";
        bail!(Failure::new(Exit::Failed, message).hint(hint))
    }

    fn contents_of(&self, name: &str) -> Result<Contents> {
        let deployments = vec![self.target.main()?.with_schema(name)];
        let target = Target { deployments, schema: Some(name.into()) };
        snapshot::contents(self.cx, &target, target.database())
    }

    fn bring(&self, new: &Made) -> Result<bool> {
        self.bring_from(new.database, &(new.contents)()?, &new.extensions, new.has_current)?;
        Ok(true)
    }

    fn moment(&self) -> Result<String> {
        snapshot::moment(self.cx, self.target, self.target.database(), false)
    }

    fn swap_in(&self, owners: &[Object]) -> Result<()> {
        let limit = self.cx.options.db_lock_timeout.unwrap_or(self.cx.options.wait());
        let Self { cx, target, swap, .. } = self;
        let swapped = self.run(swap.swap(limit, owners)).map(|_| ());
        let swapped = swapped
            .map_err(|error| postgres::explain_lock(cx, target.deployments.first(), error, "replaced"));
        swapped.with_context(|| format!("{} can't take the place of {}", swap.0.new, target.in_words()))
    }

    fn swap_back(&self, had_current: bool) -> Result<()> {
        // What was cut off may still wait for a lock, and would swap when it gets it.
        let script = self.swap.swap_back(self.cx.options.wait(), had_current);
        self.end().and_then(|()| self.run(script)).map(|_| ())
    }

    fn open_replaced(&self) -> Result<()> {
        Ok(())
    }

    fn keep(&self, there: &[String], stay: &[String], go: &[String]) -> Result<Vec<(String, String)>> {
        let places = self.swap.0.places(there, stay);
        let remove = go.iter().map(|name| SchemaSwap::remove(name)).collect::<String>();
        let rename = places.iter().map(|(from, to)| SchemaSwap::keep_as(from, to)).collect::<String>();
        self.unending(remove + &rename)?;
        Ok(places)
    }

    fn remove_new(&self) -> Result<()> {
        self.end()?;
        self.unending(self.swap.remove_new())
    }
}

/// Makes what a schema needs in a database of the same server: extensions, each in its own schema. Returns whether there is
/// a schema of that name then.
pub fn prepare(
    cx: &Context,
    place: &Place,
    target: &Target,
    database: &str,
    extensions: &BTreeMap<String, String>,
) -> Result<bool> {
    let schema = literal(target.schema.as_deref().unwrap_or_default());
    let is_there = format!("select 1 from pg_namespace where nspname = {schema};\n");
    let dsn = target.main()?.dsn.with_database(database);
    let said = postgres::change(cx, place, &dsn, create_extensions(extensions) + &is_there);
    Ok(!said.read()?.is_empty())
}
