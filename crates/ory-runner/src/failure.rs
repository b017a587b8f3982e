//! What a command can fail with: a message, the next command to type, and a documented exit code.

use std::fmt;

/// The exit codes of xtask. They are documented in `cargo xtask --help`, and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed.
    Failed = 1,
    /// Wrong usage: an unknown command, option, service or product.
    Usage = 2,
    /// Migrations are pending.
    Pending = 3,
    /// The database is ahead of the image.
    Ahead = 4,
    /// A prerequisite is missing: the engine, Compose, a file, a secret.
    Missing = 5,
    /// Another run holds the lock.
    Locked = 6,
    /// SIGHUP: the terminal was closed; 128 and the signal's number, as shells have it.
    HungUp = 129,
    /// Ctrl-C, likewise.
    Interrupted = 130,
    /// SIGTERM, likewise.
    Terminated = 143,
}

/// An error with its exit code and, where there is one, the next command to type.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Lower case, no full stop: it is printed behind `error: ` or `caused by: `.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Adds the next command to type, printed behind `hint: `.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The next command to type, if one is known.
    pub fn next(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// With the next command behind it, where it isn't what a command ends with.
    pub fn in_one_line(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!(": {hint}")).collect::<String>();
        format!("{}{hint}", self.message)
    }

    /// The outermost failure of an error, which decides its exit code and hint.
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref()
    }

    /// The exit code of an error.
    pub fn exit_of(error: &anyhow::Error) -> Exit {
        Self::of(error).map_or(Exit::Failed, |failure| failure.exit)
    }

    /// The next command to type, if one is known.
    pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
        Self::of(error)?.next()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
