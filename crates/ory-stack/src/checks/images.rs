//! The tags of the images: fixed, and the same to migrate and to serve.

use ory_facts::sorted::Sorted;

use super::finding::Finding;
use super::view::View;
use crate::image;
use crate::service::Service;

pub fn check(view: &View) -> Vec<Finding> {
    let of_ory = view.products.iter().flat_map(|deployed| deployed.services());
    let services = of_ory.chain(view.servers()).map(|service| (service.name.as_str(), service)).into_map();
    let mut findings: Vec<_> = services.into_values().filter_map(floating).collect();
    for deployed in &view.products {
        let (serve, migrate) = (deployed.serve, deployed.migrate);
        let (Some(serves), Some(migrates)) = (&serve.image, &migrate.image) else { continue };
        let is_built = serve.is_built || migrate.is_built;
        if serves != migrates && !is_built {
            let message = format!("it migrates with {migrates}, and serves with {serves}");
            let fix = format!("give `{}` and `{}` one image", migrate.name, serve.name);
            findings.push(Finding::warning(&serve.name, message, fix));
        }
    }
    findings
}

fn floating(service: &Service) -> Option<Finding> {
    let image = service.image.as_deref().filter(|image| !service.is_built && image::is_floating(image))?;
    let message = format!("its image {image} has no fixed tag: tomorrow it may be another one");
    let example =
        if image::name(image) == "postgres" { "postgres:17-alpine" } else { "a release's, such as v26.2.0" };
    Some(Finding::warning(&service.name, message, format!("name a tag that stays: {example}")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, accepts, finds, found};
    use super::*;

    #[test]
    fn an_image_without_a_fixed_tag_is_found_unless_it_is_built_here() {
        for image in ["oryd/kratos", "oryd/kratos:latest"] {
            finds(check, "oryd/kratos:v26.2.0", image);
        }
        finds(check, "postgres:17-alpine", "postgres:alpine");
        accepts(check, "image: oryd/kratos:v26.2.0", "image: kratos\n  build: .");
    }

    #[test]
    fn two_releases_to_migrate_and_to_serve_are_found() {
        let with =
            |image: &str| format!("{GOOD}kratos-migrate: {{image: '{image}', command: migrate sql -e}}\n");
        let findings = found(check, &with("oryd/kratos:v25.4.0"));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("migrates with oryd/kratos:v25.4.0"), "{findings:?}");
        assert_eq!(found(check, &with("oryd/kratos:v26.2.0")), []);
    }
}
