//! The texts that a service is given, by its environment and by its files, and what of each is a secret.

use std::collections::BTreeSet;
use std::path::Path;

use ory_facts::dsn::Dsn;
use ory_facts::secret_names::{Sureness, looks_secret, sureness, sureness_of_path};
use ory_facts::secrets;
use ory_facts::sorted::Sorted;
use yaml_rust2::{Yaml, YamlLoader};

use crate::env_file;
use crate::service::Service;
use crate::settings;
use crate::text::scalar;

/// A file that is longer than this is no secret's.
const LONGEST: u64 = 16 * 1024;

/// A text that a service is given.
pub struct Setting {
    /// Where it is written, in words.
    pub place: String,
    pub value: String,
    /// The keys that lead to it, the outermost first; of a variable only its name.
    path: Vec<String>,
}

impl Setting {
    /// What of it nobody may see: all of a secret, each where there are several, and the passwords of addresses.
    pub fn secrets(&self) -> Vec<String> {
        let is_secret = match sureness_of_path(&self.path) {
            Sureness::Sure => !["true", "false"].contains(&self.value.as_str()),
            Sureness::Likely => looks_secret(&self.value),
            Sureness::No => false,
        };
        let parts = self.value.split(',').chain([self.value.as_str()]);
        let named = parts.filter(|part| is_secret && !part.is_empty()).map(String::from);
        let dsn = Dsn::parse(&self.value).ok().map(|dsn| dsn.password);
        named.chain(dsn).chain(secrets::of_url(&self.value)).collect()
    }

    /// It is one of a list whose first encrypts, and each decrypts.
    pub fn is_rotated(&self) -> bool {
        let first = self.path.first().map(String::as_str).unwrap_or_default();
        first == "secrets" || first.starts_with("SECRETS_")
    }

    /// The subjects that Hydra gives to clients come from it.
    pub fn is_salt(&self) -> bool {
        self.path.last().is_some_and(|key| key.to_ascii_lowercase().ends_with("salt"))
    }
}

/// The texts that a service is given.
pub fn all(service: &Service) -> Vec<Setting> {
    let mut found = vec![];
    for (name, value) in &service.environment {
        // Ory takes what is more than a text as JSON.
        if value.starts_with(['{', '[']) {
            let json = YamlLoader::load_from_str(value).unwrap_or_default();
            json.iter().for_each(|json| collect(json, &mut vec![name.clone()], name, &mut found));
        }
        found.push(Setting { place: name.clone(), value: value.clone(), path: vec![name.clone()] });
        let file = name.to_uppercase().strip_suffix("_FILE").map(|name| sureness(name) != Sureness::No);
        if let Some(path) = service.on_host(value).filter(|_| file == Some(true)) {
            found.extend(whole(&path, format!("{name} ({value})")));
        }
    }
    let configs = service.config_files();
    for file in &configs {
        let config = settings::read(service, file).unwrap_or(Yaml::Null);
        collect(&config, &mut vec![], &format!(" in {file}"), &mut found);
    }
    let granted = service.mounts.iter().filter(|mount| mount.is_secret() && !configs.contains(&mount.target));
    let granted = granted.filter_map(|mount| match &mount.content {
        Some(text) => Some(as_secret(text, mount.target.clone())),
        None => whole(mount.source.as_ref()?, mount.target.clone()),
    });
    found.extend(granted.collect::<Vec<_>>());
    found
}

/// A text that is a secret as a whole.
fn as_secret(text: &str, place: String) -> Setting {
    Setting { place, value: text.trim().into(), path: vec!["secrets".into()] }
}

/// The values in `.env.example` that stand for a secret, the passwords of DSNs among them.
pub fn examples(dir: &Path) -> BTreeSet<String> {
    let text = env_file::read_if_there(&dir.join(".env.example")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let is_secret = |name: &str| name.contains("DSN") || sureness(name) != Sureness::No;
    let values = pairs.filter(|(name, _)| !name.starts_with('#') && is_secret(name));
    let secret = |value: String| Dsn::parse(&value).map_or(value, |dsn| dsn.password);
    values.map(|(_, value)| secret(env_file::unquoted(value))).filter(|value| !value.is_empty()).into_set()
}

/// A file that is a secret as a whole.
fn whole(path: &Path, place: String) -> Option<Setting> {
    path.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= LONGEST)?;
    Some(as_secret(&std::fs::read_to_string(path).ok()?, place))
}

/// Every text of a document, with the keys that lead to it. `place` is the file, or the variable that it is all in.
fn collect(yaml: &Yaml, path: &mut Vec<String>, place: &str, found: &mut Vec<Setting>) {
    match yaml {
        Yaml::Array(items) => items.iter().for_each(|item| collect(item, path, place, found)),
        Yaml::Hash(pairs) => {
            for (key, value) in pairs {
                path.push(scalar(key).unwrap_or_default());
                collect(value, path, place, found);
                path.pop();
            }
        }
        _ => {
            if let Some(value) = scalar(yaml) {
                let place =
                    if place.starts_with(' ') { format!("{}{place}", path.join(".")) } else { place.into() };
                found.push(Setting { place, value, path: path.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_service_are_in_variables_in_json_and_in_files() {
        let dir = std::env::temp_dir().join(format!("ory-stack-given-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let config = "selfservice: {methods: {oidc: {config: {providers: [{id: google, client_secret: of-file}]}}}}\n\
                      courier: {smtp: {connection_uri: 'smtps://me:of%2Fmail@mail:465/'}, channels: [{request_config: \
                      {auth: {type: api_key, config: {name: X, value: of-channel}}, headers: {Authorization: of-header, \
                      Content-Type: application/json}}}]}\noidc: {subject_identifiers: {pairwise: {salt: of-the-salt}}}\n\
                      ttl: {access_token: 720h}\nserve: {tls: {key: {path: /etc/key.pem}}}\n";
        std::fs::write(dir.join("kratos.yml"), config).expect("a file");
        std::fs::write(dir.join("password"), "of-secret-file\n").expect("a file");
        let yaml = format!(
            "{{command: serve -c /c/kratos.yml, volumes: ['{}:/c'], environment: {{X_CONFIG_PROVIDERS: \
             '[{{\"id\": \"google\", \"client_secret\": \"of-json\"}}]', DB_PASSWORD_FILE: /c/password, \
             API_TOKEN: of-token1, TTL_ACCESS_TOKEN: 720h, DB_PASSWORD: 'one,two-of-it', LOG_LEVEL: debug}}}}",
            dir.display()
        );
        let yaml = YamlLoader::load_from_str(&yaml).expect("YAML").remove(0);
        let mut secrets: Vec<_> =
            all(&Service::read("kratos", &yaml)).iter().flat_map(Setting::secrets).collect();
        secrets.sort();
        std::fs::remove_dir_all(&dir).expect("removed");
        let expected = [
            "of%2Fmail",
            "of-channel",
            "of-file",
            "of-header",
            "of-json",
            "of-secret-file",
            "of-the-salt",
            "of-token1",
            "of/mail",
            "one",
            "one,two-of-it",
            "two-of-it",
        ];
        secrets.dedup();
        assert_eq!(secrets, expected);
    }
}
