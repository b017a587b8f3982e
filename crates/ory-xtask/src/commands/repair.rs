//! `repair`: what a killed migration left behind that a re-run doesn't mend, and lost rows of `schema_migration`.

use std::slice;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use ory_facts::next::XTASK;
use ory_facts::repair;

use crate::arguments::{Arguments, Images, required, value, yes};
use crate::plan::{self, Step};
use ory_ops::context::{Context, Options};
use ory_ops::drift;
use ory_ops::lock;
use ory_ops::lost_rows;
use ory_ops::migrations;
use ory_ops::postgres;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::Output;
use ory_stack::stack::Deployment;

pub struct Repair {
    product: String,
    yes: bool,
}

impl Arguments for Repair {
    fn all() -> Vec<Arg> {
        vec![required("PRODUCT", "The product to repair"), yes()]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { product: value(typed, "PRODUCT"), yes: typed.get_flag("yes") }
    }
}

pub fn run(options: &Options, args: &Repair) -> Result<()> {
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &Images { stand_in: None })?;
    let _project = lock::acquire_project(&cx)?;
    let deployments = super::deployments(&cx, &super::products(&cx, slice::from_ref(&args.product))?)?;
    for deployment in &deployments {
        let start =
            deployment.server.map(|server| Step::StartServer { server, recreate: false, meanwhile: vec![] });
        plan::execute(&cx, &Vec::from_iter(start))?;
        if options.dry_run {
            drift::lines(&cx, deployment)?.iter().try_for_each(Output::data)?;
            Output::data("# prints the SQL that repairs, asks, runs it as the product, and migrates on")?;
        } else {
            repair(&cx, deployment, args.yes)?;
        }
        plan::execute(&cx, &[Step::Migrate { deployment, is_forced: false, then_start: vec![] }])?;
    }
    Ok(())
}

fn repair(cx: &Context, deployment: &Deployment, yes: bool) -> Result<()> {
    let product = deployment.product;
    let statements = statements(cx, deployment)?;
    if statements.is_empty() {
        cx.out.say(format!("{product}: nothing to repair"));
        return Ok(());
    }
    let script: String = statements.iter().map(|statement| format!("{statement};\n")).collect();
    Output::data(script.trim_end())?;
    let database = &deployment.dsn.database;
    let (what, question) =
        (format!("changes the database {database}"), format!("Run this in the database {database}?"));
    if !super::confirm(cx, yes, &what, &question, &format!("{XTASK} repair {product} --yes"))? {
        bail!(Failure::new(Exit::Failed, "nothing was repaired").hint(format!("{XTASK} repair {product}")));
    }
    let place = postgres::running_place(cx, deployment)?;
    let psql = postgres::change(cx, &place, &deployment.dsn, script);
    let _progress = cx.out.progress(format!("repairing {product}"));
    psql.within(cx.options.timeout).read().map_err(|error| {
        let message = format!("{product} could not be repaired as a whole; what was done stays done");
        let hint = format!(
            "mend what PostgreSQL says, then {XTASK} repair {product}; or: {XTASK} restore latest {product}"
        );
        error.context(Failure::new(Exit::Failed, message).hint(hint))
    })?;
    cx.out.say(format!("{product}: repaired"));
    Ok(())
}

/// The SQL that repairs, each statement proved by what the image itself makes.
fn statements(cx: &Context, deployment: &Deployment) -> Result<Vec<String>> {
    let state = migrations::state(cx, deployment)?;
    migrations::refuse_ahead(cx, deployment, &state)?;
    let (expected, actual) = drift::schemas(cx, deployment)?;
    let pending = expected.versions.difference(&actual.versions).cloned().collect();
    let product = deployment.product;
    let mut statements = repair::statements(product.kind, &pending, &expected, &actual).map_err(|other| {
        let message = format!("{product} isn't as a killed migration leaves it: {other}");
        let hint = format!("make it as the image makes it, then: {XTASK} repair {product}");
        Failure::new(Exit::Failed, message).hint(hint)
    })?;
    // What was found to be noted needs no closer look.
    let notes = lost_rows::notes(cx, deployment, &state)?;
    statements.extend(notes.into_iter().filter(|note| !statements.contains(note)).collect::<Vec<_>>());
    Ok(statements)
}
