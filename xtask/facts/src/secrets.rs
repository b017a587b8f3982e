//! Secrets as they must never be seen: every relayed line is masked by what this project's secrets are.

/// The values that may not appear in any output.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: Vec<String>,
}

const MASK: &str = "***";

impl Secrets {
    /// Adds a secret. Very short ones are left out: masking every `a` would hide the text, not the secret.
    pub fn add(&mut self, value: &str) {
        if value.len() >= 4 && !self.values.iter().any(|known| known == value) {
            self.values.push(value.to_string());
            // A secret that is part of another one must not tear it apart.
            self.values.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// The line with each known secret, and each password in a URL, replaced. Ory prints DSNs that it
    /// can't parse, and invalid secrets, in clear.
    pub fn mask(&self, line: &str) -> String {
        let mut masked = mask_urls(&mask_setting(line));
        for value in self.values.iter().filter(|value| line.contains(value.as_str())) {
            masked = replace_words(&masked, value);
        }
        masked
    }
}

/// Replaces a value where it isn't a part of a longer word: the password `secret` isn't `secrets.cipher`.
fn replace_words(text: &str, value: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, found) = rest.split_at(at);
        let after = &found[value.len()..];
        let inside = before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric);
        result.push_str(before);
        result.push_str(if inside { value } else { MASK });
        rest = after;
    }
    result + rest
}

/// `secrets.cipher.0: VALUE` and `dsn: VALUE`, as Ory prints a setting that is invalid, without the value.
fn mask_setting(line: &str) -> String {
    match line.split_once(": ") {
        Some((key, value)) if (key.starts_with("secrets.") || key == "dsn") && value != "<nil>" => {
            format!("{key}: {MASK}")
        }
        _ => line.to_string(),
    }
}

/// `scheme://user:password@` without its password, also where the password has characters of URLs.
fn mask_urls(line: &str) -> String {
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        result.push_str(before);
        let end = url.find([' ', '"', '`', '\'']).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        match (url.find(':'), url.rfind('@')) {
            (Some(colon), Some(host)) if colon < host => {
                result.push_str(&url[..=colon]);
                result.push_str(MASK);
                result.push_str(&url[host..]);
            }
            _ => result.push_str(url),
        }
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_dsn_that_does_not_parse_is_masked() {
        let line = r#"failed to parse as URL (parse "postgres://ory:p%zz/w#r@d@db:5432/kratos": invalid"#;
        let masked = r#"failed to parse as URL (parse "postgres://ory:***@db:5432/kratos": invalid"#;
        assert_eq!(Secrets::default().mask(line), masked);
    }

    #[test]
    fn a_secret_that_is_invalid_is_masked_though_nobody_knows_it() {
        let masked = |line| Secrets::default().mask(line);
        assert_eq!(masked("secrets.cipher.0: too-short"), "secrets.cipher.0: ***");
        assert_eq!(masked("secrets.cipher: <nil>"), "secrets.cipher: <nil>");
        assert_eq!(masked("^-- length must be >= 32, but got 9"), "^-- length must be >= 32, but got 9");
    }

    #[test]
    fn a_known_secret_is_masked_as_a_word_only() {
        let mut secrets = Secrets::default();
        secrets.add("secret");
        assert_eq!(secrets.mask("secrets.cipher.0: secret"), "secrets.cipher.0: ***");
        assert_eq!(secrets.mask("password=secret"), "password=***");
    }

    #[test]
    fn a_secret_inside_a_longer_one_leaves_nothing_of_it() {
        let mut secrets = Secrets::default();
        secrets.add("pass");
        secrets.add("pass-word");
        assert_eq!(secrets.mask("got pass-word"), "got ***");
    }

    #[test]
    fn a_url_without_password_stays() {
        let line = "http://127.0.0.1:4433/health and postgres://db/kratos";
        assert_eq!(Secrets::default().mask(line), line);
    }
}
