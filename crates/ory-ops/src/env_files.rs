//! The files of variables that the containers of a stack were made with.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::quote;
use ory_stack::container::Listed;
use ory_stack::env_files;

use crate::engine::Engine;
use ory_facts::next::XTASK;

/// The files that the containers of this stack were made with, where plain Compose would read others; none where nobody
/// needs them, and where it is told to Compose already.
pub fn made_with(
    engine: &Engine,
    resolved: &str,
    listed: &[Listed],
    dir: &Path,
) -> Result<Option<Vec<PathBuf>>> {
    if engine.is_v1 || std::env::var_os("COMPOSE_ENV_FILES").is_some_and(|files| !files.is_empty()) {
        return Ok(None);
    }
    let project = resolved.lines().find_map(|line| line.strip_prefix("name: ")).unwrap_or_default();
    let lists = env_files::env_files(listed, project.trim_matches(['"', '\'']), dir);
    let hint = |files: &[PathBuf]| {
        let files = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(",");
        format!("say which ones, as in: COMPOSE_ENV_FILES={} {XTASK} up", quote(&files))
    };
    match lists.as_slice() {
        [] => Ok(None),
        [files] => match files.iter().find(|file| !file.exists()) {
            None => Ok(Some(files.clone())),
            Some(gone) => {
                let message = format!(
                    "the containers of this stack were made with {}, which isn't there: other secrets may not read \
                     their data",
                    gone.display()
                );
                Err(Failure::new(Exit::Missing, message)
                    .hint(format!("put it back, or {}", hint(files)))
                    .into())
            }
        },
        [first, ..] => {
            let each: Vec<_> = lists.iter().map(|files| in_words(files)).collect();
            let message = format!(
                "the containers of this stack were created with different variables: from {}",
                each.join("; from ")
            );
            Err(Failure::new(Exit::Missing, message).hint(hint(first)).into())
        }
    }
}

pub fn in_words(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ")
}
