//! The tool as others have it: a library of a workspace of their own, and a program without any workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::{Outcome, outcome, workspace};
use crate::stack::{Compose, NEW, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_workspace_takes_the_library_beside_a_task_of_its_own_and_brings_a_stack_up
        the_installed_program_works_where_no_cargo_is_and_names_itself
        the_archive_runs_on_a_bare_debian
    ]
    full: [each_crate_can_be_published]
}

/// A package with the library by path, as somebody else writes it.
fn write_package(stack: &Stack, name: &str, main: &str) {
    let library = workspace().join("crates/ory-xtask");
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nclap = \"4.5\"\n\
         ory-xtask = {{ path = \"{}\" }}\n",
        library.display()
    );
    std::fs::create_dir_all(stack.project.dir.join(name).join("src")).expect("a folder");
    stack.project.write(&format!("{name}/Cargo.toml"), &manifest);
    stack.project.write(&format!("{name}/src/main.rs"), main);
}

/// A workspace with two packages: commands beside an own one, and commands below one of a builder's command line.
fn write_workspace(stack: &Stack) {
    stack.project.write("Cargo.toml", "[workspace]\nmembers = [\"xtask\", \"dev\"]\nresolver = \"3\"\n");
    // The same versions as here: nothing is downloaded.
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).expect("a file");
    stack.project.write("Cargo.lock", &lock);
    let alias = std::fs::read_to_string(workspace().join(".cargo/config.toml")).expect("a file");
    let dev = alias.replacen("[alias]", "[alias]\ndev = \"run --quiet --package dev --profile xtask --\"", 1);
    std::fs::create_dir_all(stack.project.dir.join(".cargo")).expect("a folder");
    stack.project.write(".cargo/config.toml", &dev);
    write_package(
        stack,
        "xtask",
        "fn main() -> std::process::ExitCode {\n    \
         ory_xtask::Tool::of_package().task(clap::Command::new(\"codegen\").about(\"Generate the types\"), \
         |_, _| Ok(println!(\"generated\"))).main()\n}\n",
    );
    write_package(
        stack,
        "dev",
        "use clap::Command;\n\nfn main() -> std::process::ExitCode {\n    \
         let ory = ory_xtask::Tool::called(\"cargo dev ory\");\n    \
         let own = Command::new(\"dev\").bin_name(\"cargo dev\").subcommand(Command::new(\"codegen\"));\n    \
         match own.subcommand(ory.command()).get_matches().subcommand() {\n        \
         Some((\"ory\", typed)) => ory.run(typed),\n        \
         _ => { println!(\"generated\"); std::process::ExitCode::SUCCESS }\n    }\n}\n",
    );
}

/// A command that this stack's folder and its images are given to, in a folder below it.
fn called(stack: &Stack, program: &str, words: &[&str], args: &str) -> Command {
    let given = stack.command(NEW, args);
    let mut command = stack.project.command(program);
    command.args(words).args(given.get_args());
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let below = stack.project.dir.join("some/where");
    std::fs::create_dir_all(&below).expect("a folder");
    // Cargo's own variables are those of the tests, and nothing says where the stack is.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
        command.env_remove(name);
    }
    command.env_remove("XTASK_DIRECTORY").current_dir(below);
    command
}

fn a_workspace_takes_the_library_beside_a_task_of_its_own_and_brings_a_stack_up(compose: Compose) {
    let stack = Stack::new(compose);
    write_workspace(&stack);
    // Kept for the next time, apart from our own build: its package has the name of ours.
    let target = workspace().join("target/another-workspace");
    let run = |alias: &str, words: &[&str], args: &str| {
        let words = [&[alias], words].concat();
        outcome(
            called(&stack, "cargo", &words, args)
                .env("CARGO_TARGET_DIR", &target)
                .env("CARGO_NET_OFFLINE", "true"),
        )
    };
    assert_eq!(run("xtask", &[], "codegen").exits(0).stdout, "generated\n");
    assert_eq!(run("dev", &[], "codegen").exits(0).stdout, "generated\n");
    let help = run("xtask", &[], "--help").exits(0).stdout;
    assert!(help.contains("\n  codegen         Generate the types\n"), "{help}");
    assert!(!help.contains("Run every test of xtask"), "{help}");
    let help = run("dev", &["ory"], "--help").exits(0).stdout;
    assert!(help.contains("Usage: cargo dev ory <COMMAND>"), "{help}");

    run("xtask", &[], "status").exits(5).says("hint: cargo xtask up, which writes the secrets");
    run("dev", &["ory"], "status").exits(5).says("hint: cargo dev ory up, which writes the secrets");
    run("xtask", &[], "up").exits(0).says("kratos: applied");
    run("dev", &["ory"], "status --check").exits(0);
    run("dev", &["ory"], "down --volumes").exits(2).says("hint: cargo dev ory down --volumes --yes\n");
    run("dev", &["ory"], "down --volumes --yes").exits(0);
    assert_eq!(stack.leftovers(), "");
}

/// The program as `cargo install` leaves it, in an empty folder.
fn install(root: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["install", "--quiet", "--locked", "--offline", "--profile", "xtask", "--path"]);
    cargo.arg(workspace().join("crates/ory-xtask")).arg("--root").arg(root);
    outcome(cargo.arg("--target-dir").arg(workspace().join("target")).current_dir(workspace())).exits(0);
    root.join("bin/ory-xtask")
}

fn the_installed_program_works_where_no_cargo_is_and_names_itself(compose: Compose) {
    let stack = Stack::of_others("server-each", compose);
    let root = stack.project.dir.with_file_name("installed");
    let cache = stack.project.dir.with_file_name("cache");
    let program = install(&root);
    let before = stack.project.paths();
    let run = |args: &str| -> Outcome {
        let program = program.to_str().expect("a path");
        let done = outcome(called(&stack, program, &[], args).env("XDG_CACHE_HOME", &cache));
        done.hides("cargo")
    };
    let help = run("--help").exits(0).stdout;
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    run("status --check").exits(1).says("ory-xtask migrate-");
    run("up").exits(0).says("kratos: applied");
    run("status --check").exits(0);
    run("migrate-all").exits(0);
    run("backup").exits(0);
    run("restore latest kratos").exits(2).says("ory-xtask restore ");
    run("restore latest kratos --yes").exits(0);
    run("doctor").exits(0);
    run("down --volumes").exits(2).says("hint: ory-xtask down --volumes --yes\n");
    let kept = std::fs::read_dir(cache.join("ory-xtask")).expect("a cache").count();
    assert_eq!(kept, 1, "a folder for each stack");
    // The folder of the call itself, and the backups.
    let new = stack.project.paths().into_iter().filter(|path| !before.contains(path));
    let new: Vec<_> = new.filter(|path| path.parent() == Some(&stack.project.dir)).collect();
    let mut names: Vec<_> = new.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    names.sort();
    assert_eq!(names, [".env.backup-key", "backups", "some"]);
}

fn the_archive_runs_on_a_bare_debian(compose: Compose) {
    let stack = Stack::new(compose);
    let folder = stack.project.dir.join("archive");
    let mut archive = stack.project.xtask();
    archive.args(["archive", "--profile", "xtask", "--output"]).arg(&folder);
    let made = outcome(archive.current_dir(workspace())).exits(0).stdout;
    let made = Path::new(made.trim());
    assert_eq!(made.parent(), Some(folder.as_path()));
    let name = made.file_name().and_then(|name| name.to_str()).expect("a name");
    outcome(Command::new("sha256sum").args(["--check", &format!("{name}.sha256")]).current_dir(&folder))
        .exits(0);

    // PostgreSQL's image is Debian without Rust, stand-in or official; Alpine's has another C library.
    let image = stack.postgres_image().unwrap_or_else(|| "postgres:17".into());
    let script = format!(
        "cd /tmp && tar -xzf /archive/{name} && cd {} && ls && ! command -v cargo rustc && ./ory-xtask --version && \
         ./ory-xtask status; echo $?",
        name.trim_end_matches(".tar.gz")
    );
    let mount = format!("{}:/archive:ro", folder.display());
    let said = docker(&["run", "--rm", "--volume", &mount, "--entrypoint", "sh", &image, "-c", &script]);
    let version = env!("CARGO_PKG_VERSION");
    // There is no engine in there: exit 5.
    assert_eq!(said, format!("CHANGELOG.md\nLICENSE\nREADME.md\nory-xtask\nory-xtask {version}\n5\n"));
}

/// Cargo packs each crate as it would be published, and builds it from its package alone.
fn each_crate_can_be_published(_: Compose) {
    // Cargo keeps what it has unpacked of a version by the folder that it packs into: a crate of before would be taken.
    let folder = crate::project::Project::new();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "package",
        "--quiet",
        "--workspace",
        "--exclude",
        "xtask",
        "--locked",
        "--offline",
        "--allow-dirty",
    ]);
    cargo.arg("--target-dir").arg(folder.dir.join("target"));
    outcome(cargo.current_dir(workspace())).exits(0);
}
