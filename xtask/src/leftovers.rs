//! What suites that were killed have left on the engine: removed before the next one starts.
//!
//! The name of a test's stack tells the process that made it. A stack is a leftover if that process is gone and the
//! stack's folder is on this machine: the processes of other machines, and of other containers, aren't seen from here.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use ory_ops::context::Options;
use ory_runner::output::counted;
use ory_runner::process::Invocation;

/// How the name of a test's stack begins; its process and a number follow.
const PREFIX: &str = "xtask-test-";

/// Removes them, and says so.
pub fn remove(options: &Options, dir: &Path) -> Result<()> {
    // Where Linux doesn't tell of processes, none can be said to be gone.
    if !Path::new("/proc/self").exists() {
        return Ok(());
    }
    let docker = |args: &[&str]| Invocation::new("docker", dir).args(args.iter().copied()).read();
    let format =
        "{{.Label \"com.docker.compose.project\"}}\t{{.Label \"com.docker.compose.project.working_dir\"}}";
    let listed = docker(&["ps", "--all", "--format", format])?;
    let gone = gone(
        &listed,
        |process| Path::new("/proc").join(process).exists(),
        |folder| Path::new(folder).exists(),
    );
    for process in &gone {
        let of_process = format!("name={PREFIX}{process}-");
        let ours = |list: &[&str]| docker(&[list, &["--quiet", "--filter", &of_process]].concat());
        let lists: [&[&str]; 3] = [&["ps", "--all"], &["volume", "ls"], &["network", "ls"]];
        let removes: [&[&str]; 3] =
            [&["rm", "--force", "--volumes"], &["volume", "rm", "--force"], &["network", "rm"]];
        for (list, remove) in lists.into_iter().zip(removes) {
            let found = ours(list)?;
            let found: Vec<_> = found.split_whitespace().collect();
            if !found.is_empty() {
                docker(&[remove, &found].concat())?;
            }
        }
    }
    if !gone.is_empty() {
        options.output.say(format!("removed what {} had left", counted(gone.len(), "killed suite")));
    }
    Ok(())
}

/// The processes that are gone, of the containers' projects and folders.
fn gone(listed: &str, is_alive: impl Fn(&str) -> bool, is_here: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let stacks = listed.lines().filter_map(|line| line.split_once('\t'));
    let processes = stacks.filter_map(|(project, folder)| {
        let (process, _) = project.strip_prefix(PREFIX)?.split_once('-')?;
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && is_here(folder) && !is_alive(process)).then(|| process.to_string())
    });
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stacks_of_this_machine_whose_process_is_gone_are_leftovers() {
        let listed = "xtask-test-10-0\t/here/a\nxtask-test-10-1\t/here/b\nxtask-test-11-0\t/here/c\n\
                      xtask-test-12-0\t/elsewhere\nxtask-test-\t/here/d\nxtask-test-x-0\t/here/e\nshop\t/here/f\n\t\n";
        let gone = gone(listed, |process| process == "11", |folder| folder.starts_with("/here"));
        assert_eq!(gone, BTreeSet::from(["10".to_string()]));
    }
}
