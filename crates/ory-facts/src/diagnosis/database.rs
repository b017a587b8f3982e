//! Failures on the way to the database, and of the server itself.

use super::evidence;
use super::row::{ROW, Row};

const READ_ONLY: &[&str] = &["in a read-only transaction", "during recovery", "SQLSTATE 25006"];

/// As psql says it, and as Ory's driver does.
pub const ROWS: &[Row] = &[
    Row {
        id: "password",
        any: &[
            "password authentication failed",
            "SQLSTATE 28P01",
            "no password supplied",
            "FATAL:  role \"*\" does not exist",
            "role \"*\" does not exist (SQLSTATE 28000)",
        ],
        stays: true,
        message: "`{server}` knows no role {role} with the password of {product}'s DSN",
        hint: "put back the password that its data was created with, or set the new one: {psql} -c '\\password {role:name}'",
        ..ROW
    },
    Row {
        id: "login",
        any: &["is not permitted to log in"],
        stays: true,
        message: "the role {role} may not log in",
        hint: "{psql} -c 'alter role \"{role}\" login'",
        ..ROW
    },
    Row {
        id: "pg_hba",
        any: &["no pg_hba.conf entry for *", "pg_hba.conf rejects connection"],
        stays: true,
        message: "`{server}` lets no {role} in from here: its pg_hba.conf has no line for it",
        hint: "add the line, or ask for TLS where it wants that: sslmode=require in the DSN",
        ..ROW
    },
    Row {
        id: "database-missing",
        any: &["FATAL:  database \"*\" does not exist", "SQLSTATE 3D000"],
        stays: true,
        message: "`{server}` has no database {database}, which {product}'s DSN names",
        hint: "fix the DSN, or create the database: {psql} -c 'create database \"{database}\" owner \"{role}\"'",
        ..ROW
    },
    Row {
        id: "connect-right",
        any: &["permission denied for database"],
        stays: true,
        message: "the role {role} may not connect to the database {database}",
        hint: "{psql} -c 'grant connect on database \"{database}\" to \"{role}\"'",
        ..ROW
    },
    Row {
        id: "no-connections",
        any: &["database \"*\" is not currently accepting connections"],
        stays: true,
        message: "the database {database} takes no connections: it is set so, as by a `restore` or `reset` that was killed \
                  while it swapped databases",
        hint: "where nothing is at work on it: {psql} -c 'alter database \"{database}\" allow_connections true'",
        ..ROW
    },
    Row {
        id: "dsn-parameter",
        any: &["parameter \"*\" cannot be changed now", "unrecognized configuration parameter \"*\""],
        stays: true,
        message: "{product}'s DSN has the parameter {1}, which can't be set there",
        hint: "remove it from the DSN; for TLS it is sslmode=require, without sslmode=disable",
        ..ROW
    },
    Row {
        id: "tls",
        any: &["server refused TLS connection", "server does not support SSL"],
        stays: true,
        message: "`{server}` speaks no TLS, which sslmode in {product}'s DSN asks for",
        hint: "write sslmode=disable in the DSN, if nobody else is on that network",
        ..ROW
    },
    Row {
        id: "certificate",
        any: &[
            "x509: certificate signed by *",
            "x509: certificate has expired *",
            "certificate verify failed",
        ],
        stays: true,
        message: "the certificate of `{server}` isn't trusted: another authority signed it, or it has expired",
        hint: "name the authority that signed it in the DSN: sslrootcert=FILE",
        ..ROW
    },
    Row {
        id: "certificate-host",
        any: &["x509: certificate is valid for *, not *", "server certificate for \"*\"*does not match host"],
        stays: true,
        message: "the certificate of `{server}` is for {1}, which isn't the host in {product}'s DSN",
        hint: "write the host in the DSN as the certificate has it: {1}",
        ..ROW
    },
    Row {
        id: "connections",
        any: &[
            "too many connections for *",
            "too many clients already",
            "remaining connection slots",
            "SQLSTATE 53300",
        ],
        message: "`{server}` has no connection left for {role}",
        hint: "see who has them: {psql} -c 'select usename, datname, state, count(*) from pg_stat_activity group by 1, 2, 3'",
        ..ROW
    },
    Row {
        id: "server-starting",
        any: &["FATAL:  the database system is *", "SQLSTATE 57P03"],
        message: "`{server}` is starting, or stopping",
        hint: "run this again in a moment; if it stays so: {logs}",
        ..ROW
    },
    Row {
        id: "host",
        any: &["could not translate host name", "failed to connect to `*no such host"],
        message: "the host in {product}'s DSN is not found",
        hint: "fix the host in the DSN, or start it: {start}",
        ..ROW
    },
    Row {
        id: "refused",
        any: &["failed to connect to `*connection refused", "connection to server*Connection refused"],
        message: "`{server}` takes no connections at the port of {product}'s DSN",
        hint: "fix the port in the DSN, or look at its log: {logs}",
        ..ROW
    },
    Row {
        id: "frozen",
        any: &[
            "failed to connect to `*context deadline exceeded",
            "connection to server*timeout expired",
            "is paused, unpause the container",
        ],
        message: "`{server}` doesn't answer: it is paused, or frozen",
        hint: "{unpause}",
        ..ROW
    },
    Row {
        id: "connection-lost",
        any: &[
            "terminating connection due to *",
            "SQLSTATE 57P01",
            "server closed the connection unexpectedly",
            "connection reset by peer",
            "migrations: unexpected EOF",
            "failed to receive message: unexpected EOF",
        ],
        message: "the connection to `{server}` was lost midway: it was stopped, or it crashed",
        hint: "{start}",
        ..ROW
    },
    Row {
        id: "disk-full",
        any: &["No space left on device", "SQLSTATE 53100"],
        message: "no space is left where `{server}` keeps its data",
        hint: "make room; see what Docker holds: docker system df",
        ..ROW
    },
    Row {
        id: "standby",
        any: READ_ONLY,
        when: Some(evidence::is_standby),
        message: "`{server}` is a standby: it follows another server, and takes no writes itself",
        hint: "name the primary in {product}'s DSN",
        ..ROW
    },
    Row {
        id: "read-only",
        any: READ_ONLY,
        when: Some(evidence::is_set_read_only),
        message: "the database {database} takes no writes: default_transaction_read_only is set on the {setting}",
        hint: "{psql} -c '{alter} set default_transaction_read_only = off'",
        ..ROW
    },
    Row {
        id: "read-only",
        any: READ_ONLY,
        message: "the database {database} takes no writes: `{server}` or {product}'s DSN sets default_transaction_read_only",
        hint: "see which: {inside} -c 'select pg_is_in_recovery(), current_setting($q$default_transaction_read_only$q$)'",
        ..ROW
    },
];

/// As PostgreSQL's own log says it.
pub const OF_ITS_LOG: &[Row] = &[
    Row {
        id: "volume-major",
        any: &["initialized by PostgreSQL version *, which is not compatible with this version *."],
        message: "the data of `{server}` is of PostgreSQL {1}, its image of PostgreSQL {2}",
        hint: "name an image of PostgreSQL {1} again (POSTGRES_IMAGE in .env, in our stack); to move on: {XTASK} upgrade db --to {2}",
        ..ROW
    },
    Row {
        id: "superuser-password",
        any: &["superuser password is not specified"],
        message: "`{server}` has no POSTGRES_PASSWORD, which a new volume needs",
        hint: "set POSTGRES_PASSWORD in the environment of `{server}`",
        ..ROW
    },
    Row {
        id: "volume-rights",
        any: &["data directory \"*\" has wrong ownership", "data directory \"*\" has invalid permissions"],
        message: "the data of `{server}`, at {1}, belongs to another user than the one it runs as",
        hint: "{chown}",
        ..ROW
    },
    Row {
        id: "disk-full",
        any: &["No space left on device"],
        message: "no space is left where `{server}` keeps its data",
        hint: "make room; see what Docker holds: docker system df",
        ..ROW
    },
];

/// Where no line says more: a malformed file ends in these words too.
pub const LAST: &[Row] = &[Row {
    id: "connection-lost",
    any: &["^unexpected EOF"],
    message: "the connection to `{server}` was lost midway: it was stopped, or it crashed",
    hint: "{start}",
    ..ROW
}];
