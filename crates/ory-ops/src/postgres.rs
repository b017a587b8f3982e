//! psql, in the container of the server behind a DSN: what is applied, what is missing, what it lets us do.
//!
//! Whatever a database has, no session of ours finds a name of ours in it: see `sql::reading` and `sql::writing`.
//! The script goes in on standard input and the DSN in PG* variables, so neither is in an argument list.
//! `-w` never asks for a password; without it psql waits on the terminal for ever.

use std::collections::BTreeSet;

use anyhow::{Error, Result};

use crate::administrator::{self, MAINTENANCE_DATABASE};
use crate::client::{self, Place};
use crate::context::Context;
use crate::pooler;
use crate::server;
use ory_facts::applied;
use ory_facts::diagnosis::Evidence;
use ory_facts::dsn::Dsn;
use ory_facts::sql::{self, literal};
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::container::Listed;
use ory_stack::env_file;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

/// Where to ask about a product: the container there is, or the one Compose would make.
pub fn place(cx: &Context, containers: &[Listed], deployment: &Deployment) -> Place {
    if let Some(service) = pooler::server_of(cx, deployment) {
        return Place::Container(cx.container_name(containers, service));
    }
    let mut options = Vec::new();
    let mut add = |option: &str, value| options.extend([option.to_string(), value]);
    if let Some(name) = network(cx, deployment) {
        add("--network", name);
    }
    for host in &deployment.migrate.extra_hosts {
        add("--add-host", host.replace('=', ":"));
    }
    for mount in deployment.dsn.files().filter_map(|file| mount(cx, deployment.migrate, file)) {
        add("--mount", mount);
    }
    Place::Client { image: client_image(cx), options }
}

/// The network of the migrating service that has the server; the first one, where none is known to have it. A network is
/// made with the first container of the project; before, a server elsewhere is reached without.
fn network(cx: &Context, deployment: &Deployment) -> Option<String> {
    if deployment.migrate.is_on_host {
        return Some("host".into());
    }
    let exists = |name: &&str| {
        let output = cx.engine.docker(["network", "inspect", name]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let networks: Vec<_> = cx.stack.networks_of(deployment.migrate).into_iter().filter(exists).collect();
    let has = |name: &&&str| {
        networks.len() > 1 && cx.engine.hosts_in(name).unwrap_or_default().contains(&deployment.dsn.host)
    };
    networks.iter().find(has).or(networks.first()).map(ToString::to_string)
}

/// What brings a file that a service mounts into another container: that file alone, or the volume that has it.
fn mount(cx: &Context, service: &Service, file: &str) -> Option<String> {
    let (kind, source, target) = match service.on_host(file) {
        Some(path) => ("bind", path.display().to_string(), file),
        None => {
            let mount = service.mount_of(file)?;
            ("volume", cx.stack.source_of(mount)?, mount.target.as_str())
        }
    };
    Some(format!("type={kind},source={source},target={target},readonly"))
}

/// The image psql is taken from for a server elsewhere, as the environment or `.env` names it.
pub fn client_image(cx: &Context) -> String {
    env_file::setting(&cx.dir, "XTASK_POSTGRES_IMAGE").unwrap_or_else(|| "postgres:17-alpine".into())
}

/// A psql session with these variables that runs this script, which may change something.
pub(crate) fn psql(cx: &Context, place: &Place, env: Vec<(String, String)>, script: String) -> Invocation {
    cx.engine.changing_databases(unframed(cx, place, env, script).opens_with(sql::writing()))
}

/// The same where the script only reads: each request is a transaction of its own.
fn reading(cx: &Context, place: &Place, env: Vec<(String, String)>, script: String) -> Invocation {
    unframed(cx, place, env, script).framed(sql::reading())
}

fn unframed(cx: &Context, place: &Place, env: Vec<(String, String)>, script: String) -> Invocation {
    client::program(cx, place, env, &["psql", "-wXqAt", "-v", "ON_ERROR_STOP=1"]).stdin(script)
}

/// pg_dump, or pg_restore, as a product. It takes as long as it takes.
pub fn tool(
    cx: &Context,
    place: &Place,
    dsn: &Dsn,
    variables: &[(&str, &str)],
    words: &[&str],
) -> Invocation {
    long(cx, client::program(cx, place, with(dsn.environment(), variables), words), words)
}

/// A client program that takes as long as it takes. Only pg_dump is known to change nothing.
fn long(cx: &Context, client: Invocation, words: &[&str]) -> Invocation {
    let client = client.within(cx.options.timeout);
    if words.first() == Some(&"pg_dump") { client } else { cx.engine.changing_databases(client) }
}

/// pg_restore into the database that follows: all of a dump, or nothing.
pub const RESTORE: [&str; 4] = ["pg_restore", "-w", "--exit-on-error", "--single-transaction"];

/// The first bytes that come in are the list, the rest is the dump. The list is a file that nobody else sees, read once.
const LISTED: &str = "umask 077; f=$(mktemp /dev/shm/xtask-XXXXXX) || exit 1; dd bs=1 count=\"$1\" of=\"$f\" 2>/dev/null \
                      && exec 3<\"$f\"; is_read=$?; rm -f \"$f\"; [ $is_read = 0 ] || exit 1; shift; program=$1; shift; \
                      exec \"$program\" --use-list=/dev/fd/3 \"$@\"";

/// pg_restore of the entries of a list alone, which goes in before the dump.
pub fn listed_tool(
    cx: &Context,
    place: &Place,
    dsn: &Dsn,
    variables: &[(&str, &str)],
    words: &[&str],
    list: &str,
) -> Invocation {
    let length = list.len().to_string();
    let words = [&["sh", "-c", LISTED, "pg_restore", &length][..], words].concat();
    tool(cx, place, dsn, variables, &words).called("pg_restore").opens_with(list)
}

/// Variables of which some have other values.
fn with(mut env: Vec<(String, String)>, variables: &[(&str, &str)]) -> Vec<(String, String)> {
    env.retain(|(name, _)| !variables.iter().any(|(other, _)| name == other));
    env.extend(variables.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    env
}

/// The versions that products' databases have, which are on one server. As the products themselves: a wrong
/// password, host, database or right shows here in 0.2 s, while Ory retries each of them for five minutes.
pub fn applied_query(cx: &Context, place: &Place, products: &[&Deployment]) -> Invocation {
    let each: Vec<_> = products.iter().map(|deployment| (deployment.product, &deployment.dsn)).collect();
    let env = each.first().map(|(_, dsn)| dsn.environment()).unwrap_or_default();
    reading(cx, place, env, applied::script(&each))
}

/// What a product's database has, now.
pub fn applied(cx: &Context, deployment: &Deployment) -> Result<BTreeSet<String>> {
    Ok(applied_and(cx, deployment, "")?.0)
}

/// The same, and what a script prints that is run in the same session.
pub fn applied_and(
    cx: &Context,
    deployment: &Deployment,
    script: &str,
) -> Result<(BTreeSet<String>, String)> {
    let script = applied::script(&[(deployment.product, &deployment.dsn)]) + script;
    let ask = || query(cx, &running_place(cx, deployment)?, &deployment.dsn, script).read();
    // The server may have stopped since it was looked at.
    let rows = ask().or_else(|error| running_place(cx, deployment).and(Err(error)))?;
    let (versions, printed) = rows.split_once('\n').unwrap_or((&rows, ""));
    Ok((applied::of_one(versions), printed.into()))
}

/// Where to ask about a product, whose server must be running.
pub fn running_place(cx: &Context, deployment: &Deployment) -> Result<Place> {
    let running = deployment.server.map(|service| server::running(cx, service)).transpose()?;
    Ok(match running.filter(|_| pooler::server_of(cx, deployment).is_some()) {
        Some(container) => Place::Container(container.name),
        None => place(cx, &[], deployment),
    })
}

/// psql as a product, with some variables other than those of its DSN, without a script. It only reads.
pub fn as_product(cx: &Context, deployment: &Deployment, variables: &[(&str, &str)]) -> Result<Invocation> {
    let env = with(deployment.dsn.environment(), variables);
    Ok(reading(cx, &running_place(cx, deployment)?, env, String::new()))
}

/// The same, and it may write.
pub fn as_writing_product(
    cx: &Context,
    deployment: &Deployment,
    variables: &[(&str, &str)],
) -> Result<Invocation> {
    let env = with(deployment.dsn.environment(), variables);
    Ok(psql(cx, &running_place(cx, deployment)?, env, String::new()))
}

/// Ends the sessions of an application in a product's database, and waits until they are gone.
pub fn end_sessions(cx: &Context, deployment: &Deployment, application: &str) -> Result<()> {
    let script = end_script(application);
    as_product(cx, deployment, &[])?.stdin(script).read().map(|_| ())
}

/// The script of [`end_sessions`].
pub fn end_script(application: &str) -> String {
    let own = format!("application_name = {} and datname = current_database()", literal(application));
    sql::end_sessions(&own, &format!("of {application}"))
}

/// The sessions that hold locks on tables in a product's database, the longest first, in words.
pub fn lock_holders(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let script = "select pid || ' (' || concat_ws(', ', usename, nullif(application_name, ''), state,
                    'for ' || extract(epoch from now() - xact_start)::int || ' s') || ')'
                  from pg_stat_activity
                  where pid <> pg_backend_pid() and pid in (
                    select l.pid from pg_locks l join pg_database d on d.oid = l.database
                    where l.granted and l.locktype = 'relation' and d.datname = current_database())
                  order by xact_start;\n";
    let rows = as_product(cx, deployment, &[])?.stdin(script).read()?;
    Ok(rows.lines().map(String::from).collect())
}

/// Who else uses the tables that something is to be done to, where that is in the way.
pub fn explain_lock(cx: &Context, deployment: Option<&Deployment>, error: Error, done: &str) -> Error {
    let text = format!("{error:#}");
    // pg_dump prints no code.
    if !sqlstate::has(&text, &["55P03", "40P01"]) && !text.contains("lock timeout") {
        return error;
    }
    let holders = deployment.and_then(|deployment| lock_holders(cx, deployment).ok());
    let holders = holders.unwrap_or_default().join("; ");
    let message = format!("others use the tables that are to be {done}: {holders}");
    error.context(Failure::new(Exit::Failed, message).hint("stop what uses them, then run this again"))
}

/// Runs a script that only reads in a product's database, or in another one as the product.
pub fn query(cx: &Context, place: &Place, dsn: &Dsn, script: impl Into<String>) -> Invocation {
    reading(cx, place, dsn.environment(), script.into())
}

/// The same of a script that changes something.
pub fn change(cx: &Context, place: &Place, dsn: &Dsn, script: impl Into<String>) -> Invocation {
    psql(cx, place, dsn.environment(), script.into())
}

/// Who may create databases, and alter what others own: the administrator of a server that is a service, else the product.
fn owner(cx: &Context, deployment: &Deployment) -> Vec<(String, String)> {
    pooler::server_of(cx, deployment).map_or_else(|| deployment.dsn.environment(), administrator::variables)
}

/// The same in a product's database.
fn owner_there(cx: &Context, deployment: &Deployment, variables: &[(&str, &str)]) -> Vec<(String, String)> {
    with(with(owner(cx, deployment), &[("PGDATABASE", &deployment.dsn.database)]), variables)
}

/// Calls what runs as an administrator so: where that one isn't let in, it is no fault of the product's.
pub(crate) fn as_administrator(client: Invocation, program: &str, place: &Place) -> Invocation {
    match place {
        Place::Container(name) => client.called(administrator::called(program, name)),
        Place::Client { .. } => client,
    }
}

/// Runs a script as who may create databases.
pub fn administer(cx: &Context, place: &Place, deployment: &Deployment, script: String) -> Invocation {
    as_administrator(psql(cx, place, owner(cx, deployment), script), "psql", place)
}

/// The database to be in while no session may be in the product's.
pub fn beside(deployment: &Deployment) -> &'static str {
    // Nobody stays there: who makes a database copies it.
    if deployment.dsn.database == MAINTENANCE_DATABASE { "template1" } else { MAINTENANCE_DATABASE }
}

/// What no signal ends, only the time of a wait: it takes a moment, and what it has begun must be known to be done.
pub fn unending(cx: &Context, psql: Invocation) -> Invocation {
    psql.uninterrupted().within(cx.options.wait())
}

/// The same while no session may be in the product's database. No signal ends it.
pub fn maintain(cx: &Context, place: &Place, deployment: &Deployment, script: String) -> Invocation {
    let psql = psql(cx, place, with(owner(cx, deployment), &[("PGDATABASE", beside(deployment))]), script);
    unending(cx, as_administrator(psql, "psql", place))
}

/// psql in a product's database as who may alter what others own there. It takes as long as it takes.
pub fn as_owner(
    cx: &Context,
    place: &Place,
    deployment: &Deployment,
    variables: &[(&str, &str)],
) -> Invocation {
    let psql = psql(cx, place, owner_there(cx, deployment, variables), String::new());
    let psql = as_administrator(psql, "psql", place);
    psql.within(cx.options.timeout)
}

/// pg_dump, or pg_restore, as the same.
pub fn owner_tool(
    cx: &Context,
    place: &Place,
    deployment: &Deployment,
    variables: &[(&str, &str)],
    words: &[&str],
) -> Invocation {
    let client = client::program(cx, place, owner_there(cx, deployment, variables), words);
    long(cx, as_administrator(client, words.first().copied().unwrap_or_default(), place), words)
}

/// What a product's schema has, where a failure's text fits several causes.
pub fn evidence(cx: &Context, deployment: &Deployment) -> Result<Evidence> {
    let place = running_place(cx, deployment)?;
    let said = query(cx, &place, &deployment.dsn, Evidence::SCRIPT).read()?;
    Ok(Evidence::read(&said))
}
