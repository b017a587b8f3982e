//! What the engine and the databases said: asked once, at the same time where a command needs several answers,
//! and again after something was run that may have changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::context::Context;
use crate::postgres::{self, Place};
use ory_facts::applied;
use ory_facts::carried::Carried;
use ory_facts::instance::Instance;
use ory_runner::answer::Answer;
use ory_runner::output::Output;
use ory_stack::container::{Container, Image, Listed};
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

#[derive(Default, Clone)]
struct Seen {
    servers: BTreeSet<String>,
    applied: BTreeMap<Instance, BTreeSet<String>>,
    unfinished: BTreeMap<Instance, String>,
}

/// What is kept, until [`Known::forget`].
#[derive(Default)]
pub struct Known {
    /// The containers of the project, as the engine lists them.
    pub listed: Answer<Vec<Listed>>,
    /// Those of its services, with all that the engine knows of them.
    pub containers: Answer<Vec<Container>>,
    /// Those of the services' images that are here.
    pub images: Answer<Vec<Image>>,
    /// Compose's hash of each service's configuration.
    pub hashes: Answer<BTreeMap<String, String>>,
    /// Those that an earlier run was told of the same configuration.
    pub kept_hashes: Answer<BTreeMap<String, String>>,
    /// The versions that products' databases have, and the servers that told them.
    seen: Answer<Seen>,
    carried: Mutex<BTreeMap<Instance, Arc<Answer<Option<Carried>>>>>,
}

impl Known {
    /// Something is run, or was, that may change containers and databases.
    pub fn forget(&self) {
        self.forget_containers();
        self.seen.set(None);
    }

    pub fn forget_containers(&self) {
        self.listed.set(None);
        self.containers.set(None);
    }

    /// The database of a product was made just now.
    pub fn set_new(&self, product: Instance) {
        let mut seen = self.seen();
        seen.applied.insert(product, BTreeSet::new());
        self.seen.set(Some(seen));
    }

    /// The databases of these products have changed.
    pub fn forget_versions(&self, products: impl IntoIterator<Item = Instance>) {
        let mut seen = self.seen();
        products.into_iter().for_each(|product| _ = seen.applied.remove(&product));
        self.seen.set(Some(seen));
    }

    /// What the image of a product carries.
    pub fn carried(&self, product: Instance) -> Arc<Answer<Option<Carried>>> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.entry(product).or_default().clone()
    }

    /// What a product's database has, where it was looked at.
    pub fn applied(&self, product: Instance) -> Option<BTreeSet<String>> {
        self.seen().applied.remove(&product)
    }

    /// Says which databases a run has left that was killed when it had replaced them.
    pub fn warn_of_unfinished(&self, out: Output) {
        for (product, name) in self.seen().unfinished {
            out.warn(format!(
                "an earlier restore or reset of {product} was killed before its end: what was there before it is \
                 {name}; the next restore or reset keeps it"
            ));
        }
    }

    /// Whether a server was looked at, and takes connections.
    pub fn answers(&self, server: &Service) -> bool {
        self.seen().servers.contains(&server.name)
    }

    fn seen(&self) -> Seen {
        self.seen.peek().unwrap_or_default()
    }
}

/// What a command will need to know besides what databases and images have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    Databases,
    Containers,
    /// Which containers are as Compose would make them.
    Changes,
}

/// Asks all that a command will need, at the same time. What fails here is asked again where it is needed, and
/// fails there with all that can be said of it.
pub fn look<'a>(cx: &Context, deployments: impl IntoIterator<Item = &'a Deployment<'a>>, extent: Extent) {
    let deployments: Vec<_> = deployments.into_iter().collect();
    if cx.options.dry_run {
        return;
    }
    thread::scope(|scope| {
        scope.spawn(|| cx.images());
        if extent >= Extent::Containers {
            scope.spawn(|| cx.containers());
        }
        if extent >= Extent::Changes && cx.listed().is_ok_and(|listed| !listed.is_empty()) {
            scope.spawn(|| cx.ask_hashes());
        }
        let asked: Vec<_> = places(cx, &deployments)
            .into_iter()
            .map(|(place, products)| {
                scope.spawn(move || postgres::applied_query(cx, &place, &products).read())
            })
            .collect();
        let answers = asked.into_iter().filter_map(|asked| asked.join().ok()?.ok());
        let answers: String = answers.collect();
        let (applied, unfinished) = (applied::of_each(&answers), applied::unfinished(&answers));
        let answered = deployments.iter().filter(|deployment| applied.contains_key(&deployment.product));
        let servers = answered.filter_map(|deployment| Some(deployment.server?.name.clone())).collect();
        cx.known.seen.set(Some(Seen { servers, applied, unfinished }));
    });
}

/// The servers that can be asked now, each with the products whose databases it has.
fn places<'a>(cx: &Context, deployments: &[&'a Deployment<'a>]) -> Vec<(Place, Vec<&'a Deployment<'a>>)> {
    let mut places: Vec<(Place, Vec<&Deployment>)> = vec![];
    for deployment in deployments.iter().copied() {
        let Ok(place) = postgres::running_place(cx, deployment) else { continue };
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, products)) => products.push(deployment),
            None => places.push((place, vec![deployment])),
        }
    }
    places
}
