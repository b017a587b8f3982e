//! One run at a time for a stack. Two files are locked, since two clones can be one project to the engine: the stack's
//! folder's first, before `.env` is written, then the project's, before anything is started.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::Result;

use crate::context::{Context, Options, stack_directory, work_file};
use xtask_runner::file_lock::{self, FileLock};

/// Waits for the lock of the stack's folder. A dry run needs none.
pub fn acquire(options: &Options) -> Result<Option<FileLock>> {
    let name = format!("{:016x}.lock", hash(&stack_directory(options)?));
    take(options, &work_file(&format!("locks/{name}"))?)
}

/// Waits for the lock of the project on this engine, whichever clone another run was started in.
pub fn acquire_project(cx: &Context) -> Result<Option<FileLock>> {
    let engine = ["DOCKER_HOST", "DOCKER_CONTEXT"].map(|name| std::env::var_os(name).unwrap_or_default());
    let name = format!("{}-{:016x}.lock", cx.stack.project, hash(&engine));
    take(&cx.options, &file_lock::shared_folder()?.join(name))
}

fn take(options: &Options, path: &Path) -> Result<Option<FileLock>> {
    let take = || file_lock::take(path, options.lock_timeout, options.output, &options.interrupt);
    if options.dry_run { Ok(None) } else { take().map(Some) }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
