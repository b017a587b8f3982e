//! PostgreSQL, by a psql that stays connected; errors in the words of Ory's driver.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use crate::dsn::Dsn;

/// What psql prints after the rows of one request.
const END: &str = "-- end of rows --";

pub struct Database {
    dsn: Dsn,
    /// psql ends at the first error; the next request starts another.
    psql: Option<Psql>,
}

impl Database {
    pub fn new(dsn: Dsn) -> Self {
        Self { dsn, psql: None }
    }

    /// Runs `sql`, any number of statements, and returns the lines of its rows.
    pub fn run(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let mut psql = match self.psql.take() {
            Some(psql) => psql,
            None => Psql::start(&self.dsn)?,
        };
        match psql.ask(sql) {
            Ok(rows) => {
                self.psql = Some(psql);
                Ok(rows)
            }
            Err(error) => Err(driver_words(&error, &self.dsn)),
        }
    }
}

struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: ChildStderr,
}

impl Psql {
    fn start(dsn: &Dsn) -> Result<Self, String> {
        let mut command = Command::new("psql");
        command.args(["-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"]);
        command.envs(dsn.variables.iter().map(|(name, value)| (name, value)));
        command.env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("could not start psql: {error}"))?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(input), Some(output), Some(errors)) => {
                Ok(Self { child, input, output: BufReader::new(output), errors })
            }
            _ => Err("could not talk to psql".into()),
        }
    }

    fn ask(&mut self, sql: &str) -> Result<Vec<String>, String> {
        // A psql that could not connect reads nothing: its last words are on stderr.
        let _ = writeln!(self.input, "{sql}\n;\n\\echo {END:?}").and_then(|()| self.input.flush());
        let mut rows = vec![];
        for line in self.output.by_ref().lines() {
            match line {
                Ok(line) if line.trim_matches('"') == END => return Ok(rows),
                Ok(line) => rows.push(line),
                Err(_) => break,
            }
        }
        let mut errors = String::new();
        let _ = self.errors.read_to_string(&mut errors);
        Err(errors)
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // Either it ends now, or it has ended.
        let _ = writeln!(self.input, "\\q");
        let _ = self.child.wait();
    }
}

/// psql's `error` as the driver would put it: `ERROR: text (SQLSTATE 42P07)`.
fn driver_words(error: &str, dsn: &Dsn) -> String {
    let mut words = error.lines().find_map(statement_error);
    if let Some((_, place)) = error.split_once("connection to server at ") {
        let (place, reason) = place.split_once(" failed: ").unwrap_or((place, ""));
        let place: Vec<&str> =
            place.split(['"', '(', ')', ',', ' ']).filter(|part| !part.is_empty()).collect();
        let (host, address, port) = match place[..] {
            [host, address, "port", port, ..] => (host, address, port),
            [host, "port", port, ..] => (host, host, port),
            _ => ("", "", ""),
        };
        words = Some(format!("{address}:{port} ({host}): {}", connection_error(reason, address, port)));
    } else if let Some((_, host)) = error.split_once("could not translate host name ") {
        let host = host.split('"').nth(1).unwrap_or_default();
        words = Some(format!("hostname resolving error: lookup {host} on 127.0.0.11:53: no such host"));
    } else if words.is_some() {
        return words.unwrap_or_default();
    }
    match words {
        Some(words) => format!("failed to connect to `user={} database={}`: {words}", dsn.user, dsn.database),
        None if error.contains("server closed the connection") => "unexpected EOF".into(),
        None => error.trim().into(),
    }
}

/// `ERROR:  42P07: relation "networks" already exists`.
fn statement_error(line: &str) -> Option<String> {
    let severity =
        ["ERROR", "FATAL", "PANIC"].into_iter().find(|word| line.contains(&format!("{word}:  ")))?;
    let (state, text) = line.split_once(":  ")?.1.split_once(": ")?;
    (state.len() == 5).then(|| format!("{severity}: {text} (SQLSTATE {state})"))
}

fn connection_error(reason: &str, address: &str, port: &str) -> String {
    let reason = reason.lines().next().unwrap_or_default();
    if let Some((_, text)) = reason.split_once("FATAL:  ") {
        let state = connection_state(text);
        let kind = if state == "28P01" { "failed SASL auth" } else { "server error" };
        return format!("{kind}: FATAL: {text} (SQLSTATE {state})");
    }
    match reason {
        "Connection refused" => format!("dial error: dial tcp {address}:{port}: connect: connection refused"),
        "timeout expired" => "failed to receive message: timeout: context deadline exceeded".into(),
        _ if reason.starts_with("server closed") => "failed to receive message: unexpected EOF".into(),
        _ => format!("dial error: dial tcp {address}:{port}: {reason}"),
    }
}

/// The SQLSTATE of a refused connection: the server sends it, psql keeps it to itself.
fn connection_state(text: &str) -> &'static str {
    let known = [
        ("password authentication failed", "28P01"),
        ("is not permitted to log in", "28000"),
        ("no pg_hba.conf entry", "28000"),
        ("permission denied", "42501"),
        ("the database system", "57P03"),
        ("too many", "53300"),
        ("cannot be changed now", "55P02"),
        ("unrecognized configuration parameter", "42704"),
        ("does not exist", if text.starts_with("role") { "28000" } else { "3D000" }),
    ];
    known.into_iter().find(|(part, _)| text.contains(part)).map_or("XX000", |(_, state)| state)
}
