//! What PostgreSQL's own code says where no line is known: in another language the causes are the same.

use super::row::{ROW, Row};
use super::{evidence, schema};

pub const ROWS: &[Row] = &[
    Row {
        id: "let-in",
        any: &["SQLSTATE 28000"],
        stays: true,
        message: "`{server}` doesn't let {role} in from here: it has no such role, or the role may not log in, or pg_hba.conf has no \
                  line for it",
        hint: "see which: {psql} -c '\\du {role:name}'",
        ..ROW
    },
    Row {
        id: "no-connections",
        any: &["SQLSTATE 55000"],
        message: "the database {database} takes no connections, or something in it isn't in the state that {product} needs",
        hint: "see which: {psql} -c '\\l {database:name}'; where it takes none: {psql} -c 'alter database \"{database}\" \
               allow_connections true'",
        ..ROW
    },
    Row {
        id: "dsn-parameter",
        any: &["SQLSTATE 55P02", "failed to connect to `*SQLSTATE 42704"],
        stays: true,
        message: "{product}'s DSN has a parameter which can't be set there",
        hint: "remove it from the DSN; for TLS it is sslmode=require, without sslmode=disable",
        ..ROW
    },
    Row {
        id: "connection-lost",
        any: &["SQLSTATE 57P02"],
        message: "the connection to `{server}` was lost midway: it was stopped, or it crashed",
        hint: "{start}",
        ..ROW
    },
    Row { any: &["pg_*SQLSTATE 23505", "schema_migration*SQLSTATE 23505"], ..schema::OTHER_RUN },
    Row {
        any: &["session_token_exchanges_nid_fk*SQLSTATE 42710", "external_id*identities*SQLSTATE 42701"],
        ..schema::KILLED
    },
    Row { any: EXISTS, ..schema::DOUBLED },
    Row { any: EXISTS, ..schema::SHARED },
    Row {
        id: "application-tables",
        any: EXISTS,
        when: Some(evidence::is_of_an_application),
        message: "the schema {schema} of the database {database} has tables of an application",
        hint: "{XTASK} split, which gives each its own; rows are copied and compared",
        ..ROW
    },
    Row { any: EXISTS, ..schema::ROW_LOST },
    Row { any: EXISTS, ..schema::BOOKKEEPING_LOST },
    Row {
        id: "tables-half-dropped",
        any: EXISTS,
        when: Some(evidence::is_half_there),
        message: "the database {database} has some of {product}'s tables, and lacks others",
        hint: "{XTASK} restore latest {product}",
        ..ROW
    },
    Row {
        id: "already-exists",
        any: EXISTS,
        message: "the database {database} has something already, which a migration of {product} is to make: one was killed, or \
                  tables were dropped",
        hint: "{XTASK} repair {product}",
        ..ROW
    },
    Row {
        id: "duplicates",
        any: &["SQLSTATE 23505"],
        message: "rows in {database} are double, and a new index of {product} allows none",
        hint: "see which index: {XTASK} status --sql",
        ..ROW
    },
    Row {
        id: "table-missing",
        any: &["SQLSTATE 42P01"],
        message: "a table of {product} is missing from the database {database}",
        hint: "{XTASK} status --drift",
        ..ROW
    },
    Row {
        id: "search-path",
        any: &["SQLSTATE 42883", "_ops*SQLSTATE 42704"],
        message: "what an extension has isn't found: it is in another schema than {schema}, and the search_path of {product}'s \
                  DSN leaves it out",
        hint: "add the extension's schema to the DSN: search_path={schema},public",
        ..ROW
    },
    Row {
        id: "already-gone",
        any: &["SQLSTATE 42703", "SQLSTATE 42704"],
        message: "the database {database} lacks something which a migration of {product} is to change: it may have been applied, \
                  and what was noted of it lost",
        hint: "{XTASK} repair {product}",
        ..ROW
    },
    Row {
        id: "extension-missing",
        any: &["SQLSTATE 0A000", "SQLSTATE 58P01"],
        message: "the PostgreSQL of `{server}` has not all the extensions that {product} needs",
        hint: "name an image that has PostgreSQL's contrib modules, as the official one does (POSTGRES_IMAGE in .env)",
        ..ROW
    },
    Row {
        id: "lock",
        any: &["SQLSTATE 55P03", "SQLSTATE 40P01"],
        message: "another session had tables of {database} locked, for longer than {product} waits",
        hint: "{migrate}",
        ..ROW
    },
    Row {
        id: "other-owner",
        any: &["SQLSTATE 42501"],
        when: Some(evidence::has_another_owner),
        message: "tables in {database} belong to the role {owner}, not to {role}",
        hint: "have them given to it: {inside} -c 'reassign owned by \"{owner}\" to \"{role}\"', where {owner} has nothing else \
               there",
        ..ROW
    },
];

const EXISTS: &[&str] = &["SQLSTATE 42P07", "SQLSTATE 42710", "SQLSTATE 42701"];

/// What the code says of a right, where nothing says more.
pub const RIGHT: &[Row] = &[Row {
    id: "right",
    any: &["SQLSTATE 42501", "ERROR:  permission denied"],
    message: "the role {role} lacks rights in the database {database}",
    hint: "{psql} -c 'alter database \"{database}\" owner to \"{role}\"'",
    ..ROW
}];
