//! The administrator of a database service, as its image's own variables name one: written in the stack, or in files that only
//! the container has.
//!
//! Source: <https://github.com/docker-library/docs/blob/master/postgres/README.md#docker-secrets>.

use anyhow::Error;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{CommandError, Invocation};
use ory_stack::service::Service;

/// The database that every server has, to connect to while others are made and removed.
pub const MAINTENANCE_DATABASE: &str = "postgres";

/// What the name of a command says that runs as one.
const AS: &str = "as the administrator";

/// The exit code of psql that could not connect.
/// Source: <https://www.postgresql.org/docs/17/app-psql.html#APP-PSQL-EXIT-STATUS>.
pub const NOT_CONNECTED: i32 = 2;

/// Reads in the container what files there have, then becomes the program. What is read is in no command line.
pub const FROM_FILES: &str = "if [ -n \"$PGUSER_FILE\" ]; then PGUSER=\"$(cat \"$PGUSER_FILE\")\" || exit 1; export PGUSER; fi; \
     if [ -n \"$PGPASSWORD_FILE\" ]; then PGPASSWORD=\"$(cat \"$PGPASSWORD_FILE\")\" || exit 1; export PGPASSWORD; fi; \
     exec \"$@\"";

/// As variables of psql; those that end in `_FILE` are for [`FROM_FILES`].
pub fn variables(server: &Service) -> Vec<(String, String)> {
    let user = of(server, "PGUSER", "POSTGRES_USER").unwrap_or(("PGUSER".into(), "postgres".into()));
    let database = ("PGDATABASE".into(), MAINTENANCE_DATABASE.into());
    let password = of(server, "PGPASSWORD", "POSTGRES_PASSWORD");
    [user, database].into_iter().chain(password).collect()
}

/// A variable of psql by what the image was given: a value or the file that has it.
fn of(server: &Service, own: &str, name: &str) -> Option<(String, String)> {
    let set = |name: &str| server.environment.get(name).filter(|value| !value.is_empty()).cloned();
    let file = || Some((format!("{own}_FILE"), set(&format!("{name}_FILE"))?));
    set(name).map(|value| (own.to_string(), value)).or_else(file)
}

/// The words for psql as one in the server's own container, to be typed.
pub fn psql(server: &Service) -> Vec<String> {
    match of(server, "PGUSER", "POSTGRES_USER") {
        Some((name, _)) if name.ends_with("_FILE") => {
            let script = "exec psql -U \"$(cat \"$POSTGRES_USER_FILE\")\" \"$@\"";
            ["sh", "-c", script, "psql"].map(String::from).into()
        }
        user => {
            vec!["psql".into(), "-U".into(), user.map_or("postgres".into(), |(_, user)| user)]
        }
    }
}

/// What a program is called that runs as one.
pub fn called(program: &str, container: &str) -> String {
    format!("{program} {AS} in {container}")
}

/// Says of who could not connect that it was the administrator; other errors stay what they are.
pub fn explain(error: Error, server: &Service, psql: &Invocation) -> Result<Error, Error> {
    let is_kept_out =
        |command: &CommandError| command.status == Some(NOT_CONNECTED) && command.command.contains(AS);
    if !error.downcast_ref().is_some_and(is_kept_out) {
        return Err(error);
    }
    let name = &server.name;
    let message =
        format!("the administrator of `{name}` can't be had: who its environment names isn't let in");
    let hint = format!(
        "see who is: {psql} -l; the role that its data was made with belongs in POSTGRES_USER, its password in \
         POSTGRES_PASSWORD of `{name}`, or the files that have them in POSTGRES_USER_FILE, POSTGRES_PASSWORD_FILE"
    );
    Ok(error.context(Failure::new(Exit::Failed, message).hint(hint)))
}

#[cfg(test)]
mod tests {
    use yaml_rust2::YamlLoader;

    use super::*;

    fn server(environment: &str) -> Service {
        let yaml = YamlLoader::load_from_str(&format!("environment: {{{environment}}}")).expect("YAML");
        Service::read("db", &yaml[0])
    }

    #[test]
    fn an_administrator_who_is_kept_out_is_said_to_be() {
        let psql = Invocation::new("psql", std::path::Path::new("."));
        let explained = |command: String, status| {
            let error = CommandError::new(command, Some(status), "");
            explain(error.into(), &server(""), &psql).map(|error| error.to_string()).ok()
        };
        let told = explained(called("psql", "db-1"), 2).expect("an explanation");
        assert!(told.starts_with("the administrator of `db` can't be had"), "{told}");
        assert_eq!(explained(called("psql", "db-1"), 3), None);
        assert_eq!(explained("psql in db-1".into(), 2), None);
    }

    #[test]
    fn what_a_file_has_is_read_where_it_lies_and_a_value_comes_first() {
        let named = |environment: &str| {
            let variables = variables(&server(environment)).into_iter();
            variables.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(""), "PGUSER=postgres PGDATABASE=postgres");
        assert_eq!(
            named("POSTGRES_USER_FILE: /run/secrets/user, POSTGRES_PASSWORD_FILE: /run/secrets/password"),
            "PGUSER_FILE=/run/secrets/user PGDATABASE=postgres PGPASSWORD_FILE=/run/secrets/password"
        );
        assert_eq!(
            named("POSTGRES_USER: admin, POSTGRES_USER_FILE: '', POSTGRES_PASSWORD: x"),
            "PGUSER=admin PGDATABASE=postgres PGPASSWORD=x"
        );
    }
}
