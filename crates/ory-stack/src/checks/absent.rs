//! How a file that isn't there comes to be there: out of git where git has it, else after its example, or by who is named.

use std::path::{Path, PathBuf};

use crate::env_file;
use ory_runner::process::{Invocation, quote};

/// What kind of thing is to be at a path.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    File,
    Folder,
    Secret,
}

/// A path as it is typed.
pub fn quoted(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// How what is missing comes to be there.
pub fn got(path: &Path, kind: Kind) -> String {
    if kind == Kind::Secret {
        return written(path);
    }
    let shown = quoted(path);
    if is_tracked(path) {
        return format!("put it back: git checkout -- {shown}");
    }
    if let Some(example) = example_of(path) {
        let copy = if example.is_dir() { "cp -r" } else { "cp" };
        return format!("{copy} {} {shown}, then look through what is in it", quoted(&example));
    }
    let variable = path.ancestors().skip(1).find_map(|folder| name_behind(folder, path));
    match (variable, kind) {
        (Some(name), _) => format!("fix {name} in .env, where its path comes from, or put it back"),
        (None, Kind::Folder) => format!("mkdir -p {shown}"),
        (None, _) => match generator_of(path) {
            Some(script) => format!("{} names it, and may write it: look there", quoted(&script)),
            None => "put it back, as the project's own instructions say".into(),
        },
    }
}

/// The setting of a folder's `.env` that a path comes from.
fn name_behind(folder: &Path, path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(".env")).ok()?;
    let pairs = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
    let is_behind = |value: &str| {
        let value = env_file::unquoted(value);
        let value = value.trim_start_matches("./");
        !value.is_empty() && path.ends_with(value)
    };
    { pairs }.find(|(_, value)| is_behind(value)).map(|(name, _)| name.trim().into())
}

/// What of the project may write it: a Makefile or script, beside it or above, that has its name.
fn generator_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let is_script = |file: &PathBuf| {
        let text = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        ["makefile", "gnumakefile", "justfile", "taskfile.yml", "package.json"].contains(&text.as_str())
            || text.ends_with(".sh")
    };
    // Above the project there is nothing of it.
    let near: Vec<_> = path.ancestors().skip(1).take(4).collect();
    let count = near.iter().position(|folder| folder.join(".git").exists()).map_or(2, |at| at + 1);
    let has_name = |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| text.contains(name));
    let mut nearest: Option<PathBuf> = None;
    for folder in near.into_iter().take(count) {
        for inner in ["", "scripts", "bin", "hack", "tools", "dev"] {
            let Ok(entries) = std::fs::read_dir(folder.join(inner)) else { continue };
            for file in entries.flatten().map(|entry| entry.path()) {
                let is_nearer = |known: &PathBuf| file.ancestors().count() > known.ancestors().count();
                if is_script(&file) && has_name(&file) && nearest.as_ref().is_none_or(is_nearer) {
                    nearest = Some(file);
                }
            }
        }
    }
    nearest
}

/// Whether git has it.
fn is_tracked(path: &Path) -> bool {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(path);
    let shown = path.display().to_string();
    let ask = Invocation::new("git", folder).args(["ls-files", "--error-unmatch", "--", &shown]);
    ask.output().is_ok_and(|output| output.status.success())
}

/// What people put beside a file that is to be made of it: `X.example`, `X.sample`, `x.example.yml`, `example.x.yml`.
fn example_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let words = ["example", "sample", "dist", "template"];
    let within =
        |word: &str| name.rsplit_once('.').map(|(stem, extension)| format!("{stem}.{word}.{extension}"));
    let names = words.iter().flat_map(|word| {
        [Some(format!("{name}.{word}")), within(word), Some(format!("{word}.{name}"))].into_iter().flatten()
    });
    names.map(|name| path.with_file_name(name)).find(|example| example.exists())
}

/// How a file with secrets comes to be: after its example, where there is a folder `NAME.example` beside its own.
fn written(path: &Path) -> String {
    let folder = path.parent().unwrap_or(path);
    let examples = folder.with_extension("example");
    let example = examples.join(path.file_name().unwrap_or_default());
    let shown = quoted(folder);
    if !folder.exists() && examples.exists() {
        format!("cp -r {} {shown} && chmod 700 {shown}, then write the values there", quoted(&examples))
    } else if example.exists() {
        format!("cp {} {shown}/, then write the values there", quoted(&example))
    } else {
        "put it there: a secret is in no repository".into()
    }
}
