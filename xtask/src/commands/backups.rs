//! `backups`: the backups there are.

use anyhow::Result;

use crate::arguments::Folder;
use ory_environment::backup::{self, Backup};
use ory_environment::context::{Context, Options};
use ory_facts::backup::Dump;
use xtask_runner::output::{Output, size, table};

pub fn run(options: &Options, folder: &Folder) -> Result<()> {
    let cx = Context::with_placeholders(options, vec![])?;
    let folder = super::backup::folder(&cx, folder);
    let mut lines = vec![["BACKUP", "PROJECT", "PRODUCTS", "ROWS", "SIZE"].map(String::from).to_vec()];
    let mut damaged = Vec::new();
    for (name, backup) in backup::all(&folder)? {
        match backup {
            Ok(backup) => lines.push(line(name, &backup)),
            Err(error) => damaged.push(error),
        }
    }
    if lines.len() > 1 {
        table(&lines).iter().try_for_each(Output::data)?;
    } else if damaged.is_empty() {
        cx.out.say("no backups yet: cargo xtask backup");
    }
    damaged.iter().for_each(|error| cx.out.warn(error.to_string()));
    Ok(())
}

fn line(name: String, backup: &Backup) -> Vec<String> {
    let dumps = &backup.manifest.dumps;
    let rows: u64 = dumps.iter().map(|dump| dump.contents.total()).sum();
    let names = dumps.iter().map(Dump::names).collect::<Vec<_>>().join(", ");
    vec![name, backup.manifest.project.clone(), names, rows.to_string(), size(backup.bytes())]
}
