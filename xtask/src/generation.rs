//! The two generations of Compose that the tests run under: there, and able to speak to this engine, or said not to be.

use std::path::Path;

use anyhow::{Result, bail};

use ory_facts::next::XTASK;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{self, Invocation};

/// A generation of Compose.
pub struct Generation {
    name: &'static str,
    program: &'static str,
    words: &'static [&'static str],
    /// How its version begins.
    version: &'static str,
    /// What leaves its tests out.
    without: Option<&'static str>,
}

pub const COMPOSE_V2: Generation =
    Generation { name: "Compose v2", program: "docker", words: &["compose"], version: "", without: None };

pub const COMPOSE_V1: Generation = Generation {
    name: "docker-compose 1.29",
    program: "docker-compose",
    words: &[],
    version: "1.",
    without: Some("--no-compose-v1"),
};

/// As little as Compose takes for a project.
const PROJECT: &str = "services: { nothing: { image: nothing } }\n";

impl Generation {
    /// Fails if the tests can't run under it, with the reason.
    pub fn require(&self, dir: &Path) -> Result<()> {
        let Err(reason) = self.check(dir)? else { return Ok(()) };
        let message = format!("the tests can't run under {}: {reason}", self.name);
        let install = format!("{XTASK} test --install-docker");
        let hint = match self.without {
            Some(without) => format!("{install}; or leave these tests out: {XTASK} test {without}"),
            None => install,
        };
        bail!(Failure::new(Exit::Missing, message).hint(hint))
    }

    /// Whether it is there and gets an answer from the engine, or the reason why not, in words.
    fn check(&self, dir: &Path) -> Result<Result<(), String>> {
        if process::find(self.program).is_none() {
            return Ok(Err(format!("{} is not on the PATH", self.program)));
        }
        let compose = Invocation::new(self.program, dir).args(self.words.iter().copied());
        let version = compose.clone().args(["version", "--short"]).output()?;
        let found = String::from_utf8_lossy(&version.stdout).trim().to_string();
        if !version.status.success() {
            return Ok(Err(format!("`{compose}` doesn't run")));
        }
        if !found.starts_with(self.version) {
            return Ok(Err(format!("`{compose}` is version {found}")));
        }
        // The engine's API can be too new for it.
        let list = compose.args(["--project-name", "xtask-test", "--file", "-", "ps", "--quiet"]);
        let listed = list.stdin(PROJECT).output()?;
        if listed.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&listed.stderr);
        let last =
            said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("the engine doesn't answer it");
        Ok(Err(last.to_string()))
    }
}
