//! What a check says: how bad it is, what it is about, and what fixes it.

use ory_runner::failure::{Exit, Failure};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will hurt one day.
    Warning,
    /// It doesn't work.
    Failure,
    /// It doesn't work, because a prerequisite isn't there: the engine, an image, a file, a secret.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// The check that found it: a name that stays.
    pub check: &'static str,
    /// The service it is about, or the check itself.
    pub subject: String,
    /// Lower case, no full stop, never a secret.
    pub message: String,
    /// What mends it: a command, or what to change where.
    pub fix: Option<String>,
}

impl Finding {
    /// A finding of the check that is being run.
    pub fn new(level: Level, subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level, check: "", subject: subject.into(), message: message.into(), fix: Some(fix.into()) }
    }

    /// What is said of it, in words.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.message).chain(&mut self.fix)
    }

    /// It works, and will hurt one day.
    pub fn warning(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, message, fix)
    }

    /// It doesn't work.
    pub fn failure(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Failure, subject, message, fix)
    }

    /// A prerequisite isn't there.
    pub fn missing(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Missing, subject, message, fix)
    }

    /// Nothing is wrong with what a check looks at.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, subject: check.into(), message: message.into(), fix: None }
    }

    /// Whether the stack doesn't work as long as this is so.
    pub fn is_failure(&self) -> bool {
        self.level >= Level::Failure
    }
}

/// What stops a command.
impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        let exit = if finding.level == Level::Missing { Exit::Missing } else { Exit::Failed };
        let Finding { subject, message, fix, .. } = finding;
        let message = if message.contains(&subject) { message } else { format!("{subject}: {message}") };
        let failure = Self::new(exit, message);
        match fix {
            Some(fix) => failure.hint(fix),
            None => failure,
        }
    }
}
