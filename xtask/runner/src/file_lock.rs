//! Files that a run keeps locked. The system releases them when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Held until it is dropped.
pub struct FileLock {
    _file: File,
}

/// A folder that every user of this machine may lock files in.
pub fn shared_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("xtask-locks");
    let failed = || format!("failed to create {}", folder.display());
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder).with_context(failed)?;
        open_to_all(&folder, 0o1777).with_context(failed)?;
    }
    Ok(folder)
}

#[cfg(unix)]
fn open_to_all(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn open_to_all(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

/// Opens a lock's file. It is never removed: a run could hold the lock of a file that is no longer there.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // Not in one call: in a folder like /tmp the system refuses to create what somebody else already has.
    options.open(path).or_else(|_| {
        let file = options.create(true).truncate(false).open(path)?;
        open_to_all(path, 0o666)?;
        Ok(file)
    })
}

/// Waits for a lock, for so long at most, and says who holds it.
pub fn take(path: &Path, limit: Duration, out: Output, interrupt: &Interrupt) -> Result<FileLock> {
    let failed = || format!("failed to lock {}", path.display());
    let mut file = open(path).with_context(failed)?;
    let start = Instant::now();
    let mut progress = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            Err(TryLockError::WouldBlock) => {}
        }
        if progress.is_none() {
            out.say(format!("waiting for another run on this stack: {}", holder(&mut file)));
            progress = Some(out.progress("waiting for another run on this stack"));
        }
        if start.elapsed() > limit {
            let message = format!("another run still holds this stack after {} s", limit.as_secs());
            bail!(Failure::new(Exit::Locked, message).hint("wait until it has ended, then run this again"));
        }
        interrupt.sleep(Duration::from_millis(50))?;
    }
    let holder = format!("cargo xtask {} (process {})\n", typed(), std::process::id());
    let write = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(holder.as_bytes()));
    write.with_context(failed)?;
    Ok(FileLock { _file: file })
}

/// The run that holds a lock, and for how long.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    // The holder wrote its name when it took the lock.
    let since = file.metadata().and_then(|metadata| metadata.modified()).ok();
    match (read, since.and_then(|since| since.elapsed().ok())) {
        (Ok(_), Some(age)) if !text.is_empty() => format!("{}, for {} s", text.trim(), age.as_secs()),
        _ => "it has just begun".into(),
    }
}

/// What was typed behind `cargo xtask`.
pub fn typed() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}
