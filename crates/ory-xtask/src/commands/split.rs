//! `split`: a place of its own for each product of a shared schema. It goes on from wherever it is: what is shared is
//! split, what waits for its new DSN is named, what has it is migrated and started.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, Databases as Create, Folder, Images, switch, yes};
use crate::backup_step;
use crate::plan::{self, Step};
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_facts::split::dependents::Dependent;
use ory_facts::split::{Division, Way};
use ory_ops::advisory_lock;
use ory_ops::context::{Context, Options};
use ory_ops::lock::Locked;
use ory_ops::postgres;
use ory_ops::services;
use ory_ops::split::databases::{self, Databases};
use ory_ops::split::new_dsns::{self, NewDsn, Passwords};
use ory_ops::split::schemas;
use ory_ops::split::shared::{self, Shared, State};
use ory_ops::target::Target;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};
use ory_stack::env_file;
use ory_stack::stack::Deployment;

/// A place that is to be split, and how.
struct Plan<'a> {
    shared: Shared<'a>,
    way: Way,
    division: Division,
    dependents: Vec<Dependent>,
    new: Vec<NewDsn>,
}

pub struct Split {
    in_place: bool,
    drop_foreign_keys: bool,
    finish: bool,
    yes: bool,
    folder: Folder,
}

impl Arguments for Split {
    fn all() -> Vec<Arg> {
        let in_place =
            switch("in-place", "A schema each in the same database: nothing of the application is cut off");
        let drop_foreign_keys = switch(
            "drop-foreign-keys",
            "A database each all the same: drop the keys and views of others that lead into the tables",
        );
        let finish =
            switch("finish", "Delete the old tables, once each product is served from its new place");
        let switches = vec![
            in_place,
            drop_foreign_keys.conflicts_with("in-place"),
            finish.conflicts_with_all(["in-place", "drop-foreign-keys"]),
            yes(),
        ];
        [switches, Folder::all()].concat()
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            in_place: typed.get_flag("in-place"),
            drop_foreign_keys: typed.get_flag("drop-foreign-keys"),
            finish: typed.get_flag("finish"),
            yes: typed.get_flag("yes"),
            folder: Folder::read(typed),
        }
    }
}

pub fn run(options: &Options, args: &Split) -> Result<()> {
    let mut cx = super::locked(options, &Images { stand_in: None })?;
    let mut passwords = Passwords::new(&mut cx)?;
    let cx = cx;
    let targets = super::targets(&cx, &super::products(&cx, &[])?)?;
    if options.dry_run && targets.iter().any(|target| !runs(&cx, target)) {
        return print_questions(&cx, &targets);
    }
    if args.finish {
        return super::split_finish::run(&cx, &targets, args.yes);
    }
    if !options.dry_run {
        targets.iter().try_for_each(|target| shared::settle(&cx, target))?;
    }
    let (mut plans, mut waiting, mut moved) = (vec![], vec![], vec![]);
    for target in &targets {
        let mut is_known = false;
        for deployment in &target.deployments {
            let memory = shared::memory(&cx, deployment)?;
            match shared::state(&cx, deployment, &memory)? {
                State::Own => is_known |= memory.note.is_some(),
                State::Waiting(way) => waiting.push((deployment, way)),
                State::Moved(_) => moved.push(deployment.product),
            }
        }
        let is_split = |product: Instance| {
            moved.contains(&product) || waiting.iter().any(|(deployment, _)| deployment.product == product)
        };
        if !is_known && !target.deployments.iter().any(|deployment| is_split(deployment.product)) {
            plans.extend(plan(&cx, &mut passwords, target, args)?);
        }
    }
    if plans.is_empty() && waiting.is_empty() && moved.is_empty() {
        cx.out.say("nothing to split: each product has a place of its own");
        return Ok(());
    }
    if options.dry_run {
        return print(&cx, &plans, &waiting, &moved);
    }
    if !plans.is_empty() {
        if !confirm(&cx, &plans, args)? {
            cx.out.say("nothing was changed");
            return Ok(());
        }
        let targets: Vec<_> = plans.iter().map(|plan| plan.shared.target).collect();
        let locks = targets.iter().map(|target| advisory_lock::acquire(&cx, target.main()?));
        let locks = locks.collect::<Result<Vec<_>>>()?;
        let made = backup_step::before(&cx, &targets, &args.folder, false)?;
        drop(locks);
        cx.out.say(format!("the backup is {}", made.folder.display()));
    }
    let mut new = Vec::new();
    for plan in plans {
        divide(&cx, &plan)?;
        new.extend(plan.new);
    }
    for (deployment, way) in waiting {
        new.extend(go_on(&cx, &mut passwords, deployment, way)?);
    }
    tell(&cx, &new)?;
    start(&cx, &moved)
}

/// How a place is to be split; none where nobody else is in it.
fn plan<'a>(
    cx: &Context,
    passwords: &mut Passwords,
    target: &'a Target<'a>,
    args: &Split,
) -> Result<Option<Plan<'a>>> {
    let shared = shared::look(cx, target)?;
    let schemas = shared.division(Way::Schemas)?;
    if !schemas.is_shared() {
        return Ok(None);
    }
    for deployment in &target.deployments {
        let kind = deployment.product.kind;
        if cx.stack.members(kind)?.len() > 1 {
            let message = format!(
                "{}: a split would name its database {kind}, and there are several {kind} in this stack",
                deployment.product
            );
            let hint = "split the stack with one of them alone, or name the new databases yourself: pg_dump, then other DSNs";
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
    }
    let databases = shared.division(Way::Databases)?;
    // Beside it in the database of its name, an application is a guest.
    if databases.parts.is_empty() && !args.in_place {
        return Ok(None);
    }
    let dependents = shared.dependents(cx, &databases)?;
    let way = if args.in_place || !(dependents.is_empty() || args.drop_foreign_keys) {
        Way::Schemas
    } else {
        Way::Databases
    };
    for dependent in &dependents {
        cx.out.say(&dependent.text);
    }
    if way == Way::Databases {
        for left in shared.left_behind(cx, &databases)? {
            cx.out.warn(format!("the new databases don't have {left}: make it there again"));
        }
    }
    let division = if way == Way::Schemas { schemas } else { databases };
    match way {
        Way::Schemas => schemas::check(cx, &shared, &division)?,
        Way::Databases => {
            refuse_on_product(&dependents)?;
            for product in databases::check(cx, &shared, &division)? {
                cx.out.say(format!("{product}: keeps its role, as there is another one called {product}"));
                passwords.remove(product);
            }
        }
    }
    let mut new = Vec::new();
    for part in &division.parts {
        new.extend(new_dsns::of(
            cx,
            passwords,
            shared.deployment(part.product)?,
            way,
            Some((&division, part)),
        )?);
    }
    Ok(Some(Plan { shared, way, division, dependents, new }))
}

/// What is on a product's own table can't be copied without what it needs.
fn refuse_on_product(dependents: &[Dependent]) -> Result<()> {
    let Some(dependent) = dependents.iter().find(|dependent| dependent.is_on_product) else { return Ok(()) };
    let message = format!("{} can't be in a database of its own with its table", dependent.text);
    bail!(
        Failure::new(Exit::Failed, message)
            .hint("drop it first; or, if it stays in use: {XTASK} split --in-place")
    )
}

impl Plan<'_> {
    fn products(&self) -> Vec<Instance> {
        self.shared.target.deployments.iter().map(|deployment| deployment.product).collect()
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.division.parts.iter().map(|part| part.product.name()).collect();
        names.join(", ")
    }

    fn goal(&self) -> String {
        let kind = if self.way == Way::Databases { "database" } else { "schema" };
        let from = self.shared.target.database();
        match self.way {
            Way::Databases if !self.dependents.is_empty() => {
                let count = counted(self.dependents.len(), "object");
                format!(
                    "gives {} of {from} a {kind} each, and drops {count} of others that need their tables",
                    self.names()
                )
            }
            _ => format!("gives {} of {from} a {kind} each", self.names()),
        }
    }
}

fn confirm(cx: &Context, plans: &[Plan], args: &Split) -> Result<bool> {
    let goals = plans.iter().map(Plan::goal).collect::<Vec<_>>().join("; ");
    let names = plans.iter().map(Plan::names).collect::<Vec<_>>().join(", ");
    let what = format!("{goals}, with their services stopped until their DSNs are the new ones");
    let question = format!("This {what}. Back up, stop {names}, and go on?");
    let flag = if args.in_place {
        " --in-place"
    } else if args.drop_foreign_keys {
        " --drop-foreign-keys"
    } else {
        ""
    };
    super::confirm(cx, args.yes, &what, &question, &format!("{XTASK} split{flag} --yes"))
}

/// Splits a place. After a failure all is as it was, the services among it.
fn divide(cx: &Locked, plan: &Plan) -> Result<()> {
    let Plan { shared, way, division, dependents, new } = plan;
    new_dsns::write(cx, new)?;
    let stopped = services::stop(cx, &plan.products())?;
    if !stopped.is_empty() {
        cx.out.say(format!("{}: stopped", stopped.names()));
    }
    let done = match way {
        Way::Databases => Databases { cx, shared, division, dependents, new }.run(),
        Way::Schemas => schemas::run(cx, shared, division),
    };
    let Err(error) = done else {
        stopped.leave(cx)?;
        let kind = if *way == Way::Databases { "databases" } else { "schemas" };
        cx.out.say(format!("{}: in {kind} of their own", plan.names()));
        return Ok(());
    };
    let exit = cx.options.interrupt.exit();
    let undone = cx.options.interrupt.clean_up(|| {
        let is_undone = databases::undo(cx, shared, division)?;
        if is_undone {
            stopped.start(cx)?;
        }
        Ok::<_, anyhow::Error>(is_undone)
    });
    let from = shared.target.database();
    Err(match undone {
        Ok(true) => {
            let message = format!("nothing was split: {from} as before");
            error.context(Failure::new(exit, message).hint("fix what is said below, then run this again"))
        }
        Ok(false) => {
            let message = format!("{from} is split, and not all that follows is done");
            error.context(Failure::new(exit, message).hint("{XTASK} split, which goes on from there"))
        }
        Err(left) => {
            let message = format!("{from} may be split or not, and {} is stopped", plan.names());
            left.context(format!("{error:#}"))
                .context(Failure::new(exit, message).hint("{XTASK} split, which looks and goes on"))
        }
    })
}

/// What a run that was cut off has left to be done for a product whose old DSN stands; with its new one.
fn go_on(cx: &Locked, passwords: &mut Passwords, deployment: &Deployment, way: Way) -> Result<Vec<NewDsn>> {
    if way == Way::Databases && databases::keeps_role(cx, deployment)? {
        passwords.remove(deployment.product.kind);
    }
    let mut new = new_dsns::of(cx, passwords, deployment, way, None)?;
    new_dsns::write(cx, &new)?;
    if let (Way::Databases, Some(first)) = (way, new.first()) {
        let place = postgres::running_place(cx, deployment)?;
        databases::make_role(cx, &place, deployment, &first.dsn)?;
        databases::give_names(cx, &place, deployment, [deployment.product.kind])?;
    }
    services::stop(cx, &[deployment.product])?.leave(cx)?;
    new.retain(|new| new.old != new.dsn.url());
    Ok(new)
}

/// Says where each new DSN goes, by the name of its variable.
fn tell(cx: &Context, new: &[NewDsn]) -> Result<()> {
    let mut names: Vec<_> = new.iter().map(|new| new.product.name()).collect();
    names.dedup();
    for NewDsn { product, service, file, old, variable, .. } in new {
        let place = match file {
            Some(file) => format!("dsn in {file} of `{service}`"),
            None => format!("DSN in the environment of `{service}`"),
        };
        let from = match env_file::names_of(&cx.dir, old) {
            names if names.is_empty() => String::new(),
            names => format!(" (it is {} in .env)", names.join(", ")),
        };
        Output::data(format!("{product}: {place}{from}: put {variable} of {} there", new_dsns::FILE))?;
    }
    if !names.is_empty() {
        let names = names.join(", ");
        cx.out.say(format!("{names}: stopped until the new DSNs are there; then: {XTASK} split"));
    }
    Ok(())
}

/// Migrates and starts the products whose DSN is the new one.
fn start(cx: &Locked, products: &[Instance]) -> Result<()> {
    if products.is_empty() {
        return Ok(());
    }
    let deployments = super::deployments(cx, products)?;
    let create = Create { create_databases: false, backup: false };
    let mut steps = super::migrate(cx, &deployments, &create, false, &[]);
    let services: Vec<_> = products.iter().flat_map(|product| cx.stack.serving(*product)).collect();
    steps.push(Step::Start { services, started: vec![] });
    plan::execute(cx, &steps)
}

/// Whether its server can be asked.
fn runs(cx: &Context, target: &Target) -> bool {
    target.main().is_ok_and(|main| postgres::running_place(cx, main).is_ok())
}

/// What a database tells decides what is done; here it doesn't run.
fn print_questions(cx: &Context, targets: &[Target]) -> Result<()> {
    for target in targets {
        let query = shared::memory_query(cx, target.main()?)?;
        Output::data(format!("{query}  # whether {} was split off", target.names(" or ")))?;
    }
    Ok(Output::data("# then looks for tables that are not of one product alone")?)
}

fn print(cx: &Locked, plans: &[Plan], waiting: &[(&Deployment, Way)], moved: &[Instance]) -> Result<()> {
    for plan in plans {
        let Plan { shared, division, .. } = plan;
        backup_step::print_dump(cx, shared.target)?;
        Output::data(format!("# writes the new DSNs to {}", new_dsns::FILE))?;
        print_stop(cx, &plan.products())?;
        match plan.way {
            Way::Schemas => Output::data(format!("# {}, in one transaction", plan.goal()))?,
            Way::Databases => {
                for part in division.there() {
                    let line = databases::dump_command(cx, shared, division, part)?;
                    Output::data(format!(
                        "{line}  # copies {} into a new database, and compares it",
                        part.product
                    ))?;
                }
                Output::data(format!("# {}, and puts the old tables away, in one transaction", plan.goal()))?;
            }
        }
    }
    for (deployment, _) in waiting {
        let product = deployment.product;
        Output::data(format!("# {product} waits for its new DSN, which is written to {}", new_dsns::FILE))?;
        print_stop(cx, &[product])?;
    }
    start(cx, moved)
}

fn print_stop(cx: &Context, products: &[Instance]) -> Result<()> {
    let stop = services::stop_command(cx, &services::serving(cx, products)?);
    stop.map_or(Ok(()), |stop| Ok(Output::data(stop.to_string())?))
}
