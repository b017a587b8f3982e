//! Failures of a schema: rights in it, and tables that are there or not.

use super::evidence;
use super::row::{ROW, Row};
use crate::applied;

/// One text, many causes: what is there already was made by somebody.
const EXISTS: &[&str] = &[
    "relation \"*\" already exists",
    "type \"*\" already exists",
    "column \"*\" of relation \"*\" already exists",
    "constraint \"*\" for relation \"*\" already exists",
    "already exists (SQLSTATE 42710)",
    "duplicate key value violates unique constraint \"pg_*",
    "duplicate key value violates unique constraint \"schema_migration_*",
];
const TIMEOUT: &[&str] = &["canceling statement due to statement timeout", "SQLSTATE 57014"];
const NO_TABLE: &[&str] = &["Unable to locate the table", "Migrations were not applied yet"];
const NO_RIGHT: &[&str] = &[
    "permission denied for table * (",
    "permission denied for table *",
    "permission denied for sequence *",
    "must be owner of * * (",
    "must be owner of * *",
];

/// Another run made it at the same time: told by the text here, and by the code alone in `state`, as all that follow.
pub(super) const OTHER_RUN: Row = Row {
    id: "other-run",
    any: &["unique constraint \"pg_*", "unique constraint \"schema_migration_*"],
    message: "another migration of {product} ran at the same time",
    hint: "{migrate}",
    ..ROW
};

/// The same, where the database tells.
pub(super) const DOUBLED: Row = Row {
    id: "other-run",
    any: EXISTS,
    when: Some(evidence::is_doubled),
    message: "another migration of {product} ran at the same time: {other}",
    hint: "{migrate}",
    ..ROW
};

/// What is there already was made by a migration that was killed.
pub(super) const KILLED: Row = Row {
    id: "killed-migration",
    any: &[
        "constraint \"session_token_exchanges_nid_fk\" *already exists (SQLSTATE 42710)",
        "column \"external_id\" of relation \"identities\" already exists (SQLSTATE 42701)",
    ],
    message: "a migration of {product} was killed before it was noted as applied: {version}",
    hint: "{XTASK} repair {product}",
    ..ROW
};

/// What is there already is another product's.
pub(super) const SHARED: Row = Row {
    id: "shared-schema",
    any: EXISTS,
    when: Some(evidence::is_of_others),
    message: "the schema {schema} of the database {database} has the tables of {products}: {product} needs its own",
    hint: "{XTASK} split, which gives each its own; rows are copied and compared",
    ..ROW
};

/// What is there already was made by what a lost row had noted.
pub(super) const ROW_LOST: Row = Row {
    id: "row-lost",
    any: EXISTS,
    when: Some(evidence::lost_a_row),
    message: "schema_migration of the database {database} has lost the row {version}: later ones are there",
    hint: "{XTASK} repair {product}",
    ..ROW
};

/// The same of all rows.
pub(super) const BOOKKEEPING_LOST: Row = Row {
    id: "bookkeeping-lost",
    any: EXISTS,
    when: Some(evidence::lost_its_rows),
    message: "the database {database} has {product}'s tables, and has lost what was applied: schema_migration",
    hint: "restore that table from a backup: {restore} -t schema_migration -I schema_migration_version_idx \
           -I schema_migration_version_self_idx < {dump}",
    ..ROW
};

pub const ROWS: &[Row] = &[
    OTHER_RUN,
    DOUBLED,
    KILLED,
    Row {
        id: "killed-migration",
        any: &["YOUR DATABASE MAY BE IN AN INCONSISTENT STATE"],
        message: "a migration of {product} was applied, and could not be noted as applied",
        hint: "{XTASK} repair {product}",
        ..ROW
    },
    SHARED,
    Row {
        id: "application-tables",
        any: EXISTS,
        when: Some(evidence::is_of_an_application),
        message: "the schema {schema} of the database {database} has tables of an application, among them {1}",
        hint: "{XTASK} split, which gives each its own; rows are copied and compared",
        ..ROW
    },
    ROW_LOST,
    BOOKKEEPING_LOST,
    Row {
        id: "tables-half-dropped",
        any: EXISTS,
        when: Some(evidence::is_half_there),
        message: "the database {database} has some of {product}'s tables, among them {1}, and lacks others",
        hint: "{XTASK} restore latest {product}",
        ..ROW
    },
    Row {
        id: "table-missing",
        any: NO_TABLE,
        when: Some(evidence::is_migrated),
        message: "the database {database} is migrated, but a table of {product} is missing: networks",
        hint: "{XTASK} restore latest {product}",
        ..ROW
    },
    Row {
        id: "not-migrated",
        any: NO_TABLE,
        message: "{product} serves a database that was not migrated",
        hint: "{migrate} && {XTASK} restart {service}",
        ..ROW
    },
    Row {
        id: "table-missing",
        any: &["relation \"*\" does not exist (SQLSTATE 42P01)"],
        message: "a table of {product} is missing from the database {database}: {1}",
        hint: "{XTASK} restore latest {product}",
        ..ROW
    },
    Row {
        id: "schema-missing",
        any: &[applied::NOWHERE, "SQLSTATE 3F000"],
        message: "the database {database} has no schema {schema}, which the search_path of {product}'s DSN names",
        hint: "{inside} -c 'create schema \"{schema}\" authorization \"{role}\"'; or, on a server of the stack, \
               --create-databases makes it",
        ..ROW
    },
    Row {
        id: "schema-usage",
        any: &[applied::UNUSABLE],
        message: "the role {role} may not use the schema {schema}, which the search_path of {product}'s DSN names",
        hint: "{inside} -c 'grant usage, create on schema \"{schema}\" to \"{role}\"'",
        ..ROW
    },
    Row {
        id: "schema-right",
        any: &["permission denied for schema *"],
        message: "the role {role} lacks rights in the database {database}: it may make no tables in the schema {schema}",
        hint: "{psql} -c 'alter database \"{database}\" owner to \"{role}\"'",
        ..ROW
    },
    Row {
        id: "extension-right",
        any: &["permission denied to create extension \"*\""],
        message: "the role {role} lacks rights in the database {database}: it may not make the extension {1}",
        hint: "{psql} -c 'alter database \"{database}\" owner to \"{role}\"'",
        ..ROW
    },
    Row {
        id: "other-owner",
        any: NO_RIGHT,
        when: Some(evidence::has_another_owner),
        message: "tables in {database} belong to the role {owner}, not to {role}",
        hint: "{inside} -c 'do $$ declare t regclass; begin for t in select oid from pg_class where \
               relkind = $q$r$q$ and relnamespace = $q$\"{schema}\"$q$::regnamespace and relowner = \
               $q$\"{owner}\"$q$::regrole loop execute format($q$alter table %s owner to \"{role}\"$q$, t); \
               end loop; end $$'",
        ..ROW
    },
    Row {
        id: "extension-missing",
        any: &["extension \"*\" is not available", "could not open extension control file \"*\""],
        message: "the PostgreSQL of `{server}` has no extension {1}",
        hint: "name an image that has PostgreSQL's contrib modules, as the official one does (POSTGRES_IMAGE in .env)",
        ..ROW
    },
    Row {
        id: "search-path",
        any: &[
            "function * does not exist (SQLSTATE 42883)",
            "operator class \"*\" does not exist for access method",
        ],
        message: "{1} is of an extension in another schema than {schema}, and the search_path of {product}'s DSN leaves it out",
        hint: "add the extension's schema to the DSN: search_path={schema},public",
        ..ROW
    },
    Row {
        id: "duplicates",
        any: &["could not create unique index \"*\""],
        message: "rows in {database} are double, and {product}'s new index {1} allows none",
        hint: "see which: {inside} -c '\\d \"{1}\"'",
        ..ROW
    },
    Row {
        id: "lock",
        any: &["canceling statement due to lock timeout"],
        message: "another session had tables of {database} locked, for longer than {product} waits",
        hint: "{migrate}",
        ..ROW
    },
    Row {
        id: "statement-timeout",
        any: TIMEOUT,
        when: Some(evidence::has_timeout),
        message: "a statement of {product} took longer than the statement_timeout allows that is set on the {setting}",
        hint: "{psql} -c '{alter} set statement_timeout = 0'",
        ..ROW
    },
    Row {
        id: "statement-timeout",
        any: TIMEOUT,
        message: "a statement of {product} took longer than statement_timeout allows, which the server or {product}'s DSN sets",
        hint: "{psql} -c 'alter role \"{role}\" set statement_timeout = 0', if the DSN sets none",
        ..ROW
    },
    Row {
        id: "row-security",
        any: &["query would be affected by row-level security policy for table \"*\""],
        message: "a row-level security policy hides rows of the table {1} from the role {role}, which is to read all of them",
        hint: "{inside} -c 'alter table \"{schema}\".\"{1}\" no force row level security'",
        ..ROW
    },
];

/// Where the database couldn't be asked, or no line says more.
pub const LAST: &[Row] = &[
    Row {
        id: "already-exists",
        any: EXISTS,
        message: "the database {database} has {1} already, which a migration of {product} is to make: one was killed, or \
                  tables were dropped",
        hint: "{XTASK} repair {product}",
        ..ROW
    },
    Row {
        id: "already-gone",
        any: &[
            "constraint \"*\" of relation \"*\" does not exist",
            "column \"*\" of relation \"*\" does not exist",
            "index \"*\" does not exist (SQLSTATE 42704)",
        ],
        message: "the database {database} lacks {1}, which a migration of {product} is to change: it may have been applied, \
                  and what was noted of it lost",
        hint: "{XTASK} repair {product}",
        ..ROW
    },
];
