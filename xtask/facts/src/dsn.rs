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
    fn a_name_is_written_so_that_it_is_read_as_the_same() {
        let names = [
            "a%b", "a%20b", "a/b", "a?b#c", "a b", "a+b", "a&b=c", "a@b:c", "\"q\"", "it's", "é語", "[x]",
            "\\",
        ];
        let more = ["postgres://x", "a\tb\n", "..", "`{|}^<>", "$user", "a;b", ",", "${x}"];

        for text in
            ["postgres://u:p%2F@h:1/d?sslmode=disable&search_path=s", "postgres://h", "postgres://h/?a=b"]
        {
            for name in names.into_iter().chain(more) {
                let own = parse(text);
                let dsn = own.with_database(name).with_login(name, name).with_search_path(name);
                let read = parse(dsn.url());
                assert_eq!(dsn, read, "{name}");
                assert_eq!([&read.database, &read.user, &read.password], [name; 3], "{}", dsn.url());
                assert_eq!(read.search_path().as_deref(), Some(name));
                assert_eq!((&read.host, read.port, read.sslmode()), (&own.host, own.port, own.sslmode()));
            }
        }
        let encoded = parse("postgres://h/d?search%5Fpath=a&x=y").with_search_path("b");
        assert_eq!(encoded.url(), "postgres://h/d?x=y&search_path=b");
    }

    #[test]
    fn schemas_are_read_as_postgresql_reads_them() {
        for (parameter, schemas) in [
            ("search_path=a,b", &["a", "b"][..]),
            ("search_path=a,%20public", &["a", "public"]),
            ("search_path=%22A%20b%22,Public", &["A b", "public"]),
            ("search_path=%22a%22%22,b%22", &["a\",b"]),
            ("search_path=%22$user%22,public", &["u", "public"]),
            ("options=-csearch_path%3Da", &["a"]),
            ("options=-c%20search_path%3Da,%5C%20b%20--work-mem%3D4MB", &["a", "b"]),
            ("options=--search-path%3Da%20-c%20search_path%3Db", &["b"]),
            ("search_path=a&options=-csearch_path%3Db", &["a"]),
            ("search_path=", &[]),
            ("search_path=%22%22", &[]),
        ] {
            let dsn = parse(&format!("postgres://u:p@h/d?{parameter}"));
            assert_eq!(dsn.schemas().unwrap_or_default(), schemas, "{parameter}");
        }
        assert_eq!(parse("postgres://u:p@h/d").schemas(), None);
        assert_eq!(parse("postgres://h/d?search_path=a,,b").schemas(), None);
    }

    #[test]
    fn the_server_gets_each_setting_as_one_word_and_options_first() {
        let dsn =
            parse("postgres://h/d?search_path=%22A%20b%22,%09c%5Cd&options=-c%20work_mem%3D5MB&sslsni=0");
        let env = dsn.environment();
        let value = |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("PGOPTIONS"), Some("-c work_mem=5MB -c search_path=\"A\\ b\",\\\tc\\\\d"));
        assert_eq!(value("PGSSLSNI"), Some("0"));
        assert_eq!(
            server_options::setting(value("PGOPTIONS").unwrap_or_default(), "search_path"),
            dsn.search_path()
        );
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
