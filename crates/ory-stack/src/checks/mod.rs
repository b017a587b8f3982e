//! What can be wrong with a stack, seen from what Compose resolved and from the files it mounts alone: one table
//! of checks. Those that ask the engine or PostgreSQL are xtask's own.

pub mod absent;
pub mod answers;
pub mod dsns;
pub mod files;
mod finding;
pub mod health;
pub mod images;
pub mod ports;
pub mod secrets;
pub mod start;
pub mod storage;
mod view;

pub use finding::{Finding, Level};
pub use view::{Deployed, View};

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

#[cfg(test)]
pub mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::dsns::Dsns;
    use crate::service::Service;
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
        let dsns = Dsns::read(&services);
        let deployed = |product: Product| {
            let serve = services.get(product.name())?;
            let migrate = services.get(&format!("{product}-migrate")).unwrap_or(serve);
            Some(Deployed { product: product.into(), serve, migrate, dsns: &dsns })
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
