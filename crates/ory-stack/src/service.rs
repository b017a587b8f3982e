//! A service as `compose config` prints it, in the spellings of Compose v2 and of docker-compose 1.29.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::command;
pub use crate::mount::{Mount, Port};
pub use crate::text::scalar;
use crate::text::{items, keys, list, map, texts, words};
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use yaml_rust2::Yaml;

/// Where the programs start in Ory's own images.
const HOME: &str = "/home/ory";

/// Stands for the folder where an image starts.
const UNKNOWN: &str = "/-";

/// What xtask reads of a service.
#[derive(Debug, Clone, Default)]
pub struct Service {
    pub name: String,
    pub image: Option<String>,
    pub container_name: Option<String>,
    /// It is built here, so it is never pulled.
    pub is_built: bool,
    pub(crate) entrypoint: Vec<String>,
    command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Folders in memory: what is there is meant to be lost.
    pub tmpfs: Vec<String>,
    pub ports: Vec<Port>,
    /// The user that the stack names, instead of the image's.
    pub user: Option<String>,
    /// How Compose asks whether it is healthy: `CMD` or `CMD-SHELL`, then the words; none where it doesn't.
    pub healthcheck: Vec<String>,
    /// What it waits for, and until when: `service_started`, `service_healthy` ...
    pub depends_on: BTreeMap<String, String>,
    pub networks: Vec<String>,
    /// `HOST:ADDRESS` or `HOST=ADDRESS`, as Compose prints them.
    pub extra_hosts: Vec<String>,
    /// It is part of the stack only while one of these profiles is active; none: always.
    pub profiles: Vec<String>,
    /// It has the network of the machine, and none of the engine's.
    pub is_on_host: bool,
    /// The product whose program its image starts, where only the image tells.
    pub(crate) started: Option<Product>,
    /// How many containers Compose makes of it.
    pub replicas: usize,
    /// The products whose program its image hasn't, whatever it is called.
    pub(crate) others: Vec<Product>,
    /// The entrypoint and the command of its image, where they were looked at.
    pub(crate) image_line: (Vec<String>, Vec<String>),
    /// Where its program starts.
    pub(crate) working_dir: Option<String>,
    /// Its names for other services: the service, and the name.
    pub links: Vec<(String, String)>,
    /// Its names for containers that are none of the stack.
    external_links: Vec<String>,
    /// The service whose network it has.
    pub network_of: Option<String>,
    /// Names other containers reach it by.
    hosts: Vec<String>,
}

impl Service {
    /// Reads `services.NAME` of the configuration.
    pub fn read(name: &str, yaml: &Yaml) -> Self {
        let container_name = scalar(&yaml["container_name"]);
        let extra_hosts = container_name.clone().into_iter().chain(scalar(&yaml["hostname"]));
        let networks = yaml["networks"].as_hash().into_iter().flatten();
        let address = |network: &Yaml| {
            ["ipv4_address", "ipv6_address"].into_iter().filter_map(|key| scalar(&network[key])).collect()
        };
        let aliases =
            networks.flat_map(|(_, network)| [list(&network["aliases"]), address(network)].concat());
        let volumes = || items(&yaml["volumes"]).iter();
        let is_tmpfs = |volume: &&Yaml| volume["type"].as_str() == Some("tmpfs");
        Self {
            name: name.into(),
            image: scalar(&yaml["image"]),
            is_built: !yaml["build"].is_badvalue(),
            entrypoint: words(&yaml["entrypoint"]),
            command: words(&yaml["command"]),
            environment: map(&yaml["environment"]),
            labels: map(&yaml["labels"]),
            mounts: volumes().filter(|volume| !is_tmpfs(volume)).filter_map(Mount::read).collect(),
            tmpfs: texts(&yaml["tmpfs"])
                .into_iter()
                .map(|text| text.split(':').next().unwrap_or_default().to_string())
                .chain(volumes().filter(is_tmpfs).filter_map(|volume| scalar(&volume["target"])))
                .collect(),
            ports: items(&yaml["ports"]).iter().filter_map(Port::read).collect(),
            user: scalar(&yaml["user"]),
            healthcheck: healthcheck(&yaml["healthcheck"]),
            depends_on: depends_on(&yaml["depends_on"]),
            profiles: list(&yaml["profiles"]),
            networks: Some(keys(&yaml["networks"]))
                .filter(|n| !n.is_empty())
                .unwrap_or(vec!["default".into()]),
            extra_hosts: list(&yaml["extra_hosts"]),
            hosts: [name.to_string()].into_iter().chain(extra_hosts).chain(aliases).collect(),
            container_name,
            is_on_host: yaml["network_mode"].as_str() == Some("host"),
            started: None,
            replicas: replicas(yaml),
            others: vec![],
            image_line: (vec![], vec![]),
            working_dir: scalar(&yaml["working_dir"]),
            links: list(&yaml["links"]).iter().map(|link| split_link(link)).collect(),
            external_links: list(&yaml["external_links"]).iter().map(|link| split_link(link).1).collect(),
            network_of: scalar(&yaml["network_mode"])
                .and_then(|mode| Some(mode.strip_prefix("service:")?.into())),
        }
    }

    /// The services of a configuration; `variable` has what a file of theirs is the value of.
    pub(crate) fn all(config: &Yaml, variable: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Self> {
        let services = config["services"].as_hash().into_iter().flatten();
        let services = services.filter_map(|(name, yaml)| Some((scalar(name)?, yaml)));
        let read = |(name, yaml): (String, &Yaml)| {
            let mut service = Self::read(&name, yaml);
            service.mounts.extend(Mount::granted(yaml, config, &variable));
            (name, service)
        };
        services.map(read).into_map()
    }

    /// Every word of its entrypoint and command, those inside a `sh -c` script among them.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let image =
            self.image_line.1.iter().filter(|_| self.entrypoint.is_empty() && self.command.is_empty());
        let line = self.entrypoint.iter().chain(&self.command).chain(image);
        line.flat_map(|word| word.split_whitespace())
    }

    /// Whether it only migrates: a script may migrate before it serves.
    pub fn is_migration(&self) -> bool {
        let has = |wanted: &str| self.words().any(|word| word == wanted);
        has("migrate") && !has("serve")
    }

    /// The configuration files it is started with, as the container names them.
    pub fn config_files(&self) -> Vec<String> {
        let folder = self.working_dir.as_deref().unwrap_or(HOME);
        command::config_files(&self.line(), &self.environment, folder)
    }

    /// Whether a configuration file is named from a folder that only its image tells.
    pub fn needs_folder(&self) -> bool {
        let files = || command::config_files(&self.line(), &self.environment, UNKNOWN);
        self.working_dir.is_none() && files().iter().any(|file| file.starts_with(UNKNOWN))
    }

    /// Its command line, with what its image adds where the stack has nothing else.
    fn line(&self) -> Vec<String> {
        let of_image =
            |own: &[String], image: &[String]| if own.is_empty() { image.to_vec() } else { own.to_vec() };
        let entrypoint = of_image(&self.entrypoint, &self.image_line.0);
        // Another entrypoint leaves nothing of the image's command.
        let image = if self.entrypoint.is_empty() { &self.image_line.1[..] } else { &[] };
        [entrypoint, of_image(&self.command, image)].concat()
    }

    /// What it serves with, behind the name of a product's program; none where a script starts that, among other things.
    pub fn serve_arguments(&self, product: Product) -> Option<Vec<String>> {
        let line = self.line();
        let is_program = |word: &String| word.rsplit('/').next() == Some(product.name());
        let arguments = if line.first().is_some_and(is_program) { &line[1..] } else { &line[..] };
        arguments.first().filter(|first| *first == "serve")?;
        Some(arguments.to_vec())
    }

    /// The mount that brings a file of the container.
    pub fn mount_of(&self, path: &str) -> Option<&Mount> {
        let inside = |mount: &&Mount| {
            let rest = path.strip_prefix(mount.target.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts.iter().filter(inside).max_by_key(|mount| mount.target.len())
    }

    /// Where a file of the container is on the host, if a mount brings it there.
    pub fn on_host(&self, path: &str) -> Option<PathBuf> {
        let mount = self.mount_of(path)?;
        let rest = path.strip_prefix(mount.target.trim_end_matches('/'))?.trim_start_matches('/');
        let source = mount.source.as_ref()?;
        Some(if rest.is_empty() { source.clone() } else { source.join(rest) })
    }

    /// What a file of the container has in it, where that isn't on the host.
    pub fn content_of(&self, path: &str) -> Option<&str> {
        self.mount_of(path).filter(|mount| mount.target == path)?.content.as_deref()
    }

    /// Whether it may reach a host that is no service of the stack: a bare name is a typo, unless another
    /// project's network or a line of extra_hosts explains it.
    pub fn may_reach(&self, host: &str, has_external_network: bool) -> bool {
        host.contains(['.', ':'])
            || has_external_network
            || self.external_links.iter().any(|link| link == host)
            || self.extra_hosts.iter().any(|line| line.split([':', '=']).next() == Some(host))
    }

    /// The program of its health check, and whether a shell starts it.
    pub fn health_program(&self) -> Option<(&str, bool)> {
        let is_shell = self.healthcheck.first()? == "CMD-SHELL";
        let program = self.healthcheck.get(1)?.split_whitespace().next()?;
        let is_plain = program.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
        is_plain.then_some((program, is_shell))
    }

    /// Takes the name that Compose gives its container, where the stack gives none: other containers reach it by that too.
    pub(crate) fn is_called(&mut self, project: &str, separator: char) {
        if self.container_name.is_none() {
            self.hosts.push(format!("{project}{separator}{}{separator}1", self.name));
        }
    }

    /// Whether other containers reach it by this name.
    pub fn is_reached_by(&self, host: &str) -> bool {
        self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// `db:database`: a service, and another name for it.
fn split_link(link: &str) -> (String, String) {
    let (service, name) = link.split_once(':').unwrap_or((link, link));
    (service.into(), name.into())
}

/// How many containers Compose makes of a service, as it prints either of its two settings.
fn replicas(yaml: &Yaml) -> usize {
    let number = [&yaml["deploy"]["replicas"], &yaml["scale"]].into_iter().find_map(Yaml::as_i64);
    number.and_then(|number| number.try_into().ok()).unwrap_or(1)
}

/// A list: of names, which wait for nothing but a start, or a map with conditions.
fn depends_on(yaml: &Yaml) -> BTreeMap<String, String> {
    let condition = |name: &str| scalar(&yaml[name]["condition"]).unwrap_or("service_started".into());
    keys(yaml).into_iter().map(|name| (name.clone(), condition(&name))).into_map()
}

/// A text alone is a script of the shell.
fn healthcheck(yaml: &Yaml) -> Vec<String> {
    let test = match scalar(&yaml["test"]) {
        Some(script) => vec!["CMD-SHELL".into(), script],
        None => list(&yaml["test"]),
    };
    let is_off = yaml["disable"].as_bool() == Some(true) || test.first().is_some_and(|word| word == "NONE");
    if is_off { vec![] } else { test }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::YamlLoader;

    fn service(yaml: &str) -> Service {
        Service::read("kratos", &YamlLoader::load_from_str(yaml).expect("YAML")[0])
    }

    #[test]
    fn both_spellings_of_a_service_read_the_same() {
        let v1 =
            service("{command: serve -c /etc/config/kratos.yml, volumes: ['/home/me/ory:/etc/config:ro']}");
        let v2 = service(
            "{command: [serve, -c, /etc/config/kratos.yml], \
             volumes: [{type: bind, source: /home/me/ory, target: /etc/config}]}",
        );
        for service in [v1, v2] {
            assert_eq!(service.config_files(), ["/etc/config/kratos.yml"]);
            assert_eq!(service.on_host("/etc/config/kratos.yml"), Some("/home/me/ory/kratos.yml".into()));
            assert_eq!(service.on_host("/etc/config2/kratos.yml"), None);
        }
    }

    #[test]
    fn both_spellings_of_secrets_and_configs_read_the_same() {
        let config = |secrets: &str, more: &str| {
            let text = format!(
                "{{services: {{kratos: {{secrets: {secrets}{more}}}}}, secrets: {{kratos: {{file: /s/k.yml}}, \
                 ca: {{file: /s/ca.crt}}, bought: {{external: true}}}}, configs: {{schema: {{file: /c/a.json}}}}}}"
            );
            let config = YamlLoader::load_from_str(&text).expect("YAML").remove(0);
            let mounts = Mount::granted(&config["services"]["kratos"], &config, |_| None);
            mounts
                .into_iter()
                .map(|m| format!("{} {}", m.source.expect("a file").display(), m.target))
                .collect()
        };
        let v1: Vec<_> = config("[{source: kratos, target: kratos.yml}, {source: ca}, bought]", "");
        let v2: Vec<_> = config(
            "[{source: kratos, target: kratos.yml}, {source: ca, target: /run/secrets/ca}, {source: bought}]",
            ", configs: [{source: schema, target: /etc/a.json}, {source: schema}]",
        );
        assert_eq!(v1, ["/s/k.yml /run/secrets/kratos.yml", "/s/ca.crt /run/secrets/ca"]);
        assert_eq!(
            (&v2[..2], &v2[2..]),
            (&v1[..], &["/c/a.json /etc/a.json", "/c/a.json /schema"].map(String::from)[..])
        );
    }

    #[test]
    fn a_volume_is_no_folder_of_the_host() {
        let service =
            service("{volumes: ['db:/data:rw', {type: volume, source: x, target: /x}, /anonymous]}");
        assert!(service.mounts.iter().all(|mount| mount.source.is_none()));
        assert_eq!(service.mounts.len(), 3);
    }

    #[test]
    fn both_spellings_of_ports_waits_and_health_checks_read_the_same() {
        let v1 = service(
            "{ports: ['127.0.0.1:4433:4433/tcp', 4434/tcp, '127.0.0.1::4435/tcp', '53:53/udp'], depends_on: [db], \
             healthcheck: {test: wget x}, tmpfs: /tmp, volumes: ['data:/data:rw']}",
        );
        let v2 = service(
            "{ports: [{host_ip: 127.0.0.1, target: 4433, published: '4433', protocol: tcp}, \
             {target: 4434, protocol: tcp}, {host_ip: 127.0.0.1, target: 4435}, {target: 53, protocol: udp}], \
             depends_on: {db: {condition: service_started}}, healthcheck: {test: [CMD-SHELL, wget x]}, \
             volumes: [{type: tmpfs, target: /tmp}, {type: volume, source: data, target: /data}]}",
        );
        for service in [v1, v2] {
            let ports: Vec<_> =
                service.ports.iter().map(|p| (p.published, p.target, p.is_public())).collect();
            assert_eq!(ports, [(Some(4433), 4433, false), (None, 4434, true), (None, 4435, false)]);
            assert_eq!(service.depends_on["db"], "service_started");
            assert_eq!(service.health_program(), Some(("wget", true)));
            assert_eq!((service.tmpfs, service.mounts.len()), (vec!["/tmp".to_string()], 1));
            assert_eq!(service.mounts[0].volume.as_deref(), Some("data"));
        }
    }

    #[test]
    fn the_script_of_a_shell_is_read_word_by_word() {
        let migrates = service("{entrypoint: [sh, -c], command: ['kratos migrate sql -e --yes -c /k.yml']}");
        assert_eq!((migrates.is_migration(), migrates.config_files()), (true, vec!["/k.yml".to_string()]));
        let serves = service("{command: sh -c 'kratos migrate sql -e --yes && kratos serve -c /k.yml'}");
        assert_eq!((serves.is_migration(), serves.config_files()), (false, vec!["/k.yml".to_string()]));
    }

    #[test]
    fn a_container_name_and_an_alias_are_names_of_the_host() {
        let service = service("{container_name: pg, networks: {default: {aliases: [postgresd]}}}");
        assert!(["kratos", "pg", "postgresd"].iter().all(|host| service.is_reached_by(host)));
        assert!(!service.is_reached_by("db"));
        let mut unnamed = self::service("{}");
        unnamed.is_called("shop", '-');
        assert!(unnamed.is_reached_by("shop-kratos-1") && unnamed.is_reached_by("KRATOS"));
    }
}
