//! The engine: which one there is, every `compose` and `docker` command line, and the state it reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::cache::Cache;
use crate::invalidation::{self, Effect};
use crate::options::Options;
use crate::podman;
use ory_facts::diagnosis::{error_lines, is_detail};
use ory_facts::instance::Instance;
use ory_facts::secrets::Secrets;
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};
use ory_runner::memo::Memo;
use ory_runner::process::{self, Invocation, quote};
use ory_runner::terms::{Afterwards, Reading, Terms};
use ory_stack::checks::absent::{self, Kind};
use ory_stack::container::{Container, Image, LIST_FORMAT, Listed};
use ory_stack::env_file::EnvFile;
use ory_stack::install_hints::REMEDY;
use ory_stack::service::Service;
use ory_stack::unresolved;
use ory_stack::{compose_output, env_file, settings};

/// How Compose is called, and where.
pub struct Engine {
    docker: PathBuf,
    compose: Vec<String>,
    /// docker-compose 1.x: it prints no project name, and asks for other spellings here and there.
    pub is_v1: bool,
    /// The variables that Compose takes for empty texts, because nothing sets them.
    pub unset: Vec<String>,
    /// The files that it reads variables from, where they aren't the usual `.env`.
    pub env_files: Vec<PathBuf>,
    dir: PathBuf,
    env: Vec<(String, String)>,
    /// Whether its daemon is on another machine.
    pub(crate) remote: Memo<bool>,
    /// What all that it starts has: Ctrl-C ends it, secrets are masked in what it prints.
    terms: Terms,
    /// After how long a `docker` that doesn't answer is ended.
    wait: Duration,
    /// What it said. What it runs that may change that, is forgotten.
    cache: Arc<Cache>,
}

/// How failures of Ory, of PostgreSQL and of the engine are read.
const READING: Reading = Reading { line: sqlstate::tidy, is_detail, error_lines };

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

    /// The daemon's own name for itself, however it is reached; empty where it has none, as what only looks like Docker.
    /// Docker asks each of its plugins before it tells.
    pub fn id(&self) -> String {
        let id = self.docker(["info", "--format", "{{.ID}}"]).read();
        id.map(|id| id.trim().to_string()).unwrap_or_default()
    }

    /// An engine without Compose. What the secrets of the stack are isn't known yet, and is guessed.
    fn new(options: &Options, docker: PathBuf, dir: &Path, env: &[(String, String)]) -> Self {
        Self {
            docker,
            compose: vec![],
            is_v1: false,
            unset: vec![],
            env_files: vec![],
            dir: dir.into(),
            env: env.into(),
            remote: Memo::default(),
            terms: Terms::new(&options.interrupt, unresolved::secrets(dir), READING),
            wait: options.wait(),
            cache: Arc::default(),
        }
    }

    /// The same with Compose, which is called so. Whether it is there isn't known.
    fn with_compose(&self, compose: Vec<String>) -> Self {
        let Self { docker, dir, env, terms, .. } = self;
        Self {
            docker: docker.clone(),
            compose,
            is_v1: false,
            unset: vec![],
            env_files: vec![],
            dir: dir.clone(),
            env: env.clone(),
            remote: Memo::default(),
            terms: terms.clone(),
            wait: self.wait,
            cache: Arc::clone(&self.cache),
        }
    }

    /// Masks the secrets of the stack from now on, which are known.
    pub fn set_secrets(&mut self, secrets: Secrets) {
        self.terms.set_secrets(secrets);
    }

    /// Masks this too.
    pub fn hide(&mut self, secret: &str) {
        self.terms.hide(secret);
    }

    /// A line as it may be seen.
    pub fn mask(&self, line: &str) -> String {
        self.terms.mask(line)
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
        let options = files.iter().flat_map(|file| ["--env-file".into(), file.display().to_string()]);
        self.compose.extend(options);
        self.env_files = files;
        self.resolve()?.context("Compose is gone")
    }

    /// The stack with its variables' names where their values go; nothing where Compose doesn't tell.
    pub fn uninterpolated(&self) -> Yaml {
        let raw = self.compose(["config", "--no-interpolate"]).read().unwrap_or_default();
        YamlLoader::load_from_str(&raw).unwrap_or_default().into_iter().next().unwrap_or(Yaml::Null)
    }

    /// The variables among those that nothing sets that services use, as the files of the stack say.
    pub fn unset_of(&self, services: &[&str]) -> Vec<&str> {
        if self.unset.is_empty() {
            return vec![];
        }
        let raw = self.uninterpolated();
        let texts = services.iter().flat_map(|service| settings::strings(&raw["services"][*service]));
        let texts = texts.collect::<Vec<_>>().join("\n");
        let uses = |name: &&String| env_file::uses(&texts, name);
        self.unset.iter().filter(uses).map(String::as_str).collect()
    }

    pub fn compose_version(&self) -> Option<String> {
        let output = self.compose(["version", "--short"]).output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_string();
        output.status.success().then_some(version)
    }

    /// The containers of every project. Its failure tells why the daemon can't be used.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let output = self.docker(["ps", "--all", "--no-trunc", "--format", LIST_FORMAT]).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(Listed::read).collect());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let failure = if text.contains("permission denied") {
            Failure::new(Exit::Missing, "no permission on the Docker daemon's socket")
                .hint("sudo usermod -aG docker \"$USER\", then log in again")
        } else if text.contains("Cannot connect to the Docker daemon")
            || text.contains("error during connect")
        {
            Failure::new(Exit::Missing, "the Docker daemon is not running").hint(REMEDY.start)
        } else if text.contains("is too old") {
            let message = "this `docker` is too old for the daemon that it speaks to";
            Failure::new(Exit::Missing, message).hint(REMEDY.install)
        } else {
            Failure::new(Exit::Missing, "the Docker daemon does not answer").hint("docker info")
        };
        let line = self.mask(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default());
        Err(anyhow::Error::msg(line).context(failure))
    }

    /// A Compose command line, run in the stack's folder. It may take as long as it takes.
    pub fn compose<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        let (program, words) = self.compose.split_first().map_or(("docker", &[][..]), |(p, w)| (p, w));
        let args: Vec<_> = args.into_iter().collect();
        let effect = invalidation::of_compose(&args);
        let command = Invocation::new(program, &self.dir).args(words).args(args).envs(self.env.clone());
        self.forgetting(effect, command.on(self.terms.clone()))
    }

    /// The same for what quotes the files of the stack, services that no active profile has among them.
    fn compose_config<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        self.compose(args).hiding(unresolved::secrets(&self.dir))
    }

    /// A plain `docker` command line, where Compose would only cost time. It is ended where it takes longer than a wait,
    /// as a daemon that hangs, hangs for ever: docker 20.10 does, where a container is paused while a program is being
    /// started in it. What can take long is given more time.
    pub fn docker<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        let args: Vec<_> = args.into_iter().collect();
        let (effect, is_exec) = (invalidation::of_docker(&args), args.first() == Some(&"exec"));
        let command = Invocation::new(self.docker.as_os_str(), &self.dir).args(args);
        let command = self.forgetting(effect, command.on(self.terms.clone()).within(self.wait));
        if !is_exec {
            return command;
        }
        // Where it complains, its container may not run any more.
        let cache = Arc::clone(&self.cache);
        let look_again = move |complaint: Option<&str>| {
            if complaint.is_some_and(|text| !text.is_empty()) {
                cache.forget(Effect::Everything);
            }
        };
        command.then(Afterwards::new(look_again))
    }

    fn forgetting(&self, effect: Effect, command: Invocation) -> Invocation {
        let cache = Arc::clone(&self.cache);
        match effect {
            Effect::Nothing => command,
            effect => command.then(Afterwards::new(move |_| cache.forget(effect))),
        }
    }

    /// A command that may change databases, which are asked again after it.
    pub(crate) fn changing_databases(&self, command: Invocation) -> Invocation {
        let cache = Arc::clone(&self.cache);
        command.then(Afterwards::new(move |_| cache.forget_databases()))
    }

    /// A command that changes what the databases of these products have.
    pub(crate) fn changing_versions(&self, products: Vec<Instance>, command: Invocation) -> Invocation {
        let cache = Arc::clone(&self.cache);
        command.then(Afterwards::new(move |_| cache.forget_versions(&products)))
    }

    /// What it said.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The whole configuration, with some options. It holds secrets.
    pub fn config(&self, options: &[&str]) -> Result<Yaml> {
        read_config(&self.compose_config(options.iter().copied().chain(["config"])).read()?)
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

    /// Compose's hash of each service's configuration, which its containers carry as a label.
    pub fn config_hashes(&self, resolved: &str) -> Result<BTreeMap<String, String>> {
        let hashes =
            |options: &[&str]| self.compose_config(options.iter().copied().chain(["config", "--hash", "*"]));
        let text = if self.is_v1 {
            hashes(&[]).read()?
        } else {
            // v2.26 leaves out of this hash what a service reads from an `env_file`, and not out of the label.
            hashes(&["-f", "-"]).stdin(resolved).read()?
        };
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(name, hash)| (name.into(), hash.trim().into())).collect())
    }

    /// The daemon's version, and the folder where it keeps everything.
    pub fn info(&self) -> Result<(String, PathBuf)> {
        let format = "{{.ServerVersion}} {{.DockerRootDir}}";
        let text = self.docker(["info", "--format", format]).read()?;
        let (version, folder) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        Ok((version.into(), folder.into()))
    }

    /// Fails with the first network or volume that the stack takes from elsewhere and that isn't there.
    pub fn require_external(&self, external: &[(&'static str, String)]) -> Result<()> {
        for (kind, name) in external {
            let output = self.docker([kind, "inspect", name]).output()?;
            let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
            if !output.status.success() && (text.contains("not found") || text.contains("no such")) {
                let message = format!("the external {kind} {name} doesn't exist");
                let hint = format!("docker {kind} create {}", quote(name));
                return Err(Failure::new(Exit::Missing, message).hint(hint).into());
            }
        }
        Ok(())
    }

    /// The names of a project's volumes.
    pub fn volumes(&self, project: &str) -> Result<Vec<String>> {
        let filter = format!("label=com.docker.compose.project={project}");
        let names = self.docker(["volume", "ls", "--quiet", "--filter", &filter]).read()?;
        Ok(names.lines().map(String::from).collect())
    }

    /// Containers by name or id; those that are gone are left out.
    pub fn inspect<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<Vec<Container>> {
        let ids: Vec<_> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let all = printed(&self.docker(["container", "inspect"].into_iter().chain(ids)))?;
        Ok(all.iter().map(Container::read).collect())
    }

    /// The local images among these names; absent ones are left out.
    pub fn images<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Image>> {
        let names: Vec<_> = names.into_iter().collect();
        if names.is_empty() {
            return Ok(vec![]);
        }
        let inspect = self.docker(["image", "inspect"].into_iter().chain(names.iter().copied()));
        let all = printed(&inspect).unwrap_or_default();
        // They are in the order of their names; where one is absent, which one isn't told.
        if all.len() == names.len() {
            return Ok(names
                .into_iter()
                .zip(&all)
                .filter_map(|(name, json)| Image::read(name, json))
                .collect());
        }
        if let [name] = names.as_slice() {
            return Ok(all.first().and_then(|json| Image::read(name, json)).into_iter().collect());
        }
        Ok(names.into_iter().map(|name| self.images([name])).collect::<Result<Vec<_>>>()?.concat())
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

/// The elements of the array that an inspection prints, whether all was found or not.
pub(crate) fn printed(inspect: &Invocation) -> Result<Vec<Value>> {
    let output = inspect.output()?;
    let json = serde_json::from_str(&String::from_utf8_lossy(&output.stdout));
    match json.with_context(|| format!("failed to read what `{inspect}` printed"))? {
        Value::Array(all) => Ok(all),
        _ => Ok(vec![]),
    }
}

/// Makes the containers of services that have none.
pub fn create(engine: &Engine, services: &[&Service]) -> Invocation {
    engine
        .compose(["up", "--no-start"].into_iter().chain(services.iter().map(|service| service.name.as_str())))
}

/// Starts the containers of services as they are, and of no other service.
pub const START: &[&str] = &["up", "-d", "--no-deps", "--no-recreate"];

/// What `compose config` printed, with `$$` made `$` again.
pub fn read_config(text: &str) -> Result<Yaml> {
    let documents = YamlLoader::load_from_str(&text.replace("$$", "$"))
        .context("failed to read the configuration that Compose printed")?;
    documents.into_iter().next().context("the Compose configuration is empty")
}

#[cfg(all(test, unix))]
mod tests {
    use ory_runner::interrupt::Interrupt;
    use ory_runner::output::{Output, Verbosity};
    use ory_runner::program::Program;

    use super::*;

    #[test]
    fn whatever_the_engine_starts_hides_the_secrets_and_is_ended_in_time() {
        let output = Output { verbosity: Verbosity::Quiet, program: Program::called("xtask") };
        let options = Options {
            directory: None,
            dry_run: false,
            timeout: Some(Duration::from_secs(1)),
            lock_timeout: Duration::ZERO,
            db_lock_timeout: None,
            interrupt: Interrupt::default(),
            output,
        };
        let mut engine = Engine::new(&options, "sh".into(), Path::new("."), &[]);
        engine.hide("geheim");
        let compose = engine.with_compose(vec!["sh".into()]);
        for command in [engine.docker(["-c"]), compose.compose(["-c"])] {
            let error = command.arg("echo got geheim >&2; exit 1").read().expect_err("it fails");
            assert!(format!("{error:#}").contains("got ***"), "{error:#}");
        }
        let error = engine.docker(["-c", "exec sleep 60"]).read().expect_err("it takes too long");
        assert!(error.to_string().contains("did not end in 1 s"), "{error}");
    }
}
