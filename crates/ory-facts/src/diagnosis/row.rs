//! A row of the table: the texts that it fits, and what it says of a failure.

use super::error_lines::is_noise;
use super::evidence::{Asked, Evidence};
use super::failed::{Failed, address_in, version};
use super::words;
use crate::sqlstate;

/// A row of the table.
pub(super) struct Row {
    pub id: &'static str,
    /// Patterns of which one must fit a line. `*` stands for anything; `{1}` in the message and in the hint is
    /// what the first one stood for.
    pub any: &'static [&'static str],
    /// The exit code it needs.
    pub exit: Option<i64>,
    /// What must be true of the database, where the text fits several causes.
    pub when: Option<fn(&Asked) -> bool>,
    /// No further try changes it, though Ory goes on trying for five minutes.
    pub stays: bool,
    pub message: &'static str,
    pub hint: &'static str,
}

/// What most rows leave as it is.
pub(super) const ROW: Row =
    Row { id: "", any: &[], exit: None, when: None, stays: false, message: "", hint: "" };

/// Why it failed, and what to type next. The [`words::WORDS`] in braces stand for the stack's own names and commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The cause in a word or two.
    pub id: &'static str,
    pub message: String,
    pub hint: String,
    /// What stood in the text where the pattern has its last `*`: mostly a file.
    pub found: Option<String>,
}

impl Row {
    /// What it says of a failure whose line it fits; the stars of its pattern stood for what was `found`.
    pub fn cause(&self, found: &[&str], failed: &Failed, evidence: Option<&Evidence>) -> Cause {
        let fill = |text: &str| {
            let mut text = text.to_string();
            for (number, word) in found.iter().enumerate() {
                text = words::fill(&text, &(number + 1).to_string(), word);
            }
            let version = version(failed.text).unwrap_or_default();
            let address = address_in(failed.text).map(|address| format!(": {address}"));
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

/// The rows that fit a line, with what their stars stood for.
pub(super) fn fitting<'a>(
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
