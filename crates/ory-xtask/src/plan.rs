//! What a command does, as data: steps that one loop runs, or prints.
//!
//! A step's printed lines and what it runs come from the same functions, so `--dry-run` can't drift.

use std::slice;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::backup_step;
use crate::missing_image;
use crate::summary;
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_ops::context::Context;
use ory_ops::create_databases::{self, MayCreate};
use ory_ops::diagnosis;
use ory_ops::engine;
use ory_ops::image_migrations;
use ory_ops::lock::Locked;
use ory_ops::lost_rows;
use ory_ops::migrations::{self, Ahead, Outcome};
use ory_ops::postgres;
use ory_ops::prefetch::{Extent, look};
use ory_ops::readiness;
use ory_ops::recreate::{self, Work};
use ory_ops::run_container;
use ory_ops::server;
use ory_ops::server_ready;
use ory_ops::services;
use ory_runner::background::Background;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, seconds};
use ory_runner::process::Invocation;
use ory_stack::container::Listed;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

/// One step of a plan.
pub enum Step<'a> {
    /// Pull images that aren't here.
    Pull(Vec<String>),
    /// Build the images of these services that aren't here.
    Build(Vec<&'a str>),
    /// Start a database service and wait until it takes connections. `up` lets Compose recreate it where
    /// its configuration changed; the other commands leave a running one alone.
    /// Meanwhile containers are made of services that have none.
    StartServer { server: &'a Service, recreate: bool, meanwhile: Vec<&'a Service> },
    /// Create the roles and databases that the stack asks for and the server lacks.
    CreateDatabases { server: &'a Service, deployments: Vec<&'a Deployment<'a>>, may_create: MayCreate },
    /// Back up what has migrations pending.
    Backup(&'a [Deployment<'a>]),
    /// Apply what is pending; where forced, also where nothing is. Then start its services beside what follows.
    Migrate { deployment: &'a Deployment<'a>, is_forced: bool, then_start: Vec<&'a Service> },
    /// Stop with exit 3 where migrations are pending.
    RequireMigrated(&'a [Deployment<'a>]),
    /// Start services, those that changed recreated, and wait until they are ready. Some were started before.
    Start { services: Vec<&'a Service>, started: Vec<&'a Service> },
    /// Recreate the services that changed, restart the others, and wait until they are ready.
    Restart(Vec<&'a Service>),
    /// Remove the containers, those of every profile where asked for, and the data where asked for.
    Down { volumes: bool, every: bool },
}

/// Runs the steps in order, or prints their command lines.
pub fn execute(cx: &Locked, steps: &[Step]) -> Result<()> {
    if cx.options.dry_run {
        for line in steps.iter().map(|step| step.lines(cx)).collect::<Result<Vec<_>>>()?.concat() {
            Output::data(line)?;
        }
        return Ok(());
    }
    thread::scope(|scope| {
        let mut beside = Background::new(scope);
        let mut ahead: Option<ScopedJoinHandle<_>> = None;
        for (index, step) in steps.iter().enumerate() {
            cx.options.interrupt.check()?;
            if step.migrates().is_some_and(|deployment| cx.seen(deployment.product).is_none()) {
                // All that follow in one session.
                look(cx, steps[index..].iter().filter_map(Step::migrates), Extent::Databases);
            }
            let begun = match step.migrates() {
                Some(_) => {
                    let begun = ahead.take().and_then(|ahead| ahead.join().ok().flatten());
                    let next = steps[index + 1..].iter().find_map(Step::migrates);
                    ahead = next.map(|next| scope.spawn(move || migrations::ahead(cx, next)));
                    begun
                }
                None => None,
            };
            step.run(cx, &mut beside, begun).map_err(|error| {
                let left = steps[index + 1..].iter().filter_map(Step::migrates).map(|d| d.product.name());
                let left: Vec<_> = left.collect();
                match step.migrates().map(|deployment| deployment.product) {
                    Some(product) if left.is_empty() => error.context(format!("failed to migrate {product}")),
                    Some(product) => error
                        .context(format!("failed to migrate {product}; not reached: {}", left.join(", "))),
                    None => error,
                }
            })?;
        }
        Ok(())
    })
}

impl Step<'_> {
    fn migrates(&self) -> Option<&Deployment<'_>> {
        match self {
            Self::Migrate { deployment, .. } => Some(deployment),
            _ => None,
        }
    }

    fn lines(&self, cx: &Context) -> Result<Vec<String>> {
        let containers = cx.listed()?;
        let container = |service: &Service| cx.container_name(&containers, service);
        let print = |invocation: Invocation| invocation.to_string();
        Ok(match self {
            Self::Pull(images) => images.iter().map(|image| print(pull(cx, image))).collect(),
            Self::Build(services) => vec![print(build(cx, services))],
            Self::StartServer { server, recreate, meanwhile } => {
                let runs = containers.iter().any(|c| c.service == server.name && c.is_running());
                let start = (*recreate || !runs).then(|| print(start(cx, slice::from_ref(&server.name))));
                let ready = format!("{}  # until it succeeds", server::ready_query(cx, &container(server)));
                let create = engine::create(&cx.engine, meanwhile);
                let create = (!meanwhile.is_empty()).then(|| format!("{create}  # meanwhile"));
                start.into_iter().chain(create).chain([ready]).collect()
            }
            Self::CreateDatabases { server, deployments, may_create } => {
                let names = deployments.iter().map(|d| d.dsn.database.as_str()).into_set();
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                let query =
                    create_databases::create_query(cx, &container(server), server, deployments, may_create)?;
                vec![format!("{query}  # creates what is missing of {names}")]
            }
            Self::Backup(deployments) => backup_step::lines_before_migration(cx, deployments)?,
            Self::Migrate { deployment, then_start, .. } => {
                let query =
                    postgres::applied_query(cx, &postgres::place(cx, &containers, deployment), &[deployment]);
                let has = format!("{query}  # what {} has", deployment.dsn.database);
                let ask = image_migrations::lines(cx, deployment)?;
                let migrate = print(run_container::command(cx, deployment));
                let count = migrations::known_pending(cx, deployment);
                let count =
                    count.map_or("an unknown number of migrations".into(), |n| counted(n, "migration"));
                let migrate = format!("{migrate}  # {count} pending");
                let start = then_start.iter().map(|service| services::start(cx, &containers, service));
                let start = start.map(|start| format!("{start}  # in parallel with what follows"));
                [has].into_iter().chain(ask).chain([migrate]).chain(start).collect()
            }
            Self::RequireMigrated(deployments) => {
                let line = |deployment: &Deployment| {
                    let place = postgres::place(cx, &containers, deployment);
                    let query = postgres::applied_query(cx, &place, &[deployment]);
                    format!("{query}  # stops where {} has migrations pending", deployment.product)
                };
                deployments.iter().map(line).collect()
            }
            Self::Start { services, started } => {
                let left = services.iter().filter(|service| !started.iter().any(|s| s.name == service.name));
                let left: Vec<_> = left.copied().collect();
                let commands = start_commands(cx, &recreate::compare(cx, &left)?);
                commands.into_iter().map(print).chain(wait_line(cx, services)).collect()
            }
            Self::Restart(services) => {
                let work = recreate::compare(cx, services)?;
                let restart = services::restart_commands(cx, &work.keep)?;
                start_commands(cx, &work)
                    .into_iter()
                    .chain(restart)
                    .map(print)
                    .chain(wait_line(cx, services))
                    .collect()
            }
            Self::Down { volumes, every } => vec![print(down(cx, *volumes, *every))],
        })
    }

    fn run<'scope>(
        &'scope self,
        cx: &'scope Locked,
        beside: &mut Background<'scope>,
        begun: Option<Ahead>,
    ) -> Result<()> {
        match self {
            Self::Pull(images) => run_pull(cx, images),
            Self::Build(services) => run_compose(cx, "build", &build(cx, services)),
            Self::StartServer { server, recreate, meanwhile } => {
                let create = (!meanwhile.is_empty()).then(|| engine::create(&cx.engine, meanwhile));
                run_start_server(cx, server, *recreate, || {
                    create.into_iter().for_each(|create| beside.add(move || cx.run_beside(&create)));
                })
            }
            Self::CreateDatabases { server, deployments, may_create } => {
                run_create(cx, server, deployments, may_create)
            }
            Self::Backup(deployments) => backup_step::before_migration(cx, deployments)
                .context("failed to back up, so nothing was migrated"),
            Self::Migrate { deployment, is_forced, then_start } => {
                let outcome = migrations::migrate(cx, deployment, *is_forced, begun);
                let outcome = outcome.map_err(|error| diagnosis::of_product(cx, deployment, error))?;
                cx.out.say(told(cx, deployment, &outcome)?);
                for service in then_start.iter().copied() {
                    beside.add(move || services::start_beside(cx, service));
                }
                Ok(())
            }
            Self::RequireMigrated(deployments) => require_migrated(cx, deployments),
            Self::Start { services, started } => {
                beside.finish();
                let clock = Instant::now();
                let work = recreate::compare_others(cx, services, started)?;
                let commands = start_commands(cx, &work);
                if !commands.is_empty() {
                    let servers = cx.stack.servers();
                    servers.into_iter().try_for_each(|server| server::wait_until_healthy(cx, server))?;
                }
                commands.iter().try_for_each(|command| run_compose(cx, "start", command))?;
                finish(cx, services, &work, &work.keep, clock)
            }
            Self::Restart(services) => {
                let clock = Instant::now();
                let work = recreate::compare(cx, services)?;
                for name in recreate::made_too(cx, &work)? {
                    cx.out.warn(format!(
                        "`{name}` is recreated too: it changed, and what is restarted needs it"
                    ));
                }
                start_commands(cx, &work)
                    .iter()
                    .try_for_each(|command| run_compose(cx, "restart", command))?;
                services::restart(cx, &work.keep)?;
                finish(cx, services, &work, &[], clock)
            }
            Self::Down { volumes, every } => run_compose(cx, "down", &down(cx, *volumes, *every)),
        }
    }
}

/// What a migration did, in words.
pub fn told(cx: &Context, deployment: &Deployment, outcome: &Outcome) -> Result<String> {
    let label = if cx.is_stand_in(deployment.migrate)? { ", stand-in" } else { "" };
    let product = deployment.product;
    Ok(match outcome {
        Outcome::UpToDate { total } => {
            format!("{product}: up to date ({}{label})", counted(*total, "migration"))
        }
        Outcome::Applied { count, took } => {
            format!("{product}: applied {} ({}{label})", counted(*count, "migration"), seconds(*took))
        }
    })
}

fn pull(cx: &Context, image: &str) -> Invocation {
    cx.engine.docker(["pull", "--quiet", image])
}

fn build(cx: &Context, services: &[&str]) -> Invocation {
    cx.engine.compose(["build"].into_iter().chain(services.iter().copied()))
}

fn start(cx: &Context, services: &[String]) -> Invocation {
    cx.engine.compose(["up", "-d"]).args(services)
}

/// What brings services up: those to be made by Compose, with what they depend on; stopped ones as they are.
fn start_commands(cx: &Context, work: &Work) -> Vec<Invocation> {
    let all = work.make.len() == cx.stack.services.len();
    let commands = [
        (engine::START, &work.start),
        (&["up", "-d"], &work.make),
        // Their next try may be a minute away.
        (&["restart"], &work.stuck),
    ];
    let commands = commands.into_iter().filter(|(_, names)| !names.is_empty()).map(|(args, names)| {
        let named = names.iter().filter(|_| !all).copied();
        cx.engine.compose(args.iter().copied().chain(named))
    });
    commands.collect()
}

/// Waits for services, and prints them; `kept` are those that ran before and weren't touched.
fn finish(cx: &Context, services: &[&Service], work: &Work, kept: &[&str], clock: Instant) -> Result<()> {
    let names = services.iter().map(|service| service.name.as_str());
    let names: Vec<_> = names.filter(|name| !work.finished.contains(name)).collect();
    summary::print(cx, &names, &readiness::wait(cx, &names, clock)?, kept)
}

fn wait_line(cx: &Context, services: &[&Service]) -> Option<String> {
    let of_ory = services.iter().filter(|service| cx.stack.product_of(service).is_some());
    let names: Vec<_> = of_ory.map(|service| service.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("# waits until /health/ready answers 200: {}", names.join(", ")))
}

fn down(cx: &Context, volumes: bool, every: bool) -> Invocation {
    let profiles: &[&str] = if every { &["--profile", "*"] } else { &[] };
    let words = profiles.iter().copied().chain(["down"]);
    cx.engine.compose(words.chain(volumes.then_some("--volumes")))
}

/// Runs a Compose command whose output is only of interest when it fails.
fn run_compose(cx: &Locked, step: &str, invocation: &Invocation) -> Result<()> {
    let _progress = cx.out.progress(format!("running `{invocation}`"));
    let result = cx.run_logged(&step.replace(' ', "-"), invocation).map_err(diagnosis::of_engine);
    result.with_context(|| format!("failed to {step}"))
}

fn run_pull(cx: &Locked, images: &[String]) -> Result<()> {
    let start = Instant::now();
    for image in images {
        let _progress = cx.out.progress(format!("pulling {image}"));
        let pull = pull(cx, image).within(None);
        pull.read().map_err(diagnosis::of_engine).map_err(|error| {
            let message = format!("the image {image} isn't here and can't be pulled");
            error.context(Failure::new(Exit::Missing, message).hint(missing_image::hint(cx, image)))
        })?;
    }
    cx.out.say(format!("pulled {} ({})", counted(images.len(), "image"), seconds(start.elapsed())));
    Ok(())
}

fn run_start_server(cx: &Locked, server: &Service, recreate: bool, meanwhile: impl FnOnce()) -> Result<()> {
    let clock = Instant::now();
    let is_current = |server| recreate::compare(cx, &[server]).map(|work| !work.keep.is_empty());
    if cx.answers(server) && (!recreate || is_current(server)?) {
        meanwhile();
        return Ok(());
    }
    let is_up = |c: &Listed| c.service == server.name && ["running", "paused"].contains(&c.state.as_str());
    let was_up = cx.listed()?.iter().any(is_up);
    if recreate || !was_up {
        run_compose(cx, &format!("start {}", server.name), &start(cx, slice::from_ref(&server.name)))?;
    }
    meanwhile();
    server_ready::wait(cx, server)?;
    // `up` ends with a table that has it.
    if !recreate && !was_up {
        cx.out.say(format!("{}: started ({})", server.name, seconds(clock.elapsed())));
    }
    Ok(())
}

fn run_create(
    cx: &Locked,
    server: &Service,
    deployments: &[&Deployment],
    may_create: &MayCreate,
) -> Result<()> {
    // Who can connect as each product needs no role and no database.
    if deployments.iter().all(|deployment| cx.seen(deployment.product).is_some()) {
        return Ok(());
    }
    let created = create_databases::create(cx, server, deployments, may_create)
        .with_context(|| format!("failed to create roles and databases on `{}`", server.name))?;
    let of_kind = |kind: &str| {
        let names: Vec<_> = created.lines().filter_map(|line| line.strip_prefix(kind)).collect();
        (!names.is_empty()).then(|| format!("{}s {}", kind.trim(), names.join(", ")))
    };
    let parts: Vec<_> = ["role ", "database ", "schema "].into_iter().filter_map(of_kind).collect();
    if !parts.is_empty() {
        cx.out.say(format!("{}: created {}", server.name, parts.join("; ")));
    }
    Ok(())
}

fn require_migrated(cx: &Context, deployments: &[Deployment]) -> Result<()> {
    let mut pending = Vec::new();
    for (deployment, state) in deployments.iter().zip(migrations::states_not_ahead(cx, deployments)?) {
        let product = deployment.product;
        match state.pending() {
            Some(0) => {}
            Some(count) => {
                lost_rows::refuse(cx, deployment, &state, None, false)?;
                pending.push((product, count));
            }
            None => cx.out.warn(format!("whether {product} has migrations pending can't be told")),
        }
    }
    let command = match pending.as_slice() {
        [] => return Ok(()),
        [(product, _)] => product.migrate_line(),
        _ => "{XTASK} migrate-all".into(),
    };
    let each = pending.iter().map(|(product, count)| format!("{product} has {count}"));
    let message = format!("migrations are pending: {}", each.collect::<Vec<_>>().join(", "));
    bail!(Failure::new(Exit::Pending, message).hint(format!("{command} && {XTASK} restart")))
}
