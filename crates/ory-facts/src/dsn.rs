//! A DSN taken apart, by the rules of the Go servers that read it (net/url), not of browsers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::dsn_text::{decode, end_of_authority, listed, server, without};
use crate::server_options;
use crate::sql::{name, names};

/// Parameters that Ory and its driver read, and PostgreSQL refuses.
/// Sources: <https://www.ory.sh/docs/ecosystem/deployment#postgresql>,
/// <https://pkg.go.dev/github.com/jackc/pgx/v5#ParseConfig>.
const ORY_ONLY: [&str; 11] = [
    "max_conns",
    "max_idle_conns",
    "max_conn_lifetime",
    "max_conn_idle_time",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
    "sslpassword",
    "krbspn",
    "passfile",
    "servicefile",
];

/// What the driver reads instead of a part of the URL, and what it is called then.
const PARTS: [&str; 6] = ["host", "port", "user", "password", "database", "dbname"];

/// What the driver reads from the environment where the DSN doesn't say it.
/// Source: <https://pkg.go.dev/github.com/jackc/pgx/v5/pgconn#ParseConfig>.
const VARIABLES: [(&str, &str); 7] = [
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLSNI", "sslsni"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGOPTIONS", "options"),
];

/// All that a part of a URL may not hold as it is. Within a part nothing has to stand for itself.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for the value of a parameter, where a list stays readable.
const VALUE: &AsciiSet = &PART.remove(b',').remove(b'/').remove(b':');

/// Where PostgreSQL listens.
const PORT: u16 = 5432;

/// Where a product keeps its state, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    /// The first of its servers.
    pub host: String,
    pub port: u16,
    /// The others, which are tried after it.
    more: Vec<(String, u16)>,
    /// Which server it leads to, where that is known by one name, whatever its address here is.
    server: Option<(String, u16)>,
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
    servers: Vec<(&'a str, u16)>,
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
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let is_bad = |c: &char| c.is_whitespace() || "[]\"\\<>^|`{}".contains(*c);
        if let Some(bad) = login.chars().chain(path.chars()).find(is_bad) {
            return Err(format!("the character `{bad}` must be percent-encoded in a password"));
        }
        let servers = address.split(',').map(server).collect::<Result<Vec<_>, String>>()?;
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        if path.contains('#') {
            return Err("it has a `#`: it must be percent-encoded in a password, and in a parameter".into());
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path.contains('@') {
            return Err(
                "it has an `@` after the host: `/`, `#` and `?` must be percent-encoded in a password".into(),
            );
        }
        if query.contains(';') {
            return Err("it has a `;` among its parameters, which are parted by `&`".into());
        }
        let parameters = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(&value.replace('+', " "))?))
        });
        let parts = (decode(user)?, decode(password)?, decode(path.trim_start_matches('/'))?);
        Self::of_parts(text, servers, parts, parameters.collect::<Result<_, String>>()?)
    }

    /// With the parameters that stand for a part of the URL in their places.
    fn of_parts(
        text: &str,
        mut servers: Vec<(String, Option<u16>)>,
        (mut user, mut password, mut database): (String, String, String),
        mut parameters: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        // Of two with one name the first counts.
        parameters.retain(|(name, _)| seen.insert(name.clone()));
        let named =
            |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if let Some(hosts) = named("host") {
            servers = hosts.split(',').map(|host| (host.to_string(), None)).collect();
        }
        if let Some(ports) = named("port") {
            let ports =
                ports.split(',').map(|port| port.parse().map_err(|_| "its parameter `port` is no port"));
            let ports = ports.collect::<Result<Vec<u16>, _>>()?;
            for (index, (_, port)) in servers.iter_mut().enumerate() {
                *port = ports.get(index).or(ports.first()).copied();
            }
        }
        for (name, part) in [("user", &mut user), ("password", &mut password)] {
            named(name).into_iter().for_each(|value| *part = value.into());
        }
        if let Some(name) = named("database").or_else(|| named("dbname")) {
            database = name.into();
        }
        if named("service").is_some() {
            return Err(
                "its parameter `service` names a file of its container: write here what is in it".into()
            );
        }
        if named("passfile").is_some() && password.is_empty() {
            return Err("its password is in a file of its container, by `passfile`: write it here".into());
        }
        parameters.retain(|(name, _)| !PARTS.contains(&name.as_str()));
        let mut servers = servers.into_iter().map(|(host, port)| (host, port.unwrap_or(PORT)));
        let (host, port) = servers.next().unwrap_or_default();
        let more = servers.collect();
        if database.is_empty() {
            database.clone_from(&user);
        }
        Ok(Self { host, port, more, server: None, user, password, database, parameters, text: text.into() })
    }

    /// With what the driver takes from the environment of its container, where the DSN doesn't have it.
    pub fn with_variables(mut self, variables: &BTreeMap<String, String>) -> Self {
        let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let is_written = |dsn: &Self, part: &str| dsn.text.contains(&format!("{part}="));
        if let Some(host) = set("PGHOST").filter(|_| self.host.is_empty()) {
            self.host = host;
        }
        let authority = self.text.split("://").nth(1).unwrap_or_default().split(['/', '?']).next();
        let has_port =
            authority.is_some_and(|text| text.rsplit(['@', ']']).next().is_some_and(|t| t.contains(':')));
        if let Some(port) = set("PGPORT").filter(|_| !has_port && !is_written(&self, "port")) {
            self.port = port.parse().unwrap_or(self.port);
        }
        let has_database =
            !self.database.is_empty() && (self.database != self.user || is_written(&self, "dbname"));
        if self.user.is_empty() {
            self.user = set("PGUSER").unwrap_or_default();
        }
        if self.password.is_empty() {
            self.password = set("PGPASSWORD").unwrap_or_default();
        }
        if !has_database {
            self.database = set("PGDATABASE").unwrap_or(if self.database.is_empty() {
                self.user.clone()
            } else {
                self.database
            });
        }
        for (variable, name) in VARIABLES {
            if let Some(value) = set(variable).filter(|_| self.parameter(name).is_none()) {
                self.parameters.push((name.into(), value));
            }
        }
        self
    }

    /// Its servers, in the order in which they are tried.
    pub fn servers(&self) -> impl Iterator<Item = (&str, u16)> {
        [(self.host.as_str(), self.port)]
            .into_iter()
            .chain(self.more.iter().map(|(host, port)| (host.as_str(), *port)))
    }

    /// The same place as another container names it: Ory goes on reading what was written.
    pub fn seen_at(&self, host: &str, port: u16) -> Self {
        Self { host: host.into(), port, more: vec![], ..self.clone() }
    }

    /// The same, known to lead to this server: of two that do, the places are one, by whatever addresses.
    pub fn on_server(self, name: &str, port: u16) -> Self {
        Self { server: Some((name.into(), port)), ..self }
    }

    /// The same database and login at another server, for Ory to read too.
    pub fn at(&self, host: &str, port: u16) -> Self {
        let text = without(&self.text, &["host", "port"]);
        let (start, end) = (text.find("://").map_or(0, |at| at + 3), end_of_authority(&text));
        let login = text[start..end].rfind('@').map_or("", |at| &text[start..=start + at]);
        let text = format!("{}{login}{host}:{port}{}", &text[..start], &text[end..]);
        Self { text, server: None, ..self.seen_at(host, port) }
    }

    /// The parameters of it that only Ory's enterprise builds read.
    pub fn of_enterprise(&self) -> Option<&str> {
        self.parameters.iter().map(|(name, _)| name.as_str()).find(|name| name.starts_with("pool_"))
    }

    /// The same server, role and parameters with another database.
    pub fn with_database(&self, name: &str) -> Self {
        let text = without(&self.text, &["database", "dbname"]);
        let (server, path) = text.split_at(end_of_authority(&text));
        let query = path.find('?').map_or("", |at| &path[at..]);
        let written = utf8_percent_encode(name, PART);
        Self { database: name.into(), text: format!("{server}/{written}{query}"), ..self.clone() }
    }

    /// The same place and parameters as another role.
    pub fn with_login(&self, user: &str, password: &str) -> Self {
        // Without a name of its own, the database is called as the role was.
        let named = without(&self.text, &["user", "password"]);
        let path = named[end_of_authority(&named)..].split('?').next().unwrap_or_default();
        let is_unnamed = path.trim_start_matches('/').is_empty();
        let text = if is_unnamed && !self.database.is_empty() {
            self.with_database(&self.database).text
        } else {
            named
        };
        let text = without(&text, &["user", "password"]);
        let (host, end) = (text.find("://").map_or(0, |at| at + 3), end_of_authority(&text));
        let address = text[host..end].rfind('@').map_or(host, |at| host + at + 1);
        let login = [user, password].map(|part| utf8_percent_encode(part, PART).to_string()).join(":");
        let text = format!("{}{login}@{}", &text[..host], &text[address..]);
        Self { user: user.into(), password: password.into(), text, ..self.clone() }
    }

    /// The same with the tables in these schemas, by their names.
    pub fn with_schemas(&self, schemas: &[&str]) -> Self {
        let path: Vec<_> = schemas.iter().map(|schema| name(schema)).collect();
        self.with_search_path(&path.join(","))
    }

    /// The same with the tables in other schemas: a list as PostgreSQL reads it, in which odd names are quoted.
    pub fn with_search_path(&self, path: &str) -> Self {
        let base = without(&self.text, &["search_path"]);
        let separator = if base.contains('?') { '&' } else { '?' };
        let text = format!("{base}{separator}search_path={}", utf8_percent_encode(path, VALUE));
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

    /// The files that a connection needs, as the container names them: of an authority, a certificate, a key, and the
    /// folder of a socket.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let named = ["sslrootcert", "sslcert", "sslkey"].into_iter().filter_map(|name| self.parameter(name));
        let named = named.chain(self.servers().map(|(host, _)| host));
        named.filter(|file| file.starts_with('/'))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// By the one name that is known, else by their addresses.
    fn known_servers(&self) -> Vec<(&str, u16)> {
        match &self.server {
            Some((name, port)) => vec![(name, *port)],
            None => self.servers().collect(),
        }
    }

    /// Where the tables are. PostgreSQL's default search_path is `public` to all of them.
    pub fn place(&self) -> Place<'_> {
        Place {
            servers: self.known_servers(),
            database: &self.database,
            schema: self.schema().unwrap_or_else(|| "public".into()),
        }
    }

    /// Whether the tables are in the same database, whatever the schema.
    pub fn is_database_of(&self, other: &Self) -> bool {
        let [own, other] = [self, other].map(|dsn| (dsn.known_servers(), &dsn.database));
        own == other
    }

    /// The DSN as the variables that psql reads, so that it is in no argument list.
    /// Source: <https://www.postgresql.org/docs/17/libpq-envars.html>.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut options = vec![];
        let mut env = vec![
            ("PGHOST".into(), listed(&mut self.servers().map(|(host, _)| host.to_string()))),
            ("PGPORT".into(), listed(&mut self.servers().map(|(_, port)| port.to_string()))),
            ("PGUSER".into(), self.user.clone()),
            ("PGPASSWORD".into(), self.password.clone()),
            ("PGDATABASE".into(), self.database.clone()),
            ("PGCONNECT_TIMEOUT".into(), "5".into()),
        ];
        for (name, value) in &self.parameters {
            match name.as_str() {
                "sslmode"
                | "sslrootcert"
                | "sslcert"
                | "sslkey"
                | "sslsni"
                | "sslnegotiation"
                | "krbsrvname"
                | "target_session_attrs" => {
                    env.push((format!("PG{}", name.to_uppercase().replace('_', "")), value.clone()));
                }
                "connect_timeout" | "application_name" => {}
                name if ORY_ONLY.contains(&name) || name.starts_with("pool_") => {}
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
