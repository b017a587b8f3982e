//! What the name of an image tells.

use ory_facts::product::Product;

/// The last part of an image's name: `kratos` of `registry/oryd/kratos:v26.2.0@sha256:...`.
pub fn name(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(':').next().unwrap_or(last)
}

/// What follows the name: `v26.2.0`.
pub fn tag(image: &str) -> Option<&str> {
    let image = image.split('@').next().unwrap_or(image);
    image.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

/// Whether it has the name of one of Ory's own open-source images.
pub fn is_orys(image: &str) -> bool {
    let registries = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    let path = registries.iter().find_map(|registry| image.strip_prefix(registry)).unwrap_or(image);
    path.starts_with("oryd/") && Product::named(name(image)).is_some()
}

/// Whether the image behind the name may be another one tomorrow, of another major version among others.
pub fn is_floating(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let tag = tag(image).unwrap_or("latest");
    let first = tag.split(['-', '.']).next().unwrap_or(tag);
    let is_official = ["postgres:", "library/postgres:", "docker.io/library/postgres:"];
    let is_official = is_official.iter().any(|name| image.strip_prefix(name).is_some_and(|rest| rest == tag));
    ["latest", "edge", "main", "master", "nightly", "stable", "dev"].contains(&first)
        // `alpine` or `bookworm`: the newest major version, on that system.
        || (is_official && !tag.starts_with(|c: char| c.is_ascii_digit()))
}

/// The major version of PostgreSQL, of an image with the official one's name and tag.
pub fn postgres_major(image: &str) -> Option<u32> {
    let digits = tag(image).filter(|_| name(image) == "postgres")?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        let image = "registry:5000/oryd/kratos:v26.2.0@sha256:cafe";
        assert_eq!((name(image), tag(image)), ("kratos", Some("v26.2.0")));
        assert_eq!((name("registry:5000/kratos"), tag("registry:5000/kratos")), ("kratos", None));
    }

    #[test]
    fn an_image_of_orys_own_is_known_by_its_whole_name() {
        for image in ["oryd/kratos", "docker.io/oryd/hydra:v26.2.0", "oryd/keto:v26.2.0@sha256:cafe"] {
            assert!(is_orys(image), "{image}");
        }
        for image in [
            "kratos",
            "shop/oryd/kratos",
            "registry.example.com/oryd/kratos",
            "oryd/kratos-selfservice-ui-node",
        ] {
            assert!(!is_orys(image), "{image}");
        }
    }

    #[test]
    fn a_tag_that_moves_is_known() {
        for image in ["oryd/kratos", "oryd/kratos:latest", "oryd/kratos:latest-distroless", "postgres:alpine"]
        {
            assert!(is_floating(image), "{image}");
        }
        for image in
            ["oryd/kratos:v26.2.0", "oryd/kratos@sha256:cafe", "postgres:17-alpine", "mine/postgres:debian"]
        {
            assert!(!is_floating(image), "{image}");
        }
    }

    #[test]
    fn the_major_version_of_postgresql_is_in_its_tag() {
        assert_eq!(postgres_major("postgres:17-alpine"), Some(17));
        assert_eq!(postgres_major("registry/postgres:18.1"), Some(18));
        assert_eq!((postgres_major("postgres:alpine"), postgres_major("oryd/kratos:v26.2.0")), (None, None));
    }
}
