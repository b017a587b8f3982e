//! What an upgrade of a product will do, found out without changing anything: what is pending and whom that makes wait, whether
//! its new server starts with the stack's configuration, and what changes for who operates it.

use std::collections::BTreeMap;

use anyhow::Result;
use ory_facts::image_migrations::State;
use ory_facts::product::{Release, parse_release};
use ory_facts::release_notes::{self, Note};
use ory_facts::sorted::Sorted;
use ory_facts::stalls;
use ory_facts::{rows, tables};
use ory_runner::failure::Failure;
use ory_stack::image::tag;
use ory_stack::stack::Deployment;

use super::change::Change;
use crate::context::Context;
use crate::image_migrations;
use crate::image_release;
use crate::image_schema;
use crate::migrations;
use crate::postgres;
use crate::scratch_database::Scratch;
use crate::trial;

/// What will come.
pub struct Outlook {
    pub from: Option<Release>,
    pub to: Option<Release>,
    pub pending: usize,
    /// Of the pending migrations, what makes others wait.
    pub stalls: Vec<Stalling>,
    pub notes: Vec<&'static Note>,
    /// Whether the new server starts with this configuration.
    pub configuration: Trial,
    /// How large the tables are, in bytes.
    pub bytes: u64,
}

/// A migration that makes others wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalling {
    pub version: String,
    pub table: String,
    pub why: &'static str,
    pub is_long: bool,
    /// What the table has now, as PostgreSQL estimates it.
    pub rows: u64,
    pub bytes: u64,
}

/// Whether a server starts.
pub enum Trial {
    Ready,
    /// Why it can't be tried.
    Untried(String),
    Refused(anyhow::Error),
}

/// Looks ahead. `new`: the stack with the images of the change. Fails where the database is ahead of its new image.
pub fn of(cx: &Context, new: &Context, change: &Change, deployment: &Deployment) -> Result<Outlook> {
    let mut state = migrations::states_not_ahead(new, std::slice::from_ref(deployment))?.remove(0);
    if let Some(carried) = image_migrations::in_full(new, deployment)? {
        state.carried = Some(carried);
    }
    let sizes = sizes(cx, deployment)?;
    let [from, to] = [&change.from, &change.to].map(|image| {
        image_release::of_image(new, deployment, image).or_else(|| tag(image).and_then(parse_release))
    });
    let configuration = configuration(deployment, new);
    let between = from.zip(to);
    Ok(Outlook {
        from,
        to,
        pending: state.pending().unwrap_or_default(),
        stalls: stalling(&state, &sizes),
        notes: between
            .map(|(from, to)| release_notes::between(change.product.kind, from, to, &configuration))
            .unwrap_or_default(),
        configuration: try_configuration(new, deployment),
        bytes: sizes.values().map(|(_, bytes)| bytes).sum(),
    })
}

/// Starts the new server with the stack's configuration on an empty database that its image has migrated.
fn try_configuration(new: &Context, deployment: &Deployment) -> Trial {
    if let Some(why) = trial::obstacle(new, deployment) {
        return Trial::Untried(why);
    }
    let tried = || {
        let place = postgres::running_place(new, deployment)?;
        let schema = image_schema::there(new, deployment)?.schema;
        let scratch = Scratch::new(new, deployment, &place);
        scratch.migrated(&schema, |scratch| {
            trial::serve(new, scratch, |_| Ok(())).map(|_| ()).map_err(Refused::of)
        })
    };
    match tried() {
        Ok(()) => Trial::Ready,
        Err(error) => match error.downcast::<Refused>() {
            Ok(Refused(error)) => Trial::Refused(error),
            Err(error) => Trial::Untried(
                Failure::hint_of(&error).map_or(format!("{error:#}"), |hint| format!("{error:#} ({hint})")),
            ),
        },
    }
}

/// The server itself said no; what fails around it says nothing of it.
#[derive(Debug)]
struct Refused(anyhow::Error);

impl Refused {
    fn of(error: anyhow::Error) -> anyhow::Error {
        Self(error).into()
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// The text of the configuration, as far as it is at hand: files, and settings in the environment.
fn configuration(deployment: &Deployment, cx: &Context) -> String {
    let serving = cx.stack.serving(deployment.product);
    let service = serving.first().copied().unwrap_or(deployment.migrate);
    let file = |path: &String| {
        let there = service.on_host(path).and_then(|file| std::fs::read_to_string(file).ok());
        there.or_else(|| service.content_of(path).map(String::from))
    };
    let files: String = service.config_files().iter().filter_map(file).collect();
    // `COURIER_SMS_ENABLED` is `courier.sms.enabled`.
    let names = service.environment.keys().map(|name| name.to_lowercase());
    files + &names.collect::<Vec<_>>().join("\n")
}

/// The rows and bytes of each table and index, by its name alone.
fn sizes(cx: &Context, deployment: &Deployment) -> Result<BTreeMap<String, (u64, u64)>> {
    let place = postgres::running_place(cx, deployment)?;
    let said = postgres::query(cx, &place, &deployment.dsn, tables::sizes(None)).read()?;
    let read = |fields: Vec<String>| match &fields[..] {
        [name, rows, bytes] => Some((name.clone(), (rows.parse().ok()?, bytes.parse().ok()?))),
        _ => None,
    };
    Ok(rows::read(said.lines()).filter_map(read).into_map())
}

/// What is pending makes others wait for tables that are there.
fn stalling(state: &State, sizes: &BTreeMap<String, (u64, u64)>) -> Vec<Stalling> {
    let mut found = vec![];
    for (version, migration) in state.pending_migrations() {
        for stall in stalls::of(&migration.sql) {
            if let Some((rows, bytes)) = sizes.get(&stall.table) {
                let (version, table) = (version.clone(), stall.table);
                found.push(Stalling {
                    version,
                    table,
                    why: stall.why,
                    is_long: stall.is_long,
                    rows: *rows,
                    bytes: *bytes,
                });
            }
        }
    }
    found
}
