//! The documentation: every command line in it is one that works, and its two languages have the same ones.

use std::collections::{BTreeMap, BTreeSet};

use ory_facts::contents::Contents;
use ory_facts::manifest::{Content, Dump, MANIFEST, MANIFEST_SIGNATURE, MANIFEST_SUM, Manifest};
use ory_facts::product::Product;

use crate::fake::Fake;
use crate::project::{Project, workspace};

const FILES: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/guide.fr.md",
    "docs/guide.en.md",
    "docs/speed.md",
    "docs/verified.md",
];

/// Command lines that aren't xtask's: what they start with. `docs_run` runs those of the README and guides.
const OTHERS: [&str; 3] = ["cargo test", "docker compose ", "cp -r secrets.example "];

/// The command lines of a document: the lines of its bash blocks, without prompts, comments and empty ones.
pub fn command_lines(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(file)).expect("a document");
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("```") {
            Some(language) => inside = !inside && ["bash", "sh"].contains(&language),
            None if inside && !line.is_empty() && !line.starts_with('#') => found.push(line.to_string()),
            None => {}
        }
    }
    found
}

/// The calls of xtask in the sentences and tables of a document, with something typed for what stands for it.
fn calls_in_text(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(file)).expect("a document");
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    let spans = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    let calls = spans.filter(|span| span.starts_with("cargo xtask "));
    let typed = calls.map(|call| {
        call.split(" [")
            .next()
            .unwrap_or(call)
            .replace("SHELL", "bash")
            .replace("PRODUCT", "kratos")
            .replace("BACKUP", "latest")
            .replace("...", "")
    });
    // An option alone is no call; and the fake's machine has no package manager.
    let is_call = |call: &String| !call.starts_with("cargo xtask -C") && !call.contains("--install-docker");
    typed.filter(is_call).collect()
}

/// A backup of Kratos that the stack has made, whose dump nobody looks at in a dry run.
fn write_backup(project: &Project) {
    let contents = Contents::default();
    let content = Content { product: Product::Kratos.into(), image: String::new(), secrets: BTreeMap::new() };
    let dump = Dump {
        file: "kratos.dump".into(),
        sha256: String::new(),
        bytes: 1,
        database: "kratos".into(),
        schema: None,
        contents,
        products: vec![content],
    };
    let [time, project_name, salt] = ["2026-01-02T03:04:05Z", "stack", "salt"].map(String::from);
    let text = Manifest { time, project: project_name, salt, dumps: vec![dump], upgrades: vec![] }.write();
    let folder = project.dir.join("backups/2026-01-02T03-04-05Z");
    std::fs::create_dir_all(&folder).expect("a folder");
    let key = "k".repeat(64);
    project.write(".env.backup-key", &key);
    std::fs::write(folder.join(MANIFEST_SIGNATURE), Manifest::signature(&key, &text)).expect("written");
    std::fs::write(folder.join(MANIFEST_SUM), Manifest::sum(&text)).expect("written");
    std::fs::write(folder.join(MANIFEST), text).expect("written");
}

#[test]
fn every_xtask_command_line_in_the_documents_is_accepted() {
    let mut seen = BTreeSet::new();
    for file in FILES {
        let lines = [command_lines(file), calls_in_text(file)].concat();
        let is_new = |line: &&String| line.contains("cargo xtask") && seen.insert(line.to_string());
        for line in lines.iter().filter(is_new).collect::<Vec<_>>() {
            let (settings, args) = line.split_once("cargo xtask").expect("a call");
            let args = args.split(" > ").next().unwrap_or(args);
            let fake = Fake::new();
            std::fs::create_dir(fake.project.dir.join("deploy")).expect("a folder");
            write_backup(&fake.project);
            let dry_run = if args.contains("--dry-run") { "" } else { "--dry-run" };
            let mut command = fake.command(&format!("{args} {dry_run}"));
            for setting in settings.split_whitespace() {
                let (name, value) = setting.split_once('=').expect("a setting");
                command.env(name, value);
            }
            let outcome = crate::project::outcome(&mut command);
            // The fake has no database to check. Drift isn't looked for in a dry run.
            let code = i32::from(args.contains("--check"));
            assert!(outcome.code == Some(code), "{file}: {line}\n{outcome}");
            assert!(!outcome.stdout.is_empty(), "{file}: {line} has no plan\n{outcome}");
        }
    }
}

#[test]
fn no_other_command_line_is_in_the_documents_than_those_listed() {
    for file in FILES {
        for line in command_lines(file) {
            let known = line.contains("cargo xtask") || OTHERS.iter().any(|start| line.starts_with(start));
            assert!(known, "{file}: {line}");
        }
    }
}

#[test]
fn both_languages_have_the_same_sections_and_commands() {
    assert_eq!(command_lines("docs/guide.fr.md"), command_lines("docs/guide.en.md"));
    let levels = |file: &str| {
        let text = std::fs::read_to_string(workspace().join(file)).expect("a document");
        let headings = text.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| line.chars().take_while(|c| *c == '#').count()).collect::<Vec<_>>()
    };
    assert_eq!(levels("docs/guide.fr.md"), levels("docs/guide.en.md"));
}
