//! The text of a DSN: its parts as they are written, percent-encoded.

use percent_encoding::percent_decode_str;

/// A server of an address: `host`, `host:port`, `[::1]:port`.
pub(crate) fn server(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (decode(host)?, ""),
        Some((host, rest)) => (decode(host)?, rest.strip_prefix(':').ok_or("what follows `]` isn't a port")?),
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            if host.contains('%') {
                return Err("its host has a `%`: a folder with a socket is named by `?host=/folder`".into());
            }
            if let Some(bad) = host.chars().find(|c| !c.is_alphanumeric() && !"-._~".contains(*c)) {
                return Err(format!("the character `{bad}` must be percent-encoded in a password"));
            }
            (host.to_string(), port)
        }
    };
    let fault = |_| {
        "what follows the host isn't a port: `/`, `#` and `?` must be percent-encoded in a password"
            .to_string()
    };
    Ok((host, if port.is_empty() { None } else { Some(port.parse().map_err(fault)?) }))
}

/// Where the database follows, or what else there is.
pub(crate) fn end_of_authority(text: &str) -> usize {
    let host = text.find("://").map_or(0, |at| at + 3);
    text[host..].find(['/', '?', '#']).map_or(text.len(), |at| host + at)
}

/// A DSN without some parameters.
pub(crate) fn without(text: &str, names: &[&str]) -> String {
    let Some((base, query)) = text.split_once('?') else { return text.into() };
    let is_kept = |pair: &&str| {
        let name = decode(pair.split('=').next().unwrap_or_default());
        !pair.is_empty() && !name.is_ok_and(|name| names.contains(&name.as_str()))
    };
    let kept: Vec<_> = query.split('&').filter(is_kept).collect();
    if kept.is_empty() { base.into() } else { format!("{base}?{}", kept.join("&")) }
}

/// Several as one.
pub(crate) fn listed(parts: &mut dyn Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// A part of it, as it is meant.
pub(crate) fn decode(text: &str) -> Result<String, String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("`%` must be written `%25` in a password".into());
        }
        rest = &rest[at + 3..];
    }
    let text = percent_decode_str(text).decode_utf8();
    Ok(text.map_err(|_| "its percent-encoding isn't UTF-8")?.into_owned())
}
