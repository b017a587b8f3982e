//! Containers and images, as the engine describes them.

use jzon::JsonValue;
use jzon::object::Object;

/// A container as the engine's list has it, of whatever project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub state: String,
    pub project: String,
    pub service: String,
    /// Made by `compose run`, not by `compose up`.
    pub one_off: bool,
}

/// What `docker ps --format` is to print for [`Listed::read`].
pub const LIST_FORMAT: &str = concat!(
    "{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Label \"com.docker.compose.project\"}}\t",
    "{{.Label \"com.docker.compose.service\"}}\t{{.Label \"com.docker.compose.oneoff\"}}",
);

impl Listed {
    /// Reads a line of the list; none where it isn't one.
    pub fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(String::from);
        let mut next = || fields.next();
        let (id, names, state, project, service) = (next()?, next()?, next()?, next()?, next()?);
        // Where other containers link to it, it has their names for it too.
        let name = names.split(',').find(|name| !name.contains('/'))?.to_string();
        Some(Self { id, name, state, project, service, one_off: next()? == "True" })
    }

    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

/// A container of the project, as the engine reports it.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub service: String,
    pub image: String,
    /// The image it was made from, without `sha256:`.
    pub image_id: String,
    /// Compose's hash of the configuration it was made from.
    pub config_hash: String,
    /// Its restart policy is `always` or `unless-stopped`.
    pub restarts_always: bool,
    /// `created`, `running`, `paused`, `restarting`, `exited` or `dead`.
    pub state: String,
    /// What its health check says: `starting`, `healthy` or `unhealthy`; none where it has none.
    pub health: Option<String>,
    pub restarts: u64,
    pub exit_code: i64,
    /// Port in the container, and the address it is published at.
    pub ports: Vec<(u16, String)>,
    /// Its address in the networks of the engine.
    pub address: Option<String>,
}

impl Container {
    /// Reads one of what `docker container inspect` prints.
    pub fn read(json: &JsonValue) -> Self {
        let text = |value: &JsonValue| value.as_str().unwrap_or_default().to_string();
        let published = |(port, addresses): (&str, &JsonValue)| {
            let port: u16 = port.strip_suffix("/tcp")?.parse().ok()?;
            let first = addresses.as_array()?.first().filter(|first| !first["HostPort"].is_empty())?;
            let host = match first["HostIp"].as_str()? {
                "0.0.0.0" | "" | "::" => "127.0.0.1".to_string(),
                ip if ip.contains(':') => format!("[{ip}]"),
                ip => ip.to_string(),
            };
            Some((port, format!("{host}:{}", first["HostPort"].as_str()?)))
        };
        // A container between two restarts has no ports of its own, only those it asked for.
        let asked = json["HostConfig"]["PortBindings"].as_object();
        let networks = json["NetworkSettings"]["Networks"].as_object();
        let addresses = networks
            .into_iter()
            .flat_map(Object::iter)
            .filter_map(|(_, network)| network["IPAddress"].as_str());
        let ports = json["NetworkSettings"]["Ports"].as_object().filter(|ports| !ports.is_empty()).or(asked);
        Self {
            id: text(&json["Id"]),
            name: text(&json["Name"]).trim_start_matches('/').into(),
            service: text(&json["Config"]["Labels"]["com.docker.compose.service"]),
            image: text(&json["Config"]["Image"]),
            image_id: text(&json["Image"]).trim_start_matches("sha256:").into(),
            config_hash: text(&json["Config"]["Labels"]["com.docker.compose.config-hash"]),
            restarts_always: ["always", "unless-stopped"]
                .contains(&json["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap_or_default()),
            state: text(&json["State"]["Status"]),
            health: json["State"]["Health"]["Status"].as_str().map(String::from),
            restarts: json["RestartCount"].as_u64().unwrap_or(0),
            exit_code: json["State"]["ExitCode"].as_i64().unwrap_or(0),
            ports: ports.into_iter().flat_map(Object::iter).filter_map(published).collect(),
            address: addresses.filter(|address| !address.is_empty()).map(String::from).next(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// It ended well and isn't meant to go on.
    pub fn is_finished(&self) -> bool {
        self.state == "exited" && self.exit_code == 0 && !self.restarts_always
    }
}

/// The label of a stand-in; its value tells what it was built from.
pub const STAND_IN_LABEL: &str = "xtask.stand-in";

/// An image that the engine has.
#[derive(Debug, Clone)]
pub struct Image {
    pub name: String,
    pub id: String,
    pub stand_in: Option<String>,
    /// Who its containers run as; empty: root.
    pub user: String,
}

impl Image {
    /// Reads one of what `docker image inspect` prints.
    pub fn read(name: &str, json: &JsonValue) -> Option<Self> {
        let config = &json["Config"];
        Some(Self {
            name: name.into(),
            id: json["Id"].as_str()?.trim_start_matches("sha256:").into(),
            stand_in: config["Labels"][STAND_IN_LABEL].as_str().map(String::from),
            user: config["User"].as_str().unwrap_or_default().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_others_link_to_keeps_its_own_name() {
        let listed = Listed::read("1\tweb/db,stack-db-1\trunning\tstack\tdb\tFalse").expect("a container");
        assert_eq!((listed.name.as_str(), listed.one_off), ("stack-db-1", false));
        assert_eq!(Listed::read("a warning"), None);
    }
}
