//! Secrets as they must never be seen: every relayed line is masked by what this project's secrets are.

use percent_encoding::percent_decode_str;

use crate::secret_names::{Sureness, may_be_sure, sureness};

/// The values that may not appear in any output.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: Vec<String>,
}

const MASK: &str = "***";

/// From so many letters on, what has a secret in the middle of a word has it from there.
const UNMISTAKABLE: usize = 12;

impl Secrets {
    /// Adds a secret, as it is and as JSON has it; of several lines each. Very short ones are left out: masking every
    /// `a` would hide the text, not the secret.
    pub fn add(&mut self, value: &str) {
        let lines = value.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        for line in lines {
            let escaped = line.replace('\\', "\\\\").replace('"', "\\\"");
            [line, &escaped].into_iter().for_each(|text| self.add_text(text));
        }
    }

    fn add_text(&mut self, value: &str) {
        if value.len() >= 4 && !self.values.iter().any(|known| known == value) {
            // The longest first: a secret that is part of another one must not tear it apart.
            let shorter = self.values.iter().position(|known| known.len() < value.len());
            self.values.insert(shorter.unwrap_or(self.values.len()), value.to_string());
        }
    }

    /// The line with each known secret, and each password in a URL, replaced. Ory prints DSNs that it
    /// can't parse, and invalid secrets, in clear.
    pub fn mask(&self, line: &str) -> String {
        let mut masked = mask_urls(&mask_named(line));
        for value in self.values.iter().filter(|value| line.contains(value.as_str())) {
            masked = replace_words(&masked, value);
        }
        masked
    }
}

/// The secrets that a URL has: its password, and those among its parameters; as they are written, and as they are meant.
pub fn of_url(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else { return vec![] };
    let password = rest.rsplit_once('@').and_then(|(login, _)| Some(login.split_once(':')?.1));
    let query = rest.split_once('?').map_or("", |(_, query)| query).split('&');
    let named =
        query.filter_map(|pair| pair.split_once('=').filter(|(name, _)| sureness(name) != Sureness::No));
    let written = password.into_iter().chain(named.map(|(_, value)| value));
    let meant = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let both = written.flat_map(|text| [text.to_string(), meant(text)]);
    both.filter(|text| !text.is_empty()).collect()
}

/// Replaces a value where it isn't a part of a longer word: the password `secret` isn't `secrets.cipher`.
fn replace_words(text: &str, value: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, found) = rest.split_at(at);
        let after = &found[value.len()..];
        let inside = value.len() < UNMISTAKABLE
            && (before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric));
        result.push_str(before);
        result.push_str(if inside { value } else { MASK });
        rest = after;
    }
    result + rest
}

/// What follows a name of a secret, whoever wrote it: `client_secret:VALUE` in what Go prints, `"password": "VALUE"`,
/// `TOKEN=VALUE`, and `secrets.cipher.0: VALUE`, as Ory prints a setting that is invalid.
fn mask_named(line: &str) -> String {
    let mut result = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find([':', '=']) {
        let (before, after) = rest.split_at(at + 1);
        result.push_str(before);
        let (gap, value) = if is_secret_name(before) { value_in(before, after) } else { (0, 0) };
        result.push_str(&after[..gap]);
        if value > 0 {
            result.push_str(MASK);
        }
        rest = &after[gap + value..];
    }
    result + rest
}

/// Whether what ends with `:` or `=` ends with the name of a secret.
fn is_secret_name(before: &str) -> bool {
    let text = before[..before.len() - 1].trim_end_matches(['"', '\'', '\\']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let path = &text[text.trim_end_matches(is_name).len()..];
    let mut keys =
        path.split('.').rev().filter(|key| !key.is_empty() && !key.bytes().all(|b| b.is_ascii_digit()));
    let last = keys.next().unwrap_or_default();
    path.starts_with("secrets.") || path == "dsn" || (may_be_sure(last) && sureness(last) == Sureness::Sure)
}

/// How long is what stands before the value, and the value.
fn value_in(before: &str, after: &str) -> (usize, usize) {
    let space = after.len() - after.trim_start_matches(' ').len();
    let value = &after[space..];
    let length = |quote: &str| value[quote.len()..].find(quote).unwrap_or(value.len() - quote.len());
    if let Some(quote) = ["\\\"", "\"", "'"].into_iter().find(|quote| value.starts_with(quote)) {
        return (space + quote.len(), length(quote));
    }
    if ["<nil>", "null", MASK, "map[", "{", "|", ">"].iter().any(|other| value.starts_with(other)) {
        return (space, 0);
    }
    if value.starts_with('[') {
        return (space + 1, value.find(']').map_or(value.len() - 1, |end| end - 1));
    }
    if space > 0 {
        // A line of its own, as YAML has it, or of a path; anything else is a sentence.
        let name = before.trim_end_matches([':', '=']);
        let name = name.rsplit_once(" | ").map_or(name, |(_, name)| name).trim_start_matches([' ', '-']);
        let is_alone = before.ends_with(':') && !name.contains(' ');
        return (space, if is_alone { value.len() } else { 0 });
    }
    (0, value.find([' ', ',', ']', '}', ')', '&', ';', '"', '\'', '`']).unwrap_or(value.len()))
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
    fn what_is_named_a_secret_is_masked_in_whatever_spelling() {
        let masked = |line| Secrets::default().mask(line);
        for (line, right) in [
            (
                "kratos-1  | oidc.config.providers.0: map[client_id:shop client_secret:geheim id:google]",
                "kratos-1  | oidc.config.providers.0: map[client_id:shop client_secret:*** id:google]",
            ),
            (r#"{"client_secret": "ge heim", "id": 1}"#, r#"{"client_secret": "***", "id": 1}"#),
            (r#"msg="bad {\"client_secret\":\"geheim\"}""#, r#"msg="bad {\"client_secret\":\"***\"}""#),
            ("headers:map[Authorization:[Bearer geheim]]", "headers:map[Authorization:[***]]"),
            ("kratos-1  | secrets.cipher.0: too short", "kratos-1  | secrets.cipher.0: ***"),
            ("POST /?api_key=geheim&b=c", "POST /?api_key=***&b=c"),
            ("    - password: geheim", "    - password: ***"),
            ("SMTP_PASSWORD=geheim next", "SMTP_PASSWORD=*** next"),
            ("FATAL:  password authentication failed", "FATAL:  password authentication failed"),
            ("no password: it is too long", "no password: it is too long"),
            (
                "selfservice.methods.password: map[enabled:true]",
                "selfservice.methods.password: map[enabled:true]",
            ),
        ] {
            assert_eq!(masked(line), right);
        }
    }

    #[test]
    fn a_secret_is_masked_as_it_is_escaped_line_by_line_and_in_the_middle_of_a_word() {
        let mut secrets = Secrets::default();
        secrets.add("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\n");
        secrets.add(r#"a"quoted\one"#);
        assert_eq!(secrets.mask(r"key=x\nMIIEvQIBADANBgkq\n"), r"key=x\n***\n");
        assert_eq!(secrets.mask(r#"got "a\"quoted\\one""#), r#"got "***""#);
        let mut urls = of_url("smtps://me:p%40ss@mail:465/?token=abc&x=y");
        urls.dedup();
        assert_eq!(urls, ["p%40ss", "p@ss", "abc"]);
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
