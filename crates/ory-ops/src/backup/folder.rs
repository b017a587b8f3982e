//! The backups there are, whoever has put them there: which one is the newest, whose it is, and whether it is as it was
//! written.

use std::fs;
use std::io::{ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Error, Result};
use ory_facts::digest::Sum;
use ory_facts::instance::Instance;
use ory_facts::manifest::{
    Dump, MANIFEST, MANIFEST_LIMIT, MANIFEST_SIGNATURE, MANIFEST_SUM, Manifest, is_time,
};
use ory_runner::failure::{Exit, Failure};
use ory_runner::plain_file;
use ory_stack::private_file::private_file;

use crate::context::Context;

/// The file in a backup that was to be verified, until it was.
const UNVERIFIED: &str = "unverified";

/// The file in a backup that was made before an upgrade, until that has ended, or was undone.
const UNFINISHED: &str = "unfinished";

/// A backup, whose manifest is as it was written.
pub struct Backup {
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// The manifest's own text, and what it was signed with.
    pub(super) text: String,
    pub(super) signature: Option<String>,
}

/// Where a stack's backups are.
pub fn folder(cx: &Context) -> PathBuf {
    cx.dir.join("backups")
}

/// Reads a backup's manifest; its dumps are looked at by [`Backup::check`].
pub fn open(folder: &Path) -> Result<Backup> {
    let read = |name: &str, limit| plain_file::read(&folder.join(name), limit);
    let needed = |name: &str, limit| {
        read(name, limit).map_err(|error| {
            let message = format!("{} is no backup: {name} can't be read", folder.display());
            let hint = "{XTASK} backups, which lists them";
            Error::new(error).context(Failure::new(Exit::Missing, message).hint(hint))
        })
    };
    let (text, sum) = (needed(MANIFEST, MANIFEST_LIMIT)?, needed(MANIFEST_SUM, 1024)?);
    let manifest = Manifest::read(&text, &sum).map_err(|fault| damaged(folder, fault))?;
    let signature = match read(MANIFEST_SIGNATURE, 1024) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // One that can't be read is none that fits.
        read => Some(String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()),
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Backup { folder: folder.into(), manifest, text, signature })
}

/// The backups in a folder, the newest last, each as it can be read. Of one that can't be, the time is that in its name.
pub fn all(parent: &Path) -> Result<Vec<(String, Result<Backup>)>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", parent.display())),
    };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            let backup = open(&entry.path());
            let time = match &backup {
                Ok(backup) => backup.manifest.time.clone(),
                Err(_) => time_in(&name).unwrap_or_else(|| changed(&entry)),
            };
            // Of two of one second, the second one has a number behind it.
            let key = (time, name.len(), name.clone());
            let newer = found.iter().position(|(known, _)| *known > key);
            found.insert(newer.unwrap_or(found.len()), (key, (name, backup)));
        }
    }
    Ok(found.into_iter().map(|(_, backup)| backup).collect())
}

/// The time that the name of a backup tells.
fn time_in(name: &str) -> Option<String> {
    let (date, time) = name.get(..20)?.split_once('T')?;
    Some(format!("{date}T{}", time.replace('-', ":"))).filter(|time| is_time(time))
}

/// When something in a folder was changed; long ago, where that can't be told.
fn changed(entry: &fs::DirEntry) -> String {
    let time = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The newest backup of this project that has these products, as far as one can be had; and those that are newer, but
/// were to be verified, and were not. One that is damaged is told, not passed over for an older one.
pub fn latest(cx: &Context, parent: &Path, products: &[Instance]) -> Result<(Option<Backup>, Vec<Backup>)> {
    let is_asked = |backup: &Backup| {
        let manifest = &backup.manifest;
        let has = |product: &Instance| manifest.dump_of(*product).is_some();
        manifest.project == cx.stack.project && products.iter().all(has)
    };
    let mut unverified = Vec::new();
    for (name, backup) in all(parent)?.into_iter().rev() {
        match backup {
            // A folder that isn't called like a backup, and has no manifest, is none.
            Err(error) if is_no_backup(&error) && time_in(&name).is_none() => {}
            Err(error) => return Err(error),
            Ok(backup) if !is_asked(&backup) => {}
            Ok(backup) if backup.is_unverified() => unverified.push(backup),
            Ok(backup) => return Ok((Some(backup), unverified)),
        }
    }
    Ok((None, unverified))
}

fn is_no_backup(error: &Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.exit == Exit::Missing)
}

impl Backup {
    /// Its name: its folder's.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The file of one of its dumps.
    pub fn path(&self, dump: &Dump) -> PathBuf {
        self.folder.join(&dump.file)
    }

    /// Why it can't be told that this stack has made it, and that it is as it was made; none where it has.
    pub fn foreign(&self, key: Option<&str>) -> Option<&'static str> {
        match (&self.signature, key) {
            (None, _) => Some("it isn't signed, as one of another program, or of xtask before it signed any"),
            (Some(_), None) => Some("the key of this stack, .env.backup-key, is missing"),
            (Some(signature), Some(key)) => {
                let is_own = *signature == Manifest::signature(key, &self.text);
                (!is_own).then_some("this stack's key didn't sign it: it is of another stack, or was changed")
            }
        }
    }

    /// Whether it was to be verified, and that failed or was cut off.
    pub fn is_unverified(&self) -> bool {
        self.folder.join(UNVERIFIED).symlink_metadata().is_ok()
    }

    /// Remembers that it was verified.
    pub fn set_verified(&self) -> Result<()> {
        let path = self.folder.join(UNVERIFIED);
        fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))
    }

    /// Whether the upgrade that it was made before has neither ended nor been undone.
    pub fn is_unfinished(&self) -> bool {
        is_unfinished(&self.folder)
    }

    /// Remembers that the upgrade has ended, or was undone.
    pub fn set_finished(&self) -> Result<()> {
        let path = self.folder.join(UNFINISHED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("failed to remove {}", path.display())),
        }
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
        let opened = plain_file::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, mut file) =
            opened.map_err(|error| damaged(&self.folder, format!("{} can't be read: {error}", dump.file)))?;
        let changed = || damaged(&self.folder, format!("{} has changed since it was written", dump.file));
        if length != dump.bytes {
            return Err(changed());
        }
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
        if sum.finish() == dump.sha256 { Ok(()) } else { Err(changed()) }
    }
}

/// Marks a backup as one that is to be verified.
pub(super) fn mark_unverified(folder: &Path) -> std::io::Result<()> {
    write_whole(
        &folder.join(UNVERIFIED),
        "it was to be restored and compared, and this is removed where it was\n",
    )
}

/// Whether a folder has the word of an upgrade that hasn't ended, whatever else is wrong with it.
pub fn is_unfinished(folder: &Path) -> bool {
    folder.join(UNFINISHED).symlink_metadata().is_ok()
}

/// Marks a backup as one of an upgrade that hasn't ended.
pub(super) fn mark_unfinished(folder: &Path) -> std::io::Result<()> {
    write_whole(
        &folder.join(UNFINISHED),
        "an upgrade began after it, and this is removed when that has ended\n",
    )
}

fn damaged(folder: &Path, fault: String) -> Error {
    let message = format!("the backup {} is damaged: {fault}", folder.display());
    Failure::new(Exit::Failed, message).hint("take another one: {XTASK} backups").into()
}

/// Writes a small file, and sees it on the disk.
pub(super) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = private_file(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
