//! A failure's text -> its cause and the next command. A table, by theme; the first row that fits wins.

mod configuration;
mod database;
mod engine;
mod error_lines;
mod evidence;
mod failed;
#[cfg(test)]
mod recorded;
mod row;
mod schema;
mod state;
mod words;

pub use error_lines::{error_lines, is_detail};
pub use evidence::Evidence;
pub use failed::{Failed, Speaker};
pub use row::Cause;
pub use words::{WORDS, fill};

use crate::product::Product;
use evidence::Asked;
use row::{Row, fitting};

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
    fn a_snapshot_that_is_gone_is_told_by_each_release() {
        for of_release in
            ["invalid snapshot identifier: \"0000-1\"", "snapshot \"00000054-00000004-1\" does not exist"]
        {
            assert!(is_without_snapshot(&format!("pg_dump: error: query failed: ERROR:  {of_release}")));
        }
        assert!(!is_without_snapshot("ERROR:  relation \"networks\" does not exist"));
    }
}
