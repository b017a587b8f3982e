//! The one-off container that migrates: named, watched while it runs, and gone afterwards, with its session in
//! PostgreSQL.
//!
//! Ory's migrations have no lock, no deadline and no handling of signals; Compose's own end proves nothing: after
//! it the container can go on, and after the container its statement.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ory_facts::diagnosis;
use ory_facts::instance::Instance;
use ory_facts::names;
use ory_facts::product::Product;

use crate::advisory_lock::ServerLock;
use crate::context::Context;
use crate::folders::work_file;
use crate::postgres;
use crate::server_ready;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::Invocation;
use ory_stack::private_file::private_file;
use ory_stack::stack::Deployment;
use serde_json::Value;

/// A migration that says nothing for this long may have lost its server.
const SILENCE: Duration = Duration::from_secs(3);

/// A server that doesn't answer may be starting again.
const GRACE: Duration = Duration::from_secs(4);

/// The container that migrates: without terminal, known to PostgreSQL by its name.
pub fn command(cx: &Context, deployment: &Deployment) -> Invocation {
    let name = name(cx, deployment);
    let application = format!("PGAPPNAME={name}");
    let lock_timeout = cx.options.db_lock_timeout;
    let lock_timeout = lock_timeout.map(|limit| format!("PGOPTIONS=-c lock_timeout={}s", limit.as_secs()));
    // Alone: with the stack's own files, the stack's own database would be migrated if this one isn't read.
    let configs = dsn_file(cx, deployment).map_or(deployment.configs.clone(), |_| vec![DSN_FILE.into()]);
    let arguments = deployment.product.migrate(&configs, deployment.dsn_in_config);
    let run = cx.engine.compose(["run", "--rm", "-T", "--no-deps", "--name", &name, "-e", &application]);
    with_dsn(cx, deployment, run)
        .options("-e", lock_timeout)
        .args([
            "-e",
            "PGCONNECT_TIMEOUT=5",
            "--entrypoint",
            &deployment.migrate.program(deployment.product.kind),
        ])
        .arg(&deployment.migrate.name)
        .args(arguments)
}

/// A `compose run` whose container has the DSN of a scratch database: in a file, else in its environment.
pub(crate) fn with_dsn(cx: &Context, deployment: &Deployment, run: Invocation) -> Invocation {
    let mount = dsn_file(cx, deployment).map(|path| format!("{}:{DSN_FILE}:ro", path.display()));
    // Ory prefers the variable to the configuration file; its value is in no argument list.
    let dsn = (deployment.is_scratch && mount.is_none())
        .then(|| ("DSN".to_string(), deployment.dsn.url().to_string()));
    run.options("-e", dsn.iter().map(|(name, _)| name)).envs(dsn.clone()).options("-v", mount)
}

/// Where the container has the DSN of a scratch database.
pub(crate) const DSN_FILE: &str = "/xtask-dsn.yml";

/// The file with the DSN of a scratch database, in the place of the files that have the stack's: what those keep out of
/// every environment stays out of `docker inspect`. A DSN that is in the environment of the service is there anyway, and
/// an engine elsewhere doesn't see the files of this machine.
pub(crate) fn dsn_file(cx: &Context, deployment: &Deployment) -> Option<PathBuf> {
    let is_in_files = deployment.is_scratch && deployment.dsn_in_config && !deployment.configs.is_empty();
    let path = || work_file(&cx.options, &format!("dsn/{}/dsn.yml", name(cx, deployment))).ok();
    is_in_files.then(path).flatten().filter(|_| !cx.engine.is_remote())
}

/// That file, for as long as it is needed.
pub(crate) struct DsnFile(PathBuf);

impl DsnFile {
    /// `is_alone`: no other file is read with it.
    pub(crate) fn write(cx: &Context, deployment: &Deployment, is_alone: bool) -> Result<Option<Self>> {
        let Some(path) = dsn_file(cx, deployment) else { return Ok(None) };
        // Keto looks for namespaces, and needs none.
        let namespaces = "namespaces: [{id: 0, name: xtask}]";
        let text = format!("dsn: {}\n", Value::from(deployment.dsn.url()));
        let needs_namespaces = is_alone && deployment.product.kind == Product::Keto;
        let text = if needs_namespaces { format!("{text}{namespaces}\n") } else { text };
        let write = || -> std::io::Result<()> {
            // The user of the container is another one: who can't get into the folder can't read the file either.
            let folder = path.parent().unwrap_or(&path);
            close(folder, 0o700)?;
            let mut file = private_file(&path)?;
            file.write_all(text.as_bytes())?;
            close(&path, 0o644)
        };
        write().with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Some(Self(path)))
    }
}

#[cfg(unix)]
fn close(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn close(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

impl Drop for DsnFile {
    fn drop(&mut self) {
        // What a killed run leaves is replaced by the next.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Its name, and its session's in PostgreSQL. Not `PROJECT-kratos-migrate`: a one-shot of the stack may have that.
pub fn name(cx: &Context, deployment: &Deployment) -> String {
    names::session(&format!("xtask-{}-{}-{}", cx.stack.project, purpose(deployment), deployment.product))
}

fn purpose(deployment: &Deployment) -> &'static str {
    if deployment.is_scratch { "scratch" } else { "migrate" }
}

/// Migrates. When it returns, whatever the reason, neither container nor session is left.
pub fn run(cx: &Context, deployment: &Deployment) -> Result<()> {
    let _dsn = DsnFile::write(cx, deployment, true)?;
    let command = command(cx, deployment).within(cx.options.timeout);
    let command = match deployment.is_scratch {
        true => command,
        false => cx.engine.changing_versions(sharing(cx, deployment), command),
    };
    let mut heard = Instant::now();
    let step = format!("{}-{}", purpose(deployment), deployment.product);
    let run = cx.run_watched(&step, &command, |line| {
        match line {
            // psql tells it better, and a reason that passed meanwhile is none.
            Some(line) if diagnosis::is_permanent(line) => {
                return postgres::applied(cx, deployment).map(|_| ());
            }
            // A retry is no sign of life.
            Some(line) if !diagnosis::is_retry(line) => heard = Instant::now(),
            _ => {}
        }
        if heard.elapsed() > SILENCE {
            check_server(cx, deployment)?;
            heard = Instant::now();
        }
        Ok(())
    });
    run.map_err(|error| cx.options.interrupt.clean_up_after(error, || end(cx, deployment)))
}

/// The products whose versions are in the table that this one migrates, itself among them.
fn sharing(cx: &Context, deployment: &Deployment) -> Vec<Instance> {
    cx.stack.sharing(deployment).into_iter().chain([deployment.product]).collect()
}

/// Fails where the server doesn't answer any more: Hydra and Keto would wait for it for ever, Kratos for five
/// minutes. One that lets nobody else in, as where all connections are taken, answers: the migration has its own.
fn check_server(cx: &Context, deployment: &Deployment) -> Result<()> {
    let start = Instant::now();
    loop {
        match postgres::applied(cx, deployment) {
            Ok(_) => return Ok(()),
            Err(_) if server_ready::answers(cx, deployment) => return Ok(()),
            Err(error) if start.elapsed() > GRACE => return Err(error),
            Err(_) => cx.options.interrupt.sleep(Duration::from_millis(250))?,
        }
    }
}

/// Ends container and session, and sees that they are gone.
fn end(cx: &Context, deployment: &Deployment) -> Result<()> {
    let name = name(cx, deployment);
    // A container that was being made can appear after its maker has ended.
    let mut absent = 0;
    while absent < 2 {
        match cx.engine.inspect([name.as_str()])?.first() {
            Some(_) => {
                absent = 0;
                cx.engine.docker(["stop", "--time", "5", &name]).output()?;
                cx.engine.docker(["rm", "--force", &name]).output()?;
            }
            None => absent += 1,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    postgres::end_sessions(cx, deployment, &name).with_context(|| {
        format!("{name} may go on in PostgreSQL: whether its session has ended can't be told")
    })
}

/// Whether an earlier run has left its container, running or not.
pub fn has_container(cx: &Context, deployment: &Deployment) -> Result<bool> {
    let name = name(cx, deployment);
    Ok(cx.project()?.iter().any(|container| container.name == name))
}

/// Whether an earlier run has left its container or its session.
pub fn is_left(cx: &Context, deployment: &Deployment, lock: &ServerLock) -> Result<bool> {
    Ok(has_container(cx, deployment)? || !lock.sessions(deployment, &name(cx, deployment))?.is_empty())
}

/// Waits for what an earlier run has left behind: a container that goes on, or a statement whose container is
/// gone. Ended in the middle, some migrations could not be run again.
pub fn take_over(cx: &Context, deployment: &Deployment, lock: &ServerLock) -> Result<()> {
    let name = name(cx, deployment);
    let start = Instant::now();
    let mut progress = None;
    loop {
        let container = cx.engine.inspect([name.as_str()])?;
        let stop = match container.first() {
            Some(container) if container.is_running() => format!("docker stop {name}"),
            Some(_) if cx.engine.docker(["rm", &name]).output()?.status.success() => continue,
            // The engine removes it already: what was started with `--rm` it removes by itself.
            Some(_) => format!("docker rm --force {name}"),
            None => match lock.sessions(deployment, &name)?.first() {
                Some(pid) => format!("select pg_terminate_backend({pid})"),
                None => return Ok(()),
            },
        };
        if progress.is_none() {
            let what = format!("waiting for {}'s migration of an earlier run, {name}", deployment.product);
            cx.out.say(&what);
            progress = Some(cx.out.progress(what));
        }
        if start.elapsed() > cx.options.lock_timeout {
            let message = format!("another migration of {} is running, in {name}", deployment.product);
            bail!(Failure::new(Exit::Locked, message).hint(format!("wait for it, or end it: {stop}")));
        }
        cx.options.interrupt.sleep(Duration::from_millis(100))?;
    }
}
