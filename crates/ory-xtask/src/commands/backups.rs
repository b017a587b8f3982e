//! `backups`: the backups there are.

use anyhow::Result;

use crate::arguments::Folder;
use crate::backup_step;
use ory_facts::manifest::{Dump, Manifest};
use ory_ops::backup::{self, Backup};
use ory_ops::context::{Context, Options};
use ory_runner::output::{Output, size, table};
use ory_stack::backup_key;

pub fn run(options: &Options, folder: &Folder) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    let folder = backup_step::folder(&cx, folder);
    let mut lines =
        vec![["BACKUP", "PROJECT", "PRODUCTS", "ROWS", "SIZE", "NOTE"].map(String::from).to_vec()];
    let mut damaged = Vec::new();
    // Without it none can be told to be this stack's.
    let key = backup_key::key(&cx.dir).unwrap_or_else(|error| {
        damaged.push(error);
        None
    });
    for (name, backup) in backup::all(&folder)? {
        match backup {
            Ok(backup) => lines.push(line(name, &backup, key.as_deref())),
            Err(error) => damaged.push(error),
        }
    }
    if lines.len() > 1 {
        table(&lines).iter().try_for_each(Output::data)?;
    } else if damaged.is_empty() {
        cx.out.say("no backups yet: {XTASK} backup");
    }
    damaged.iter().for_each(|error| cx.out.warn(format!("{error:#}")));
    Ok(())
}

fn line(name: String, backup: &Backup, key: Option<&str>) -> Vec<String> {
    let Manifest { project, dumps, .. } = &backup.manifest;
    let rows: u64 = dumps.iter().map(|dump| dump.contents.total()).sum();
    let names = dumps.iter().map(Dump::names).collect::<Vec<_>>().join(", ");
    let notes = [
        backup.foreign(key).map(|_| "not made by this stack"),
        backup.is_unverified().then_some("not verified, though it was to be"),
    ];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    let size = size(backup.manifest.bytes());
    vec![name, project.clone(), names, rows.to_string(), size, notes.join("; ")]
}
