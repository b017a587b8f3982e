//! One run at a time for a stack. Two files are locked, since two clones can be one project to the engine: the stack's
//! folder's first, before `.env` is written, then the project's, before anything is started.

use std::path::PathBuf;

use anyhow::Result;
use ory_facts::digest;

use crate::context::{Context, Options};
use crate::effects::Effect;
use crate::folders::{stack_directory, work_file};
use ory_runner::file_lock::{self, FileLock};
use ory_runner::own_folder;

/// Waits for the lock of the stack's folder. A dry run needs none.
pub fn acquire(options: &Options) -> Result<Option<FileLock>> {
    let folder = stack_directory(options)?;
    take(options, || work_file(options, &format!("locks/{}.lock", short(&folder.to_string_lossy()))))
}

/// Waits for the lock of the project on this engine, whichever clone another run of this user was started in, and
/// however it was told where the engine is: the engine itself tells which one it is.
pub fn acquire_project(cx: &Context) -> Result<Option<FileLock>> {
    let project = &cx.stack.project;
    let name =
        format!("{}-{}.lock", project.replace('/', "_"), short(&format!("{}\n{project}", cx.engine.id())));
    let lock = take(&cx.options, || Ok(own_folder::find()?.join(name)))?;
    // Whoever had it may have changed everything.
    if lock.as_ref().is_some_and(|lock| lock.was_waited_for) || cx.engine.cache().has_seen() {
        cx.engine.cache().forget(Effect::Everything);
    }
    Ok(lock)
}

fn take(options: &Options, path: impl FnOnce() -> Result<PathBuf>) -> Result<Option<FileLock>> {
    if options.dry_run {
        return Ok(None);
    }
    file_lock::take(&path()?, options.lock_timeout, options.output, &options.interrupt).map(Some)
}

/// A name that stays the same, whatever release of Rust has built this.
fn short(text: &str) -> String {
    digest::of(text)[..16].into()
}
