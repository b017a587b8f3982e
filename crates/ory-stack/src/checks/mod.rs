//! What can be wrong with a stack, seen from what Compose resolved and from the files it mounts alone: one table
//! of checks. Those that ask the engine or PostgreSQL are xtask's own.

pub mod absent;
pub mod answers;
pub mod dsns;
pub mod files;
pub mod health;
pub mod images;
pub mod ports;
pub mod secrets;
pub mod start;
pub mod storage;

use std::collections::{BTreeMap, BTreeSet};

use crate::service::Service;
use ory_facts::instance::Instance;
use ory_runner::failure::{Exit, Failure};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will hurt one day.
    Warning,
    /// It doesn't work.
    Failure,
    /// It doesn't work, because a prerequisite isn't there: the engine, an image, a file, a secret.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// The check that found it: a name that stays.
    pub check: &'static str,
    /// The service it is about, or the check itself.
    pub subject: String,
    /// Lower case, no full stop, never a secret.
    pub message: String,
    /// What mends it: a command, or what to change where.
    pub fix: Option<String>,
}

impl Finding {
    /// A finding of the check that is being run.
    pub fn new(level: Level, subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level, check: "", subject: subject.into(), message: message.into(), fix: Some(fix.into()) }
    }

    /// What is said of it, in words.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.message).chain(&mut self.fix)
    }

    /// It works, and will hurt one day.
    pub fn warning(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, message, fix)
    }

    /// It doesn't work.
    pub fn failure(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Failure, subject, message, fix)
    }

    /// A prerequisite isn't there.
    pub fn missing(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Level::Missing, subject, message, fix)
    }

    /// Nothing is wrong with what a check looks at.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, subject: check.into(), message: message.into(), fix: None }
    }

    /// Whether the stack doesn't work as long as this is so.
    pub fn is_failure(&self) -> bool {
        self.level >= Level::Failure
    }
}

/// What the checks look at.
pub struct View<'a> {
    pub services: &'a BTreeMap<String, Service>,
    /// The products, in the order of the migrations; one with several servers is there as often.
    pub products: Vec<Deployed<'a>>,
    /// A network comes from elsewhere, and with it hosts that no service here explains.
    pub has_external_network: bool,
    /// The values of secrets that `.env.example` has.
    pub examples: &'a BTreeSet<String>,
}

/// A product, and its services.
pub struct Deployed<'a> {
    pub product: Instance,
    pub serve: &'a Service,
    /// A one-shot where there is one, else the serving one.
    pub migrate: &'a Service,
}

impl<'a> Deployed<'a> {
    /// Its services, each once.
    pub fn services(&self) -> impl Iterator<Item = &'a Service> {
        let one_shot = (self.migrate.name != self.serve.name).then_some(self.migrate);
        [self.serve].into_iter().chain(one_shot)
    }
}

impl<'a> View<'a> {
    /// The service that other containers reach by this name.
    pub fn reached_by(&self, host: &str) -> Option<&'a Service> {
        self.services.values().find(|service| service.is_reached_by(host))
    }

    /// The database servers that are services of the stack, each once.
    pub fn servers(&self) -> Vec<&'a Service> {
        let hosts = self.products.iter().flat_map(|deployed| dsns::of(self, deployed)).map(|dsn| dsn.host);
        let found: BTreeMap<_, _> =
            hosts.filter_map(|host| self.reached_by(&host)).map(|server| (&server.name, server)).collect();
        found.into_values().collect()
    }

    /// Whether it serves others than its developers: each database is on a server elsewhere, and no product runs
    /// with `--dev`.
    pub fn is_production(&self) -> bool {
        let mut hosts =
            self.products.iter().flat_map(|deployed| dsns::of(self, deployed)).map(|dsn| dsn.host).peekable();
        let is_elsewhere = |host: String| self.reached_by(&host).is_none() && !dsns::is_here(&host);
        let is_dev = |deployed: &Deployed| deployed.serve.words().any(|word| word == "--dev");
        hosts.peek().is_some() && hosts.all(is_elsewhere) && !self.products.iter().any(is_dev)
    }
}

/// A check: its name, what is so when it finds nothing, and how it looks.
pub struct Check {
    pub name: &'static str,
    pub ok: &'static str,
    pub find: fn(&View) -> Vec<Finding>,
    /// `up` shows its warnings too: what it warns of loses data.
    pub hurts: bool,
}

/// Every check, in the order in which they are printed.
pub const CHECKS: &[Check] = &[
    check("files", "the configuration files are there and valid", files::check),
    check("secrets", "long enough, and none is an example's", secrets::check),
    check("dsns", "each names a PostgreSQL database of its own", dsns::check),
    Check { hurts: true, ..check("storage", "the databases are on volumes", storage::check) },
    check("databases", "not left to scripts of an empty volume", storage::check_scripts),
    check("labels", "each that tells a product names one", start::check_labels),
    check("start", "the servers wait for their database", start::check),
    check("admin", "the admin ports are of this machine only", ports::check),
    check("health", "no health check asks for less than readiness", health::check),
    check(
        "tags",
        "each image of Ory and PostgreSQL has a fixed tag, the same to migrate and to serve",
        images::check,
    ),
    check("courier", "it sends to a host that can be there", start::check_courier),
];

const fn check(name: &'static str, ok: &'static str, find: fn(&View) -> Vec<Finding>) -> Check {
    Check { name, ok, find, hurts: false }
}

impl Check {
    /// What it finds, under its name.
    pub fn run(&self, view: &View) -> Vec<Finding> {
        let mut found: Vec<Finding> = vec![];
        for finding in (self.find)(view) {
            let finding = Finding { check: self.name, ..finding };
            // A one-shot of several servers is looked at as often.
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
        found
    }
}

/// What the unit tests of the checks share.
impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        let exit = if finding.level == Level::Missing { Exit::Missing } else { Exit::Failed };
        let Finding { subject, message, fix, .. } = finding;
        let message = if message.contains(&subject) { message } else { format!("{subject}: {message}") };
        let failure = Self::new(exit, message);
        match fix {
            Some(fix) => failure.hint(fix),
            None => failure,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use ory_facts::product::Product;
    use yaml_rust2::YamlLoader;

    /// The smallest stack that nothing is wrong with.
    pub const GOOD: &str = "\
db:
  image: postgres:17-alpine
  labels: {xtask.create-databases: kratos}
  volumes: ['data:/var/lib/postgresql/data']
kratos:
  image: oryd/kratos:v26.2.0
  command: serve --dev
  environment: {DSN: 'postgres://kratos:pw@db/kratos'}
  depends_on: {db: {condition: service_healthy}}
";

    /// What a check finds in a stack: the services of Kratos and Hydra are `kratos`, `hydra` and their `-migrate`.
    pub fn found(check: fn(&View) -> Vec<Finding>, stack: &str) -> Vec<Finding> {
        let yaml = YamlLoader::load_from_str(stack).expect("YAML").remove(0);
        let services = yaml.as_hash().expect("services");
        let services: BTreeMap<_, _> = services
            .iter()
            .map(|(name, yaml)| (name.as_str().expect("a name"), yaml))
            .map(|(name, yaml)| (name.to_string(), Service::read(name, yaml)))
            .collect();
        let deployed = |product: Product| {
            let serve = services.get(product.name())?;
            let migrate = services.get(&format!("{product}-migrate")).unwrap_or(serve);
            Some(Deployed { product: product.into(), serve, migrate })
        };
        let products = Product::ALL.into_iter().filter_map(deployed).collect();
        let examples = BTreeSet::from(["of-the-example".to_string()]);
        check(&View { services: &services, products, has_external_network: false, examples: &examples })
    }

    /// Fails unless a change of the good stack, and nothing of that stack itself, is found, once: the message.
    #[track_caller]
    pub fn finds(check: fn(&View) -> Vec<Finding>, from: &str, to: &str) -> Finding {
        assert_eq!(found(check, GOOD), [], "in the good stack");
        assert!(GOOD.contains(from), "the stack has no {from}");
        let findings = found(check, &GOOD.replace(from, to));
        assert_eq!(findings.len(), 1, "{to}: {findings:?}");
        findings.into_iter().next().expect("a finding")
    }

    /// Fails if something is found in the good stack with a change.
    #[track_caller]
    pub fn accepts(check: fn(&View) -> Vec<Finding>, from: &str, to: &str) {
        assert!(GOOD.contains(from), "the stack has no {from}");
        assert_eq!(found(check, &GOOD.replace(from, to)), [], "{to}");
    }

    #[test]
    fn nothing_is_found_in_a_stack_that_does_it_right() {
        for check in CHECKS {
            assert_eq!(found(check.find, GOOD), [], "{}", check.name);
        }
    }

    #[test]
    fn every_check_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
    }
}
