//! What a server needs when it starts: a migrated database; and, for Kratos, somebody who takes its mail.

use super::finding::Finding;
use super::view::{Deployed, View};
use crate::learned::PRODUCT_LABEL;
use crate::service::Service;
use crate::settings;
use crate::text::scalar;
use ory_facts::product::Product;

/// Each server waits until it is migrated, or until its database is healthy.
pub fn check(view: &View) -> Vec<Finding> {
    let one_shots = view.products.iter().filter(|deployed| deployed.migrate.name != deployed.serve.name);
    let one_shots = one_shots.filter_map(|deployed| check_database(view, deployed, deployed.migrate));
    view.products.iter().filter_map(|deployed| check_wait(view, deployed)).chain(one_shots).collect()
}

fn check_wait(view: &View, deployed: &Deployed) -> Option<Finding> {
    let serve = deployed.serve;
    let waits =
        |name: &str, condition: &str| serve.depends_on.get(name).is_some_and(|known| known == condition);
    // A script that migrates before it serves.
    if serve.words().any(|word| word == "migrate") {
        return None;
    }
    if deployed.migrate.name != serve.name {
        let migrate = &deployed.migrate.name;
        let message = format!("it doesn't wait until `{migrate}` has migrated");
        let fix = format!("depends_on: {{{migrate}: {{condition: service_completed_successfully}}}}");
        return (!waits(migrate, "service_completed_successfully"))
            .then(|| Finding::warning(&serve.name, message, fix));
    }
    check_database(view, deployed, serve)
}

/// A service of a product waits until the product's database is healthy.
fn check_database(view: &View, deployed: &Deployed, service: &Service) -> Option<Finding> {
    let server = deployed.databases().find_map(|d| view.services.get(d.server.as_ref()?))?;
    if service.depends_on.get(&server.name).is_some_and(|known| known == "service_healthy") {
        return None;
    }
    let message = format!("it doesn't wait until `{}` is healthy", server.name);
    let fix = format!("depends_on: {{{}: {{condition: service_healthy}}}}", server.name);
    let more = if server.healthcheck.is_empty() { ", with a healthcheck there" } else { "" };
    Some(Finding::warning(&service.name, message, fix + more))
}

/// A label that tells a product names one.
pub fn check_labels(view: &View) -> Vec<Finding> {
    let wrong = view.services.values().filter_map(|service| {
        let value = service.labels.get(PRODUCT_LABEL).filter(|_| service.labelled().is_none())?;
        let message = format!("its label {PRODUCT_LABEL} is `{value}`, which is no product");
        Some(Finding::failure(&service.name, message, format!("{PRODUCT_LABEL}: kratos, hydra or keto")))
    });
    wrong.collect()
}

/// Kratos's mail goes to a host that can be there.
pub fn check_courier(view: &View) -> Vec<Finding> {
    let of_kratos = view.products.iter().filter(|deployed| deployed.product.kind == Product::Kratos);
    of_kratos.filter_map(|deployed| check_smtp(view, deployed)).collect()
}

fn check_smtp(view: &View, deployed: &Deployed) -> Option<Finding> {
    let service = deployed.serve;
    let set = service.environment.get("COURIER_SMTP_CONNECTION_URI").cloned();
    let files = settings::of(deployed.product.kind, service).into_iter().rev();
    let mut written = files.filter_map(|(_, file)| scalar(&file["courier"]["smtp"]["connection_uri"]));
    let url = set.or_else(|| written.next())?;
    let host = host(&url)?;
    let is_there = view.reached_by(host).is_some() || service.may_reach(host, view.has_external_network);
    let message = format!("its mail goes to the host `{host}`, no service here: nobody gets it");
    let fix = "mend courier.smtp.connection_uri, or add the service";
    (!is_there).then(|| Finding::warning(&service.name, message, fix))
}

/// The host of `smtps://user:password@host:1025/?skip_ssl_verify=true`.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    Some(address.split(':').next().unwrap_or(address)).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, accepts, finds, found};
    use super::*;

    const WAIT: &str = "depends_on: {db: {condition: service_healthy}}";

    #[test]
    fn a_server_that_does_not_wait_for_its_database_is_found() {
        for to in ["depends_on: [db]", "depends_on: {db: {condition: service_started}}", "restart: always"] {
            let finding = finds(check, WAIT, to);
            assert_eq!(finding.message, "it doesn't wait until `db` is healthy");
        }
        // One that migrates by itself, and one whose server is elsewhere.
        accepts(
            check,
            "command: serve --dev\n",
            "command: sh -c 'kratos migrate sql -e --yes && kratos serve'\n",
        );
        accepts(check, "@db/kratos", "@db.example.com/kratos");
    }

    #[test]
    fn a_server_that_does_not_wait_for_its_one_shot_is_found() {
        let with = |depends: &str| {
            let stack = GOOD.replace(WAIT, &format!("depends_on: {depends}"));
            format!(
                "{stack}kratos-migrate: {{image: 'oryd/kratos:v26.2.0', command: migrate sql -e --yes, {WAIT}}}\n"
            )
        };
        let right = "{kratos-migrate: {condition: service_completed_successfully}}";
        let findings = found(check, &with(right).replace(&format!(", {WAIT}}}"), "}"));
        assert_eq!((findings.len(), findings[0].subject.as_str()), (1, "kratos-migrate"));
        assert_eq!(findings[0].message, "it doesn't wait until `db` is healthy");
        for depends in ["[kratos-migrate]", "{db: {condition: service_healthy}}"] {
            let findings = found(check, &with(depends));
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].message, "it doesn't wait until `kratos-migrate` has migrated");
        }
        assert_eq!(found(check, &with(right)), []);
    }

    #[test]
    fn a_label_that_names_no_product_is_found() {
        let from = "command: serve --dev";
        let label = |value: &str| format!("{from}\n  labels: {{xtask.product: {value}}}");
        let finding = finds(check_labels, from, &label("kratoz"));
        assert!(finding.message.contains("`kratoz`"), "{finding:?}");
        accepts(check_labels, from, &label("kratos"));
    }

    #[test]
    fn mail_to_a_host_that_no_service_has_is_found() {
        let to = |url: &str| format!("environment: {{COURIER_SMTP_CONNECTION_URI: '{url}', ");
        let finding = finds(
            check_courier,
            "environment: {",
            &to("smtps://a:geheim@mailslurper:1025/?skip_ssl_verify=true"),
        );
        assert_eq!(
            finding.message,
            "its mail goes to the host `mailslurper`, no service here: nobody gets it"
        );
        accepts(check_courier, "environment: {", &to("smtps://a:b@db:1025/"));
        accepts(check_courier, "environment: {", &to("smtp://smtp.example.com:587"));
    }
}
