//! What is named a secret: variables of the environment, and keys of a configuration file of any product.

/// Parts of names that only secrets have, in lower case and without what separates words.
const SURE: [&str; 12] = [
    "secret",
    "passw",
    "passphrase",
    "credential",
    "apikey",
    "privatekey",
    "accesskey",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authorization",
];

/// Words that a secret is called by, and other things too.
const LIKELY: [&str; 14] = [
    "pass", "pwd", "pw", "token", "tokens", "key", "keys", "pin", "salt", "cipher", "auth", "cookie", "jwk",
    "jwks",
];

/// Last words of names that tell something of a secret, and not the secret.
const ABOUT: [&str; 26] = [
    "file",
    "path",
    "name",
    "type",
    "algorithm",
    "alg",
    "ttl",
    "length",
    "size",
    "enabled",
    "disabled",
    "prefix",
    "hook",
    "lifespan",
    "format",
    "policy",
    "count",
    "min",
    "max",
    "age",
    "domain",
    "site",
    "strategy",
    "after",
    "style",
    "url",
];

/// Words of what is never a secret, whatever it is of.
const OF_NONE: [&str; 4] = ["ttl", "lifespan", "strategies", "rotation"];

/// Parts of names of addresses, which may have a password in them, and of what else may be secret as a whole.
const BESIDE: [&str; 2] = ["dsn", "private"];

/// Words of names of addresses.
const ADDRESS: [&str; 2] = ["url", "uri"];

/// How sure a name makes it that its value is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sureness {
    No,
    /// The value must look like one too.
    Likely,
    Sure,
}

/// Whether a name isn't surely none of a secret: quickly, for thousands of lines.
pub fn may_be_sure(name: &str) -> bool {
    let has = |part: &str| {
        name.as_bytes().windows(part.len()).any(|text| text.eq_ignore_ascii_case(part.as_bytes()))
    };
    // Each of the parts has one of these.
    name.len() >= 5 && ["secret", "pass", "credential", "key", "token", "auth"].into_iter().any(has)
}

/// What the name of a variable, or of a key, makes of its value.
pub fn sureness(name: &str) -> Sureness {
    let words = words(name);
    let joined = words.concat();
    let is_sure = SURE.iter().any(|part| joined.contains(part));
    let last = words.last().map(String::as_str).unwrap_or_default();
    match () {
        () if ABOUT.contains(&last) || words.iter().any(|word| OF_NONE.contains(&word.as_str())) => {
            Sureness::No
        }
        // The id of a secret is one to log in with; that of a key is what others call it.
        () if last == "id" && !joined.contains("secret") => Sureness::No,
        () if is_sure => Sureness::Sure,
        () if words.iter().any(|word| LIKELY.contains(&word.as_str())) => Sureness::Likely,
        () => Sureness::No,
    }
}

/// Whether a value may have a secret in it by its name alone: rather too often, for a text that nobody has understood.
pub fn may_have(name: &str) -> bool {
    let words = words(name);
    let joined = words.concat();
    // Within a word, what is as short as `pw` and `pin` is mostly something else.
    let long = LIKELY.iter().filter(|word| word.len() > 2 && **word != "pin");
    let is_address = |word: &String| ADDRESS.iter().any(|end| word.ends_with(end));
    words.last().is_none_or(|last| last != "file")
        && (SURE.iter().chain(&BESIDE).chain(long).any(|part| joined.contains(part))
            || words.iter().any(|word| LIKELY.contains(&word.as_str()) || is_address(word)))
}

/// How sure it is of a place in a configuration file, from the outermost key to the innermost.
pub fn sureness_of_path(path: &[String]) -> Sureness {
    let Some((last, parents)) = path.split_last() else { return Sureness::No };
    if path.iter().any(|key| key == "secrets") {
        return Sureness::Sure;
    }
    if parents.iter().any(|key| OF_NONE.contains(&key.as_str())) {
        return Sureness::No;
    }
    match last.as_str() {
        // `tls: {key: {base64: ...}}`
        "base64" => parents.last().map_or(Sureness::No, |parent| sureness(parent)),
        // `auth: {type: api_key, config: {name: X-Key, value: ...}}`
        "value" if parents.iter().any(|key| key == "auth") => Sureness::Sure,
        // Keys can be written where their address goes.
        "jwks_url" => Sureness::Likely,
        name => sureness(name),
    }
}

/// Whether a value may be a secret, where its name alone doesn't tell: no path, address, time, or word of a choice.
pub fn looks_secret(value: &str) -> bool {
    let is_address = value.split_once("://").is_some_and(|(scheme, _)| scheme != "base64");
    let is_path = value.starts_with(['/', '.', '~']);
    let is_time = value.len() <= 10
        && value.starts_with(|c: char| c.is_ascii_digit())
        && value.ends_with(|c: char| c.is_ascii_alphabetic())
        && value.chars().all(|c| c.is_ascii_digit() || "nuµmshdw.".contains(c));
    let is_choice = value.len() < 8 && value.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-');
    !(value.len() < 4 || is_address || is_path || is_time || is_choice)
}

/// The words of a name in lower case: `clientSecret`, `CLIENT_SECRET` and `client-secret` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        let begins = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if !c.is_ascii_alphanumeric() || begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_secret_is_known_however_it_is_written() {
        assert!(SURE.iter().all(|part| may_be_sure(part)));
        for name in [
            "client_secret",
            "clientSecret",
            "SECRETS_COOKIE",
            "POSTGRES_PASSWORD",
            "SMTP_PASSWD",
            "apple_private_key",
            "X-Api-Key",
            "Authorization",
            "SLACK_ACCESS_TOKEN",
            "VAULT_SECRET_ID",
            "DBPASSWORD",
        ] {
            assert_eq!(sureness(name), Sureness::Sure, "{name}");
        }
        for name in ["API_TOKEN", "pairwise.salt", "HSM_PIN", "DB_PWD", "SIGNING_KEY", "X-Auth", "Cookie"] {
            assert_eq!(sureness(name), Sureness::Likely, "{name}");
        }
        for name in [
            "SECRETS_FILE",
            "private_key_path",
            "apple_private_key_id",
            "client_id",
            "MIN_PASSWORD_LENGTH",
            "KEYCLOAK",
            "password.enabled",
            "token_url",
            "bypass",
            "COOKIES_DOMAIN",
            "monkey",
            "log_level",
        ] {
            assert_eq!(sureness(name), Sureness::No, "{name}");
        }
    }

    #[test]
    fn a_name_in_a_text_that_nobody_has_understood_is_of_a_secret_rather_too_often() {
        for name in [
            "DB_PASSWORD",
            "DBPWD",
            "MYKEY",
            "KRATOS_DSN",
            "DATABASE_URL",
            "DATABASEURL",
            "SMTP_CONNECTION_URI",
            "PRIVATE_PEM",
            "HASHSALT",
            "SECRET_IMAGE",
            "KEY_ID",
            "DB_PW",
            "COOKIES_DOMAIN",
            "X_CREDENTIALS",
            "CIPHERS",
        ] {
            assert!(may_have(name), "{name}");
        }
        for name in
            ["KEY_FILE", "SECRETS_FILE", "IMAGE", "PORT", "SHIPPING", "SECURITY_LEVEL", "POSTGRES_USER", ""]
        {
            assert!(!may_have(name), "{name}");
        }
    }

    #[test]
    fn a_place_in_a_file_tells_by_the_keys_around_it() {
        let of = |path: &str| sureness_of_path(&path.split('.').map(String::from).collect::<Vec<_>>());
        for path in [
            "secrets.cookie",
            "courier.http.request_config.auth.config.value",
            "oidc.config.providers.client_secret",
        ] {
            assert_eq!(of(path), Sureness::Sure, "{path}");
        }
        for path in ["oidc.subject_identifiers.pairwise.salt", "serve.tls.key.base64", "templates.a.jwks_url"]
        {
            assert_eq!(of(path), Sureness::Likely, "{path}");
        }
        for path in ["serve.tls.cert.base64", "identity.schemas.value", "serve.tls.key.path"] {
            assert_eq!(of(path), Sureness::No, "{path}");
        }
    }

    #[test]
    fn a_value_that_a_name_only_makes_likely_must_look_like_a_secret() {
        for value in ["/etc/key.pem", "720h", "opaque", "https://example.com/keys", "true", "1h30m", "x"] {
            assert!(!looks_secret(value), "{value}");
        }
        for value in ["base64://eyJrIjoxfQ", "hunter22", "12345678", "a-b-c-d-e-f", "Zk3h"] {
            assert!(looks_secret(value), "{value}");
        }
    }
}
