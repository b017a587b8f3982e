//! A server of our own, on a copy or a new cluster: in a container without a network that anybody else reaches, asked from
//! inside of it alone.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ory_facts::diagnosis::error_lines;
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;

use super::kept;
use super::moving::stop_command;
use super::scripts::{LABEL, SERVE};
use super::subject::Subject;
use crate::client::{self, Place};
use crate::context::Context;

/// What a server of ours does not do: what reaches others, or changes a copy by itself.
pub const QUIET: &[&str] = &[
    "-c",
    "archive_mode=off",
    "-c",
    "max_logical_replication_workers=0",
    "-c",
    "cron.launch_active_jobs=off",
    "-c",
    "autovacuum=off",
];

/// A server of ours that runs.
pub struct Bench<'a> {
    cx: &'a Context,
    pub name: String,
    /// Who its cluster was made with.
    owner: String,
}

/// What a server of ours is started with.
pub struct Start<'a> {
    pub subject: &'a Subject,
    /// What it is for, which is part of its name.
    pub purpose: &'a str,
    pub image: &'a str,
    pub owner: &'a str,
    /// What has the data, mounted.
    pub data: Vec<String>,
    pub folder: &'a str,
    /// Whether the other files that the service mounts are there too.
    pub with_mounts: bool,
    /// The server whose loopback network it has; none: one of its own.
    pub beside: Option<&'a str>,
    pub words: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Starts it, and waits until it takes connections.
    pub fn start(cx: &'a Context, start: Start) -> Result<Self> {
        let (run, name) = Self::command(cx, &start);
        run.read()?;
        let bench = Self { cx, name, owner: start.owner.into() };
        bench.wait()?;
        Ok(bench)
    }

    /// What starts it, and its name.
    pub fn command(cx: &Context, start: &Start) -> (Invocation, String) {
        let Start { subject, image, .. } = start;
        let name = format!("xtask-{}-{}-{}", cx.stack.project, subject.name(), start.purpose);
        let label = format!("{LABEL}={}", kept::of(cx, subject.name()));
        let network = start.beside.map_or("none".to_string(), |other| format!("container:{other}"));
        let fixed = ["run", "--detach", "--name", &name, "--label", &label, "--network", &network];
        let mounts = start.data.iter().chain(subject.mounts.iter().filter(|_| start.with_mounts));
        // What the server is told in its environment, but for what is the image's own start, or psql's.
        let environment = subject.service.environment.iter();
        let environment =
            environment.filter(|(name, _)| ["PG", "POSTGRES"].iter().all(|prefix| !name.starts_with(prefix)));
        let environment: Vec<_> = environment.map(|(name, value)| (name.clone(), value.clone())).collect();
        let run = cx.engine.docker(fixed).args(["--log-driver", "json-file", "--shm-size", "1g"]);
        let run = run.args(["--stop-signal", "SIGINT", "--cap-drop", "ALL"]);
        let run = run.args(["--security-opt", "no-new-privileges", "--user", subject.user()]);
        let run = run.args(mounts.flat_map(|mount| ["--mount", mount]));
        let run =
            run.args(environment.iter().flat_map(|(name, _)| ["--env", name])).envs(environment.clone());
        let run = run.args(["--entrypoint", "sh", image, "-c", SERVE, "sh", "postgres", "-D", start.folder]);
        (run.args(start.words.iter().cloned()).within(cx.options.timeout), name)
    }

    fn wait(&self) -> Result<()> {
        let _progress = self.cx.out.progress(format!("waiting for {} to take connections", self.name));
        let start = Instant::now();
        // It may have to recover, which takes as long as it takes.
        while !self.exec(&["pg_isready", "-q", "-h", "/tmp"]).output()?.status.success() {
            let container = self.cx.engine.inspect([self.name.as_str()])?.into_iter().next();
            if !container.is_some_and(|container| container.is_running()) {
                return Err(self.explained(format!("{} doesn't start", self.name)));
            }
            if self.cx.options.timeout.is_some_and(|limit| start.elapsed() > limit) {
                return Err(self.explained(format!("{} takes no connections", self.name)));
            }
            self.cx.options.interrupt.sleep(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn explained(&self, message: String) -> anyhow::Error {
        let lines = error_lines(&self.cx.log_of(&self.name));
        let hint = "fix what it says, then this again; it never had anything but a copy";
        anyhow::Error::msg(format!("the last lines of {}:\n{lines}", self.name))
            .context(Failure::new(Exit::Failed, message).hint(hint))
    }

    /// A program in it.
    pub fn exec(&self, words: &[&str]) -> Invocation {
        let exec = self.cx.engine.docker(["exec", "-i", &self.name]).args(words.iter().copied());
        let program = words.first().copied().unwrap_or_default();
        exec.within(self.cx.options.timeout).called(format!("{program} in {}", self.name))
    }

    /// A script of a shell in it.
    pub fn script(&self, script: &str, words: &[&str]) -> Invocation {
        self.exec(&[&["sh", "-c", script, "sh"], words].concat())
    }

    /// psql in a database, which only reads.
    pub fn ask(&self, database: &str) -> Invocation {
        self.psql(database).framed(sql::reading())
    }

    /// The same, and it may write.
    pub fn psql(&self, database: &str) -> Invocation {
        let variables = [("PGHOST", "/tmp"), ("PGUSER", &self.owner), ("PGDATABASE", database)];
        let variables = variables.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
        let words = ["psql", "-wXqAt", "-v", "ON_ERROR_STOP=1"];
        client::program(self.cx, &Place::Container(self.name.clone()), variables, &words)
            .within(self.cx.options.timeout)
    }

    /// Stops it, in order, and removes its container.
    pub fn stop(self) -> Result<()> {
        let _progress = self.cx.out.progress(format!("stopping {}", self.name));
        stop_command(self.cx, &self.name).read()?;
        let ended = self.cx.engine.inspect([self.name.as_str()])?;
        if ended.first().is_none_or(|container| container.exit_code != 0) {
            let message = format!("{} didn't stop in order", self.name);
            bail!(Failure::new(Exit::Failed, message).hint(format!("docker logs {}", self.name)));
        }
        self.cx.engine.docker(["rm", "--volumes", &self.name]).read().map(|_| ())
    }
}

/// Ends it where it wasn't stopped: what it has is thrown away.
impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // Where it is gone, all the better; where the engine doesn't answer, the next run ends it.
        let _ = self.cx.engine.docker(["rm", "--force", "--volumes", &self.name]).uninterrupted().output();
    }
}
