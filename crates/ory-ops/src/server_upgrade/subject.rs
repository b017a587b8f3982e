//! The database server that is to be upgraded: its container, and where its data is.

use anyhow::{Context as _, Result, bail};
use ory_facts::server_facts::{self, Facts};
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::checks::storage;
use ory_stack::data_mount::{Place, is_in};
use ory_stack::image;
use ory_stack::service::Service;
use serde_json::Value;

use crate::administrator;
use crate::client;
use crate::context::Context;
use crate::engine::state::printed;
use crate::pooler;

/// A server of the stack, as its container is now.
pub struct Subject {
    pub service: Service,
    pub container: String,
    pub is_running: bool,
    /// The name of the image that it runs, and the image itself.
    pub image: String,
    pub image_id: String,
    /// What the engine mounts for its data, as `type=volume,source=stack_db`.
    pub source: String,
    /// The same in words.
    pub told: String,
    pub place: Place,
    /// What else is mounted in it, read-only for whoever stands in.
    pub mounts: Vec<String>,
    /// The words after `postgres` that it is started with; none where it is started by something else.
    pub arguments: Option<Vec<String>>,
    /// When it was started last.
    pub started: String,
}

/// The services that are database servers: those that products use, and those of PostgreSQL's image that mount its data.
pub fn servers(cx: &Context) -> Result<Vec<&Service>> {
    let containers = cx.containers()?;
    let is_of_postgres = |service: &Service| {
        let own = containers.iter().find(|container| container.service == service.name);
        let is_named = || service.image.as_deref().is_some_and(|image| image::name(image) == "postgres");
        own.map_or_else(is_named, |container| container.is_postgres)
    };
    let is_server = |service: &&Service| {
        let is_used = used_by_products(cx, service) && !pooler::is_pooler(cx, service);
        // Another container of that image, as of a client, has none of its data.
        is_used || is_of_postgres(service) && !storage::data(service).is_empty()
    };
    Ok(cx.stack.services.values().filter(is_server).collect())
}

fn used_by_products(cx: &Context, service: &Service) -> bool {
    cx.stack.view().servers().iter().any(|server| server.name == service.name)
}

/// The server that is meant: the one of that name, else the only one that products use.
pub fn named<'a>(cx: &'a Context, name: &str) -> Result<&'a Service> {
    let all = servers(cx)?;
    if let Some(service) = all.iter().find(|service| service.name == name) {
        return Ok(service);
    }
    let mut used: Vec<_> = all.iter().filter(|service| used_by_products(cx, service)).collect();
    if used.is_empty() {
        used.extend(&all);
    }
    match used[..] {
        [only] => Ok(only),
        [] => {
            let message = "no database server is a service of this stack";
            let hint = "upgrade it where it runs; xtask upgrades those that are services of the stack";
            bail!(Failure::new(Exit::Usage, message).hint(hint))
        }
        _ => {
            let names: Vec<_> = used.iter().map(|service| service.name.as_str()).collect();
            let message = format!("the stack has several database servers: {}", names.join(", "));
            bail!(
                Failure::new(Exit::Usage, message).hint(format!("name one: {{XTASK}} upgrade {}", names[0]))
            )
        }
    }
}

impl Subject {
    /// Looks at a server's container.
    pub fn find(cx: &Context, service: &Service) -> Result<Self> {
        let name = &service.name;
        let listed = cx.listed()?.into_iter().filter(|container| container.service == *name);
        let listed: Vec<_> = listed.collect();
        let [container] = &listed[..] else {
            let message = match listed.len() {
                0 => format!("the database service `{name}` has no container"),
                _ => format!("the database service `{name}` has several containers"),
            };
            bail!(Failure::new(Exit::Failed, message).hint(format!("{{XTASK}} up {name}")));
        };
        let json = printed(&cx.engine.docker(["container", "inspect", &container.id]))?;
        let json = json.first().context("the container is gone")?;
        let refused = |what: String| {
            let hint =
                "by hand: https://www.postgresql.org/docs/current/upgrading.html#UPGRADING-VIA-PGDUMPALL";
            Failure::new(Exit::Failed, what).hint(hint)
        };
        let variables = json["Config"]["Env"].as_array().into_iter().flatten();
        let folder = variables.filter_map(|v| v.as_str()?.strip_prefix("PGDATA=")).next();
        let folder = folder.unwrap_or("/var/lib/postgresql/data").trim_end_matches('/');
        let mounts: Vec<_> =
            json["Mounts"].as_array().into_iter().flatten().filter_map(Mounted::read).collect();
        let own = mounts.iter().filter(|mount| is_in(folder, &mount.target)).max_by_key(|m| m.target.len());
        let Some(own) = own else {
            bail!(refused(format!(
                "the data of `{name}`, in {folder}, is in no volume, but in the container itself"
            )));
        };
        if own.is_nameless() {
            let target = &own.target;
            bail!(refused(format!(
                "the data of `{name}`, at {target}, is in a volume without a name, not the stack's"
            )));
        }
        // Commas would end the value in the engine's options.
        if own.source.contains(',') || !["volume", "bind"].contains(&own.kind.as_str()) {
            bail!(refused(format!("the data of `{name}` is in a {} that can't be copied so", own.kind)));
        }
        let is_stacks = service.mounts.iter().any(|mount| {
            cx.stack.source_of(mount).as_ref() == Some(&own.source) && is_in(&own.target, &mount.target)
        });
        if !is_stacks {
            let hint = format!("{{XTASK}} up {name}, then this again");
            let message = format!(
                "the container of `{name}` has its data elsewhere than the stack says: {}",
                own.source
            );
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
        let words: Vec<_> =
            json["Config"]["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let arguments = match words.split_first() {
            Some((&"postgres", rest)) => Some(rest),
            Some((first, _)) if first.starts_with('-') => Some(&words[..]),
            _ => None,
        };
        let others = mounts.iter().filter(|mount| mount.target != own.target && mount.can_stand_by());
        Ok(Self {
            service: service.clone(),
            container: container.name.clone(),
            is_running: container.is_running(),
            image: json["Config"]["Image"].as_str().unwrap_or_default().into(),
            image_id: json["Image"].as_str().unwrap_or_default().trim_start_matches("sha256:").into(),
            source: format!("type={},source={}", own.kind, own.source),
            told: match own.kind.as_str() {
                "volume" => format!("volume {}", own.source),
                _ => format!("folder {}", own.source),
            },
            place: Place { folder: folder.into(), target: own.target.clone() },
            mounts: others.map(|mount| format!("{},readonly", mount.option())).collect(),
            arguments: arguments.map(|words| words.iter().map(ToString::to_string).collect()),
            started: json["State"]["StartedAt"].as_str().unwrap_or_default().into(),
        })
    }

    /// The name of its service.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// Who its server runs as.
    pub fn user(&self) -> &str {
        self.service.user.as_deref().unwrap_or("postgres")
    }

    /// psql as its administrator, who only reads.
    pub fn psql(&self, cx: &Context, database: &str) -> Invocation {
        let place = client::Place::Container(self.container.clone());
        let mut env = administrator::variables(&self.service);
        env.retain(|(name, _)| name != "PGDATABASE");
        env.push(("PGDATABASE".into(), database.into()));
        let psql = client::program(cx, &place, env, &["psql", "-wXqAt", "-v", "ON_ERROR_STOP=1"]);
        psql.framed(sql::reading())
            .within(cx.options.timeout)
            .called(administrator::called("psql", &self.container))
    }

    /// What it says of itself.
    pub fn facts(&self, cx: &Context) -> Result<Facts> {
        let psql = self.psql(cx, administrator::MAINTENANCE_DATABASE);
        let said = psql.clone().stdin(server_facts::query()).read();
        let said = said.map_err(|error| {
            administrator::explain(error, &self.service, &psql).unwrap_or_else(|error| error)
        });
        server_facts::read(&said?).context("psql didn't tell what the server is")
    }
}

/// What is mounted in a container.
struct Mounted {
    kind: String,
    source: String,
    target: String,
}

impl Mounted {
    fn read(json: &Value) -> Option<Self> {
        let kind = json["Type"].as_str()?.to_string();
        let source = if kind == "volume" { &json["Name"] } else { &json["Source"] };
        let target = json["Destination"].as_str()?.trim_end_matches('/').to_string();
        Some(Self { kind, source: source.as_str().unwrap_or_default().into(), target })
    }

    fn is_nameless(&self) -> bool {
        self.kind == "volume" && self.source.len() == 64 && self.source.bytes().all(|b| b.is_ascii_hexdigit())
    }

    fn option(&self) -> String {
        format!("type={},source={},target={}", self.kind, self.source, self.target)
    }

    /// Whether another server may have it too: a file of settings, not a socket or what only runs once.
    fn can_stand_by(&self) -> bool {
        let is_own = ["/docker-entrypoint-initdb.d", "/var/run", "/run", "/tmp", "/dev"].iter();
        let mut is_own = is_own.chain(&["/var/lib/postgresql"]);
        let is_mount = ["volume", "bind"].contains(&self.kind.as_str()) && !self.is_nameless();
        let is_apart =
            is_in(&self.target, "/run/secrets") || !is_own.any(|folder| is_in(&self.target, folder));
        is_mount && !self.source.contains(',') && is_apart
    }
}
