//! Files that somebody else may have put where they are: only a regular one is opened. A symlink would lead elsewhere, a
//! FIFO would be waited for without end, and to open a device can do something already.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a regular file for reading.
pub fn open(path: &Path) -> Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Opens a regular file, as `options` say.
pub fn open_with(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    #[cfg(not(unix))]
    if is_symlink(path) {
        return Err(not_regular("a symlink"));
    }
    let failed = |error: Error| if is_symlink(path) { not_regular("a symlink") } else { error };
    let file = options.open(path).map_err(failed)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(not_regular("a folder")),
        false => Err(not_regular("a pipe or a device")),
    }
}

/// Reads a regular file of so many bytes at most.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

fn is_symlink(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

fn not_regular(kind: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("it is {kind}, not a file"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let folder = std::env::temp_dir().join(format!("plain-file-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| folder.join(name));
        std::fs::write(&file, "12345").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a symlink");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        assert_eq!(read(&file, 5).expect("read"), b"12345");
        assert!(read(&file, 4).is_err());
        for path in [&link, &pipe, &folder, Path::new("/dev/zero"), &folder.join("missing")] {
            assert!(open(path).is_err(), "{}", path.display());
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
