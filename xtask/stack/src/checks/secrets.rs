//! The secrets: as long as Ory wants them, and not those of an example. None of them is ever in a message.

use yaml_rust2::Yaml;

use super::{Deployed, Finding, View};
use crate::settings;

/// Parts of the values in examples of Ory's documentation and of others', in lower case.
const EXAMPLES: [&str; 6] = [
    "change-me",
    "changeme",
    "needtochangethis",
    "very-insecure",
    "not-secure-at-all",
    "this-is-the-primary-secret",
];

pub fn check(view: &View) -> Vec<Finding> {
    view.products
        .iter()
        .flat_map(|deployed| lengths(deployed).into_iter().chain(examples(deployed)))
        .collect()
}

/// Where a secret is, and what it is: in the environment, else in the files.
pub(crate) fn values(deployed: &Deployed, key: &str) -> (String, Vec<Yaml>) {
    let variable = format!("SECRETS_{}", key.to_uppercase());
    if let Some(text) = deployed.serve.environment.get(&variable).filter(|text| !text.is_empty()) {
        return (variable, text.split(',').map(|part| Yaml::String(part.into())).collect());
    }
    for (file, config) in settings::of(deployed.product, deployed.serve).into_iter().rev() {
        let found = match &config["secrets"][key] {
            Yaml::Array(values) => values.clone(),
            Yaml::BadValue | Yaml::Null => continue,
            value => vec![value.clone()],
        };
        return (format!("secrets.{key} in {file}"), found);
    }
    (String::new(), vec![])
}

fn lengths(deployed: &Deployed) -> Vec<Finding> {
    let service = &deployed.serve.name;
    let mut findings = Vec::new();
    for (key, shortest, longest) in deployed.product.secrets() {
        let (place, values) = values(deployed, key);
        for value in values {
            let Yaml::String(text) = value else {
                let message = format!("{place} isn't text, as Ory wants it");
                findings.push(Finding::failure(service, message, "put it in quotes"));
                continue;
            };
            let length = text.chars().count();
            if (*shortest..=*longest).contains(&length) {
                continue;
            }
            let wanted = if shortest == longest { "exactly" } else { "at least" };
            let message = format!("{place} has {length} characters, not {wanted} {shortest}");
            let fix = format!("make it {wanted} {shortest} characters long");
            findings.push(Finding::failure(service, message, fix));
        }
    }
    findings
}

/// One finding for all that are left in place.
fn examples(deployed: &Deployed) -> Option<Finding> {
    let is_example = |text: &str| {
        let text = text.to_lowercase();
        EXAMPLES.iter().any(|example| text.contains(example))
    };
    let environment = deployed.serve.environment.iter();
    let mut places: Vec<_> =
        environment.filter(|(_, value)| is_example(value)).map(|(name, _)| name.clone()).collect();
    for (file, config) in settings::of(deployed.product, deployed.serve) {
        if settings::strings(&config).into_iter().any(is_example) {
            places.push(file);
        }
    }
    let verb = if places.len() == 1 { "has the value" } else { "have values" };
    let message = format!("{} {verb} of an example, which everybody knows", places.join(", "));
    let fix = "put a random one in its place; where there is data, before it";
    (!places.is_empty()).then(|| Finding::warning(&deployed.serve.name, message, fix))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, accepts, finds, found};
    use super::*;
    use crate::checks::Level;

    const FROM: &str = "environment: {";

    #[test]
    fn a_cipher_of_another_length_than_32_is_found() {
        for (length, is_right) in [(31, false), (32, true), (33, false)] {
            let to = format!("environment: {{SECRETS_CIPHER: {}, ", "x".repeat(length));
            if is_right {
                accepts(check, FROM, &to);
            } else {
                let finding = finds(check, FROM, &to);
                let message = format!("SECRETS_CIPHER has {length} characters, not exactly 32");
                assert_eq!((finding.level, finding.message), (Level::Failure, message));
            }
        }
    }

    #[test]
    fn any_other_secret_that_is_shorter_than_16_is_found() {
        let finding =
            finds(check, FROM, "environment: {SECRETS_COOKIE: 'long-enough-for-it,x23456789012345', ");
        assert_eq!(finding.message, "SECRETS_COOKIE has 15 characters, not at least 16");
        accepts(check, FROM, "environment: {SECRETS_COOKIE: x234567890123456, ");
        let hydra = |secret: &str| format!("{GOOD}hydra: {{environment: {{SECRETS_SYSTEM: {secret}}}}}\n");
        assert_eq!(found(check, &hydra("x23456789012345")).len(), 1);
        assert_eq!(found(check, &hydra("x234567890123456")), []);
    }

    #[test]
    fn a_secret_in_a_file_counts_where_the_environment_has_none_and_must_be_text() {
        let file = std::env::temp_dir().join(format!("ory-facts-{}-secrets.yml", std::process::id()));
        let mounted = format!("command: serve -c /k.yml\n  volumes: ['{}:/k.yml']", file.display());
        let stack = GOOD.replace("command: serve --dev", &mounted);
        for (secret, message) in [
            ("short", Some("secrets.cookie in /k.yml has 5 characters, not at least 16")),
            ("1234567890123456", Some("secrets.cookie in /k.yml isn't text, as Ory wants it")),
            ("'1234567890123456'", None),
        ] {
            std::fs::write(&file, format!("secrets: {{cookie: [{secret}]}}\n")).expect("a file");
            let messages: Vec<_> = found(check, &stack).into_iter().map(|finding| finding.message).collect();
            assert_eq!(messages, message.into_iter().collect::<Vec<_>>());
            let set = stack.replace(FROM, "environment: {SECRETS_COOKIE: x234567890123456, ");
            assert_eq!(found(check, &set), [], "{secret}");
        }
        std::fs::remove_file(&file).expect("removed");
    }

    #[test]
    fn the_values_of_examples_are_found_without_being_shown() {
        for value in ["PLEASE-CHANGE-ME-I-AM-VERY-INSECURE", "youReallyNeedToChangeThis"] {
            let finding = finds(check, FROM, &format!("environment: {{SECRETS_COOKIE: {value}, "));
            assert_eq!(finding.level, Level::Warning);
            assert_eq!(finding.message, "SECRETS_COOKIE has the value of an example, which everybody knows");
        }
    }
}
