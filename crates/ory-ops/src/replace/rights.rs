//! What a role must be allowed to do before a database, or a schema, can be replaced: said before anything is done, and by a
//! backup, before it is needed.

use anyhow::{Error, Result, bail};
use ory_facts::next::XTASK;
use ory_facts::sql::{identifier, literal};
use ory_runner::failure::{Exit, Failure};
use ory_stack::stack::Deployment;

use super::replaceable::Replaceable;
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::pooler;
use crate::postgres;
use crate::target::Target;

/// Fails with what the role may not do. Returns whether there is something to be replaced.
pub fn require(cx: &Context, target: &Target, place: &Place, replaced: &dyn Replaceable) -> Result<bool> {
    let deployment = target.main()?;
    let asked = postgres::maintain(cx, place, deployment, rights(target)).read();
    let asked = asked.map_err(|error| {
        diagnosis::without_administrator(cx, deployment, error)
            .unwrap_or_else(|error| no_maintenance(cx, target, deployment, error))
    });
    let mut rights = asked?;
    rights += &replaced.rights().map_err(|error| diagnosis::of_product(cx, deployment, error))?;
    refuse_without_rights(target, &rights)?;
    Ok(rights.lines().any(|line| line == "there"))
}

/// Why a backup of this can't be put in its place, with what would let it; none where it can.
pub fn missing(cx: &Context, target: &Target) -> Result<Option<String>> {
    let place = postgres::running_place(cx, target.main()?)?;
    let Err(error) = require(cx, target, &place, &*super::replaceable(cx, target, &place)) else {
        return Ok(None);
    };
    let names = target.names(", ");
    let hint = Failure::hint_of(&error).map_or_else(String::new, |hint| format!("; {hint}"));
    Ok(Some(format!("{names}: a restore could not put it in its place: {error}{hint}")))
}

/// A line for each thing that the role may do, and for what is there.
fn rights(target: &Target) -> String {
    let creates =
        "select 'creates' from pg_roles where rolname = current_user and (rolcreatedb or rolsuper);\n";
    if target.schema.is_some() {
        return creates.into();
    }
    let database = literal(target.database());
    format!(
        "{creates}\
         select 'owns' from pg_database where datname = {database} and pg_has_role(datdba, 'usage')\n\
         union all select 'owns' where not exists (select from pg_database where datname = {database});\n\
         select 'there' from pg_database where datname = {database};\n"
    )
}

fn refuse_without_rights(target: &Target, rights: &str) -> Result<()> {
    let (role, database) = (&target.main()?.dsn.user, target.database());
    let may = |right: &str| rights.lines().any(|line| line == right);
    let named = identifier(role);
    let (message, sql) = match (may("creates"), may("owns"), &target.schema) {
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
            format!("the role {role} may not rename {}", target.in_words()),
            format!(
                "alter schema {} owner to {named}; grant create on database {} to {named}",
                identifier(schema),
                identifier(database)
            ),
        ),
    };
    let hint = format!(
        "have an administrator run: {sql}; or make an empty database, and: {XTASK} restore BACKUP --into NAME"
    );
    bail!(Failure::new(Exit::Failed, message).hint(hint))
}

fn no_maintenance(cx: &Context, target: &Target, deployment: &Deployment, error: Error) -> Error {
    let beside = postgres::beside(deployment);
    if let Some(pooler) = deployment.server.filter(|service| pooler::is_pooler(cx, service)) {
        let (product, pooler) = (deployment.product, &pooler.name);
        let message = format!(
            "{} can't be replaced through `{pooler}`: it takes sessions in other databases of the server",
            target.in_words()
        );
        let hint = format!(
            "give {product} a one-shot service that migrates past `{pooler}`, with a DSN that names the server itself: xtask \
             takes that one"
        );
        return error.context(Failure::new(Exit::Failed, message).hint(hint));
    }
    let message =
        format!("{} can't be replaced: it takes a session in the database {beside}", target.in_words());
    let hint = format!(
        "have an administrator run: grant connect on database {beside} to public; or make an empty database, and: \
         {XTASK} restore BACKUP --into NAME"
    );
    error.context(Failure::new(Exit::Failed, message).hint(hint))
}
