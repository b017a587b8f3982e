//! Files with secrets: nobody but their owner reads them, they are never half written, and nothing is ever written into
//! a file that somebody else has made.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use ory_runner::failure::{Exit, Failure};

/// Links that lead on to links: as many as Linux follows.
const LINKS: usize = 40;

/// Who may read a file that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Those who could; of a new one its owner.
    Kept,
    /// Its owner alone, if everybody could: it gets its first secrets, and nobody has chosen that.
    Chosen,
}

/// An empty file that only its owner can read, from the first byte on. What has its name goes first: it could be a link
/// to elsewhere, or a file that others hold open.
pub fn private_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // It fails where somebody was faster, also with a link.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Replaces a file as a whole, so that it is never half written. A link stays, and what it leads to is replaced; so stay
/// owner, group and mode. One that is read-only, or whose owner can't be kept, is refused.
pub fn replace(path: &Path, text: &str, readers: Readers) -> Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let target = followed(path).with_context(failed)?;
    let old = match fs::metadata(&target) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.with_context(failed)?),
    };
    if let Some(old) = &old {
        check(path, &target, old)?;
    }
    let temporary = temporary(&target);
    let write = || -> Result<()> {
        let mut file = private_file(&temporary)?;
        file.write_all(text.as_bytes())?;
        if let Some(old) = &old {
            take_over(&file, path, &target, old, readers)?;
        }
        file.sync_all()?;
        Ok(fs::rename(&temporary, &target)?)
    };
    write().with_context(failed).inspect_err(|_| _ = fs::remove_file(&temporary))
}

/// Where the links lead to that a path may be, whether anything is there or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => path = folder(&path).join(fs::read_link(&path)?),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => return Ok(path),
        }
    }
    Err(io::Error::other("its links lead nowhere"))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// What the new text is called until it is whole. Git ignores it as it does `.env`; what a killed run left of it goes
/// with the next.
fn temporary(target: &Path) -> PathBuf {
    let mut name = OsString::from(target.file_name().unwrap_or_default());
    name.push(".xtask");
    target.with_file_name(name)
}

fn check(path: &Path, target: &Path, old: &Metadata) -> Result<()> {
    let refused = |what: &str, hint: String| {
        Err(Failure::new(Exit::Failed, format!("{} {what}", path.display())).hint(hint).into())
    };
    let quoted = quoted(target);
    if !old.is_file() {
        return refused("is no file that can be written", format!("ls -ld {quoted}"));
    }
    if old.permissions().readonly() {
        return refused("is read-only", format!("chmod u+w {quoted}, if it may be changed"));
    }
    Ok(())
}

/// Gives a new file the owner, the group and the mode of the one that it replaces.
#[cfg(unix)]
fn take_over(file: &File, path: &Path, target: &Path, old: &Metadata, readers: Readers) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let own = file.metadata()?;
    let owner = (own.uid() != old.uid()).then_some(old.uid());
    let group = (own.gid() != old.gid()).then_some(old.gid());
    if (owner.is_some() || group.is_some()) && fchown(file, owner, group).is_err() {
        let whose = match owner {
            Some(owner) => format!("belongs to another user ({owner})"),
            None => format!("belongs to a group ({}) that you aren't in", old.gid()),
        };
        let message = format!("{} {whose}", path.display());
        let hint = format!(
            "run this as its owner, or make it yours: sudo chown \"$(id -u):$(id -g)\" {}",
            quoted(target)
        );
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    let mode = old.mode() & 0o777;
    let is_closed = readers == Readers::Chosen && mode & 0o007 != 0;
    Ok(file.set_permissions(PermissionsExt::from_mode(if is_closed { 0o600 } else { mode }))?)
}

#[cfg(not(unix))]
fn take_over(_: &File, _: &Path, _: &Path, _: &Metadata, _: Readers) -> Result<()> {
    Ok(())
}

fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    shlex::try_quote(&path).map(String::from).unwrap_or(path)
}

/// A file's mode, as `chmod` takes it; where there are none, what it comes to.
pub fn mode(path: &Path) -> u32 {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        return std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777;
    }
    let _ = path;
    0o600
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder of a test, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-private-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            path
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("a folder").flatten();
            let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_file_is_private_and_what_had_its_name_stays_as_it_was() {
        let folder = Folder::new("new");
        let other = folder.write("other", "of somebody", 0o644);
        let path = folder.0.join("log");
        symlink(&other, &path).expect("a link");
        private_file(&path).expect("a file").write_all(b"secret").expect("written");
        assert_eq!(fs::read_to_string(&other).expect("a file"), "of somebody");
        assert_eq!((mode(&path), fs::symlink_metadata(&path).expect("a file").is_symlink()), (0o600, false));
        // Somebody opened it before: there is nothing in it to read.
        let open = folder.write("open", "", 0o666);
        let held = File::open(&open).expect("a file");
        private_file(&open).expect("a file").write_all(b"secret").expect("written");
        assert_eq!((io::read_to_string(held).expect("read"), mode(&open)), (String::new(), 0o600));
    }

    #[test]
    fn what_stands_in_the_way_of_the_new_text_is_not_written_into() {
        let folder = Folder::new("way");
        let other = folder.write("other", "of somebody", 0o644);
        let path = folder.write(".env", "A=1\n", 0o640);
        symlink(&other, temporary(&path)).expect("a link");
        folder.write(".env.tmp", "of somebody", 0o644);
        replace(&path, "A=2\n", Readers::Chosen).expect("replaced");
        for (name, text) in [(".env", "A=2\n"), ("other", "of somebody"), (".env.tmp", "of somebody")] {
            assert_eq!(fs::read_to_string(folder.0.join(name)).expect("a file"), text);
        }
        assert_eq!(
            (folder.names(), mode(&path)),
            ([".env", ".env.tmp", "other"].map(String::from).into(), 0o640)
        );
    }

    #[test]
    fn a_mode_is_kept_and_first_secrets_are_for_the_owner_unless_somebody_chose() {
        let folder = Folder::new("mode");
        for (there, readers, then) in [
            (0o644, Readers::Kept, 0o644),
            (0o644, Readers::Chosen, 0o600),
            (0o640, Readers::Chosen, 0o640),
            (0o600, Readers::Chosen, 0o600),
        ] {
            let path = folder.write(".env", "A=1\n", there);
            replace(&path, "A=2\n", readers).expect("replaced");
            assert_eq!(mode(&path), then, "{there:o} {readers:?}");
        }
        let new = folder.0.join("new");
        replace(&new, "A=2\n", Readers::Kept).expect("written");
        assert_eq!(mode(&new), 0o600);
    }

    #[test]
    fn a_link_stays_and_leads_to_the_new_text() {
        let folder = Folder::new("link");
        fs::create_dir_all(folder.0.join("deploy")).expect("a folder");
        let target = folder.write("deploy/secrets.env", "A=1\n", 0o640);
        let (path, between) = (folder.0.join(".env"), folder.0.join("between"));
        symlink("deploy/secrets.env", &between).expect("a link");
        symlink("between", &path).expect("a link");
        replace(&path, "A=2\n", Readers::Kept).expect("replaced");
        assert_eq!((fs::read_to_string(&target).expect("a file").as_str(), mode(&target)), ("A=2\n", 0o640));
        assert!(
            [&path, &between].iter().all(|link| fs::symlink_metadata(link).is_ok_and(|m| m.is_symlink()))
        );
        // It is made where a link leads that leads to nothing yet; in a circle, nothing is.
        fs::remove_file(&target).expect("removed");
        replace(&path, "A=3\n", Readers::Kept).expect("written");
        assert_eq!(fs::read_to_string(&target).expect("a file"), "A=3\n");
        fs::remove_file(&between).expect("removed");
        symlink(".env", &between).expect("a link");
        replace(&path, "A=4\n", Readers::Kept).expect_err("a circle");
    }

    #[test]
    fn what_is_read_only_or_no_file_stays() {
        let folder = Folder::new("only");
        let path = folder.write(".env", "A=1\n", 0o444);
        let error = replace(&path, "A=2\n", Readers::Chosen).expect_err("it is read-only");
        assert!(error.to_string().ends_with(".env is read-only"), "{error}");
        assert!(Failure::hint_of(&error).is_some_and(|hint| hint.starts_with("chmod u+w ")));
        assert_eq!((fs::read_to_string(&path).expect("a file").as_str(), mode(&path)), ("A=1\n", 0o444));
        assert!(replace(&folder.0, "A=2\n", Readers::Kept).is_err());
    }
}
