//! A failure's text -> its cause and the next command. A table, by theme; the first row that fits wins.

mod configuration;
mod database;
mod engine;
mod essence;
mod evidence;
#[cfg(test)]
mod recorded;
mod schema;
mod state;

pub use essence::{essence, is_detail};
pub use evidence::Evidence;

use crate::product::Product;
use crate::sql::{identifier, name};
use crate::sqlstate;
use evidence::Asked;

/// Who printed the text: the same words mean another thing from a server of Ory than from the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A server of Ory, or psql that was asked on its behalf.
    Product(Product),
    /// `docker` or Compose.
    Engine,
    /// PostgreSQL's own log.
    Database,
}

/// What a program ended with.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    pub speaker: Speaker,
    pub exit: Option<i64>,
    pub text: &'a str,
}

/// Why it failed, and what to type next. The [`WORDS`] in braces stand for the stack's own names and commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The cause in a word or two.
    pub id: &'static str,
    pub message: String,
    pub hint: String,
    /// What stood in the text where the pattern has its last `*`: mostly a file.
    pub found: Option<String>,
}

/// What xtask fills in: names, then commands. `psql` is typed as the server's administrator, `inside` in the product's
/// database; `file` is the one found in the text, `config` the product's own, both as this machine names them.
pub const WORDS: [&str; 18] = [
    "product", "migrate", "service", "role", "database", "schema", "server", "psql", "inside", "restore",
    "dump", "logs", "start", "unpause", "chown", "compose", "file", "config",
];

/// A row of the table.
struct Row {
    id: &'static str,
    /// Patterns of which one must fit a line. `*` stands for anything; `{1}` in the message and in the hint is
    /// what the first one stood for.
    any: &'static [&'static str],
    /// The exit code it needs.
    exit: Option<i64>,
    /// What must be true of the database, where the text fits several causes.
    when: Option<fn(&Asked) -> bool>,
    /// No further try changes it, though Ory goes on trying for five minutes.
    stays: bool,
    message: &'static str,
    hint: &'static str,
}

/// What most rows leave as it is.
const ROW: Row = Row { id: "", any: &[], exit: None, when: None, stays: false, message: "", hint: "" };

/// Lines that look like failures and are none: the first run on an empty database, and Ory's own advice.
const NOISE: [&str; 4] = [
    "relation \"schema_migration\" does not exist",
    "is deprecated, Please use",
    "One or more of connection details are specified in database.yml",
    "HTTPS is disabled. Please ensure",
];

fn is_noise(line: &str) -> bool {
    let is_first_run = line.contains("schema_migration") && line.contains("SQLSTATE 42P01");
    is_first_run || NOISE.iter().any(|noise| line.contains(noise))
}

/// Whether a line that a server prints while it tries to connect names a cause that stays.
pub fn is_permanent(line: &str) -> bool {
    let speaker = Speaker::Product(Product::Kratos);
    let rows = || tables(speaker).into_iter().chain([state::ROWS]).flatten();
    // Nearly all of 5,800 lines fit no row: few rows are enough to see it.
    fitting(rows().filter(|row| row.stays), line).next().is_some()
        && fitting(rows(), line).next().is_some_and(|(row, _)| row.stays)
}

/// Whether a line says that a server tries once more to connect.
pub fn is_retry(line: &str) -> bool {
    line.contains(", retrying") || line.contains("Retrying in ")
}

/// Whether pg_dump was given the snapshot of a session that has ended, as PostgreSQL 15 and 17 say it.
pub fn is_without_snapshot(text: &str) -> bool {
    text.contains("invalid snapshot identifier")
        || (text.contains("snapshot \"") && text.contains("\" does not exist"))
        // In whatever language, this is the query that failed.
        || text.contains("SET TRANSACTION SNAPSHOT")
}

/// The cause of a failure, none where no row fits. The last lines count most: what is before them may be of an
/// earlier try. `ask` looks at the database, and is only called where the text fits several causes.
pub fn cause(failed: &Failed, ask: impl FnOnce() -> Evidence) -> Option<Cause> {
    let mut ask = Some(ask);
    let mut evidence: Option<Evidence> = None;
    for table in [tables(failed.speaker), last_resorts(failed.speaker)] {
        // A row may need no text at all.
        for line in failed.text.lines().rev().chain([""]) {
            for (row, found) in fitting(table.iter().copied().flatten(), line) {
                if row.exit.is_some_and(|exit| failed.exit != Some(exit)) {
                    continue;
                }
                if let Some(when) = row.when {
                    let evidence =
                        evidence.get_or_insert_with(|| ask.take().map(|ask| ask()).unwrap_or_default());
                    if !when(&Asked { failed, evidence, found: &found }) {
                        continue;
                    }
                }
                return Some(row.cause(&found, failed, evidence.as_ref()));
            }
        }
    }
    None
}

fn tables(speaker: Speaker) -> Vec<&'static [Row]> {
    match speaker {
        Speaker::Product(_) => {
            vec![configuration::DSN, configuration::FILES, database::ROWS, schema::ROWS, engine::ROWS]
        }
        Speaker::Engine => vec![engine::ROWS],
        Speaker::Database => vec![database::OF_ITS_LOG, engine::ROWS],
    }
}

/// What only counts where no line says more.
fn last_resorts(speaker: Speaker) -> Vec<&'static [Row]> {
    match speaker {
        Speaker::Product(_) => {
            vec![configuration::LAST, database::LAST, schema::LAST, state::ROWS, state::RIGHT, engine::LAST]
        }
        Speaker::Engine | Speaker::Database => vec![engine::LAST],
    }
}

/// The rows that fit a line, with what their stars stood for.
fn fitting<'a>(
    rows: impl Iterator<Item = &'static Row> + 'a,
    line: &'a str,
) -> impl Iterator<Item = (&'static Row, Vec<&'a str>)> + 'a {
    let fits = move |row: &'static Row| Some((row, row.any.iter().find_map(|p| stars(p, line))?));
    rows.filter_map(fits).filter(move |_| !is_noise(line))
}

/// What the stars of a pattern stand for, none where it doesn't fit. A star stands for something, up to where
/// the next word begins; `^` is the start of the line.
fn stars<'a>(pattern: &str, line: &'a str) -> Option<Vec<&'a str>> {
    let (anchored, pattern) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut pieces = pattern.split('*');
    let first = pieces.next()?;
    let at = line.find(first).filter(|at| !anchored || *at == 0)?;
    let mut rest = &line[at + first.len()..];
    let mut found = Vec::new();
    for piece in pieces {
        let at = if piece.is_empty() { rest.len() } else { rest.find(piece)? };
        if at == 0 {
            return None;
        }
        found.push(sqlstate::without(&rest[..at]));
        rest = &rest[at + piece.len()..];
    }
    Some(found)
}

impl Row {
    fn cause(&self, found: &[&str], failed: &Failed, evidence: Option<&Evidence>) -> Cause {
        let fill = |text: &str| {
            let mut text = text.to_string();
            for (number, word) in found.iter().enumerate() {
                text = self::fill(&text, &(number + 1).to_string(), word);
            }
            let version = version(failed.text).unwrap_or_default();
            let address = engine::address_in(failed.text).map(|address| format!(": {address}"));
            let text = text.replace("{version}", version).replace("{address}", &address.unwrap_or_default());
            evidence.map_or(text.clone(), |evidence| evidence.fill(&text, found))
        };
        Cause {
            id: self.id,
            message: fill(self.message),
            hint: fill(self.hint),
            found: found.last().map(ToString::to_string),
        }
    }
}

/// A text with a name in the place of its word in braces. Between double quotes, or as `{word:name}`, which is quoted only
/// where it must be, it stands in SQL that is typed between the single quotes of a shell.
pub fn fill(text: &str, word: &str, value: &str) -> String {
    let [quoted, short] = [identifier(value), name(value)].map(|name| name.replace('\'', r"'\''"));
    let text = text.replace(&format!("\"{{{word}}}\""), &quoted).replace(&format!("{{{word}:name}}"), &short);
    text.replace(&format!("{{{word}}}"), value)
}

/// The version of the migration that failed: `error executing migrations/sql/20191100000001000000_identities...`.
fn version(text: &str) -> Option<&str> {
    let file = text.lines().rev().find_map(|line| line.split_once("error executing "))?.1;
    let name = file.split([',', ' ']).next()?.rsplit('/').next()?;
    let version = name.split('_').next()?;
    (version.len() >= 14 && version.bytes().all(|b| b.is_ascii_digit())).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_that_can_not_end_well_is_told_from_one_that_can() {
        for (line, permanent) in [
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:failed to connect to \
              `user=kratos database=kratos`: 172.18.0.2:5432 (db): failed SASL auth: FATAL: password \
              authentication failed for user \"kratos\" (SQLSTATE 28P01)]",
                true,
            ),
            (
                "level=info msg=Retrying in 5.000000 seconds... error=map[message:server error: FATAL: database \
              \"nodb\" does not exist (SQLSTATE 3D000)]",
                true,
            ),
            (
                "level=error msg=Unable to connect to database, retrying. error=map[message:cannot parse \
              `postgres://ory:xxxxxx@db`: failed to parse as URL]",
                true,
            ),
            (
                "level=error msg=Unable to connect to database, retrying. error=map[message:unsupported \
              dialect '']",
                true,
            ),
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:hostname resolving \
              error: lookup db on 127.0.0.11:53: no such host]",
                false,
            ),
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:dial error: dial tcp \
              172.18.0.2:5432: connect: connection refused]",
                false,
            ),
            ("FATAL: the database system is starting up (SQLSTATE 57P03)", false),
            ("level=info msg=Migration has not yet been applied, running migration.", false),
        ] {
            assert_eq!(is_permanent(line), permanent, "{line}");
        }
    }

    #[test]
    fn a_name_stays_one_name_in_the_sql_that_is_typed() {
        let typed = fill("psql -c 'alter role \"{role}\" login'", "role", "o'r\"y; $(id)");
        assert_eq!(typed, "psql -c 'alter role \"o'\\''r\"\"y; $(id)\" login'");
        assert_eq!(fill("the role {role}", "role", "o'ry"), "the role o'ry");
    }

    #[test]
    fn a_snapshot_that_is_gone_is_told_by_each_release() {
        for of_release in
            ["invalid snapshot identifier: \"0000-1\"", "snapshot \"00000054-00000004-1\" does not exist"]
        {
            assert!(is_without_snapshot(&format!("pg_dump: error: query failed: ERROR:  {of_release}")));
        }
        assert!(!is_without_snapshot("ERROR:  relation \"networks\" does not exist"));
    }
}
