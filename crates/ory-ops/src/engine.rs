//! The engine: every `compose` and `docker` command line, what ends it, what is masked in what it prints, and what it makes
//! of what was said before.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use yaml_rust2::{Yaml, YamlLoader};

use crate::cache::Cache;
use crate::invalidation::{self, Effect};
use crate::options::Options;
use ory_facts::diagnosis::{error_lines, is_detail};
use ory_facts::instance::Instance;
use ory_facts::secrets::Secrets;
use ory_facts::sqlstate;
use ory_runner::memo::Memo;
use ory_runner::process::Invocation;
use ory_runner::terms::{Afterwards, Reading, Terms};
use ory_stack::service::Service;
use ory_stack::unresolved;

pub mod find;
pub(crate) mod state;

/// How Compose is called, and where. A copy shares what the engine said.
#[derive(Clone)]
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
    pub(crate) remote: Arc<Memo<bool>>,
    /// What all that it starts has: Ctrl-C ends it, secrets are masked in what it prints.
    terms: Terms,
    /// After how long a `docker` that doesn't answer is ended.
    wait: Duration,
    /// What it said. What it runs that may change that, is forgotten.
    cache: Arc<Cache>,
}

/// How failures of Ory, of PostgreSQL and of the engine are read.
const READING: Reading = Reading { line: sqlstate::tidy, is_detail, error_lines };

impl Engine {
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
            remote: Arc::default(),
            terms: Terms::new(&options.interrupt, unresolved::secrets(dir), READING),
            wait: options.wait(),
            cache: Arc::default(),
        }
    }

    /// The same with Compose, which is called so. Whether it is there isn't known.
    fn with_compose(&self, compose: Vec<String>) -> Self {
        Self { compose, ..self.clone() }
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

    /// A Compose command line, run in the stack's folder. It may take as long as it takes.
    pub fn compose<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        self.compose_line(&args.into_iter().collect::<Vec<_>>())
    }

    fn compose_line(&self, args: &[&str]) -> Invocation {
        let (program, words) = self.compose.split_first().map_or(("docker", &[][..]), |(p, w)| (p, w));
        let effect = invalidation::of_compose(args);
        let command =
            Invocation::new(program, &self.dir).args(words).args(args.iter().copied()).envs(self.env.clone());
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
        self.docker_line(&args.into_iter().collect::<Vec<_>>())
    }

    fn docker_line(&self, args: &[&str]) -> Invocation {
        let (effect, is_exec) = (invalidation::of_docker(args), args.first() == Some(&"exec"));
        let command = Invocation::new(self.docker.as_os_str(), &self.dir).args(args.iter().copied());
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

    /// Another program of this machine, which is ended and masked as those of the engine.
    pub fn program(&self, program: impl Into<OsString>) -> Invocation {
        Invocation::new(program, &self.dir).on(self.terms.clone())
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
