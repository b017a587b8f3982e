//! Each thing that can be wrong with the engine, told apart.

use crate::fake::Fake;
use crate::project::{golden, outcome};

#[test]
fn no_docker() {
    golden("no_docker", &Fake::new().without_programs().run("up"));
}

#[cfg(unix)]
#[test]
fn a_docker_that_is_podman_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let fake = Fake::new();
    let dir = fake.project.dir.join("podman-docker");
    std::fs::create_dir(&dir).expect("a folder");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo podman version 4.3.1 && exit\nexec /usr/bin/podman \"$@\"\n";
    std::fs::write(dir.join("docker"), script).expect("a file");
    std::fs::set_permissions(dir.join("docker"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    for command in ["up", "status", "doctor"] {
        let mut command = fake.command(command);
        let path = format!("{}:/usr/bin:/bin", dir.display());
        let told = outcome(command.env("PATH", path)).exits(5);
        let text = format!("{}{}", told.stdout, told.stderr);
        assert!(text.contains("the program `docker` is Podman"), "{text}");
        assert!(text.contains("DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock"), "{text}");
    }
}

#[test]
fn no_compose() {
    let fake = Fake::new().fails("docker compose *", 1, "docker: unknown command: docker compose\n");
    golden("no_compose", &fake.run("migrate-all"));
}

#[test]
fn the_daemon_is_down() {
    let text =
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n";
    golden("daemon_down", &Fake::new().fails("docker ps *", 1, text).run("up"));
}

#[test]
fn no_permission_on_the_socket() {
    let text = "permission denied while trying to connect to the Docker daemon socket at \
                unix:///var/run/docker.sock: connect: permission denied\n";
    golden("no_permission", &Fake::new().fails("docker ps *", 1, text).run("up"));
}

#[test]
fn the_daemon_does_not_answer() {
    let fake = Fake::new().fails("docker ps *", 1, "Error response from daemon: no idea\n");
    golden("daemon_error", &fake.run("up"));
}

#[test]
fn an_override_that_does_not_run_is_named() {
    let fake = Fake::new();
    let mut command = fake.command("up");
    outcome(command.env("XTASK_COMPOSE", "podman compose"))
        .exits(5)
        .says("XTASK_COMPOSE is `podman compose`");
}

#[test]
fn an_override_decides_which_compose_runs() {
    let fake = Fake::v1().answers("docker compose version --short", "2.26.1\n");
    let mut command = fake.command("down");
    outcome(command.env("XTASK_COMPOSE", "docker-compose")).exits(0);
    assert!(fake.calls().contains("docker-compose down"), "{}", fake.calls());
}

#[test]
fn an_image_that_can_not_be_pulled() {
    let fake = Fake::new().fails("docker image inspect oryd/keto*", 1, "Error: No such image\n");
    let text =
        "Error response from daemon: Get \"https://registry/v2/\": dial tcp: lookup registry: no such host\n";
    golden("image_not_pulled", &fake.fails("docker pull *", 1, text).run("migrate-keto"));
}

#[test]
fn a_port_that_is_taken() {
    let text = "Error response from daemon: driver failed programming external connectivity on endpoint \
                stack-db-1: Bind for 127.0.0.1:5432 failed: port is already allocated\n";
    let fake = Fake::new().fails("docker compose up -d db", 1, text);
    golden("port_taken", &fake.run("migrate-keto"));
}
