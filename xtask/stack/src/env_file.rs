//! `.env`, where Compose looks for settings: written for a stack whose `.env.example` asks for it, and only
//! ever added to.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use ory_facts::dsn::Dsn;
use xtask_runner::failure::{Exit, Failure};
use xtask_runner::process::quote;

/// The comment in `.env.example` that asks for a random value of so many letters and digits below it.
const MARK: &str = "# xtask: random ";

/// The `.env` of a stack, and the secrets its `.env.example` asks for.
pub struct EnvFile {
    path: PathBuf,
    text: String,
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
        Ok(Self { path, text, wanted: wanted.collect() })
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
            std::env::var_os(name).is_none() && lookup(&self.text, name).is_none_or(is_blank)
        };
        let wanted = self.wanted.iter().map(|(name, length)| (name.as_str(), *length));
        wanted.filter(move |(name, _)| is_missing(name))
    }

    /// A secret's value: in the environment, else in `.env`.
    fn value(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| lookup(&self.text, name))
    }

    /// Fails where a secret is missing, also from the settings given, or is there but empty.
    pub fn check(&self, settings: &[(String, String)]) -> Result<()> {
        let missing = self.missing();
        if let Some(name) = missing.iter().find(|name| !settings.iter().any(|(key, _)| key == *name)) {
            let message = format!("the secret {name} is not in {}", self.path.display());
            let hint = "cargo xtask up, which writes the secrets of a new environment; of one with data, put the \
                        old .env back";
            return Err(Failure::new(Exit::Missing, message).hint(hint).into());
        }
        let is_empty = |name: &&str| self.value(name).is_some_and(|value| value.is_empty());
        let mut others =
            self.wanted.iter().map(|(name, _)| name.as_str()).filter(|name| !missing.contains(name));
        if let Some(name) = others.find(is_empty) {
            let message = format!("the secret {name} is empty in {}", self.path.display());
            let hint =
                "put its value back; if this stack never had data, delete the line, then `cargo xtask up`";
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
    pub fn write_missing(&self) -> Result<()> {
        let mut lines: Vec<String> = self.text.lines().map(String::from).collect();
        for (name, length) in self.missing_lengths() {
            let line = format!("{name}={}", random(length)?);
            match lines.iter_mut().rfind(|there| there.starts_with(&format!("{name}="))) {
                Some(empty) => *empty = line,
                None => lines.push(line),
            }
        }
        self.replace(&(lines.join("\n") + "\n"))
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
        self.replace(&text)
    }

    fn replace(&self, text: &str) -> Result<()> {
        replace(&self.path, text)
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

/// The values in `.env.example` that stand for a secret, the passwords of DSNs among them.
pub fn examples(dir: &Path) -> BTreeSet<String> {
    let text = read_if_there(&dir.join(".env.example")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let is_secret = |name: &str| ["SECRET", "PASSWORD", "DSN"].iter().any(|word| name.contains(word));
    let values = pairs.filter(|(name, _)| !name.starts_with('#') && is_secret(name));
    let secret = |value: String| Dsn::parse(&value).map_or(value, |dsn| dsn.password);
    values.map(|(_, value)| secret(unquoted(value))).filter(|value| !value.is_empty()).collect()
}

/// Replaces a file as a whole, mode 0600, so that it is never half written.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut file = private_file(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

/// A setting of a folder's `.env`, as Compose would take it, quotes aside.
pub fn value(dir: &Path, name: &str) -> Option<String> {
    value_in(&dir.join(".env"), name)
}

/// The same of another file of this kind.
pub fn value_in(file: &Path, name: &str) -> Option<String> {
    lookup(&fs::read_to_string(file).ok()?, name)
}

/// The setting of a folder's `.env` that a path comes from.
pub fn name_behind(folder: &Path, path: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(".env")).ok()?;
    let pairs = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
    let is_behind = |value: &str| {
        let value = unquoted(value);
        let value = value.trim_start_matches("./");
        !value.is_empty() && path.ends_with(value)
    };
    { pairs }.find(|(_, value)| is_behind(value)).map(|(name, _)| name.trim().into())
}

/// The settings of a folder's `.env` that have a value.
pub fn names_of(dir: &Path, value: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(".env")).unwrap_or_default();
    let names =
        text.lines().filter_map(|line| Some(line.trim().trim_start_matches("export ").split_once('=')?.0));
    let mut names: Vec<_> = names.map(|name| name.trim().to_string()).collect();
    names.retain(|name| lookup(&text, name).as_deref() == Some(value));
    names
}

fn lookup(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.trim().trim_start_matches("export ").split_once('='));
    Some(unquoted(pairs.rfind(|(key, _)| key.trim() == name)?.1))
}

fn unquoted(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_string()
}

/// An empty file that only its owner can read.
pub fn private_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn read_if_there(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| {
            let failure = Failure::new(Exit::Missing, format!("{} can't be read", path.display()));
            anyhow::Error::new(error)
                .context(failure.hint(format!("ls -ld {}", quote(&path.display().to_string()))))
        }),
    }
}

/// Letters and digits, each as likely as any other: they need no encoding in a DSN.
pub fn random(length: usize) -> Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut byte = [0];
        getrandom::fill(&mut byte).context("the system has no random numbers")?;
        // The 8 values above the last multiple of 62 would favour the first letters.
        if byte[0] < 248 {
            text.push(char::from(ALPHABET[usize::from(byte[0]) % 62]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_file(text: &str) -> EnvFile {
        EnvFile {
            path: ".env".into(),
            text: text.into(),
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
    fn a_secret_is_not_asked_for_by_files_that_do_not_have_its_variable() {
        let may = |text: &str| may_use(&[text.into()], "XT_A");
        assert!(may("DSN: postgres://a:${XT_A:?is missing}@db/a") && may("$XT_A") && may_use(&[], "XT_A"));
        assert!(!may("image: ${XT_A_IMAGE:-x}, ${XT_B}"));
        assert!(may("include: [other.yml]") && may("env_file: .env"));
    }

    #[test]
    fn random_values_have_their_length_and_differ() {
        let (one, two) = (random(32).expect("random"), random(32).expect("random"));
        assert_eq!((one.len(), two.len()), (32, 32));
        assert_ne!(one, two);
        assert!(one.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
