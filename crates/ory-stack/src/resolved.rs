//! A stack resolved, once: which products it has, and of each the services and the database, or why that can't be told.

use std::collections::BTreeMap;

use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_runner::failure::{Exit, Failure};

use crate::checks::files;
use crate::dsns::Dsns;
use crate::image;
use crate::members::{self, Members};
use crate::reach;
use crate::service::Service;

/// What is known of a stack's products. It has the names of services, not the services themselves.
pub struct Resolved {
    pub dsns: Dsns,
    /// Of each of Ory's products those that the stack has, or why they can't be told apart from others.
    pub kinds: Vec<(Product, Result<Vec<Known>, Failure>)>,
}

/// A product, and its services by name.
pub struct Known {
    pub product: Instance,
    pub serve: Vec<String>,
    pub migrate: String,
    /// Where it keeps its state, or why that can't be told.
    pub state: Result<State, Failure>,
}

/// Where a product keeps its state, and from which files it knows.
#[derive(Debug)]
pub struct State {
    /// The configuration files, as the container names them.
    pub configs: Vec<String>,
    /// Only a configuration file has the DSN.
    pub dsn_in_config: bool,
    pub dsn: Dsn,
    pub server: Option<String>,
}

impl Resolved {
    /// Resolves what services there are.
    pub fn of(services: &BTreeMap<String, Service>, has_external_network: bool) -> Self {
        let dsns = Dsns::read(services);
        let known = |Members { product, serve, migrate }: Members| Known {
            product,
            serve: serve.iter().map(|service| service.name.clone()).collect(),
            migrate: migrate.name.clone(),
            state: state(services, &dsns, &Members { product, serve, migrate }, has_external_network),
        };
        let of_kind = |kind: Product| {
            let members = members::of(services, &dsns, kind);
            (kind, members.map(|members| members.into_iter().map(known).collect()))
        };
        let kinds = Product::ALL.map(of_kind).into();
        Self { dsns, kinds }
    }

    /// Every product, in the order of the migrations; none of a kind that can't be told. A list first: all that goes on
    /// from here has this iterator's type in its own.
    pub fn products(&self) -> impl Iterator<Item = &Known> {
        let mut all = Vec::new();
        for (_, known) in &self.kinds {
            all.extend(known.as_ref().map_or(&[][..], Vec::as_slice));
        }
        all.into_iter()
    }
}

/// Where a product keeps its state. Fails where its DSN is missing, malformed, or names a server that isn't here.
fn state(
    services: &BTreeMap<String, Service>,
    dsns: &Dsns,
    Members { product, serve, migrate }: &Members,
    has_external_network: bool,
) -> Result<State, Failure> {
    let serve = serve.first().copied().unwrap_or(migrate);
    // A file that isn't there is the cause of a DSN that isn't.
    files::require(migrate)?;
    let found = dsns.of_product(product.kind, migrate, serve);
    let has_own_file = found.is_some_and(|(s, dsn)| s.name == migrate.name && dsn.source.file.is_some());
    let mut configs = migrate.config_files();
    if configs.is_empty() && !has_own_file {
        configs = serve.config_files();
    }
    let Some((service, dsn)) = found else {
        let mut looked_at = format!("DSN in the environment of `{}`", migrate.name);
        let default = product.default_config().filter(|_| configs.is_empty());
        for file in configs.iter().map(String::as_str).rev().chain(default) {
            looked_at += &format!(", dsn: in {file}");
        }
        let message = format!("{product} has no DSN (looked at: {looked_at})");
        let hint = format!("set DSN in the environment of the service `{}`", serve.name);
        return Err(Failure::new(Exit::Failed, message).hint(hint));
    };
    let in_environment = || format!("the environment of `{}`", service.name);
    let origin = dsn.source.file.clone().unwrap_or_else(in_environment);
    let failure = |fault: String, hint: String| {
        Failure::new(Exit::Failed, format!("{product}'s DSN in {origin} {fault}")).hint(hint)
    };
    let database = dsn.database.as_ref().map_err(|fault| {
        let hint = "fix the DSN: postgres://user:password@host:5432/database";
        failure(format!("can't be used: {fault}"), hint.into())
    })?;
    let is_open = migrate.image.as_deref().is_some_and(image::is_orys);
    if let Some(name) = database.written.of_enterprise().filter(|_| is_open) {
        let fault = format!(
            "has the parameter `{name}`, which only Ory's enterprise builds read: this one hands it to the server, which \
             refuses it"
        );
        return Err(failure(fault, "leave it out; the limit of connections is max_conns".into()));
    }
    if database.server.is_none() && !reach::may_reach(service, &database.written, has_external_network) {
        let known = services.keys().cloned().collect::<Vec<_>>().join(", ");
        let fault = format!("names the server `{}`, no service here", database.written.host);
        return Err(failure(fault, format!("fix the host (services: {known})")));
    }
    Ok(State {
        configs,
        dsn_in_config: dsn.source.file.is_some(),
        dsn: database.dsn.clone(),
        server: database.server.clone(),
    })
}

#[cfg(test)]
mod tests {
    use yaml_rust2::YamlLoader;

    use super::*;

    fn resolved(services: &str) -> Resolved {
        let yaml = YamlLoader::load_from_str(&format!("services: {services}")).expect("YAML").remove(0);
        Resolved::of(&Service::all(&yaml, |_| None), false)
    }

    fn states(services: &str) -> Vec<Result<(Dsn, Option<String>), String>> {
        let states = resolved(services).kinds.into_iter().flat_map(|(_, known)| known.expect("told apart"));
        let state = |known: Known| known.state.map(|s| (s.dsn, s.server)).map_err(|error| error.to_string());
        states.map(state).collect()
    }

    #[test]
    fn a_parameter_of_the_enterprise_is_refused_of_the_open_image_by_its_name() {
        let text = "{kratos: {image: 'oryd/kratos:v26.2.0', environment: {DSN: 'postgres://a:b@db/d?pool_max_conns=3'}}, \
                    db: {image: 'postgres:17'}}";
        let error = states(text).remove(0).expect_err("refused");
        assert!(error.contains("`pool_max_conns`"), "{error}");
        let bought = text
            .replace("'oryd/kratos", "'pkg.dev/ory/kratos-oel")
            .replace("{image: 'pkg", "{labels: {xtask.product: kratos}, image: 'pkg");
        assert_eq!(states(&bought).remove(0).expect("taken").1.as_deref(), Some("db"));
    }

    #[test]
    fn a_server_is_one_place_by_whatever_name_port_or_socket_it_is_reached() {
        let at = |kratos: &str, keto: &str, more: &str| {
            let text = format!(
                "{{kratos: {{image: oryd/kratos, environment: {{DSN: 'postgres://a:b@{kratos}'}}}}, \
                 keto: {{image: oryd/keto, environment: {{DSN: 'postgres://c:d@{keto}'}}, {more}}}, \
                 db: {{image: 'postgres:17', container_name: pg, ports: ['5434:5432'], volumes: ['run:/var/run/postgresql'], \
                 networks: {{default: {{aliases: [database]}}}}}}}}"
            );
            let states: Vec<_> = states(&text).into_iter().map(|state| state.expect("resolved").0).collect();
            (states[0].place() == states[1].place(), states[0].is_database_of(&states[1]))
        };
        for (keto, more) in [
            ("database/ory", ""),
            ("PG:5432/ory", ""),
            ("host.docker.internal:5434/ory", ""),
            ("pg.local/ory", "links: ['db:pg.local']"),
            ("/ory?host=/sock", "volumes: ['run:/sock']"),
            ("gone.example.com:1,db/ory", ""),
        ] {
            assert_eq!(at("db/ory", keto, more), (true, true), "{keto}");
        }
        assert_eq!(at("db/ory", "database/ory?search_path=keto", ""), (false, true));
        assert_eq!(at("db/ory", "database/keto", ""), (false, false));
        assert_eq!(at("db/ory", "db.example.com/ory", ""), (false, false));
    }

    #[test]
    fn who_migrates_has_the_dsn_that_counts_and_who_serves_where_that_has_none() {
        let dir = std::env::temp_dir().join(format!("ory-stack-resolved-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("k.yml"), "dsn: postgres://a:b@db/of-file\n").expect("a file");
        let of = |migrate: &str| {
            let text = format!(
                "{{kratos: {{image: oryd/kratos, command: serve, environment: {{DSN: 'postgres://a:b@db/of-serve'}}}}, \
                 one-shot: {{image: oryd/kratos, command: migrate sql -e --yes{migrate}}}, db: {{image: 'postgres:17'}}}}"
            );
            let known = resolved(&text).kinds.remove(Product::Kratos as usize).1.expect("told").remove(0);
            let state = known.state.expect("resolved");
            (state.dsn.database.clone(), state.dsn_in_config, state.configs.join(" "))
        };
        let mount = format!(" -c /k.yml, volumes: ['{}/k.yml:/k.yml']", dir.display());
        assert_eq!(of(""), ("of-serve".into(), false, String::new()));
        assert_eq!(of(&mount), ("of-file".into(), true, "/k.yml".into()));
        let set = ", environment: {DSN: 'postgres://a:b@db/of-one-shot'}";
        assert_eq!(of(&format!("{mount}{set}")), ("of-one-shot".into(), false, "/k.yml".into()));
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn why_a_product_has_no_database_is_kept_beside_those_that_have_one() {
        let found = states(
            "{kratos: {image: oryd/kratos, environment: {DSN: 'postgres://a:b@dbb/d'}}, hydra: {image: oryd/hydra}, \
             keto: {image: oryd/keto, environment: {DSN: 'postgres://a:b@db/d'}}, db: {image: 'postgres:17'}}",
        );
        let errors: Vec<_> = found.iter().filter_map(|state| state.as_ref().err()).collect();
        assert!(errors[0].contains("names the server `dbb`, no service here"), "{errors:?}");
        assert!(
            errors[1].contains("hydra has no DSN (looked at: DSN in the environment of `hydra`"),
            "{errors:?}"
        );
        assert_eq!((errors.len(), found.len()), (2, 3));
    }
}
