//! Which image a database server is to have for another major version of PostgreSQL, and where its volume is to be mounted
//! for it: what the image itself says of its data's folder and of its volumes decides.

use ory_runner::failure::{Exit, Failure};
use serde_json::Value;

use crate::image::tag;

/// Where a server keeps its data: the folder, and where the volume is mounted that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub folder: String,
    pub target: String,
}

/// The image for what was asked for: a major version, or an image itself. A version keeps what its tag says besides it, as
/// `-alpine`.
pub fn image_for(current: &str, asked: &str) -> Result<String, Failure> {
    if !asked.chars().all(|c| c.is_ascii_digit()) {
        return if asked.contains([':', '@', '/']) {
            Ok(asked.into())
        } else {
            let message =
                format!("{asked} is neither a major version of PostgreSQL nor an image with its tag");
            Err(Failure::new(Exit::Usage, message).hint("{XTASK} upgrade db --to 17, or --to IMAGE:TAG"))
        };
    }
    let own = tag(current).filter(|tag| tag.starts_with(|c: char| c.is_ascii_digit()));
    match own.filter(|_| !current.contains('@')) {
        Some(tag) => {
            let rest = tag.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let name = current.strip_suffix(tag).unwrap_or(current);
            Ok(format!("{name}{asked}{rest}"))
        }
        None => {
            let message = format!(
                "the tag of {current} names no major version, so which image has {asked} can't be told"
            );
            Err(Failure::new(Exit::Usage, message).hint("name the image: {XTASK} upgrade db --to IMAGE:TAG"))
        }
    }
}

/// What an image says of where its data is, as `docker image inspect` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub folder: Option<String>,
    pub volumes: Vec<String>,
}

impl Said {
    pub fn read(json: &Value) -> Self {
        let variables = json["Config"]["Env"].as_array().into_iter().flatten();
        let folder = variables.filter_map(|v| v.as_str()?.strip_prefix("PGDATA=").map(String::from)).next();
        let volumes = json["Config"]["Volumes"].as_object().into_iter().flatten();
        Self { folder, volumes: volumes.map(|(target, _)| target.clone()).collect() }
    }

    /// Where the data goes, and where the volume is mounted that was at a target. `set`: what the stack has as PGDATA.
    pub fn place(&self, old: &Place, set: Option<&str>) -> Result<Place, String> {
        let Some(folder) = set.or(self.folder.as_deref()) else {
            return Err("the new image doesn't say where it keeps its data: it has no PGDATA".into());
        };
        // What the image itself makes a volume hides what is mounted above it.
        let hides = |target: &str| {
            self.volumes
                .iter()
                .any(|own| is_in(folder, own) && own.len() > target.len() && is_in(own, target))
        };
        if is_in(folder, &old.target) && !hides(&old.target) {
            return Ok(Place { folder: folder.into(), target: old.target.clone() });
        }
        let own = self.volumes.iter().filter(|own| is_in(folder, own)).max_by_key(|own| own.len());
        match own {
            Some(own) => Ok(Place { folder: folder.into(), target: own.clone() }),
            None => Err(format!(
                "the new image keeps its data in {folder}, which isn't in the volume at {}",
                old.target
            )),
        }
    }
}

impl Place {
    /// The data's folder inside of the volume; empty where it is the volume itself.
    pub fn within(&self) -> &str {
        self.folder.strip_prefix(self.target.trim_end_matches('/')).unwrap_or_default().trim_matches('/')
    }
}

/// Whether a path is a folder, or in it.
pub fn is_in(path: &str, folder: &str) -> bool {
    let rest = path.trim_end_matches('/').strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A mount in short form that has a target, with another one: `db:/old:z` becomes `db:/new:z`.
pub fn moved(short: &str, from: &str, to: &str) -> Option<String> {
    let from = format!(":{}", from.trim_end_matches('/'));
    let (before, rest) = short.rsplit_once(&from)?;
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    (!before.is_empty() && (rest.is_empty() || rest.starts_with(':'))).then(|| format!("{before}:{to}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_keeps_the_rest_of_the_tag() {
        let to = |image: &str, asked: &str| image_for(image, asked).map_err(|failure| failure.to_string());
        assert_eq!(to("postgres:15-alpine", "17").as_deref(), Ok("postgres:17-alpine"));
        assert_eq!(to("registry:5000/x/postgres:15.8", "17").as_deref(), Ok("registry:5000/x/postgres:17"));
        assert_eq!(to("postgres:15.8-bookworm", "18").as_deref(), Ok("postgres:18-bookworm"));
        assert_eq!(to("a/b:15", "c/d:x").as_deref(), Ok("c/d:x"));
        for image in ["postgres", "postgres:alpine", "postgres:15@sha256:cafe"] {
            assert!(to(image, "17").is_err(), "{image}");
        }
        assert!(to("postgres:15", "seventeen").is_err());
    }

    fn said(folder: &str, volume: &str) -> Said {
        Said { folder: Some(folder.into()), volumes: vec![volume.into()] }
    }

    fn place(folder: &str, target: &str) -> Place {
        Place { folder: folder.into(), target: target.into() }
    }

    const DATA: &str = "/var/lib/postgresql/data";
    const ABOVE: &str = "/var/lib/postgresql";

    #[test]
    fn the_mount_follows_what_the_image_says() {
        let (old, new) = (said(DATA, DATA), said("/var/lib/postgresql/18/docker", ABOVE));
        assert_eq!(old.place(&place(DATA, DATA), None), Ok(place(DATA, DATA)));
        assert_eq!(new.place(&place(DATA, DATA), None), Ok(place("/var/lib/postgresql/18/docker", ABOVE)));
        let newer = said("/var/lib/postgresql/19/docker", ABOVE);
        let before = place("/var/lib/postgresql/18/docker", ABOVE);
        assert_eq!(
            newer.place(&before, None).map(|place| place.within().to_string()).as_deref(),
            Ok("19/docker")
        );
        // Back over 18, the image's own volume would hide the one above.
        assert_eq!(old.place(&place("/var/lib/postgresql/18/docker", ABOVE), None), Ok(place(DATA, DATA)));
        let set = "/data/pg";
        assert_eq!(new.place(&place(set, "/data"), Some(set)), Ok(place(set, "/data")));
        assert!(new.place(&place("/x", "/x"), Some("/y")).is_err());
    }

    #[test]
    fn a_volume_is_moved_in_its_short_form() {
        assert_eq!(moved("db:/a", "/a", "/b").as_deref(), Some("db:/b"));
        assert_eq!(moved("./x:/a/:z", "/a", "/b").as_deref(), Some("./x:/b:z"));
        assert_eq!(moved("${V:-db}:/a", "/a", "/b").as_deref(), Some("${V:-db}:/b"));
        for other in ["db:/ab", "db:${AT}", "/a", "db:/a/c"] {
            assert_eq!(moved(other, "/a", "/b"), None, "{other}");
        }
    }
}
