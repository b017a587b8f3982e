//! Roles, databases and schemas that DSNs name and a server of the stack lacks, made by its administrator. What exists is never
//! altered.

use anyhow::Result;
use ory_facts::dsn::Dsn;
use ory_facts::sql::{self, CREATING, UNLOGGED, argument, conninfo, identifier, literal};
use ory_runner::process::Invocation;
use ory_stack::checks::storage::CREATE_LABEL;
use ory_stack::random::random;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::administrator;
use crate::client::Place;
use crate::context::Context;
use crate::diagnosis;
use crate::lock::Locked;
use crate::postgres::{as_administrator, psql};

/// Runs [`create_query`], and returns what it printed.
pub fn create(
    cx: &Locked,
    server: &Service,
    products: &[&Deployment],
    may_create: &MayCreate,
) -> Result<String> {
    let container = cx.container_name(&cx.listed()?, server);
    let created = create_query(cx, &container, server, products, may_create)?.read();
    let created = created.map_err(|error| match products.first() {
        Some(first) => diagnosis::without_administrator(cx, first, error).unwrap_or_else(|error| error),
        None => error,
    })?;
    // What was made just now needn't be looked at.
    let is_made =
        |database: &str| created.lines().any(|line| line.strip_prefix("database ") == Some(database));
    let made = products.iter().filter(|deployment| is_made(&deployment.dsn.database));
    made.for_each(|deployment| cx.engine.cache().set_new(deployment.product));
    Ok(created)
}

/// Creates, on a server, the roles and databases of these products that it lacks and that may be created.
/// Prints what it created, a line each. What exists is never altered.
pub fn create_query(
    cx: &Context,
    container: &str,
    server: &Service,
    products: &[&Deployment],
    may_create: &MayCreate,
) -> Result<Invocation> {
    let is_listed = |name: &str| creatable(server).iter().any(|allowed| allowed == name);
    let allows = |name: &str| *may_create == MayCreate::Any || is_listed(name);
    let mut script = format!("{CREATING}{UNLOGGED}");
    for dsn in products.iter().map(|deployment| &deployment.dsn) {
        let Dsn { user, password, database, .. } = dsn;
        let (role, owned) = (identifier(user), identifier(database));
        if allows(user) {
            let secret = literal(&ory_facts::scram::secret(password, &random(16)?));
            let create = format!("create role {role} login password {secret}");
            script += &unless_there("pg_roles where rolname", "role", user, &create);
        }
        if allows(database) {
            let create = format!("create database {owned} owner {role}");
            script += &unless_there("pg_database where datname", "database", database, &create);
        }
    }
    for dsn in products.iter().map(|deployment| &deployment.dsn) {
        if dsn.schema().is_some_and(|schema| allows(&schema)) {
            script += &create_schema(dsn);
        }
    }
    let place = Place::Container(container.into());
    Ok(as_administrator(psql(cx, &place, administrator::variables(server), script), "psql", &place))
}

/// psql commands that create an object unless the catalog has it, and then print a line about it. Somebody else may make it
/// at the same moment: then it is there, by either catalog's word for it.
fn unless_there(catalog: &str, kind: &str, name: &str, create: &str) -> String {
    let name = literal(name);
    format!(
        "select not exists (select from {catalog} = {name}) as missing \\gset\n\\if :missing\n\
         \\set ON_ERROR_STOP 0\n{create};\n\\set own_state :SQLSTATE\n\\set ON_ERROR_STOP 1\n\
         select :'own_state' in ('23505', '42P04', '42710') as is_there, :'own_state' = '00000' as is_made \\gset\n\
         \\if :is_made\nselect '{kind} ' || {name};\n\\elif :is_there\n\\else\n{create};\n\\endif\n\\endif\n"
    )
}

/// Creates the first schema that a DSN names where none of them is there: else tables that are in another one would be out of
/// sight.
fn create_schema(dsn: &Dsn) -> String {
    let (schemas, database) = (dsn.schemas().unwrap_or_default(), &dsn.database);
    let Some(schema) = schemas.first() else { return String::new() };
    let names: Vec<_> = schemas.iter().map(|name| literal(name)).collect();
    let create = format!("create schema {} authorization {}", identifier(schema), identifier(&dsn.user));
    format!(
        "select exists (select from pg_database where datname = {} and datallowconn) as is_there \\gset\n\
         \\if :is_there\n\\connect -reuse-previous=on {}\n{}\
         select not exists (select from pg_namespace where nspname in ({})) as is_nowhere \\gset\n\
         \\if :is_nowhere\n{}\\endif\n\\endif\n",
        literal(database),
        argument(&format!("dbname={}", conninfo(database))),
        sql::writing(),
        names.join(", "),
        unless_there("pg_namespace where nspname", "schema", schema, &create),
    )
}

/// Which roles and databases may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayCreate {
    /// Those that the label of the database service names: a second witness against a typo in a DSN.
    Labelled,
    /// Whatever a DSN names: asked for by `--create-databases`.
    Any,
}

/// The names that the label of a server lists.
fn creatable(server: &Service) -> Vec<String> {
    let names = server.labels.get(CREATE_LABEL).map(String::as_str).unwrap_or_default();
    names.split([',', ' ']).filter(|name| !name.is_empty()).map(String::from).collect()
}
