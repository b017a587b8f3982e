//! Why a server lets a product's role not in. What psql prints of that is in the server's language, and has no SQLSTATE: the
//! administrator is asked.

use ory_facts::sql::literal;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::{pooler, postgres, server_ready};

/// The words that the facts know it by; none where the server doesn't answer, or nobody can be asked.
pub fn denied(cx: &Context, deployment: &Deployment) -> Option<String> {
    pooler::server_of(cx, deployment)?;
    if !server_ready::answers(cx, deployment) {
        return None;
    }
    let place = postgres::running_place(cx, deployment).ok()?;
    let asked = postgres::administer(cx, &place, deployment, script(deployment)).read();
    Some(asked.ok()?.trim_end().to_string()).filter(|said| !said.is_empty())
}

/// Where all of that is as it should be, the password is left.
fn script(deployment: &Deployment) -> String {
    let [role, database] = [&deployment.dsn.user, &deployment.dsn.database].map(|name| literal(name));
    format!(
        "select case when not exists (select from pg_roles where rolname = {role})
             then format('FATAL:  role \"%s\" does not exist', {role})
           when not (select rolcanlogin from pg_roles where rolname = {role}) then 'is not permitted to log in'
           when not exists (select from pg_database where datname = {database})
             then format('FATAL:  database \"%s\" does not exist', {database})
           when not (select datallowconn from pg_database where datname = {database})
             then format('database \"%s\" is not currently accepting connections', {database})
           when not has_database_privilege({role}, {database}, 'connect') then 'permission denied for database'
           when (select rolconnlimit between 0 and (select count(*) from pg_stat_activity where usename = {role})
             from pg_roles where rolname = {role}) then 'too many connections for role'
           else 'password authentication failed' end;\n"
    )
}
