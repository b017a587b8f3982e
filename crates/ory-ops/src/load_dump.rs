//! A dump loaded into a new database, as the product: what is in a dump is code, and gets no right that the product hasn't
//! got. The administrator does what the product can't, and only by what the current database says.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ory_facts::contents;
use ory_facts::manifest::Dump;
use ory_facts::owners::{self, Object};
use ory_facts::rights;
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};

use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::lock::Locked;
use crate::pooler;
use crate::postgres;
use crate::replace::schema;
use crate::snapshot;
use crate::target::Target;

/// Where a dump goes.
pub struct Load<'a> {
    pub cx: &'a Locked,
    pub target: &'a Target<'a>,
    pub place: &'a Place,
    /// The new database.
    pub database: &'a str,
    /// What the current one says, where there is one.
    pub live: Option<&'a Live>,
    /// Whether this stack made the dump.
    pub is_own: bool,
}

/// What the current database says of who owns what, and of its extensions.
#[derive(Default)]
pub struct Live {
    pub objects: Vec<Object>,
    pub extensions: BTreeMap<String, String>,
}

impl Live {
    /// Asks it.
    pub fn read(
        cx: &Context,
        place: &Place,
        target: &Target,
        extensions: BTreeMap<String, String>,
    ) -> Result<Self> {
        let main = target.main()?;
        let ask = postgres::as_owner(cx, place, main, &[])
            .stdin(owners::query(target.schema.as_deref(), &main.dsn.user));
        let objects = owners::read(&ask.read()?).context("psql didn't tell who owns what")?;
        Ok(Self { objects, extensions })
    }

    /// Who gets what is in a dump: the owner that it has now, where it had that one already when it was dumped.
    pub fn owners_of(&self, dump: &Dump, is_own: bool) -> Vec<Object> {
        let had = |object: &&Object| {
            let key = format!("{} {}", object.kind, object.identity);
            is_own && dump.contents.owned.get(&key) == Some(&object.owner)
        };
        self.objects.iter().filter(had).cloned().collect()
    }
}

impl Load<'_> {
    /// Loads it, all or nothing, and compares what is there then with what was counted when the dump was made.
    pub fn run(&self, dump: &Dump, path: &Path) -> Result<()> {
        let Self { cx, target, place, database, .. } = *self;
        let main = target.main()?;
        let mut taken_back = String::new();
        let mut words = [&postgres::RESTORE[..], &["--no-owner"]].concat();
        let within = target.schema.as_ref().map(|schema| format!("--schema={schema}"));
        let mut left_out = match &within {
            // Where the schema is there, it isn't recreated.
            Some(within) => {
                let is_there = schema::prepare(cx, place, target, database, &dump.contents.extensions)?;
                words.extend(is_there.then_some(within.as_str()));
                vec![]
            }
            None => {
                let is_there = self.prepare(dump)?;
                // What nobody has vouched for gets no right that the product hasn't got.
                if self.is_own && pooler::server_of(cx, main).is_some() {
                    taken_back = self.administer(database, rights::to_load(&main.dsn.user))?;
                }
                is_there
            }
        };
        left_out.extend(dump.contents.beyond.keys().map(|id| LeftOut::Id(id.clone())));
        let name = snapshot::application(cx, target);
        let variables = [("PGAPPNAME", name.as_str()), ("PGDATABASE", database)];
        let into = format!("--dbname={}", sql::database(database));
        words.push(&into);
        let restore = match self.list(path, &left_out)? {
            None => postgres::tool(cx, place, &main.dsn, &variables, &words),
            Some(list) => postgres::listed_tool(cx, place, &main.dsn, &variables, &words, &list),
        };
        let _progress = cx.out.progress(format!("restoring {} next to the current data", target.names(", ")));
        let restored = restore.stdin_file(path).read();
        if !taken_back.is_empty() {
            self.administer(database, taken_back)?;
        }
        restored.with_context(|| format!("{} can't be restored", dump.file))?;
        // Else the first questions would be answered slowly.
        let analyze =
            postgres::as_writing_product(cx, main, &[("PGDATABASE", database)])?.stdin("analyze;\n");
        analyze.within(cx.options.timeout).read()?;
        if target.schema.is_none() {
            self.give_back(dump)?;
        }
        self.compare(dump)
    }

    /// What the product can't make, and needs: the rights on the schema that every database has, and extensions that take
    /// an administrator. Returns what of the dump is there already.
    fn prepare(&self, dump: &Dump) -> Result<Vec<LeftOut>> {
        let Self { target, database, live, is_own, .. } = *self;
        let main = target.main()?;
        if pooler::server_of(self.cx, main).is_none() {
            return Ok(vec![]);
        }
        let nothing = Live::default();
        let live = live.unwrap_or(&nothing);
        if !live.objects.is_empty() {
            let rights = self.administer(target.database(), rights::schema_rights("public", "public"))?;
            self.administer(database, rights)?;
        }
        let wanted = dump.contents.extensions.iter();
        // One that nobody has vouched for isn't made by the administrator.
        let wanted = wanted.filter(|(name, _)| is_own || live.extensions.contains_key(*name));
        let made = self.administer(database, rights::missing_extensions(wanted, &main.dsn.user))?;
        Ok(made.lines().map(|line| LeftOut::Text(line.into())).collect())
    }

    /// Runs a script as the administrator, in one of the server's databases.
    fn administer(&self, database: &str, script: String) -> Result<String> {
        let Self { cx, target, place, .. } = *self;
        let psql = postgres::as_owner(cx, place, target.main()?, &[("PGDATABASE", database)]);
        psql.stdin(script).read()
    }

    /// The lines of the dump's list that are to be restored; none where that is all.
    fn list(&self, path: &Path, left_out: &[LeftOut]) -> Result<Option<String>> {
        if left_out.is_empty() {
            return Ok(None);
        }
        let Self { cx, target, place, .. } = *self;
        let dsn = &target.main()?.dsn;
        let list = postgres::tool(cx, place, dsn, &[], &["pg_restore", "--list"]).stdin_file(path);
        let list = list.read()?;
        let stays = |line: &&str| !left_out.iter().any(|out| out.is(line));
        Ok(Some(list.lines().filter(stays).map(|line| format!("{line}\n")).collect()))
    }

    /// Gives others what was theirs, and the default rights of their roles.
    fn give_back(&self, dump: &Dump) -> Result<()> {
        let Self { target, database, live, is_own, .. } = *self;
        let (main, Some(live)) = (target.main()?, live) else { return Ok(()) };
        let owners = live.owners_of(dump, is_own);
        if pooler::server_of(self.cx, main).is_none() {
            return Ok(());
        }
        let rights = self.administer(target.database(), rights::default_rights(None))?;
        let script = rights + &if owners.is_empty() { String::new() } else { owners::give(None, &owners) };
        if !script.is_empty() {
            self.administer(database, script).context("who owned what can't be given back")?;
        }
        Ok(())
    }

    /// Fails unless a database holds what was counted when the dump was made.
    fn compare(&self, dump: &Dump) -> Result<()> {
        let mut expected = dump.contents.clone();
        if self.target.schema.is_some() {
            // Others in the database have some too; without its own, a schema can't be restored.
            expected.extensions.clear();
        }
        let there = snapshot::contents(self.cx, self.target, self.database)?;
        let differences = contents::differences(&expected, &there);
        if !differences.is_empty() {
            let message = format!("what was restored isn't what was dumped: {}", differences.join("; "));
            bail!(Failure::new(Exit::Failed, message).hint("take another backup: {XTASK} backups"));
        }
        Ok(())
    }
}

/// Restores a dump into a database that is there, and empty.
pub fn into_empty(load: &Load, dump: &Dump, path: &Path) -> Result<()> {
    let Load { cx, target, database, .. } = *load;
    let deployment = target.main()?;
    let explain = |error| diagnosis::of_product(cx, &deployment.with_database(database), error);
    let before = snapshot::contents(cx, target, database).map_err(explain)?;
    if let Some(table) = before.rows.keys().next() {
        let message = format!("the database {database} isn't empty: it has {table}");
        bail!(Failure::new(Exit::Failed, message).hint("name an empty one"));
    }
    load.run(dump, path)
}

/// An entry of a dump that isn't loaded: by the catalog's and the object's number, or by how its text begins.
enum LeftOut {
    Id(String),
    Text(String),
}

impl LeftOut {
    /// Whether a line of `pg_restore --list` is it: `12; 3466 16500 EVENT TRIGGER - name owner`.
    fn is(&self, line: &str) -> bool {
        let Some((_, entry)) = line.split_once("; ") else { return false };
        match self {
            Self::Id(id) => {
                let mut words = entry.splitn(3, ' ');
                words
                    .next()
                    .zip(words.next())
                    .is_some_and(|(class, object)| *id == format!("{class}/{object}"))
            }
            Self::Text(text) => {
                entry.splitn(3, ' ').nth(2).is_some_and(|entry| entry.starts_with(&format!("{text} ")))
            }
        }
    }
}

/// What a role can't make again of what a backup has, for who asks before it is needed.
pub fn told(dump: &Dump) -> Vec<String> {
    let names = dump.names();
    let beyond = dump
        .contents
        .beyond
        .values()
        .map(|what| format!("{names}: a restore leaves out the {what}, which takes an administrator"));
    let outside = dump.contents.outside.iter();
    let outside =
        outside.map(|what| format!("{names}: it can't be restored without what isn't in it: {what}"));
    beyond.chain(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_its_numbers_or_by_how_it_begins() {
        let line = "12; 3466 16500 EVENT TRIGGER - watch postgres";
        assert!(LeftOut::Id("3466/16500".into()).is(line) && !LeftOut::Id("3466/1650".into()).is(line));
        let comment = "13; 0 0 COMMENT - EXTENSION pg_trgm ";
        assert!(LeftOut::Text("COMMENT - EXTENSION pg_trgm".into()).is(comment));
        assert!(!LeftOut::Text("COMMENT - EXTENSION pg_tr".into()).is(comment));
        assert!(!LeftOut::Text("x".into()).is(";     Archive created at 2026"));
    }
}
