//! The command line of a PostgreSQL server process, which a client hands over as `options`.
//! Source: <https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>.

/// A word of it, whatever is in it.
pub fn word(text: &str) -> String {
    let escaped = |c: char| if c.is_ascii_whitespace() || c == '\\' { format!("\\{c}") } else { c.into() };
    text.chars().map(escaped).collect()
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (vec![], None::<String>);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let plain = if c == '\\' { rest.next() } else { Some(c) };
            word.get_or_insert_default().extend(plain);
        }
    }
    words.extend(word);
    words
}

/// What a setting is set to: `-c name=value`, `-cname=value` or `--name=value`, the last of them.
pub fn setting(text: &str, name: &str) -> Option<String> {
    let (mut found, mut words) = (None, words(text).into_iter());
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(pair) => pair.into(),
            None => continue,
        };
        let pair = pair.split_once('=').map(|(name, value)| (name.replace('-', "_"), value));
        found = pair.filter(|(known, _)| known == name).map(|(_, value)| value.into()).or(found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_and_the_last_setting_counts() {
        for value in ["a", "A b, c", "\\", "\"q\"\t\n", "it's", "é"] {
            let text = format!("-c {} -c work_mem=4MB", word(&format!("search_path={value}")));
            assert_eq!(setting(&text, "search_path").as_deref(), Some(value), "{text}");
        }
        let text = "--search-path=a -csearch_path=b -c search_path=c -e -c";
        assert_eq!(setting(text, "search_path").as_deref(), Some("c"));
        assert_eq!(setting(text, "work_mem"), None);
    }
}
