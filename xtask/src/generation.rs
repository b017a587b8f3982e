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
    /// What is typed where it can't be had.
    instead: &'static str,
}

pub const COMPOSE_V2: Generation =
    Generation { name: "Compose v2", program: "docker", words: &["compose"], version: "", instead: "" };

pub const COMPOSE_V1: Generation = Generation {
    name: "docker-compose 1.29",
    program: "docker-compose",
    words: &[],
    version: "1.",
    instead: ", or `--no-compose-v1` to leave out its tests",
};

/// As little as Compose takes for a project.
const PROJECT: &str = "services: { nothing: { image: nothing } }\n";

impl Generation {
    /// Fails if the tests can't run under it, with the reason.
    pub fn require(&self, dir: &Path) -> Result<()> {
        let Some(reason) = self.lacks(dir)? else { return Ok(()) };
        let message = format!("the tests can't run under {}: {reason}", self.name);
        let hint = format!("{XTASK} test --install-docker{}", self.instead);
        bail!(Failure::new(Exit::Missing, message).hint(hint))
    }

    /// What is wrong with it, in words.
    fn lacks(&self, dir: &Path) -> Result<Option<String>> {
        if process::find(self.program).is_none() {
            return Ok(Some(format!("{} is not on the PATH", self.program)));
        }
        let compose = Invocation::new(self.program, dir).args(self.words.iter().copied());
        let version = compose.clone().args(["version", "--short"]).output()?;
        let found = String::from_utf8_lossy(&version.stdout).trim().to_string();
        if !version.status.success() || !found.starts_with(self.version) {
            return Ok(Some(format!(
                "{} is {}",
                self.program,
                if found.is_empty() { "no Compose" } else { &found }
            )));
        }
        // It must be the engine that answers: its API can be too new for 1.29.
        let list =
            compose.args(["--project-name", "xtask-test", "--file", "-", "ps", "--quiet"]).stdin(PROJECT);
        let listed = list.output()?;
        let said = String::from_utf8_lossy(&listed.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it fails").to_string();
        Ok((!listed.status.success()).then_some(last))
    }
}
