//! A stack on the real engine: its own project name and ports, and nothing of it left behind.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::project::{Outcome, Project, outcome};

/// The release of the recommended stack, and the one before it.
pub const NEW: &str = "v26.2.0";
pub const OLD: &str = "v25.4.0";

/// The Compose generation under test.
#[derive(Debug, Clone, Copy)]
pub enum Compose {
    V2,
    V1,
}

/// The project, with what is in it on the engine.
pub struct Stack {
    pub project: Project,
    pub name: String,
    pub ports: Vec<(&'static str, u16)>,
    compose: Compose,
}

/// Whether the images are Ory's own: XTASK_TEST_IMAGES=real. Otherwise they are stand-ins.
pub fn is_real() -> bool {
    std::env::var("XTASK_TEST_IMAGES").is_ok_and(|images| images == "real")
}

impl Stack {
    /// A fresh stack that nothing runs of, with free ports in its `.env`.
    pub fn new(compose: Compose) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xtask-test-{}-{number}", std::process::id());
        let names =
            ["KRATOS_PUBLIC", "KRATOS_ADMIN", "HYDRA_PUBLIC", "HYDRA_ADMIN", "KETO_READ", "KETO_WRITE"];
        // All are held at once, so that they differ.
        let held: Vec<_> =
            names.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports: Vec<_> = names.into_iter().zip(held.iter().map(port)).collect();
        let project = Project::new();
        let mut env = format!("COMPOSE_PROJECT_NAME={name}\n");
        ports.iter().for_each(|(name, port)| env += &format!("{name}_PORT={port}\n"));
        project.write(".env", &env);
        Self { project, name, ports, compose }
    }

    /// Runs `cargo xtask ARGS` with the images of the recommended release.
    pub fn run(&self, args: &str) -> Outcome {
        self.run_release(NEW, args)
    }

    /// Runs `cargo xtask ARGS` with the images of a release.
    pub fn run_release(&self, release: &str, args: &str) -> Outcome {
        outcome(&mut self.command(release, args))
    }

    pub fn command(&self, release: &str, args: &str) -> Command {
        let mut command = self.project.xtask();
        command.args(args.split_whitespace()).env(
            "XTASK_COMPOSE",
            match self.compose {
                Compose::V2 => "docker compose",
                Compose::V1 => "docker-compose",
            },
        );
        let takes_images = ["up", "restart", "migrate-"].iter().any(|name| args.starts_with(name));
        if is_real() {
            for product in ["kratos", "hydra", "keto"] {
                command.env(format!("{}_IMAGE", product.to_uppercase()), format!("oryd/{product}:{release}"));
            }
        } else if takes_images {
            command.arg(format!("--stand-in={release}"));
        }
        command
    }

    /// Runs SQL as the server's superuser, and returns its rows.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let separator = match self.compose {
            Compose::V2 => '-',
            Compose::V1 => '_',
        };
        let container = format!("{}{separator}db{separator}1", self.name);
        let args = ["exec", &container, "psql", "-XqAt", "-U", "postgres", "-d", database, "-c", sql];
        docker(&args)
    }

    /// How many versions a product's database has.
    pub fn applied(&self, product: &str) -> usize {
        self.sql(product, "select count(*) from schema_migration").trim().parse().expect("a number")
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
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let id = docker(&["ps", "--quiet", "--no-trunc", "--filter", &project, "--filter", &service]);
        if id.is_empty() {
            return (String::new(), String::new());
        }
        let image = docker(&["inspect", "--format", "{{.Config.Image}}", id.trim()]);
        (image.trim().into(), id.trim().into())
    }

    /// Everything of this project that the engine still has.
    pub fn leftovers(&self) -> String {
        let filter = format!("label=com.docker.compose.project={}", self.name);
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
        let filter = format!("label=com.docker.compose.project={}", self.name);
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
