//! Where the engine is, seen from this machine: here, or remote.

use std::path::PathBuf;

use crate::engine::Engine;

impl Engine {
    /// Whether this machine has the engine's networks, ports and files: where they aren't in a machine of their own, as
    /// they are beside another system than Linux.
    pub fn is_here(&self) -> bool {
        cfg!(target_os = "linux") && !self.is_remote()
    }

    /// Whether the daemon is on another machine, by the variable, else by Docker's current context. A socket is of this
    /// machine, whoever listens at it.
    pub fn is_remote(&self) -> bool {
        self.remote.get(|| Ok(self.is_elsewhere())).unwrap_or(false)
    }

    fn is_elsewhere(&self) -> bool {
        let named = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        if named.is_none() && !has_context() {
            return false;
        }
        let in_context = || {
            let format = "{{.Endpoints.docker.Host}}";
            self.docker(["context", "inspect", "--format", format]).read().ok()
        };
        let host = named.or_else(in_context).unwrap_or_default();
        let host = host.trim();
        !host.is_empty() && !["unix://", "npipe://", "fd://"].iter().any(|scheme| host.starts_with(scheme))
    }
}

/// Whether Docker's client may have been given another context than its own default, which is a socket of this machine.
fn has_context() -> bool {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
    let config = folder.and_then(|folder| std::fs::read_to_string(folder.join("config.json")).ok());
    std::env::var_os("DOCKER_CONTEXT").is_some() || config.is_some_and(|text| text.contains("currentContext"))
}
