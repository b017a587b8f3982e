//! What of the machine is in a container: files, folders, volumes and texts that are mounted, and ports that are published.

use std::path::PathBuf;

use yaml_rust2::Yaml;

use crate::text::{items, scalar};

/// Where Compose mounts secrets.
const SECRETS: &str = "/run/secrets";

/// A file or folder of the host, or a volume, inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host; none for a volume.
    pub source: Option<PathBuf>,
    /// What is in it, where the Compose file or a variable has that.
    pub content: Option<String>,
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

impl Mount {
    /// The files that the `secrets:` and `configs:` of a service bring, as the whole configuration defines them:
    /// those of the host, what it has in itself, and what `variable` has.
    pub fn granted(service: &Yaml, config: &Yaml, variable: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        let variable = &variable;
        let of_kind = |(kind, folder): (&'static str, &'static str)| {
            let granted = items(&service[kind]).iter();
            granted.filter_map(move |granted| {
                let name = scalar(granted).or_else(|| scalar(&granted["source"]))?;
                let defined = &config[kind][name.as_str()];
                let source = scalar(&defined["file"]).map(PathBuf::from);
                let content = scalar(&defined["content"]);
                let content = content.or_else(|| variable(&scalar(&defined["environment"])?));
                if source.is_none() && content.is_none() {
                    return None;
                }
                let target = scalar(&granted["target"]).unwrap_or(name);
                let target = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
                Some(Self { source, content, volume: None, target, is_made: false })
            })
        };
        [("secrets", SECRETS), ("configs", "")].into_iter().flat_map(of_kind).collect()
    }

    /// Whether Compose mounts it as a secret.
    pub fn is_secret(&self) -> bool {
        self.target.starts_with(SECRETS)
    }

    pub(crate) fn read(yaml: &Yaml) -> Option<Self> {
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
            let source = is_path.then(|| source.into());
            return Some(Self { source, content: None, volume, target, is_made: is_path });
        }
        let is_bind = yaml["type"].as_str() == Some("bind");
        let source = scalar(&yaml["source"]);
        let (source, volume) = if is_bind { (source.map(PathBuf::from), None) } else { (None, source) };
        let is_made = yaml["bind"]["create_host_path"].as_bool() == Some(true);
        Some(Self { source, content: None, volume, target: scalar(&yaml["target"])?, is_made })
    }
}

impl Port {
    pub(crate) fn read(yaml: &Yaml) -> Option<Self> {
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

/// Whether a stack has `configs:` or `secrets:` that are the value of a variable.
pub fn has_variable_files(config: &Yaml) -> bool {
    ["configs", "secrets"].into_iter().any(|kind| {
        let mut files = config[kind].as_hash().into_iter().flatten();
        files.any(|(_, file)| !file["environment"].is_badvalue())
    })
}
