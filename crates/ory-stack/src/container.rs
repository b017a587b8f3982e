//! Containers and images, as the engine describes them.

use serde_json::Value;

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
    /// What Compose read variables from when it was made, and the stack's folder then; empty where it doesn't tell.
    pub env_files: String,
    pub folder: String,
}

/// What `docker ps --format` is to print for [`Listed::read`].
pub const LIST_FORMAT: &str = concat!(
    "{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Label \"com.docker.compose.project\"}}\t",
    "{{.Label \"com.docker.compose.service\"}}\t{{.Label \"com.docker.compose.oneoff\"}}\t",
    "{{.Label \"com.docker.compose.project.environment_file\"}}\t",
    "{{.Label \"com.docker.compose.project.working_dir\"}}",
);

impl Listed {
    /// Reads a line of the list; none where it isn't one.
    pub fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(String::from);
        let mut next = || fields.next();
        let (id, names, state, project, service) = (next()?, next()?, next()?, next()?, next()?);
        // Where other containers link to it, it has their names for it too.
        let name = names.split(',').find(|name| !name.contains('/'))?.to_string();
        let one_off = next()? == "True";
        let (env_files, folder) = (next().unwrap_or_default(), next().unwrap_or_default());
        Some(Self { id, name, state, project, service, one_off, env_files, folder })
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
    /// When it was started the last time, as the engine writes a time.
    pub started: String,
    pub exit_code: i64,
    /// Port in the container, and the address it is published at.
    pub ports: Vec<(u16, String)>,
    /// Its addresses in the networks of the engine.
    pub addresses: Vec<String>,
    /// It has no network of its own: its ports are the machine's.
    pub is_on_host: bool,
    /// Its image says where PostgreSQL keeps its data.
    pub is_postgres: bool,
    /// Where PostgreSQL would keep its data in it.
    pub data: Data,
}

/// The elements of an array; of what is none, nothing.
fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn data_folder(json: &Value) -> Option<&str> {
    let mut variables = list(&json["Config"]["Env"]).filter_map(Value::as_str);
    variables.find_map(|variable| variable.strip_prefix("PGDATA="))
}

/// Where the data of a database is, that is in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In a volume with a name, or in a folder of the machine: there it stays.
    Kept,
    /// In a volume that only this container knows.
    Nameless,
    /// In the container itself.
    Own,
    /// In memory: it is meant to be lost.
    Memory,
}

impl Data {
    fn read(json: &Value) -> Self {
        let folder = data_folder(json).unwrap_or("/var/lib/postgresql/data").trim_end_matches('/');
        let depth = |target: &str| {
            let rest = folder.strip_prefix(target.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some(target.trim_end_matches('/').len())
        };
        let mounts = list(&json["Mounts"]).filter_map(|mount| {
            // The engine names what has no name by a digest.
            let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
            let kind = match (mount["Type"].as_str()?, mount["Name"].as_str()) {
                ("tmpfs", _) => Self::Memory,
                ("volume", Some(name)) if is_digest(name) => Self::Nameless,
                _ => Self::Kept,
            };
            Some((depth(mount["Destination"].as_str()?)?, kind))
        });
        let in_memory = json["HostConfig"]["Tmpfs"].as_object().into_iter().flatten();
        let in_memory = in_memory.filter_map(|(target, _)| Some((depth(target)?, Self::Memory)));
        mounts.chain(in_memory).max_by_key(|(depth, _)| *depth).map_or(Self::Own, |(_, kind)| kind)
    }

    /// Whether it is lost with the container.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Nameless | Self::Own)
    }
}

impl Container {
    /// Reads one of what `docker container inspect` prints.
    pub fn read(json: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let published = |(port, addresses): (&String, &Value)| {
            let port: u16 = port.strip_suffix("/tcp")?.parse().ok()?;
            let first = addresses.as_array()?.first()?;
            let published = first["HostPort"].as_str().filter(|port| !port.is_empty())?;
            let host = match first["HostIp"].as_str()? {
                "0.0.0.0" | "" | "::" => "127.0.0.1".to_string(),
                ip if ip.contains(':') => format!("[{ip}]"),
                ip => ip.to_string(),
            };
            Some((port, format!("{host}:{published}")))
        };
        // A container between two restarts has no ports of its own, only those it asked for.
        let asked = json["HostConfig"]["PortBindings"].as_object();
        let networks = json["NetworkSettings"]["Networks"].as_object();
        let addresses =
            networks.into_iter().flatten().filter_map(|(_, network)| network["IPAddress"].as_str());
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
            started: text(&json["State"]["StartedAt"]),
            restarts: json["RestartCount"].as_u64().unwrap_or(0),
            exit_code: json["State"]["ExitCode"].as_i64().unwrap_or(0),
            ports: ports.into_iter().flatten().filter_map(published).collect(),
            addresses: addresses.filter(|address| !address.is_empty()).map(String::from).collect(),
            is_on_host: json["HostConfig"]["NetworkMode"] == "host",
            is_postgres: data_folder(json).is_some(),
            data: Data::read(json),
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
    /// The program that its containers start, and its arguments.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// Where it starts.
    pub folder: String,
}

fn words(json: &Value) -> Vec<String> {
    list(json).filter_map(|word| Some(word.as_str()?.into())).collect()
}

impl Image {
    /// Reads one of what `docker image inspect` prints.
    pub fn read(name: &str, json: &Value) -> Option<Self> {
        let config = &json["Config"];
        Some(Self {
            name: name.into(),
            id: json["Id"].as_str()?.trim_start_matches("sha256:").into(),
            stand_in: config["Labels"][STAND_IN_LABEL].as_str().map(String::from),
            user: config["User"].as_str().unwrap_or_default().into(),
            entrypoint: words(&config["Entrypoint"]),
            command: words(&config["Cmd"]),
            folder: config["WorkingDir"].as_str().unwrap_or_default().into(),
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

    #[test]
    fn the_data_of_a_database_is_where_the_mount_nearest_to_it_keeps_it() {
        let digest = "0123456789abcdef".repeat(4);
        let data = |env: &str, mounts: &str, tmpfs: &str| {
            let text = format!(
                r#"{{"Config": {{"Env": ["A=b"{env}]}}, "Mounts": [{mounts}], "HostConfig": {{"Tmpfs": {tmpfs}}}}}"#
            );
            Data::read(&serde_json::from_str(&text).expect("JSON"))
        };
        let mount = |kind: &str, name: &str, target: &str| {
            format!(r#"{{"Type": "{kind}", "Name": "{name}", "Destination": "{target}"}}"#)
        };
        let usual = "/var/lib/postgresql/data";
        assert_eq!(data("", "", "null"), Data::Own);
        assert_eq!(data("", &mount("volume", &digest, usual), "null"), Data::Nameless);
        assert_eq!(data("", &mount("volume", "stack_db", usual), "null"), Data::Kept);
        assert_eq!(data("", &mount("bind", "", "/var/lib/postgresql"), "null"), Data::Kept);
        assert_eq!(data("", "", r#"{"/var/lib/postgresql/data": ""}"#), Data::Memory);
        // The volume that the image itself asks for hides the one above it.
        let both = [mount("volume", "stack_db", "/var/lib/postgresql"), mount("volume", &digest, usual)];
        assert_eq!(data("", &both.join(","), "null"), Data::Nameless);
        let elsewhere = r#", "PGDATA=/data/pg""#;
        assert_eq!(data(elsewhere, &mount("volume", "stack_db", usual), "null"), Data::Own);
        assert_eq!(data(elsewhere, &mount("volume", "stack_db", "/data"), "null"), Data::Kept);
    }
}
