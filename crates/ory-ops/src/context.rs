//! What every command works with: what was asked for, the engine with what it said, the stack as Compose resolves it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::Result;
use yaml_rust2::Yaml;

use crate::config_hashes;
use crate::engine::find::Found;
use crate::engine::{self, Engine};
use crate::env_files;
use crate::folders::stack_directory;
use crate::image_version;
pub use crate::options::Options;
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::Output;
use ory_stack::container::{Container, Image, Listed};
use ory_stack::env_file;
use ory_stack::learned::PRODUCT_LABEL;
use ory_stack::mount;
use ory_stack::service::Service;
use ory_stack::stack::Stack;

/// A command's view of the world.
pub struct Context {
    pub options: Options,
    pub out: Output,
    /// The stack's folder.
    pub dir: PathBuf,
    pub engine: Engine,
    /// What goes over the settings in `.env`: the images of stand-ins.
    pub settings: Vec<(String, String)>,
    pub stack: Stack,
    /// The configuration as Compose printed it. It holds secrets.
    pub resolved: String,
    /// Tells this run from every other one, of whatever machine.
    pub run: String,
}

impl Context {
    /// Finds the engine and discovers the stack, with what is in `.env` now. `settings` go over it.
    pub fn new(options: &Options, settings: Vec<(String, String)>) -> Result<Self> {
        let cx = Self::with(options, settings, |dir, env| Engine::find(options, dir, env))?;
        cx.tell();
        Ok(cx)
    }

    /// Says, once, what Compose takes otherwise than the stack's files may let one think.
    fn tell(&self) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            if !self.engine.env_files.is_empty() {
                self.out.say(self.env_files_in_words());
            }
            for name in &self.engine.unset {
                self.out.warn(format!("the variable {name} is not set: Compose uses an empty string"));
            }
        });
    }

    /// Why other files than `.env` are read.
    pub fn env_files_in_words(&self) -> String {
        let files = &self.engine.env_files;
        format!(
            "variables come from {}, with which the containers of this stack were created",
            env_files::in_words(files)
        )
    }

    /// As [`Context::new`], with an engine that is found in another way.
    pub fn with(
        options: &Options,
        settings: Vec<(String, String)>,
        find: impl FnOnce(&Path, &[(String, String)]) -> Result<Found>,
    ) -> Result<Self> {
        let dir = stack_directory(options)?;
        Engine::env_file(options, &dir)?.check(&settings)?;
        let mut env = settings.clone();
        // Compose v2 doesn't read it there where a folder above has a Compose file of its own: it takes that one.
        let is_set = std::env::var_os("COMPOSE_FILE").is_some()
            || settings.iter().any(|(name, _)| name == "COMPOSE_FILE");
        let files = env_file::value(&dir, "COMPOSE_FILE").filter(|_| !is_set);
        env.extend(files.map(|files| ("COMPOSE_FILE".into(), files)));
        let Found { mut engine, mut resolved, listed } = find(&dir, &env)?;
        if let Some(files) = env_files::made_with(&engine, &resolved, &listed, &dir)? {
            (engine, resolved) = engine.with_env_files(files)?;
        }
        let config = engine::read_config(&resolved)?;
        if mount::has_variable_files(&config) {
            Engine::tell_variables(options, &dir)?;
        }
        let mut stack = Stack::read(&config, engine.is_v1, &dir);
        let images = engine.images(stack.untold()).unwrap_or_default();
        stack.learn(&images);
        image_version::learn(&engine, options, &mut stack, &images);
        engine.set_secrets(stack.secrets());
        engine.cache().listed.set(Some(of_project(listed, &stack)));
        Ok(Self {
            options: options.clone(),
            out: options.output,
            dir,
            engine,
            settings,
            stack,
            resolved,
            run: ory_stack::random::random(8)?,
        })
    }

    /// As [`Context::new`], with a placeholder for each secret that `.env` is to have: for commands that
    /// start nothing, or not yet.
    pub fn with_placeholders(options: &Options, mut settings: Vec<(String, String)>) -> Result<Self> {
        let dir = stack_directory(options)?;
        settings.extend(Engine::env_file(options, &dir)?.placeholders());
        Self::new(options, settings)
    }

    /// Why a product isn't in the stack, in words.
    pub fn absence(&self, product: Product) -> String {
        self.stack.absence(product, &self.every())
    }

    /// What Compose prints of all profiles.
    fn every(&self) -> Yaml {
        let every: &[&str] = if self.engine.is_v1 { &[] } else { &["--profile", "*"] };
        self.engine.config(every).unwrap_or(Yaml::Null)
    }

    /// Fails where the stack has no product at all: nothing that is asked of it would be done.
    pub fn require_products(&self) -> Result<()> {
        if !self.stack.products()?.is_empty() {
            return Ok(());
        }
        let inactive = self.stack.inactive(&self.every());
        let failure = match inactive.iter().next() {
            Some((profile, _)) if self.stack.services.is_empty() => {
                let each =
                    inactive.iter().map(|(name, services)| format!("{name} ({})", services.join(", ")));
                let each = each.collect::<Vec<_>>().join("; ");
                let message = format!("no service of this stack is active: each is in a profile, {each}");
                Failure::new(Exit::Usage, message)
                    .hint(format!("COMPOSE_PROFILES={profile}, before the command or in .env"))
            }
            profiles => {
                let known = self.stack.service_names();
                let message = format!(
                    "none of these services is Kratos, Hydra or Keto, as far as can be told: {known}"
                );
                let more =
                    profiles.map(|(name, _)| format!("; or activate a profile: COMPOSE_PROFILES={name}"));
                let hint = format!(
                    "build or pull its image, or label the service that is one: labels: {{{PRODUCT_LABEL}: kratos}}{}",
                    more.unwrap_or_default()
                );
                Failure::new(Exit::Usage, message).hint(hint)
            }
        };
        Err(failure.into())
    }

    /// The containers of this project, one-off ones among them, in short.
    pub fn project(&self) -> Result<Vec<Listed>> {
        self.engine.cache().listed.get(|| Ok(of_project(self.engine.list()?, &self.stack)))
    }

    /// The containers of the services, in short.
    pub fn listed(&self) -> Result<Vec<Listed>> {
        Ok(self.project()?.into_iter().filter(|container| !container.one_off).collect())
    }

    /// The containers of the services, with all that the engine knows of them.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let listed = self.listed()?;
        self.engine
            .cache()
            .containers
            .get(|| self.engine.inspect(listed.iter().map(|listed| listed.id.as_str())))
    }

    /// Those of the services' images that are here.
    pub fn images(&self) -> Result<Vec<Image>> {
        let names = self.stack.services.values().filter_map(|s| s.image.as_deref()).into_set();
        self.engine.cache().images.get(|| self.engine.images(names))
    }

    /// An image by its name, none where it isn't here.
    pub fn image(&self, name: &str) -> Result<Option<Image>> {
        match self.images()?.into_iter().find(|image| image.name == name) {
            Some(image) => Ok(Some(image)),
            None => Ok(self.engine.images([name])?.into_iter().next()),
        }
    }

    /// Whether this is Compose's hash of a service's configuration, which its container carries. Those that Compose told
    /// of the very same configuration are kept; one that another Compose would tell otherwise is no longer carried.
    pub fn has_hash(&self, service: &str, hash: &String) -> Result<bool> {
        Ok(self.kept_hashes()?.get(service) == Some(hash) || self.hashes()?.get(service) == Some(hash))
    }

    /// Asks for them where none are kept: they will be needed.
    pub fn ask_hashes(&self) -> Result<()> {
        if self.kept_hashes()?.is_empty() { self.hashes().map(|_| ()) } else { Ok(()) }
    }

    fn kept_hashes(&self) -> Result<BTreeMap<String, String>> {
        self.engine.cache().kept_hashes.get(|| {
            Ok(config_hashes::kept(&self.options, &self.stack.project, &self.resolved).unwrap_or_default())
        })
    }

    /// Compose's hash of each service's configuration, as it tells it now.
    fn hashes(&self) -> Result<BTreeMap<String, String>> {
        self.engine.cache().hashes.get(|| {
            let hashes = self.engine.config_hashes(&self.resolved)?;
            config_hashes::keep(&self.options, &self.stack.project, &self.resolved, &hashes)?;
            Ok(hashes)
        })
    }

    /// What a product's database has, where it was looked at.
    pub fn seen(&self, product: Instance) -> Option<BTreeSet<String>> {
        self.engine.cache().applied(product)
    }

    /// Whether a server was looked at, and takes connections.
    pub fn answers(&self, server: &Service) -> bool {
        self.engine.cache().answers(server)
    }

    /// The databases that runs have left which were killed, as they were looked at.
    pub fn unfinished(&self) -> BTreeMap<Instance, String> {
        self.engine.cache().unfinished()
    }

    /// The container of a service: the one there is, else the name Compose would give it.
    pub fn container_name(&self, containers: &[Listed], service: &Service) -> String {
        let existing = containers.iter().find(|container| container.service == service.name);
        let separator = if self.engine.is_v1 { '_' } else { '-' };
        let predicted = || format!("{}{separator}{}{separator}1", self.stack.project, service.name);
        existing
            .map(|container| container.name.clone())
            .or(service.container_name.clone())
            .unwrap_or_else(predicted)
    }

    /// Whether a service's image is a stand-in for Ory's.
    pub fn is_stand_in(&self, service: &Service) -> Result<bool> {
        let Some(name) = &service.image else { return Ok(false) };
        Ok(self.image(name)?.is_some_and(|image| image.stand_in.is_some()))
    }

    /// The end of a container's log, secrets masked.
    pub fn log_of(&self, container: &str) -> String {
        let output = self.engine.docker(["logs", "--tail", "100", container]).output();
        let Ok(output) = output else { return format!("the log of {container} can't be read") };
        let text = [output.stdout, output.stderr].concat();
        let masked =
            String::from_utf8_lossy(&text).lines().map(|line| self.engine.mask(line)).collect::<Vec<_>>();
        masked.join("\n")
    }
}

/// Of the containers of every project those of this one.
fn of_project(mut listed: Vec<Listed>, stack: &Stack) -> Vec<Listed> {
    listed.retain(|container| container.project == stack.project);
    listed
}
