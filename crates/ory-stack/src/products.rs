//! Which services are which product's: those that serve, the one that migrates, and whether the stack has several of the
//! same product of Ory's, each on a database of its own.

use anyhow::Result;
use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;
use ory_facts::product::Product;

use crate::checks::{Deployed, View, dsns};
use crate::image;
use crate::reach;
use crate::service::Service;
use crate::stack::Stack;
use ory_runner::failure::{Exit, Failure};

/// A product of a stack, and its services.
pub struct Members<'a> {
    pub product: Instance,
    /// Those that serve: replicas apart, each API can have a service of its own.
    pub serve: Vec<&'a Service>,
    /// A one-shot where there is one, else the first that serves.
    pub migrate: &'a Service,
}

impl Stack {
    /// The services that belong to a product: by the name of their image, else by their own name or program.
    pub(crate) fn services_of(&self, product: Product) -> impl Iterator<Item = &Service> {
        let name = product.name();
        self.services.values().filter(move |service| {
            let by_name = || match service.image.as_deref().map(image::name) {
                Some(image) if Product::named(image).is_some() => image == name,
                // A database may have the name of who uses it, and a one-shot that is built here that of who it is for.
                _ => {
                    let is_database = service.environment.keys().any(|key| key.starts_with("POSTGRES_"));
                    let is_for = || service.name.split(['-', '_', '.']).any(|part| part == name);
                    (service.name == name && !is_database)
                        || service.words().any(|word| word == name)
                        || (service.is_built && service.is_migration() && is_for())
                }
            };
            service.is_told(product).unwrap_or_else(by_name)
        })
    }

    /// The services that serve one of Ory's products, whatever their databases.
    fn servers_of(&self, product: Product) -> Result<Vec<&Service>> {
        let candidates: Vec<_> = self.services_of(product).filter(|s| !s.is_migration()).collect();
        // Without a command it is the image's own, which serves.
        let serves = |s: &&&Service| s.words().next().is_none() || s.words().any(|word| word == "serve");
        let is_named = |service: &&&Service| service.name == product.name();
        let found: Vec<_> = candidates.iter().filter(|s| serves(s) || is_named(s)).copied().collect();
        match (found.as_slice(), candidates.as_slice()) {
            ([], []) => Ok(vec![]),
            ([], [service]) => Ok(vec![*service]),
            ([], several) => {
                let names = several.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
                let message = format!("several services could be {product}'s: {names}");
                let hint = format!("name the one that serves `{product}`, or give one the command `serve`");
                Err(Failure::new(Exit::Failed, message).hint(hint).into())
            }
            _ => Ok(found),
        }
    }

    /// Who is there of one of Ory's products: those that serve from one database are one, by the order of their names.
    pub fn members(&self, kind: Product) -> Result<Vec<Members<'_>>> {
        let servers = self.servers_of(kind)?;
        let one_shots: Vec<_> = self.services_of(kind).filter(|service| service.is_migration()).collect();
        let place = |service: &Service| self.place_of(kind, service);
        let is_same = |one: &Option<Dsn>, other: &Option<Dsn>| match (one, other) {
            (Some(one), Some(other)) => one.place() == other.place(),
            (one, other) => one.is_none() && other.is_none(),
        };
        let mut groups: Vec<(Option<Dsn>, Vec<&Service>)> = vec![];
        for service in servers.iter().copied() {
            // Only of several it must be known.
            let own = if servers.len() > 1 { place(service) } else { None };
            match groups.iter_mut().find(|(known, _)| is_same(known, &own)) {
                Some((_, serve)) => serve.push(service),
                None => groups.push((own, vec![service])),
            }
        }
        let is_only = groups.len() == 1;
        let members = groups.into_iter().filter_map(|(own, serve)| {
            let first = *serve.iter().find(|service| service.name == kind.name()).or(serve.first())?;
            let product = if is_only { kind.into() } else { Instance::named(kind, &first.name) };
            let is_own = |service: &&&Service| match one_shots.len() {
                1 if is_only => true,
                _ => is_same(&place(service), &own.clone().or_else(|| place(first))),
            };
            let own_one_shot = one_shots.iter().find(is_own).or(one_shots.first().filter(|_| is_only));
            Some(Members { product, migrate: own_one_shot.copied().unwrap_or(first), serve })
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by_key(|members| members.product);
        Ok(members)
    }

    /// The DSN of a service, its host by the name of the service that it is: an alias is the same place.
    fn place_of(&self, kind: Product, service: &Service) -> Option<Dsn> {
        let dsn = dsns::of_service(kind, service)?;
        let found = reach::server(&self.services, service, &dsn);
        Some(found.map(|(server, own)| own.seen_at(&server.name, own.port)).unwrap_or(dsn))
    }

    /// Every product with its services, in the order of the migrations; none of a kind that can't be told.
    pub(crate) fn told(&self) -> impl Iterator<Item = Members<'_>> {
        Product::ALL.into_iter().flat_map(|kind| self.members(kind).unwrap_or_default())
    }

    /// The services that serve a product.
    pub fn serving(&self, product: Instance) -> Vec<&Service> {
        let own = self.members(product.kind).unwrap_or_default().into_iter();
        own.filter(|members| members.product == product).flat_map(|members| members.serve).collect()
    }

    /// The product that a service serves.
    pub fn product_of(&self, service: &Service) -> Option<Instance> {
        let serves = |members: &Members| members.serve.iter().any(|own| own.name == service.name);
        self.told().find(serves).map(|members| members.product)
    }

    /// The product that a service serves or migrates.
    pub fn worked_on_by(&self, service: &Service) -> Option<Instance> {
        let migrates = |members: &Members| members.migrate.name == service.name;
        self.product_of(service).or_else(|| self.told().find(migrates).map(|members| members.product))
    }

    /// The products of this stack, in the order of the migrations.
    pub fn products(&self) -> Result<Vec<Instance>> {
        let each = Product::ALL.into_iter().map(|kind| self.members(kind));
        let each = each.collect::<Result<Vec<_>>>()?;
        Ok(each.iter().flatten().map(|members| members.product).collect())
    }

    /// Every service: the database servers first, then Ory's in the order of the migrations, then the rest.
    pub fn in_order(&self) -> Result<Vec<&Service>> {
        self.products()?;
        let of_ory: Vec<_> = self.told().flat_map(|members| members.serve).collect();
        let is_in = |list: &[&Service], service: &Service| list.iter().any(|one| one.name == service.name);
        let servers = self.servers();
        let others = self.services.values().filter(|service| !is_in(&of_ory, service));
        let (servers, rest): (Vec<_>, Vec<_>) = others.partition(|service| is_in(&servers, service));
        Ok(servers.into_iter().chain(of_ory).chain(rest).collect())
    }

    /// The services that run a product's image beside those that serve it and those that migrate it, as a courier.
    pub fn companions(&self, product: Instance) -> Vec<&Service> {
        let place = |service: &Service| self.place_of(product.kind, service);
        let serving = self.serving(product);
        let own = serving.first().and_then(|service| place(service));
        let is_own = |service: &&Service| match (place(service), &own) {
            (Some(dsn), Some(own)) => dsn.place() == own.place(),
            _ => true,
        };
        let is_served = |service: &Service| self.product_of(service).is_some();
        let others = self.services_of(product.kind).filter(|s| !s.is_migration() && !is_served(s));
        others.filter(is_own).collect()
    }

    /// The services that work with a product's database as long as they run.
    pub fn running(&self, product: Instance) -> Vec<&Service> {
        [self.serving(product), self.companions(product)].concat()
    }

    /// What the checks look at.
    pub fn view(&self) -> View<'_> {
        let each = self.told().flat_map(|Members { product, serve, migrate }| {
            serve.into_iter().map(move |serve| Deployed { product, serve, migrate })
        });
        View {
            services: &self.services,
            products: each.collect(),
            has_external_network: self.has_external_network,
            examples: &self.examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use yaml_rust2::YamlLoader;

    const KRATOS: &str = "image: oryd/kratos:v26.2.0, environment: {DSN: 'postgres://u:p@";

    /// The products of a stack whose services are these lines: each with its servers, and who migrates.
    fn products(services: &str) -> Vec<String> {
        let lines = services.replace("KRATOS ", KRATOS);
        let text = format!("services:\n  db: {{image: postgres:17, hostname: database}}\n{lines}");
        let yaml = YamlLoader::load_from_str(&text).expect("YAML").remove(0);
        let stack = Stack::read(&yaml, false, Path::new("."));
        let in_words = |members: &Members| {
            let serve: Vec<_> = members.serve.iter().map(|service| service.name.as_str()).collect();
            format!("{}: {}, by {}", members.product, serve.join(" "), members.migrate.name)
        };
        Product::ALL.iter().flat_map(|kind| stack.members(*kind).unwrap()).map(|m| in_words(&m)).collect()
    }

    #[test]
    fn those_on_one_database_are_one_product_however_its_server_is_named() {
        let one = "  public: {KRATOS db/k'}, command: serve public}\n  admin: {KRATOS db:5432/k'}, command: serve admin}\n";
        assert_eq!(products(one), ["kratos: admin public, by admin"]);
        assert_eq!(products(&one.replace("db:5432/k'", "database/k'")), products(one));
    }

    #[test]
    fn those_on_databases_or_schemas_of_their_own_have_the_names_of_their_services() {
        let two = "  b: {KRATOS db/b'}, command: serve}\n  a: {KRATOS db/a'}, command: serve}\n";
        assert_eq!(products(two), ["a: a, by a", "b: b, by b"]);
        let schemas = two.replace("db/b'", "db/a?search_path=b'");
        assert_eq!(products(&schemas), ["a: a, by a", "b: b, by b"]);
        let named = two.replace("  a: ", "  kratos: ");
        assert_eq!(products(&named), ["b: b, by b", "kratos: kratos, by kratos"]);
    }

    #[test]
    fn each_has_the_one_shot_of_its_own_database() {
        let two = "  a: {KRATOS db/a'}, command: serve}\n  b: {KRATOS db/b'}, command: serve}\n  \
                   x: {KRATOS db/b'}, command: migrate sql -e --yes}\n";
        assert_eq!(products(two), ["a: a, by a", "b: b, by x"]);
        let both = two.to_string() + "  y: {KRATOS db/a'}, command: migrate sql -e --yes}\n";
        assert_eq!(products(&both), ["a: a, by y", "b: b, by x"]);
    }

    #[test]
    fn who_only_sends_or_lists_serves_nothing() {
        let kratos = "  kratos: {KRATOS db/k'}, command: serve -c /c.yml}\n  \
                      courier: {KRATOS db/k'}, command: courier watch -c /c.yml}\n  \
                      import: {image: oryd/kratos:v26.2.0, entrypoint: [sh, -c, kratos list identities]}\n";
        assert_eq!(products(kratos), ["kratos: kratos, by kratos"]);
        // Without a command the image's own one counts, which serves.
        assert_eq!(
            products(&kratos.replace(", command: serve -c /c.yml", "")),
            ["kratos: kratos, by kratos"]
        );
    }
}
