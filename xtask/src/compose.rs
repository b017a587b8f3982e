//! The engine: which one there is, every `compose` and `docker` command line, and the state it reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::failure::{Exit, Failure};
use crate::process::{self, Invocation};
use ory_facts::secrets::Secrets;

/// How Compose is called, and where.
pub struct Engine {
    docker: PathBuf,
    compose: Vec<String>,
    /// docker-compose 1.x: it prints no project name, and asks for other spellings here and there.
    pub is_v1: bool,
    dir: PathBuf,
    env: Vec<(String, String)>,
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
    /// Made by `compose run`, not by `compose up`.
    one_off: bool,
    /// `created`, `running`, `paused`, `restarting`, `exited` or `dead`.
    pub state: String,
    pub restarts: u64,
    pub exit_code: i64,
    /// Port in the container, and the address it is published at.
    pub ports: Vec<(u16, String)>,
    /// Its address in the networks of the engine.
    pub address: Option<String>,
}

/// The label of a stand-in; its value tells what it was built from.
pub const STAND_IN_LABEL: &str = "xtask.stand-in";

/// An image that the engine has.
pub struct Image {
    pub name: String,
    pub id: String,
    pub stand_in: Option<String>,
}

/// How a missing engine is installed, or a stopped one started, on this operating system.
struct Remedy {
    install: &'static str,
    compose: &'static str,
    start: &'static str,
}

static REMEDY: LazyLock<Remedy> = LazyLock::new(|| match std::env::consts::OS {
    "linux" => Remedy {
        install: "sudo apt-get install docker.io docker-compose (or your distribution's packages)",
        compose: "sudo apt-get install docker-compose (or your distribution's docker-compose-plugin)",
        start: "sudo systemctl start docker",
    },
    "macos" => Remedy {
        install: "brew install --cask docker, then open -a Docker",
        compose: "brew install docker-compose, or update Docker Desktop",
        start: "open -a Docker",
    },
    _ => Remedy {
        install: "install Docker Desktop",
        compose: "update Docker Desktop",
        start: "start Docker Desktop",
    },
});

impl Engine {
    /// Finds the Docker client and Compose: `XTASK_COMPOSE`, else `docker compose`, else `docker-compose`.
    /// `dir` is the stack's folder. Each thing that can be missing is an error of its own, exit code 5.
    pub fn find(dir: &Path, env: Vec<(String, String)>) -> Result<Self> {
        let docker = process::find("docker").ok_or_else(|| {
            Failure::new(Exit::Missing, "the program `docker` is not on the PATH").hint(REMEDY.install)
        })?;
        let mut engine = Self { docker, compose: vec![], is_v1: false, dir: dir.into(), env };
        engine.check_daemon()?;
        if let Some(words) = std::env::var("XTASK_COMPOSE").ok().filter(|text| !text.trim().is_empty()) {
            engine.compose = shlex::split(&words).unwrap_or_default();
            let version = engine.compose_version().ok_or_else(|| {
                let message = format!("XTASK_COMPOSE is `{words}`, which does not run");
                Failure::new(Exit::Missing, message)
                    .hint("unset XTASK_COMPOSE, or set it to `docker compose`")
            })?;
            engine.is_v1 = version.starts_with("1.");
            return Ok(engine);
        }
        for candidate in [&["docker", "compose"][..], &["docker-compose"]] {
            engine.compose = candidate.iter().map(ToString::to_string).collect();
            if let Some(version) = engine.compose_version() {
                engine.is_v1 = version.starts_with("1.");
                return Ok(engine);
            }
        }
        let message = "Docker is there, but neither `docker compose` nor `docker-compose` is";
        Err(Failure::new(Exit::Missing, message).hint(REMEDY.compose).into())
    }

    fn compose_version(&self) -> Option<String> {
        process::find(self.compose.first()?)?;
        let output = self.compose(["version", "--short"]).output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_string();
        output.status.success().then_some(version)
    }

    fn check_daemon(&self) -> Result<()> {
        let output = self.docker(["ps", "--quiet"]).output()?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let failure = if text.contains("permission denied") {
            Failure::new(Exit::Missing, "no permission on the Docker daemon's socket")
                .hint("sudo usermod -aG docker \"$USER\", then log in again")
        } else if text.contains("Cannot connect to the Docker daemon")
            || text.contains("error during connect")
        {
            Failure::new(Exit::Missing, "the Docker daemon is not running").hint(REMEDY.start)
        } else {
            Failure::new(Exit::Missing, "the Docker daemon does not answer").hint("docker info")
        };
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_string();
        Err(anyhow::Error::msg(line).context(failure))
    }

    /// A Compose command line, run in the stack's folder.
    pub fn compose<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        let (program, words) = self.compose.split_first().map_or(("docker", &[][..]), |(p, w)| (p, w));
        Invocation::new(program, &self.dir).args(words).args(args).envs(self.env.clone())
    }

    /// A plain `docker` command line, where Compose would only cost time.
    pub fn docker<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        Invocation::new(self.docker.as_os_str(), &self.dir).args(args)
    }

    /// The whole configuration as Compose resolves it, with `$$` made `$` again. It holds secrets.
    pub fn config(&self, options: &[&str]) -> Result<Yaml> {
        let invocation = self.compose(options.iter().copied().chain(["config"]));
        let output = invocation.output()?;
        if !output.status.success() {
            return Err(self.config_failure(&String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout).replace("$$", "$");
        let documents = YamlLoader::load_from_str(&text)
            .with_context(|| format!("failed to read what `{invocation}` printed"))?;
        documents.into_iter().next().context("the Compose configuration is empty")
    }

    fn config_failure(&self, stderr: &str) -> anyhow::Error {
        let secrets = Secrets::default();
        let lines = stderr.lines().map(|line| secrets.mask(line.trim())).filter(|line| !line.is_empty());
        let cause = lines.collect::<Vec<_>>().join("\n  ");
        let dir = self.dir.display();
        let failure = if cause.contains("no configuration file") || cause.contains("Supported filenames") {
            Failure::new(Exit::Missing, format!("there is no Compose file in {dir}"))
                .hint("name the stack's folder with -C DIR, or its files with COMPOSE_FILE")
        } else {
            Failure::new(Exit::Missing, format!("Compose can't read the stack in {dir}"))
                .hint(format!("mend the file, then look at it with: {}", self.compose(["config"])))
        };
        anyhow::Error::msg(cause).context(failure)
    }

    /// Compose's hash of each service's configuration, which its containers carry as a label.
    pub fn config_hashes(&self) -> Result<BTreeMap<String, String>> {
        let hashes =
            |options: &[&str]| self.compose(options.iter().copied().chain(["config", "--hash", "*"]));
        let text = if self.is_v1 {
            hashes(&[]).read(&Secrets::default())?
        } else {
            // v2.26 leaves out of this hash what a service reads from an `env_file`, and not out of the label.
            let resolved = self.compose(["config"]).read(&Secrets::default())?;
            hashes(&["-f", "-"]).stdin(resolved).read(&Secrets::default())?
        };
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(name, hash)| (name.into(), hash.trim().into())).collect())
    }

    /// The containers of a project, one-off containers left out.
    pub fn containers(&self, project: &str) -> Result<Vec<Container>> {
        Ok(self.every_container(project)?.into_iter().filter(|container| !container.one_off).collect())
    }

    /// The containers that `compose run` made in a project.
    pub fn one_offs(&self, project: &str) -> Result<Vec<Container>> {
        Ok(self.every_container(project)?.into_iter().filter(|container| container.one_off).collect())
    }

    fn every_container(&self, project: &str) -> Result<Vec<Container>> {
        let filter = format!("label=com.docker.compose.project={project}");
        let args = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
        let ids = self.docker(args).read(&Secrets::default())?;
        self.inspect(ids.lines())
    }

    /// The names of a project's volumes.
    pub fn volumes(&self, project: &str) -> Result<Vec<String>> {
        let filter = format!("label=com.docker.compose.project={project}");
        let names = self.docker(["volume", "ls", "--quiet", "--filter", &filter]).read(&Secrets::default())?;
        Ok(names.lines().map(String::from).collect())
    }

    /// Containers by name or id; those that are gone are left out.
    pub fn inspect<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<Vec<Container>> {
        let ids: Vec<_> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let output = self.docker(["container", "inspect"].into_iter().chain(ids)).output()?;
        let json: Value =
            serde_json::from_slice(&output.stdout).context("failed to read `docker inspect`")?;
        let all = json.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().map(Container::read).collect())
    }

    /// The local images among these names; absent ones are left out.
    pub fn images<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for name in names {
            let output = self.docker(["image", "inspect", name]).output()?;
            let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            images.extend(json[0]["Id"].as_str().map(|id| Image {
                name: name.into(),
                id: id.trim_start_matches("sha256:").into(),
                stand_in: json[0]["Config"]["Labels"][STAND_IN_LABEL].as_str().map(String::from),
            }));
        }
        Ok(images)
    }
}

impl Container {
    fn read(json: &Value) -> Self {
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
