//! Where a database server keeps its data, and who makes its databases.

use super::finding::Finding;
use super::view::{Deployed, View};
use crate::image;
use crate::service::{Mount, Service};

/// The label of a database service that lists the roles and databases xtask may create on it.
pub const CREATE_LABEL: &str = "xtask.create-databases";

/// The folder whose scripts the official image runs on an empty volume.
const SCRIPTS: &str = "/docker-entrypoint-initdb.d";

/// Each server keeps its data where `down` leaves it.
pub fn check(view: &View) -> Vec<Finding> {
    view.servers().into_iter().filter_map(check_server).collect()
}

/// Where a server may keep its data: what is mounted there. Of an image that isn't the official one, whatever isn't
/// mounted where programs look for their settings.
pub fn data(server: &Service) -> Vec<&Mount> {
    let major = server.image.as_deref().and_then(image::postgres_major);
    let is_postgres = server.image.as_deref().is_some_and(|image| image::name(image) == "postgres");
    let is_setting = |target: &str| {
        ["/etc", "/run", "/var/run", "/usr", "/opt", "/tmp", "/docker-", "/backup"]
            .iter()
            .any(|folder| target.starts_with(folder))
    };
    let may_hold = |mount: &&Mount| match is_postgres {
        true => holds_data(server, major, &mount.target),
        false => !is_setting(&mount.target),
    };
    server.mounts.iter().filter(may_hold).collect()
}

fn check_server(server: &Service) -> Option<Finding> {
    let major = server.image.as_deref().and_then(image::postgres_major);
    let data: Vec<_> = server.mounts.iter().filter(|mount| !mount.target.starts_with(SCRIPTS)).collect();
    let is_kept = |mount: &&&Mount| mount.source.is_some() || mount.volume.is_some();
    if !is_database(server) {
        return None;
    }
    if let Some(finding) = refused(server, major) {
        return Some(finding);
    }
    let is_in_memory = server.tmpfs.iter().any(|target| target.starts_with("/var/lib/postgresql"));
    let is_postgres = server.image.as_deref().is_some_and(|image| image::name(image) == "postgres");
    let covers = |mount: &&Mount| !is_postgres || holds_data(server, major, &mount.target);
    if is_in_memory || data.iter().filter(is_kept).any(covers) {
        return None;
    }
    let place = place(major);
    let fix = format!("mount a volume at {place}: - {}-data:{place}", server.name);
    let message = match data.iter().find(is_kept).filter(|mount| mount.target.starts_with("/var/lib/")) {
        Some(mount) => {
            let keeps = major
                .map_or(String::new(), |major| format!(", where PostgreSQL {major} doesn't keep its data"));
            let target = &mount.target;
            format!("its volume is at {target}{keeps}: the data is in one without a name, and lost at `down`")
        }
        None => "its data is in no volume with a name: it is lost at `down`".into(),
    };
    Some(Finding::warning(&server.name, message, fix))
}

/// What the official image of 18 and newer refuses: anything mounted where releases before it kept their data, even if it's
/// empty. Only a PGDATA of one's own makes it look elsewhere.
/// Source: <https://github.com/docker-library/postgres/pull/1259>.
fn refused(server: &Service, major: Option<u32>) -> Option<Finding> {
    let major = major.filter(|major| *major >= 18 && !server.environment.contains_key("PGDATA"))?;
    let (before, now) = (place(None), place(Some(major)));
    let targets = server.mounts.iter().map(|mount| mount.target.as_str());
    let targets = targets.chain(server.tmpfs.iter().map(String::as_str));
    targets.map(|target| target.trim_end_matches('/')).find(|target| *target == before)?;
    let message =
        format!("the server won't start: PostgreSQL {major}'s image refuses what is mounted at {before}");
    let fix = format!(
        "with data of an older release there, name its image again, then: {{XTASK}} upgrade db --to {major}; \
         without, mount it at {now}"
    );
    Some(Finding::failure(&server.name, message, fix))
}

/// Whether a server has data itself: a pooler, or another proxy, has none.
fn is_database(server: &Service) -> bool {
    let image = server.image.as_deref().map(image::name).unwrap_or_default();
    let set =
        ["POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_HOST_AUTH_METHOD", "POSTGRESQL_PASSWORD", "PGDATA"];
    let is_named = ["postgres", "postgis", "timescale", "pgvector"].iter().any(|name| image.contains(name));
    !image.contains("bouncer") && (is_named || set.iter().any(|name| server.environment.contains_key(*name)))
}

/// Where the official image wants the volume. Since 18 the data is in a folder of the release below it.
/// Source: <https://github.com/docker-library/docs/blob/master/postgres/README.md#pgdata>.
fn place(major: Option<u32>) -> &'static str {
    if major.is_some_and(|major| major >= 18) { "/var/lib/postgresql" } else { "/var/lib/postgresql/data" }
}

/// Whether the data is in what is mounted at a path. The image's own volume, without a name, hides what is
/// mounted above it.
fn holds_data(server: &Service, major: Option<u32>, target: &str) -> bool {
    let target = target.trim_end_matches('/');
    let below = |path: &str, folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    let holds = |major: u32| {
        let own = place(Some(major));
        let default = if major >= 18 { format!("{own}/{major}/docker") } else { own.into() };
        let data = server.environment.get("PGDATA").unwrap_or(&default).trim_end_matches('/');
        below(data, target) && (!below(data, own) || below(target, own))
    };
    match major {
        Some(major) => holds(major),
        // An image that doesn't tell may be of either kind.
        None => holds(17) || holds(18),
    }
}

/// A script of an empty volume never makes the database of a product that comes later.
pub fn check_scripts(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in view.servers() {
        let has_scripts = server.mounts.iter().any(|mount| mount.target.starts_with(SCRIPTS));
        if !has_scripts || server.labels.contains_key(CREATE_LABEL) {
            continue;
        }
        // What the image makes itself.
        let set =
            |name: &str| server.environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let own = set("POSTGRES_DB").or(set("POSTGRES_USER")).unwrap_or("postgres");
        let on_it = |deployed: &Deployed| {
            let databases = deployed.databases().filter(|d| d.server.as_ref() == Some(&server.name));
            let names = databases.map(|database| database.dsn.database.clone());
            names.filter(|name| name != own && name != "postgres").collect::<Vec<_>>()
        };
        let mut names: Vec<_> = view.products.iter().flat_map(on_it).collect();
        names.dedup();
        if names.is_empty() {
            continue;
        }
        let message = format!("{}: only a script makes them, on an empty volume only", names.join(", "));
        let fix =
            format!("labels: {{{CREATE_LABEL}: {}}} lets xtask make those that are missing", names.join(" "));
        findings.push(Finding::warning(&server.name, message, fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepts, finds};
    use super::*;

    const IMAGE: &str = "image: postgres:17-alpine";
    const VOLUMES: &str = "volumes: ['data:/var/lib/postgresql/data']";

    #[test]
    fn a_database_without_a_volume_is_found_and_one_meant_for_memory_is_not() {
        for to in [
            "volumes: []",
            "volumes: [/var/lib/postgresql/data]",
            "volumes: ['/x:/docker-entrypoint-initdb.d']",
        ] {
            let finding = finds(check, VOLUMES, to);
            assert!(finding.message.contains("in no volume with a name"), "{finding:?}");
        }
        accepts(check, VOLUMES, "tmpfs: /var/lib/postgresql/data");
        accepts(check, VOLUMES, "volumes: ['/srv/data:/var/lib/postgresql/data']");
    }

    #[test]
    fn a_pooler_has_no_data() {
        for image in ["mine/pgbouncer:1", "registry.example.com/pool:1"] {
            accepts(check, &format!("{IMAGE}\n"), &format!("image: {image}\n  tmpfs: [/tmp]\n"));
            let stack =
                super::super::tests::GOOD.replace(IMAGE, &format!("image: {image}")).replace(VOLUMES, "");
            assert_eq!(super::super::tests::found(check, &stack), []);
        }
    }

    #[test]
    fn a_mount_at_the_old_path_keeps_18_from_starting() {
        let finding = finds(check, IMAGE, "image: postgres:18-alpine");
        assert!(finding.is_failure() && finding.message.starts_with("the server won't start"), "{finding:?}");
        assert!(finding.fix.is_some_and(|fix| fix.contains("{XTASK} upgrade db --to 18")));
        let at = |target: &str| {
            let from = format!("{IMAGE}\n  labels: {{xtask.create-databases: kratos}}\n  {VOLUMES}");
            (from, format!("image: postgres:19\n  {target}"))
        };
        let (from, memory) = at("tmpfs: /var/lib/postgresql/data");
        assert!(finds(check, &from, &memory).is_failure());
        for right in ["tmpfs: /var/lib/postgresql", "volumes: ['data:/var/lib/postgresql']"] {
            let (from, to) = at(right);
            accepts(check, &from, &to);
        }
        accepts(check, IMAGE, "image: registry.example.com/mine:18");
    }

    #[test]
    fn a_volume_at_a_path_that_the_release_does_not_use_is_found() {
        let finding = finds(check, VOLUMES, "volumes: ['data:/var/lib/postgresql']");
        assert!(finding.message.contains("where PostgreSQL 17 doesn't keep its data"), "{finding:?}");
        assert_eq!(
            finding.fix.as_deref(),
            Some("mount a volume at /var/lib/postgresql/data: - db-data:/var/lib/postgresql/data")
        );
        accepts(check, &format!("{IMAGE}\n"), "image: registry.example.com/postgres:debian\n");
        accepts(check, IMAGE, "image: bitnami/postgresql:18");
    }

    #[test]
    fn a_data_folder_of_its_own_is_looked_for_where_it_is() {
        let at = |target: &str, folder: &str| {
            format!("volumes: ['data:{target}']\n  environment: {{PGDATA: {folder}}}")
        };
        accepts(check, VOLUMES, &at("/var/lib/postgresql/data", "/var/lib/postgresql/data/pgdata"));
        accepts(check, VOLUMES, &at("/data", "/data/pg"));
        finds(check, VOLUMES, &at("/var/lib/postgresql/data", "/data/pg"));
        let newer = "image: postgres:18\n  environment: {PGDATA: /var/lib/postgresql/data}";
        accepts(check, IMAGE, newer);
    }

    #[test]
    fn a_database_that_only_a_script_makes_is_found() {
        let label = "labels: {xtask.create-databases: kratos}\n  volumes: [";
        let script = "volumes: ['./sql:/docker-entrypoint-initdb.d', ";
        let finding = finds(check_scripts, label, script);
        assert_eq!(finding.message, "kratos: only a script makes them, on an empty volume only");
        accepts(check_scripts, label, &format!("environment: {{POSTGRES_DB: kratos}}\n  {script}"));
        accepts(check_scripts, "volumes: [", script);
        accepts(check_scripts, "labels: {xtask.create-databases: kratos}\n  ", "");
    }
}
