//! Files with secrets of ours, kept out of git: in the clone's own list of what to ignore, which no commit has.

use std::fs::{self, OpenOptions};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

use ory_runner::process::Invocation;

/// Has git ignore a file, where it is in somebody's clone and git would take it. Where it can't be done, nothing is: the
/// file is as safe as before.
pub fn keep_out(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let ask = |args: &[&str]| Invocation::new("git", folder).args(args.iter().copied()).output();
    // 1: it isn't ignored; 128: no clone, or no git that wants to tell.
    let is_taken = ask(&["check-ignore", "--quiet", "--", name]).is_ok_and(|o| o.status.code() == Some(1));
    if !is_taken {
        return;
    }
    let Ok(output) = ask(&["rev-parse", "--git-path", "info/exclude"]) else { return };
    let list = String::from_utf8_lossy(&output.stdout).trim_end().to_string();
    if output.status.success() && !list.is_empty() {
        let _ = append(&folder.join(list), name);
    }
}

fn append(list: &PathBuf, name: &str) -> Result<()> {
    if let Some(folder) = list.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = fs::read_to_string(list).unwrap_or_default();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    OpenOptions::new().append(true).create(true).open(list)?.write_all(format!("{end}{name}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_takes_no_file_of_secrets_and_the_project_is_left_as_it_is() {
        let dir = std::env::temp_dir().join(format!("ory-stack-ignored-{}", std::process::id()));
        fs::create_dir_all(dir.join("deploy")).expect("a folder");
        let git = |args: &[&str]| {
            let output = Invocation::new("git", &dir).args(args.iter().copied()).output().expect("git");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        // Where there is no clone, nothing happens.
        keep_out(&dir.join("deploy/.env.split"));
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 1);
        git(&["init", "-q"]);
        fs::write(dir.join("deploy/.env.split"), "KRATOS_DSN=x\n").expect("a file");
        assert!(git(&["status", "--porcelain", "-uall"]).contains(".env.split"));
        for _ in 0..2 {
            keep_out(&dir.join("deploy/.env.split"));
            assert_eq!(git(&["status", "--porcelain", "-uall"]), "");
        }
        let list = fs::read_to_string(dir.join(".git/info/exclude")).expect("a file");
        assert_eq!(list.matches(".env.split").count(), 1);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
