//! The user's environment, discovered: each product's services, configuration file, DSN and database server.
//!
//! Everything comes from what Compose resolves and from the files it mounts. Nothing here is a constant of
//! our own stack.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use yaml_rust2::Yaml;

use crate::checks::files;
use crate::env_file;
use crate::given;
use crate::products::Members;
use crate::reach;
use crate::service::{Mount, Service, scalar};
use crate::settings;
use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_facts::secrets::Secrets;
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
}

/// A product in this stack.
pub struct Deployment<'a> {
    pub product: Instance,
    /// The service whose container migrates: a one-shot where there is one, else the serving one.
    pub migrate: &'a Service,
    /// The configuration files, as the container names them. Of two that have a setting, the later one counts.
    pub configs: Vec<String>,
    /// Only a configuration file has the DSN.
    pub dsn_in_config: bool,
    pub dsn: Dsn,
    /// The service of the PostgreSQL server behind the DSN; none where the server is no service of this stack:
    /// a managed one, or another project's.
    pub server: Option<&'a Service>,
    /// The DSN names an empty database of our own, not the one that the stack names.
    pub is_scratch: bool,
}

impl Deployment<'_> {
    /// The same product on another database of the same server, an empty one of our own.
    pub fn scratch(&self, database: &str) -> Self {
        let (dsn, configs) = (self.dsn.with_database(database), self.configs.clone());
        Self { dsn, configs, is_scratch: true, ..*self }
    }

    /// The same product with its DSN naming another database of the same server.
    pub fn with_database(&self, database: &str) -> Self {
        Self { is_scratch: self.is_scratch, ..self.scratch(database) }
    }

    /// The same product with its tables in another schema of the same database, by its name.
    pub fn with_schema(&self, schema: &str) -> Self {
        Self { dsn: self.dsn.with_schemas(&[schema]), configs: self.configs.clone(), ..*self }
    }

    /// What the server is called in words: its service, or its host.
    pub fn server_name(&self) -> &str {
        self.server.map_or(&self.dsn.host, |service| &service.name)
    }
}

impl Stack {
    /// Reads what `compose config` printed in the stack's folder; `is_v1`: docker-compose 1.29 did.
    pub fn read(config: &Yaml, is_v1: bool, dir: &Path) -> Self {
        let project = scalar(&config["name"]).unwrap_or_else(|| v1_project_name(dir));
        let mut services = read_services(config, |name| env_file::setting(dir, name));
        if is_v1 {
            // 1.29 prints the services of every profile.
            let active = env_file::setting(dir, "COMPOSE_PROFILES").unwrap_or_default();
            let active: Vec<_> = active.split(',').collect();
            services.retain(|_, s| {
                s.profiles.is_empty() || s.profiles.iter().any(|p| active.contains(&p.as_str()))
            });
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
            volumes.into_iter().map(|(name, known, is_external)| (name, (known, is_external))).collect();
        let mut networks = BTreeMap::from([("default".to_string(), format!("{project}_default"))]);
        networks.extend(declared.into_iter().map(|(name, known, _)| (name, known)));
        let examples = given::examples(dir);
        Self { project, services, networks, volumes, has_external_network, external, examples }
    }

    /// Why a product isn't in the stack, in words: what was looked at, and an inactive profile that has it.
    /// `every` is what Compose prints of all profiles.
    pub fn absence(&self, product: Product, every: &Yaml) -> String {
        let services = read_services(every, |_| None);
        let everything = Self {
            services,
            project: String::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            has_external_network: false,
            external: vec![],
            examples: BTreeSet::new(),
        };
        let members = everything.members(product).unwrap_or_default();
        match members.iter().flat_map(|members| &members.serve).next() {
            Some(service) if service.profiles.is_empty() => format!(
                "{product}: not in this stack; the image of `{}` doesn't tell a version as Ory's do (if it is one: \
                 labels: {{xtask.product: {product}}})",
                service.name
            ),
            Some(service) => format!(
                "{product}: not in this stack; its service `{}` is in the inactive profile {}",
                service.name,
                service.profiles.join(", ")
            ),
            _ => format!(
                "{product}: not in this stack (no service has an image, name, command or label of that name)"
            ),
        }
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

    /// Everything about a product, none where the stack hasn't got it. Fails where its DSN is missing,
    /// malformed, or names a server that isn't here.
    pub fn deployment(&self, product: Instance) -> Result<Option<Deployment<'_>>> {
        let own = self.members(product.kind)?.into_iter().find(|members| members.product == product);
        let Some(Members { serve: serves, migrate, .. }) = own else { return Ok(None) };
        let serve = serves.first().copied().unwrap_or(migrate);
        // A file that isn't there is the cause of a DSN that isn't.
        self.check_files(&[migrate])?;
        let mut configs = migrate.config_files();
        if configs.is_empty() {
            configs = serve.config_files();
        }
        let (text, dsn_in_config, origin) = find_dsn(product, serve, migrate, &configs)?;
        let (dsn, server) =
            reach::resolve(&self.services, (product, migrate), (&text, &origin), self.has_external_network)?;
        Ok(Some(Deployment { product, migrate, configs, dsn_in_config, dsn, server, is_scratch: false }))
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

    /// The services that are a database server of some product, each once.
    pub fn servers(&self) -> Vec<&Service> {
        let names: BTreeSet<_> = self.readable().filter_map(|d| Some(d.server?.name.clone())).collect();
        names.iter().filter_map(|name| self.services.get(name)).collect()
    }

    /// The products whose tables would be in one schema with this one's.
    pub fn sharing(&self, deployment: &Deployment) -> Vec<Instance> {
        let others = self.readable().filter(|other| other.product != deployment.product);
        let others = others.filter(|other| other.dsn.place() == deployment.dsn.place());
        others.map(|other| other.product).collect()
    }

    /// The products whose DSN can be read; any other is reported when it is its turn.
    pub fn readable(&self) -> impl Iterator<Item = Deployment<'_>> {
        let products = self.told().map(|members| members.product);
        products.filter_map(|product| self.deployment(product).ok().flatten())
    }

    /// Fails with the first file that a service is to read and that isn't there. Docker would make a folder
    /// in its place, owned by root.
    pub fn check_files(&self, services: &[&Service]) -> Result<()> {
        for service in services {
            if let Some(finding) = files::missing(service).into_iter().next() {
                return Err(Failure::from(finding).into());
            }
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

/// The DSN, whether only the file has it, and where it was found: the migrating service's environment,
/// the serving one's, then the files, the last one first.
fn find_dsn(
    product: Instance,
    serve: &Service,
    migrate: &Service,
    configs: &[String],
) -> Result<(String, bool, String)> {
    for service in [migrate, serve] {
        if let Some(dsn) = service.environment.get("DSN").filter(|dsn| !dsn.is_empty()) {
            return Ok((dsn.clone(), false, format!("the environment of `{}`", service.name)));
        }
    }
    let mut looked_at = format!("DSN in the environment of `{}`", migrate.name);
    let default = product.default_config().filter(|_| configs.is_empty());
    for file in configs.iter().map(String::as_str).rev().chain(default) {
        let yaml = [migrate, serve].into_iter().find_map(|service| settings::read(service, file).ok());
        if let Some(dsn) = yaml.and_then(|yaml| scalar(&yaml["dsn"])) {
            return Ok((dsn, true, file.into()));
        }
        looked_at += &format!(", dsn: in {file}");
    }
    let message = format!("{product} has no DSN (looked at: {looked_at})");
    let hint = format!("set DSN in the environment of the service `{}`", serve.name);
    Err(Failure::new(Exit::Failed, message).hint(hint).into())
}

pub(crate) fn read_services(
    config: &Yaml,
    variable: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, Service> {
    let services = config["services"].as_hash().into_iter().flatten();
    let services = services.filter_map(|(name, yaml)| Some((scalar(name)?, yaml)));
    let read = |(name, yaml): (String, &Yaml)| {
        let mut service = Service::read(&name, yaml);
        service.mounts.extend(Mount::granted(yaml, config, &variable));
        (name, service)
    };
    services.map(read).collect()
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
