//! `reset`: backs up, and starts anew with an empty database that the images migrate.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Folder, Images, listed, products, switch, yes};
use ory_environment::context::{Context, Options};
use ory_environment::lock;
use ory_environment::replacement::{self, Replacement};
use ory_environment::store::{self, Store};
use ory_facts::contents::Contents;
use ory_facts::product::Product;
use xtask_runner::failure::{Exit, Failure};
use xtask_runner::output::{Output, counted};

pub struct Reset {
    products: Vec<Product>,
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
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &Images { stand_in: None })?;
    let _project = lock::acquire_project(&cx)?;
    let products = super::products(&cx, &args.products)?;
    if !args.force {
        store::of(&cx, &products)?.iter().try_for_each(|store| refuse_production(&cx, store))?;
    }
    let stores = super::stores(&cx, &products)?;
    if options.dry_run {
        return stores.iter().try_for_each(|store| print(&cx, store));
    }
    let mut replacements =
        stores.iter().map(|store| Replacement::new(&cx, store)).collect::<Result<Vec<_>>>()?;
    replacements.iter().try_for_each(Replacement::refuse_obstacles)?;
    if !confirm(&cx, &replacements, args)? {
        cx.out.say("nothing was deleted");
        return Ok(());
    }
    let there = stores.iter().zip(&replacements).filter(|(_, replacement)| replacement.current.is_some());
    let there: Vec<_> = there.map(|(store, _)| store).collect();
    if !there.is_empty() {
        let made = super::backup::before(&cx, &there, &args.folder)?;
        Output::data(made.folder.display().to_string())?;
    }
    let mut migrations = Vec::new();
    for (store, replacement) in stores.iter().zip(&mut replacements) {
        replacement.make()?;
        replacement.copy_rights()?;
        replacement.migrate()?;
        let empty = replacement.contents()?;
        if let Some(current) = replacement.current.as_ref().filter(|_| !args.force) {
            refuse_others(store, current, &empty)?;
        }
        migrations.push(counted(empty.versions.len(), "migration"));
    }
    replacement::put_in_place(&cx, replacements, false)?;
    for (store, migrations) in stores.iter().zip(migrations) {
        cx.out.say(format!("{}: empty, with {migrations}", store.names(", ")));
    }
    Ok(())
}

/// A reset is for an environment of one's own.
fn refuse_production(cx: &Context, store: &Store) -> Result<()> {
    let names = store.names(", ");
    let why = match store.main()?.server {
        None => format!("the server of {names} is no service of this stack"),
        Some(_) if cx.engine.is_remote() => "the engine is on another machine".into(),
        Some(_) => return Ok(()),
    };
    let message = format!("{names} could be in production: {why}");
    let line = format!("cargo xtask reset {} --force", store.names(" "));
    bail!(Failure::new(Exit::Failed, message).hint(format!("where it may be emptied all the same: {line}")))
}

/// What isn't the product's isn't lost with it.
fn refuse_others(store: &Store, current: &Contents, empty: &Contents) -> Result<()> {
    let others = current.rows.keys().filter(|table| !empty.rows.contains_key(*table));
    let others: Vec<_> = others.map(String::as_str).collect();
    if others.is_empty() {
        return Ok(());
    }
    let (names, place) = (store.names(", "), store.in_words());
    let message = format!("{place} has tables that the images of {names} don't make: {}", others.join(", "));
    let line = format!("cargo xtask reset {} --force", store.names(" "));
    bail!(Failure::new(Exit::Failed, message).hint(format!("where they may be lost too: {line}")))
}

fn confirm(cx: &Context, replacements: &[Replacement], args: &Reset) -> Result<bool> {
    let lost = replacements.iter().filter_map(Replacement::in_words).collect::<Vec<_>>().join(", ");
    if lost.is_empty() {
        return Ok(true);
    }
    let products = args.products.iter().map(|product| format!(" {product}")).collect::<String>();
    let what = format!("deletes all that is in {lost}");
    let question = format!("Back up, then delete all that is in {lost}?");
    super::confirm(cx, args.yes, &what, &question, &format!("cargo xtask reset{products} --yes"))
}

fn print(cx: &Context, store: &Store) -> Result<()> {
    super::backup::print_dump(cx, store)?;
    let name = store.in_words();
    Output::data(format!("# makes a new database beside {name}, and lets the image migrate it"))?;
    let names = store.names(", ");
    Ok(Output::data(format!(
        "# then, with {names} stopped, puts it in the place of {name}, which is deleted"
    ))?)
}
