//! What Compose says of a stack that it can't resolve, without the secrets in it: it quotes the lines and the values at
//! which it stops. What the secrets are is only guessed here, from names and from looks, and rather too often.

use std::fs;
use std::path::Path;

use crate::env_file;
use ory_facts::dsn::Dsn;
use ory_facts::secret_names;
use ory_facts::secrets::Secrets;

/// The files that Compose looks for where none are named.
const COMPOSE_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What Compose puts before a text that it quotes from a file, whatever its name.
const QUOTED: [&str; 5] = [
    " near ",
    "in variable name ",
    "unterminated quoted value ",
    "can't separate key from value",
    "Invalid template: ",
];

/// The lines that Compose printed, masked.
pub fn masked(dir: &Path, said: &str) -> Vec<String> {
    let secrets = secrets(dir);
    let lines = said.lines().map(|line| secrets.mask(&unquoted(line.trim())));
    lines.filter(|line| !line.is_empty()).collect()
}

/// A line without what it quotes from a file.
fn unquoted(line: &str) -> String {
    // The value of a setting, in both generations; what follows it says what to do.
    if let Some(at) = line.find("nterpolation format for ")
        && let Some(value) = line[at..].find(": \"").map(|colon| at + colon + 3)
        && let Some(end) = line[value..].rfind('"')
    {
        return format!("{}***{}", &line[..value], &line[value + end..]);
    }
    let ends = QUOTED.iter().filter_map(|phrase| Some(line.find(phrase)? + phrase.len()));
    ends.min().map_or(line.into(), |end| format!("{}***", &line[..end]))
}

/// What may be secret in the environment, in `.env`, and in the files of the stack.
pub fn secrets(dir: &Path) -> Secrets {
    let mut secrets = Secrets::default();
    // The folder that a shell is in is called so too.
    let is_folder = |name: &std::ffi::OsStr| name == "PWD" || name == "OLDPWD";
    for (name, value) in std::env::vars_os().filter(|(name, _)| !is_folder(name)) {
        add(&mut secrets, &name.to_string_lossy(), &value.to_string_lossy());
    }
    let named = env_file::compose_files(dir);
    let files = named.into_iter().chain(COMPOSE_FILES.map(|file| dir.join(file)));
    let mut texts: Vec<_> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    texts.extend(env_files(dir));
    let lines = texts.iter().flat_map(|text| text.lines());
    // A map on one line has several.
    for part in lines.flat_map(|line| [line].into_iter().chain(line.split([',', '{', '}', '[', ']']))) {
        let part = part
            .trim_start_matches('\u{feff}')
            .trim()
            .trim_start_matches("- ")
            .trim_start_matches(['"', '\'']);
        let part = part.strip_prefix("export ").unwrap_or(part);
        if let Some(at) = part.find(['=', ':']) {
            add(&mut secrets, part[..at].trim(), &part[at + 1..]);
        }
    }
    secrets
}

/// The files of variables: those that are called so.
fn env_files(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.starts_with(".env") || name.ends_with("env")) && path.is_file()
    });
    paths.filter_map(|path| fs::read_to_string(path).ok())
}

/// Adds what may be printed of a value, if it may be a secret.
fn add(secrets: &mut Secrets, name: &str, value: &str) {
    let value = value.trim();
    let plain = value.trim_matches(['"', '\'']);
    if let Ok(dsn) = Dsn::parse(plain) {
        secrets.add(&dsn.password);
    }
    if !secret_names::may_have(name) && !looks_random(plain) {
        return;
    }
    // As it is, as it is quoted, and what is left of it where it has what Compose takes for a variable, or a default.
    let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
    let before_comment = plain.split(" #").next().unwrap_or_default().trim_end().trim_matches(['"', '\'']);
    [plain, &escaped, before_comment].into_iter().for_each(|text| secrets.add(text));
    for piece in [plain, before_comment].into_iter().flat_map(|text| text.split(['$', '{', '}'])) {
        secrets.add(piece);
        secrets.add(
            piece.rsplit_once(":-").or_else(|| piece.rsplit_once('-')).map_or("", |(_, default)| default),
        );
    }
}

/// Letters and digits at least, and many of them.
fn looks_random(value: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    value.len() >= 16
        && value.chars().all(is_letter)
        && value.contains(|c: char| c.is_ascii_digit())
        && value.contains(|c: char| c.is_ascii_alphabetic())
        && !value.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of a line, in a folder with these files.
    fn masked_with(files: &[(&str, &str)], line: &str) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("xtask-unresolved-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a file");
        }
        let masked = masked(&dir, line).join("\n");
        fs::remove_dir_all(&dir).expect("removed");
        masked
    }

    #[test]
    fn a_line_that_compose_quotes_is_not_printed_whatever_is_in_it() {
        for (line, masked) in [
            (
                r#"failed to read .env: line 2: unexpected character "+" in variable name "PA+SS=hunter22""#,
                "failed to read .env: line 2: unexpected character \"+\" in variable name ***",
            ),
            (
                r#"failed to read .env: line 3: unterminated quoted value "hunter22"#,
                "failed to read .env: line 3: unterminated quoted value ***",
            ),
            (
                r#"unexpected character "%" in variable name near "PA%SS=hunter22\nB=other""#,
                "unexpected character \"%\" in variable name ***",
            ),
            (
                r#"invalid interpolation format for services.db.environment.X: "hun${ter22". You may need to escape"#,
                "invalid interpolation format for services.db.environment.X: \"***\". You may need to escape",
            ),
        ] {
            assert_eq!(masked_with(&[], line), masked);
        }
    }

    #[test]
    fn a_value_of_a_file_is_not_printed_where_its_name_or_its_looks_say_that_it_is_secret() {
        let env = "\u{feff}DB_PASSWORD=hunter22\nexport API_TOKEN: \"to\\ken\"\nDATABASE=postgres://a:geheim@h/d\n\
                   ODD=Zk3hs8Hs72hsB2ks9\nPORT=8080\nKETO_DSN=x$secretpart # note\n";
        let yaml = "services:\n  db:\n    environment: {POSTGRES_PASSWORD: plainly, X: y}\n    image: ${SECRET_IMAGE:-inside}\n";
        let files = [(".env", env), ("docker-compose.yml", yaml)];
        for (line, masked) in [
            ("invalid hostPort: hunter22", "invalid hostPort: ***"),
            (r#"bad "to\\ken" here"#, "bad \"***\" here"),
            ("no geheim, no Zk3hs8Hs72hsB2ks9", "no ***, no ***"),
            (r#"The "secretpart" variable is not set"#, "The \"***\" variable is not set"),
            ("plainly invalid, 8080 invalid", "*** invalid, 8080 invalid"),
        ] {
            assert_eq!(masked_with(&files, line), masked);
        }
    }
}
