//! Compose's hashes of the services' configurations, kept from one run to the next: Compose takes longer to tell them
//! than all that a run has to do where nothing changed.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, Result};
use ory_facts::digest;
use ory_stack::private_file::private_file;

use crate::context::Context;
use crate::folders::work_file;

/// What Compose told of this very configuration, none where it told nothing yet.
pub fn kept(cx: &Context) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path(cx).ok()?).ok()?;
    let (of, hashes) = text.split_once('\n')?;
    let hashes = hashes.lines().filter_map(|line| line.split_once(' '));
    (of == digest::of(&cx.resolved)).then(|| hashes.map(|(name, hash)| (name.into(), hash.into())).collect())
}

/// Keeps what Compose told.
pub fn keep(cx: &Context, hashes: &BTreeMap<String, String>) -> Result<()> {
    let path = path(cx)?;
    let lines: String = hashes.iter().map(|(name, hash)| format!("{name} {hash}\n")).collect();
    let text = format!("{}\n{lines}", digest::of(&cx.resolved));
    let written = private_file(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("failed to write {}", path.display()))
}

fn path(cx: &Context) -> Result<std::path::PathBuf> {
    work_file(&cx.options, &format!("configurations/{}.hashes", cx.stack.project))
}
