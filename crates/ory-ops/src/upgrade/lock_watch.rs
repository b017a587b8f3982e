//! A migration watched from beside: when each version was applied, and the strongest lock that it was seen to hold on a table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use ory_facts::sql::literal;
use ory_facts::{lock_modes, rows};
use ory_runner::session::Session;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::postgres;

/// How long between two looks, at least and at most: a fiftieth of the time that the migration takes so far, as each look takes
/// time from it. What is held for a shorter time is held for a short time.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// What was seen of a migration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    pub version: String,
    pub took: Duration,
    /// The strongest lock on each table.
    pub locks: BTreeMap<String, String>,
}

/// A session beside the migration. One that couldn't connect sees nothing, which changes nothing for the migration.
pub struct Watch {
    session: Session,
    question: String,
    pending: Vec<String>,
}

impl Watch {
    /// Connects. `application`: the migration's name in PostgreSQL; `pending`: what it is to apply, in order.
    pub fn new(
        cx: &Context,
        deployment: &Deployment,
        application: &str,
        pending: Vec<String>,
    ) -> Result<Self> {
        let mut session = Session::start(postgres::as_writing_product(cx, deployment, &[])?)?;
        let question = lock_modes::query(&literal(application));
        session.ask(&question)?;
        Ok(Self { session, question, pending })
    }

    /// Looks until it is told to stop.
    pub fn run(mut self, stop: &AtomicBool) -> Vec<Watched> {
        // Until the migration connects, its container starts.
        let (mut seen, mut last, mut is_connected) = (vec![], Instant::now(), false);
        let mut left: BTreeSet<String> = self.pending.iter().cloned().collect();
        let mut current = self.first(&left);
        loop {
            let is_last = stop.load(Ordering::Relaxed);
            let Ok(lines) = self.session.ask(&self.question) else { return seen };
            let told: Vec<_> = rows::read(lines.iter().map(String::as_str)).collect();
            let (mut versions, mut locks, mut is_sure) = (0, vec![], false);
            let mut applied = vec![];
            for fields in &told {
                match &fields[..] {
                    [kind, version] if kind == "version" => {
                        versions += 1;
                        applied.extend(left.take(version));
                    }
                    [kind, count] if kind == "versions" => is_sure = *count == versions.to_string(),
                    [kind] if kind == "session" && !is_connected => {
                        (last, is_connected) = (Instant::now(), true);
                    }
                    [kind, table, mode] if kind == "lock" => locks.push((table, mode)),
                    _ => {}
                }
            }
            for version in applied {
                let next = self.first(&left);
                let done = std::mem::replace(&mut current, next);
                seen.push(Watched { version, took: last.elapsed(), ..done });
                last = Instant::now();
            }
            for (table, mode) in locks.into_iter().filter(|_| is_sure) {
                let strongest = current.locks.entry(table.clone()).or_default();
                if lock_modes::strength(mode) > lock_modes::strength(strongest) {
                    strongest.clone_from(mode);
                }
            }
            if is_last {
                return seen;
            }
            std::thread::sleep((last.elapsed() / 50).clamp(PAUSE[0], PAUSE[1]));
        }
    }

    fn first(&self, left: &BTreeSet<String>) -> Watched {
        let version =
            self.pending.iter().find(|version| left.contains(*version)).cloned().unwrap_or_default();
        Watched { version, ..Watched::default() }
    }
}
