//! An empty database beside a product's, to see what its image makes. It is removed whatever happens; one that a
//! killed run left behind, by the next.

use std::collections::BTreeSet;

use anyhow::{Error, Result};

use crate::advisory_lock::{self, ServerLock};
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::postgres;
use crate::run_container;
use ory_facts::catalog;
use ory_facts::lost;
use ory_facts::names;
use ory_facts::sql::{CREATING, identifier};
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{CommandError, Invocation};
use ory_stack::stack::Deployment;

/// What an image makes of an empty database.
pub enum Made {
    /// The text of its catalog.
    Whole(String),
    /// It needs what was noted, and not there.
    Failed(Error),
}

/// A database that is made and removed as who may do so, and is filled and read as the product.
pub struct Scratch<'a> {
    cx: &'a Context,
    place: &'a Place,
    /// The product with its own database, and with this one.
    own: &'a Deployment<'a>,
    scratch: Deployment<'a>,
}

impl<'a> Scratch<'a> {
    /// Names it, and makes nothing yet. Its name tells whose it is, and is always the same.
    pub fn new(cx: &'a Context, own: &'a Deployment<'a>, place: &'a Place) -> Self {
        let name = names::scratch(own.product.name(), &own.dsn.database);
        Self { cx, place, own, scratch: own.scratch(&name) }
    }

    /// Recreates it, lets the image migrate it, and returns its catalog. `noted`: versions that the image finds noted as
    /// applied, and doesn't apply. `lock`: that of the product's own database, where it is held.
    pub fn learn(&self, schema: &str, noted: &BTreeSet<String>, lock: Option<&ServerLock>) -> Result<Made> {
        let prepare = self.schema(schema, noted);
        let what = format!("learning what {}'s image makes", self.own.product);
        self.made(what, prepare, lock, || {
            let query = postgres::query(self.cx, self.place, &self.scratch.dsn, catalog::QUERY);
            match run_container::run(self.cx, &self.scratch) {
                Ok(()) => query.read().map(Made::Whole),
                // What the migrations ended at tells of them only where the server is as it was.
                Err(error) if error.is::<CommandError>() && !noted.is_empty() => {
                    query.read().map(|_| Made::Failed(error))
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Recreates it, lets the image migrate it, and has something done with the product as it would be there.
    pub fn migrated<T>(&self, schema: &str, then: impl FnOnce(&Deployment) -> Result<T>) -> Result<T> {
        let prepare = self.schema(schema, &BTreeSet::new());
        let what = format!("trying {}'s image on an empty database", self.own.product);
        self.made(what, prepare, None, || {
            run_container::run(self.cx, &self.scratch)?;
            then(&self.scratch)
        })
    }

    /// Recreates it, and has something done with the product as it would be there.
    pub fn empty<T>(&self, then: impl FnOnce(&Deployment) -> Result<T>) -> Result<T> {
        let what = format!("rehearsing on a copy of {}", self.own.dsn.database);
        self.made(what, String::new(), None, || then(&self.scratch))
    }

    /// The script that makes the schema, with what is noted as applied.
    fn schema(&self, schema: &str, noted: &BTreeSet<String>) -> String {
        format!("create schema if not exists {};\n{}", identifier(schema), lost::note(schema, noted))
    }

    fn made<T>(
        &self,
        what: String,
        prepare: String,
        lock: Option<&ServerLock>,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        // Another run would take it away, from whatever machine.
        let _lock = match lock {
            Some(lock) => lock.check().map(|()| None)?,
            None => Some(advisory_lock::acquire(self.cx, self.own)?),
        };
        let _progress = self.cx.out.progress(what);
        let _guard = Guard(self);
        self.remove_container();
        self.create().read().map_err(|error| self.explain(error))?;
        // As the product, so that what keeps it out of this database shows before Ory retries for minutes.
        postgres::change(self.cx, self.place, &self.scratch.dsn, prepare).read()?;
        then()
    }

    /// What is run to learn the schema, as `--dry-run` prints it.
    pub fn lines(&self) -> [String; 3] {
        let name = &self.scratch.dsn.database;
        [
            format!("{}  # makes the empty database {name}, once an image", self.create()),
            format!("{}  # its DSN names {name}", run_container::command(self.cx, &self.scratch)),
            format!("{}  # removes {name}", self.remove()),
        ]
    }

    fn create(&self) -> Invocation {
        let [name, role] = [&self.scratch.dsn.database, &self.scratch.dsn.user].map(|name| identifier(name));
        // Not template1, which may have what somebody put there.
        let script = format!(
            "{CREATING}drop database if exists {name};\ncreate database {name} owner {role} template template0;\n"
        );
        postgres::administer(self.cx, self.place, self.own, script)
    }

    fn remove(&self) -> Invocation {
        let script = format!("drop database if exists {};\n", identifier(&self.scratch.dsn.database));
        postgres::administer(self.cx, self.place, self.own, script)
    }

    /// Removes the container of a run that was killed; mostly there is none.
    fn remove_container(&self) {
        let _ =
            self.cx.engine.docker(["rm", "--force", &run_container::name(self.cx, &self.scratch)]).output();
    }

    fn explain(&self, error: Error) -> Error {
        let is_denied = |command: &CommandError| sqlstate::has(&command.stderr, &["42501"]);
        if !error.downcast_ref().is_some_and(is_denied) {
            return error;
        }
        let role = &self.own.dsn.user;
        let message = format!("the role {role} may not create the empty database that its image would fill");
        let psql = diagnosis::admin_psql(self.cx, self.own);
        let hint = psql.args(["-c".to_string(), format!("alter role {} createdb", identifier(role))]);
        error.context(Failure::new(Exit::Failed, message).hint(hint.to_string()))
    }
}

/// Removes the database, also after Ctrl-C.
struct Guard<'a>(&'a Scratch<'a>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Scratch { cx, scratch, .. } = self.0;
        let remove = postgres::unending(cx, self.0.remove());
        if let Err(error) = remove.read() {
            let name = &scratch.dsn.database;
            cx.out.warn(format!("the database {name} is left behind, until this is run again: {error}"));
        }
    }
}
