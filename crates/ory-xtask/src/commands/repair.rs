//! `repair`: what a killed migration left behind that a re-run doesn't fix, and lost rows of `schema_migration`.

use std::slice;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use ory_facts::next::XTASK;

use crate::arguments::{Arguments, Images, required, value, yes};
use crate::plan::{self, Step};
use ory_ops::context::Options;
use ory_ops::image_schema;
use ory_ops::lock::Locked;
use ory_ops::repair;
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
    let cx = super::locked(options, &Images { stand_in: None })?;
    let deployments = super::deployments(&cx, &super::products(&cx, slice::from_ref(&args.product))?)?;
    for deployment in &deployments {
        let start =
            deployment.server.map(|server| Step::StartServer { server, recreate: false, meanwhile: vec![] });
        plan::execute(&cx, &Vec::from_iter(start))?;
        if options.dry_run {
            image_schema::lines(&cx, deployment)?.iter().try_for_each(Output::data)?;
            Output::data("# prints the SQL that repairs, asks, runs it as the product, and migrates on")?;
        } else {
            repair(&cx, deployment, args.yes)?;
        }
        plan::execute(&cx, &[Step::Migrate { deployment, is_forced: false, then_start: vec![] }])?;
    }
    Ok(())
}

fn repair(cx: &Locked, deployment: &Deployment, yes: bool) -> Result<()> {
    let product = deployment.product;
    let statements = repair::statements(cx, deployment)?;
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
    repair::run(cx, deployment, script)?;
    cx.out.say(format!("{product}: repaired"));
    Ok(())
}
