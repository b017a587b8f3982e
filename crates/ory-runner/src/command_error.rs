//! The failure of a program: how it ended, and what it said.

use std::fmt;
use std::path::PathBuf;

use crate::terms::Reading;

/// A program that ended with a failure.
#[derive(Debug)]
pub struct CommandError {
    pub command: String,
    pub status: Option<i32>,
    /// Its last lines, standard error among them, secrets masked.
    pub stderr: String,
    /// Where all of its output is.
    pub log: Option<PathBuf>,
    reading: Reading,
}

impl CommandError {
    /// One of which all that is known is how it ended, and what it printed.
    pub fn new(command: impl Into<String>, status: Option<i32>, stderr: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            status,
            stderr: stderr.into(),
            log: None,
            reading: Reading::default(),
        }
    }

    /// The same, read so.
    pub(crate) fn read_by(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    /// The same with the file that all of its output is in.
    pub fn with_log(self, log: PathBuf) -> Self {
        Self { log: Some(log), ..self }
    }
}

impl std::error::Error for CommandError {}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.status {
            Some(code) => write!(f, "{} ended with exit code {code}", self.command)?,
            None => write!(f, "{} was ended by a signal", self.command)?,
        }
        if let Some(log) = &self.log {
            write!(f, "; all it printed is in {}", log.display())?;
        }
        match (self.reading.error_lines)(&self.stderr) {
            lines if lines.is_empty() => Ok(()),
            lines => write!(f, "\n{lines}"),
        }
    }
}
