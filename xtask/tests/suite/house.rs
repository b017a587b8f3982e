//! The map of the imports: which file takes something from which. No circle of files, no arrow upwards, and each file
//! says its idea first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::project::workspace;

/// The crates from the ground up: one takes from those before it only.
const FLOORS: [&str; 6] = ["ory-facts", "ory-runner", "ory-stack", "ory-ops", "ory-stand-in", "ory-xtask"];

/// A crate's files by the path of their modules; the root has none.
type Modules = BTreeMap<Vec<String>, PathBuf>;

#[test]
fn each_crate_is_on_the_map() {
    let mut known = FLOORS.map(String::from).to_vec();
    let crates = std::fs::read_dir(workspace().join("crates")).expect("a folder");
    let mut there: Vec<_> =
        crates.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    known.sort();
    there.sort();
    assert_eq!(known, there);
}

#[test]
fn a_crate_takes_from_lower_ones_only() {
    for (floor, name) in FLOORS.iter().enumerate() {
        for path in modules(name).into_values() {
            let text = code(&path);
            for other in &FLOORS[floor + 1..] {
                let taken = format!("{}::", other.replace('-', "_"));
                assert!(!text.contains(&taken), "{} takes from {other}, which is above it", path.display());
            }
        }
    }
}

#[test]
fn no_file_takes_from_itself_by_way_of_others() {
    let circles: Vec<_> = FLOORS.iter().flat_map(|name| circles(&arrows(&modules(name)))).collect();
    let told: Vec<_> = circles.iter().map(|circle| circle.join(" -> ")).collect();
    assert!(circles.is_empty(), "circles of files:\n{}", told.join("\n"));
}

#[test]
fn a_file_says_its_idea_first() {
    for path in FLOORS.iter().flat_map(|name| modules(name).into_values()) {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with("//! "), "{} doesn't", path.display());
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let files = [
        (vec![], "mod a; mod b; pub fn helper() {}"),
        (vec!["a"], "use crate::b::{self, other as c, deep::{Thing}};"),
        (vec!["b"], "mod deep; fn f() { super::helper(); }"),
        (
            vec!["b", "deep"],
            "use super::super::a::*;\n// use crate::b;\n#[cfg(test)]\nmod tests { use super::*; }",
        ),
    ];
    let files: Vec<_> = files
        .into_iter()
        .map(|(module, text)| (module.into_iter().map(String::from).collect::<Vec<_>>(), text.to_string()))
        .collect();
    let arrows = arrows_of(&files);
    let from = |module: &[&str]| {
        let module: Vec<_> = module.iter().map(ToString::to_string).collect();
        arrows[&module].iter().map(|to| to.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(from(&["a"]), ["b", "b::deep"]);
    assert_eq!(from(&["b"]), [""]);
    assert_eq!(from(&["b", "deep"]), ["a"]);
    assert_eq!(circles(&arrows), [["a", "b::deep"]]);
}

fn modules(name: &str) -> Modules {
    let source = workspace().join("crates").join(name).join("src");
    let (mut found, mut folders) = (Modules::new(), vec![(vec![], source)]);
    while let Some((module, folder)) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let inner = [module.clone(), vec![stem.clone()]].concat();
            match path.extension() {
                _ if path.is_dir() => folders.push((inner, path)),
                Some(extension) if extension == "rs" => {
                    // `main.rs` of a crate that is a library too is a crate of its own.
                    let is_root = ["mod", "lib"].contains(&stem.as_str());
                    found.insert(if is_root { module.clone() } else { inner }, path);
                }
                _ => {}
            }
        }
    }
    found
}

/// A file without comments and without its tests.
fn code(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

fn arrows(modules: &Modules) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files: Vec<_> = modules.iter().map(|(module, path)| (module.clone(), code(path))).collect();
    arrows_of(&files)
}

/// From each module to those that it takes something from, by every path that starts at `crate`, at `super`, or at a
/// module of its own.
fn arrows_of(files: &[(Vec<String>, String)]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let known: BTreeSet<_> = files.iter().map(|(module, _)| module.clone()).collect();
    let arrow = |(module, text): &(Vec<String>, String)| {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join(" ");
        let mut taken = BTreeSet::new();
        for path in paths(&text) {
            let path = match path.first().map(String::as_str) {
                Some("crate") => path[1..].to_vec(),
                Some("super") => {
                    let ups = path.iter().take_while(|word| *word == "super").count();
                    let above = module.len().saturating_sub(ups);
                    [&module[..above], &path[ups..]].concat()
                }
                Some("self") => [module.as_slice(), &path[1..]].concat(),
                // A child, or something of another crate.
                Some(first) if known.contains(&[module.as_slice(), &[first.to_string()]].concat()) => {
                    [module.as_slice(), &path].concat()
                }
                _ => continue,
            };
            // The longest part of it that is a file.
            let found =
                (0..=path.len()).rev().map(|end| path[..end].to_vec()).find(|part| known.contains(part));
            taken.extend(found.filter(|found| found != module));
        }
        (module.clone(), taken)
    };
    files.iter().map(arrow).collect()
}

/// Every path in a text, those in braces each with what stands before the braces.
fn paths(text: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut before, mut stack) = (vec![], Vec::<String>::new(), vec![]);
    let mut rest = text;
    let mut is_joined = false;
    while let Some(c) = rest.chars().next() {
        if is_word(c) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if !is_joined {
                before = stack.last().cloned().unwrap_or_default();
            }
            before.push(rest[..end].to_string());
            rest = &rest[end..];
            is_joined = rest.starts_with("::");
            if is_joined {
                rest = &rest[2..];
                if rest.starts_with('{') {
                    stack.push(before.clone());
                    rest = &rest[1..];
                    is_joined = false;
                } else if rest.starts_with('*') {
                    found.push(before.clone());
                    is_joined = false;
                }
            } else if before.len() > 1 {
                found.push(
                    before.iter().filter(|word| *word != "self" || before[0] == "self").cloned().collect(),
                );
            }
            continue;
        }
        if c == '{' && !stack.is_empty() {
            stack.push(stack.last().cloned().unwrap_or_default());
        }
        if c == '}' {
            stack.pop();
        }
        rest = &rest[c.len_utf8()..];
        is_joined = false;
    }
    found
}

/// The sets of modules that lead to each other, each with their names in order.
fn circles(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Vec<Vec<String>> {
    let reached = |from: &Vec<String>| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for to in arrows.get(module).into_iter().flatten() {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let all: BTreeMap<_, _> = arrows.keys().map(|module| (module, reached(module))).collect();
    let circle = |module: &Vec<String>| {
        let is_in = |other: &&&Vec<String>| all[module].contains(**other) && all[**other].contains(module);
        let names = arrows.keys().collect::<Vec<_>>();
        names.iter().filter(is_in).map(|module| module.join("::")).collect::<Vec<_>>()
    };
    let found: BTreeSet<_> = arrows.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    found.into_iter().collect()
}
