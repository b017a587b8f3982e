//! What Compose made of the variables in a folder's `.env`: by its own rules, where they aren't those of one line after
//! the other. It is asked once in a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

type Values = BTreeMap<String, String>;

static TOLD: Mutex<BTreeMap<PathBuf, Values>> = Mutex::new(BTreeMap::new());

/// Keeps what it told.
pub fn keep(dir: &Path, values: Values) {
    if let Ok(mut told) = TOLD.lock() {
        told.insert(dir.into(), values);
    }
}

/// The value of a variable, or that it has none; nothing where Compose wasn't asked.
pub fn told(dir: &Path, name: &str) -> Option<Option<String>> {
    let told = TOLD.lock().ok()?;
    told.get(dir).map(|values| values.get(name).cloned())
}
