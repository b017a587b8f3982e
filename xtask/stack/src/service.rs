//! A service as `compose config` prints it, in the spellings of Compose v2 and of docker-compose 1.29.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::learned::replicas;
use ory_facts::product::Product;
use yaml_rust2::Yaml;

/// Where Compose mounts secrets.
const SECRETS: &str = "/run/secrets";

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
    /// Names other containers reach it by.
    hosts: Vec<String>,
}

/// A file or folder of the host, or a volume, inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host; none for a volume.
    pub source: Option<PathBuf>,
    /// The volume's name in the Compose file; none for a path, and for a volume without a name.
    pub volume: Option<String>,
    pub target: String,
    /// Docker makes a folder where nothing is.
    pub is_made: bool,
}

/// A TCP port that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address it is published at; none: every address of the machine.
    pub host: Option<String>,
    /// The port on the host; none where the engine chooses one.
    pub published: Option<u16>,
    pub target: u16,
}

impl Service {
    /// Reads `services.NAME` of the configuration.
    pub fn read(name: &str, yaml: &Yaml) -> Self {
        let container_name = scalar(&yaml["container_name"]);
        let extra_hosts = container_name.clone().into_iter().chain(scalar(&yaml["hostname"]));
        let networks = yaml["networks"].as_hash().into_iter().flatten();
        let aliases = networks.flat_map(|(_, network)| list(&network["aliases"]));
        let volumes = || yaml["volumes"].as_vec().into_iter().flatten();
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
            ports: yaml["ports"].as_vec().into_iter().flatten().filter_map(Port::read).collect(),
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
        }
    }

    /// Every word of its entrypoint and command, those inside a `sh -c` script among them.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().chain(&self.command).flat_map(|word| word.split_whitespace())
    }

    /// Whether it only migrates: a script may migrate before it serves.
    pub fn is_migration(&self) -> bool {
        let has = |wanted: &str| self.words().any(|word| word == wanted);
        has("migrate") && !has("serve")
    }

    /// The configuration files it is started with: what follows each `-c` or `--config`.
    pub fn config_files(&self) -> Vec<String> {
        let words: Vec<_> = self.words().collect();
        let mut files = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let file = match word.split_once('=') {
                Some(("-c" | "--config", file)) => Some(file),
                _ if ["-c", "--config"].contains(word) => words.get(index + 1).copied(),
                _ => None,
            };
            // The `-c` of a shell is followed by a script.
            files.extend(file.filter(|file| file.contains(['/', '.'])).map(String::from));
        }
        files
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

    /// Whether it may reach a host that is no service of the stack: a bare name is a typo, unless another
    /// project's network or a line of extra_hosts explains it.
    pub fn may_reach(&self, host: &str, has_external_network: bool) -> bool {
        host.contains(['.', ':'])
            || has_external_network
            || self.extra_hosts.iter().any(|line| line.starts_with(host))
    }

    /// The program of its health check, and whether a shell starts it.
    pub fn health_program(&self) -> Option<(&str, bool)> {
        let is_shell = self.healthcheck.first()? == "CMD-SHELL";
        let program = self.healthcheck.get(1)?.split_whitespace().next()?;
        let is_plain = program.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
        is_plain.then_some((program, is_shell))
    }

    /// Whether other containers reach it by this name.
    pub fn is_reached_by(&self, host: &str) -> bool {
        self.hosts.iter().any(|name| name == host)
    }
}

impl Mount {
    /// The files of the host that the `secrets:` and `configs:` of a service bring, as the whole configuration
    /// defines them.
    pub fn granted(service: &Yaml, config: &Yaml) -> Vec<Self> {
        let of_kind = |(kind, folder): (&'static str, &'static str)| {
            let granted = service[kind].as_vec().into_iter().flatten();
            granted.filter_map(move |granted| {
                let name = scalar(granted).or_else(|| scalar(&granted["source"]))?;
                let source = scalar(&config[kind][name.as_str()]["file"])?;
                let target = scalar(&granted["target"]).unwrap_or(name);
                let target = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
                Some(Self { source: Some(source.into()), volume: None, target, is_made: false })
            })
        };
        [("secrets", SECRETS), ("configs", "")].into_iter().flat_map(of_kind).collect()
    }

    /// Whether Compose mounts it as a secret.
    pub fn is_secret(&self) -> bool {
        self.target.starts_with(SECRETS)
    }

    fn read(yaml: &Yaml) -> Option<Self> {
        if let Some(text) = yaml.as_str() {
            // 1.29: SOURCE:TARGET:MODE, or TARGET alone for an anonymous volume.
            let mut parts: Vec<_> = text.split(':').collect();
            if parts.len() > 2 && !parts.last()?.starts_with('/') {
                parts.pop();
            }
            let target = parts.pop()?.to_string();
            let source = parts.join(":");
            let is_path = source.starts_with(['/', '.', '~', '\\']) || source.get(1..3) == Some(":\\");
            let volume = (!is_path && !source.is_empty()).then(|| source.clone());
            return Some(Self { source: is_path.then(|| source.into()), volume, target, is_made: is_path });
        }
        let is_bind = yaml["type"].as_str() == Some("bind");
        let source = scalar(&yaml["source"]);
        let (source, volume) = if is_bind { (source.map(PathBuf::from), None) } else { (None, source) };
        let is_made = yaml["bind"]["create_host_path"].as_bool() == Some(true);
        Some(Self { source, volume, target: scalar(&yaml["target"])?, is_made })
    }
}

impl Port {
    fn read(yaml: &Yaml) -> Option<Self> {
        if !yaml["target"].is_badvalue() {
            let is_tcp = yaml["protocol"].as_str().is_none_or(|protocol| protocol == "tcp");
            let number = |name: &str| scalar(&yaml[name])?.parse().ok();
            let host = scalar(&yaml["host_ip"]).filter(|host| !host.is_empty());
            let port = Self { host, published: number("published"), target: number("target")? };
            return is_tcp.then_some(port);
        }
        // 1.29: HOST:PUBLISHED:TARGET/PROTOCOL, of which all but TARGET may be left out.
        let text = scalar(yaml)?;
        let (text, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (before, target) = text.rsplit_once(':').unwrap_or(("", text));
        let (host, published) = before.rsplit_once(':').unwrap_or(("", before));
        let host = Some(host.trim_matches(['[', ']']).to_string()).filter(|host| !host.is_empty());
        let port = Self { host, published: published.parse().ok(), target: target.parse().ok()? };
        (protocol == "tcp").then_some(port)
    }

    /// Whether other machines reach it.
    pub fn is_public(&self) -> bool {
        self.host.as_deref().is_none_or(|host| ["0.0.0.0", "::"].contains(&host))
    }
}

/// A list: of names, which wait for nothing but a start, or a map with conditions.
fn depends_on(yaml: &Yaml) -> BTreeMap<String, String> {
    let condition = |name: &str| scalar(&yaml[name]["condition"]).unwrap_or("service_started".into());
    keys(yaml).into_iter().map(|name| (name.clone(), condition(&name))).collect()
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

/// A scalar as text, however YAML typed it.
pub fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// One text, or a list of them.
fn texts(yaml: &Yaml) -> Vec<String> {
    scalar(yaml).map_or_else(|| list(yaml), |text| vec![text])
}

fn list(yaml: &Yaml) -> Vec<String> {
    yaml.as_vec().into_iter().flatten().filter_map(scalar).collect()
}

/// A command: a list in v2, one string of shell words in 1.29.
fn words(yaml: &Yaml) -> Vec<String> {
    match scalar(yaml) {
        Some(text) => shlex::split(&text).unwrap_or_else(|| vec![text]),
        None => list(yaml),
    }
}

fn map(yaml: &Yaml) -> BTreeMap<String, String> {
    let pairs = yaml.as_hash().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((scalar(key)?, scalar(value).unwrap_or_default()))).collect()
}

fn keys(yaml: &Yaml) -> Vec<String> {
    match yaml.as_hash() {
        Some(hash) => hash.keys().filter_map(scalar).collect(),
        None => list(yaml),
    }
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
            let mounts = Mount::granted(&config["services"]["kratos"], &config);
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
    }
}
