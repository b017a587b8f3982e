//! The options that every command has.

use std::path::PathBuf;
use std::time::Duration;

use ory_runner::interrupt::Interrupt;
use ory_runner::output::Output;

/// How long a service is waited for where no other time is asked for.
const WAIT: Duration = Duration::from_secs(60);

/// What was asked for with a command, whichever it is.
#[derive(Debug, Clone)]
pub struct Options {
    pub directory: Option<PathBuf>,
    pub dry_run: bool,
    /// How long a wait may take, and a migration too; none: a minute for a wait, a migration as long as it takes.
    pub timeout: Option<Duration>,
    /// How long another run is waited for.
    pub lock_timeout: Duration,
    /// How long a migration may wait for a lock in PostgreSQL.
    pub db_lock_timeout: Option<Duration>,
    pub interrupt: Interrupt,
    pub output: Output,
}

impl Options {
    /// How long a service may take to answer.
    pub fn wait(&self) -> Duration {
        self.timeout.unwrap_or(WAIT)
    }
}
