//! Failures of the engine: ports, images, disks, mounts.

use super::row::{ROW, Row};

pub const ROWS: &[Row] = &[
    Row {
        id: "port",
        any: &["port is already allocated", "address already in use", "ports are not available"],
        message: "a port that a service publishes is taken{address}",
        hint: "free it, or publish another one (a *_PORT variable in .env, where the stack has one); then run \
               this again",
        ..ROW
    },
    Row {
        id: "no-space",
        any: &["no space left on device"],
        message: "no space is left on the device",
        hint: "docker system df",
        ..ROW
    },
    Row {
        id: "image-platform",
        any: &["exec format error", "no matching manifest for *", "does not match the specified platform"],
        message: "an image is for another architecture than this machine",
        hint: "name an image for this one (a *_IMAGE variable in .env, where the stack has one): docker image ls",
        ..ROW
    },
    Row {
        id: "pull-limit",
        any: &["toomanyrequests"],
        message: "the registry gives no more images for now",
        hint: "docker login",
        ..ROW
    },
    Row {
        id: "registry-unreachable",
        any: &["Get \"https://*/*\": *", "Get \"http://*/*\": *", "TLS handshake timeout"],
        message: "the registry {1} can't be reached",
        hint: "see to the network or the proxy of the Docker daemon, or name an image that is here: docker image ls",
        ..ROW
    },
    Row {
        id: "image-missing",
        any: &[
            "No such image",
            "pull access denied",
            "manifest unknown",
            "manifest for * not found",
            "Unable to find image",
        ],
        message: "an image is neither here nor to be pulled",
        hint: "docker login, or name another image (a *_IMAGE variable in .env, where the stack has one)",
        ..ROW
    },
    Row {
        id: "mount",
        any: &["Are you trying to mount a directory onto a file", "bind source path does not exist*"],
        message: "a service mounts a folder where its image has a file, or the other way round",
        hint: "see to the files under `volumes:`; Docker makes an empty folder of one that is missing",
        ..ROW
    },
    Row {
        id: "program-missing",
        any: &["unable to start container process: exec: \"*\": *"],
        message: "the image has no program {1}",
        hint: "mend the entrypoint or the image of the service",
        ..ROW
    },
    Row {
        id: "name-taken",
        any: &["The container name \"/*\" is already in use"],
        message: "another container has the name {1}",
        hint: "docker rm {1}",
        ..ROW
    },
    Row {
        id: "external-network",
        any: &["etwork * declared as external, but could not be found"],
        message: "the network {1}, which the stack takes from elsewhere, isn't there",
        hint: "docker network create {1}",
        ..ROW
    },
    Row {
        id: "external-volume",
        any: &["external volume \"*\" not found", "olume * declared as external, but could not be found"],
        message: "the volume {1}, which the stack takes from elsewhere, isn't there",
        hint: "docker volume create {1}",
        ..ROW
    },
    Row {
        id: "client-too-old",
        any: &["client version * is too old"],
        message: "this Compose speaks version {1} of the engine's language, which the engine no longer knows",
        hint: "take Compose 2 (the package docker-compose-plugin, or a newer docker-compose); where it is there \
               already: XTASK_COMPOSE=\"docker compose\" before the command",
        ..ROW
    },
    Row {
        id: "network-gone",
        any: &["network * not found"],
        message: "a container is of a network that is gone",
        hint: "{XTASK} down && {XTASK} up",
        ..ROW
    },
    Row {
        id: "networks-used-up",
        any: &["all predefined address pools have been fully subnetted", "non-overlapping IPv4 address pool"],
        message: "no address is left for one more network of Docker",
        hint: "docker network prune",
        ..ROW
    },
];

/// Where no line says more.
pub const LAST: &[Row] = &[Row {
    id: "killed",
    any: &[""],
    exit: Some(137),
    message: "it was killed: by `docker kill`, or because the machine had no memory left",
    hint: "run this again; if it stays so: docker stats --no-stream",
    ..ROW
}];
