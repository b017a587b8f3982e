//! A look at all that a command will need, at the same time: containers, images, and what the databases have.

use std::thread;

use crate::cache::Seen;
use crate::client::Place;
use crate::context::Context;
use crate::postgres;
use ory_facts::applied;
use ory_facts::sorted::Sorted;
use ory_runner::at_once::{each, work};
use ory_stack::stack::Deployment;

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
    if !cx.options.dry_run {
        look_at(cx, &deployments.into_iter().collect::<Vec<_>>(), extent);
    }
}

fn look_at(cx: &Context, deployments: &[&Deployment], extent: Extent) {
    thread::scope(|scope| {
        scope.spawn(work(|| _ = cx.images()));
        if extent >= Extent::Containers {
            scope.spawn(work(|| _ = cx.containers()));
        }
        if extent >= Extent::Changes && cx.listed().is_ok_and(|listed| !listed.is_empty()) {
            scope.spawn(work(|| _ = cx.ask_hashes()));
        }
        let answers = each(places(cx, deployments), |(place, products)| {
            postgres::applied_query(cx, &place, &products).read().unwrap_or_default()
        });
        let answers = answers.concat();
        let (applied, unfinished) = (applied::of_each(&answers), applied::unfinished(&answers));
        let answered = deployments.iter().filter(|deployment| applied.contains_key(&deployment.product));
        let servers = answered.filter_map(|deployment| Some(deployment.server?.name.clone())).into_set();
        cx.engine.cache().set_seen(Seen { servers, applied, unfinished });
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
