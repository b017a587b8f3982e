//! Backups: folders with a dump for each database and a manifest, made whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use ory_facts::backup::{Content, Dump, MANIFEST, MANIFEST_SUM, Manifest};
use ory_facts::diagnosis::is_without_snapshot;
use ory_facts::digest::{Sum, fingerprint};
use ory_stack::encryption;
use ory_stack::env_file::random;
use ory_stack::private_file::private_file;
use ory_stack::stack::Deployment;
use xtask_runner::failure::{Exit, Failure};

use crate::context::Context;
use crate::diagnosis;
use crate::postgres;
use crate::snapshot::{Snapshot, application};
use crate::store::Store;

/// What the folder of a backup is called while it isn't whole.
const PARTIAL: &str = ".partial-";

/// A backup, whose manifest is as it was written.
pub struct Backup {
    pub folder: PathBuf,
    pub manifest: Manifest,
}

/// Where a stack's backups are.
pub fn folder(cx: &Context) -> PathBuf {
    cx.dir.join("backups")
}

/// Dumps stores into a new folder under `parent`, which has no name of a backup before all of it is on the disk.
pub fn take(cx: &Context, stores: &[&Store], parent: &Path) -> Result<Backup> {
    prepare(parent).map_err(|error| cannot_write(parent, error))?;
    let time = SystemTime::now();
    let partial = Partial::new(parent, time).map_err(|error| cannot_write(parent, error))?;
    let salt = random(32)?;
    let mut dumps = Vec::new();
    for store in stores {
        // Whatever fails, pg_dump may go on in the server's container.
        let ends = |error| cx.options.interrupt.clean_up_after(error, || end_sessions(cx, store));
        dumps.push(dump(cx, store, &partial.path, &salt).map_err(ends)?);
    }
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let manifest = Manifest { time, project: cx.stack.project.clone(), salt, dumps };
    let text = manifest.write();
    for (name, text) in [(MANIFEST, &text), (MANIFEST_SUM, &Manifest::sum(&text))] {
        let path = partial.path.join(name);
        write_whole(&path, text).map_err(|error| cannot_write(&path, error))?;
    }
    let folder = partial.keep().map_err(|error| cannot_write(parent, error))?;
    Ok(Backup { folder, manifest })
}

/// Reads a backup's manifest; its dumps are looked at by [`Backup::check`].
pub fn open(folder: &Path) -> Result<Backup> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| {
            let message = format!("{} is no backup: {name} can't be read", folder.display());
            anyhow::Error::new(error)
                .context(Failure::new(Exit::Missing, message).hint("cargo xtask backups, which lists them"))
        })
    };
    let manifest = Manifest::read(&read(MANIFEST)?, &read(MANIFEST_SUM)?);
    let manifest = manifest.map_err(|fault| damaged(folder, fault))?;
    Ok(Backup { folder: folder.into(), manifest })
}

/// A stack's backups, the newest last, each as it can be read.
pub fn all(parent: &Path) -> Result<Vec<(String, Result<Backup>)>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", parent.display())),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names.into_iter().map(|name| (name.clone(), open(&parent.join(name)))).collect())
}

impl Backup {
    /// Its name: its folder's.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// How large its dumps are, in bytes.
    pub fn bytes(&self) -> u64 {
        self.manifest.dumps.iter().map(|dump| dump.bytes).sum()
    }

    /// The file of one of its dumps.
    pub fn path(&self, dump: &Dump) -> PathBuf {
        self.folder.join(&dump.file)
    }

    /// Fails unless every byte of a dump is as it was written.
    pub fn check(&self, cx: &Context, dump: &Dump) -> Result<()> {
        let read = Arc::new(AtomicU64::new(0));
        let _progress = cx.out.progress_of(format!("checking {}", dump.file), Arc::clone(&read));
        self.compare(dump, |length| {
            read.fetch_add(length as u64, Ordering::Relaxed);
            cx.options.interrupt.check()
        })
    }

    /// The same. `each` is told the length of each piece, and may end it.
    pub fn compare(&self, dump: &Dump, mut each: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let path = self.path(dump);
        let mut file = File::open(&path).map_err(|error| damaged(&self.folder, error.to_string()))?;
        let (mut sum, mut buffer) = (Sum::default(), vec![0; 1 << 18]);
        loop {
            let length =
                file.read(&mut buffer).with_context(|| format!("failed to read {}", path.display()))?;
            if length == 0 {
                break;
            }
            sum.add(&buffer[..length]);
            each(length)?;
        }
        if sum.finish() != dump.sha256 {
            return Err(damaged(&self.folder, format!("{} isn't as it was written", dump.file)));
        }
        Ok(())
    }
}

fn damaged(folder: &Path, fault: String) -> anyhow::Error {
    let message = format!("the backup {} is damaged: {fault}", folder.display());
    Failure::new(Exit::Failed, message).hint("take another one: cargo xtask backups").into()
}

fn cannot_write(path: &Path, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let failure = Failure::new(Exit::Failed, format!("{} can't be written", path.display()));
    error
        .into()
        .context(failure.hint("free some space, or name another folder: cargo xtask backup --output DIR"))
}

fn end_sessions(cx: &Context, store: &Store) -> Result<()> {
    postgres::end_sessions(cx, store.main()?, &application(cx, store))
}

/// Dumps a store, counted in the same snapshot.
fn dump(cx: &Context, store: &Store, folder: &Path, salt: &str) -> Result<Dump> {
    let names = store.names(", ");
    let failed = |error| match store.main() {
        Ok(deployment) => diagnosis::of_product(cx, deployment, error),
        Err(_) => error,
    };
    let mut snapshot = Snapshot::take(cx, store).map_err(failed)?;
    let file = format!("{}.dump", store.names("-"));
    let path = folder.join(&file);
    let mut output = private_file(&path).map_err(|error| cannot_write(&path, error))?;
    let (mut sum, mut bytes) = (Sum::default(), 0);
    let transferred = Arc::new(AtomicU64::new(0));
    let _progress = cx.out.progress_of(format!("backing up {names}"), Arc::clone(&transferred));
    let command = snapshot.dump(cx, store)?;
    let contents = thread::scope(|scope| {
        let counted = scope.spawn(|| snapshot.contents(cx, store.schema.as_deref()));
        let received = command.receive(&cx.secrets, |piece| {
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
    let contents = contents.map_err(|error| failed(explain_right(store, explain_version(error))))?;
    output.sync_all().map_err(|error| cannot_write(&path, error))?;
    Ok(Dump {
        file,
        sha256: sum.finish(),
        bytes,
        database: store.database().into(),
        schema: store.schema.clone(),
        contents,
        products: store.deployments.iter().map(|deployment| content(cx, deployment, salt)).collect(),
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
        .collect()
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
    error.context(failure.hint(format!("XTASK_POSTGRES_IMAGE=postgres:{major}-alpine cargo xtask backup")))
}

/// What belongs to somebody else is read by a backup, and stays theirs.
fn explain_right(store: &Store, error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let denied = text.split_once("permission denied for ").and_then(|(_, what)| what.lines().next());
    let Some((kind, name)) = denied.and_then(|what| what.trim().split_once(' ')) else { return error };
    let Some(main) = store.deployments.first() else { return error };
    let (role, database, name) = (&main.dsn.user, store.database(), name.trim_end_matches('.'));
    let message =
        format!("the role {role} may not read the {kind} {name}, which is backed up with {database}");
    let right = if kind == "schema" { "usage" } else { "select" };
    let hint = format!("have its owner run, in {database}: grant {right} on {kind} {name} to {role}");
    error.context(Failure::new(Exit::Failed, message).hint(hint))
}

/// Makes the folder of backups, which git ignores wherever it is, and removes what a killed run has left in it.
fn prepare(parent: &Path) -> std::io::Result<()> {
    fs::create_dir_all(parent)?;
    let ignore = parent.join(".gitignore");
    if !ignore.exists() {
        fs::write(ignore, "*\n")?;
    }
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = private_file(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The folder of a backup that isn't whole; removed unless it is kept.
struct Partial {
    parent: PathBuf,
    path: PathBuf,
    name: String,
}

impl Partial {
    fn new(parent: &Path, time: SystemTime) -> std::io::Result<Self> {
        // No colon, which Windows has in no name.
        let base = humantime::format_rfc3339_seconds(time).to_string().replace(':', "-");
        let mut names = std::iter::once(base.clone()).chain((2..).map(|number| format!("{base}-{number}")));
        let name = names.find(|name| !parent.join(name).exists()).unwrap_or(base);
        let path = parent.join(format!("{PARTIAL}{name}"));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self { parent: parent.into(), path, name })
    }

    /// Gives it its name, once its files are on the disk, and so is the name.
    fn keep(self) -> std::io::Result<PathBuf> {
        sync_folder(&self.path)?;
        let folder = self.parent.join(&self.name);
        fs::rename(&self.path, &folder)?;
        sync_folder(&self.parent)?;
        Ok(folder)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone already where it was kept.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a folder lists is on the disk once it was synced itself. Windows does so by itself.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
