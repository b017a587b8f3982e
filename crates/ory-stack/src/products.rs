//! The products of a stack: each with its services, its database, and those that share it.

use anyhow::Result;
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use yaml_rust2::Yaml;

use crate::checks::{Deployed, View};
use crate::deployment::Deployment;
use crate::dsns::Dsns;
use crate::members::{self, Members};
use crate::resolved::Known;
use crate::service::Service;
use crate::stack::Stack;

impl Stack {
    /// Who is there of one of Ory's products.
    pub fn members(&self, kind: Product) -> Result<Vec<Members<'_>>> {
        let known = self.resolved().kinds.iter().find(|(of, _)| *of == kind);
        match known.map(|(_, known)| known) {
            Some(Ok(known)) => Ok(known.iter().filter_map(|known| self.named(known)).collect()),
            Some(Err(failure)) => Err(failure.clone().into()),
            None => Ok(vec![]),
        }
    }

    /// A product with its services themselves.
    fn named(&self, known: &Known) -> Option<Members<'_>> {
        let serve = known.serve.iter().filter_map(|name| self.services.get(name)).collect();
        Some(Members { product: known.product, serve, migrate: self.services.get(&known.migrate)? })
    }

    /// Every product with its services, in the order of the migrations; none of a kind that can't be told.
    fn told(&self) -> impl Iterator<Item = Members<'_>> {
        self.resolved().products().filter_map(|known| self.named(known))
    }

    /// Everything about a product, none where the stack hasn't got it. Fails where its DSN is missing,
    /// malformed, or names a server that isn't here.
    pub fn deployment(&self, product: Instance) -> Result<Option<Deployment<'_>>> {
        // Of a kind that can't be told apart the reason is told.
        self.members(product.kind)?;
        let known = self.resolved().products().find(|known| known.product == product);
        known.map_or(Ok(None), |known| self.deployed(known))
    }

    fn deployed(&self, known: &Known) -> Result<Option<Deployment<'_>>> {
        let state = known.state.as_ref().map_err(Clone::clone)?;
        let Some(migrate) = self.services.get(&known.migrate) else { return Ok(None) };
        Ok(Some(Deployment {
            product: known.product,
            migrate,
            configs: state.configs.clone(),
            dsn_in_config: state.dsn_in_config,
            dsn: state.dsn.clone(),
            server: state.server.as_ref().and_then(|name| self.services.get(name)),
            is_scratch: false,
        }))
    }

    /// The products whose DSN can be read; any other is reported when it is its turn.
    pub fn readable(&self) -> impl Iterator<Item = Deployment<'_>> {
        self.resolved().products().filter_map(|known| self.deployed(known).ok().flatten())
    }

    /// The services that are a database server of some product, each once.
    pub fn servers(&self) -> Vec<&Service> {
        let states = self.resolved().products().filter_map(|known| known.state.as_ref().ok());
        let names = states.filter_map(|state| state.server.as_deref()).into_set();
        names.into_iter().filter_map(|name| self.services.get(name)).collect()
    }

    /// The products whose tables would be in one schema with this one's.
    pub fn sharing(&self, deployment: &Deployment) -> Vec<Instance> {
        let others = self.readable().filter(|other| other.product != deployment.product);
        let others = others.filter(|other| other.dsn.place() == deployment.dsn.place());
        others.map(|other| other.product).collect()
    }

    /// Why a product isn't in the stack, in words: what was looked at, and an inactive profile that has it.
    /// `every` is what Compose prints of all profiles.
    pub fn absence(&self, product: Product, every: &Yaml) -> String {
        let services = Service::all(every, |_| None);
        let members = members::of(&services, &Dsns::read(&services), product).unwrap_or_default();
        match members.iter().flat_map(|members| &members.serve).next() {
            Some(service) if service.profiles.is_empty() => format!(
                "{product}: not in this stack; the image of `{}` doesn't tell a version as Ory's do (if it is one: \
                 labels: {{xtask.product: {product}}})",
                service.name
            ),
            Some(service) => format!(
                "{product}: not in this stack; its service `{}` is in the inactive profile {}",
                service.name,
                service.profiles.join(", ")
            ),
            _ => format!(
                "{product}: not in this stack (no service has an image, name, command or label of that name)"
            ),
        }
    }

    /// The services that serve a product.
    pub fn serving(&self, product: Instance) -> Vec<&Service> {
        self.told().filter(|members| members.product == product).flat_map(|members| members.serve).collect()
    }

    /// The product that a service serves.
    pub fn product_of(&self, service: &Service) -> Option<Instance> {
        let serves = |members: &Members| members.serve.iter().any(|own| own.name == service.name);
        self.told().find(serves).map(|members| members.product)
    }

    /// The same of a service by its name.
    pub fn product_of_name(&self, service: &str) -> Option<Instance> {
        self.product_of(self.services.get(service)?)
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
        let database = |service: &Service| self.resolved().dsns.database(product.kind, service);
        let own = self.serving(product).first().and_then(|service| database(service));
        let is_own = |service: &&Service| match (database(service), own) {
            (Some(theirs), Some(own)) => theirs.dsn.place() == own.dsn.place(),
            _ => true,
        };
        let is_served = |service: &Service| self.product_of(service).is_some();
        let all = self.services.values().filter(|service| service.is_of(product.kind));
        let others = all.filter(|service| !service.is_migration() && !is_served(service));
        others.filter(is_own).collect()
    }

    /// The services that work with a product's database as long as they run.
    pub fn running(&self, product: Instance) -> Vec<&Service> {
        [self.serving(product), self.companions(product)].concat()
    }

    /// What the checks look at.
    pub fn view(&self) -> View<'_> {
        let dsns = &self.resolved().dsns;
        let each = self.told().flat_map(|Members { product, serve, migrate }| {
            serve.into_iter().map(move |serve| Deployed { product, serve, migrate, dsns })
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
