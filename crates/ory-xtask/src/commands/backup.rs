//! `backup`: a dump of each database, and with `--verify` the proof that it can be restored.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Folder, Images, listed, products, switch};
use ory_facts::backup::Dump;
use ory_facts::contents;
use ory_ops::backup;
use ory_ops::context::{Context, Options};
use ory_ops::load;
use ory_ops::lock;
use ory_ops::migrations;
use ory_ops::postgres;
use ory_ops::replace_rights;
use ory_ops::replacement::Replacement;
use ory_ops::server_lock;
use ory_ops::snapshot;
use ory_ops::store::{self, Store};

use ory_runner::output::{Output, counted, size};
use ory_stack::stack::Deployment;

pub struct Backup {
    products: Vec<String>,
    verify: bool,
    folder: Folder,
}

impl Arguments for Backup {
    fn all() -> Vec<Arg> {
        let products = products("Only these products [default: all of the stack]");
        let verify = switch("verify", "Restore it too, into a database that is removed again, and compare");
        [vec![products, verify], Folder::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            products: listed(typed, "PRODUCT"),
            verify: typed.get_flag("verify"),
            folder: Folder::read(typed),
        }
    }
}

pub fn run(options: &Options, args: &Backup) -> Result<()> {
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &Images { stand_in: None })?;
    let _project = lock::acquire_project(&cx)?;
    let stores = super::stores(&cx, &super::products(&cx, &args.products)?)?;
    if options.dry_run {
        return stores.iter().try_for_each(|store| print_dump(&cx, store));
    }
    // What a role may not do is said before anything is done.
    let verified = if args.verify { &stores[..] } else { &[] };
    let replacements = verified.iter().map(|store| Replacement::new(&cx, store));
    let replacements = replacements.collect::<Result<Vec<_>>>()?;
    // A migration meanwhile could be in the middle of rewriting a table. A replacement has the lock already.
    let _locks = if args.verify { vec![] } else { server_lock::acquire_all(&cx, &stores)? };
    let folder = folder(&cx, &args.folder);
    let earlier = earlier(&cx, &folder);
    let made = backup::take(&cx, &stores.iter().collect::<Vec<_>>(), &folder, args.verify)?;
    made.manifest.dumps.iter().for_each(|dump| tell(&cx, earlier.as_ref(), dump));
    if !args.verify {
        for store in &stores {
            replace_rights::missing(&cx, store)?.iter().for_each(|missing| cx.out.warn(missing));
        }
    }
    if args.verify {
        let verified = verify(&cx, &made, &replacements).and_then(|()| made.set_verified());
        verified.inspect_err(|_| {
            let folder = made.folder.display();
            cx.out.warn(format!("{folder} stays, but is not `latest`: it was to be verified, and is not"));
        })?;
    }
    Ok(Output::data(made.folder.display().to_string())?)
}

/// Restores each dump beside what is there, and compares it.
fn verify(cx: &Context, made: &backup::Backup, replacements: &[Replacement]) -> Result<()> {
    for (replacement, dump) in replacements.iter().zip(&made.manifest.dumps) {
        made.check(cx, dump)?;
        replacement.verify(dump, &made.path(dump))?;
        cx.out.say(format!("{}: restored and compared", dump.names()));
    }
    Ok(())
}

/// Where backups are.
pub fn folder(cx: &Context, folder: &Folder) -> std::path::PathBuf {
    folder.output.clone().unwrap_or_else(|| backup::folder(cx))
}

/// What a dump holds, in a line.
pub fn line(dump: &Dump) -> String {
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
fn earlier(cx: &Context, folder: &std::path::Path) -> Option<backup::Backup> {
    backup::latest(cx, folder, &[]).ok()?.0
}

/// Says what a dump holds, and what a restore of it will need.
fn tell(cx: &Context, before: Option<&backup::Backup>, dump: &Dump) {
    cx.out.say(line(dump));
    let before = before.and_then(|backup| {
        backup.manifest.dumps.iter().find(|other| other.file == dump.file && other.database == dump.database)
    });
    for less in contents::implausible(&dump.contents, before.map(|dump| &dump.contents)) {
        cx.out.warn(format!("{}: {less}", dump.names()));
    }
    load::told(dump).iter().for_each(|need| cx.out.warn(need));
}

/// Backs up before something that may lose data, and reads the dumps again: it goes on only if they are good.
/// Where it is `to_verify`, it isn't the latest before it was.
pub fn before(cx: &Context, stores: &[&Store], folder: &Folder, to_verify: bool) -> Result<backup::Backup> {
    let folder = self::folder(cx, folder);
    let earlier = earlier(cx, &folder);
    let made = backup::take(cx, stores, &folder, to_verify)?;
    for dump in &made.manifest.dumps {
        made.check(cx, dump)?;
        tell(cx, earlier.as_ref(), dump);
    }
    Ok(made)
}

/// Backs up the databases that a migration will change, and that have something to lose.
pub fn before_migration(cx: &Context, deployments: &[Deployment]) -> Result<()> {
    let (mut pending, mut migrated) = (vec![], vec![]);
    for deployment in deployments {
        let state = migrations::state_not_ahead(cx, deployment)?;
        if state.pending() != Some(0) {
            pending.push(deployment.product);
            migrated.extend((!state.applied.is_empty()).then_some(deployment.product));
        }
    }
    let mut stores = Vec::new();
    for store in store::located(cx, &pending)? {
        // What was migrated has rows, and those of a large database take long to be counted.
        let is_migrated = store.deployments.iter().any(|deployment| migrated.contains(&deployment.product));
        if is_migrated || !snapshot::contents(cx, &store, store.database())?.rows.is_empty() {
            stores.push(store);
        }
    }
    if stores.is_empty() {
        return Ok(());
    }
    let _locks = server_lock::acquire_all(cx, &stores)?;
    let made = before(cx, &stores.iter().collect::<Vec<_>>(), &Folder { output: None }, false)?;
    Ok(Output::data(made.folder.display().to_string())?)
}

/// What [`before_migration`] runs.
pub fn lines_before_migration(cx: &Context, deployments: &[Deployment]) -> Result<Vec<String>> {
    let products: Vec<_> = deployments.iter().map(|deployment| deployment.product).collect();
    let stores = store::of(cx, &products)?;
    stores
        .iter()
        .map(|store| Ok(format!("{}, where migrations are pending", line_of_dump(cx, store)?)))
        .collect()
}

/// Prints the command line of a dump.
pub fn print_dump(cx: &Context, store: &Store) -> Result<()> {
    Ok(Output::data(line_of_dump(cx, store)?)?)
}

fn line_of_dump(cx: &Context, store: &Store) -> Result<String> {
    let place = postgres::place(cx, &cx.listed()?, store.main()?);
    let dump = snapshot::dump(cx, store, &place, "SNAPSHOT", false)?;
    Ok(format!("{dump}  # dumps {}, in the snapshot that it is counted in", store.database()))
}
