//! What the engine and Compose say of their state: containers, images, volumes, the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::{Engine, read_config};
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{Invocation, quote};
use ory_stack::container::{Container, Image, LIST_FORMAT, Listed};
use ory_stack::install_hints::REMEDY;
use ory_stack::{env_file, settings};

impl Engine {
    /// The daemon's own name for itself, however it is reached; empty where it has none, as what only looks like Docker.
    /// Docker asks each of its plugins before it tells.
    pub fn id(&self) -> String {
        let id = self.docker(["info", "--format", "{{.ID}}"]).read();
        id.map(|id| id.trim().to_string()).unwrap_or_default()
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

    /// The whole configuration, with some options. It holds secrets.
    pub fn config(&self, options: &[&str]) -> Result<Yaml> {
        read_config(&self.compose_config(options.iter().copied().chain(["config"])).read()?)
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
        Ok(pairs.map(|(name, hash)| (name.into(), hash.trim().into())).into_map())
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
        self.inspect_all(&ids.into_iter().collect::<Vec<_>>())
    }

    fn inspect_all(&self, ids: &[&str]) -> Result<Vec<Container>> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let all = printed(&self.docker(["container", "inspect"].into_iter().chain(ids.iter().copied())))?;
        Ok(all.iter().map(Container::read).collect())
    }

    /// The local images among these names; absent ones are left out.
    pub fn images<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Image>> {
        self.images_of(&names.into_iter().collect::<Vec<_>>())
    }

    fn images_of(&self, names: &[&str]) -> Result<Vec<Image>> {
        if names.is_empty() {
            return Ok(vec![]);
        }
        let inspect = self.docker(["image", "inspect"].into_iter().chain(names.iter().copied()));
        let all = printed(&inspect).unwrap_or_default();
        // They are in the order of their names; where one is absent, which one isn't told.
        if all.len() == names.len() {
            return Ok(names.iter().zip(&all).filter_map(|(name, json)| Image::read(name, json)).collect());
        }
        if let [name] = names {
            return Ok(all.first().and_then(|json| Image::read(name, json)).into_iter().collect());
        }
        Ok(names.iter().map(|name| self.images_of(&[name])).collect::<Result<Vec<_>>>()?.concat())
    }
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
