//! A backup that is made before something that may lose data, and what is said of one.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arguments::Folder;
use ory_facts::contents;
use ory_facts::manifest::{Dump, Upgraded};
use ory_ops::advisory_lock;
use ory_ops::backup;
use ory_ops::context::Context;
use ory_ops::load_dump;
use ory_ops::lock::Locked;
use ory_ops::migrations;
use ory_ops::postgres;
use ory_ops::snapshot;
use ory_ops::target::{self, Target};
use ory_runner::output::{Output, counted, size};
use ory_stack::stack::Deployment;

/// Where backups are.
pub fn folder(cx: &Context, folder: &Folder) -> PathBuf {
    folder.output.clone().unwrap_or_else(|| backup::folder(cx))
}

/// What a dump holds, in a line.
fn line(dump: &Dump) -> String {
    let contents = &dump.contents;
    format!(
        "{}: backed up {} in {} ({}, {})",
        dump.names(),
        counted(contents.total() as usize, "row"),
        counted(contents.rows.len(), "table"),
        counted(contents.versions.len(), "migration"),
        size(dump.bytes)
    )
}

/// The backup before this one, whose counts are compared; none where it can't be read.
pub fn earlier(cx: &Context, folder: &Path) -> Option<backup::Backup> {
    backup::latest(cx, folder, &[]).ok()?.0
}

/// Says what a dump holds, and what a restore of it will need.
pub fn tell(cx: &Context, before: Option<&backup::Backup>, dump: &Dump) {
    cx.out.say(line(dump));
    let before = before.and_then(|backup| {
        backup.manifest.dumps.iter().find(|other| other.file == dump.file && other.database == dump.database)
    });
    for less in contents::implausible(&dump.contents, before.map(|dump| &dump.contents)) {
        cx.out.warn(format!("{}: {less}", dump.names()));
    }
    load_dump::told(dump).iter().for_each(|need| cx.out.warn(need));
}

/// Backs up before something that may lose data, and reads the dumps again: it goes on only if they are good.
/// Where it is `to_verify`, it isn't the latest before it was.
pub fn before(cx: &Locked, targets: &[&Target], folder: &Folder, to_verify: bool) -> Result<backup::Backup> {
    let folder = self::folder(cx, folder);
    let earlier = earlier(cx, &folder);
    checked(cx, backup::take(cx, targets, &folder, to_verify)?, earlier.as_ref())
}

/// A backup whose dumps are read again, and told.
fn checked(cx: &Locked, made: backup::Backup, earlier: Option<&backup::Backup>) -> Result<backup::Backup> {
    for dump in &made.manifest.dumps {
        made.check(cx, dump)?;
        tell(cx, earlier, dump);
    }
    Ok(made)
}

/// The same before products go to other images, which the backup tells.
pub fn before_upgrade(cx: &Locked, targets: &[&Target], upgrades: Vec<Upgraded>) -> Result<backup::Backup> {
    checked(cx, backup::take_before(cx, targets, &backup::folder(cx), false, upgrades)?, None)
}

/// Backs up the databases that a migration will change, and that have something to lose.
pub fn before_migration(cx: &Locked, deployments: &[Deployment]) -> Result<()> {
    let (mut pending, mut migrated) = (vec![], vec![]);
    for (deployment, state) in deployments.iter().zip(migrations::states_not_ahead(cx, deployments)?) {
        if state.pending() != Some(0) {
            pending.push(deployment.product);
            migrated.extend((!state.applied.is_empty()).then_some(deployment.product));
        }
    }
    let mut targets = Vec::new();
    for target in target::located(cx, &pending)? {
        // What was migrated has rows, and those of a large database take long to be counted.
        let is_migrated = target.deployments.iter().any(|deployment| migrated.contains(&deployment.product));
        if is_migrated || !snapshot::contents(cx, &target, target.database())?.rows.is_empty() {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        return Ok(());
    }
    let _locks = advisory_lock::acquire_all(cx, &targets)?;
    let made = before(cx, &targets.iter().collect::<Vec<_>>(), &Folder { output: None }, false)?;
    Ok(Output::data(made.folder.display().to_string())?)
}

/// What [`before_migration`] runs.
pub fn lines_before_migration(cx: &Context, deployments: &[Deployment]) -> Result<Vec<String>> {
    let products: Vec<_> = deployments.iter().map(|deployment| deployment.product).collect();
    let targets = target::of(cx, &products)?;
    targets
        .iter()
        .map(|target| Ok(format!("{}, where migrations are pending", line_of_dump(cx, target)?)))
        .collect()
}

/// How a dump is proved to be good.
pub fn line_of_proof(target: &Target) -> String {
    format!(
        "# restores that dump of {} into a database that is removed again, and compares it",
        target.in_words()
    )
}

/// Prints the command line of a dump.
pub fn print_dump(cx: &Context, target: &Target) -> Result<()> {
    Ok(Output::data(line_of_dump(cx, target)?)?)
}

/// The command line of a dump: as the product; where the product may not read all, the administrator dumps.
pub fn line_of_dump(cx: &Context, target: &Target) -> Result<String> {
    let place = postgres::place(cx, &cx.listed()?, target.main()?);
    let dump = snapshot::dump(cx, target, &place, "SNAPSHOT", false)?;
    Ok(format!("{dump}  # dumps {}, in the snapshot that it is counted in", target.database()))
}
