//! `restore`: a backup in the place of the databases. Everything that can fail does so beside what is there.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Images, listed, option, products, required, switch, value, yes};
use ory_environment::backup::{self, Backup};
use ory_environment::carried;
use ory_environment::context::{Context, Options};
use ory_environment::lock;
use ory_environment::migrations;
use ory_environment::replacement::{self, Replacement};
use ory_environment::store::Store;
use ory_facts::backup::{Dump, Manifest};
use ory_facts::carried::State;
use ory_facts::product::Product;
use xtask_runner::failure::{Exit, Failure};
use xtask_runner::output::{Output, counted, size};
use xtask_runner::process::quote;

pub struct Restore {
    backup: PathBuf,
    products: Vec<Product>,
    into: Option<String>,
    yes: bool,
    force: bool,
}

impl Arguments for Restore {
    fn all() -> Vec<Arg> {
        vec![
            required("BACKUP", "The backup: its name as `backups` lists it, `latest`, or its folder")
                .value_parser(clap::value_parser!(PathBuf)),
            products("Only these products [default: all that are in it]"),
            option("into", "DATABASE", "Restore one product into this empty database, and replace nothing"),
            yes(),
            switch("force", "Restore also what this stack's secrets can't decrypt"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            backup: value(typed, "BACKUP"),
            products: listed(typed, "PRODUCT"),
            into: typed.get_one("into").cloned(),
            yes: typed.get_flag("yes"),
            force: typed.get_flag("force"),
        }
    }
}

pub fn run(options: &Options, args: &Restore) -> Result<()> {
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &Images { stand_in: None })?;
    let _project = lock::acquire_project(&cx)?;
    let backup = open(&cx, &args.backup, &args.products)?;
    let dumps = dumps(&cx, &backup, &args.products)?;
    let products: Vec<_> =
        dumps.iter().flat_map(|dump| dump.products.iter().map(|content| content.product)).collect();
    let mut stores = super::stores(&cx, &products)?;
    dumps.iter().filter_map(|dump| dump.schema.as_deref()).for_each(|schema| {
        stores.iter_mut().for_each(|store| store.prefer(schema));
    });
    let pairs = pair(&stores, &dumps)?;
    for (store, dump) in &pairs {
        refuse_unreadable(&cx, &backup, store, dump, args.force)?;
    }
    if options.dry_run {
        return pairs.iter().try_for_each(|(store, dump)| print(store, dump));
    }
    for (_, dump) in &pairs {
        backup.check(&cx, dump)?;
    }
    if let Some(database) = &args.into {
        return into(&cx, &backup, &pairs, database);
    }
    let mut replacements =
        pairs.iter().map(|(store, _)| Replacement::new(&cx, store)).collect::<Result<Vec<_>>>()?;
    replacements.iter().try_for_each(Replacement::refuse_obstacles)?;
    let behind = pairs.iter().map(|(store, dump)| is_behind(&cx, store, dump)).collect::<Result<Vec<_>>>()?;
    if !confirm(&cx, &backup, &replacements, args)? {
        cx.out.say("nothing was changed");
        return Ok(());
    }
    for (((_, dump), is_behind), replacement) in pairs.iter().zip(behind).zip(&mut replacements) {
        replacement.make()?;
        replacement.restore(dump, &backup.path(dump))?;
        if is_behind {
            replacement.migrate()?;
        }
    }
    let there = replacements.iter().filter(|replacement| replacement.current.is_some());
    let kept: Vec<_> = there.map(|replacement| replacement.replaced()).collect();
    replacement::put_in_place(&cx, replacements, true)?;
    for (_, dump) in &pairs {
        let rows = counted(dump.contents.total() as usize, "row");
        cx.out.say(format!("{}: restored {rows} of {}", dump.names(), backup.manifest.time));
    }
    if !kept.is_empty() {
        cx.out.say(format!("kept until the next restore: {}", kept.join(", ")));
    }
    Ok(())
}

/// By its name, or by its folder; the latest is the newest that has these products. One that is damaged is told, not
/// passed over for an older one.
fn open(cx: &Context, backup: &PathBuf, products: &[Product]) -> Result<Backup> {
    let all = backup::folder(cx);
    if backup.as_os_str() == "latest" {
        let has = |manifest: &Manifest| products.iter().all(|product| manifest.dump_of(*product).is_some());
        let mut newest = backup::all(&all)?.into_iter().rev().map(|(_, backup)| backup);
        let newest = newest.find(|backup| backup.as_ref().map_or(true, |backup| has(&backup.manifest)));
        return newest.unwrap_or_else(|| {
            let names: String = products.iter().map(|product| format!(" of {product}")).collect();
            let message = format!("there is no backup{names} in {}", all.display());
            Err(Failure::new(Exit::Missing, message).hint("cargo xtask backup").into())
        });
    }
    let named = all.join(backup);
    backup::open(if named.is_dir() { &named } else { backup })
}

/// What of the backup is to be restored.
fn dumps<'a>(cx: &Context, backup: &'a Backup, products: &[Product]) -> Result<Vec<&'a Dump>> {
    let all = &backup.manifest.dumps;
    super::products(cx, products)?;
    for product in products {
        if backup.manifest.dump_of(*product).is_none() {
            let names = all.iter().map(|dump| dump.names()).collect::<Vec<_>>().join(", ");
            let message = format!("the backup {} has no {product}", backup.name());
            bail!(Failure::new(Exit::Usage, message).hint(format!("its products are {names}")));
        }
    }
    let has = |dump: &Dump, product| dump.products.iter().any(|content| content.product == product);
    let is_asked = |dump: &&Dump| products.is_empty() || products.iter().any(|product| has(dump, *product));
    Ok(all.iter().filter(is_asked).collect())
}

/// Each dump with the database that it goes to: one with the same products.
fn pair<'s, 'c, 'd>(stores: &'s [Store<'c>], dumps: &[&'d Dump]) -> Result<Vec<(&'s Store<'c>, &'d Dump)>> {
    let goes = |dump: &&'d Dump| {
        let products: Vec<_> = dump.products.iter().map(|content| content.product).collect();
        let is_its = |store: &&Store| {
            store.deployments.iter().map(|deployment| deployment.product).eq(products.iter().copied())
                && store.schema == dump.schema
        };
        let Some(store) = stores.iter().find(is_its) else {
            let message = format!(
                "{} had a place of their own, and in this stack it is divided otherwise",
                dump.names()
            );
            let hint = "restore it in a stack as it was then, with the Compose file of then";
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        };
        Ok((store, *dump))
    };
    dumps.iter().map(goes).collect()
}

/// Rows are encrypted with secrets that are in no backup.
fn refuse_unreadable(
    cx: &Context,
    backup: &Backup,
    store: &Store,
    dump: &Dump,
    is_forced: bool,
) -> Result<()> {
    for content in &dump.products {
        let Some(deployment) = store.deployments.iter().find(|d| d.product == content.product) else {
            continue;
        };
        let known = backup::fingerprints(cx, deployment, &backup.manifest.salt);
        let known: Vec<_> = known.values().flatten().collect();
        for (place, fingerprints) in &content.secrets {
            if fingerprints.iter().all(|fingerprint| known.contains(&fingerprint)) {
                continue;
            }
            let product = content.product;
            let message = format!(
                "what {product} encrypted could not be read: {place} has another value than on {}",
                backup.manifest.time
            );
            if is_forced {
                cx.out.warn(message);
                continue;
            }
            let hint = format!(
                "put the value of then behind the one of now (NEW,OLD) and run this again; or restore all the same: \
                 cargo xtask restore {} {product} --force",
                typed(cx, backup)
            );
            bail!(Failure::new(Exit::Missing, message).hint(hint));
        }
    }
    Ok(())
}

/// Whether the images carry more than the dump has. Fails where a dump is ahead of its image.
fn is_behind(cx: &Context, store: &Store, dump: &Dump) -> Result<bool> {
    let mut is_behind = false;
    for deployment in &store.deployments {
        let state = State { applied: dump.contents.versions.clone(), carried: carried::of(cx, deployment)? };
        migrations::refuse_ahead(cx, deployment, &state)?;
        is_behind |= state.pending() != Some(0);
    }
    Ok(is_behind)
}

/// How a backup is named on the command line: one in another folder by its path.
fn typed(cx: &Context, backup: &Backup) -> String {
    let is_known = backup.folder.parent() == Some(&*backup::folder(cx));
    quote(&if is_known { backup.name() } else { backup.folder.display().to_string() })
}

fn confirm(cx: &Context, backup: &Backup, replacements: &[Replacement], args: &Restore) -> Result<bool> {
    let databases = replacements.iter().filter_map(Replacement::in_words).collect::<Vec<_>>().join(", ");
    if databases.is_empty() {
        return Ok(true);
    }
    let what = format!("replaces {databases}");
    let question = format!("Replace {databases} by what they were on {}?", backup.manifest.time);
    let products = args.products.iter().map(|product| format!(" {product}")).collect::<String>();
    let line = format!("cargo xtask restore {}{products} --yes", typed(cx, backup));
    super::confirm(cx, args.yes, &what, &question, &line)
}

fn print(store: &Store, dump: &Dump) -> Result<()> {
    let (name, size) = (store.in_words(), size(dump.bytes));
    Output::data(format!(
        "# restores {} ({size}) into a new database beside {name}, and compares it",
        dump.file
    ))?;
    if store.schema.is_some() {
        Output::data(format!("# brings it from there, beside {name}, and compares it"))?;
    }
    let names = store.names(", ");
    Ok(Output::data(format!("# then, with {names} stopped, puts it in the place of {name}, which is kept"))?)
}

/// Restores one dump into an empty database that is there already.
fn into(cx: &Context, backup: &Backup, pairs: &[(&Store, &Dump)], database: &str) -> Result<()> {
    let [(store, dump)] = pairs else {
        let message = "--into takes one product";
        bail!(Failure::new(Exit::Usage, message).hint("cargo xtask restore BACKUP PRODUCT --into DATABASE"));
    };
    replacement::restore_into(cx, store, dump, &backup.path(dump), database)?;
    cx.out.say(format!(
        "{}: restored {} into {database}; where the DSN names it, {} is served from it",
        dump.names(),
        counted(dump.contents.total() as usize, "row"),
        dump.names()
    ));
    Ok(())
}
