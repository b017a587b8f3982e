//! Which engine there is, how Compose is called, and what it makes of the stack's files. Each thing that can be missing is an
//! error of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Engine, read_config};
use crate::options::Options;
use crate::podman;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process;
use ory_stack::checks::absent::{self, Kind};
use ory_stack::container::Listed;
use ory_stack::env_file::EnvFile;
use ory_stack::install_hints::REMEDY;
use ory_stack::{compose_output, unresolved};

/// What is learned when the engine is found.
pub struct Found {
    pub engine: Engine,
    /// The configuration as Compose resolves it and prints it. It holds secrets.
    pub resolved: String,
    /// The containers of every project.
    pub listed: Vec<Listed>,
}

/// The containers of every project, and the engine with the configuration that Compose resolves.
type Searched = (Result<Vec<Listed>>, Result<(Engine, String)>);

impl Engine {
    /// Finds the Docker client and Compose: `XTASK_COMPOSE`, else `docker compose`, else `docker-compose`.
    /// `dir` is the stack's folder. Each thing that can be missing is an error of its own, exit code 5.
    ///
    /// Nothing is asked only whether it is there: the list of containers tells that the daemon answers, the
    /// configuration that Compose does.
    pub fn find(options: &Options, dir: &Path, env: &[(String, String)]) -> Result<Found> {
        let (listed, found) = Self::search(options, dir, env)?;
        // Without the daemon, the rest is of no use.
        let listed = listed?;
        let (engine, resolved) = found?;
        Ok(Found { engine, resolved, listed })
    }

    /// What [`Engine::find`] asks, each with a failure of its own: Compose resolves a stack without the daemon.
    pub fn search(options: &Options, dir: &Path, env: &[(String, String)]) -> Result<Searched> {
        let docker = process::find("docker").ok_or_else(|| {
            Failure::new(Exit::Missing, "the program `docker` is not on the PATH").hint(REMEDY.install)
        })?;
        if podman::is_podman(&docker) {
            let message = "the program `docker` is Podman, whose own client xtask and Compose can't use";
            return Err(Failure::new(Exit::Missing, message).hint(REMEDY.podman).into());
        }
        let plain = Self::new(options, docker, dir, env);
        let (listed, found) = std::thread::scope(|scope| {
            let listed = scope.spawn(|| plain.list());
            let found = candidates().find_map(|words| plain.with_compose(words).resolve().transpose());
            (listed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), found)
        });
        let found = found.unwrap_or_else(|| {
            let failure = match named() {
                Some(words) => {
                    Failure::new(Exit::Missing, format!("XTASK_COMPOSE is `{words}`, which does not run"))
                        .hint("unset XTASK_COMPOSE, or set it to `docker compose`")
                }
                None => {
                    let message = "Docker is there, but neither `docker compose` nor `docker-compose` is";
                    Failure::new(Exit::Missing, message).hint(REMEDY.compose)
                }
            };
            Err(failure.into())
        });
        Ok((listed, found))
    }

    /// `.env` with the secrets as Compose takes them, which is asked where it could read them otherwise than line by
    /// line. Where there is no Compose, the file is all there is.
    pub fn env_file(options: &Options, dir: &Path) -> Result<EnvFile> {
        let file = EnvFile::read(dir)?;
        if file.needs_compose() { Self::ask_variables(options, dir, file) } else { Ok(file) }
    }

    /// Has Compose tell all that is in `.env`, where it could read that otherwise than line by line.
    pub fn tell_variables(options: &Options, dir: &Path) -> Result<()> {
        let file = EnvFile::read(dir)?;
        if file.is_plain() { Ok(()) } else { Self::ask_variables(options, dir, file).map(|_| ()) }
    }

    fn ask_variables(options: &Options, dir: &Path, file: EnvFile) -> Result<EnvFile> {
        let plain = Self::new(options, "docker".into(), dir, &[]);
        for words in
            candidates().filter(|words| words.first().is_some_and(|program| process::find(program).is_some()))
        {
            let engine = plain.with_compose(words);
            let output = engine.compose(["-f", "-", "config"]).stdin(file.question()).output()?;
            if output.status.success() {
                return Ok(file.told(&read_config(&String::from_utf8_lossy(&output.stdout))?));
            }
            if engine.compose_version().is_some() {
                return Err(engine.config_failure(&String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(file)
    }

    /// This engine with its generation known, and the configuration that it resolves; none where it isn't there.
    fn resolve(mut self) -> Result<Option<(Self, String)>> {
        if self.compose.first().and_then(|program| process::find(program)).is_none() {
            return Ok(None);
        }
        let output = self.compose(["config"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let has = |key: &str| output.status.success() && text.lines().any(|line| line.starts_with(key));
        // 2.x prints the project's name, and only 1.x the version of the file: it needn't be asked.
        self.is_v1 = !has("name:") && has("version:");
        if !has("name:") && !self.is_v1 {
            let Some(version) = self.compose_version() else { return Ok(None) };
            self.is_v1 = version.starts_with("1.");
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(self.config_failure(&stderr));
        }
        self.unset = compose_output::unset(&stderr);
        Ok(Some((self, text)))
    }

    /// The same engine with other files that variables are read from, and the configuration that it resolves then.
    pub fn with_env_files(mut self, files: Vec<PathBuf>) -> Result<(Self, String)> {
        for file in &files {
            self.compose.extend(["--env-file".into(), file.display().to_string()]);
        }
        self.env_files = files;
        self.resolve()?.context("Compose is gone")
    }

    fn config_failure(&self, stderr: &str) -> anyhow::Error {
        let cause = unresolved::masked(&self.dir, &compose_output::errors(stderr).join("\n")).join("\n  ");
        let dir = self.dir.display();
        let failure = if cause.contains("no configuration file") || cause.contains("Supported filenames") {
            Failure::new(Exit::Missing, format!("there is no Compose file in {dir}"))
                .hint("name the stack's folder with -C DIR, or its files with COMPOSE_FILE")
        } else {
            let hint = match compose_output::absent_file(stderr) {
                Some(file) => absent::got(&file, Kind::File),
                None => format!("fix the file, then look at it with: {}", self.compose(["config"])),
            };
            Failure::new(Exit::Missing, format!("Compose can't read the stack in {dir}")).hint(hint)
        };
        anyhow::Error::msg(cause).context(failure)
    }
}

/// How Compose is to be called, if somebody says so.
fn named() -> Option<String> {
    std::env::var("XTASK_COMPOSE").ok().filter(|text| !text.trim().is_empty())
}

/// How Compose may be called, the likeliest first.
fn candidates() -> impl Iterator<Item = Vec<String>> {
    let words = match named() {
        Some(words) => vec![shlex::split(&words).unwrap_or_default()],
        None => vec![vec!["docker".into(), "compose".into()], vec!["docker-compose".into()]],
    };
    words.into_iter()
}
