//! A DSN taken apart, by the rules of the Go servers that read it (net/url), not of browsers.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::server_options;
use crate::sql::{name, names};

/// Parameters that Ory and its driver read, and PostgreSQL refuses.
/// Sources: <https://www.ory.sh/docs/ecosystem/deployment#postgresql>,
/// <https://pkg.go.dev/github.com/jackc/pgx/v5#ParseConfig>.
const ORY_ONLY: [&str; 8] = [
    "max_conns",
    "max_idle_conns",
    "max_conn_lifetime",
    "max_conn_idle_time",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
    "sslpassword",
];

/// All that a part of a URL may not hold as it is. Within a part nothing has to stand for itself.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for the value of a parameter, where a list stays readable.
const VALUE: &AsciiSet = &PART.remove(b',').remove(b'/').remove(b':');

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
    schema: String,
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

    /// The same server, role and parameters with another database.
    pub fn with_database(&self, name: &str) -> Self {
        let host = self.text.find("://").map_or(0, |at| at + 3);
        let end = self.text[host..].find(['/', '?', '#']).map_or(self.text.len(), |at| host + at);
        let (server, path) = self.text.split_at(end);
        let query = path.find('?').map_or("", |at| &path[at..]);
        let written = utf8_percent_encode(name, PART);
        Self { database: name.into(), text: format!("{server}/{written}{query}"), ..self.clone() }
    }

    /// The same place and parameters as another role.
    pub fn with_login(&self, user: &str, password: &str) -> Self {
        let host = self.text.find("://").map_or(0, |at| at + 3);
        let end = self.text[host..].find(['/', '?', '#']).map_or(self.text.len(), |at| host + at);
        let address = self.text[host..end].rfind('@').map_or(host, |at| host + at + 1);
        let login = [user, password].map(|part| utf8_percent_encode(part, PART).to_string()).join(":");
        let text = format!("{}{login}@{}", &self.text[..host], &self.text[address..]);
        Self { user: user.into(), password: password.into(), text, ..self.clone() }
    }

    /// The same with the tables in these schemas, by their names.
    pub fn with_schemas(&self, schemas: &[&str]) -> Self {
        let path: Vec<_> = schemas.iter().map(|schema| name(schema)).collect();
        self.with_search_path(&path.join(","))
    }

    /// The same with the tables in other schemas: a list as PostgreSQL reads it, in which odd names are quoted.
    pub fn with_search_path(&self, path: &str) -> Self {
        let (base, query) = self.text.split_once('?').unwrap_or((&self.text, ""));
        let is_path = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            decode(name).is_ok_and(|name| name == "search_path")
        };
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !is_path(pair));
        let own = format!("search_path={}", utf8_percent_encode(path, VALUE));
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

    /// The schemas that tables are looked for in, as PostgreSQL reads them, where the DSN names some.
    pub fn search_path(&self) -> Option<String> {
        let path = self.parameter("search_path").map(String::from);
        // What stands in `options` is what the server begins with.
        path.or_else(|| server_options::setting(self.parameter("options")?, "search_path"))
    }

    /// Their names in order, without quotes; none where the DSN names none, or what PostgreSQL takes for no list.
    pub fn schemas(&self) -> Option<Vec<String>> {
        let names = names(&self.search_path()?)?.into_iter();
        let own = |name: String| if name == "$user" { self.user.clone() } else { name };
        Some(names.map(own).collect())
    }

    /// The schema that tables are made in, where the DSN names one: the first of its search_path, if it is there.
    pub fn schema(&self) -> Option<String> {
        self.schemas()?.into_iter().next()
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
            schema: self.schema().unwrap_or_else(|| "public".into()),
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
        let mut options = vec![];
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
                "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "sslsni" | "target_session_attrs" => {
                    env.push((format!("PG{}", name.to_uppercase().replace('_', "")), value.clone()));
                }
                "connect_timeout" | "application_name" => {}
                name if ORY_ONLY.contains(&name) => {}
                // The server reads them before all other parameters.
                "options" => options.insert(0, value.clone()),
                // pgx sends every other parameter to the server when it connects.
                name => options.push(format!("-c {}", server_options::word(&format!("{name}={value}")))),
            }
        }
        if !options.is_empty() {
            env.push(("PGOPTIONS".into(), options.join(" ")));
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
