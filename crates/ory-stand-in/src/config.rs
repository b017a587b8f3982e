//! Settings: the files named by `-c`, the environment, and the few checks that Ory makes on them.

use std::io::ErrorKind;
use std::path::Path;

use crate::arguments::Arguments;
use crate::product::{Exit, Product, Program};

pub struct Config {
    /// The files' text, in the order given: the last one wins.
    files: Vec<String>,
}

impl Config {
    pub fn read(program: &Program, arguments: &Arguments) -> Result<Self, Exit> {
        let mut paths = arguments.configs.clone();
        if paths.is_empty() && program.product == Product::Keto {
            paths.push("/home/ory/keto.yml".into());
        }
        let files: Result<Vec<_>, _> = paths.iter().map(|path| read(path)).collect();
        files.map(|files| Self { files }).map_err(|error| invalid(program, &error))
    }

    /// The DSN for `migrate`; the environment wins even when it is empty.
    pub fn dsn(&self, program: &Program) -> Result<String, Exit> {
        let dsn = std::env::var("DSN").ok().or_else(|| self.get("dsn"));
        match (program.product, dsn) {
            (Product::Keto, Some(dsn)) => Ok(dsn),
            (Product::Keto, None) => Err(missing_dsn(program)),
            (_, Some(dsn)) if !dsn.is_empty() => Ok(dsn),
            _ => {
                program.log("fatal", "dsn must be set", &[]);
                Err(program.failed())
            }
        }
    }

    /// What `serve` checks before it connects.
    pub fn check_to_serve(&self, program: &Program) -> Result<(), Exit> {
        for (key, shortest, longest) in program.product.secrets() {
            let Ok(values) = std::env::var(format!("SECRETS_{}", key.to_uppercase())) else { continue };
            for (place, value) in values.split(',').enumerate() {
                let length = value.chars().count();
                let (rule, comparison, limit) = match length {
                    _ if length < *shortest => ("minLength", ">=", shortest),
                    _ if length > *longest => ("maxLength", "<=", longest),
                    _ => continue,
                };
                let reason = format!("length must be {comparison} {limit}, but got {length}");
                explain(&format!("secrets.{key}.{place}: "), value, &reason);
                let schema = format!("#/properties/secrets/properties/{key}/items/{rule}");
                return Err(invalid(program, &format!("I[#/secrets/{key}/{place}] S[{schema}] {reason}")));
            }
        }
        let has_dsn = std::env::var_os("DSN").is_some() || self.get("dsn").is_some();
        if program.product == Product::Kratos && !has_dsn { Err(missing_dsn(program)) } else { Ok(()) }
    }

    /// Keto's `migrate` looks for the namespaces, though it needs none; its `serve` doesn't.
    pub fn check_namespaces(&self, program: &Program) -> Result<(), Exit> {
        let location = match self.get("namespaces") {
            None => "file://./keto_namespaces".into(),
            Some(inline) if !inline.is_empty() => inline,
            Some(_) => self.get("location").unwrap_or_default(),
        };
        let location =
            location.trim_start_matches("{location:").trim_end_matches('}').trim().trim_matches(QUOTES);
        match location.strip_prefix("file://") {
            Some(path) if !Path::new(path).exists() => {
                Err(program.fail(&format!("stat {path}: no such file or directory")))
            }
            _ => Ok(()),
        }
    }

    /// The value of `key` on a line of its own in YAML, JSON or TOML: enough for the few keys that count.
    fn get(&self, key: &str) -> Option<String> {
        self.files.iter().rev().flat_map(|text| text.lines()).find_map(|line| value(line, key))
    }
}

const QUOTES: [char; 2] = ['"', '\''];

fn value(line: &str, key: &str) -> Option<String> {
    let line = line.trim_start_matches([' ', '\t', '{', '"']);
    let line = line.strip_prefix(key)?.trim_start_matches(['"', ' ']).strip_prefix([':', '='])?;
    let line = line.split(" #").next()?.trim().trim_end_matches(',').trim_end();
    Some(line.trim_matches(QUOTES).to_owned())
}

fn read(path: &str) -> Result<String, String> {
    let file = Path::new(path);
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    if file.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        return Err("no such file or directory".into());
    }
    if !matches!(&*extension, "json" | "yaml" | "yml" | "toml") {
        let dot = if extension.is_empty() { "" } else { "." };
        return Err(format!("unknown config file extension: {dot}{extension}"));
    }
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("open {path}: no such file or directory"),
        ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
        ErrorKind::IsADirectory => format!("read {path}: is a directory"),
        _ => format!("read {path}: {error}"),
    })
}

/// Ory's explanation of a value that its schema rejects, with the value.
fn explain(key: &str, value: &str, reason: &str) {
    let mark = format!("{:1$}^-- {reason}", "", key.len());
    eprintln!("\nThe configuration contains values or keys which are invalid:\n{key}{value}\n{mark}\n");
}

fn missing_dsn(program: &Program) -> Exit {
    explain("dsn: ", "<nil>", "one or more required properties are missing");
    invalid(program, "I[#] S[#/required] missing properties: \"dsn\"")
}

fn invalid(program: &Program, error: &str) -> Exit {
    if program.product == Product::Keto {
        return program.fail(&format!("unable to initialize config provider: {error}"));
    }
    program.log_error("error", "Unable to instantiate configuration.", error);
    program.fail(error)
}
