//! `backup`: a dump of each database, and with `--verify` the proof that it can be restored.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Folder, Images, listed, products, switch};
use crate::backup_step::{earlier, folder, line_of_proof, print_dump, tell};
use ory_ops::advisory_lock;
use ory_ops::backup;
use ory_ops::context::{Context, Options};
use ory_ops::replace::replacement::Replacement;
use ory_ops::replace::rights;

use ory_runner::output::Output;

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
    let cx = super::locked(options, &Images { stand_in: None })?;
    let targets = super::targets(&cx, &super::products(&cx, &args.products)?)?;
    if options.dry_run {
        targets.iter().try_for_each(|target| print_dump(&cx, target))?;
        let verified = if args.verify { &targets[..] } else { &[] };
        return Ok(verified.iter().map(line_of_proof).try_for_each(Output::data)?);
    }
    // What a role may not do is said before anything is done.
    let verified = if args.verify { &targets[..] } else { &[] };
    let replacements = verified.iter().map(|target| Replacement::new(&cx, target));
    let replacements = replacements.collect::<Result<Vec<_>>>()?;
    // A migration meanwhile could be in the middle of rewriting a table. A replacement has the lock already.
    let _locks = if args.verify { vec![] } else { advisory_lock::acquire_all(&cx, &targets)? };
    let folder = folder(&cx, &args.folder);
    let earlier = earlier(&cx, &folder);
    let made = backup::take(&cx, &targets.iter().collect::<Vec<_>>(), &folder, args.verify)?;
    made.manifest.dumps.iter().for_each(|dump| tell(&cx, earlier.as_ref(), dump));
    if !args.verify {
        for target in &targets {
            rights::missing(&cx, target)?.iter().for_each(|missing| cx.out.warn(missing));
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
