//! Commands whose output is kept in a log, which only its owner can read, and shown where asked for.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::folders::work_file;
use crate::lock::Locked;
use ory_runner::process::{CommandError, Invocation};
use ory_stack::private_file::private_file;

impl Locked {
    /// Runs a command. The error of a command that failed names the log.
    pub fn run_logged(&self, step: &str, invocation: &Invocation) -> Result<()> {
        self.run_watched(step, invocation, |_| Ok(()))
    }

    /// Runs a command beside the steps of a plan: the step that needs what it leaves undone tells why it fails.
    pub fn run_beside(&self, invocation: &Invocation) {
        let _ = invocation.output();
    }
}

impl Context {
    /// Where the output of a step of this project is kept.
    pub fn log_path(&self, step: &str) -> Result<PathBuf> {
        work_file(&self.options, &format!("logs/{}-{step}.log", self.stack.project))
    }

    /// Runs a command whose output is kept in a log, with each line, and none every now and then, shown to `watch`, whose error
    /// ends the command.
    pub fn run_watched(
        &self,
        step: &str,
        invocation: &Invocation,
        mut watch: impl FnMut(Option<&str>) -> Result<()>,
    ) -> Result<()> {
        let path = self.log_path(step)?;
        let failed = || format!("failed to write {}", path.display());
        let mut log = private_file(&path).with_context(failed)?;
        let on_line = |line: Option<&str>| {
            if let Some(line) = line {
                self.out.relay(line);
                writeln!(log, "{line}").with_context(failed)?;
            }
            watch(line)
        };
        let run = self.out.grouped(step, || invocation.stream(on_line));
        run.map_err(|error| match error.downcast::<CommandError>() {
            Ok(command) => command.with_log(path.clone()).into(),
            Err(other) => other,
        })
    }
}
