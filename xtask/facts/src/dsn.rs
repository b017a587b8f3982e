//! A DSN taken apart, by the rules of the Go servers that read it (net/url), not of browsers.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Parameters that Ory reads and PostgreSQL refuses.
/// Source: <https://www.ory.sh/docs/ecosystem/deployment#postgresql>.
const ORY_ONLY: [&str; 4] = ["max_conns", "max_idle_conns", "max_conn_lifetime", "max_conn_idle_time"];

/// Where a product keeps its state, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    parameters: Vec<(String, String)>,
    /// As it was written.
    text: String,
}

/// What two products share when it is equal for both: the place of their tables.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'a> {
    host: &'a str,
    port: u16,
    database: &'a str,
    search_path: &'a str,
}

impl Dsn {
    /// Parses a PostgreSQL DSN. The error names the fault, and nothing of the DSN but its scheme.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Err("it is `memory`, which keeps nothing: migrations need PostgreSQL".into());
        }
        if text.contains("${") {
            return Err("it holds `${`: a variable in a file isn't expanded by Ory".into());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as postgres://")?;
        if !["postgres", "postgresql", "cockroach"].contains(&scheme) {
            return Err(format!("its scheme is {scheme}://, not postgres://"));
        }
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || "[]\"\\<>^|`{}".contains(*c)) {
            return Err(format!("the character `{bad}` must be percent-encoded in a password"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
        let port = port.parse().map_err(
            |_| "what follows the host isn't a port: `/`, `#` and `?` must be percent-encoded in a password",
        )?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path.contains('@') {
            return Err(
                "it has an `@` after the host: `/`, `#` and `?` must be percent-encoded in a password".into(),
            );
        }
        let parameters = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(&value.replace('+', " "))?))
        });
        Ok(Self {
            host: decode(host)?,
            port,
            user: decode(user)?,
            password: decode(password)?,
            database: decode(path.trim_start_matches('/'))?,
            parameters: parameters.collect::<Result<_, String>>()?,
            text: text.into(),
        })
    }

    /// The same server, role and parameters with another database, whose name needs no escapes.
    pub fn with_database(&self, name: &str) -> Self {
        let host = self.text.find("://").map_or(0, |at| at + 3);
        let end = self.text[host..].find(['/', '?', '#']).map_or(self.text.len(), |at| host + at);
        let (server, path) = self.text.split_at(end);
        let query = path.find('?').map_or("", |at| &path[at..]);
        Self { database: name.into(), text: format!("{server}/{name}{query}"), ..self.clone() }
    }

    /// The same place and parameters as another role, whose name and password need no escapes.
    pub fn with_login(&self, user: &str, password: &str) -> Self {
        let host = self.text.find("://").map_or(0, |at| at + 3);
        let end = self.text[host..].find(['/', '?', '#']).map_or(self.text.len(), |at| host + at);
        let address = self.text[host..end].rfind('@').map_or(host, |at| host + at + 1);
        let text = format!("{}{user}:{password}@{}", &self.text[..host], &self.text[address..]);
        Self { user: user.into(), password: password.into(), text, ..self.clone() }
    }

    /// The same with the tables in other schemas, whose names need no escapes.
    pub fn with_search_path(&self, path: &str) -> Self {
        let (base, query) = self.text.split_once('?').unwrap_or((&self.text, ""));
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("search_path="));
        let own = format!("search_path={path}");
        let pairs: Vec<_> = kept.chain([own.as_str()]).collect();
        let text = format!("{base}?{}", pairs.join("&"));
        let mut parameters = self.parameters.clone();
        parameters.retain(|(name, _)| name != "search_path");
        parameters.push(("search_path".into(), path.into()));
        Self { text, parameters, ..self.clone() }
    }

    /// The DSN as Ory reads it. It holds the password.
    pub fn url(&self) -> &str {
        &self.text
    }

    /// The schema the tables go to, where the DSN names one.
    pub fn search_path(&self) -> Option<&str> {
        self.parameter("search_path")
    }

    /// The schema that tables are made in, where the DSN names one: the first of its search_path.
    pub fn schema(&self) -> Option<&str> {
        Some(self.search_path()?.split(',').next()?.trim())
    }

    /// How the connection is encrypted, where the DSN tells.
    pub fn sslmode(&self) -> Option<&str> {
        self.parameter("sslmode")
    }

    /// The files that a connection needs, as the container names them: of an authority, a certificate, a key.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let named = ["sslrootcert", "sslcert", "sslkey"].into_iter().filter_map(|name| self.parameter(name));
        named.filter(|file| file.starts_with('/'))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Where the tables are. PostgreSQL's default search_path is `public` to all of them.
    pub fn place(&self) -> Place<'_> {
        Place {
            host: &self.host,
            port: self.port,
            database: &self.database,
            search_path: self.search_path().unwrap_or("public"),
        }
    }

    /// Whether the tables are in the same database, whatever the schema.
    pub fn is_database_of(&self, other: &Self) -> bool {
        let [own, other] = [self, other].map(|dsn| (&dsn.host, dsn.port, &dsn.database));
        own == other
    }

    /// The DSN as the variables that psql reads, so that it is in no argument list.
    /// Source: <https://www.postgresql.org/docs/17/libpq-envars.html>.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut options = String::new();
        let mut env = vec![
            ("PGHOST".into(), self.host.clone()),
            ("PGPORT".into(), self.port.to_string()),
            ("PGUSER".into(), self.user.clone()),
            ("PGPASSWORD".into(), self.password.clone()),
            ("PGDATABASE".into(), self.database.clone()),
            ("PGCONNECT_TIMEOUT".into(), "5".into()),
        ];
        for (name, value) in &self.parameters {
            match name.as_str() {
                "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "target_session_attrs" => {
                    env.push((format!("PG{}", name.to_uppercase().replace('_', "")), value.clone()));
                }
                "connect_timeout" | "application_name" => {}
                name if ORY_ONLY.contains(&name) => {}
                // pgx sends every other parameter to the server when it connects.
                name => options += &format!("-c {name}={} ", value.replace('\\', "\\\\").replace(' ', "\\ ")),
            }
        }
        if !options.is_empty() {
            env.push(("PGOPTIONS".into(), options.trim_end().into()));
        }
        env
    }
}

/// A DSN never shows its password.
impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("`%` must be written `%25` in a password".into());
        }
        rest = &rest[at + 3..];
    }
    let text = percent_decode_str(text).decode_utf8();
    Ok(text.map_err(|_| "its percent-encoding isn't UTF-8")?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Dsn {
        Dsn::parse(text).expect("a DSN")
    }

    #[test]
    fn a_dsn_comes_apart_and_its_password_may_hold_what_go_allows() {
        let dsn = parse("postgres://ory:p@:+&=!$;%2F@db/kratos?sslmode=disable&max_conns=20");
        assert_eq!((dsn.user.as_str(), dsn.password.as_str()), ("ory", "p@:+&=!$;/"));
        assert_eq!((dsn.host.as_str(), dsn.port, dsn.database.as_str()), ("db", 5432, "kratos"));
    }

    #[test]
    fn psql_gets_what_it_knows_and_the_server_gets_the_rest() {
        let dsn = parse("postgres://a:b@h:1/d?sslmode=disable&max_conns=20&search_path=kratos");
        let env = dsn.environment();
        let value = |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("PGSSLMODE"), Some("disable"));
        assert_eq!(value("PGOPTIONS"), Some("-c search_path=kratos"));
    }

    #[test]
    fn the_files_of_a_connection_are_those_that_it_names_by_their_path() {
        let dsn =
            parse("postgres://a@h/d?sslmode=verify-full&sslrootcert=%2Frun%2Fsecrets%2Fca.crt&sslkey=/k");
        assert_eq!(dsn.files().collect::<Vec<_>>(), ["/run/secrets/ca.crt", "/k"]);
        assert_eq!(parse("postgres://a@h/d?sslrootcert=system").files().count(), 0);
    }

    #[test]
    fn another_database_keeps_all_the_rest_as_it_was_written() {
        for (text, other) in [
            ("postgres://a:p%2F@h:1/d?sslmode=disable", "postgres://a:p%2F@h:1/x?sslmode=disable"),
            ("postgres://h?search_path=a/b", "postgres://h/x?search_path=a/b"),
            ("postgres://a@h", "postgres://a@h/x"),
        ] {
            let dsn = parse(text).with_database("x");
            assert_eq!((dsn.url(), dsn.database.as_str()), (other, "x"));
            assert_eq!(dsn, parse(other));
        }
    }

    #[test]
    fn another_login_and_another_path_leave_the_rest_as_it_was_written() {
        let dsn = parse("postgres://a:p%2F@x@h:1/d?sslmode=disable&search_path=s&max_conns=2");
        let other = dsn.with_login("kratos", "Geheim1").with_search_path("kratos,public");
        let text = "postgres://kratos:Geheim1@h:1/d?sslmode=disable&max_conns=2&search_path=kratos,public";
        assert_eq!(other.url(), text);
        assert_eq!(other, parse(text));
        assert_eq!(parse("postgres://h").with_login("a", "b").url(), "postgres://a:b@h");
        assert_eq!(parse("postgres://h/d").with_search_path("a").url(), "postgres://h/d?search_path=a");
    }

    #[test]
    fn two_products_share_a_place_when_server_database_and_schema_are_equal() {
        let kratos = parse("postgres://kratos:a@db/ory");
        assert_eq!(kratos.place(), parse("postgres://hydra:b@db:5432/ory?search_path=public").place());
        assert_ne!(kratos.place(), parse("postgres://hydra:b@db:5432/ory?search_path=hydra").place());
        assert_ne!(kratos.place(), parse("postgres://hydra:b@db:5432/hydra").place());
    }

    #[test]
    fn each_fault_of_a_dsn_is_named_without_its_password() {
        for (text, fault) in [
            ("memory", "memory"),
            ("postgres://${USER}@db/d", "isn't expanded"),
            ("db:5432/kratos", "no scheme"),
            ("mysql://a:b@db/d", "mysql://"),
            ("postgres://a:geheim/x@db/d", "must be percent-encoded"),
            ("postgres://a:geheim#x@db/d", "must be percent-encoded"),
            ("postgres://a:ge@heim/x@db/d", "must be percent-encoded"),
            ("postgres://a:geheim%zz@db/d", "`%25`"),
            ("postgres://a:ge heim@db/d", "must be percent-encoded"),
        ] {
            let error = Dsn::parse(text).expect_err(text);
            assert!(error.contains(fault), "{text}: {error}");
            assert!(!error.contains("geheim"), "{text}: {error}");
        }
    }

    #[test]
    fn printing_a_dsn_does_not_print_its_password() {
        assert_eq!(format!("{:?}", parse("postgres://a:geheim@db/d")), "a@db:5432/d");
    }
}
