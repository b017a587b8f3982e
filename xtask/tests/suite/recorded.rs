//! What both generations of Compose print of each stack in `stacks`, recorded in `fixtures/compose`: it reads as one and
//! the same stack, so what is seen to work under one of them is known to be asked for under the other.
//!
//! UPDATE_GOLDEN=1 records again.

use std::path::{Path, PathBuf};

use ory_facts::product::Product;
use ory_ops::engine::read_config;
use ory_stack::stack;

use crate::project::{Project, outcome, workspace};
use crate::stack::Compose;
use crate::tiers::scenarios;

scenarios! {
    smoke: [
        what_compose_prints_now_reads_as_what_was_recorded
    ]
}

/// A stack of somebody else, and its folder.
struct Recorded {
    name: String,
    project: Project,
    folder: PathBuf,
}

/// Each of them.
fn all() -> Vec<Recorded> {
    let folders = std::fs::read_dir(workspace().join("xtask/tests/suite/stacks")).expect("a folder");
    let folders = folders.map(|folder| folder.expect("a folder")).filter(|folder| folder.path().is_dir());
    let names = folders.map(|folder| folder.file_name().into_string().expect("a name"));
    let recorded = |name: String| {
        let project = Project::of_others(&name);
        let below = project.dir.join("deploy");
        let folder = if below.is_dir() { below } else { project.dir.clone() };
        Recorded { name, project, folder }
    };
    names.map(recorded).collect()
}

impl Recorded {
    fn file(&self, compose: Compose) -> PathBuf {
        let file = format!("xtask/tests/suite/fixtures/compose/{}-{compose:?}.yml", self.name);
        workspace().join(file.to_lowercase())
    }

    /// What Compose printed once.
    fn text(&self, compose: Compose) -> String {
        let file = self.file(compose);
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.replace("DIR", &self.project.dir.display().to_string())
    }

    /// What Compose prints now.
    fn printed(&self, compose: Compose) -> String {
        let (program, words): (_, &[&str]) = match compose {
            Compose::V2 => ("docker", &["compose", "config"]),
            Compose::V1 => ("docker-compose", &["config"]),
        };
        let mut command = self.project.command(program);
        // Each stack takes what else it needs from its own files.
        command.args(words).current_dir(&self.folder).env("POSTGRES_IMAGE", "postgres:17-alpine");
        outcome(command.env("CONTAINER_PREFIX", "recorded")).exits(0).stdout
    }

    /// The stack that this reads as, in words.
    fn read(&self, text: &str, compose: Compose) -> String {
        let config = read_config(text).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let mut stack = stack::Stack::read(&config, matches!(compose, Compose::V1), &self.folder);
        // v2 says of a link what 1.29 does without a word.
        for service in stack.services.values_mut() {
            for (linked, _) in &service.links {
                service.depends_on.entry(linked.clone()).or_insert("service_started".into());
            }
        }
        let mut lines = vec![format!("{} with {:?}", stack.project, stack.external)];
        for service in stack.services.values() {
            let sources = service.mounts.iter().map(|mount| stack.source_of(mount)).collect::<Vec<_>>();
            lines.push(format!("{service:#?}\nin {:?}, from {sources:?}", stack.networks_of(service)));
        }
        for product in Product::ALL {
            lines.push(match stack.deployment(product.into()) {
                Ok(Some(deployment)) => format!(
                    "{product}: migrated by {} of {:?}, {}, on {}, {}",
                    deployment.migrate.name,
                    deployment.configs,
                    deployment.dsn_in_config,
                    deployment.server_name(),
                    deployment.dsn.database,
                ),
                Ok(None) => format!("{product}: none"),
                Err(error) => format!("{product}: {error:#}"),
            });
        }
        // Each generation calls what it makes its own way.
        let own_way = |text: String, service: &String| {
            text.replace(
                &format!("\"{0}_{service}", stack.project),
                &format!("\"{}-{service}", stack.project),
            )
            .replace(&format!("-{service}_1\""), &format!("-{service}-1\""))
        };
        stack.services.keys().fold(lines.join("\n"), own_way)
    }
}

#[test]
fn both_generations_of_compose_print_the_same_stack() {
    let all = all();
    assert!(all.len() > 14, "stacks are missing");
    for stack in all {
        let [v2, v1] = [Compose::V2, Compose::V1].map(|compose| stack.read(&stack.text(compose), compose));
        assert!(v2 == v1, "{}:\n{}", stack.name, difference(&v2, &v1));
    }
}

fn what_compose_prints_now_reads_as_what_was_recorded(compose: Compose) {
    for stack in all() {
        let printed = stack.printed(compose);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            record(&stack.file(compose), &printed.replace(&stack.project.dir.display().to_string(), "DIR"));
        }
        let [now, then] = [printed, stack.text(compose)].map(|text| stack.read(&text, compose));
        assert!(now == then, "{}:\n{}", stack.name, difference(&now, &then));
    }
}

fn record(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(file, text).expect("a file written");
}

/// The lines that only one of two texts has.
fn difference(one: &str, other: &str) -> String {
    let only = |sign: char, of: &str, than: &str| {
        let lines = of.lines().filter(|line| !than.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign}{line}\n")).collect::<String>()
    };
    only('-', one, other) + &only('+', other, one)
}
