//! A container, as the engine describes it.

use serde_json::Value;

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
    /// Made by `compose run`, not by `compose up`.
    pub one_off: bool,
    /// `created`, `running`, `paused`, `restarting`, `exited` or `dead`.
    pub state: String,
    pub restarts: u64,
    pub exit_code: i64,
    /// Port in the container, and the address it is published at.
    pub ports: Vec<(u16, String)>,
    /// Its address in the networks of the engine.
    pub address: Option<String>,
}

impl Container {
    /// Reads one of what `docker container inspect` prints.
    pub fn read(json: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let published = |(port, addresses): (&String, &Value)| {
            let port: u16 = port.strip_suffix("/tcp")?.parse().ok()?;
            let first = addresses.as_array()?.first().filter(|first| first["HostPort"] != "")?;
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
            one_off: json["Config"]["Labels"]["com.docker.compose.oneoff"] == "True",
            state: text(&json["State"]["Status"]),
            restarts: json["RestartCount"].as_u64().unwrap_or(0),
            exit_code: json["State"]["ExitCode"].as_i64().unwrap_or(0),
            ports: ports.into_iter().flatten().filter_map(published).collect(),
            address: addresses.filter(|address| !address.is_empty()).map(String::from).next(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}
