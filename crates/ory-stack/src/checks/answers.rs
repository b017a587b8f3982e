//! What programs answered that were asked about a stack: the engine, `df`, the images.

use super::finding::Finding;
use crate::container::Container;
use crate::service::Service;

/// Of what `df -Pk FOLDER` prints.
pub fn space(text: &str, folder: &str) -> Vec<Finding> {
    let available = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3));
    let Some(megabytes) = available.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).map(|k| k / 1024)
    else {
        return vec![];
    };
    let message = format!("only {megabytes} MB are left in {folder}");
    let fix = "docker system df tells what takes it";
    match megabytes {
        0..200 => vec![Finding::failure("disk", message, fix)],
        200..2000 => vec![Finding::warning("disk", message, fix)],
        _ => vec![],
    }
}

/// Of the content of each `PG_VERSION` and what `postgres --version` prints.
pub fn major(server: &Service, image: &str, volume: &str, text: &str) -> Option<Finding> {
    let (data, own) = text.rsplit_once("postgres (PostgreSQL) ")?;
    let own = own.split(|c: char| !c.is_ascii_digit()).next()?;
    let versions: Vec<_> = data.split_whitespace().collect();
    let old = versions.first().filter(|_| !versions.contains(&own))?;
    let message = format!("its data in {volume} is of PostgreSQL {old}, its image {image} is {own}");
    let fix =
        format!("name an image of PostgreSQL {old} again; to move to {own}: {{XTASK}} upgrade db --to {own}");
    Some(Finding::failure(&server.name, message, fix))
}

/// Of what the registry says about an image that isn't here and that it doesn't give.
pub fn pull(service: &Service, image: &str, text: &str, fix: String) -> Finding {
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let reason = last.rsplit(": ").find(|part| part.trim().contains(' ')).unwrap_or(last).trim();
    Finding::missing(&service.name, format!("its image {image} isn't here, nor to be pulled: {reason}"), fix)
}

/// Of what the image says that was to run the program of a health check: to a shell, whether it knows it; else
/// by itself.
pub fn probe(
    service: &Service,
    image: &str,
    succeeded: bool,
    said: &str,
    is_awaited: bool,
) -> Option<Finding> {
    let (program, is_shell) = service.health_program()?;
    let is_unknown = ["executable file not found", "no such file"].iter().any(|text| said.contains(text));
    let lacks = match (is_shell, is_unknown) {
        (true, true) => "sh",
        (true, false) if succeeded => return None,
        (false, false) => return None,
        _ => program,
    };
    let message = format!("its health check runs {lacks}, which {image} lacks: it is never healthy");
    let fix = "run a program that is there (wget in Ory's alpine images), or leave the health check out";
    let new = if is_awaited { Finding::failure } else { Finding::warning };
    Some(new(&service.name, message, fix))
}

/// Why a container isn't as it should be; one that was stopped, or has done its work, is. `logs` shows its log.
pub fn state(container: &Container, is_ready: impl FnOnce() -> bool, logs: String) -> Option<Finding> {
    let mut fix = logs;
    let message = match (container.state.as_str(), container.health.as_deref()) {
        ("running", Some("unhealthy")) => "its health check fails".to_string(),
        ("running", _) if !is_ready() => "it runs, and /health/ready doesn't answer 200".into(),
        ("restarting", _) => format!("it keeps ending, with exit code {}", container.exit_code),
        // A signal: `docker stop`, or the machine that was shut down.
        ("exited" | "dead", _) if ![0, 130, 137, 143].contains(&container.exit_code) => {
            format!("it ended with exit code {}", container.exit_code)
        }
        ("paused", _) => {
            fix = format!("docker unpause {}", container.name);
            "it is paused".into()
        }
        _ => return None,
    };
    Some(Finding::failure(&container.service, message, fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use yaml_rust2::{Yaml, YamlLoader};

    #[test]
    fn little_space_is_a_warning_and_none_a_failure() {
        let df = |kilobytes: u64| {
            format!(
                "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 9 9 {kilobytes} 9% /\n"
            )
        };
        let level = |kilobytes| space(&df(kilobytes), "/").first().map(Finding::is_failure);
        assert_eq!([level(100 << 10), level(1 << 20), level(5 << 20)], [Some(true), Some(false), None]);
    }

    #[test]
    fn data_of_another_major_version_than_the_image_is_found() {
        let server = Service::read("db", &Yaml::Null);
        let judge = |text| major(&server, "postgres:17-alpine", "stack_db", text);
        assert_eq!(judge("17\npostgres (PostgreSQL) 17.2\n"), None);
        assert_eq!(judge("postgres (PostgreSQL) 17.2\n"), None, "an empty volume");
        assert_eq!(
            judge("17\n18\npostgres (PostgreSQL) 18.0 (Debian 18.0-1)\n"),
            None,
            "one folder a release"
        );
        let found = judge("13\npostgres (PostgreSQL) 17.2\n").expect("a finding");
        assert!(
            found.message.contains("is of PostgreSQL 13, its image postgres:17-alpine is 17"),
            "{found:?}"
        );
    }

    #[test]
    fn the_reason_why_an_image_can_not_be_pulled_is_the_registrys_last_word() {
        let text =
            "failed to configure transport: error pinging: Get \"https://r/v2/\": dial tcp: no such host\n";
        let found = pull(&Service::read("kratos", &Yaml::Null), "oryd/kratos:v0", text, String::new());
        assert_eq!(found.message, "its image oryd/kratos:v0 isn't here, nor to be pulled: no such host");
        let found = pull(
            &Service::read("kratos", &Yaml::Null),
            "k:v0",
            "no such manifest: docker.io/k:v0\n",
            String::new(),
        );
        assert_eq!(found.message, "its image k:v0 isn't here, nor to be pulled: no such manifest");
    }

    #[test]
    fn a_program_that_an_image_lacks_is_found() {
        let with = |test: &str| {
            let yaml = YamlLoader::load_from_str(&format!("healthcheck: {{test: {test}}}")).expect("YAML");
            Service::read("kratos", &yaml[0])
        };
        let (shell, plain) = (with("curl -f x || exit 1"), with("[CMD, curl, x]"));
        let unknown = "exec: \"x\": executable file not found in $PATH: unknown.";
        let lacks = |service: &Service, succeeded, said| {
            Some(probe(service, "i", succeeded, said, false)?.message.split(',').next()?.to_string())
        };
        assert_eq!(lacks(&shell, true, ""), None);
        assert_eq!(lacks(&shell, false, ""), Some("its health check runs curl".into()));
        assert_eq!(lacks(&shell, false, unknown), Some("its health check runs sh".into()));
        assert_eq!(lacks(&plain, false, "curl: try --help"), None);
        assert_eq!(lacks(&plain, false, unknown), Some("its health check runs curl".into()));
        assert!(probe(&plain, "i", false, unknown, true).is_some_and(|found| found.is_failure()), "awaited");
    }

    #[test]
    fn a_container_that_is_not_well_is_found_and_a_stopped_one_is_not() {
        let found = |status: &str, code: i64, health: &str, is_ready: bool| {
            let state = json!({ "Status": status, "ExitCode": code, "Health": { "Status": health } });
            state_of(&Container::read(&json!({ "Name": "/c", "State": state })), is_ready)
        };
        for (status, code, health) in
            [("running", 0, "healthy"), ("exited", 0, ""), ("exited", 137, ""), ("created", 0, "")]
        {
            assert_eq!(found(status, code, health, true), None, "{status} {code}");
        }
        assert!(found("running", 0, "", false).is_some_and(|text| text.contains("/health/ready")));
        assert!(found("running", 0, "unhealthy", true).is_some_and(|text| text.contains("fails")));
        assert!(found("restarting", 1, "", true).is_some_and(|text| text.contains("keeps ending")));
        assert!(found("exited", 1, "", true).is_some_and(|text| text.contains("exit code 1")));
        assert!(found("paused", 0, "", true).is_some_and(|text| text.contains("paused")));
    }

    fn state_of(container: &Container, is_ready: bool) -> Option<String> {
        state(container, || is_ready, String::new()).map(|finding| finding.message)
    }
}
