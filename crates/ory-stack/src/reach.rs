//! Which service a DSN leads to, seen from the one that has it: by a name of the service, a link, a port that is published,
//! a network that both have, or a folder with a socket that both mount.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::image;
use crate::service::{Mount, Service};
use ory_facts::dsn::Dsn;
use ory_facts::instance::Instance;
use ory_runner::failure::{Exit, Failure};

/// Names of the machine that runs the engine.
const MACHINE: [&str; 3] = ["host.docker.internal", "gateway.docker.internal", "172.17.0.1"];

/// The service of the server, and the DSN as its own container has to read it; none where it is no service here.
pub fn server<'a>(
    services: &'a BTreeMap<String, Service>,
    from: &Service,
    dsn: &Dsn,
) -> Option<(&'a Service, Dsn)> {
    dsn.servers().find_map(|(host, port)| {
        if let Some(service) = services.values().find(|service| service.is_reached_by(host)) {
            return Some((service, dsn.clone()));
        }
        if let Some((name, _)) = from.links.iter().find(|(_, name)| name == host) {
            return services.get(name).map(|service| (service, dsn.seen_at(name, port)));
        }
        if host.starts_with('/') {
            return at_socket(services, from, host)
                .map(|(service, path)| (service, dsn.seen_at(&path, port)));
        }
        let is_own = host.starts_with("127.") || host == "localhost" || host == "::1";
        if is_own && let Some(service) = beside(services, from) {
            return Some((service, dsn.clone()));
        }
        let is_machine = MACHINE.contains(&host) || is_own && from.is_on_host;
        let published = |service: &&Service| target(service, port).is_some() && !service.is_on_host;
        let service = services.values().find(published).filter(|_| is_machine)?;
        Some((service, dsn.seen_at(&service.name, target(service, port)?)))
    })
}

/// The port of a service that is published as this one.
fn target(service: &Service, published: u16) -> Option<u16> {
    service.ports.iter().find(|port| port.published == Some(published)).map(|port| port.target)
}

/// The service that mounts the same folder, and where.
fn at_socket<'a>(
    services: &'a BTreeMap<String, Service>,
    from: &Service,
    folder: &str,
) -> Option<(&'a Service, String)> {
    let own = from.mount_of(folder)?;
    let rest = folder.strip_prefix(own.target.trim_end_matches('/'))?;
    let is_same = |mount: &&Mount| {
        (mount.volume.is_some() && mount.volume == own.volume)
            || (mount.source.is_some() && mount.source == own.source)
    };
    let theirs = services.values().filter(|service| service.name != from.name).filter_map(|service| {
        let mount = service.mounts.iter().find(is_same)?;
        Some((service, format!("{}{rest}", mount.target.trim_end_matches('/'))))
    });
    let theirs: Vec<_> = theirs.collect();
    let database = theirs.iter().find(|(service, _)| is_database(service));
    database.or(theirs.first().filter(|_| theirs.len() == 1)).cloned()
}

/// The database that has the same network as a service.
fn beside<'a>(services: &'a BTreeMap<String, Service>, from: &Service) -> Option<&'a Service> {
    let network = |service: &Service| match &service.network_of {
        Some(name) => name.clone(),
        None if service.is_on_host => String::new(),
        None => service.name.clone(),
    };
    let own = network(from);
    services
        .values()
        .find(|service| service.name != from.name && is_database(service) && network(service) == own)
}

fn is_database(service: &Service) -> bool {
    let is_set = service.environment.keys().any(|key| key.starts_with("POSTGRES_"));
    is_set || service.image.as_deref().is_some_and(|image| image::name(image).contains("postgres"))
}

/// The DSN of a service of a product, with what the environment of its container adds.
pub fn parse(service: &Service, text: &str) -> Result<Dsn, String> {
    Ok(Dsn::parse(text)?.with_variables(&service.environment))
}

/// The DSN that a product migrates with, and the service behind it. Fails where it can't be used, or leads nowhere.
pub fn resolve<'a>(
    services: &'a BTreeMap<String, Service>,
    (product, migrate): (Instance, &Service),
    (text, origin): (&str, &str),
    has_external_network: bool,
) -> Result<(Dsn, Option<&'a Service>)> {
    let failure = |message: String, hint: String| Failure::new(Exit::Failed, message).hint(hint);
    let dsn = parse(migrate, text).map_err(|fault| {
        let message = format!("{product}'s DSN in {origin} can't be used: {fault}");
        failure(message, "mend the DSN: postgres://user:password@host:5432/database".into())
    })?;
    let is_open = migrate.image.as_deref().is_some_and(image::is_orys);
    if let Some(name) = dsn.of_enterprise().filter(|_| is_open) {
        let message = format!(
            "{product}'s DSN in {origin} has the parameter `{name}`, which only Ory's enterprise builds read: this one \
             hands it to the server, which refuses it"
        );
        return Err(failure(message, "leave it out; the limit of connections is max_conns".into()).into());
    }
    match server(services, migrate, &dsn) {
        Some((service, dsn)) => Ok((dsn, Some(service))),
        None if may_reach(migrate, &dsn, has_external_network) => Ok((dsn, None)),
        None => {
            let message =
                format!("{product}'s DSN in {origin} names the server `{}`, no service here", dsn.host);
            let known = services.keys().cloned().collect::<Vec<_>>().join(", ");
            Err(failure(message, format!("mend the host (services: {known})")).into())
        }
    }
}

/// Whether a service may reach one of the servers that are no services here.
pub fn may_reach(service: &Service, dsn: &Dsn, has_external_network: bool) -> bool {
    let mut hosts = dsn.servers().map(|(host, _)| host);
    hosts.any(|host| match host.starts_with('/') {
        true => service.mount_of(host).is_some(),
        false => service.may_reach(host, has_external_network),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::read_services;
    use ory_facts::product::Product;
    use yaml_rust2::YamlLoader;

    #[test]
    fn a_server_is_found_by_every_way_that_leads_to_it() {
        for (kratos, db, host, seen) in [
            ("", "", "db", "db:5432"),
            ("", "", "DB", "DB:5432"),
            ("", "container_name: pg", "pg:1", "pg:1"),
            ("links: ['db:database']", "", "database", "db:5432"),
            ("", "networks: {x: {aliases: [pg], ipv4_address: 172.30.0.5}}", "172.30.0.5", "172.30.0.5:5432"),
            ("network_mode: 'service:db'", "", "localhost", "localhost:5432"),
            ("", "network_mode: 'service:kratos'", "127.0.0.1", "127.0.0.1:5432"),
            ("network_mode: host", "ports: ['5434:5432']", "127.0.0.1:5434", "db:5432"),
            ("network_mode: host", "network_mode: host", "[::1]:5433", "::1:5433"),
            ("", "ports: ['5434:5432']", "host.docker.internal:5434", "db:5432"),
            (
                "volumes: ['run:/sock']",
                "volumes: ['run:/var/run/postgresql']",
                "?host=/sock",
                "/var/run/postgresql:5432",
            ),
            ("", "", "gone:1,db:2", "gone:1"),
        ] {
            let text = format!(
                "services: {{kratos: {{image: oryd/kratos, {kratos}}}, db: {{image: 'postgres:17', {db}}}, web: {{image: x}}}}"
            );
            let services = read_services(&YamlLoader::load_from_str(&text).expect("YAML")[0], |_| None);
            let dsn = match host.strip_prefix('?') {
                Some(query) => format!("postgres://a:b@/d?{query}"),
                None => format!("postgres://a:b@{host}/d"),
            };
            let dsn = Dsn::parse(&dsn).expect("a DSN");
            let (service, own) = server(&services, &services["kratos"], &dsn).expect(host);
            assert_eq!(
                (service.name.as_str(), format!("{}:{}", own.host, own.port)),
                ("db", seen.into()),
                "{host}"
            );
            assert_eq!(own.url(), dsn.url());
        }
    }

    #[test]
    fn a_parameter_of_the_enterprise_is_refused_of_the_open_image_by_its_name() {
        let text = "services: {kratos: {image: 'oryd/kratos:v26.2.0'}, db: {image: 'postgres:17'}}";
        let open = read_services(&YamlLoader::load_from_str(text).expect("YAML")[0], |_| None);
        let text = text.replace("oryd/kratos", "pkg.dev/ory/kratos-oel");
        let bought = read_services(&YamlLoader::load_from_str(&text).expect("YAML")[0], |_| None);
        let resolved = |services: &BTreeMap<String, Service>| {
            let dsn = "postgres://a:b@db/d?pool_max_conns=3";
            let found = resolve(services, (Product::Kratos.into(), &services["kratos"]), (dsn, "x"), false);
            found.map(|(_, server)| server.is_some()).map_err(|error| error.to_string())
        };
        assert!(resolved(&open).expect_err("refused").contains("`pool_max_conns`"));
        assert_eq!(resolved(&bought), Ok(true));
    }
}
