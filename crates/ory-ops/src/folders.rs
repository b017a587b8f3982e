//! Where things are: the stack's folder, and what is cached of it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::options::Options;
use ory_facts::digest;
use ory_facts::next::XTASK;
use ory_runner::failure::{Exit, Failure};
use ory_runner::own_folder;
use ory_runner::process::quote;
use ory_stack::env_file;

/// The names that Compose gives its file, <https://docs.docker.com/compose/intro/compose-application-model/>.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The stack's folder: `-C`, else XTASK_DIRECTORY, else the root of the workspace that Cargo runs this in; without Cargo
/// the nearest folder upwards with a Compose file.
pub fn stack_directory(options: &Options) -> Result<PathBuf> {
    let from_env = || std::env::var_os("XTASK_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = match (options.directory.clone().or_else(from_env), cargo_folder(options)) {
        (Some(dir), _) => dir,
        (None, Some(package)) => workspace_root(&package),
        (None, None) => nearest_stack(&current_folder()?)?,
    };
    let canonical = dir.canonicalize().ok().filter(|dir| dir.is_dir());
    Ok(canonical.ok_or_else(|| {
        Failure::new(Exit::Missing, format!("the stack's folder {} is not there", dir.display()))
            .hint("name the folder of the Compose file with -C DIR")
    })?)
}

/// The root of the workspace that a file or folder is in: the folder of its `Cargo.lock`; where there is none, the folder
/// itself.
pub fn workspace_root(folder: &Path) -> PathBuf {
    let is_root = |dir: &&Path| dir.join("Cargo.lock").is_file();
    folder.ancestors().find(is_root).unwrap_or(folder).to_path_buf()
}

/// A file of the cache and the logs, safe to delete at any time: under `target/ory/` in a Cargo workspace, else in the
/// user's cache folder, for each stack in a folder of its own.
pub fn work_file(options: &Options, name: &str) -> Result<PathBuf> {
    let path = cache(options)?.join(name);
    let parent = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
    Ok(path)
}

fn cache(options: &Options) -> Result<PathBuf> {
    let stack = match cargo_folder(options) {
        Some(package) => return Ok(workspace_root(&package).join("target/ory")),
        None => stack_directory(options)?,
    };
    let root = workspace_root(&stack);
    // What another user has put above the stack says nothing about where this one's files go.
    if root.join("Cargo.lock").is_file() && own_folder::is_own(&root) {
        return Ok(root.join("target/ory"));
    }
    let failure = || {
        Failure::new(Exit::Missing, "this user has no folder for caches")
            .hint("name one: export XDG_CACHE_HOME=DIR")
    };
    let of_user = dirs::cache_dir().ok_or_else(failure)?.join("ory-xtask");
    std::fs::create_dir_all(of_user.parent().unwrap_or(&of_user))
        .with_context(|| format!("failed to create {}", of_user.display()))?;
    own_folder::make(&of_user)?;
    let name = stack.file_name().unwrap_or_default().to_string_lossy();
    Ok(of_user.join(format!("{name}-{}", &digest::of(&stack.to_string_lossy())[..8])))
}

/// The package that Cargo runs, if it runs this.
fn cargo_folder(options: &Options) -> Option<PathBuf> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    folder.filter(|_| options.output.program.is_of_cargo())
}

/// The nearest folder upwards with a Compose file, else this one, of which Compose says what it lacks.
fn nearest_stack(here: &Path) -> Result<PathBuf> {
    // What it names is meant from here.
    if std::env::var_os("COMPOSE_FILE").is_some_and(|files| !files.is_empty()) {
        return Ok(here.into());
    }
    let names_files = |dir: &Path| env_file::value(dir, "COMPOSE_FILE").map(|_| dir.join(".env"));
    let file = |dir: &Path| {
        let mut files = COMPOSE_FILES.iter().map(|name| dir.join(name));
        files.find(|file| file.is_file()).or_else(|| names_files(dir))
    };
    let Some((dir, file)) = here.ancestors().find_map(|dir| Some((dir, file(dir)?))) else {
        return Ok(here.into());
    };
    // Whoever may write above this folder would have containers started with this user's rights.
    if dir != here && !own_folder::is_trusted(&file) {
        let message = format!("the nearest Compose file, {}, is another user's", file.display());
        let hint = format!("if it is the one: {XTASK} -C {} ...", quote(&dir.to_string_lossy()));
        bail!(Failure::new(Exit::Missing, message).hint(hint));
    }
    Ok(dir.into())
}

/// The Compose files of a stack, as Compose finds them: those that COMPOSE_FILE names, else the first of the usual names,
/// and what is to go over it. A file that those bring isn't among them.
pub fn files_of_stack(dir: &Path) -> Vec<PathBuf> {
    let named = env_file::compose_files(dir);
    if !named.is_empty() {
        return named;
    }
    let first = |names: Vec<String>| names.into_iter().map(|name| dir.join(name)).find(|file| file.is_file());
    let over = |name: &str| name.replace(".y", ".override.y");
    let usual = first(COMPOSE_FILES.map(String::from).to_vec());
    usual.into_iter().chain(first(COMPOSE_FILES.map(over).to_vec())).collect()
}

fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().context("the current folder is gone")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_upwards_with_a_compose_file_is_the_stacks() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let (stack, below) = (temporary.path().join("stack"), temporary.path().join("stack/a/b"));
        std::fs::create_dir_all(&below).expect("folders");
        let nearest = || nearest_stack(&below).expect("a folder");
        assert_eq!(nearest(), below, "of nothing Compose tells what it lacks");
        std::fs::write(stack.join("compose.yml"), "").expect("a file");
        assert_eq!(nearest(), stack);
        std::fs::write(stack.join("a/.env"), "COMPOSE_FILE=deploy/stack.yml\n").expect("a file");
        assert_eq!(nearest(), stack.join("a"));
    }

    #[test]
    fn a_compose_file_that_another_user_has_put_above_is_refused() {
        let shell = xshell::Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        let below = temporary.path().join("mine");
        std::fs::create_dir_all(&below).expect("folders");
        let file = temporary.path().join("compose.yaml");
        std::fs::write(&file, "").expect("a file");
        // Only the administrator can give a file away.
        if std::os::unix::fs::chown(&file, Some(12345), None).is_err() {
            return;
        }
        let refused = nearest_stack(&below).expect_err("it is another user's");
        assert!(refused.to_string().ends_with("compose.yaml, is another user's"), "{refused}");
        assert_eq!(
            nearest_stack(temporary.path()).expect("a folder"),
            temporary.path(),
            "here it was asked for"
        );
    }
}
