//! `restore`: a backup in the place of the databases. Everything that can fail does so beside what is there.

use std::path::PathBuf;

use anyhow::{Error, Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Images, listed, option, products, required, switch, value, yes};
use crate::replace_plan::{self, Fill, New};
use ory_facts::image_migrations::State;
use ory_facts::instance::Instance;
use ory_facts::manifest::Dump;
use ory_facts::next::XTASK;
use ory_ops::backup::{self, Backup};
use ory_ops::context::{Context, Options};
use ory_ops::image_migrations;
use ory_ops::lock::Locked;
use ory_ops::migration_status::Status;
use ory_ops::migrations;
use ory_ops::other_tables::{self, Tables};
use ory_ops::replace::replacement::{self, Replacement};
use ory_ops::replace::swap::{self, Fate};
use ory_ops::restore::{self, Objection};
use ory_ops::target::Target;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, size};
use ory_runner::process::quote;
use ory_stack::backup_key;

pub struct Restore {
    backup: PathBuf,
    products: Vec<String>,
    into: Option<String>,
    yes: bool,
    force: bool,
    /// Whether who calls has looked whose tables there are, by the images that have made them.
    are_tables_known: bool,
}

impl Arguments for Restore {
    fn all() -> Vec<Arg> {
        vec![
            required("BACKUP", "The backup: its name as `backups` lists it, `latest`, or its folder")
                .value_parser(clap::value_parser!(PathBuf)),
            products("Only these products [default: all that are in it]"),
            option("into", "DATABASE", "Restore one product into this empty database, and replace nothing"),
            yes(),
            switch(
                "force",
                "Restore also what this stack has not made, what its secrets can't decrypt, and tables of others",
            ),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            backup: value(typed, "BACKUP"),
            products: listed(typed, "PRODUCT"),
            into: typed.get_one("into").cloned(),
            yes: typed.get_flag("yes"),
            force: typed.get_flag("force"),
            are_tables_known: false,
        }
    }
}

impl Restore {
    /// The command line as it was typed, with these flags. By now, another backup could be the latest.
    fn line(&self, backup: &Backup, flags: &str) -> String {
        let is_latest = self.backup.as_os_str() == "latest";
        let name = if is_latest { backup.name() } else { self.backup.to_string_lossy().into_owned() };
        let products = self.products.iter().map(|product| format!(" {product}")).collect::<String>();
        let into =
            self.into.iter().map(|database| format!(" --into {}", quote(database))).collect::<String>();
        format!("{XTASK} restore {}{products}{into} {flags}", quote(&name))
    }
}

pub fn run(options: &Options, args: &Restore) -> Result<()> {
    restore(&super::locked(options, &Images { stand_in: None })?, args)
}

/// Puts a backup's dumps of these products in the place of their databases, for a command that has asked for it, and has seen
/// that no table in them is somebody else's.
pub fn put_back(cx: &Locked, backup: &Backup, products: &[Instance]) -> Result<()> {
    let products = products.iter().map(|product| product.name().to_string()).collect();
    let (backup, into) = (backup.folder.clone(), None);
    restore(cx, &Restore { backup, products, into, yes: true, force: false, are_tables_known: true })
}

fn restore(cx: &Locked, args: &Restore) -> Result<()> {
    let named = super::named(cx, &args.products)?;
    let backup = open(cx, &args.backup, &named)?;
    if backup.is_unverified() {
        let name = backup.name();
        cx.out.warn(format!("the backup {name} was to be verified, and that failed or was cut off"));
    }
    let dumps = dumps(cx, &backup, &named)?;
    let products: Vec<_> =
        dumps.iter().flat_map(|dump| dump.products.iter().map(|content| content.product)).collect();
    let mut targets = super::targets(cx, &products)?;
    dumps.iter().filter_map(|dump| dump.schema.as_deref()).for_each(|schema| {
        targets.iter_mut().for_each(|target| target.prefer(schema));
    });
    let pairs = pair(&targets, &dumps)?;
    let is_own = refuse_foreign(cx, &backup, &pairs, args)?;
    for (target, dump) in &pairs {
        refuse_unreadable(cx, &backup, target, dump, args)?;
    }
    if cx.options.dry_run {
        return print(cx, &backup, &pairs, args, is_own);
    }
    for (_, dump) in &pairs {
        backup.check(cx, dump)?;
    }
    if let Some(database) = &args.into {
        return into(cx, &backup, &pairs, database, is_own);
    }
    let mut replacements =
        pairs.iter().map(|(target, _)| Replacement::new(cx, target)).collect::<Result<Vec<_>>>()?;
    replacements.iter().try_for_each(Replacement::refuse_obstacles)?;
    for ((target, dump), replacement) in pairs.iter().zip(&replacements).filter(|_| !args.are_tables_known) {
        let tables = match args.force {
            true => other_tables::at_first_sight(cx, target),
            false => other_tables::of(replacement),
        };
        let tables = tables.map_err(|error| untold(&backup, target, args, error))?;
        refuse_others(cx, &backup, target, dump, &tables, args)?;
    }
    let is_behind = |(target, dump): &(&Target, &Dump)| is_behind(cx, target, dump).map(Some);
    let all = new(&backup, &pairs, is_own, is_behind)?;
    if !confirm(cx, &backup, &replacements, args)? {
        cx.out.say("nothing was changed");
        return Ok(());
    }
    all.iter().zip(&mut replacements).try_for_each(|(new, replacement)| new.make(replacement))?;
    let there = replacements.iter().filter(|replacement| replacement.current.is_some());
    let kept: Vec<_> = there.map(|replacement| replacement.replaced()).collect();
    swap::bring(&replacements)?;
    let stopped = super::stop(cx, &replace_plan::products(&all))?;
    let sources: Vec<_> = all.iter().map(New::source).collect();
    swap::put(cx, replacements, &sources, Fate::Kept, &stopped)?;
    for (_, dump) in &pairs {
        let rows = counted(dump.contents.total() as usize, "row");
        cx.out.say(format!("{}: restored {rows} of {}", dump.names(), backup.manifest.time));
    }
    if !kept.is_empty() {
        cx.out.say(format!("kept until the next restore: {}", kept.join(", ")));
    }
    Ok(())
}

/// By its name, or by its folder; the latest is the newest of this project that has these products.
fn open(cx: &Context, backup: &PathBuf, products: &[Instance]) -> Result<Backup> {
    let all = backup::folder(cx);
    if backup.as_os_str() == "latest" {
        let (latest, unverified) = backup::latest(cx, &all, products)?;
        for newer in unverified {
            let name = newer.name();
            cx.out.warn(format!("the backup {name} is passed over: it was to be verified, and is not"));
        }
        return latest.ok_or_else(|| {
            let names: String = products.iter().map(|product| format!(" of {product}")).collect();
            let project = &cx.stack.project;
            let message = format!("there is no backup{names} of the project {project} in {}", all.display());
            Failure::new(Exit::Missing, message).hint("{XTASK} backup").into()
        });
    }
    let named = all.join(backup);
    backup::open(if named.is_dir() { &named } else { backup })
}

/// One that this stack hasn't made is shown, and loaded only where that is asked for. Returns whether this stack has made it.
fn refuse_foreign(cx: &Context, backup: &Backup, pairs: &[(&Target, &Dump)], args: &Restore) -> Result<bool> {
    let Some(why) = backup.foreign(backup_key::key(&cx.dir)?.as_deref()) else { return Ok(true) };
    for (target, dump) in pairs {
        let file = &dump.file;
        if cx.options.dry_run {
            Output::data(format!("# lists what is in {file}: pg_restore --list"))?;
            continue;
        }
        let objects = backup::contents_list::objects(cx, backup, target, dump)?;
        cx.out.say(format!("{file} holds {}, as pg_restore lists them:", counted(objects.len(), "object")));
        objects.iter().for_each(|object| cx.out.say(format!("  {object}")));
    }
    refuse(cx, args, [restore::foreign(&backup.name(), why, &args.line(backup, "--force"))])?;
    Ok(false)
}

/// Fails with the first of some objections; where forced, says each.
fn refuse(cx: &Context, args: &Restore, objections: impl IntoIterator<Item = Objection>) -> Result<()> {
    for objection in objections {
        if !args.force {
            bail!(Failure::from(objection));
        }
        cx.out.warn(objection.message);
    }
    Ok(())
}

/// What of the backup is to be restored.
fn dumps<'a>(cx: &Context, backup: &'a Backup, products: &[Instance]) -> Result<Vec<&'a Dump>> {
    let all = &backup.manifest.dumps;
    cx.require_products()?;
    if let Some(product) = restore::missing(all, products) {
        let names = all.iter().map(|dump| dump.names()).collect::<Vec<_>>().join(", ");
        let message = format!("the backup {} has no {product}", backup.name());
        bail!(Failure::new(Exit::Usage, message).hint(format!("its products are {names}")));
    }
    Ok(restore::of_products(all, products))
}

/// Each dump with the database that it goes to: one with the same products.
fn pair<'s, 'c, 'd>(
    targets: &'s [Target<'c>],
    dumps: &[&'d Dump],
) -> Result<Vec<(&'s Target<'c>, &'d Dump)>> {
    let goes = |dump: &&'d Dump| {
        let products = |target: &Target| -> Vec<_> { target.deployments.iter().map(|d| d.product).collect() };
        let is_its = |target: &&Target| restore::is_of(dump, products(target), target.schema.as_deref());
        let Some(target) = targets.iter().find(is_its) else {
            let message = format!(
                "{} had a place of their own, and in this stack it is divided otherwise",
                dump.names()
            );
            let hint = "restore it into a stack with the Compose file of that time";
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        };
        Ok((target, *dump))
    };
    dumps.iter().map(goes).collect()
}

/// Rows are encrypted with secrets that are in no backup.
fn refuse_unreadable(
    cx: &Context,
    backup: &Backup,
    target: &Target,
    dump: &Dump,
    args: &Restore,
) -> Result<()> {
    for content in &dump.products {
        let Some(deployment) = target.deployments.iter().find(|d| d.product == content.product) else {
            continue;
        };
        let known = backup::fingerprints(cx, deployment, &backup.manifest.salt);
        let forced = args.line(backup, "--force");
        refuse(cx, args, restore::unreadable(content, &known, &backup.manifest.time, &forced))?;
    }
    Ok(())
}

/// What isn't the products' goes back with them only where that is asked for.
fn refuse_others(
    cx: &Context,
    backup: &Backup,
    target: &Target,
    dump: &Dump,
    tables: &Tables,
    args: &Restore,
) -> Result<()> {
    let into = format!("{XTASK} restore {} {} --into DATABASE", quote(&backup.name()), target.names(" "));
    let lines = (into.as_str(), &*args.line(backup, "--force"));
    let replaced = (&*target.in_words(), &*target.names(", "));
    refuse(cx, args, restore::tables_of_others(replaced, tables, (dump, &backup.manifest.time), lines))
}

/// An image that can't be asked is no reason to lose what may be somebody else's.
fn untold(backup: &Backup, target: &Target, args: &Restore, error: Error) -> Error {
    let message = format!("which tables of {} are somebody else's can't be told", target.in_words());
    let hint = format!("where all of them may go back: {}", args.line(backup, "--force"));
    error.context(Failure::new(Exit::Failed, message).hint(hint))
}

fn print_unknown(target: &Target) -> Result<()> {
    let place = target.in_words();
    Ok(Output::data(format!("# asks {place} for tables of others, which go back only with --force"))?)
}

/// Whether the images carry more than the dump has. Fails where a dump is ahead of its image.
fn is_behind(cx: &Context, target: &Target, dump: &Dump) -> Result<bool> {
    let mut is_behind = false;
    for deployment in &target.deployments {
        let state = State::new(dump.contents.versions.clone(), image_migrations::of(cx, deployment)?);
        is_behind |= migrations::refuse_ahead(cx, deployment, &state)? != Status::UpToDate;
    }
    Ok(is_behind)
}

fn confirm(cx: &Context, backup: &Backup, replacements: &[Replacement], args: &Restore) -> Result<bool> {
    let databases = replacements.iter().filter_map(Replacement::in_words).collect::<Vec<_>>().join(", ");
    if databases.is_empty() {
        return Ok(true);
    }
    let dropped = replacements.iter().flat_map(Replacement::dropped).collect::<Vec<_>>().join(", ");
    let drops = if dropped.is_empty() { String::new() } else { format!(" and drops {dropped}") };
    if args.yes && !dropped.is_empty() {
        cx.out.say(format!("what an earlier restore has kept goes: {dropped}"));
    }
    let what = format!("replaces {databases}{drops}");
    let drop = if dropped.is_empty() { String::new() } else { format!(" This drops {dropped}.") };
    let question = format!("Replace {databases} by what they were on {}?{drop}", backup.manifest.time);
    let flags = if args.force { "--force --yes" } else { "--yes" };
    super::confirm(cx, args.yes, &what, &question, &args.line(backup, flags))
}

/// Prints what is done. The images are not asked what they carry, nor the server started.
fn print(
    cx: &Context,
    backup: &Backup,
    pairs: &[(&Target, &Dump)],
    args: &Restore,
    is_own: bool,
) -> Result<()> {
    if let Some(database) = &args.into {
        let (_, dump) = only(pairs)?;
        let size = size(dump.bytes);
        let line =
            format!("# restores {} ({size}) into the empty database {database}, and compares it", dump.file);
        return Ok(Output::data(line)?);
    }
    for (target, dump) in pairs {
        match other_tables::at_first_sight(cx, target) {
            Ok(tables) => refuse_others(cx, backup, target, dump, &tables, args)?,
            // The server needn't run for this.
            Err(_) => print_unknown(target)?,
        }
    }
    let is_behind = |(target, dump): &(&Target, &Dump)| {
        let mut each = target.deployments.iter().map(|deployment| {
            Some(
                State::new(dump.contents.versions.clone(), Some(image_migrations::kept(cx, deployment)?))
                    .pending()
                    != Some(0),
            )
        });
        Ok(each.try_fold(false, |is_behind, one| Some(is_behind | one?)))
    };
    let all = new(backup, pairs, is_own, is_behind)?;
    let lines = replace_plan::lines(cx, &all, vec![], "kept until the next restore")?;
    lines.iter().try_for_each(Output::data).map_err(Into::into)
}

/// What takes the places. `is_behind`: whether the images carry more than a dump has, if that is known.
fn new<'a>(
    backup: &Backup,
    pairs: &[(&'a Target<'a>, &'a Dump)],
    is_own: bool,
    is_behind: impl Fn(&(&Target, &Dump)) -> Result<Option<bool>>,
) -> Result<Vec<New<'a>>> {
    let each = pairs.iter().map(|pair| {
        let (target, dump) = *pair;
        let mut fills = vec![Fill::Dump { dump, path: backup.path(dump), is_own }];
        match is_behind(pair)? {
            Some(false) => {}
            known => fills.push(Fill::Migrations { are_known: known.is_some() }),
        }
        Ok(New { target, fills })
    });
    each.collect()
}

/// The one that is restored into a database of another name.
fn only<'a>(pairs: &[(&'a Target<'a>, &'a Dump)]) -> Result<(&'a Target<'a>, &'a Dump)> {
    let [pair] = pairs else {
        let message = "--into takes one product";
        bail!(Failure::new(Exit::Usage, message).hint("{XTASK} restore BACKUP PRODUCT --into DATABASE"));
    };
    Ok(*pair)
}

/// Restores one dump into an empty database that is there already.
fn into(
    cx: &Locked,
    backup: &Backup,
    pairs: &[(&Target, &Dump)],
    database: &str,
    is_own: bool,
) -> Result<()> {
    let (target, dump) = only(pairs)?;
    replacement::restore_into(cx, target, dump, &backup.path(dump), database, is_own)?;
    cx.out.say(format!(
        "{}: restored {} into {database}; once the DSN names it, {} is served from it",
        dump.names(),
        counted(dump.contents.total() as usize, "row"),
        dump.names()
    ));
    Ok(())
}
