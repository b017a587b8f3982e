//! The terms on which programs are started: what ends them, and what is seen of what they print. Whoever starts several
//! has one set for all, so that none of them is forgotten.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::interrupt::Interrupt;
use ory_facts::secrets::Secrets;

/// What ends a program before its own end, and what is seen of what it prints. By default: nothing, and all but what is
/// named a secret.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    pub(crate) interrupt: Option<Interrupt>,
    pub(crate) deadline: Option<Duration>,
    secrets: Arc<Secrets>,
    pub(crate) reading: Reading,
    afterwards: Vec<Afterwards>,
}

/// What is done once a program has ended, however it did: it is told what the program complained of, if it failed.
#[derive(Clone)]
pub struct Afterwards(Arc<Work>);

type Work = dyn Fn(Option<&str>) + Send + Sync;

impl Afterwards {
    /// Does this.
    pub fn new(work: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }
}

impl fmt::Debug for Afterwards {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Afterwards")
    }
}

impl Terms {
    /// Programs that end when this one is asked to, and whose failures are read so.
    pub fn new(interrupt: &Interrupt, secrets: Secrets, reading: Reading) -> Self {
        Self { interrupt: Some(interrupt.clone()), secrets: Arc::new(secrets), reading, ..Self::default() }
    }

    /// Masks these from now on, and nothing that was masked before.
    pub fn set_secrets(&mut self, secrets: Secrets) {
        self.secrets = Arc::new(secrets);
    }

    /// Masks this too.
    pub fn hide(&mut self, secret: &str) {
        Arc::make_mut(&mut self.secrets).add(secret);
    }

    pub(crate) fn add(&mut self, afterwards: Afterwards) {
        self.afterwards.push(afterwards);
    }

    /// A program has ended; of one that failed, with what it complained of.
    pub(crate) fn ended(&self, complaint: Option<&str>) {
        self.afterwards.iter().for_each(|afterwards| (afterwards.0)(complaint));
    }

    /// A line as it may be seen.
    pub fn mask(&self, line: &str) -> String {
        self.secrets.mask(line)
    }
}

/// How what a program printed is read where it failed.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// A line of standard error; none where it says nothing.
    pub line: fn(&str) -> Option<String>,
    /// Whether a line only tells more of the one before: the last lines are kept, and it isn't to push out others.
    pub is_detail: fn(&str) -> bool,
    /// What an error shows of the lines that were kept.
    pub error_lines: fn(&str) -> String,
}

impl Default for Reading {
    fn default() -> Self {
        Self { line: |line| Some(line.into()), is_detail: |_| false, error_lines: last_lines }
    }
}

/// The last lines, indented.
fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(6)..].iter().map(|line| format!("  {line}"));
    last.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_comes_later_is_hidden_from_then_on() {
        let mut terms = Terms::default();
        let before = terms.clone();
        terms.hide("geheim");
        assert_eq!(terms.mask("got geheim"), "got ***");
        assert_eq!(before.mask("got geheim"), "got geheim");
    }

    #[test]
    fn an_error_shows_the_last_lines() {
        assert_eq!(last_lines("a\n\nb\n"), "  a\n  b");
        assert_eq!(last_lines(&"x\n".repeat(9)).lines().count(), 6);
    }
}
