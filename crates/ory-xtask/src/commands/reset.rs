//! `reset`: backs up, and starts again with an empty database that the images migrate.

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Folder, Images, listed, products, switch, yes};
use crate::backup_step;
use crate::replace_plan::{self, Fill, New};
use ory_facts::contents::Contents;
use ory_facts::next::XTASK;
use ory_ops::backup::Backup;
use ory_ops::context::{Context, Options};
use ory_ops::lock::Locked;
use ory_ops::replace::replacement::Replacement;
use ory_ops::replace::swap::{self, Fate};
use ory_ops::target::{self, Target};

use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};

pub struct Reset {
    products: Vec<String>,
    yes: bool,
    force: bool,
    folder: Folder,
}

impl Arguments for Reset {
    fn all() -> Vec<Arg> {
        let products = products("The products to reset").required(true);
        let force =
            switch("force", "Also on a remote engine, and on a server that is no service of the stack");
        [vec![products, yes(), force], Folder::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            products: listed(typed, "PRODUCT"),
            yes: typed.get_flag("yes"),
            force: typed.get_flag("force"),
            folder: Folder::read(typed),
        }
    }
}

pub fn run(options: &Options, args: &Reset) -> Result<()> {
    let cx = super::locked(options, &Images { stand_in: None })?;
    let products = super::products(&cx, &args.products)?;
    if !args.force {
        target::of(&cx, &products)?.iter().try_for_each(|target| refuse_production(&cx, target))?;
    }
    let targets = super::targets(&cx, &products)?;
    let new = |target| New { target, fills: vec![Fill::Rights, Fill::Migrations { are_known: true }] };
    let all: Vec<_> = targets.iter().map(new).collect();
    if options.dry_run {
        return print(&cx, &all);
    }
    let mut replacements =
        targets.iter().map(|target| Replacement::new(&cx, target)).collect::<Result<Vec<_>>>()?;
    replacements.iter().try_for_each(Replacement::refuse_obstacles)?;
    if !confirm(&cx, &replacements, args)? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    let mut migrations = Vec::new();
    for (new, replacement) in all.iter().zip(&mut replacements) {
        new.make(replacement)?;
        let empty = replacement.contents()?;
        if let Some(current) = replacement.current.as_ref().filter(|_| !args.force) {
            refuse_others(new.target, current, &empty)?;
        }
        migrations.push(counted(empty.versions.len(), "migration"));
    }
    swap::bring(&replacements)?;
    // From here to the end nothing is accepted that the backup wouldn't have.
    let stopped = super::stop(&cx, &replace_plan::products(&all))?;
    let made = back_up(&cx, &targets, &replacements, args);
    let made = made.map_err(|error| cx.options.interrupt.clean_up_after(error, || stopped.start(&cx)))?;
    // In the order of the targets; one that wasn't there has none.
    let dumps = made.as_ref().map(|made| made.manifest.dumps.clone()).unwrap_or_default();
    let mut dumps = dumps.into_iter();
    let each =
        replacements.iter().map(|one| one.current.as_ref().and_then(|_| dumps.next()).unwrap_or_default());
    let each: Vec<_> = each.collect();
    let sources: Vec<_> = all.iter().map(New::source).collect();
    swap::put(&cx, replacements, &sources, Fate::Dropped(&each), &stopped)?;
    for (target, migrations) in targets.iter().zip(migrations) {
        cx.out.say(format!("{}: empty, with {migrations}", target.names(", ")));
    }
    Ok(())
}

/// A backup of what is there, restored once: one that can't be is none.
fn back_up(
    cx: &Locked,
    targets: &[Target],
    replacements: &[Replacement],
    args: &Reset,
) -> Result<Option<Backup>> {
    let there = targets.iter().zip(replacements).filter(|(_, replacement)| replacement.current.is_some());
    let (targets, replacements): (Vec<_>, Vec<_>) = there.unzip();
    if targets.is_empty() {
        return Ok(None);
    }
    let made = backup_step::before(cx, &targets, &args.folder, true)?;
    Output::data(made.folder.display().to_string())?;
    for (replacement, dump) in replacements.iter().zip(&made.manifest.dumps) {
        replacement
            .verify(dump, &made.path(dump))
            .with_context(|| format!("{} isn't reset: its backup could not be restored", dump.names()))?;
    }
    made.set_verified()?;
    Ok(Some(made))
}

/// A reset is for an environment of one's own.
fn refuse_production(cx: &Context, target: &Target) -> Result<()> {
    let names = target.names(", ");
    let why = match target.main()?.server {
        None => format!("the server of {names} is no service of this stack"),
        Some(_) if cx.engine.is_remote() => "the engine is on another machine".into(),
        Some(_) => return Ok(()),
    };
    let message = format!("{names} could be in production: {why}");
    let line = format!("{XTASK} reset {} --force", target.names(" "));
    bail!(Failure::new(Exit::Failed, message).hint(format!("if it may be emptied all the same: {line}")))
}

/// What isn't the product's isn't lost with it.
fn refuse_others(target: &Target, current: &Contents, empty: &Contents) -> Result<()> {
    let others = current.rows.keys().filter(|table| !empty.rows.contains_key(*table));
    let others: Vec<_> = others.map(String::as_str).collect();
    if others.is_empty() {
        return Ok(());
    }
    let (names, place) = (target.names(", "), target.in_words());
    let message = format!("{place} has tables that the images of {names} don't make: {}", others.join(", "));
    let line = format!("{XTASK} reset {} --force", target.names(" "));
    bail!(Failure::new(Exit::Failed, message).hint(format!("where they may be lost too: {line}")))
}

fn confirm(cx: &Context, replacements: &[Replacement], args: &Reset) -> Result<bool> {
    let mut lost: Vec<_> = replacements.iter().filter_map(Replacement::in_words).collect();
    if lost.is_empty() {
        return Ok(true);
    }
    let dropped: Vec<_> = replacements.iter().flat_map(Replacement::dropped).collect();
    if args.yes && !dropped.is_empty() {
        cx.out.say(format!("what an earlier restore has kept goes: {}", dropped.join(", ")));
    }
    // In no backup, it is named with its rows.
    lost.extend(dropped.iter().map(|kept| format!("what an earlier restore has kept, {kept}")));
    let lost = lost.join(", ");
    let products = args.products.iter().map(|product| format!(" {product}")).collect::<String>();
    let what = format!("deletes all that is in {lost}");
    let question = format!("Back up, then delete all that is in {lost}?");
    super::confirm(cx, args.yes, &what, &question, &format!("{XTASK} reset{products} --yes"))
}

/// Prints what is done.
fn print(cx: &Context, all: &[New]) -> Result<()> {
    let dumps = all.iter().map(|new| backup_step::line_of_dump(cx, new.target));
    let mut backup = dumps.collect::<Result<Vec<_>>>()?;
    backup.extend(all.iter().map(|new| backup_step::line_of_proof(new.target)));
    let lines = replace_plan::lines(cx, all, backup, "deleted, unless rows were written since")?;
    lines.iter().try_for_each(Output::data).map_err(Into::into)
}
