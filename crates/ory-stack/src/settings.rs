//! An Ory configuration file, read where a mount has it on the host: YAML, and JSON with it, or TOML.

use std::path::Path;

use anyhow::{Context, Result};
use toml_span::value::ValueInner;
use yaml_rust2::{Yaml, YamlLoader};

use crate::service::Service;
use crate::text::scalar;
use ory_facts::product::Product;

/// Reads a file that the container of a service names.
pub fn read(service: &Service, file: &str) -> Result<Yaml> {
    if let Some(text) = service.content_of(file) {
        return parse(Path::new(file), text);
    }
    let path =
        service.on_host(file).with_context(|| format!("{file} is on no mount of `{}`", service.name))?;
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    parse(&path, &text)
}

/// The files that a product's service is started with, else its default one, that a mount has on the host, as they
/// are read. Of two that have a setting, the later one counts. One that can't be read is left out.
pub fn of(product: Product, service: &Service) -> Vec<(String, Yaml)> {
    let mut files = service.config_files();
    if files.is_empty() {
        files.extend(product.default_config().map(String::from));
    }
    files.into_iter().filter_map(|file| Some((file.clone(), read(service, &file).ok()?))).collect()
}

/// The listeners that a product's service starts, each with its port, as its environment, its configuration file or its own
/// defaults say. One that listens at a socket file has none.
pub fn listeners(product: Product, service: &Service) -> Vec<(&'static str, Option<u16>)> {
    let configs = of(product, service);
    let setting = |name: &str, key: &str| {
        let variable = format!("SERVE_{}_{}", name.to_uppercase(), key.to_uppercase());
        let named = service.environment.get(&variable).cloned();
        named.or_else(|| configs.iter().rev().find_map(|(_, config)| scalar(&config["serve"][name][key])))
    };
    let listener = |(name, default): &(&'static str, u16)| {
        let is_file = setting(name, "host").is_some_and(|host| host.starts_with("unix:"));
        let port = setting(name, "port").and_then(|port| port.parse().ok()).unwrap_or(*default);
        (*name, (!is_file).then_some(port))
    };
    // `serve public` starts one of them.
    let mut words = service.words().skip_while(|word| *word != "serve").skip(1);
    let only = words.next().filter(|word| product.listeners().iter().any(|(name, _)| name == word));
    let is_started = |(name, _): &&(&str, u16)| only.is_none_or(|only| only == *name);
    product.listeners().iter().filter(is_started).map(listener).collect()
}

/// Whether all that its settings are in is at hand: a file that is in its image isn't.
pub fn are_known(product: Product, service: &Service) -> bool {
    let files = service.config_files();
    let is_unread = |file: &String| read(service, file).is_err();
    !files.iter().any(is_unread)
        && (!files.is_empty() || product.default_config().is_none() || !service.is_built)
}

/// Reads the text of a file, whose name tells its format.
pub fn parse(path: &Path, text: &str) -> Result<Yaml> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        let value = toml_span::parse(text).with_context(|| format!("{} isn't TOML", path.display()))?;
        return Ok(from_toml(value.as_ref()));
    }
    let documents =
        YamlLoader::load_from_str(text).with_context(|| format!("{} isn't YAML", path.display()))?;
    documents.into_iter().next().with_context(|| format!("{} is empty", path.display()))
}

fn from_toml(value: &ValueInner) -> Yaml {
    match value {
        ValueInner::String(text) => Yaml::String(text.to_string()),
        ValueInner::Integer(number) => Yaml::Integer(*number),
        ValueInner::Float(number) => Yaml::Real(number.to_string()),
        ValueInner::Boolean(value) => Yaml::Boolean(*value),
        ValueInner::Array(items) => Yaml::Array(items.iter().map(|item| from_toml(item.as_ref())).collect()),
        ValueInner::Table(pairs) => {
            let pair = |(key, value): (&toml_span::value::Key, &toml_span::Value)| {
                (Yaml::String(key.name.to_string()), from_toml(value.as_ref()))
            };
            Yaml::Hash(pairs.iter().map(pair).collect())
        }
    }
}

/// Every string of a document.
pub fn strings(yaml: &Yaml) -> Vec<&str> {
    match yaml {
        Yaml::String(text) => vec![text],
        Yaml::Array(items) => items.iter().flat_map(strings).collect(),
        Yaml::Hash(pairs) => pairs.values().flat_map(strings).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_are_those_that_the_settings_and_the_command_name() {
        let read = |yaml: &str| {
            let yaml = YamlLoader::load_from_str(yaml).expect("YAML").remove(0);
            listeners(Product::Hydra, &Service::read("hydra", &yaml))
        };
        assert_eq!(read("command: serve all"), [("public", Some(4444)), ("admin", Some(4445))]);
        assert_eq!(read("command: serve admin --dev"), [("admin", Some(4445))]);
        let moved = "{command: serve all, environment: {SERVE_PUBLIC_PORT: 80, SERVE_ADMIN_HOST: 'unix:/run/h.sock'}}";
        assert_eq!(read(moved), [("public", Some(80)), ("admin", None)]);
    }

    #[test]
    fn a_setting_reads_the_same_in_each_format() {
        for (file, text) in [
            ("kratos.yml", "dsn: postgres://a\nserve:\n  public:\n    port: 4433\n"),
            ("kratos.json", r#"{"dsn": "postgres://a", "serve": {"public": {"port": 4433}}}"#),
            ("kratos.toml", "dsn = \"postgres://a\"\n[serve.public]\nport = 4433\n"),
        ] {
            let config = parse(Path::new(file), text).expect(file);
            assert_eq!(config["dsn"].as_str(), Some("postgres://a"), "{file}");
            assert_eq!(config["serve"]["public"]["port"].as_i64(), Some(4433), "{file}");
            assert_eq!(strings(&config), ["postgres://a"], "{file}");
        }
    }
}
