//! A backup taken: a folder with a dump for each database and a manifest, made whole or not at all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

use anyhow::Result;
use ory_facts::diagnosis::is_without_snapshot;
use ory_facts::digest::{Sum, fingerprint};
use ory_facts::manifest::{
    Content, Dump, MANIFEST, MANIFEST_LIMIT, MANIFEST_SIGNATURE, MANIFEST_SUM, Manifest, Upgraded,
};
use ory_facts::next::XTASK;
use ory_facts::sorted::Sorted;
use ory_facts::sql;
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};
use ory_stack::backup_key;
use ory_stack::encryption;
use ory_stack::partial_backup::{self, Partial};
use ory_stack::private_file::private_file;
use ory_stack::random::random;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::diagnosis;
use crate::lock::Locked;
use crate::postgres;
use crate::snapshot::{Snapshot, application};
use crate::target::Target;

use super::folder::{Backup, folder, write_whole};

/// The time, as a manifest has it.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Dumps targets into a new folder under `parent`, which has no name of a backup before all of it is on the disk. One that
/// `is_to_verify` is marked until [`Backup::set_verified`].
pub fn take(cx: &Locked, targets: &[&Target], parent: &Path, is_to_verify: bool) -> Result<Backup> {
    take_before(cx, targets, parent, is_to_verify, vec![])
}

/// The same before these products go to other images.
pub fn take_before(
    cx: &Locked,
    targets: &[&Target],
    parent: &Path,
    is_to_verify: bool,
    upgrades: Vec<Upgraded>,
) -> Result<Backup> {
    let failed = |error| cannot_write(parent, error);
    let key = backup_key::make_key(&cx.dir)?;
    partial_backup::prepare(parent, parent == folder(cx)).map_err(failed)?;
    for left in partial_backup::remove_dead(parent, &cx.stack.project).map_err(failed)? {
        cx.out.warn(format!("{} stays: whether its run goes on can't be told", left.display()));
    }
    let time = now();
    let partial = Partial::new(parent, &cx.stack.project).map_err(failed)?;
    let salt = random(32)?;
    let mut dumps = Vec::new();
    for target in targets {
        // Whatever fails, pg_dump may go on in the server's container.
        let ends = |error| cx.options.interrupt.clean_up_after(error, || end_sessions(cx, target));
        dumps.push(dump(cx, target, &partial.path, &salt).map_err(ends)?);
    }
    let manifest = Manifest { time, project: cx.stack.project.clone(), salt, dumps, upgrades };
    let text = manifest.write();
    // What couldn't be read again would be no backup.
    let sum = Manifest::sum(&text);
    let reads = Manifest::read(text.as_bytes(), sum.as_bytes()).and_then(|_| match text.len() as u64 {
        length if length > MANIFEST_LIMIT => Err(format!("{MANIFEST} would have {length} bytes")),
        _ => Ok(()),
    });
    reads.map_err(|fault| Failure::new(Exit::Failed, format!("a backup can't be made: {fault}")))?;
    let signature = Manifest::signature(&key, &text);
    for (name, text) in [(MANIFEST, &text), (MANIFEST_SUM, &sum), (MANIFEST_SIGNATURE, &signature)] {
        let path = partial.path.join(name);
        write_whole(&path, text).map_err(|error| cannot_write(&path, error))?;
    }
    if is_to_verify {
        super::folder::mark_unverified(&partial.path).map_err(failed)?;
    }
    if !manifest.upgrades.is_empty() {
        super::folder::mark_unfinished(&partial.path).map_err(failed)?;
    }
    // No colon, which Windows has in no name.
    let name = manifest.time.replace(':', "-");
    let folder = partial.keep(&name).map_err(failed)?;
    Ok(Backup { folder, manifest, text, signature: Some(signature) })
}

fn cannot_write(path: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let failure = Failure::new(Exit::Failed, format!("{} can't be written", path.display()));
    error.into().context(failure.hint("free some space, or name another folder: {XTASK} backup --output DIR"))
}

fn end_sessions(cx: &Context, target: &Target) -> Result<()> {
    postgres::end_sessions(cx, target.main()?, &application(cx, target))
}

/// Dumps a target, counted in the same snapshot.
fn dump(cx: &Context, target: &Target, folder: &Path, salt: &str) -> Result<Dump> {
    let names = target.names(", ");
    let failed = |error| match target.main() {
        Ok(deployment) => diagnosis::of_product(cx, deployment, error),
        Err(_) => error,
    };
    let mut snapshot = Snapshot::take(cx, target).map_err(|error| failed(explain_right(target, error)))?;
    let file = format!("{}.dump", target.names("-"));
    let path = folder.join(&file);
    let mut output = private_file(&path).map_err(|error| cannot_write(&path, error))?;
    let (mut sum, mut bytes) = (Sum::default(), 0);
    let transferred = Arc::new(AtomicU64::new(0));
    let _progress = cx.out.progress_of(format!("backing up {names}"), Arc::clone(&transferred));
    let command = snapshot.dump(cx, target)?;
    let contents = thread::scope(|scope| {
        let counted = scope.spawn(|| snapshot.contents(target));
        let received = command.receive(|piece| {
            output.write_all(piece).map_err(|error| cannot_write(&path, error))?;
            sum.add(piece);
            bytes += piece.len() as u64;
            transferred.store(bytes, Ordering::Relaxed);
            Ok(())
        });
        let contents = counted.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The snapshot ends with the session that counts, and pg_dump then only says that it is gone.
        let is_gone = |error: &anyhow::Error| is_without_snapshot(&format!("{error:#}"));
        if contents.is_err() && received.as_ref().is_err_and(is_gone) {
            contents
        } else {
            received.and(contents)
        }
    });
    let contents = contents.map_err(|error| failed(explain_right(target, explain_version(error))))?;
    output.sync_all().map_err(|error| cannot_write(&path, error))?;
    Ok(Dump {
        file,
        sha256: sum.finish(),
        bytes,
        database: target.database().into(),
        schema: target.schema.clone(),
        contents,
        products: target.deployments.iter().map(|deployment| content(cx, deployment, salt)).collect(),
    })
}

/// Of its secrets only fingerprints.
fn content(cx: &Context, deployment: &Deployment, salt: &str) -> Content {
    Content {
        product: deployment.product,
        image: deployment.migrate.image.clone().unwrap_or_default(),
        secrets: fingerprints(cx, deployment, salt),
    }
}

/// The fingerprints of the secrets that a product encrypts rows with, by where each is set.
pub fn fingerprints(cx: &Context, deployment: &Deployment, salt: &str) -> BTreeMap<String, Vec<String>> {
    let view = cx.stack.view();
    let deployed = view.products.iter().find(|deployed| deployed.product == deployment.product);
    let secrets = deployed.map(encryption::secrets).unwrap_or_default().into_iter();
    secrets
        .map(|(place, values)| (place, values.iter().map(|value| fingerprint(salt, value)).collect()))
        .into_map()
}

/// pg_dump refuses a server that is newer than itself.
fn explain_version(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let Some(at) = text.find("server version: ").filter(|_| text.contains("server version mismatch")) else {
        return error;
    };
    let major: String = text[at + 16..].chars().take_while(char::is_ascii_digit).collect();
    let failure =
        Failure::new(Exit::Missing, format!("pg_dump is older than the server, which is PostgreSQL {major}"));
    error.context(failure.hint(format!("XTASK_POSTGRES_IMAGE=postgres:{major}-alpine {XTASK} backup")))
}

/// What belongs to somebody else is read by a backup, and stays theirs.
fn explain_right(target: &Target, error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let denied = text.split_once("permission denied for ").and_then(|(_, what)| what.lines().next());
    let Some((kind, name)) = denied.and_then(|what| sqlstate::without(what).trim().split_once(' ')) else {
        return error;
    };
    let Some(main) = target.deployments.first() else { return error };
    let (role, database, name) = (&main.dsn.user, target.database(), name.trim_end_matches('.'));
    let message =
        format!("the role {role} may not read the {kind} {name}, which is backed up with {database}");
    let right = if kind == "schema" { "usage" } else { "select" };
    let (named, to) = (sql::name(name), sql::name(role));
    let hint = format!("have its owner run, in {database}: grant {right} on {kind} {named} to {to}");
    error.context(Failure::new(Exit::Failed, message).hint(hint))
}
