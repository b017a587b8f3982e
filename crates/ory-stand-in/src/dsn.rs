//! A DSN taken apart into the PG* variables that psql reads, so that no password is ever an argument.

/// Settings of Ory's connection pool, unknown to PostgreSQL.
const OF_THE_POOL: [&str; 6] = [
    "max_conns",
    "max_idle_conns",
    "max_conn_lifetime",
    "max_conn_idle_time",
    "pool_max_conns",
    "pool_min_conns",
];

pub struct Dsn {
    pub user: String,
    pub database: String,
    pub variables: Vec<(&'static str, String)>,
}

/// Why a DSN can't be used, in the words of Ory's libraries.
pub enum Fault {
    /// Not a URL.
    Syntax(String),
    /// Not PostgreSQL.
    Dialect(String),
}

impl Dsn {
    pub fn parse(dsn: &str) -> Result<Self, Fault> {
        let Some((scheme, _)) = dsn.split_once("://") else {
            let nothing = "unsupported dialect ''";
            let no_scheme = "no dialect provided, and could not guess it from URL";
            return Err(Fault::Dialect(if dsn.is_empty() { nothing } else { no_scheme }.into()));
        };
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(Fault::Dialect(format!("unsupported dialect '{scheme}'")));
        }
        let url = dsn.split('#').next().unwrap_or(dsn);
        take_apart(url).map_err(|reason| {
            // The real ones print the password here, next to a masked copy.
            let masked = masked(dsn);
            Fault::Syntax(format!(
                "cannot parse `{masked}`: failed to parse as URL (parse {url:?}: {reason})"
            ))
        })
    }
}

fn take_apart(url: &str) -> Result<Dsn, String> {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    if login.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._:~!$&'()*+,;=%@".contains(c)) {
        return Err("net/url: invalid userinfo".into());
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match address.rfind(':').filter(|colon| !address[*colon..].contains(']')) {
        Some(colon) => (&address[..colon], &address[colon + 1..]),
        None => (address, ""),
    };
    if port.contains(|c: char| !c.is_ascii_digit()) {
        return Err(format!("invalid port \":{port}\" after host"));
    }
    let (user, database) = (decode(user)?, decode(path)?);
    let mut dsn =
        Dsn { database: if path.is_empty() { user.clone() } else { database }, user, variables: vec![] };
    for (name, value) in [
        ("PGHOST", decode(host.trim_matches(['[', ']']))?),
        ("PGPORT", port.into()),
        ("PGUSER", dsn.user.clone()),
        ("PGPASSWORD", decode(password)?),
        ("PGDATABASE", dsn.database.clone()),
    ] {
        if !value.is_empty() {
            dsn.variables.push((name, value));
        }
    }
    dsn.parameters(query)?;
    Ok(dsn)
}

impl Dsn {
    /// What libpq has no variable for is a setting of the session, such as `search_path`.
    fn parameters(&mut self, query: &str) -> Result<(), String> {
        let mut options = std::env::var("PGOPTIONS").unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(&value.replace('+', " "))?);
            let variable = match name.as_str() {
                "sslmode" => "PGSSLMODE",
                "sslrootcert" => "PGSSLROOTCERT",
                "sslcert" => "PGSSLCERT",
                "sslkey" => "PGSSLKEY",
                "connect_timeout" => "PGCONNECT_TIMEOUT",
                "application_name" => "PGAPPNAME",
                "target_session_attrs" => "PGTARGETSESSIONATTRS",
                "options" => {
                    options = format!("{options} {value}");
                    continue;
                }
                pool if OF_THE_POOL.contains(&pool) => continue,
                _ => {
                    let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
                    options = format!("{options} -c {name}={value}");
                    continue;
                }
            };
            self.variables.push((variable, value));
        }
        self.variables.push(("PGOPTIONS", options));
        Ok(())
    }
}

/// Decodes `%40`.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = vec![];
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('%') {
        bytes.extend(plain.bytes());
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            let shown: String = escape.chars().take(2).collect();
            return Err(format!("invalid URL escape \"%{shown}\""));
        };
        bytes.push(byte);
        rest = &escape[2..];
    }
    bytes.extend(rest.bytes());
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn masked(dsn: &str) -> String {
    match dsn.split_once('@').and_then(|(login, rest)| Some((login.rsplit_once(':')?.0, rest))) {
        Some((login, rest)) => format!("{login}:xxxxxx@{rest}"),
        None => dsn.to_owned(),
    }
}
