//! An empty database beside a product's, to see what its image makes. It is removed whatever happens; one that a
//! killed run left behind, by the next.

use std::time::Duration;

use anyhow::{Error, Result};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::migrations;
use crate::postgres::{self, Place};
use crate::process::{CommandError, Invocation};
use crate::stack::Deployment;
use ory_facts::catalog;
use ory_facts::dsn::Dsn;
use ory_facts::sql::identifier;

/// A database that is gone when this is dropped. The stack's lock is held meanwhile: its name is always the same.
pub struct Scratch<'a> {
    cx: &'a Context,
    deployment: &'a Deployment<'a>,
    place: &'a Place,
    dsn: Dsn,
    /// The container that migrates it.
    container: String,
}

impl<'a> Scratch<'a> {
    /// Names it, and makes nothing yet.
    pub fn new(cx: &'a Context, deployment: &'a Deployment<'a>, place: &'a Place) -> Self {
        let mut name = format!("xtask_scratch_{}_{}", deployment.product, cx.stack.project);
        // PostgreSQL cuts longer ones.
        name.truncate(63);
        let container = format!("xtask-{}-scratch-{}", cx.stack.project, deployment.product);
        Self { cx, deployment, place, dsn: deployment.dsn.with_database(&name), container }
    }

    /// Makes it anew, lets the image migrate it, and returns its catalog.
    pub fn learn(&self, schema: &str) -> Result<String> {
        let _progress = self.cx.out.progress(format!("learning the schema of {}", self.deployment.product));
        let _guard = Guard(self);
        self.engine_remove();
        self.create().read(&self.cx.secrets).map_err(|error| self.explain(error))?;
        // As the product, so that what keeps it out of this database shows before Ory retries for minutes.
        let script = format!("create schema if not exists {}", identifier(schema));
        postgres::query(self.cx, self.place, &self.dsn, script).read(&self.cx.secrets)?;
        let options = &self.cx.options;
        let migrate = self.migrate().until(&options.interrupt, Some(options.wait()));
        self.cx.run_watched(&format!("scratch-{}", self.deployment.product), &migrate, |_| Ok(()))?;
        postgres::query(self.cx, self.place, &self.dsn, catalog::QUERY).read(&self.cx.secrets)
    }

    /// What is run to learn the schema, as `--dry-run` prints it.
    pub fn lines(&self) -> [String; 3] {
        let name = &self.dsn.database;
        [
            format!("{}  # makes the empty database {name}, once an image", self.create()),
            format!("{}  # its DSN names {name}", self.migrate()),
            format!("{}  # removes {name}", self.remove()),
        ]
    }

    fn create(&self) -> Invocation {
        let [name, role] = [&self.dsn.database, &self.dsn.user].map(|name| identifier(name));
        // template1 may have what somebody put there.
        let script = format!(
            "drop database if exists {name};\ncreate database {name} owner {role} template template0;\n"
        );
        postgres::administer(self.cx, self.place, self.deployment, script)
    }

    /// Ory prefers the variable to the configuration file; its value is in no argument list.
    fn migrate(&self) -> Invocation {
        let migrate = migrations::one_off(self.cx, self.deployment, &self.container, &["-e", "DSN"]);
        migrate.envs([("DSN".into(), self.dsn.url().into())])
    }

    fn remove(&self) -> Invocation {
        let script = format!("drop database if exists {};\n", identifier(&self.dsn.database));
        postgres::administer(self.cx, self.place, self.deployment, script)
    }

    /// Removes the container; mostly there is none any more.
    fn engine_remove(&self) {
        let _ = self.cx.engine.docker(["rm", "--force", &self.container]).output();
    }

    fn explain(&self, error: Error) -> Error {
        let is_denied = error
            .downcast_ref::<CommandError>()
            .is_some_and(|command| command.stderr.contains("permission denied to create database"));
        if !is_denied {
            return error;
        }
        let role = &self.dsn.user;
        let message = format!("the role {role} may not create the empty database that its image would fill");
        let sql = format!("alter role {} createdb", identifier(role));
        let psql = postgres::typed(self.cx, self.deployment).args(["-c", &sql]);
        error.context(Failure::new(Exit::Failed, message).hint(psql.to_string()))
    }
}

/// Removes the container and the database, also after Ctrl-C.
struct Guard<'a>(&'a Scratch<'a>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.engine_remove();
        let remove = self.0.remove().until(&Interrupt::default(), Some(Duration::from_secs(30)));
        if let Err(error) = remove.read(&self.0.cx.secrets) {
            let name = &self.0.dsn.database;
            self.0
                .cx
                .out
                .warn(format!("the database {name} is left behind, until this is run again: {error}"));
        }
    }
}
