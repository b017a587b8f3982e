//! A stack on the real engine: its own project name and ports, and nothing of it left behind.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::project::{Outcome, Project, outcome};

/// The release of the recommended stack, and the one before it.
pub const NEW: &str = "v26.2.0";
pub const OLD: &str = "v25.4.0";

/// Ory's services by their usual names, with the ports that tell whether they are ready.
pub const SERVERS: [(&str, [u16; 2]); 3] =
    [("kratos", [4433, 4434]), ("hydra", [4444, 4445]), ("keto", [4466, 4467])];

/// Those ports of a product.
pub fn ports(product: &str) -> [u16; 2] {
    SERVERS.into_iter().find(|(name, _)| *name == product).expect("a product").1
}

/// The Compose generation under test.
#[derive(Debug, Clone, Copy)]
pub enum Compose {
    V2,
    V1,
}

impl Compose {
    /// The one under which tests run that run under one: 1.29 where XTASK_TEST_COMPOSE is `v1`.
    pub fn chosen() -> Self {
        match std::env::var("XTASK_TEST_COMPOSE").as_deref() {
            Ok("v1") => Self::V1,
            Ok("v2") | Err(_) => Self::V2,
            Ok(other) => panic!("XTASK_TEST_COMPOSE is `v1` or `v2`, not `{other}`"),
        }
    }
}

/// The project, with what is in it on the engine.
pub struct Stack {
    pub project: Project,
    pub name: String,
    pub ports: Vec<(&'static str, u16)>,
    compose: Compose,
    /// What a stack of somebody else gets in the environment of each command, as its files aren't ours.
    settings: Vec<(String, String)>,
    /// The folder of its Compose files, as `-C` takes it, where that isn't the project's.
    pub folder: Option<&'static str>,
}

/// Whether the images are Ory's own: XTASK_TEST_IMAGES=real. Otherwise they are stand-ins.
pub fn is_real() -> bool {
    std::env::var("XTASK_TEST_IMAGES").is_ok_and(|images| images == "real")
}

impl Stack {
    /// A fresh stack that nothing runs of, with free ports in its `.env`.
    pub fn new(compose: Compose) -> Self {
        let stack = Self::with(Project::new(), compose);
        let ports = stack.ports.iter().map(|(name, port)| format!("{name}_PORT={port}\n"));
        let name = &stack.name;
        stack.project.write(".env", &format!("COMPOSE_PROJECT_NAME={name}\n{}", ports.collect::<String>()));
        stack
    }

    /// Another clone of the same project: a folder of its own, the same `.env`.
    pub fn twin(&self) -> Self {
        let twin = Self {
            project: Project::new(),
            name: self.name.clone(),
            ports: self.ports.clone(),
            settings: self.settings.clone(),
            ..*self
        };
        twin.project.write(".env", &self.project.read(".env"));
        twin
    }

    /// A copy of `stacks/NAME`, a stack of somebody else.
    pub fn of_others(name: &str, compose: Compose) -> Self {
        let mut stack = Self::with(Project::of_others(name), compose);
        let mut settings = vec![("COMPOSE_PROJECT_NAME".to_string(), stack.name.clone())];
        settings.extend(stack.ports.iter().map(|(name, port)| (format!("{name}_PORT"), port.to_string())));
        settings.extend(stack.postgres_image().map(|image| ("POSTGRES_IMAGE".into(), image)));
        stack.settings = settings;
        stack
    }

    /// The image of PostgreSQL that can be had here, where it isn't the stack's own.
    pub fn postgres_image(&self) -> Option<String> {
        // Where it couldn't be pulled, the stand-ins brought one.
        let brought = "stand-in/postgres:debian";
        let is_brought = || !docker(&["image", "ls", "--quiet", brought]).is_empty();
        self.setting("POSTGRES_IMAGE").or_else(|| is_brought().then(|| brought.into()))
    }

    /// One more variable in the environment of each command.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.into(), value.into()));
    }

    /// A variable of each command, or of the test itself.
    pub fn setting(&self, name: &str) -> Option<String> {
        let own = self.settings.iter().rev().find(|(known, _)| known == name);
        own.map(|(_, value)| value.clone()).or_else(|| std::env::var(name).ok())
    }

    fn with(project: Project, compose: Compose) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtask-test-{}-{number}", std::process::id());
        let names =
            ["KRATOS_PUBLIC", "KRATOS_ADMIN", "HYDRA_PUBLIC", "HYDRA_ADMIN", "KETO_READ", "KETO_WRITE"];
        // All are held at once, so that they differ.
        let held: Vec<_> =
            names.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports = names.into_iter().zip(held.iter().map(port)).collect();
        Self { project, name, ports, compose, settings: vec![], folder: None }
    }

    /// Runs `cargo xtask ARGS` with the images of the recommended release.
    pub fn run(&self, args: &str) -> Outcome {
        self.run_release(NEW, args)
    }

    /// Runs `cargo xtask ARGS` with the images of a release.
    pub fn run_release(&self, release: &str, args: &str) -> Outcome {
        outcome(&mut self.command(release, args))
    }

    /// Runs `cargo xtask ARGS` with the images that the stack's own files name.
    pub fn run_as_named(&self, args: &str) -> Outcome {
        outcome(&mut self.as_named(args))
    }

    /// Names the images of a release in `.env`, and brings the stack up with them.
    pub fn up_as_named(&self, release: &str) -> Outcome {
        let publisher = if is_real() { "oryd" } else { "stand-in" };
        let image = |name: &str| format!("{}_IMAGE={publisher}/{name}:{release}\n", name.to_uppercase());
        let images: String = ["kratos", "hydra", "keto"].map(image).concat();
        let postgres = self.postgres_image().map(|image| format!("POSTGRES_IMAGE={image}\n"));
        let env = self.project.read(".env") + &images + &postgres.unwrap_or_default();
        self.project.write(".env", &env);
        self.run_as_named("up")
    }

    /// As [`Self::command`], with the images that the stack's own files name.
    pub fn as_named(&self, args: &str) -> Command {
        let mut command = self.project.xtask();
        if let Some(folder) = self.folder {
            command.env_remove("XTASK_DIRECTORY").args(["-C", folder]);
        }
        // The environment goes before what the stack itself names.
        let env = std::fs::read_to_string(self.project.dir.join(".env")).unwrap_or_default();
        if env.contains("POSTGRES_IMAGE=") {
            command.env_remove("POSTGRES_IMAGE");
        }
        command.args(args.split_whitespace()).envs(self.settings.clone()).env(
            "XTASK_COMPOSE",
            match self.compose {
                Compose::V2 => "docker compose",
                Compose::V1 => "docker-compose",
            },
        );
        command
    }

    pub fn command(&self, release: &str, args: &str) -> Command {
        let mut command = self.as_named(args);
        let command_name = args.split_whitespace().next().unwrap_or_default();
        let takes_stand_ins = ["up", "restart"].contains(&command_name) || args.starts_with("migrate-");
        let is_ours = self.settings.is_empty();
        if is_real() || !is_ours || !takes_stand_ins {
            let publisher = if is_real() { "oryd" } else { "stand-in" };
            for product in ["kratos", "hydra", "keto"] {
                let image = format!("{publisher}/{product}:{release}");
                command.env(format!("{}_IMAGE", product.to_uppercase()), image);
            }
        } else {
            command.arg(format!("--stand-in={release}"));
        }
        command
    }

    /// Runs a line of a shell as a person types it who has this stack's images and its Compose.
    #[cfg(target_os = "linux")]
    pub fn type_line(&self, line: &str, answers: &[(&str, String)]) -> Outcome {
        self.project.write_program("bin/cargo", "#!/bin/sh\nshift\nexec \"$XTASK\" \"$@\"\n");
        let mut command = self.project.command("script");
        command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.project.dir.join("bin").display());
        let of_xtask = self.command(NEW, "status");
        command.envs(of_xtask.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", path).env("XTASK", env!("CARGO_BIN_EXE_xtask"));
        crate::project::answered(&mut command, answers)
    }

    /// Runs SQL as the superuser of the service `db`, and returns its rows.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.sql_on("db", database, sql)
    }

    /// Runs SQL as the superuser of a server. `database` is its name, or a connection string of psql.
    pub fn sql_on(&self, server: &str, database: &str, sql: &str) -> String {
        let psql = r#"exec psql -XqAt -U "${POSTGRES_USER:-postgres}" -d "$0" -c "$1""#;
        docker(&["exec", &self.container(server).1, "sh", "-c", psql, database, sql])
    }

    /// How many versions a product's database has.
    pub fn applied(&self, product: &str) -> usize {
        self.sql(product, "select count(*) from schema_migration").trim().parse().expect("a number")
    }

    /// As [`Self::command`], with a cache of its own, in which nothing is known yet.
    pub fn forgetful(&self, release: &str, args: &str) -> Command {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut command = self.command(release, args);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        command.env("CARGO_MANIFEST_DIR", self.project.dir.with_file_name(format!("cache{number}")));
        command
    }

    /// Puts a row of our own into each product's database.
    pub fn insert_rows(&self) {
        for product in ["kratos", "hydra", "keto"] {
            self.sql(product, "insert into networks values (gen_random_uuid(), now(), now())");
        }
    }

    /// What each product's database holds, to be compared before and after.
    pub fn rows(&self) -> Vec<String> {
        let rows = |(product, table)| {
            let count = format!("select count(*)::text from {table}");
            self.sql(product, &format!("select id::text from networks union all {count} order by 1"))
        };
        let tables = [("kratos", "identities"), ("hydra", "hydra_client"), ("keto", "keto_relation_tuples")];
        tables.map(rows).to_vec()
    }

    /// The image and the id of a service's container; empty where none runs.
    pub fn container(&self, service: &str) -> (String, String) {
        let service = format!("label=com.docker.compose.service={service}");
        let id = docker(&["ps", "--quiet", "--no-trunc", "--filter", &self.filter(), "--filter", &service]);
        if id.is_empty() {
            return (String::new(), String::new());
        }
        let image = docker(&["inspect", "--format", "{{.Config.Image}}", id.trim()]);
        (image.trim().into(), id.trim().into())
    }

    /// Each service's container, running or not: its id, when it was started and how it ended.
    pub fn containers(&self) -> BTreeMap<String, [String; 3]> {
        let ids = docker(&["ps", "--all", "--quiet", "--filter", &self.filter()]);
        let format = "{{index .Config.Labels \"com.docker.compose.service\"}} {{.Id}} {{.State.StartedAt}} \
                      {{.State.Status}}:{{.State.ExitCode}}";
        let arguments: Vec<_> =
            ["inspect", "--format", format].into_iter().chain(ids.split_whitespace()).collect();
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(String::from);
            let mut next = || words.next().unwrap_or_default();
            (next(), [next(), next(), next()])
        };
        docker(&arguments).lines().map(line).collect()
    }

    /// The services of which a container was started since a time, as the engine tells it.
    pub fn started_since(&self, since: SystemTime) -> Vec<String> {
        let seconds = |time: SystemTime| {
            format!("{:.9}", time.duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs_f64())
        };
        let (since, until) = (seconds(since), seconds(SystemTime::now()));
        let format = "{{.Action}} {{index .Actor.Attributes \"com.docker.compose.service\"}}";
        let args = ["events", "--since", &since, "--until", &until, "--format", format, "--filter"];
        let events = docker(&[&args[..], &[&self.filter(), "--filter", "type=container"]].concat());
        events.lines().filter_map(|event| event.strip_prefix("start ")).map(String::from).collect()
    }

    /// The address of a service's container.
    pub fn address(&self, service: &str) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = docker(&["inspect", "--format", format, &self.container(service).1]);
        addresses.split_whitespace().next().unwrap_or_default().into()
    }

    /// Whether a server of Ory's answers that it is ready, on ports of its container.
    pub fn is_ready(&self, service: &str, ports: [u16; 2]) -> bool {
        let address = self.address(service);
        ports.into_iter().all(|port| {
            let url = format!("http://{address}:{port}/health/ready");
            minreq::get(url).with_timeout(5).send().is_ok_and(|answer| answer.status_code == 200)
        })
    }

    fn filter(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }

    /// Everything of this project that the engine still has.
    pub fn leftovers(&self) -> String {
        let filter = self.filter();
        let list = |args: &[&str]| docker(&[args, &["--quiet", "--filter", &filter]].concat());
        list(&["ps", "--all"]) + &list(&["volume", "ls"]) + &list(&["network", "ls"])
    }

    /// The port of a variable without its `_PORT`.
    pub fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(known, _)| *known == name).expect("a known port").1
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Not through xtask: what is under test may be broken. A service may also have been renamed.
        let filter = self.filter();
        let lists: [&[&str]; 3] =
            [&["ps", "--all", "--quiet"], &["volume", "ls", "--quiet"], &["network", "ls", "--quiet"]];
        let removes: [&[&str]; 3] =
            [&["rm", "--force", "--volumes"], &["volume", "rm", "--force"], &["network", "rm"]];
        for (list, remove) in lists.into_iter().zip(removes) {
            let found = docker(&[list, &["--filter", &filter]].concat());
            let found: Vec<_> = found.split_whitespace().collect();
            if !found.is_empty() {
                docker(&[remove, &found].concat());
            }
        }
        // What Compose built for it, or a test did: only v2 labels it, all are named after the project.
        let images = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
        let is_its =
            |image: &&str| ["-", "_", "/"].iter().any(|s| image.starts_with(&format!("{}{s}", self.name)));
        images.lines().filter(is_its).for_each(|image| _ = docker(&["image", "rm", image]));
    }
}

/// Runs `docker` and returns its standard output; what it says on failure is shown by the test.
pub fn docker(args: &[&str]) -> String {
    let outcome = outcome(Command::new("docker").args(args));
    if outcome.code != Some(0) {
        eprintln!("docker {}: {outcome}", args.join(" "));
    }
    outcome.stdout
}
