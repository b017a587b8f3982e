//! What the crate promises about itself: the Rust it needs, and no `.env` or secret in git.

use std::process::Command;

use serde_json::Value;

use crate::project::{outcome, workspace};

#[test]
fn no_dependency_needs_a_newer_rust_than_the_crate_says() {
    let version = outcome(Command::new("rustc").arg("-vV")).exits(0).stdout;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_string();
    let args = ["metadata", "--format-version=1", "--locked", "--filter-platform", &host];
    let metadata = outcome(Command::new(env!("CARGO")).args(args).current_dir(workspace())).exits(0).stdout;
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let needs = |package: &Value| {
        let text = package["rust_version"].as_str().unwrap_or("1.0");
        let parts: Vec<u32> = text.split('.').map(|part| part.parse().expect("a number")).collect();
        (parts[0], parts.get(1).copied().unwrap_or(0))
    };
    let own = needs(packages.iter().find(|package| package["name"] == "xtask").expect("xtask"));
    for package in packages {
        assert!(needs(package) <= own, "{} needs Rust {:?}", package["name"], needs(package));
    }
}

#[test]
fn git_ignores_secrets_and_data() {
    let secret = [".env", ".env.production", ".env.backup-key", "secrets/kratos.yml"];
    for path in secret.into_iter().chain(["backups/a.dump", "target/ory/logs/a.log"]) {
        outcome(Command::new("git").args(["check-ignore", "--quiet", path]).current_dir(workspace()))
            .exits(0);
    }
    outcome(Command::new("git").args(["check-ignore", "--quiet", ".env.example"]).current_dir(workspace()))
        .exits(1);
}
