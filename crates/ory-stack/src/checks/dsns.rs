//! The DSNs: usable, a place of its own for each product, and the same one wherever it is written.

use super::finding::Finding;
use super::view::{Deployed, View};
use crate::dsns::Database;
use crate::reach;
use crate::service::Service;
use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;
use ory_facts::next::XTASK;
use ory_facts::product::Product;

/// The DSN that counts for a service of a product, and the file that has it where the environment doesn't.
pub struct Written<'a> {
    pub service: &'a Service,
    pub file: Option<String>,
    pub dsn: Dsn,
}

/// Where the DSNs of a product are written that count, the migrating service's first.
pub fn written<'a>(deployed: &Deployed<'a>) -> Vec<Written<'a>> {
    let mut services: Vec<_> = deployed.services().collect();
    services.reverse();
    let of = |service| {
        let own = deployed.dsns.of(deployed.product.kind, service)?;
        let dsn = own.database.as_ref().ok()?.written.clone();
        Some(Written { service, file: own.source.file.clone(), dsn })
    };
    services.into_iter().filter_map(of).collect()
}

pub fn check(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    for deployed in &view.products {
        for service in deployed.services() {
            findings.extend(check_service(view, deployed, service));
        }
    }
    // Each product of a schema is told when it is its turn; here the worst of them stands for all.
    findings.extend(check_sharing(view).into_iter().rev().max_by_key(|finding| finding.level));
    findings
}

fn check_service(view: &View, deployed: &Deployed, service: &Service) -> Vec<Finding> {
    let Some(own) = deployed.dsns.of(deployed.product.kind, service) else { return vec![] };
    let origin = own.source.file.as_deref().unwrap_or("the environment");
    let mut findings = Vec::new();
    match &own.database {
        Err(fault) => {
            let message = format!("its DSN in {origin} can't be used: {fault}");
            let fix = "mend it: postgres://user:password@host:5432/database";
            findings.push(Finding::failure(&service.name, message, fix));
        }
        Ok(database) => {
            let (dsn, is_elsewhere) = (&database.written, database.server.is_none());
            if is_elsewhere && !reach::may_reach(service, dsn, view.has_external_network) {
                let message = format!("its DSN in {origin} names the server `{}`, no service here", dsn.host);
                findings.push(Finding::failure(&service.name, message, "mend the host in the DSN"));
            }
            if is_elsewhere && is_far(&dsn.host) && dsn.sslmode() == Some("disable") {
                let message = format!("what it says to {} isn't encrypted (sslmode=disable)", dsn.host);
                findings.push(Finding::warning(&service.name, message, "sslmode=verify-full in its DSN"));
            }
        }
    }
    for other in own.others.iter().filter(|other| other.text != own.source.text) {
        let file = other.file.as_deref().unwrap_or_default();
        let what = match other.text.as_str() {
            "memory" => "the DSN `memory`",
            text if text.contains("${") => "a DSN with `${`, which Ory doesn't expand",
            _ => "another DSN",
        };
        let message = format!("{file} has {what}; the one in {origin} counts");
        findings.push(Finding::warning(&service.name, message, format!("remove `dsn` from {file}")));
    }
    findings
}

/// Whether a host isn't this machine: a bare name is one of the engine's own networks.
fn is_far(host: &str) -> bool {
    host.contains(['.', ':']) && !reach::is_here(host)
}

/// A product, who serves it, and the database that it migrates.
fn migrated<'a>(deployed: &Deployed<'a>) -> Option<(Instance, &'a str, &'a Database)> {
    let Deployed { product, serve, migrate, dsns } = *deployed;
    let (_, own) = dsns.of_product(product.kind, migrate, serve)?;
    Some((product, &serve.name, own.database.as_ref().ok()?))
}

/// Hydra can't migrate in a schema with another product's tables; Kratos and Keto can.
pub fn check_sharing(view: &View) -> Vec<Finding> {
    let places: Vec<_> = view.products.iter().filter_map(migrated).collect();
    let mut findings = Vec::new();
    for (product, service, database) in &places {
        let dsn = &database.dsn;
        let others =
            places.iter().filter(|(other, _, theirs)| other != product && theirs.dsn.place() == dsn.place());
        let others: Vec<_> = others.map(|(other, ..)| other.name()).collect();
        let Some(other) = others.first() else { continue };
        let names = others.join(" and ");
        let server = database.server.as_ref().unwrap_or(&dsn.host);
        let database = format!("the database {} on `{server}`", dsn.database);
        if product.kind == Product::Hydra {
            let message =
                format!("hydra shares one schema of {database} with {names}, where it can never migrate");
            let fix = format!(
                "{XTASK} split, which gives each a database of its own; or a schema for hydra alone: \
                 ...?search_path=hydra in its DSN ({other} stays)"
            );
            findings.push(Finding::failure(service, message, fix));
        } else {
            let message = format!("{product} shares one schema of {database} with {names}");
            findings.push(Finding::warning(service, message, "give each its own: {XTASK} split"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, accepts, finds, found};
    use super::*;
    use crate::checks::Level;

    const DSN: &str = "postgres://kratos:pw@db/kratos";

    #[test]
    fn a_dsn_that_can_not_be_used_is_found() {
        for (dsn, fault) in [
            ("memory", "`memory`"),
            ("postgres://kratos:geheim/x@db/kratos", "must be percent-encoded"),
            ("postgres://kratos:pw@dbb/kratos", "`dbb`, no service here"),
        ] {
            let finding = finds(check, DSN, dsn);
            assert_eq!(finding.level, Level::Failure);
            assert!(finding.message.contains(fault) && !finding.message.contains("geheim"), "{finding:?}");
        }
    }

    #[test]
    fn no_encryption_is_found_towards_another_machine_only() {
        let finding = finds(check, DSN, "postgres://kratos:pw@db.example.com/kratos?sslmode=disable");
        assert!(finding.message.contains("db.example.com isn't encrypted"), "{finding:?}");
        accepts(check, DSN, "postgres://kratos:pw@db.example.com/kratos?sslmode=require");
        accepts(check, DSN, "postgres://kratos:pw@db/kratos?sslmode=disable");
        accepts(check, DSN, "postgres://kratos:pw@host.docker.internal/kratos?sslmode=disable");
    }

    #[test]
    fn two_products_in_one_schema_are_found_and_hydra_among_them_is_a_failure() {
        let with = |product: &str, dsn: &str| format!("{GOOD}{product}: {{environment: {{DSN: '{dsn}'}}}}\n");
        let level = |stack: &str| {
            let findings = found(check, stack);
            assert_eq!(findings.len(), 1, "{findings:?}");
            findings[0].level
        };
        assert_eq!(level(&with("hydra", "postgres://hydra:pw@db/kratos")), Level::Failure);
        assert_eq!(level(&with("keto", "postgres://keto:pw@db/kratos")), Level::Warning);
        assert_eq!(found(check, &with("hydra", "postgres://hydra:pw@db/kratos?search_path=hydra")), []);
    }

    #[test]
    fn two_products_in_one_schema_are_found_by_whatever_name_of_the_server() {
        let stack =
            GOOD.replace("image: postgres:17-alpine", "image: postgres:17-alpine\n  container_name: pg");
        let stack = format!("{stack}hydra: {{environment: {{DSN: 'postgres://hydra:pw@pg/kratos'}}}}\n");
        let findings = found(check, &stack);
        assert_eq!((findings.len(), findings[0].level), (1, Level::Failure), "{findings:?}");
        assert!(findings[0].message.contains("the database kratos on `db` with kratos"), "{findings:?}");
    }

    #[test]
    fn another_dsn_in_the_file_than_in_the_environment_is_found() {
        let folder = std::env::temp_dir().join(format!("ory-facts-{}-dsns", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mounted =
            format!("command: serve -c /etc/k.yml\n  volumes: ['{}/k.yml:/etc/k.yml']", folder.display());
        let stack = GOOD.replace("command: serve --dev", &mounted);
        for (dsn, message) in [
            ("memory", Some("/etc/k.yml has the DSN `memory`; the one in the environment counts")),
            (
                "${DSN}",
                Some(
                    "/etc/k.yml has a DSN with `${`, which Ory doesn't expand; the one in the environment counts",
                ),
            ),
            (
                "postgres://kratos:geheim@db/kratos",
                Some("/etc/k.yml has another DSN; the one in the environment counts"),
            ),
            (DSN, None),
        ] {
            std::fs::write(folder.join("k.yml"), format!("dsn: {dsn}\n")).expect("a file");
            let messages: Vec<_> = found(check, &stack).into_iter().map(|finding| finding.message).collect();
            assert_eq!(messages, message.into_iter().collect::<Vec<_>>());
        }
        // Without one in the environment, the file's is the one that counts.
        std::fs::write(folder.join("k.yml"), "dsn: ${DSN}\n").expect("a file");
        let findings = found(check, &stack.replace("environment: {DSN", "environment: {NODSN"));
        assert_eq!(findings[0].level, Level::Failure, "{findings:?}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
