//! What is typed where the engine is missing or stopped.

use std::sync::LazyLock;

/// How a missing engine is installed, or a stopped one started, on this operating system.
pub struct Remedy {
    pub install: &'static str,
    pub compose: &'static str,
    pub start: &'static str,
    pub podman: &'static str,
}

const PODMAN: &str = "put Docker's own client and Compose before it on the PATH (docker-ce-cli, docker-compose-plugin; no \
                      daemon), and speak to Podman's socket: systemctl --user start podman.socket && export \
                      DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock";

/// That of this operating system.
pub static REMEDY: LazyLock<Remedy> = LazyLock::new(|| match std::env::consts::OS {
    "linux" => Remedy {
        install: "sudo apt-get install docker.io docker-compose (or your distribution's packages)",
        compose: "sudo apt-get install docker-compose (or your distribution's docker-compose-plugin)",
        start: "sudo systemctl start docker",
        podman: PODMAN,
    },
    "macos" => Remedy {
        install: "brew install --cask docker, then open -a Docker",
        compose: "brew install docker-compose, or update Docker Desktop",
        start: "open -a Docker",
        podman: PODMAN,
    },
    _ => Remedy {
        install: "install Docker Desktop",
        compose: "update Docker Desktop",
        start: "start Docker Desktop",
        podman: PODMAN,
    },
});
