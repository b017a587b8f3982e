//! Compose's hashes of the services' configurations, kept from one run to the next: Compose takes longer to tell them
//! than all that a run has to do where nothing changed.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, Result};
use ory_facts::digest;
use ory_facts::sorted::Sorted;
use ory_stack::private_file::private_file;

use crate::folders::work_file;
use crate::options::Options;

/// What Compose told of this very configuration, none where it told nothing yet.
pub fn kept(options: &Options, project: &str, resolved: &str) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path(options, project).ok()?).ok()?;
    let (of, hashes) = text.split_once('\n')?;
    let hashes = hashes.lines().filter_map(|line| line.split_once(' '));
    (of == digest::of(resolved)).then(|| hashes.map(|(name, hash)| (name.into(), hash.into())).into_map())
}

/// Keeps what Compose told.
pub fn keep(
    options: &Options,
    project: &str,
    resolved: &str,
    hashes: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path(options, project)?;
    let lines: String = hashes.iter().map(|(name, hash)| format!("{name} {hash}\n")).collect();
    let text = format!("{}\n{lines}", digest::of(resolved));
    let written = private_file(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("failed to write {}", path.display()))
}

fn path(options: &Options, project: &str) -> Result<std::path::PathBuf> {
    work_file(options, &format!("configurations/{project}.hashes"))
}
