//! A folder of this user's own, which no other user of the machine can put anything into. Every run of the user finds
//! the same one, wherever it was started and whatever its TMPDIR says.

use std::path::PathBuf;

use anyhow::Result;

/// The folder, made where it isn't there.
#[cfg(unix)]
pub fn find() -> Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    unix::find(std::path::Path::new("/tmp"), runtime.filter(|folder| folder.is_absolute()))
}

/// Elsewhere the temporary folder is the user's own.
#[cfg(not(unix))]
pub fn find() -> Result<PathBuf> {
    use anyhow::Context;

    let folder = std::env::temp_dir().join("xtask");
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

#[cfg(unix)]
pub(crate) use unix::user;

/// Makes a folder that nobody else may enter; fails where it is there and others may.
#[cfg(unix)]
pub fn make(path: &std::path::Path) -> Result<()> {
    unix::make_private(path, user()?)
}

/// Elsewhere what is in the user's own folders is the user's own.
#[cfg(not(unix))]
pub fn make(path: &std::path::Path) -> Result<()> {
    use anyhow::Context;

    std::fs::create_dir_all(path).with_context(|| format!("failed to create {}", path.display()))
}

/// Whether a file or folder is this user's.
#[cfg(unix)]
pub fn is_own(path: &std::path::Path) -> bool {
    owner(path).zip(user().ok()).is_some_and(|(owner, user)| owner == user)
}

/// Whether one is this user's, or the administrator's, who may do anything anyway.
#[cfg(unix)]
pub fn is_trusted(path: &std::path::Path) -> bool {
    is_own(path) || owner(path) == Some(0)
}

#[cfg(unix)]
fn owner(path: &std::path::Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    Some(path.metadata().ok()?.uid())
}

/// Owners are not looked at elsewhere.
#[cfg(not(unix))]
pub fn is_own(_path: &std::path::Path) -> bool {
    true
}

/// The same.
#[cfg(not(unix))]
pub fn is_trusted(_path: &std::path::Path) -> bool {
    true
}

#[cfg(unix)]
mod unix {
    use std::fs::{DirBuilder, File};
    use std::io::ErrorKind;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    use std::path::{Path, PathBuf};

    use anyhow::{Context, Result, bail};

    use crate::failure::{Exit, Failure};

    /// The folder in a temporary one; else, where another user was first there, in this user's runtime folder. Not the other
    /// way round: a job of cron has no runtime folder, and must find the same one as who is logged in.
    pub fn find(temporary: &Path, runtime: Option<PathBuf>) -> Result<PathBuf> {
        let user = user()?;
        let folder = temporary.join(format!("xtask-{user}"));
        let Err(fault) = make_private(&folder, user) else { return Ok(folder) };
        if let Some(runtime) = runtime
            && check_private(&runtime, user).is_ok()
        {
            let folder = runtime.join("xtask");
            return make_private(&folder, user).map(|()| folder);
        }
        let failure = Failure::new(Exit::Failed, format!("locks can't be kept in {}", folder.display()));
        Err(fault.context(failure.hint(
            "have an administrator remove it, or name a folder that only you may enter: export XDG_RUNTIME_DIR=DIR",
        )))
    }

    /// The user that this process is to the file system: the owner of a pipe of its own.
    pub fn user() -> Result<u32> {
        let (reader, _) = std::io::pipe().context("failed to make a pipe")?;
        Ok(File::from(OwnedFd::from(reader)).metadata().context("failed to look at a pipe")?.uid())
    }

    /// Makes a folder that nobody else may enter, or finds it so.
    pub fn make_private(path: &Path, user: u32) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("failed to create {}", path.display()))
            }
            _ => check_private(path, user),
        }
    }

    /// Fails unless a folder is the user's own, and nobody else may enter it.
    pub fn check_private(path: &Path, user: u32) -> Result<()> {
        let found = path.symlink_metadata();
        let found = found.with_context(|| format!("failed to look at {}", path.display()))?;
        let fault = match (found.is_dir(), found.uid() == user, found.mode() & 0o077 == 0) {
            (true, true, true) => return Ok(()),
            (false, ..) if found.is_symlink() => "it is a symbolic link",
            (false, ..) => "it is no folder",
            (_, false, _) => "it belongs to another user",
            (.., false) => "others may enter it",
        };
        bail!("{} isn't this user's alone: {fault}", path.display())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::unix::{check_private, find, make_private, user};

    #[test]
    fn a_folder_that_another_may_have_a_hand_in_is_none() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let [own, link, file] = ["own", "link", "file"].map(|name| temporary.path().join(name));
        let user = user().expect("a user");
        assert_eq!(temporary.path().metadata().expect("a folder").uid(), user);

        make_private(&own, user).expect("made");
        make_private(&own, user).expect("found");
        assert_eq!(own.metadata().expect("a folder").mode() & 0o777, 0o700);
        let fault = |path, user| format!("{:#}", check_private(path, user).expect_err("a fault"));
        assert!(fault(&own, user + 1).ends_with("it belongs to another user"));
        symlink(&own, &link).expect("a link");
        assert!(fault(&link, user).ends_with("it is a symbolic link"));
        std::fs::write(&file, "").expect("a file");
        assert!(fault(&file, user).ends_with("it is no folder"));
        std::fs::set_permissions(&own, PermissionsExt::from_mode(0o710)).expect("a mode");
        assert!(fault(&own, user).ends_with("others may enter it"));
    }
    #[test]
    fn where_another_user_was_first_the_runtime_folder_is_taken_or_none() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let folder = temporary.path().join(format!("xtask-{}", user().expect("a user")));
        let runtime = temporary.path().join("runtime");
        let found = || find(temporary.path(), Some(runtime.clone()));
        assert_eq!(found().expect("made"), folder);
        std::fs::remove_dir(&folder).expect("removed");
        symlink("/", &folder).expect("a link");
        assert!(found().is_err(), "there is no runtime folder");
        std::fs::create_dir(&runtime).expect("a folder");
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).expect("a mode");
        assert!(found().is_err(), "others may enter it");
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700)).expect("a mode");
        assert_eq!(found().expect("made"), runtime.join("xtask"));
    }
}
