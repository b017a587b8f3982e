//! One run at a time for a stack. Two files are locked, since two clones can be one project to the engine: the stack's
//! folder's first, before `.env` is written, then the project's, before anything is started.
//!
//! What changes a stack asks for a [`Locked`], which only the two locks give.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use anyhow::Result;
use ory_facts::digest;

use crate::context::Context;
use crate::folders::{stack_directory, work_file};
use crate::invalidation::Effect;
use crate::options::Options;
use ory_runner::file_lock::{self, FileLock};
use ory_runner::own_folder;

/// The lock of a stack's folder. A dry run needs none, and has this all the same.
pub struct FolderLock {
    _file: Option<FileLock>,
}

/// A stack that this run alone works on: the context of a command that changes something.
pub struct Locked {
    // They are given back in this order.
    _project: Option<FileLock>,
    cx: Context,
    _folder: FolderLock,
}

impl FolderLock {
    /// Waits for it.
    pub fn take(options: &Options) -> Result<Self> {
        let folder = stack_directory(options)?;
        let name = format!("locks/{}.lock", short(&folder.to_string_lossy()));
        Ok(Self { _file: take(options, || work_file(options, &name))? })
    }

    /// Waits for the lock of the project on this engine too, whichever clone another run of this user was started in, and
    /// however it was told where the engine is: the engine itself tells which one it is. What databases were seen to have
    /// before is asked again: whoever had the lock may have changed everything.
    pub fn and_project(self, cx: Context) -> Result<Locked> {
        let project = &cx.stack.project;
        let of_engine = |cx: &Context| short(&format!("{}\n{project}", cx.engine.id()));
        let path =
            || Ok(own_folder::find()?.join(format!("{}-{}.lock", project.replace('/', "_"), of_engine(&cx))));
        let lock = take(&cx.options, path)?;
        if lock.as_ref().is_some_and(|lock| lock.was_waited_for) || cx.engine.cache().has_seen() {
            cx.engine.cache().forget(Effect::Everything);
        }
        Ok(Locked { _project: lock, cx, _folder: self })
    }
}

impl Locked {
    /// Takes the stack as its files are now, under the same locks.
    pub fn read_again(&mut self) -> Result<()> {
        self.cx = Context::new(&self.cx.options, self.cx.settings.clone())?;
        Ok(())
    }
}

impl Deref for Locked {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.cx
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Context {
        &mut self.cx
    }
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
