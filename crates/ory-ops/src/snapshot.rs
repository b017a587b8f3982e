//! A database as it is at one moment: counted, and dumped, in one snapshot of PostgreSQL.
//!
//! Source: <https://www.postgresql.org/docs/17/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION>.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use ory_facts::contents::{self, Contents};
use ory_facts::names;
use ory_facts::rows;
use ory_facts::sorted::Sorted;
use ory_facts::sql::identifier;
use ory_facts::tables::{self, MOMENT, NEXT};
use ory_runner::process::Invocation;
use ory_runner::session::Session;

use crate::client::Place;
use crate::context::Context;
use crate::pooler;
use crate::postgres;
use crate::target::Target;

/// How often tables that appear meanwhile are looked for.
const TRIES: usize = 10;

/// A snapshot, for as long as its session lasts.
pub struct Snapshot {
    session: Session,
    id: String,
    by_owner: bool,
}

/// What the sessions of a backup of this very run are called in PostgreSQL, which cuts a name at 63 bytes: they are ended by
/// it, and another run on this database isn't to end with them.
pub fn application(cx: &Context, target: &Target) -> String {
    names::session(&format!("xtask-{}-backup-{}-{}", cx.run, cx.stack.project, target.names("-")))
}

impl Snapshot {
    /// Takes it, once nobody rewrites a table: what is rewritten after a snapshot was taken looks empty in it.
    /// Source: <https://www.postgresql.org/docs/17/mvcc-caveats.html>.
    pub fn take(cx: &Context, target: &Target) -> Result<Self> {
        let name = application(cx, target);
        let by_owner = !sees_all(cx, target, target.database(), target.schema.as_deref())?;
        let psql = reader(cx, target, by_owner, Asks::Session, &[("PGAPPNAME", &name)])?;
        let mut session = Session::start(psql.within(cx.options.timeout))?;
        let explain = |error| postgres::explain_lock(cx, target.deployments.first(), error, "backed up");
        let limit = cx.options.db_lock_timeout.map_or(0, |limit| limit.as_secs());
        let list = tables::names(target.schema.as_deref());
        let names = |session: &mut Session| -> Result<BTreeSet<String>> {
            let lines = session.ask(&list)?;
            Ok(rows::read(lines.iter().map(String::as_str)).flatten().into_set())
        };
        let mut tables = names(&mut session)?;
        for _ in 0..TRIES {
            let each: Vec<_> = tables.iter().map(|name| format!("only {name}")).collect();
            let lock = format!("lock table {} in access share mode; ", each.join(", "));
            let lock = if each.is_empty() { String::new() } else { lock };
            let begin = format!(
                "set lock_timeout = '{limit}s'; begin isolation level repeatable read, read only; {lock}\
                 select pg_export_snapshot()"
            );
            let id = session.ask(&begin).map_err(explain)?.into_iter().next();
            let id = id.context("there is no snapshot")?;
            let there = names(&mut session)?;
            if there.is_subset(&tables) {
                return Ok(Self { session, id, by_owner });
            }
            session.ask("rollback")?;
            tables = there;
        }
        bail!("tables are made in {} faster than they can be locked", target.in_words())
    }

    /// Counts what is in it.
    pub fn contents(&mut self, target: &Target) -> Result<Contents> {
        let query = contents::query(target.schema.as_deref(), &target.main()?.dsn.user);
        let lines = self.session.ask(&query)?;
        contents::read(lines.iter().map(String::as_str)).context("psql didn't tell what the database holds")
    }

    /// Dumps it to standard output.
    pub fn dump(&self, cx: &Context, target: &Target) -> Result<Invocation> {
        dump(cx, target, &postgres::running_place(cx, target.main()?)?, &self.id, self.by_owner)
    }
}

/// The command line of a dump.
pub fn dump(
    cx: &Context,
    target: &Target,
    place: &Place,
    snapshot: &str,
    by_owner: bool,
) -> Result<Invocation> {
    let name = application(cx, target);
    let snapshot = format!("--snapshot={snapshot}");
    let schema = target.schema.as_deref().map(|schema| format!("--schema={}", identifier(schema)));
    let limit = cx.options.db_lock_timeout.map(|limit| format!("--lock-wait-timeout={}s", limit.as_secs()));
    let mut words = vec!["pg_dump", "-w", "-Fc", &snapshot];
    words.extend(schema.as_deref());
    words.extend(limit.as_deref());
    let (main, variables) = (target.main()?, [("PGAPPNAME", name.as_str())]);
    Ok(match by_owner {
        true => postgres::owner_tool(cx, place, main, &variables, &words),
        false => postgres::tool(cx, place, &main.dsn, &variables, &words),
    })
}

/// Counts what a database of this target holds now: its own, or another one by name.
pub fn contents(cx: &Context, target: &Target, database: &str) -> Result<Contents> {
    let schema = target.schema.as_deref();
    let text = ask(cx, target, database, schema, contents::query(schema, &target.main()?.dsn.user))?;
    contents::read(text.lines()).context("psql didn't tell what the database holds")
}

/// The rows of a database of this target, or of a schema, summed up, a line a table.
pub fn sums(cx: &Context, target: &Target, database: &str, schema: Option<&str>) -> Result<String> {
    ask(cx, target, database, schema, tables::sums(schema))
}

/// How many rows were written since a moment, as [`Contents::moment`] tells it. `schema`: where they are by now.
pub fn written_since(
    cx: &Context,
    target: &Target,
    database: &str,
    schema: Option<&str>,
    moment: &str,
) -> Result<u64> {
    let text = ask(cx, target, database, schema, tables::written_since(schema, moment))?;
    Ok(rows::read(text.lines()).filter_map(|fields| fields.get(1)?.parse::<u64>().ok()).sum())
}

/// How many rows were ever deleted in the database of a target. Sessions that are there may not have told yet.
pub fn deleted(cx: &Context, target: &Target) -> Result<u64> {
    let text = ask(
        cx,
        target,
        target.database(),
        target.schema.as_deref(),
        tables::deleted(target.schema.as_deref()),
    )?;
    text.trim().parse().context("psql didn't tell how many rows were deleted")
}

/// The moment, for [`written_since`]. `is_new`: nobody else has connected to that database yet.
pub fn moment(cx: &Context, target: &Target, database: &str, is_new: bool) -> Result<String> {
    let moment = if is_new { NEXT } else { MOMENT };
    Ok(ask(cx, target, database, target.schema.as_deref(), format!("{moment};\n"))?.trim().into())
}

fn ask(
    cx: &Context,
    target: &Target,
    database: &str,
    schema: Option<&str>,
    script: String,
) -> Result<String> {
    let by_owner = !sees_all(cx, target, database, schema)?;
    let psql = reader(cx, target, by_owner, Asks::Once, &[("PGDATABASE", database)])?.stdin(script);
    psql.within(cx.options.timeout).read()
}

/// Whether the product may read all that is in a database, or in a schema of it. An application's tables beside its own it
/// often may not; nor what was replaced, where the schema is somebody else's.
fn sees_all(cx: &Context, target: &Target, database: &str, schema: Option<&str>) -> Result<bool> {
    let main = target.main()?;
    if pooler::server_of(cx, main).is_none() {
        return Ok(true);
    }
    let psql = postgres::as_product(cx, main, &[("PGDATABASE", database)])?;
    Ok(psql.stdin(contents::sees_all(schema)).read()?.trim() == "t")
}

/// Whether psql is asked once, or stays connected in one transaction.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    Once,
    Session,
}

/// psql as the product, or as the administrator, who finds the tables where the product does.
fn reader(
    cx: &Context,
    target: &Target,
    by_owner: bool,
    asks: Asks,
    variables: &[(&str, &str)],
) -> Result<Invocation> {
    let main = target.main()?;
    if !by_owner {
        return match asks {
            Asks::Once => postgres::as_product(cx, main, variables),
            Asks::Session => postgres::as_writing_product(cx, main, variables),
        };
    }
    let options = main.dsn.environment().into_iter().find(|(name, _)| name == "PGOPTIONS");
    let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: Vec<_> = variables.iter().copied().chain(options).collect();
    Ok(postgres::as_owner(cx, &postgres::running_place(cx, main)?, main, &variables))
}
