//! Whether the program that is called `docker` is Docker's.

use std::path::Path;

use ory_runner::process::Invocation;

/// Whether a program that is called `docker` is Podman: a link to it, or the script of the package podman-docker.
pub fn is_podman(docker: &Path) -> bool {
    let target = docker.canonicalize().unwrap_or_else(|_| docker.into());
    let is_link = target.file_name().is_some_and(|name| name.to_string_lossy().starts_with("podman"));
    let is_short = target.metadata().is_ok_and(|metadata| metadata.len() < 4096);
    let has_name = || std::fs::read_to_string(&target).is_ok_and(|text| text.contains("podman"));
    if !(is_link || is_short && has_name()) {
        return false;
    }
    let version = Invocation::new(docker.as_os_str(), Path::new(".")).arg("--version").output();
    version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("podman"))
}
