//! One migration of a database at a time, from whatever machine: an advisory lock of PostgreSQL, which Ory's own
//! migrations don't take. Of two that run at once, one fails with texts that look like corruption.
//!
//! The lock belongs to a psql session, which ends with xtask. Such locks are per database: it is taken in the
//! server's maintenance database, in the product's own where its role may not connect there.
//! Source: <https://www.postgresql.org/docs/17/explicit-locking.html#ADVISORY-LOCKS>.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::administrator::MAINTENANCE_DATABASE;
use crate::context::Context;
use crate::diagnosis;
use crate::past_pooler;
use crate::postgres;
use crate::target::Target;
use ory_facts::instance::Instance;
use ory_facts::sql::{identifier, literal};
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::CommandError;
use ory_runner::program::Program;
use ory_runner::session::Session;
use ory_stack::stack::Deployment;

/// How many connections a role needs at once: the lock's, one that waits for the end, and Ory's.
const CONNECTIONS: usize = 3;

/// The lock of a product's database, held until it is dropped.
pub struct ServerLock<'a> {
    cx: &'a Context,
    session: Mutex<Session>,
    key: [String; 2],
    product: Instance,
}

/// Waits for the lock of a product's database, and says who holds it.
pub fn acquire<'a>(cx: &'a Context, deployment: &Deployment) -> Result<ServerLock<'a>> {
    let (lock, mut answer) = connect(cx, deployment)?;
    lock.refuse_limit(deployment)?;
    let take = take(&lock.key);
    let start = Instant::now();
    let mut progress = None;
    while answer != ["t"] {
        if progress.is_none() {
            let what = format!("waiting for another run on {}'s database", deployment.product);
            cx.out.say(format!("{what}: {}", lock.holder()?));
            progress = Some(cx.out.progress(what));
        }
        if start.elapsed() > cx.options.lock_timeout {
            let seconds = cx.options.lock_timeout.as_secs();
            let message =
                format!("another run still holds {}'s database after {seconds} s", deployment.product);
            let hint = format!("wait until it has ended ({}), then run this again", lock.holder()?);
            bail!(Failure::new(Exit::Locked, message).hint(hint));
        }
        cx.options.interrupt.sleep(Duration::from_millis(100))?;
        answer = lock.ask(&take)?;
    }
    Ok(lock)
}

/// The locks of targets, in their order.
pub fn acquire_all<'a>(cx: &'a Context, targets: &[Target]) -> Result<Vec<ServerLock<'a>>> {
    targets.iter().map(|target| acquire(cx, target.main()?)).collect()
}

/// Takes the lock where nobody else has it.
pub fn acquire_free<'a>(cx: &'a Context, deployment: &Deployment) -> Result<Option<ServerLock<'a>>> {
    let (lock, answer) = connect(cx, deployment)?;
    lock.refuse_limit(deployment)?;
    Ok((answer == ["t"]).then_some(lock))
}

fn take(key: &[String; 2]) -> String {
    format!("select pg_try_advisory_lock({})", key.join(", "))
}

/// Connects where the lock is to be taken, and tries to take it.
fn connect<'a>(cx: &'a Context, deployment: &Deployment) -> Result<(ServerLock<'a>, Vec<String>)> {
    // Between two transactions, a pooler may give the session that has the lock to somebody else.
    let direct = past_pooler::direct(cx, deployment);
    let deployment = direct.as_ref().unwrap_or(deployment);
    let key = key(deployment);
    // PostgreSQL cuts it where it is too long.
    let application = format!("xtask {}, process {}", Program::typed(), std::process::id());
    let try_in = |database: &str| {
        let psql =
            postgres::as_product(cx, deployment, &[("PGDATABASE", database), ("PGAPPNAME", &application)])?;
        let session = Mutex::new(Session::start(psql)?);
        let lock = ServerLock { cx, session, key: key.clone(), product: deployment.product };
        let answer = lock.ask(&take(&lock.key))?;
        Ok((lock, answer))
    };
    try_in(MAINTENANCE_DATABASE).or_else(|error: anyhow::Error| {
        if error.is::<CommandError>() { try_in(&deployment.dsn.database) } else { Err(error) }
    })
}

impl ServerLock<'_> {
    fn ask(&self, sql: &str) -> Result<Vec<String>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.ask(sql).context("failed to lock the database")
    }

    /// Fails where role or database are limited to fewer connections than are needed at once: then what comes next would be
    /// refused, in the middle of it.
    fn refuse_limit(&self, deployment: &Deployment) -> Result<()> {
        let [user, database] = [&deployment.dsn.user, &deployment.dsn.database].map(|name| literal(name));
        let sql = format!(
            "select kind, count from (select 'role', rolconnlimit from pg_roles where rolname = {user} \
             union all select 'database', datconnlimit from pg_database where datname = {database}) own (kind, count) \
             where count >= 0 and count < {CONNECTIONS} and not (select rolsuper from pg_roles where rolname = {user}) \
             order by count limit 1"
        );
        let Some(row) = self.ask(&sql)?.into_iter().next() else { return Ok(()) };
        let Some((kind, count)) = row.split_once('|') else { return Ok(()) };
        let name = if kind == "role" { &deployment.dsn.user } else { &deployment.dsn.database };
        let message = format!(
            "the {kind} {name} has a connection limit of {count}, and {CONNECTIONS} are needed at once: for the lock, \
             for {}'s migration, and to look after it",
            self.product
        );
        let alter = format!("alter {kind} {} connection limit -1", identifier(name));
        let hint = diagnosis::admin_psql(self.cx, deployment).args(["-c", &alter]).to_string();
        bail!(Failure::new(Exit::Failed, message).hint(hint))
    }

    /// Fails where the lock isn't held any more, as when its session was ended: another run may have it. For before each
    /// step that needs it.
    pub fn check(&self) -> Result<()> {
        let [class, object] = &self.key;
        let sql = format!(
            "select 'held' from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid() \
             and classid = {class}::oid and objid = {object}::oid and objsubid = 2"
        );
        let lost = || {
            let message = format!("the lock on {}'s database was lost: its session was ended", self.product);
            Failure::new(Exit::Failed, message)
                .hint("see who ends sessions in PostgreSQL, then run this again")
        };
        match self.ask(&sql) {
            Ok(rows) if rows == ["held"] => Ok(()),
            Ok(_) => Err(lost().into()),
            Err(error) => Err(error.context(lost())),
        }
    }

    /// The run that holds a lock, and since when.
    fn holder(&self) -> Result<String> {
        let [class, object] = &self.key;
        let sql = format!(
            "select application_name || coalesce(', for ' || extract(epoch from now() - backend_start)::int || ' s', '') \
             from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory' and granted \
             and classid = {class}::oid and objid = {object}::oid and objsubid = 2"
        );
        Ok(self.ask(&sql)?.into_iter().next().unwrap_or_else(|| "it has just ended".into()))
    }

    /// Sessions of an earlier migration of this product that go on although its container may be gone: who
    /// they are in PostgreSQL's own words.
    pub fn sessions(&self, deployment: &Deployment, application: &str) -> Result<Vec<String>> {
        let sql = format!(
            "select pid from pg_stat_activity where application_name = {} and datname = {}",
            literal(application),
            literal(&deployment.dsn.database)
        );
        self.ask(&sql)
    }
}

/// The two numbers of the lock, which the server itself makes of what it calls the place of the tables: they are the
/// same from every machine.
fn key(deployment: &Deployment) -> [String; 2] {
    let schema = deployment.dsn.schema().unwrap_or_else(|| "public".into());
    let place = format!("{}/{schema}", deployment.dsn.database);
    ["xtask", &place].map(|text| format!("hashtext({})", literal(text)))
}
