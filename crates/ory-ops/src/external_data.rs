//! Data that is in no volume of the project's own: in folders of the host, and in volumes of others. `down --volumes`
//! leaves it, and new secrets can't read it.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use ory_stack::checks::storage;
use ory_stack::service::{Mount, Service};

use crate::context::Context;

/// A place that has data.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder's path, or the volume's name.
    pub name: String,
    is_folder: bool,
    /// Compose removes it with the project's volumes, though it was made by somebody else.
    pub is_removed: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", if self.is_folder { "folder" } else { "volume" }, self.name)
    }
}

/// The places outside of the project's `own` volumes where its database services have data.
pub fn places(cx: &Context, own: &[String]) -> Result<Vec<Place>> {
    let view = cx.stack.view();
    let mut found: Vec<Place> = vec![];
    for server in view.servers() {
        for mount in storage::data(server) {
            let place = match &mount.source {
                Some(folder) => has_files(cx, server, folder)?.then(|| Place {
                    name: folder.display().to_string(),
                    is_folder: true,
                    is_removed: false,
                }),
                None => volume(cx, own, server, mount)?,
            };
            found.extend(place.filter(|place| !found.contains(place)));
        }
    }
    Ok(found)
}

fn volume(cx: &Context, own: &[String], server: &Service, mount: &Mount) -> Result<Option<Place>> {
    let Some(name) = cx.stack.source_of(mount).filter(|name| !own.contains(name)) else { return Ok(None) };
    if !cx.engine.has_volume(&name)?
        || is_empty(cx, server, &format!("type=volume,volume-nocopy,source={name}"))?
    {
        return Ok(None);
    }
    Ok(Some(Place { name, is_folder: false, is_removed: !cx.stack.is_external(mount) }))
}

/// Whether there is nothing in what is mounted so, as the server's own image sees it, which is pulled if it isn't here: it will be
/// needed. If that can't tell, there may be data.
fn is_empty(cx: &Context, server: &Service, mount: &str) -> Result<bool> {
    let Some(image) = &server.image else { return Ok(false) };
    let _progress = cx.out.progress("looking for data of an earlier stack");
    let mount = format!("{mount},target=/mnt,readonly");
    let run =
        cx.engine.docker(["run", "--rm", "--network", "none", "--log-driver", "none", "--mount", &mount]);
    let list = run.args(["--user", "0", "--entrypoint", "ls", image, "-A", "/mnt"]);
    let output = list.within(cx.options.timeout).output()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && listed.split_whitespace().all(|name| name == EMPTY))
}

/// What a file system has that is new.
const EMPTY: &str = "lost+found";

/// Whether a folder has anything in it. Into one that its server has taken, only that or root can look.
fn has_files(cx: &Context, server: &Service, folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != EMPTY))),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Ok(!is_empty(cx, server, &format!("type=bind,source={}", folder.display()))?)
        }
        Err(_) => Ok(false),
    }
}
