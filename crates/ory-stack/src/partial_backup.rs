//! The folder of a backup that isn't whole, in a folder that others may use too: other projects, other machines, other
//! programs. What isn't surely a dead run's own stays.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::{Path, PathBuf};

use ory_runner::plain_file;
use ory_runner::process::Invocation;

use crate::backup_key::private_new;
use crate::random::random;

/// What the folder of a backup is called while it isn't whole.
const PARTIAL: &str = ".partial-";

/// The file in it that tells whose it is, and that its run holds locked until it ends.
const RUN: &str = ".run";

/// Makes the folder of backups where it isn't there. Git ignores one that is made here, or that `is_ours`.
pub fn prepare(parent: &Path, is_ours: bool) -> Result<()> {
    let is_new = !parent.exists();
    fs::create_dir_all(parent)?;
    if is_new || is_ours { ignore(parent) } else { Ok(()) }
}

/// Has git ignore all that is in a folder.
fn ignore(folder: &Path) -> Result<()> {
    match private_new(&folder.join(".gitignore")).and_then(|mut file| file.write_all(b"*\n")) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        written => written,
    }
}

/// Removes what killed runs of a project have left, and returns what of it stays: what another machine, or a program
/// of before, may still be at.
pub fn remove_dead(parent: &Path, project: &str) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let is_partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
        if is_partial && entry.file_type()?.is_dir() {
            let path = entry.path();
            match state(&path, project) {
                State::Dead(_lock) if remove(&path).is_ok() => {}
                State::Alive | State::Others => {}
                State::Dead(_) | State::Unknown => left.push(path),
            }
        }
    }
    Ok(left)
}

/// The run of a folder that isn't whole.
enum State {
    /// It has ended: its lock is ours now.
    Dead(File),
    Alive,
    /// It is of another project.
    Others,
    /// It can't be told.
    Unknown,
}

fn state(path: &Path, project: &str) -> State {
    let run = plain_file::open_with(&path.join(RUN), OpenOptions::new().read(true).write(true));
    let Ok(file) = run else { return State::Unknown };
    let mut text = String::new();
    if (&file).take(4096).read_to_string(&mut text).is_err() {
        return State::Unknown;
    }
    let lines: Vec<_> = text.lines().collect();
    let machine = machine();
    match lines[..] {
        [its, _] if its != project => State::Others,
        // Not every file system tells one machine of the locks of another.
        [_, its] if Some(its) == machine.as_deref() => match file.try_lock() {
            Ok(()) => State::Dead(file),
            Err(_) => State::Alive,
        },
        _ => State::Unknown,
    }
}

/// What tells this machine from others; none where nothing does.
fn machine() -> Option<String> {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_string());
    let host = read("/proc/sys/kernel/hostname").or_else(|| {
        let output = Invocation::new("hostname", Path::new(".")).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    });
    let host = host.filter(|host| !host.is_empty() && !host.contains('\n'))?;
    Some(format!("{host} {}", read("/etc/machine-id").unwrap_or_default().lines().next().unwrap_or_default()))
}

/// Removes the files of a folder, the lock last, and the folder. What else is in it isn't a backup's.
fn remove(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() != RUN {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(path.join(RUN))?;
    fs::remove_dir(path)
}

/// The folder of a backup that isn't whole; removed unless it is kept.
pub struct Partial {
    parent: PathBuf,
    pub path: PathBuf,
    lock: Option<File>,
}

impl Partial {
    /// Makes it. It has the file that tells its run only once that is locked.
    pub fn new(parent: &Path, project: &str) -> Result<Self> {
        let path = parent.join(format!("{PARTIAL}{project}-{}", random(8).map_err(Error::other)?));
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        let mut partial = Self { parent: parent.into(), path, lock: None };
        let begun = partial.path.join(format!("{RUN}-begun"));
        let mut file = private_new(&begun)?;
        file.write_all(format!("{project}\n{}\n", machine().unwrap_or_default()).as_bytes())?;
        // Without locks nobody removes it, as nobody can have the lock.
        let _ = file.try_lock();
        partial.lock = Some(file);
        fs::rename(begun, partial.path.join(RUN))?;
        // Wherever the folder is, git ignores what is in it.
        ignore(&partial.path)?;
        Ok(partial)
    }

    /// Gives it its name, or that with the first number behind it that nobody has, once its files are on the disk, and so is the name.
    pub fn keep(mut self, name: &str) -> Result<PathBuf> {
        sync_folder(&self.path)?;
        // Windows renames no folder of which a file is open.
        self.lock = self.lock.take().filter(|_| cfg!(unix));
        let mut number = 1;
        loop {
            let again = if number == 1 { String::new() } else { format!("-{number}") };
            let folder = self.parent.join(format!("{name}{again}"));
            number += 1;
            if folder.symlink_metadata().is_ok() {
                continue;
            }
            match fs::rename(&self.path, &folder) {
                // Another run has taken it in between.
                Err(_) if folder.symlink_metadata().is_ok() => continue,
                renamed => renamed?,
            }
            // Whole it is already.
            let _ = fs::remove_file(folder.join(RUN));
            sync_folder(&folder)?;
            sync_folder(&self.parent)?;
            return Ok(folder);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone already where it was kept.
        let _ = remove(&self.path);
    }
}

/// What a folder lists is on the disk once it was synced itself. Windows does so by itself.
pub fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_run_of_the_same_project_is_removed() {
        let parent = std::env::temp_dir().join(format!("partial-{}", std::process::id()));
        prepare(&parent, false).expect("a folder");
        assert!(parent.join(".gitignore").exists());
        let is_there = |path: &Path| path.join(RUN).exists();
        let killed = |project: &str| {
            let mut partial = Partial::new(&parent, project).expect("a folder");
            fs::write(partial.path.join("kratos.dump"), "half").expect("a file");
            // What a killed run doesn't do: its lock ends, and nothing is removed.
            partial.lock = None;
            let path = partial.path.clone();
            std::mem::forget(partial);
            path
        };
        let alive = Partial::new(&parent, "one").expect("a folder");
        let (dead, of_other) = (killed("one"), killed("other"));
        let elsewhere = killed("one");
        fs::write(elsewhere.join(RUN), "one\nanother machine\n").expect("written");
        let unknown = parent.join(".partial-2026-01-02T03-04-05Z");
        fs::create_dir(&unknown).expect("a folder");
        let mut left = remove_dead(&parent, "one").expect("read");
        left.sort();
        let mut expected = [elsewhere.clone(), unknown.clone()];
        expected.sort();
        assert_eq!(left, expected);
        assert!(is_there(&alive.path) && is_there(&of_other) && !dead.exists());

        // What isn't a backup's file isn't removed with it.
        let odd = killed("one");
        fs::create_dir(odd.join("folder")).expect("a folder");
        assert!(remove_dead(&parent, "one").expect("read").contains(&odd));

        let folder = alive.keep("2026").expect("kept");
        let again = Partial::new(&parent, "one").expect("a folder").keep("2026").expect("kept");
        assert_eq!(again, parent.join("2026-2"));
        assert!(!is_there(&folder) && folder.join(".gitignore").exists());

        let own = parent.join("own");
        fs::create_dir(&own).expect("a folder");
        prepare(&own, false).expect("a folder");
        assert!(!own.join(".gitignore").exists());
        prepare(&own, true).expect("a folder");
        assert!(own.join(".gitignore").exists());
        fs::remove_dir_all(&parent).expect("removed");
    }
}
