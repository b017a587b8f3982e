//! Files that a run keeps locked. The system releases them when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Held until it is dropped.
pub struct FileLock {
    _file: File,
    /// Another run had it before: what was seen until then may be different by now.
    pub was_waited_for: bool,
}

/// Opens a lock's file, and follows no link to it. It is never removed: a run could hold the lock of a file that is no
/// longer there. Of another user's file, what only locks it is enough.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe that lies there instead is not waited for.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = match options.clone().write(true).create(true).truncate(false).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => options.open(path)?,
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is no regular file")) }
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
    if is_own(&file).with_context(failed)? {
        let holder = format!("{} (process {})\n", out.program.line(), std::process::id());
        let write = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(holder.as_bytes()));
        write.with_context(failed)?;
    }
    Ok(FileLock { _file: file, was_waited_for: progress.is_some() })
}

/// Whether a file is this user's, under this name only: what is written to it is in no other one.
#[cfg(unix)]
fn is_own(file: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata()?;
    Ok(found.uid() == crate::own_folder::user()? && found.nlink() == 1)
}

#[cfg(not(unix))]
fn is_own(_file: &File) -> Result<bool> {
    Ok(true)
}

/// The run that holds a lock, and for how long.
fn holder(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(1000).read_to_end(&mut bytes));
    // The holder wrote its name when it took the lock.
    let since = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let text = String::from_utf8_lossy(&bytes);
    match (read, since.and_then(|since| since.elapsed().ok())) {
        (Ok(_), Some(age)) if !text.is_empty() => format!("{}, for {} s", plain(text.trim()), age.as_secs()),
        _ => "it has just begun".into(),
    }
}

/// Text that somebody else may have written, with nothing in it that a terminal obeys.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::output::Verbosity;
    use crate::program::Program;

    fn lock(path: &Path) -> Result<FileLock> {
        let output = Output { verbosity: Verbosity::Quiet, program: Program::called("cargo xtask") };
        take(path, Duration::ZERO, output, &Interrupt::default())
    }

    #[test]
    fn what_lies_where_a_lock_is_to_be_is_neither_followed_nor_written_to() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let at = |name: &str| temporary.path().join(name);
        std::fs::write(at("canary"), "canary").expect("a file");
        symlink(at("canary"), at("link")).expect("a link");
        symlink(at("new"), at("to nothing")).expect("a link");
        std::fs::hard_link(at("canary"), at("hard")).expect("a link");
        assert!(
            lock(&at("link")).is_err() && lock(&at("to nothing")).is_err() && lock(temporary.path()).is_err()
        );
        lock(&at("hard")).expect("locked");
        assert_eq!(std::fs::read_to_string(at("canary")).expect("a file"), "canary");
        assert!(!at("new").exists());
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()) && lock(&at("pipe")).is_err());
    }

    #[test]
    fn who_holds_a_lock_is_told_without_what_a_terminal_obeys() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let path = temporary.path().join("lock");
        std::fs::write(&path, b"run \x1b]0;owned\x07\xff\n").expect("a file");
        let text = holder(&mut open(&path).expect("a file"));
        assert!(text.starts_with("run ") && !text.chars().any(char::is_control), "{text:?}");
        let _held = lock(&path).expect("free");
        let refused = lock(&path).err().expect("it is held").to_string();
        assert_eq!(refused, "another run still holds this stack after 0 s");
    }
}
