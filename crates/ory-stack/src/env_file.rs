//! `.env`, where Compose looks for settings: written for a stack whose `.env.example` asks for it, and only
//! ever added to.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;
use yaml_rust2::Yaml;

use crate::asked;
use crate::ignored;
use crate::private_file::{self, Readers};
use crate::random::random;
use crate::text;
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::quote;

/// The comment in `.env.example` that asks for a random value of so many letters and digits below it.
const MARK: &str = "# xtask: random ";

/// What xtask itself reads from the file begins so.
const SETTINGS: [&str; 2] = ["COMPOSE_", "XTASK_"];

/// What a variable comes to that has no value, not even an empty one.
const UNSET: &str = "-xtask-unset-";

/// The `.env` of a stack, and the secrets its `.env.example` asks for.
pub struct EnvFile {
    path: PathBuf,
    text: String,
    /// The values of the secrets as Compose takes them from wherever it does; none: it wasn't asked.
    told: Option<BTreeMap<String, String>>,
    /// Name and length of each secret asked for.
    wanted: Vec<(String, usize)>,
}

impl EnvFile {
    /// Reads both files. Without marks in `.env.example` nothing is wanted, hence nothing is ever written; nor where
    /// COMPOSE_FILE names a stack without these variables.
    pub fn read(dir: &Path) -> Result<Self> {
        let example = read_if_there(&dir.join(".env.example"))?;
        let path = dir.join(".env");
        let text = read_if_there(&path)?;
        let files = compose_files(dir).iter().map(|file| read_if_there(file)).collect::<Result<Vec<_>>>()?;
        let lines: Vec<_> = example.lines().collect();
        let wanted = lines.windows(2).filter_map(|pair| {
            let length = pair[0].strip_prefix(MARK)?.trim().parse().ok()?;
            Some((pair[1].split_once('=')?.0.to_string(), length))
        });
        let wanted = wanted.filter(|(name, _)| may_use(&files, name));
        Ok(Self { path, text, told: None, wanted: wanted.collect() })
    }

    /// Whether Compose has to tell the values: it may read the file otherwise than line by line, or read other files. A
    /// secret that it sees must not be made up.
    pub fn needs_compose(&self) -> bool {
        let has_settings = SETTINGS.iter().any(|name| self.text.contains(name));
        let is_plain = self.is_plain();
        (has_settings && !is_plain)
            || !self.wanted.is_empty() && (!is_plain || self.missing_lengths().next().is_some())
    }

    /// Whether every program reads it as this one does.
    pub fn is_plain(&self) -> bool {
        is_plain(&self.text)
    }

    /// A stack to resolve, which has the secrets, and all that the file names, in the environment of its only service.
    pub fn question(&self) -> String {
        let named = self.text.lines().filter_map(|line| Some(pair(line)?.0)).filter(|name| is_name(name));
        let names = self.wanted.iter().map(|(name, _)| name.as_str()).chain(named).into_set();
        let lines = names.into_iter().map(|name| format!("      {name}: \"${{{name}-{UNSET}}}\"\n"));
        format!("services:\n  xtask:\n    image: xtask\n    environment:\n{}", lines.collect::<String>())
    }

    /// The same file with what Compose made of [`EnvFile::question`].
    pub fn told(self, resolved: &Yaml) -> Self {
        let values = text::map(&resolved["services"]["xtask"]["environment"]).into_iter();
        let values = values.filter(|(_, value)| value != UNSET).into_map();
        asked::keep(self.path.parent().unwrap_or(Path::new("")), values.clone());
        Self { told: Some(values), ..self }
    }

    /// Secrets asked for that neither `.env` nor the environment has. Where none has a value, `.env` is a copy of
    /// `.env.example`; else one that is empty was lost, and isn't made up.
    pub fn missing(&self) -> Vec<&str> {
        self.missing_lengths().map(|(name, _)| name).collect()
    }

    /// The same with the length of each.
    fn missing_lengths(&self) -> impl Iterator<Item = (&str, usize)> {
        let is_copy =
            self.wanted.iter().all(|(name, _)| self.value(name).is_none_or(|value| value.is_empty()));
        let is_missing = move |name: &str| {
            let is_blank = |value: String| is_copy && value.is_empty();
            std::env::var_os(name).is_none() && self.value(name).is_none_or(is_blank)
        };
        let wanted = self.wanted.iter().map(|(name, length)| (name.as_str(), *length));
        wanted.filter(move |(name, _)| is_missing(name))
    }

    /// A secret's value: in the environment, else in `.env`, as Compose reads it.
    fn value(&self, name: &str) -> Option<String> {
        let written = || match &self.told {
            Some(told) => told.get(name).cloned(),
            None => lookup(&self.text, name),
        };
        std::env::var(name).ok().or_else(written)
    }

    /// Fails where a secret is missing, also from the settings given, or is there but empty.
    pub fn check(&self, settings: &[(String, String)]) -> Result<()> {
        let missing = self.missing();
        // In a text of several lines, in another spelling: what it is to others, it was a secret once.
        let is_unread = |name: &&&str| lookup(&self.text, name).is_some_and(|value| !value.is_empty());
        if let Some(name) = missing.iter().find(is_unread) {
            let path = self.path.display();
            let message = format!("the secret {name} is in {path}, where Compose doesn't read it");
            let hint = format!("write it on a line of its own, outside of quotes: {name}=VALUE");
            return Err(Failure::new(Exit::Missing, message).hint(hint).into());
        }
        if let Some(name) = missing.iter().find(|name| !settings.iter().any(|(key, _)| key == *name)) {
            let message = format!("the secret {name} is not in {}", self.path.display());
            let hint = "{XTASK} up, which writes the secrets of a new environment; of one with data, put the \
                        old .env back";
            return Err(Failure::new(Exit::Missing, message).hint(hint).into());
        }
        let is_empty = |name: &&str| self.value(name).is_some_and(|value| value.is_empty());
        let mut others =
            self.wanted.iter().map(|(name, _)| name.as_str()).filter(|name| !missing.contains(name));
        if let Some(name) = others.find(is_empty) {
            let message = format!("the secret {name} is empty in {}", self.path.display());
            let hint = "put its value back; if this stack never had data, delete the line, then `{XTASK} up`";
            return Err(Failure::new(Exit::Missing, message).hint(hint).into());
        }
        Ok(())
    }

    /// A value for each missing secret, as long as the secret, so that Compose can resolve the stack before they
    /// are written.
    pub fn placeholders(&self) -> Vec<(String, String)> {
        let placeholder =
            |(name, length): (&str, usize)| (name.into(), format!("{:-<length$}", "not-yet-written"));
        self.missing_lengths().map(placeholder).collect()
    }

    /// How many secrets are asked for.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Gives the missing secrets their values, where their lines are there, else at the end; whatever is there stays.
    /// Returns the file's mode.
    pub fn write_missing(&self) -> Result<u32> {
        let mut lines: Vec<String> = self.text.lines().map(String::from).collect();
        for (name, length) in self.missing_lengths() {
            let line = format!("{name}={}", random(length)?);
            match lines.iter_mut().rfind(|there| pair(there).is_some_and(|(known, _)| known == name)) {
                Some(empty) => *empty = line,
                None => lines.push(line),
            }
        }
        let has_secrets = self
            .wanted
            .iter()
            .any(|(name, _)| lookup(&self.text, name).is_some_and(|value| !value.is_empty()));
        let readers = if has_secrets { Readers::Kept } else { Readers::Chosen };
        ignored::keep_out(&self.path);
        private_file::replace(&self.path, &(lines.join("\n") + "\n"), readers)?;
        Ok(private_file::mode(&self.path))
    }

    /// Sets variables, in a stack whose `.env` is written at all; elsewhere nothing is written.
    pub fn set(&self, settings: &[(String, String)]) -> Result<()> {
        let is_set = |(name, value): &(String, String)| lookup(&self.text, name).as_ref() == Some(value);
        if self.wanted.is_empty() || settings.iter().all(is_set) {
            return Ok(());
        }
        let sets = |line: &str| settings.iter().any(|(name, _)| line.starts_with(&format!("{name}=")));
        let others = self.text.lines().filter(|line| !sets(line));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        settings.iter().for_each(|(name, value)| text += &format!("{name}={value}\n"));
        private_file::replace(&self.path, &text, Readers::Kept)
    }
}

/// A setting of Compose: in the environment, else in `.env`.
pub fn setting(dir: &Path, name: &str) -> Option<String> {
    let from_env = std::env::var(name).ok().filter(|value| !value.is_empty());
    from_env.or_else(|| value(dir, name)).filter(|value| !value.is_empty())
}

/// The files that COMPOSE_FILE names; none where Compose is left to find its own.
pub fn compose_files(dir: &Path) -> Vec<PathBuf> {
    let Some(files) = setting(dir, "COMPOSE_FILE") else { return vec![] };
    let separator = setting(dir, "COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".into());
    files.split(&separator).map(|file| dir.join(file)).collect()
}

/// Whether a stack may use a variable: where COMPOSE_FILE names files that neither have it nor bring others, not.
fn may_use(files: &[String], name: &str) -> bool {
    let has = |text: &String| {
        let brings = |word| text.contains(word);
        uses(text, name) || ["include:", "extends:", "env_file:"].into_iter().any(brings)
    };
    files.is_empty() || files.iter().any(has)
}

/// Whether a text has `$NAME` or `${NAME...}` in it.
pub fn uses(text: &str, name: &str) -> bool {
    let is_name = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let mut parts = text.split('$').skip(1).map(|part| part.trim_start_matches('{'));
    parts.any(|part| part.strip_prefix(name).is_some_and(is_name))
}

/// A setting of a folder's `.env`, as Compose would take it, quotes aside.
pub fn value(dir: &Path, name: &str) -> Option<String> {
    asked::told(dir, name).unwrap_or_else(|| value_in(&dir.join(".env"), name))
}

/// The same of another file of this kind.
pub fn value_in(file: &Path, name: &str) -> Option<String> {
    lookup(&fs::read_to_string(file).ok()?, name)
}

/// The settings of a folder's `.env` that have a value.
pub fn names_of(dir: &Path, value: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(".env")).unwrap_or_default();
    let mut names: Vec<_> = text.lines().filter_map(|line| Some(pair(line)?.0.to_string())).collect();
    names.retain(|name| lookup(&text, name).as_deref() == Some(value));
    names
}

fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_letter) && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether every program reads a text as this one does.
fn is_plain(text: &str) -> bool {
    let is_value = |value: &str| value.chars().all(|c| c.is_ascii_graphic() && !"'\"`$#\\".contains(c));
    text.lines().all(|line| {
        let is_pair = line.split_once('=').is_some_and(|(name, value)| is_name(name) && is_value(value));
        line.is_empty() || line.starts_with('#') || is_pair
    })
}

/// The name and the value on a line, as they are written.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches('\u{feff}').trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_at(line.find(['=', ':'])?);
    Some((name.trim(), &value[1..]))
}

fn lookup(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(pair);
    Some(unquoted(pairs.rfind(|(key, _)| *key == name)?.1))
}

/// A value without its quotes, and without the comment behind it.
pub(crate) fn unquoted(value: &str) -> String {
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.split(quote).next());
    let plain = || value.split(" #").next().unwrap_or_default().trim_end();
    quoted('"').or_else(|| quoted('\'')).unwrap_or_else(plain).to_string()
}

pub(crate) fn read_if_there(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| {
            let failure = Failure::new(Exit::Missing, format!("{} can't be read", path.display()));
            anyhow::Error::new(error)
                .context(failure.hint(format!("ls -ld {}", quote(&path.display().to_string()))))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_file(text: &str) -> EnvFile {
        EnvFile {
            path: ".env".into(),
            text: text.into(),
            told: None,
            wanted: vec![("XT_A".into(), 32), ("XT_B".into(), 4)],
        }
    }

    #[test]
    fn a_value_that_is_there_is_not_missing() {
        assert_eq!(env_file("").missing(), ["XT_A", "XT_B"]);
        assert_eq!(env_file("XT_A=x\n# XT_B=y\n").missing(), ["XT_B"]);
    }

    #[test]
    fn in_a_copy_of_the_example_all_are_missing() {
        assert_eq!(env_file("PORT=1\nXT_A=\n# of B\nXT_B=\n").missing(), ["XT_A", "XT_B"]);
        assert_eq!(env_file("XT_A=\n").missing(), ["XT_A", "XT_B"]);
    }

    #[test]
    fn a_missing_secret_gets_its_value_where_its_line_is() {
        let dir = std::env::temp_dir().join(format!("xtask-env-file-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let file = EnvFile { path: dir.join(".env"), ..env_file("XT_B=\n# last\nPORT=1") };
        file.write_missing().expect("written");
        let text = fs::read_to_string(&file.path).expect("a file");
        let lines: Vec<_> =
            text.lines().map(|line| line.split_once('=').map_or(line, |pair| pair.0)).collect();
        assert_eq!(lines, ["XT_B", "# last", "PORT", "XT_A"]);
        let file = EnvFile { text, ..file };
        assert!(file.missing().is_empty() && file.check(&[]).is_ok());
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn an_empty_secret_is_an_error_and_not_a_reason_to_make_one_up() {
        let file = env_file("XT_A=\nXT_B=y\n");
        assert!(file.missing().is_empty());
        assert!(file.check(&[]).expect_err("empty").to_string().contains("XT_A"));
        assert!(env_file("XT_A=''\nXT_B=y\n").check(&[]).is_err());
        assert!(env_file("XT_A=x\n").check(&[]).expect_err("missing").to_string().contains("XT_B"));
        assert!(env_file("XT_A=x\nXT_B=y\n").check(&[]).is_ok());
    }

    #[test]
    fn compose_tells_the_values_wherever_it_could_read_otherwise() {
        let secrets = "XT_A=a.b/c:d@e%f+g,h=?&!\nXT_B=x\n";
        assert!(!env_file(secrets).needs_compose());
        for other in [
            "\u{feff}P=1",
            "P: 1",
            "export P=1",
            "P = 1",
            "P='1'",
            "P=1 # one",
            "P=$X",
            "P=\"1\nXT_A=x\"",
            "P",
            " # c",
        ] {
            assert!(env_file(&format!("{other}\n{secrets}")).needs_compose(), "{other:?}");
        }
        assert!(env_file("XT_B=x\n").needs_compose() && env_file("").needs_compose());
        let nothing = EnvFile { wanted: vec![], ..env_file("P: 1") };
        assert!(!nothing.needs_compose());
        let setting =
            EnvFile { wanted: vec![], ..env_file("BASE=a\nCOMPOSE_FILE=\"${BASE}.yml\" # which\n") };
        assert!(setting.needs_compose() && setting.question().contains("COMPOSE_FILE: \"${COMPOSE_FILE-"));
    }

    #[test]
    fn a_secret_that_compose_sees_is_there_and_one_that_it_does_not_see_is_not_made_up() {
        let told = |text: &str, environment: &str| {
            let resolved = format!("services: {{xtask: {{environment: {environment}}}}}");
            env_file(text).told(&yaml_rust2::YamlLoader::load_from_str(&resolved).expect("YAML")[0])
        };
        let file = told("\u{feff}XT_A: x\n", &format!("{{XT_A: x, XT_B: {UNSET}}}"));
        assert_eq!(file.missing(), ["XT_B"]);
        assert!(told("", "{XT_A: x, XT_B: y}").check(&[]).is_ok());
        let neither = format!("{{XT_A: {UNSET}, XT_B: y}}");
        for unread in ["XT_A: x", "P=\"1\nXT_A=x\n\"", "\u{feff}XT_A=x"] {
            let error = told(unread, &neither).check(&[("XT_A".into(), "placeholder".into())]);
            let error = error.expect_err(unread).to_string();
            assert_eq!(error, "the secret XT_A is in .env, where Compose doesn't read it", "{unread:?}");
        }
    }

    #[test]
    fn a_value_is_read_without_quotes_and_comments() {
        let text = "\u{feff}A=1\nexport B = \"x # y\" # z\nC: 'it'\nD=a#b # c\nE=";
        let values = ["A", "B", "C", "D", "E", "F"].map(|name| lookup(text, name));
        assert_eq!(values.map(|v| v.unwrap_or("none".into())), ["1", "x # y", "it", "a#b", "", "none"]);
    }

    #[test]
    fn a_secret_is_not_asked_for_by_files_that_do_not_have_its_variable() {
        let may = |text: &str| may_use(&[text.into()], "XT_A");
        assert!(may("DSN: postgres://a:${XT_A:?is missing}@db/a") && may("$XT_A") && may_use(&[], "XT_A"));
        assert!(!may("image: ${XT_A_IMAGE:-x}, ${XT_B}"));
        assert!(may("include: [other.yml]") && may("env_file: .env"));
    }
}
