//! The user's environment, discovered: its services, networks and volumes.
//!
//! Everything comes from what Compose resolves and from the files it mounts. Nothing here is a constant of
//! our own stack.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use yaml_rust2::Yaml;

use crate::checks::files;
pub use crate::deployment::Deployment;
use crate::env_file;
use crate::given;
use crate::resolved::Resolved;
use crate::service::{Mount, Service};
use crate::text::scalar;
use ory_facts::secrets::Secrets;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};

/// The stack as Compose resolves it.
pub struct Stack {
    /// The name that the engine's labels carry.
    pub project: String,
    pub services: BTreeMap<String, Service>,
    /// The engine's name of each network.
    networks: BTreeMap<String, String>,
    /// The engine's name of each volume, and whether it is somebody else's.
    volumes: BTreeMap<String, (String, bool)>,
    /// A network comes from elsewhere, and with it hosts that no service here explains.
    pub(crate) has_external_network: bool,
    /// The networks and volumes that the stack doesn't make: their kinds, and the engine's names.
    pub external: Vec<(&'static str, String)>,
    /// The values that `.env.example` has.
    pub(crate) examples: BTreeSet<String>,
    /// Which products it has and where they keep their state: found out when it is first asked, and once more when more
    /// is known of the services.
    resolved: OnceLock<Resolved>,
}

impl Stack {
    /// Reads what `compose config` printed in the stack's folder; `is_v1`: docker-compose 1.29 did.
    pub fn read(config: &Yaml, is_v1: bool, dir: &Path) -> Self {
        let project = scalar(&config["name"]).unwrap_or_else(|| v1_project_name(dir));
        let mut services = Service::all(config, |name| env_file::setting(dir, name));
        if is_v1 {
            // 1.29 prints the services of every profile.
            let active = env_file::setting(dir, "COMPOSE_PROFILES").unwrap_or_default();
            let active: Vec<_> = active.split(',').collect();
            let is_active = |(_, service): &(String, Service)| {
                let mut profiles = service.profiles.iter();
                service.profiles.is_empty() || profiles.any(|profile| active.contains(&profile.as_str()))
            };
            services = services.into_iter().filter(is_active).into_map();
        }
        let separator = if is_v1 { '_' } else { '-' };
        for service in services.values_mut().filter(|service| service.is_built) {
            // Compose's own name for what it builds.
            service.image.get_or_insert(format!("{project}{separator}{}", service.name));
        }
        services.values_mut().for_each(|service| service.is_called(&project, separator));
        let declared = |kind: &str| {
            let pairs = config[kind].as_hash().into_iter().flatten();
            pairs.filter_map(|(name, yaml)| Some((scalar(name)?, yaml))).collect::<Vec<_>>()
        };
        let engines_name = |(name, yaml): (String, &Yaml)| {
            let known = scalar(&yaml["name"]).or_else(|| scalar(&yaml["external"]["name"]));
            let is_external = !yaml["external"].is_badvalue() && yaml["external"].as_bool() != Some(false);
            let prefixed = if is_external { name.clone() } else { format!("{project}_{name}") };
            (name, known.unwrap_or(prefixed), is_external)
        };
        let volumes: Vec<_> = declared("volumes").into_iter().map(engines_name).collect();
        let declared: Vec<_> = declared("networks").into_iter().map(engines_name).collect();
        let has_external_network = declared.iter().any(|(_, _, is_external)| *is_external);
        let uses = |kind: &str, name: &String| {
            services.values().any(|service| match kind {
                "network" => service.networks.contains(name),
                _ => service.mounts.iter().any(|mount| mount.volume.as_ref() == Some(name)),
            })
        };
        let of_kind = |kind: &'static str, all: &[(String, String, bool)]| {
            let used = all.iter().filter(|(name, _, is_external)| *is_external && uses(kind, name));
            used.map(|(_, known, _)| (kind, known.clone())).collect::<Vec<_>>()
        };
        let external = [of_kind("network", &declared), of_kind("volume", &volumes)].concat();
        let volumes =
            volumes.into_iter().map(|(name, known, is_external)| (name, (known, is_external))).into_map();
        let mut networks = BTreeMap::new();
        networks.insert("default".to_string(), format!("{project}_default"));
        networks.extend(declared.into_iter().map(|(name, known, _)| (name, known)));
        let examples = given::examples(dir);
        Self {
            project,
            services,
            networks,
            volumes,
            has_external_network,
            external,
            examples,
            resolved: OnceLock::new(),
        }
    }

    /// Which products it has, and where they keep their state.
    pub(crate) fn resolved(&self) -> &Resolved {
        self.resolved.get_or_init(|| Resolved::of(&self.services, self.has_external_network))
    }

    /// The services, for who learns more of them: what was resolved without that is forgotten.
    pub(crate) fn services_mut(&mut self) -> &mut BTreeMap<String, Service> {
        self.resolved.take();
        &mut self.services
    }

    /// The names of all services, for an error to list.
    pub fn service_names(&self) -> String {
        self.services.keys().cloned().collect::<Vec<_>>().join(", ")
    }

    /// The services asked for by name; an unknown one is wrong usage.
    pub fn services<'a>(&'a self, names: &[String]) -> Result<Vec<&'a Service>> {
        let find = |name: &String| {
            self.services.get(name).ok_or_else(|| {
                let known = self.service_names();
                let message = format!("the stack has no service `{name}`");
                Failure::new(Exit::Usage, message).hint(format!("its services are {known}")).into()
            })
        };
        names.iter().map(find).collect()
    }

    /// The services that are left out because no profile of theirs is active: the profile, and who is in it. `every` is
    /// what Compose prints of all profiles.
    pub fn inactive(&self, every: &Yaml) -> BTreeMap<String, Vec<String>> {
        let mut inactive: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, service) in Service::all(every, |_| None) {
            if let Some(profile) = service.profiles.first().filter(|_| !self.services.contains_key(&name)) {
                inactive.entry(profile.clone()).or_default().push(name);
            }
        }
        inactive
    }

    /// Services, and all that they depend on.
    pub fn with_dependencies<'a>(&'a self, mut found: Vec<&'a Service>) -> Vec<&'a Service> {
        let mut next = 0;
        while let Some(service) = found.get(next) {
            let dependencies = service.depends_on.keys().filter_map(|name| self.services.get(name));
            for service in dependencies.collect::<Vec<_>>() {
                if !found.iter().any(|known| known.name == service.name) {
                    found.push(service);
                }
            }
            next += 1;
        }
        found
    }

    /// The engine's names of the networks that a service is in.
    pub fn networks_of(&self, service: &Service) -> Vec<&str> {
        service.networks.iter().filter_map(|network| self.networks.get(network)).map(String::as_str).collect()
    }

    /// What the engine mounts for a mount of a service: the volume by the engine's name, or a path of the host.
    pub fn source_of(&self, mount: &Mount) -> Option<String> {
        let volume = mount.volume.as_ref().and_then(|name| Some(self.volumes.get(name)?.0.clone()));
        volume.or_else(|| Some(mount.source.as_ref()?.display().to_string()))
    }

    /// Whether a mount is of a volume that Compose neither makes nor removes.
    pub fn is_external(&self, mount: &Mount) -> bool {
        let volume = mount.volume.as_ref().and_then(|name| self.volumes.get(name));
        volume.is_some_and(|(_, is_external)| *is_external)
    }

    /// Fails with the first file that a service is to read and that isn't there. Docker would make a folder
    /// in its place, owned by root.
    pub fn check_files(&self, services: &[&Service]) -> Result<()> {
        for service in services {
            files::require(service)?;
        }
        Ok(())
    }

    /// Every secret of the stack: passwords in DSNs, and what is named a secret or a password.
    pub fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        let settings = self.services.values().flat_map(given::all);
        settings.flat_map(|setting| setting.secrets()).for_each(|secret| secrets.add(&secret));
        secrets
    }
}

/// docker-compose 1.29 prints no project name; this is its rule: COMPOSE_PROJECT_NAME, else the folder of the
/// first Compose file.
fn v1_project_name(dir: &Path) -> String {
    let folder = || {
        let files = env_file::compose_files(dir);
        let folder = files.first().and_then(|file| file.parent()).unwrap_or(dir);
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
        folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let name = env_file::setting(dir, "COMPOSE_PROJECT_NAME").unwrap_or_else(folder).to_lowercase();
    name.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c)).collect()
}
