//! A failure's text -> its cause and the next command. A table; the first row that fits wins.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::process::{CommandError, Invocation};
use crate::stack::Deployment;

/// A row: texts of which one must occur, the cause, and the next command. `{role}`, `{database}`,
/// `{server}`, `{product}`, `{psql}` (as its administrator), `{logs}` and `{address}` stand for the stack's own.
struct Row {
    any: &'static [&'static str],
    cause: &'static str,
    hint: &'static str,
}

/// Failures around a product's database.
const DATABASE: &[Row] = &[
    Row {
        any: &["password authentication failed", "SQLSTATE 28P01"],
        cause: "`{server}` knows no role {role} with the password of {product}'s DSN",
        hint: "put the password back that its data was made with, or set the new one: \
               {psql} -c '\\password {role}'",
    },
    Row {
        any: &["is not permitted to log in", "SQLSTATE 28000"],
        cause: "the role {role} may not log in",
        hint: "{psql} -c 'alter role \"{role}\" login'",
    },
    Row {
        any: &["database \"{database}\" does not exist", "SQLSTATE 3D000"],
        cause: "`{server}` has no database {database}, which {product}'s DSN names",
        hint: "mend the DSN, or create the database: \
               {psql} -c 'create database \"{database}\" owner \"{role}\"'",
    },
    Row {
        any: &["permission denied for table schema_migration"],
        cause: "the tables in {database} belong to another role than {role}",
        hint: "{psql} -d {database} -c 'reassign owned by OLD_ROLE to \"{role}\"'",
    },
    Row {
        any: &["permission denied for", "permission denied to create extension", "SQLSTATE 42501"],
        cause: "the role {role} lacks rights in the database {database}",
        hint: "{psql} -c 'alter database \"{database}\" owner to \"{role}\"'",
    },
    Row {
        any: &["\"networks\" already exists (SQLSTATE 42P07)"],
        cause: "{database} has tables of another product, or lost its schema_migration",
        hint: "give {product} a database of its own in its DSN, or restore a backup",
    },
    Row {
        any: &["could not translate host name", "no such host"],
        cause: "the host in {product}'s DSN is not found",
        hint: "mend the host in the DSN",
    },
    Row {
        any: &["the database system is", "connection refused", "Connection refused"],
        cause: "`{server}` takes no connections",
        hint: "{logs}",
    },
    Row {
        any: &["no space left on device", "No space left on device"],
        cause: "no space is left on the device",
        hint: "docker system df",
    },
];

/// Failures of the engine itself.
const ENGINE: &[Row] = &[
    Row {
        any: &["port is already allocated", "address already in use", "ports are not available"],
        cause: "a port that a service publishes is taken{address}",
        hint: "free it, or publish another one (a *_PORT variable in .env, where the stack has one); then run \
               this again",
    },
    Row {
        any: &["no space left on device"],
        cause: "no space is left on the device",
        hint: "docker system df",
    },
    Row {
        any: &["No such image", "pull access denied", "manifest unknown", "Unable to find image"],
        cause: "an image is neither here nor to be pulled",
        hint: "docker login, or name another image (a *_IMAGE variable in .env, where the stack has one)",
    },
];

/// psql as the administrator of a product's server, to be typed.
pub fn admin_psql(cx: &Context, deployment: &Deployment) -> Invocation {
    let Some(server) = deployment.server else {
        return Invocation::new("psql", &cx.dir).args(["-h", deployment.server_name(), "-U", "postgres"]);
    };
    let admin = server.environment.get("POSTGRES_USER").map_or("postgres", String::as_str);
    cx.engine.compose(["exec", &server.name, "psql", "-U", admin])
}

/// Explains the failure of what was run for a product.
pub fn of_product(cx: &Context, deployment: &Deployment, error: anyhow::Error) -> anyhow::Error {
    let server = deployment.server_name();
    let psql = admin_psql(cx, deployment).to_string();
    let logs = match deployment.server {
        Some(_) => cx.engine.compose(["logs", server]).to_string(),
        None => format!("pg_isready -h {server}"),
    };
    let words = [
        ("{role}", deployment.dsn.user.as_str()),
        ("{database}", &deployment.dsn.database),
        ("{server}", server),
        ("{product}", deployment.product.name()),
        ("{psql}", &psql),
        ("{logs}", &logs),
        ("{address}", ""),
    ];
    explain(error, DATABASE.iter().chain(ENGINE), &words)
}

/// Explains the failure of a Compose command.
pub fn of_engine(error: anyhow::Error) -> anyhow::Error {
    let address = error.downcast_ref::<CommandError>().and_then(|command| address_in(&command.stderr));
    let address = address.map(|address| format!(": {address}")).unwrap_or_default();
    explain(error, ENGINE.iter(), &[("{address}", &address)])
}

fn explain<'a>(
    error: anyhow::Error,
    rows: impl IntoIterator<Item = &'a Row>,
    words: &[(&str, &str)],
) -> anyhow::Error {
    let Some(command) = error.downcast_ref::<CommandError>() else {
        return error;
    };
    let fill =
        |text: &str| words.iter().fold(text.to_string(), |text, (name, word)| text.replace(name, word));
    let fits = |row: &&Row| row.any.iter().any(|text| command.stderr.contains(&fill(text)));
    match rows.into_iter().find(fits) {
        Some(row) => {
            let failure = Failure::new(Exit::Failed, fill(row.cause)).hint(fill(row.hint));
            error.context(failure)
        }
        None => error,
    }
}

/// The first `127.0.0.1:4433` of a text.
fn address_in(text: &str) -> Option<&str> {
    let words = text.split_whitespace().map(|word| word.trim_end_matches([':', ',']));
    let mut addresses = words.filter(|word| word.parse::<std::net::SocketAddr>().is_ok_and(|a| a.port() > 0));
    addresses.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(stderr: &str) -> (String, String) {
        let error =
            CommandError { command: "psql".into(), status: Some(2), stderr: stderr.into(), log: None };
        let words =
            [("{role}", "kratos"), ("{database}", "kratos"), ("{server}", "db"), ("{product}", "kratos")];
        let error = explain(error.into(), DATABASE, &words);
        (error.to_string(), Failure::hint_of(&error).unwrap_or_default().to_string())
    }

    #[test]
    fn what_psql_says_is_explained() {
        let refused = "psql: error: connection to server at \"db\" (172.19.0.2), port 5432 failed: \
                       FATAL:  password authentication failed for user \"kratos\"";
        assert!(explained(refused).0.contains("knows no role kratos with the password"));
        let missing = "psql: error: connection to server at \"db\" (172.19.0.2), port 5432 failed: \
                       FATAL:  database \"kratos\" does not exist";
        assert!(explained(missing).1.contains("create database"));
        assert!(
            explained("ERROR:  permission denied for table schema_migration").1.contains("reassign owned")
        );
        assert!(explained("ERROR:  permission denied for schema public").1.contains("alter database"));
    }

    #[test]
    fn an_unknown_text_stays_as_it_is() {
        assert!(explained("something else").0.contains("something else"));
    }
}
