//! Whether the new server holds what the old one does, thing by thing.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context as _, Result, bail};
use ory_facts::server_contents::{self, Contents};
use ory_facts::server_facts::{Database, EXTENSIONS};
use ory_runner::failure::{Exit, Failure};

use super::bench::Bench;
use crate::administrator::MAINTENANCE_DATABASE;

/// How many differences are told.
const TOLD: usize = 12;

/// What a server holds: of each database by its name, and of the server by none.
pub type All = BTreeMap<String, Contents>;

/// Asks for all of a server.
fn all(bench: &Bench, databases: &[Database], maintain: bool) -> Result<All> {
    let read = |database: &str, script: &str| {
        let said = bench.ask(database).stdin(script).read()?;
        server_contents::read(&said).context("psql didn't tell what the server holds")
    };
    let mut all = All::from([(
        String::new(),
        [
            read(MAINTENANCE_DATABASE, &server_contents::of_server(maintain))?,
            read(MAINTENANCE_DATABASE, server_contents::FILES)?,
        ]
        .into_iter()
        .flatten()
        .collect(),
    )]);
    let script = server_contents::of_database(maintain);
    for database in databases {
        all.insert(database.name.clone(), read(&database.name, &script)?);
    }
    Ok(all)
}

/// Fails where the two differ. Returns what both hold.
pub fn compare(old: &Bench, new: &Bench, databases: &[Database], maintain: bool) -> Result<All> {
    let [before, after] = thread::scope(|scope| {
        let each = [old, new].map(|bench| scope.spawn(move || all(bench, databases, maintain)));
        each.map(|one| one.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let (before, after) = (before?, after?);
    let differences: Vec<_> = before
        .iter()
        .flat_map(|(database, contents)| {
            let other = after.get(database).cloned().unwrap_or_default();
            let found = server_contents::differences(contents, &other).into_iter();
            let of = if database.is_empty() { String::new() } else { format!("{database}: ") };
            found.map(move |difference| format!("{of}{difference}")).collect::<Vec<_>>()
        })
        .collect();
    if differences.is_empty() {
        return Ok(after);
    }
    let more = match differences.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let told = differences[..differences.len().min(TOLD)].join("; ");
    let message = format!("the new server doesn't hold what the old one does: {told}{more}");
    bail!(
        Failure::new(Exit::Failed, message)
            .hint("tell us, with what is named here: it is a fault of xtask's")
    )
}

/// The extensions whose versions are others now, in words.
pub fn other_versions(old: &Bench, new: &Bench, databases: &[Database]) -> Result<Vec<String>> {
    let mut found = vec![];
    for database in databases {
        let versions = |bench: &Bench| -> Result<BTreeMap<String, String>> {
            let said = bench.ask(&database.name).stdin(EXTENSIONS).read()?;
            let rows =
                ory_facts::rows::read(said.lines()).filter_map(|row| <[String; 2]>::try_from(row).ok());
            Ok(rows.map(|[name, version]| (name, version)).collect())
        };
        let now = versions(new)?;
        for (name, before) in versions(old)? {
            if let Some(after) = now.get(&name).filter(|after| **after != before) {
                found.push(format!("{name} of {} is {after}, was {before}", database.name));
            }
        }
    }
    Ok(found)
}
