//! A database as it is at one moment: counted, and dumped, in one snapshot of PostgreSQL.
//!
//! Source: <https://www.postgresql.org/docs/17/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION>.

use anyhow::{Context as _, Result};
use ory_facts::contents::{self, Contents};
use ory_facts::sql::identifier;
use xtask_runner::process::Invocation;
use xtask_runner::session::Session;

use crate::context::Context;
use crate::postgres;
use crate::store::Store;

/// Nothing that a role or a database is set to may end it early.
const BEGIN: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; \
                     begin isolation level repeatable read, read only; select pg_export_snapshot()";

/// A snapshot, for as long as its session lasts.
pub struct Snapshot {
    session: Session,
    id: String,
    by_owner: bool,
}

/// What the sessions of a backup of this very run are called in PostgreSQL, which cuts a name at 63 bytes: they are ended by
/// it, and another run on this database isn't to end with them.
pub fn application(cx: &Context, store: &Store) -> String {
    format!("xtask-{}-backup-{}-{}", cx.run, cx.stack.project, store.names("-"))
}

impl Snapshot {
    /// Takes it.
    pub fn take(cx: &Context, store: &Store) -> Result<Self> {
        let name = application(cx, store);
        let by_owner = !sees_all(cx, store, store.database())?;
        let psql = reader(cx, store, by_owner, &[("PGAPPNAME", &name)])?;
        let mut session = Session::start(psql.until(&cx.options.interrupt, cx.options.timeout))?;
        let id = session.ask(BEGIN, &cx.secrets)?.into_iter().next().context("there is no snapshot")?;
        Ok(Self { session, id, by_owner })
    }

    /// Counts what is in it.
    pub fn contents(&mut self, cx: &Context, schema: Option<&str>) -> Result<Contents> {
        let lines = self.session.ask(&contents::query(schema), &cx.secrets)?;
        contents::read(lines.iter().map(String::as_str)).context("psql didn't tell what the database holds")
    }

    /// Dumps it to standard output.
    pub fn dump(&self, cx: &Context, store: &Store) -> Result<Invocation> {
        dump(cx, store, &postgres::running_place(cx, store.main()?)?, &self.id, self.by_owner)
    }
}

/// The command line of a dump.
pub fn dump(
    cx: &Context,
    store: &Store,
    place: &postgres::Place,
    snapshot: &str,
    by_owner: bool,
) -> Result<Invocation> {
    let name = application(cx, store);
    let snapshot = format!("--snapshot={snapshot}");
    let schema = store.schema.as_deref().map(|schema| format!("--schema={}", identifier(schema)));
    let limit = cx.options.db_lock_timeout.map(|limit| format!("--lock-wait-timeout={}s", limit.as_secs()));
    let mut words = vec!["pg_dump", "-w", "-Fc", &snapshot];
    words.extend(schema.as_deref());
    words.extend(limit.as_deref());
    let (main, variables) = (store.main()?, [("PGAPPNAME", name.as_str())]);
    Ok(match by_owner {
        true => postgres::owner_tool(cx, place, main, &variables, &words),
        false => postgres::tool(cx, place, &main.dsn, &variables, &words),
    })
}

/// Counts what a database of this store holds now: its own, or another one by name.
pub fn contents(cx: &Context, store: &Store, database: &str) -> Result<Contents> {
    let script = contents::query(store.schema.as_deref()) + ";\n";
    let by_owner = !sees_all(cx, store, database)?;
    let psql = reader(cx, store, by_owner, &[("PGDATABASE", database)])?.stdin(script);
    let text = psql.until(&cx.options.interrupt, cx.options.timeout).read(&cx.secrets)?;
    contents::read(text.lines()).context("psql didn't tell what the database holds")
}

/// Whether the product may read all that is in a database. An application's tables beside its own it often may not.
fn sees_all(cx: &Context, store: &Store, database: &str) -> Result<bool> {
    let main = store.main()?;
    if main.server.is_none() || store.schema.is_some() {
        return Ok(true);
    }
    let psql = postgres::as_product(cx, main, &[("PGDATABASE", database)])?;
    Ok(psql.stdin(contents::SEES_ALL).read(&cx.secrets)?.trim() == "t")
}

/// psql as the product, or as the administrator, who finds the tables where the product does.
fn reader(cx: &Context, store: &Store, by_owner: bool, variables: &[(&str, &str)]) -> Result<Invocation> {
    let main = store.main()?;
    if !by_owner {
        return postgres::as_product(cx, main, variables);
    }
    let options = main.dsn.environment().into_iter().find(|(name, _)| name == "PGOPTIONS");
    let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: Vec<_> = variables.iter().copied().chain(options).collect();
    Ok(postgres::as_owner(cx, &postgres::running_place(cx, main)?, main, &variables))
}
