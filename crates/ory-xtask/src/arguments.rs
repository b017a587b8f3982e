//! What can be typed after a command, and reading it. With clap's builder: its derive, with syn, is 4 s of work in a
//! first build.

use std::any::Any;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches};
use ory_facts::product::parse_release;

/// The arguments of a command, or of a part of some commands.
pub trait Arguments: Sized {
    /// What can be typed, in the order of `--help`.
    fn all() -> Vec<Arg>;
    /// What was typed.
    fn read(typed: &ArgMatches) -> Self;
}

/// A switch, such as `--json`.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// The switch that answers a command's question.
pub fn yes() -> Arg {
    switch("yes", "Don't ask").short('y')
}

/// An option with a value, such as `--output DIR`.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// Any number of values of one kind, without a dash before them.
pub fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(name).help(help).num_args(1..).action(ArgAction::Append)
}

/// One value that must be typed, without a dash before it.
pub fn required(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(name).help(help).required(true)
}

/// The value of what is required or has a default: clap has ended the process where there is none.
pub fn value<T: Any + Clone + Send + Sync>(typed: &ArgMatches, name: &str) -> T {
    let missing = || clap::Error::new(ErrorKind::MissingRequiredArgument).exit();
    typed.get_one(name).cloned().unwrap_or_else(missing)
}

/// The values of a list.
pub fn listed<T: Any + Clone + Send + Sync>(typed: &ArgMatches, name: &str) -> Vec<T> {
    typed.get_many(name).into_iter().flatten().cloned().collect()
}

/// Any number of products, by their names, or by a service's where a stack has several of one; [`listed`] has them as
/// `PRODUCT`.
pub fn products(help: &'static str) -> Arg {
    list("PRODUCT", help)
}

/// A release of Ory, such as v26.2.0.
fn release(text: &str) -> Result<String, String> {
    let is_release = parse_release(text).map(|_| text.to_string());
    is_release.ok_or_else(|| "it isn't a release such as v26.2.0".to_string())
}

/// Whose images are used.
pub struct Images {
    pub stand_in: Option<String>,
}

impl Arguments for Images {
    fn all() -> Vec<Arg> {
        let stand_in =
            option("stand-in", "RELEASE", "Use stand-ins for Ory's images, built here, without a registry");
        let value = stand_in.num_args(0..=1).require_equals(true).default_missing_value("v26.2.0");
        vec![value.value_parser(release)]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { stand_in: typed.get_one("stand-in").cloned() }
    }
}

/// What is done to the databases before they are migrated.
pub struct Databases {
    pub create_databases: bool,
    pub backup: bool,
}

impl Arguments for Databases {
    fn all() -> Vec<Arg> {
        vec![
            switch("create-databases", "Create roles and databases that a DSN names and the server lacks"),
            switch("backup", "Back up first what has migrations pending, and go on only if that is good"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { create_databases: typed.get_flag("create-databases"), backup: typed.get_flag("backup") }
    }
}

/// Where backups are.
pub struct Folder {
    pub output: Option<PathBuf>,
}

impl Arguments for Folder {
    fn all() -> Vec<Arg> {
        let output = option("output", "DIR", "Where backups are [default: backups/ in the stack's folder]");
        vec![output.value_parser(clap::value_parser!(PathBuf))]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { output: typed.get_one("output").cloned() }
    }
}
