//! What Compose says beside what it prints: its warnings, and the line that is the error.

use std::path::PathBuf;

/// The variables that it takes for empty texts, because nothing sets them: each once, in the order of the file.
pub fn unset(stderr: &str) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for line in stderr.lines() {
        // 2.x: msg="The \"NAME\" variable is not set. ..."; 1.29: The NAME variable is not set. ...
        let Some((before, _)) = line.split_once(" variable is not set") else { continue };
        let name = before.rsplit(' ').next().unwrap_or_default().trim_matches(['\\', '"']).to_string();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What isn't a warning; all where there is nothing else.
pub fn errors(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_warning = |line: &&str| {
        line.contains(" level=warning ") || line.starts_with("WARNING: ") || line.starts_with("WARN[")
    };
    let (warnings, errors): (Vec<_>, Vec<_>) = lines.partition(is_warning);
    if errors.is_empty() { warnings } else { errors }
}

/// A file that Compose was to read and that isn't there: an `env_file`, or what is included.
pub fn absent_file(said: &str) -> Option<PathBuf> {
    let words = said.split_whitespace().map(|word| word.trim_matches([':', ',', '"', '\'']));
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).find(|path| !path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "time=\"2026-11-26T15:40:43Z\" level=warning msg=\"The \\\"KRATOS_DB_PASSWROD\\\" variable is not \
        set. Defaulting to a blank string.\"\n\
        WARNING: The COOKIE variable is not set. Defaulting to a blank string.\n\
        WARNING: The COOKIE variable is not set. Defaulting to a blank string.\n\
        service \"kratos\" refers to undefined network proxy: invalid compose project\n";

    #[test]
    fn a_variable_that_is_not_set_is_read_from_each_generation() {
        assert_eq!(unset(BOTH), ["KRATOS_DB_PASSWROD", "COOKIE"]);
        assert_eq!(unset("required variable X is missing a value: X is not set"), [""; 0]);
    }

    #[test]
    fn the_error_is_told_and_not_the_first_warning() {
        assert_eq!(
            errors(BOTH),
            ["service \"kratos\" refers to undefined network proxy: invalid compose project"]
        );
        assert_eq!(errors("WARNING: a\n"), ["WARNING: a"]);
    }
}
