//! What a command would fail with, as a finding.

use ory_runner::failure::{Exit, Failure};
use ory_stack::checks::Finding;

/// An error of a command, as a finding.
pub fn of_error(subject: &str, error: &anyhow::Error) -> Finding {
    let causes = error.chain().take(2).map(|cause| cause.to_string());
    let causes: Vec<_> = causes.filter_map(|cause| cause.lines().next().map(String::from)).collect();
    let is_missing = Failure::of(error).is_some_and(|failure| failure.exit == Exit::Missing);
    let new = if is_missing { Finding::missing } else { Finding::failure };
    let finding = new(subject, causes.join(": "), "");
    Finding { fix: Failure::hint_of(error).map(String::from), ..finding }
}
