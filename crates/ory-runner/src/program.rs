//! How this program was called.

use std::fmt;
use std::path::PathBuf;

use crate::printable::plain;

/// The words that call this program, as its hints name it: `cargo xtask`, `cargo xtask ory`, `ory-xtask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program(&'static str);

impl Program {
    /// A program that is called so. The name is kept for as long as the process runs: everything that is printed needs it.
    pub fn called(words: impl Into<String>) -> Self {
        Self(words.into().leak())
    }

    /// What Cargo's alias runs: a package `xtask` is called as `cargo xtask`.
    pub fn of_package() -> Self {
        let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let name = path.file_stem().map_or_else(|| "xtask".into(), |stem| stem.to_string_lossy());
        Self::called(format!("cargo {name}"))
    }

    /// Whether Cargo runs it, in a workspace.
    pub fn is_of_cargo(self) -> bool {
        self.0.starts_with("cargo ")
    }

    /// The words.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The whole line that was typed: where our commands are below another program's, their name is in both.
    pub fn line(self) -> String {
        let typed = Self::typed();
        let first = typed.split(' ').next().unwrap_or_default();
        let nested = self.0.strip_suffix(first).and_then(|outer| outer.strip_suffix(' '));
        format!("{} {typed}", nested.unwrap_or(self.0))
    }

    /// What was typed behind the program.
    pub fn typed() -> String {
        let words = std::env::args_os().skip(1).map(|word| plain(&word.to_string_lossy()).replace('\n', " "));
        words.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }
}
