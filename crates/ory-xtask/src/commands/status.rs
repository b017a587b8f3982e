//! `status`: each product's migrations, container and readiness. It starts nothing but, once an image, a
//! container that lists what the image carries.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};
use serde_json::Value;

use crate::arguments::{Arguments, listed, products, switch};
use ory_facts::difference::Difference;
use ory_facts::document::Document;
use ory_facts::image_migrations::State;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_ops::context::{Context, Options};
use ory_ops::diagnosis;
use ory_ops::drift;
use ory_ops::image_migrations;
use ory_ops::image_schema;
use ory_ops::left_behind;
use ory_ops::migrations;
use ory_ops::prefetch::{Extent, look};
use ory_ops::readiness;
use ory_ops::recreate;
use ory_ops::replicas::Replicas;
use ory_runner::at_once::each;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, table};
use ory_runner::process::quote;
use ory_stack::container::Container;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

/// What is known of a product.
struct Row<'a> {
    deployment: Deployment<'a>,
    /// How its database stands to its image, or why that isn't known.
    migrations: Result<State>,
    /// The upgrade that a killed run has left it in the middle of.
    upgrade: Option<Failure>,
    /// What its schema has otherwise than the image makes it, where that is asked for, or why that isn't known.
    drift: Option<Result<Vec<Difference>>>,
    /// The images that its containers were made from; none where there is none.
    runs: Option<String>,
    /// The services whose containers aren't as the stack says now, and why.
    restart_due: Vec<(String, String)>,
    state: String,
    is_ready: bool,
    urls: Vec<String>,
}

pub struct Status {
    products: Vec<String>,
    check: bool,
    drift: bool,
    sql: bool,
    json: bool,
}

impl Arguments for Status {
    fn all() -> Vec<Arg> {
        vec![
            products("Only these products [default: all of the stack]"),
            switch("check", "Exit with 3 if migrations are pending, 4 if a database is ahead"),
            switch("drift", "Compare each schema with what its image makes; exit with 1 where they differ"),
            switch("sql", "Print the SQL of what is pending").conflicts_with_all(["json", "drift"]),
            switch("json", "Print one JSON document"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            products: listed(typed, "PRODUCT"),
            check: typed.get_flag("check"),
            drift: typed.get_flag("drift"),
            sql: typed.get_flag("sql"),
            json: typed.get_flag("json"),
        }
    }
}

pub fn run(options: &Options, args: &Status) -> Result<()> {
    let cx = Context::new(options, vec![])?;
    let products = super::products(&cx, &args.products)?;
    let deployments = super::deployments(&cx, &products)?;
    look(&cx, &deployments, Extent::Changes);
    left_behind::warn_of_databases(&cx);
    let containers = cx.containers()?;
    let mut rows = each(deployments, |deployment| row(&cx, &containers, deployment));
    if args.drift && !options.dry_run {
        rows.iter_mut().for_each(|row| row.compare(&cx));
        options.interrupt.check()?;
    }
    match (args.json, args.sql) {
        (true, _) => Output::data(document(&cx, &rows).text())?,
        (_, true) => rows.iter_mut().try_for_each(|row| print_sql(&cx, row))?,
        _ => print_table(&cx, &rows)?,
    }
    if args.drift && options.dry_run && !args.json {
        for row in &rows {
            image_schema::lines(&cx, &row.deployment)?.iter().try_for_each(Output::data)?;
        }
    }
    if args.check {
        check(&cx, &rows)?;
    }
    if args.drift && !options.dry_run { check_drift(&cx, rows) } else { Ok(()) }
}

fn row<'a>(cx: &Context, containers: &[Container], deployment: Deployment<'a>) -> Row<'a> {
    let product = deployment.product;
    let migrations = migrations::state(cx, &deployment);
    let migrations = migrations.map_err(|error| diagnosis::of_product(cx, &deployment, error));
    let serving = cx.stack.serving(product);
    let own = Replicas::of(containers, &serving);
    let due = |service: &&Service| {
        let mut containers = containers.iter().filter(|container| container.service == service.name);
        let why = containers.find_map(|container| recreate::restart_due(cx, container))?;
        Some((service.name.clone(), why))
    };
    let upgrade = migrations.as_ref().ok().and_then(|state| left_behind::upgrade(cx, &deployment, state));
    Row {
        migrations,
        upgrade,
        drift: None,
        runs: own.images(),
        restart_due: cx.stack.running(product).iter().filter_map(due).collect(),
        state: own.state(),
        is_ready: own.all_run() && own.iter().all(|container| readiness::is_ready(cx, container)),
        urls: serving.iter().flat_map(|service| readiness::urls(cx, containers, &service.name)).collect(),
        deployment,
    }
}

impl Row<'_> {
    fn image(&self) -> &str {
        self.deployment.migrate.image.as_deref().unwrap_or_default()
    }

    /// Says what is to be restarted so that the stack is what is running.
    fn tell_restart(&self, cx: &Context) {
        let product = self.deployment.product;
        for (service, why) in &self.restart_due {
            cx.out.warn(format!("{product}: {why}: {XTASK} restart {}", quote(service)));
        }
    }

    fn compare(&mut self, cx: &Context) {
        self.drift = self.migrations.as_ref().ok().map(|state| drift::of(cx, &self.deployment, state));
    }

    /// Applied, pending and ahead. A number that can't be known is none.
    fn counts(&self) -> [Option<usize>; 3] {
        let Ok(state) = &self.migrations else { return [None; 3] };
        let is_known = state.carried.is_some();
        [Some(state.count()), state.pending(), is_known.then(|| state.ahead())]
    }
}

fn print_table(cx: &Context, rows: &[Row]) -> Result<()> {
    let heading = ["PRODUCT", "APPLIED", "PENDING", "AHEAD", "STATE", "READY", "IMAGE", "URL"];
    let mut lines = vec![heading.map(String::from).to_vec()];
    for row in rows {
        let mut line = vec![row.deployment.product.to_string()];
        line.extend(row.counts().map(|count| count.map_or("?".into(), |count| count.to_string())));
        line.push(row.state.clone());
        line.push(if row.is_ready { "yes" } else { "no" }.into());
        line.push(row.runs.as_deref().unwrap_or(row.image()).into());
        line.push(row.urls.join(" "));
        lines.push(line);
    }
    table(&lines).iter().try_for_each(Output::data)?;
    for row in rows {
        row.tell_restart(cx);
        if let Err(error) = &row.migrations {
            cx.out.warn(format!("{}: {error}", row.deployment.product));
        }
        if let Some(unfinished) = &row.upgrade {
            cx.out.warn(unfinished.in_one_line());
        }
        print_drift(cx, row)?;
    }
    Ok(())
}

/// A line for each difference, the next command below it.
fn print_drift(cx: &Context, row: &Row) -> Result<()> {
    let product = row.deployment.product;
    let Some(Ok(found)) = &row.drift else { return Ok(()) };
    if found.is_empty() {
        cx.out.say(format!("{product}: no drift"));
    }
    for difference in found {
        let hint = cx.out.named(&drift::hint(cx, &row.deployment, difference));
        Output::data(format!("{product}: {}\n  hint: {hint}", difference.text))?;
    }
    Ok(())
}

/// The shape is documented in the guide, and kept by a test.
fn document(cx: &Context, rows: &[Row]) -> Document {
    let product = |row: &Row| {
        let [applied, pending, ahead] = row.counts();
        let difference = |one: &Difference| {
            let hint = cx.out.named(&drift::hint(cx, &row.deployment, one));
            Document::default().with("difference", one.text.as_str()).with("hint", hint)
        };
        let problem = row.migrations.as_ref().err().or_else(|| row.drift.as_ref()?.as_ref().err());
        let problem = problem.map(ToString::to_string);
        let problem = problem.or_else(|| Some(row.upgrade.as_ref()?.in_one_line()));
        let document = Document::default()
            .with("product", row.deployment.product.kind.name())
            .with("name", row.deployment.product.name())
            .with("image", row.image())
            .with("runs", row.runs.as_deref())
            .with("restart_is_due", !row.restart_due.is_empty())
            .with("applied", applied)
            .with("pending", pending)
            .with("ahead", ahead)
            .with("state", row.state.as_str())
            .with("ready", row.is_ready)
            .with("urls", row.urls.clone());
        let document = match &row.drift {
            Some(Ok(found)) => document.with_list("drift", found.iter().map(difference)),
            _ => document.with("drift", Value::Null),
        };
        document.with("problem", problem.map(|text| cx.out.named(&text)))
    };
    Document::default()
        .with("project", cx.stack.project.as_str())
        .with_list("products", rows.iter().map(product))
}

/// The SQL of what is pending, in order.
fn print_sql(cx: &Context, row: &mut Row) -> Result<()> {
    let Ok(state) = &mut row.migrations else { return Ok(()) };
    if state.pending() > Some(0) {
        match image_migrations::in_full(cx, &row.deployment)? {
            Some(carried) => state.carried = Some(carried),
            None => {
                let product = row.deployment.product;
                cx.out
                    .warn(format!("{product}'s image is too old to print its SQL: only its versions follow"));
            }
        }
    }
    for (version, migration) in state.pending_migrations() {
        Output::data(format!(
            "-- {} {version} {}\n{}",
            row.deployment.product, migration.name, migration.sql
        ))?;
    }
    Ok(())
}

/// Exit 4 where a database is ahead, whatever else can't be known; 1 where something can't, 3 where migrations are
/// pending.
fn check(cx: &Context, rows: &[Row]) -> Result<()> {
    let some = |row: &&Row, index: usize| row.counts()[index].is_some_and(|count| count > 0);
    // In a shared schema the rows of the other product are in the same table.
    let is_alone = |row: &&Row| cx.stack.sharing(&row.deployment).is_empty();
    if let Some(row) = rows.iter().filter(is_alone).find(|row| some(row, 2)) {
        if let Some(unfinished) = &row.upgrade {
            bail!(unfinished.clone());
        }
        let message = format!("{}'s database is ahead of {}", row.deployment.product, row.image());
        bail!(Failure::new(Exit::Ahead, message).hint(format!(
            "name the newer image, or restore an earlier backup: {XTASK} restore BACKUP {}",
            row.deployment.product
        )));
    }
    for row in rows {
        let product = row.deployment.product;
        match (&row.migrations, row.counts()) {
            (Err(_), _) => bail!(unreadable(product)),
            (_, [_, Some(_), Some(_)]) => {}
            _ => {
                let message = format!("what {product}'s image carries can't be told");
                let hint = format!("{} runs its migrations each time", product.migrate_line());
                bail!(Failure::new(Exit::Failed, message).hint(hint));
            }
        }
    }
    if let Some(row) = rows.iter().find(|row| some(row, 1)) {
        if let Some(unfinished) = &row.upgrade {
            bail!(unfinished.clone());
        }
        let message = format!("{} has migrations pending", row.deployment.product);
        bail!(Failure::new(Exit::Pending, message).hint("{XTASK} migrate-all && {XTASK} restart"));
    }
    Ok(())
}

fn unreadable(product: Instance) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{product}'s migrations can't be read"));
    failure.hint(format!("{}, which tells why", product.migrate_line()))
}

/// Exit 1 where a schema isn't as its image makes it, or that can't be told.
fn check_drift(cx: &Context, rows: Vec<Row>) -> Result<()> {
    let (mut unknown, mut found) = (None, Vec::new());
    for row in rows {
        let product = row.deployment.product;
        match row.drift {
            None => unknown = unknown.or(Some(unreadable(product).into())),
            // The first one is the error of the command.
            Some(Err(error)) if unknown.is_some() => cx.out.warn(format!("{product}: {error}")),
            Some(Err(error)) => {
                let failure = Failure::new(Exit::Failed, format!("{product}'s drift can't be told"));
                let hint = Failure::hint_of(&error).map(String::from);
                unknown = Some(error.context(hint.into_iter().fold(failure, Failure::hint)));
            }
            Some(Ok(differences)) if differences.is_empty() => {}
            Some(Ok(differences)) => {
                found.push(format!("{product} has {}", counted(differences.len(), "difference")));
            }
        }
    }
    if let Some(error) = unknown {
        return Err(error);
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!("the schema differs from what the image creates: {}", found.join(", "));
    bail!(Failure::new(Exit::Failed, message).hint("each difference above has its own"));
}
