//! One run at a time for a stack: a file that a command which changes anything keeps locked. The system
//! releases it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::context::{Options, stack_directory, work_file};
use crate::failure::{Exit, Failure};

/// Held until it is dropped.
pub struct Lock {
    _file: Option<File>,
}

/// Waits for the lock of the stack, and says who holds it. A dry run needs none.
pub fn acquire(options: &Options) -> Result<Lock> {
    if options.dry_run {
        return Ok(Lock { _file: None });
    }
    let dir = stack_directory(options)?;
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let path = work_file(&format!("locks/{:016x}.lock", hasher.finish()))?;
    let failed = || format!("failed to lock {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(failed)?;
    let start = Instant::now();
    let mut progress = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            Err(TryLockError::WouldBlock) => {}
        }
        if progress.is_none() {
            let mut holder = String::new();
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.read_to_string(&mut holder))
                .with_context(failed)?;
            options.output.say(format!("waiting for another run on this stack: {}", holder.trim()));
            progress = Some(options.output.progress("waiting for another run on this stack"));
        }
        if start.elapsed() > options.lock_timeout {
            let message =
                format!("another run still holds this stack after {} s", options.lock_timeout.as_secs());
            bail!(Failure::new(Exit::Locked, message).hint("wait until it has ended, then run this again"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let command: Vec<_> = std::env::args().skip(1).collect();
    let holder = format!("cargo xtask {} (process {})\n", command.join(" "), std::process::id());
    let write = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(holder.as_bytes()));
    write.with_context(failed)?;
    Ok(Lock { _file: Some(file) })
}
