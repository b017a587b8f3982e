//! `archive`: the program for one target as a release has it, packed, with its checksum.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use xshell::{Shell, cmd};

use ory_facts::digest;
use ory_runner::output::Output;
use ory_xtask::Options;

const NAME: &str = "ory-xtask";

/// What can be typed.
pub fn command() -> Command {
    let output = Arg::new("output").long("output").value_name("DIR").value_parser(value_parser!(PathBuf));
    Command::new("archive").about("Build the program for a release, packed, with its checksum").args([
        Arg::new("target")
            .long("target")
            .value_name("TRIPLE")
            .help("What it runs on [default: this machine]"),
        output.help("Where the archive goes [default: target/archives]"),
        Arg::new("profile").long("profile").value_name("NAME").default_value("dist").help("How it is built"),
    ])
}

/// Builds, packs, and prints the archive's path. The checksum is beside it, as `sha256sum --check` reads it.
pub fn run(options: &Options, typed: &ArgMatches) -> Result<()> {
    let root = crate::root();
    let shell = Shell::new()?;
    shell.change_dir(root);
    let asked = typed.get_one::<String>("target");
    let target = match asked {
        Some(target) => target.clone(),
        None => host(&shell)?,
    };
    let profile = typed.get_one("profile").map_or("dist", String::as_str);
    let output = typed.get_one("output").cloned().unwrap_or_else(|| root.join("target/archives"));
    // What is built for this machine without naming it is the everyday build.
    let named = asked.iter().flat_map(|target| ["--target", target.as_str()]);
    let build =
        cmd!(shell, "cargo build --locked --package {NAME} --bin {NAME} --profile {profile} {named...}");
    if options.dry_run {
        return Ok(Output::data(build.to_string())?);
    }
    build.run()?;

    let name = format!("{NAME}-v{}-{target}", env!("CARGO_PKG_VERSION"));
    let folder = root.join("target/archives").join(&name);
    shell.remove_path(&folder)?;
    shell.create_dir(&folder)?;
    let built = root.join("target").join(asked.map_or("", String::as_str)).join(profile);
    let program = format!("{NAME}{}", if target.contains("windows") { ".exe" } else { "" });
    shell.copy_file(built.join(&program), &folder)?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE"] {
        shell.copy_file(root.join(file), &folder)?;
    }
    shell.create_dir(&output)?;
    let archive = output.join(format!("{name}.tar.gz"));
    let parent = folder.parent().unwrap_or(root);
    cmd!(shell, "tar -czf {archive} -C {parent} {name}").quiet().run()?;
    shell.write_file(output.join(format!("{name}.tar.gz.sha256")), checksum(&archive)?)?;
    Ok(Output::data(archive.display().to_string())?)
}

/// This machine's target.
fn host(shell: &Shell) -> Result<String> {
    let version = cmd!(shell, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(String::from).context("rustc doesn't say which target this machine is")
}

/// The line of a file in `sha256sum`'s form.
fn checksum(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{}  {name}\n", digest::of_bytes(&bytes)))
}
