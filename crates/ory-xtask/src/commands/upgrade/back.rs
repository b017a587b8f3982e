//! The way back of an upgrade: the databases as they were backed up before it, the images that were named then, and the servers
//! of that time.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::perform::start;
use super::{super::restore, Upgrade};
use crate::arguments::Images;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_ops::backup::{self, Backup};
use ory_ops::context::{Context, Options};
use ory_ops::image_pin::{self, Edit};
use ory_ops::lock::Locked;
use ory_ops::services;
use ory_ops::snapshot;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_stack::backup_key;

/// The newest backup of this stack's own that was made before an upgrade of some of these products.
pub fn last(cx: &Context, products: &[Instance]) -> Result<Option<Backup>> {
    let key = backup_key::key(&cx.dir)?;
    let is_its = |backup: &Backup| {
        backup.manifest.project == cx.stack.project
            && backup.manifest.upgrades.iter().any(|one| products.contains(&one.product))
            && backup.foreign(key.as_deref()).is_none()
    };
    let all = backup::all(&backup::folder(cx))?.into_iter().rev();
    Ok(all.filter_map(|(_, backup)| backup.ok()).find(is_its))
}

/// Whether a database has other versions than when it was backed up. One that can't be asked may have.
pub fn has_changed(cx: &Locked, backup: &Backup, products: &[Instance]) -> Result<bool> {
    for target in super::super::targets(cx, products)? {
        let product = target.main()?.product;
        let Some(dump) = backup.manifest.dump_of(product) else { continue };
        let now = snapshot::contents(cx, &target, target.database()).map(|contents| contents.versions);
        if now.map_or(true, |now| now != dump.contents.versions) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `upgrade --back`: says what was written since, asks, and goes back.
pub fn run(cx: Locked, products: &[Instance], args: &Upgrade) -> Result<()> {
    let Some(backup) = last(&cx, products)? else {
        let message = "there is no backup that an upgrade of these products has made";
        bail!(Failure::new(Exit::Missing, message).hint("{XTASK} backups; then {XTASK} restore BACKUP"));
    };
    let names: Vec<_> = backup.manifest.upgrades.iter().map(|one| one.product.name()).collect();
    let of_backup = of(&backup);
    let differences = written(&cx, &backup, &of_backup)?;
    cx.out.say(format!("the upgrade of {} began on {}", names.join(", "), backup.manifest.time));
    for line in &differences {
        cx.out.say(line);
    }
    let what = format!("goes back to what {} had on {}", names.join(", "), backup.manifest.time);
    let question = format!("Go back, and lose what was written since {}?", backup.manifest.time);
    if !super::super::confirm(&cx, args.yes, &what, &question, &args.line("--back --yes"))? {
        cx.out.say("nothing was changed");
        return Ok(());
    }
    let mut running: Vec<_> =
        services::serving(&cx, &of_backup)?.into_iter().map(|one| one.service).collect();
    running.dedup();
    let options = cx.options.clone();
    drop(cx);
    go(&options, &backup, None, &running, true)
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
        let tables: BTreeMap<_, _> = now.iter().chain(then).collect();
        for table in tables.keys() {
            let rows = |all: &BTreeMap<String, u64>| all.get(*table).copied().unwrap_or_default();
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

/// Goes back after a failure, whose error is returned, with what couldn't be put back.
pub fn after(
    options: &Options,
    error: anyhow::Error,
    backup: &Backup,
    edits: Option<&[Edit]>,
    running: &[String],
) -> anyhow::Error {
    options.output.say(format!("going back: {}", first_line(&error)));
    let hint = format!("{XTASK} upgrade --back");
    let exit = Failure::exit_of(&error);
    match options.interrupt.clean_up(|| go(options, backup, edits, running, false)) {
        Ok(()) => {
            let message = "the upgrade failed; all is as it was before it";
            let hint = Failure::hint_of(&error).map_or("{XTASK} status".to_string(), String::from);
            error.context(Failure::new(exit, message).hint(hint))
        }
        Err(left) => {
            let message = format!("the upgrade failed, and so did the way back ({})", first_line(&left));
            error.context(Failure::new(exit, message).hint(hint))
        }
    }
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_string()
}

/// Names the old images, puts the databases back, and starts what ran. `edits`: those that named the new ones in this run;
/// `always`: also where no migration has begun.
fn go(
    options: &Options,
    backup: &Backup,
    edits: Option<&[Edit]>,
    running: &[String],
    always: bool,
) -> Result<()> {
    if let Some(edits) = edits {
        image_pin::undo(edits)?;
    }
    let mut cx = super::super::locked(options, &Images { stand_in: None })?;
    let old = backup.manifest.upgrades.iter().flat_map(|one| one.old.clone()).collect();
    let left = image_pin::edits(&cx, &old)?;
    if !left.is_empty() {
        image_pin::write(&cx, &left, &old)?;
        cx = cx.renewed()?;
    }
    let products = of(backup);
    if always || has_changed(&cx, backup, &products)? {
        restore::put_back(&cx, backup, &products)?;
    }
    start(&cx, running)?;
    let names: Vec<_> = backup.manifest.upgrades.iter().map(|one| one.product.name()).collect();
    cx.out.say(format!("{}: as before the upgrade", names.join(", ")));
    Ok(())
}
