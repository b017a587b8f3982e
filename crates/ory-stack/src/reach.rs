//! Which service a DSN leads to, seen from the one that has it: by a name of the service, a link, a port that is published,
//! a network that both have, or a folder with a socket that both mount.

use std::collections::BTreeMap;

use crate::image;
use crate::service::{Mount, Service};
use ory_facts::dsn::Dsn;

/// Names of the machine that runs the engine.
const MACHINE: [&str; 3] = ["host.docker.internal", "gateway.docker.internal", "172.17.0.1"];

/// Whether a host is the machine of who names it.
fn is_loopback(host: &str) -> bool {
    host.starts_with("127.") || host == "localhost" || host == "::1"
}

/// Whether a host is this machine, whoever names it.
pub fn is_here(host: &str) -> bool {
    is_loopback(host) || MACHINE.contains(&host)
}

/// The server that a DSN leads to.
pub struct Reached<'a> {
    pub service: &'a Service,
    /// Its own port, where PostgreSQL listens.
    pub port: u16,
    /// The DSN as its own container has to read it.
    pub dsn: Dsn,
}

/// The service of the server, seen from the one that has the DSN; none where it is no service here.
pub fn server<'a>(services: &'a BTreeMap<String, Service>, from: &Service, dsn: &Dsn) -> Option<Reached<'a>> {
    dsn.servers().find_map(|(host, port)| {
        if let Some(service) = services.values().find(|service| service.is_reached_by(host)) {
            return Some(Reached { service, port, dsn: dsn.clone() });
        }
        if let Some((name, _)) = from.links.iter().find(|(_, name)| name == host) {
            return Some(Reached { service: services.get(name)?, port, dsn: dsn.seen_at(name, port) });
        }
        if host.starts_with('/') {
            let (service, path) = at_socket(services, from, host)?;
            return Some(Reached { service, port, dsn: dsn.seen_at(&path, port) });
        }
        let is_own = is_loopback(host);
        if is_own && let Some(service) = beside(services, from) {
            return Some(Reached { service, port, dsn: dsn.clone() });
        }
        let is_machine = MACHINE.contains(&host) || is_own && from.is_on_host;
        let published = |service: &&Service| target(service, port).is_some() && !service.is_on_host;
        let service = services.values().find(published).filter(|_| is_machine)?;
        let port = target(service, port)?;
        Some(Reached { service, port, dsn: dsn.seen_at(&service.name, port) })
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
            let services = Service::all(&YamlLoader::load_from_str(&text).expect("YAML")[0], |_| None);
            let dsn = match host.strip_prefix('?') {
                Some(query) => format!("postgres://a:b@/d?{query}"),
                None => format!("postgres://a:b@{host}/d"),
            };
            let dsn = Dsn::parse(&dsn).expect("a DSN");
            let Reached { service, dsn: own, .. } = server(&services, &services["kratos"], &dsn).expect(host);
            assert_eq!(
                (service.name.as_str(), format!("{}:{}", own.host, own.port)),
                ("db", seen.into()),
                "{host}"
            );
            assert_eq!(own.url(), dsn.url());
        }
    }
}
