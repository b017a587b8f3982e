//! Whose backups are: each manifest is signed with a key of the stack, which is kept beside `.env`. A dump is a program,
//! and only what this stack has made is loaded without being looked at.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Error, Result, bail};
use ory_runner::failure::{Exit, Failure};
use ory_runner::plain_file;

use crate::ignored;
use crate::random::random;

/// The key's file: whoever ignores `.env.*` in git ignores it.
const FILE: &str = ".env.backup-key";

/// How many letters and digits it has.
const LENGTH: usize = 64;

/// The stack's key; none where none was made yet, or where it is lost.
pub fn key(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(FILE);
    let bytes = match plain_file::read(&path, 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let failure = Failure::new(Exit::Missing, format!("{} can't be read", path.display()));
            return Err(Error::new(error).context(failure.hint(HINT)));
        }
    };
    let key = String::from_utf8_lossy(&bytes).trim().to_string();
    if key.len() != LENGTH || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        bail!(Failure::new(Exit::Missing, format!("{} has no key", path.display())).hint(HINT));
    }
    Ok(Some(key))
}

const HINT: &str =
    "put its copy back, or remove it: what was backed up until now is then restored only with --force";

/// The same, made where there is none: whole, by itself, and never over one that is there.
pub fn make_key(dir: &Path) -> Result<String> {
    if let Some(key) = key(dir)? {
        return Ok(key);
    }
    let (path, key) = (dir.join(FILE), random(LENGTH)?);
    ignored::keep_out(&path);
    write(&path, &key).map_err(|error| {
        let failure = Failure::new(Exit::Missing, format!("{} can't be written", path.display()));
        Error::new(error).context(failure.hint(format!("ls -ld {}", dir.display())))
    })?;
    // Another run may have been faster.
    Ok(self::key(dir)?.unwrap_or(key))
}

/// Written beside, then given its name: unlike a file that is renamed, a second name takes no other file's.
fn write(path: &Path, key: &str) -> std::io::Result<()> {
    let text = format!("{key}\n");
    let temporary = path.with_file_name(format!("{FILE}-{}", random(8).map_err(std::io::Error::other)?));
    let written = private_new(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let named = written.map(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match named? {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has two names for one file.
        Err(_) => private_new(path)?.write_all(text.as_bytes()),
        Ok(()) => Ok(()),
    }
}

/// A new file that only its owner can read. What is there, a symlink too, is in its way.
pub fn private_new(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
