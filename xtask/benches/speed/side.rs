//! A stack that both sides of a row work on: `cargo xtask` as it is typed, and Compose.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::project::{outcome, workspace};
use crate::stack::{Compose, NEW, Stack, docker};
use crate::{PRODUCTS, images_folder, run};

/// A stack that both sides work on.
pub struct Side {
    pub stack: Stack,
    compose: &'static str,
}

impl Side {
    /// Up and migrated, its images in `.env`, so that both sides take the same.
    pub fn new(compose: Compose) -> Self {
        let stack = Stack::new(compose);
        stack.run("up").exits(0);
        let mut env = stack.project.read(".env");
        for product in PRODUCTS {
            let name = format!("{}_IMAGE=", product.to_uppercase());
            if !env.contains(&name) {
                env += &format!("{name}oryd/{product}:{NEW}\n");
            }
        }
        stack.project.write(".env", &env);
        let side = Self {
            stack,
            compose: if let Compose::V1 = compose { "docker-compose" } else { "docker compose" },
        };
        side.xtask("up");
        side
    }

    /// `cargo xtask`, as it is typed.
    pub fn xtask(&self, args: &str) {
        let mut command = self.stack.project.command("cargo");
        command.current_dir(workspace()).arg("xtask").args(args.split_whitespace());
        if self.compose != "docker compose" {
            command.env("XTASK_COMPOSE", self.compose);
        }
        run(&mut command);
    }

    pub fn compose(&self, args: &str) {
        let words: Vec<_> = self.compose.split(' ').chain(args.split_whitespace()).collect();
        run(self.stack.project.command(words[0]).args(&words[1..]));
    }

    /// Runs, and waits until all endpoints answer 200.
    pub fn until_ready(&self, work: impl FnOnce()) {
        work();
        thread::scope(|scope| {
            for (_, port) in &self.stack.ports {
                scope.spawn(move || {
                    while !is_ready(*port) {
                        thread::sleep(Duration::from_millis(10));
                    }
                });
            }
        });
    }

    pub fn wait_for_server(&self) {
        let container = self.stack.container("db").1;
        let ready = ["exec", &container, "pg_isready", "-q", "-h", "127.0.0.1"];
        while outcome(Command::new("docker").args(ready)).code != Some(0) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn create_databases(&self) {
        let env = self.stack.project.read(".env");
        for product in PRODUCTS {
            let name = format!("{}_DB_PASSWORD=", product.to_uppercase());
            let password = env.lines().find_map(|line| line.strip_prefix(&name)).expect("a password");
            self.stack.sql("postgres", &format!("create role {product} login password '{password}'"));
            self.stack.sql("postgres", &format!("create database {product} owner {product}"));
        }
    }

    pub fn empty_databases(&self) {
        for product in PRODUCTS {
            self.stack.sql("postgres", &format!("drop database {product} with (force)"));
            self.stack.sql("postgres", &format!("create database {product} owner {product}"));
        }
    }

    /// As if the image carried this many versions, all of them applied.
    pub fn pretend_versions(&self, product: &str, count: usize) {
        let image = docker(&["image", "inspect", "--format", "{{.Id}}", &self.stack.container(product).0]);
        let id = image.trim().trim_start_matches("sha256:");
        let version = |number: usize| format!("2015{number:016}");
        let rows: String = (0..count).map(|number| format!("{}\tstep\n", version(number))).collect();
        let path = images_folder().join(format!("{product}-{id}.versions"));
        std::fs::write(path, rows + "end").expect("a file written");
        let fill = "insert into schema_migration (version) select '2015' || lpad(n::text, 16, '0')";
        let script = format!(
            "truncate schema_migration; {fill} from generate_series(0, {}) n",
            count.saturating_sub(1)
        );
        self.stack.sql(product, &script);
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"GET /health/ready HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| answer.ends_with(" 200"))
}
