//! What `doctor` asks by starting a program: each question is a command line, and what its answer tells.

use std::path::Path;
use std::process::Output;

use anyhow::Result;

use crate::missing_image;
use crate::stand_in;
use ory_ops::context::Context;
use ory_runner::at_once::each;
use ory_runner::output::counted;
use ory_runner::process::{self, Invocation};
use ory_stack::checks::files::{self, User};
use ory_stack::checks::{Finding, answers};
use ory_stack::container::{Container, Image};
use ory_stack::service::Service;

/// What an answer tells.
type Judge<'a> = Box<dyn Fn(&Output) -> Vec<Finding> + Send + Sync + 'a>;

/// The questions of one check, and what is known without asking.
pub struct Group<'a> {
    check: &'static str,
    /// What is so where nothing is found; none: it has no line then.
    ok: String,
    found: Vec<Finding>,
    asks: Vec<(Invocation, Judge<'a>)>,
}

impl<'a> Group<'a> {
    fn new(check: &'static str, ok: &str) -> Self {
        Self { check, ok: ok.into(), found: vec![], asks: vec![] }
    }

    fn ask(&mut self, command: Invocation, judge: impl Fn(&Output) -> Vec<Finding> + Send + Sync + 'a) {
        self.asks.push((command, Box::new(judge)));
    }

    /// The command lines, for a dry run.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.asks.iter().map(|(command, _)| format!("{command}  # {}", self.check))
    }
}

/// What is so where nothing is found; elsewhere, nothing is looked at.
pub fn if_here<'a>(cx: &Context, ok: &'a str) -> &'a str {
    if cx.engine.is_here() { ok } else { "not looked at: the engine is on another machine" }
}

/// Asks everything at once.
pub fn answers(groups: Vec<Group>) -> Vec<(&'static str, String, Vec<Finding>)> {
    let answer = |(command, judge): &(Invocation, Judge)| match command.output() {
        Ok(output) => judge(&output),
        Err(_) => vec![],
    };
    each(groups, |group| {
        let found = each(&group.asks, answer).concat();
        (group.check, group.ok, [group.found, found].concat())
    })
}

/// Every group.
pub fn groups<'a>(cx: &'a Context, containers: &[Container], folder: &Path) -> Result<Vec<Group<'a>>> {
    let images = cx.images()?;
    let mut groups = vec![readable(cx)?, present(cx, &images)];
    groups.extend(disk(cx, folder));
    groups.extend(major_versions(cx, containers, &images)?);
    groups.extend(health_programs(cx, containers, &images));
    Ok(groups)
}

fn is_here(images: &[Image], service: &Service) -> bool {
    images.iter().any(|image| Some(&image.name) == service.image.as_ref())
}

/// The services of Ory, and the database servers.
fn of_interest(cx: &Context) -> Vec<&Service> {
    let of_ory = cx.stack.services.values().filter(|service| cx.stack.product_of(service).is_some());
    of_ory.chain(cx.stack.servers()).collect()
}

/// Each file can be read by the user of its container. The image is asked only where not everybody can read it.
pub fn readable(cx: &Context) -> Result<Group<'_>> {
    let mut group = Group::new("readable", if_here(cx, "each file can be read by the user of its container"));
    if !cx.engine.is_here() {
        return Ok(group);
    }
    let view = cx.stack.view();
    for service in view.products.iter().flat_map(|deployed| deployed.services()) {
        let paths = files::private(service);
        let Some(image) = service.image.as_deref().filter(|_| !paths.is_empty()) else { continue };
        let Some(found) = cx.image(image)? else { continue };
        let user = service.user.clone().unwrap_or_else(|| found.user.clone());
        if ["", "root", "0"].contains(&user.as_str()) {
            continue;
        }
        if let Some(number) = User::of_numbers(&user) {
            group.found.extend(files::unreadable(service, &paths, &user, Some(number)));
            continue;
        }
        let command = ["run", "--rm", "--network", "none", "--entrypoint", "cat", image, "/etc/passwd"];
        group.ask(cx.engine.docker(command), move |output| {
            let number = User::of_passwd(&String::from_utf8_lossy(&output.stdout), &user);
            files::unreadable(service, &paths, &user, number)
        });
    }
    Ok(group)
}

/// Each image is here, can be built, or can be pulled.
fn present<'a>(cx: &'a Context, images: &[Image]) -> Group<'a> {
    let mut group = Group::new("images", "here");
    let missing = cx.stack.services.values().filter(|service| !is_here(images, service));
    let (built, absent): (Vec<_>, Vec<_>) = missing.partition(|service| service.is_built);
    for service in absent.iter().copied() {
        let Some(image) = service.image.as_deref() else { continue };
        if stand_in::is_stand_in(image) {
            let message = format!("its image {image} isn't here, and can only be built");
            group.found.push(Finding::missing(&service.name, message, "{XTASK} up --stand-in"));
            continue;
        }
        group.ask(cx.engine.docker(["manifest", "inspect", image]), move |output| {
            let text = cx.engine.mask(&String::from_utf8_lossy(&output.stderr));
            let refused = (!output.status.success())
                .then(|| answers::pull(service, image, &text, missing_image::hint(cx, image)));
            refused.into_iter().collect()
        });
    }
    group.ok = match (built.len(), absent.len()) {
        (0, 0) => "here".into(),
        (0, pulled) => format!("here, or to be pulled: {}", counted(pulled, "service")),
        (built, 0) => format!("here, or to be built: {}", counted(built, "service")),
        (built, pulled) => format!("here, or to be built ({built}) or pulled ({pulled})"),
    };
    group
}

/// Enough space is left where the daemon keeps everything.
fn disk<'a>(cx: &'a Context, folder: &Path) -> Option<Group<'a>> {
    let df = process::find("df").filter(|_| cx.engine.is_here())?;
    let mut group = Group::new("disk", "enough space is left");
    let shown = folder.display().to_string();
    let command = cx.engine.program(df).args(["-Pk", &shown]);
    group.ask(command, move |output| answers::space(&String::from_utf8_lossy(&output.stdout), &shown));
    Some(group)
}

/// A server that doesn't run, and has data, gets an image of the same major version as its data.
fn major_versions<'a>(
    cx: &'a Context,
    containers: &[Container],
    images: &[Image],
) -> Result<Option<Group<'a>>> {
    let mut group = Group::new("postgres", "each image is of its volume's major version");
    for server in cx.stack.servers() {
        let runs = containers.iter().any(|c| c.service == server.name && c.is_running());
        let Some(image) = server.image.as_deref().filter(|_| !runs && is_here(images, server)) else {
            continue;
        };
        let data = server.mounts.iter().filter(|mount| mount.target.starts_with("/var/lib/postgresql"));
        for mount in data {
            let Some(source) = cx.stack.source_of(mount) else { continue };
            // Nothing is made by asking.
            let is_there = match &mount.source {
                Some(path) => path.exists(),
                None => cx.engine.docker(["volume", "inspect", &source]).output()?.status.success(),
            };
            if !is_there {
                continue;
            }
            let script =
                "cat /data/PG_VERSION /data/*/PG_VERSION /data/*/docker/PG_VERSION; postgres --version";
            let volume = format!("{source}:/data:ro");
            let command = ["run", "--rm", "--network", "none", "--user", "root", "--volume", &volume];
            let command = cx.engine.docker(command).args(["--entrypoint", "sh", image, "-c", script]);
            group.ask(command, move |output| {
                let text = String::from_utf8_lossy(&output.stdout);
                answers::major(server, image, &source, &text).into_iter().collect()
            });
        }
    }
    Ok((!group.asks.is_empty()).then_some(group))
}

/// The program of a health check is in the image.
fn health_programs<'a>(cx: &'a Context, containers: &[Container], images: &[Image]) -> Option<Group<'a>> {
    let mut group = Group::new("probes", "each health check's program is in its image");
    for service in of_interest(cx) {
        let is_healthy =
            containers.iter().any(|c| c.service == service.name && c.health.as_deref() == Some("healthy"));
        let Some((program, is_shell)) = service.health_program().filter(|_| !is_healthy) else { continue };
        let Some(image) = service.image.as_deref().filter(|_| is_here(images, service)) else { continue };
        let run = ["run", "--rm", "--network", "none", "--entrypoint"];
        let command = match is_shell {
            true => cx.engine.docker(run).args(["sh", image, "-c", "command -v \"$0\"", program]),
            false => cx.engine.docker(run).args([program, image, "--version"]),
        };
        let is_awaited = cx.stack.services.values().any(|other| {
            other.depends_on.get(&service.name).is_some_and(|condition| condition == "service_healthy")
        });
        group.ask(command, move |output| {
            let said = String::from_utf8_lossy(&output.stderr);
            answers::probe(service, image, output.status.success(), &said, is_awaited).into_iter().collect()
        });
    }
    (!group.asks.is_empty()).then_some(group)
}
