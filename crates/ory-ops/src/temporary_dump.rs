//! A dump on its way from one place to another: a file that only its owner can read, removed whatever happens; one that
//! a killed run has left, by the next.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use ory_runner::process::Invocation;
use ory_stack::private_file::private_file;

use crate::context::Context;
use crate::folders::work_file;

/// The file.
pub struct WorkDump(PathBuf);

impl WorkDump {
    /// Takes what a command dumps. `name` tells what it is of.
    pub fn take(cx: &Context, name: &str, command: &Invocation) -> Result<Self> {
        let dump = Self(work_file(&cx.options, &format!("dumps/{}-{name}.dump", cx.stack.project))?);
        let failed = || format!("failed to write {}", dump.0.display());
        let mut file = private_file(&dump.0).with_context(failed)?;
        let transferred = Arc::new(AtomicU64::new(0));
        let _progress = cx.out.progress_of(format!("copying {name}"), Arc::clone(&transferred));
        command.receive(|piece| {
            file.write_all(piece).with_context(failed)?;
            transferred.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(dump)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkDump {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}
