//! Backups: folders with a dump for each database and a manifest.

pub mod contents_list;
pub(crate) mod folder;
mod take;

pub use folder::{Backup, all, folder, is_unfinished, latest, open};
pub use take::{fingerprints, now, take, take_before};
