//! The way back of an upgrade: the databases as they were backed up before it, the images that were named then, and the servers
//! of that time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::super::restore;
use super::arguments::Upgrade;
use super::report;
use super::servers::{running, start};
use crate::arguments::Images;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_ops::advisory_lock;
use ory_ops::backup::Backup;
use ory_ops::context::{Context, Options};
use ory_ops::image_pin::{self, Edit};
use ory_ops::left_behind;
use ory_ops::lock::Locked;
use ory_ops::other_images;
use ory_ops::other_tables;
use ory_ops::postgres;
use ory_ops::replace::replacement;
use ory_ops::run_container;
use ory_ops::snapshot;
use ory_ops::target::{self, Target};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};
use ory_runner::process::quote;

/// How long between two tries of the way back.
const PAUSE: Duration = Duration::from_secs(3);

/// Whether a database has other versions than when it was backed up. One that can't be asked may have.
pub fn has_changed(cx: &Locked, backup: &Backup, products: &[Instance]) -> Result<bool> {
    for target in super::super::targets(cx, products)? {
        let main = target.main()?;
        let Some(dump) = backup.manifest.dump_of(main.product) else { continue };
        if postgres::applied(cx, main).map_or(true, |now| now != dump.contents.versions) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits for the migrations that a killed run has left going on.
pub fn await_migrations(cx: &Context, targets: &[Target]) -> Result<()> {
    for target in targets {
        for deployment in &target.deployments {
            let lock = advisory_lock::acquire(cx, deployment)?;
            run_container::take_over(cx, deployment, &lock)?;
        }
    }
    Ok(())
}

/// `upgrade --back`: says what was written since, asks, and goes back.
pub fn run(cx: Locked, products: &[Instance], args: &Upgrade) -> Result<&'static str> {
    let backups = backups(&cx, products, args)?;
    if cx.options.dry_run && backups.is_empty() {
        Output::data("# there is no upgrade to go back from")?;
        return Ok(report::NOTHING);
    }
    let (Some(first), Some(last)) = (backups.last(), backups.first()) else {
        let message = "there is no backup that an upgrade has made";
        bail!(Failure::new(Exit::Missing, message).hint("{XTASK} backups; then {XTASK} restore BACKUP"));
    };
    let names = backups.iter().rev().map(names).collect::<Vec<_>>().join(", ");
    let (began, ended) = (&first.manifest.time, &last.manifest.time);
    cx.out.say(format!("the last upgrade, of {names}, backed up from {began} to {ended}"));
    let mut loses = false;
    for backup in backups.iter().rev() {
        if !cx.options.dry_run {
            await_migrations(&cx, &super::super::targets(&cx, &of(backup))?)?;
        }
        if has_changed(&cx, backup, &of(backup))? {
            loses = true;
            written(&cx, backup, &of(backup))?.iter().for_each(|line| cx.out.say(line));
        } else {
            cx.out.say(format!("{}: nothing was migrated, so nothing is lost", self::names(backup)));
        }
    }
    if cx.options.dry_run {
        let lines = backups.iter().map(|backup| format!("# goes back to {}", backup.folder.display()));
        lines.into_iter().try_for_each(Output::data)?;
        return Ok(report::NOTHING);
    }
    let mut question = match loses {
        true => format!("Go back with {names}, and lose what was written since?"),
        false => format!("Go back with {names}?"),
    };
    for backup in backups.iter().filter(|_| loses) {
        for target in super::super::targets(&cx, &of(backup))? {
            let dropped = replacement::would_drop(&cx, &target)?.join(", ");
            if !dropped.is_empty() {
                question = format!("{question} This drops what an earlier restore has kept: {dropped}.");
                cx.out.warn(format!("what an earlier restore has kept goes: {dropped}"));
            }
        }
    }
    let what = format!("goes back with {names}");
    if !super::super::confirm(&cx, args.yes, &what, &question, &args.line("--back --yes"))? {
        cx.out.say("nothing was changed");
        return Ok(report::NOT_CONFIRMED);
    }
    let options = cx.options.clone();
    let mut each = vec![];
    for backup in &backups {
        each.push(self::running(&cx, &of(backup))?);
    }
    drop(cx);
    backups.iter().zip(each).try_for_each(|(backup, running)| go(&options, backup, None, &running))?;
    Ok(report::WENT_BACK)
}

/// Those of the last upgrade, the newest first; of products that were named, each one's last.
fn backups(cx: &Context, products: &[Instance], args: &Upgrade) -> Result<Vec<Backup>> {
    if args.products.is_empty() {
        return left_behind::of_upgrade(cx, products);
    }
    let mut all: Vec<Backup> = vec![];
    for product in products {
        let own = left_behind::of_upgrade(cx, &[*product])?;
        if own.is_empty() {
            let message = format!("there is no backup that an upgrade of {product} has made");
            bail!(Failure::new(Exit::Missing, message).hint("{XTASK} backups; then {XTASK} restore BACKUP"));
        }
        let is_new = |backup: &Backup| !all.iter().any(|known| known.folder == backup.folder);
        let new: Vec<_> = own.into_iter().filter(is_new).collect();
        all.extend(new);
    }
    all.sort_by(|one, other| other.manifest.time.cmp(&one.manifest.time));
    Ok(all)
}

/// The products that a backup is the way back of.
fn names(backup: &Backup) -> String {
    let names: Vec<_> = backup.manifest.upgrades.iter().map(|one| one.product.name()).collect();
    names.join(", ")
}

/// All products whose data is in the backup.
fn of(backup: &Backup) -> Vec<Instance> {
    backup
        .manifest
        .dumps
        .iter()
        .flat_map(|dump| dump.products.iter().map(|content| content.product))
        .collect()
}

/// What each table has now, and had then.
fn written(cx: &Locked, backup: &Backup, products: &[Instance]) -> Result<Vec<String>> {
    let mut lines = vec![];
    for target in super::super::targets(cx, products)? {
        let Some(dump) = backup.manifest.dump_of(target.main()?.product) else { continue };
        let now = snapshot::contents(cx, &target, target.database())?.rows;
        let then = &dump.contents.rows;
        for table in now.keys().chain(then.keys()).into_set() {
            let rows = |all: &BTreeMap<String, u64>| all.get(table).copied().unwrap_or_default();
            let (now, then) = (rows(&now), rows(then));
            if now != then {
                let count = counted(usize::try_from(now).unwrap_or(usize::MAX), "row");
                lines.push(format!("  {}: {table} has {count} now, and had {then}", target.in_words()));
            }
        }
    }
    if lines.is_empty() {
        lines.push("  no table has more or fewer rows than then; what was changed in them isn't told".into());
    }
    Ok(lines)
}

/// Goes back after a failure, whose error is returned, with what couldn't be put back. Whether all was put back.
pub fn after(
    options: &Options,
    error: anyhow::Error,
    backup: &Backup,
    edits: Option<&[Edit]>,
    running: &[String],
) -> (bool, anyhow::Error) {
    options.output.say(format!("going back: {}", in_short(&error)));
    let hint = format!("{XTASK} upgrade --back");
    let exit = Failure::exit_of(&error);
    let again = |left| {
        options.output.say(format!("going back once more: {}", in_short(&left)));
        // A server that was killed just now looks as if it ran, for a moment.
        std::thread::sleep(PAUSE);
        go(options, backup, edits, running)
    };
    match options.interrupt.clean_up(|| go(options, backup, edits, running).or_else(again)) {
        Ok(()) => {
            let message = format!("the upgrade of {} failed, which is as it was before", names(backup));
            // What is to be repaired, or has told why, is no longer there.
            let is_gone = |hint: &&str| hint.contains(" repair ") || hint.contains(" logs ");
            let hint = Failure::hint_of(&error).filter(|hint| !is_gone(hint));
            let rehearse = "fix that, and see it work on a copy of the data: {XTASK} upgrade --rehearse";
            let hint = hint.unwrap_or(rehearse).to_string();
            (true, error.context(Failure::new(exit, message).hint(hint)))
        }
        Err(left) => {
            let message = format!("the upgrade failed, and so did the way back ({})", in_short(&left));
            (false, error.context(Failure::new(exit, message).hint(hint)))
        }
    }
}

/// An error and its first cause.
fn in_short(error: &anyhow::Error) -> String {
    let causes = error.chain().take(2).map(ToString::to_string);
    causes.filter_map(|cause| cause.lines().next().map(String::from)).collect::<Vec<_>>().join(": ")
}

/// Names the old images, puts the databases back, unless no migration has begun, and starts what ran. `edits`: those that
/// named the new ones in this run.
fn go(options: &Options, backup: &Backup, edits: Option<&[Edit]>, running: &[String]) -> Result<()> {
    if let Some(edits) = edits {
        image_pin::undo(edits)?;
    }
    let mut cx = super::super::locked(options, &Images { stand_in: None })?;
    let old = backup.manifest.old_images();
    let left = image_pin::edits(&cx, &old)?;
    if !left.is_empty() {
        image_pin::write(&cx, &left, &old)?;
        cx.read_again()?;
    }
    let products = of(backup);
    await_migrations(&cx, &super::super::targets(&cx, &products)?)?;
    if has_changed(&cx, backup, &products)? {
        refuse_others(&cx, backup, &products)?;
        restore::put_back(&cx, backup, &products)?;
    }
    start(&cx, running)?;
    backup.set_finished()?;
    cx.out.say(format!("{}: as before the upgrade", names(backup)));
    Ok(())
}

/// Fails where somebody else has made tables since, which would go with the database. The new images tell which are theirs.
fn refuse_others(cx: &Locked, backup: &Backup, products: &[Instance]) -> Result<()> {
    let new = other_images::context(cx, &backup.manifest.new_images())?;
    for target in target::located(&new, products)? {
        let others = other_tables::of_target(&new, &target)?;
        if !others.is_empty() {
            let each = others.iter().map(|(name, rows)| {
                format!("{name} ({})", counted(usize::try_from(*rows).unwrap_or(usize::MAX), "row"))
            });
            let each = each.collect::<Vec<_>>().join(", ");
            let message =
                format!("{} has tables of others by now, which would go: {each}", target.in_words());
            let hint = format!("{{XTASK}} restore {} --force, where they may go", quote(&backup.name()));
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
    }
    Ok(())
}
