//! Which services are which product's: those that serve, the one that migrates, and whether the stack has several of the
//! same product of Ory's, each on a database of its own.

use std::collections::BTreeMap;

use ory_facts::instance::Instance;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};

use crate::dsns::{Database, Dsns};
use crate::service::Service;

/// A product of a stack, and its services.
pub struct Members<'a> {
    pub product: Instance,
    /// Those that serve: replicas apart, each API can have a service of its own.
    pub serve: Vec<&'a Service>,
    /// A one-shot where there is one, else the first that serves.
    pub migrate: &'a Service,
}

/// Who is there of one of Ory's products: those that serve from one database are one, by the order of their names.
pub fn of<'a>(
    services: &'a BTreeMap<String, Service>,
    dsns: &Dsns,
    kind: Product,
) -> Result<Vec<Members<'a>>, Failure> {
    let servers = servers(services, kind)?;
    let one_shots: Vec<_> = services.values().filter(|s| s.is_of(kind) && s.is_migration()).collect();
    let mut groups: Vec<(Option<&Database>, Vec<&Service>)> = vec![];
    for service in servers.iter().copied() {
        // Only of several it must be known.
        let own = if servers.len() > 1 { dsns.database(kind, service) } else { None };
        match groups.iter_mut().find(|(known, _)| is_same(*known, own)) {
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
            _ => is_same(dsns.database(kind, service), own.or_else(|| dsns.database(kind, first))),
        };
        let own_one_shot = one_shots.iter().find(is_own).or(one_shots.first().filter(|_| is_only));
        Some(Members { product, migrate: own_one_shot.copied().unwrap_or(first), serve })
    });
    Ok(members.map(|members| (members.product, members)).into_map().into_values().collect())
}

fn is_same(one: Option<&Database>, other: Option<&Database>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.dsn.place() == other.dsn.place(),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// The services that serve one of Ory's products, whatever their databases.
fn servers(services: &BTreeMap<String, Service>, product: Product) -> Result<Vec<&Service>, Failure> {
    let candidates: Vec<_> = services.values().filter(|s| s.is_of(product) && !s.is_migration()).collect();
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
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
        _ => Ok(found),
    }
}
