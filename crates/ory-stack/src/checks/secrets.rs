//! The secrets: as long as Ory wants them, and not those of an example, which `up` refuses in production. None of
//! them is ever in a message.

use yaml_rust2::Yaml;

use super::finding::Finding;
use super::view::{Deployed, View};
use crate::given::{self, Setting};
use crate::settings;
use ory_facts::dsn::Dsn;
use ory_facts::sorted::Sorted;

/// Parts of the values in examples of Ory's documentation and of others', in lower case, without what separates words.
const EXAMPLES: [&str; 5] =
    ["changeme", "needtochangethis", "veryinsecure", "notsecureatall", "thisistheprimarysecret"];

/// The same of what only a secret is called: what people write where somebody else is to write another one.
const PLACEHOLDERS: [&str; 20] = [
    "placeholder",
    "changethis",
    "changeit",
    "changebefore",
    "replaceme",
    "replacethis",
    "replacewith",
    "fillme",
    "fillin",
    "setme",
    "yoursecret",
    "yourpassword",
    "yourclientsecret",
    "yourown",
    "insecure",
    "donotuse",
    "dontuse",
    "notforproduction",
    "examplesecret",
    "supersecret",
];

/// What is tried first where a secret is wanted, in lower case.
const GUESSES: [&str; 10] =
    ["secret", "password", "passw0rd", "postgres", "admin", "root", "test", "example", "default", "123456"];

pub fn check(view: &View) -> Vec<Finding> {
    let found = |deployed| lengths(deployed).into_iter().chain(examples(view, deployed));
    view.products.iter().flat_map(found).collect()
}

/// Where a secret is, and what it is: in the environment, else in the files.
pub(crate) fn values(deployed: &Deployed, key: &str) -> (String, Vec<Yaml>) {
    let variable = format!("SECRETS_{}", key.to_uppercase());
    if let Some(text) = deployed.serve.environment.get(&variable).filter(|text| !text.is_empty()) {
        return (variable, text.split(',').map(|part| Yaml::String(part.into())).collect());
    }
    for (file, config) in settings::of(deployed.product.kind, deployed.serve).into_iter().rev() {
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

/// One finding for all that are left in place: a warning, in production a prerequisite that is missing.
fn examples(view: &View, deployed: &Deployed) -> Option<Finding> {
    let is_production = view.is_production();
    let is_known =
        |secret: &String| view.examples.contains(secret) || GUESSES.contains(&secret.to_lowercase().as_str());
    let is_users_name = |text: &str| Dsn::parse(text).is_ok_and(|dsn| dsn.password == dsn.user);
    let is_found = |Setting { value, .. }: &Setting, secrets: &[String]| {
        has(&EXAMPLES, value)
            || secrets.iter().any(|secret| is_placeholder(secret))
            || is_production && (secrets.iter().any(is_known) || is_users_name(value))
    };
    let settings = deployed.services().flat_map(given::all);
    let settings = settings.filter(|setting| is_found(setting, &setting.secrets()));
    let found: Vec<_> = settings.collect();
    let places = found.iter().map(|setting| setting.place.clone()).into_set();
    let verb = if places.len() == 1 { "has the value" } else { "have values" };
    let places = places.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("{places} {verb} of an example, which everybody knows");
    let new = if is_production { Finding::missing } else { Finding::warning };
    (!found.is_empty()).then(|| new(&deployed.serve.name, message, advice(&found)))
}

/// Whether a setting is of a kind, and what to do then.
type Kind = (fn(&Setting) -> bool, &'static str);

/// What to do, of each kind of secret among those found.
fn advice(found: &[Setting]) -> String {
    let kinds: [Kind; 4] = [
        (
            Setting::is_rotated,
            "replace it with a random one (openssl rand -hex 16); if there is data, put the new one before it",
        ),
        (
            Setting::is_salt,
            "if there are pairwise clients, keep the salt, as another one makes other subjects of all; else put a \
             random one there (openssl rand -hex 16)",
        ),
        (
            |setting| setting.value.contains("://"),
            "give the login another password where it is checked (in PostgreSQL: ALTER ROLE name PASSWORD 'random'), and \
             put it in the address",
        ),
        (|_| true, "have another one made where it comes from, and put it there"),
    ];
    let kind_of = |setting: &Setting| kinds.iter().position(|(is_it, _)| is_it(setting));
    let found: Vec<_> = found.iter().filter_map(kind_of).collect();
    let advice = (0..).zip(&kinds).filter(|(kind, _)| found.contains(kind)).map(|(_, (_, advice))| *advice);
    advice.collect::<Vec<_>>().join("; ")
}

fn has(parts: &[&str], value: &str) -> bool {
    let letters: String = value.chars().filter(|c| c.is_alphanumeric()).collect();
    let letters = letters.to_lowercase();
    parts.iter().any(|part| letters.contains(part))
}

/// Whether a secret is what somebody else is to replace.
fn is_placeholder(secret: &str) -> bool {
    let marks = [("<", ">"), ("{{", "}}"), ("__", "__")];
    let is_marked = marks.iter().any(|(open, close)| secret.starts_with(open) && secret.ends_with(close));
    let is_todo = ["todo", "fixme", "tbd"].iter().any(|word| secret.to_lowercase().starts_with(word));
    is_marked || is_todo || has(&PLACEHOLDERS, secret)
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
        for value in [
            "PLEASE-CHANGE-ME-I-AM-VERY-INSECURE",
            "youReallyNeedToChangeThis",
            "change_me_in_production1",
            "PLACEHOLDER_COOKIE_SECRET",
            "<a-secret-of-your-own>",
            "TODO-generate-this-one",
            "your.secret.goes.here",
        ] {
            let finding = finds(check, FROM, &format!("environment: {{SECRETS_COOKIE: {value}, "));
            assert_eq!(finding.level, Level::Warning);
            assert_eq!(finding.message, "SECRETS_COOKIE has the value of an example, which everybody knows");
        }
    }

    #[test]
    fn the_advice_fits_what_it_is() {
        let fix = |environment: &str| finds(check, FROM, &format!("environment: {{{environment}, ")).fix;
        let starts = |environment: &str, start: &str| {
            let fix = fix(environment).expect("a fix");
            assert!(fix.starts_with(start), "{fix}");
        };
        starts("SECRETS_COOKIE: change_me_x2345678", "replace it with a random one");
        starts("X_SALT: change_me_x2345678", "if there are pairwise clients, keep the salt");
        starts("X_URI: 'smtp://me:change-me@mail:25'", "give the login another password where it is checked");
        starts("X_CLIENT_SECRET: PLACEHOLDER1", "have another one made where it comes from");
        accepts(check, FROM, "environment: {LOGO_URL: 'https://placeholder.example/insecure.png', ");
    }

    #[test]
    fn in_production_a_secret_that_everybody_knows_is_missing_and_elsewhere_it_is_not() {
        let production = |environment: &str| {
            GOOD.replace(" --dev", "").replace("{DSN: 'postgres://kratos:pw@db/kratos'}", environment)
        };
        let dsn = |password: &str| format!("{{DSN: 'postgres://kratos:{password}@db.example.com/kratos'");
        for (secret, is_known) in
            [("of-the-example", true), ("Password", true), ("please-CHANGE-ME", true), ("zKq1vW7", false)]
        {
            let environment = format!("{}, X_SECRET: {secret}}}", dsn("zKq1vW7"));
            for (environment, place) in [(environment, "X_SECRET"), (dsn(secret) + "}", "DSN")] {
                let findings = found(check, &production(&environment));
                assert_eq!(findings.len(), usize::from(is_known), "{environment}: {findings:?}");
                let message = format!("{place} has the value of an example, which everybody knows");
                let is_right =
                    |finding: &Finding| (finding.level, &finding.message) == (Level::Missing, &message);
                assert!(findings.iter().all(is_right), "{findings:?}");
            }
        }
        assert_eq!(found(check, &production(&(dsn("kratos") + "}"))).len(), 1);
        // One that a developer runs, on a server elsewhere, on this machine, or of the stack.
        let environment = dsn("password") + "}";
        assert_eq!(found(check, &production(&environment).replace("serve", "serve --dev")), []);
        assert_eq!(found(check, &production(&environment.replace("db.example.com", "localhost"))), []);
        assert_eq!(found(check, &production(&environment.replace("db.example.com", "db"))), []);
    }
}
