//! A command line as Ory's programs read it: which configuration files they are started with. What a shell is given as a
//! script is taken apart into commands first; its own `-c` isn't theirs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ory_facts::product::Product;

/// Programs that start another one, which follows.
const STARTERS: [&str; 12] = [
    "exec",
    "env",
    "nohup",
    "tini",
    "dumb-init",
    "command",
    "busybox",
    "time",
    "nice",
    "su-exec",
    "gosu",
    "setpriv",
];

/// Words of the shell before a command.
const KEYWORDS: [&str; 9] = ["if", "then", "else", "elif", "while", "until", "do", "!", "{"];

const SHELLS: [&str; 5] = ["sh", "bash", "ash", "dash", "zsh"];

/// The configuration files that a command line names, in the order in which they count: the later one over the earlier.
/// `variables` are the container's, `folder` is where it starts.
pub fn config_files(words: &[String], variables: &BTreeMap<String, String>, folder: &str) -> Vec<String> {
    let commands = match script(words) {
        Some(text) => commands(text, variables),
        None => vec![words.to_vec()],
    };
    let own: Vec<_> = commands.iter().filter_map(|command| arguments(command)).collect();
    // A program of one's own may hand on what it is given.
    let any: Vec<_> = commands.iter().map(Vec::as_slice).filter(|command| does(command)).collect();
    let own = match (own.is_empty(), script(words).is_some()) {
        (false, _) => own,
        (true, true) => any,
        (true, false) => commands.iter().map(Vec::as_slice).collect(),
    };
    let of = |wanted: &dyn Fn(&[String]) -> bool| {
        let mut files: Vec<String> = vec![];
        for file in own.iter().filter(|arguments| wanted(arguments)).flat_map(|arguments| flagged(arguments))
        {
            let file = absolute(folder, &file);
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    };
    // A script may migrate with other files before it serves.
    let served = of(&|arguments| arguments.iter().any(|word| word == "serve"));
    if served.is_empty() { of(&|_| true) } else { served }
}

/// What follows the name of a program of Ory's.
fn arguments(command: &[String]) -> Option<&[String]> {
    let is_program = |word: &String| Product::named(word.rsplit('/').next().unwrap_or(word)).is_some();
    let at = command.iter().position(is_program)?;
    let after = &command[at + 1..];
    (at == 0 || does(after)).then_some(after)
}

fn does(command: &[String]) -> bool {
    command.iter().any(|word| ["serve", "migrate", "courier"].contains(&word.as_str()))
}

/// The script that a shell among these words is given.
fn script(words: &[String]) -> Option<&str> {
    let mut rest = words;
    loop {
        let (first, after) = rest.split_first()?;
        let name = first.rsplit('/').next().unwrap_or(first);
        rest = after;
        if SHELLS.contains(&name) {
            break;
        }
        let is_start = STARTERS.contains(&name) || first.starts_with('-') || is_assignment(first);
        if !is_start {
            return None;
        }
    }
    while let Some((option, after)) = rest.split_first().filter(|(word, _)| word.starts_with(['-', '+'])) {
        rest = after;
        let letters = if option.starts_with("--") { "" } else { &option[1..] };
        // `-o pipefail`
        if letters.contains('o') {
            rest = rest.get(1..)?;
        }
        if letters.contains('c') {
            return rest.first().map(String::as_str);
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// The simple commands of a script, without what only starts them; those of a shell in it among them.
fn commands(text: &str, variables: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let mut found = vec![];
    for mut command in simple(text, variables) {
        let is_before = |word: &String| KEYWORDS.contains(&word.as_str()) || is_assignment(word);
        let skipped = command.iter().take_while(|word| is_before(word)).count();
        command.drain(..skipped);
        match script(&command) {
            Some(inner) => found.extend(commands(inner, variables)),
            None => found.push(command),
        }
    }
    found
}

/// The words of a script, command by command, with the variables that are known.
fn simple(text: &str, variables: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let mut all = vec![vec![]];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(c),
            (_, '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            (_, '$') => {
                let value = expanded(&mut chars, variables);
                word.get_or_insert_default().push_str(&value);
            }
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '#') if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, ';' | '&' | '|' | '\n' | '(' | ')') => {
                all.last_mut().into_iter().for_each(|command| command.extend(word.take()));
                all.push(vec![]);
            }
            (None, c) if c.is_whitespace() || c == '<' || c == '>' => {
                all.last_mut().into_iter().for_each(|command| command.extend(word.take()));
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    all.last_mut().into_iter().for_each(|command| command.extend(word.take()));
    all.retain(|command| !command.is_empty());
    all
}

/// The value of the variable that follows, or what stands for it where there is none.
fn expanded(
    chars: &mut std::iter::Peekable<std::str::Chars>,
    variables: &BTreeMap<String, String>,
) -> String {
    let is_letter = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    if chars.next_if_eq(&'{').is_none() {
        let name: String = std::iter::from_fn(|| chars.next_if(is_letter)).collect();
        return variables.get(&name).cloned().unwrap_or(format!("${name}"));
    }
    let inner: String = chars.take_while(|c| *c != '}').collect();
    let (name, default) = inner.split_at(inner.find(|c| !is_letter(&c)).unwrap_or(inner.len()));
    let default = default.trim_start_matches(':').strip_prefix(['-', '=']);
    let value = variables.get(name).filter(|value| !value.is_empty());
    value.cloned().or(default.map(String::from)).unwrap_or(format!("${{{inner}}}"))
}

/// What follows each `-c` and `--config`, by the rules of the library that all three read their flags with: `-c a`, `-ca`,
/// `-c=a`, `-ec a`, `--config a`, `--config=a`, and several in one with commas.
/// Source: <https://pkg.go.dev/github.com/spf13/pflag#section-readme>.
fn flagged(arguments: &[String]) -> Vec<String> {
    let mut files = vec![];
    let mut words = arguments.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--") {
            Some("config") => words.next().cloned(),
            Some(long) => long.strip_prefix("config=").map(String::from),
            None => word.strip_prefix('-').and_then(|letters| {
                // Only `-f` and `-c` of theirs have a value, which may follow at once.
                let at = letters.find(['c', 'f', '='])?;
                let value = &letters[at + 1..];
                let value = value.strip_prefix('=').unwrap_or(value);
                let value = if value.is_empty() { words.next().cloned()? } else { value.to_string() };
                letters[at..].starts_with('c').then_some(value)
            }),
        };
        files.extend(value.iter().flat_map(|value| listed(value)));
    }
    files.retain(|file| !file.is_empty());
    files
}

/// The fields of a line of CSV.
fn listed(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut();
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => {
                field.into_iter().for_each(|f| f.push('"'))
            }
            '"' if is_quoted || field.as_ref().is_some_and(|field| field.is_empty()) => {
                is_quoted = !is_quoted
            }
            ',' if !is_quoted => fields.push(String::new()),
            c => field.into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

/// A path of the container from its root, without `.` and `..`.
fn absolute(folder: &str, file: &str) -> String {
    let mut clean = PathBuf::from("/");
    for part in Path::new(folder).join(file).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => _ = clean.pop(),
            _ => {}
        }
    }
    clean.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(words: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let variables = BTreeMap::from([("CONFIG".to_string(), "/v.yml".to_string())]);
        config_files(&words, &variables, "/home/ory")
    }

    #[test]
    fn flags_are_read_as_ory_reads_them() {
        for words in [
            &["serve", "-c", "/a.yml", "-c", "/b.yml"][..],
            &["serve", "-c", "/a.yml,/b.yml"],
            &["serve", "-c/a.yml,/b.yml", "--dev"],
            &["serve", "-c=/a.yml", "--config=/b.yml"],
            &["kratos", "serve", "--config", "/a.yml", "--config", "/b.yml"],
            &["migrate", "sql", "-ec", "/a.yml,/b.yml", "--yes"],
            &["serve", "-c", "\"/a.yml\",/b.yml", "--", "-c", "/c.yml"],
            &["--config", "/a.yml", "serve", "-c", "/x/../b.yml"],
            &["wait-for", "db:5432", "--", "kratos", "serve", "-c", "/a.yml", "-c", "/b.yml"],
            &["/start.sh", "-c", "/a.yml", "-c", "//b.yml", "-f", "json"],
        ] {
            assert_eq!(files(words), ["/a.yml", "/b.yml"], "{words:?}");
        }
        assert_eq!(files(&["serve", "-c", "/with space.yml"]), ["/with space.yml"]);
        assert_eq!(
            files(&["serve", "-c", "kratos.yml", "-c", "./conf/b.yml"]),
            ["/home/ory/kratos.yml", "/home/ory/conf/b.yml"]
        );
        assert_eq!(files(&["serve", "--dev", "--watch-courier"]), [""; 0]);
    }

    #[test]
    fn the_c_of_a_shell_is_not_orys() {
        for words in [
            &["sh", "-c", "kratos migrate sql -e --yes -c /m.yml && exec kratos serve -c /a.yml"][..],
            &["/bin/bash", "-euo", "pipefail", "-c", "sleep 1; kratos serve --config=/a.yml"],
            &["tini", "--", "sh", "-ec", "if true; then\n  A=b kratos serve \\\n -c '/a.yml' >/log\nfi"],
            &["sh", "-c", "psql -c 'select 1' # -c /x.yml\nenv X=y /usr/bin/kratos serve -c \"/a.yml\""],
            &["sh", "-lc", "sh -c 'kratos serve -c /a.yml'"],
            &["sh", "-c", "kratos serve -c ${FILE:-/a.yml}"],
            &["sh", "-c", "wget -c http://x; ./run serve -c /a.yml"],
            &["sh", "/entrypoint.sh", "serve", "-c", "/a.yml"],
        ] {
            assert_eq!(files(words), ["/a.yml"], "{words:?}");
        }
        assert_eq!(files(&["sh", "-c", "kratos serve -c $CONFIG -c \"${CONFIG}2\""]), ["/v.yml", "/v.yml2"]);
        assert_eq!(files(&["sh", "-c", "kratos serve"]), [""; 0]);
    }
}
