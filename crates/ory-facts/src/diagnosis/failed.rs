//! A failure as it was printed, and what of it is read for a message.

use crate::product::Product;

/// Who printed the text: the same words mean another thing from a server of Ory than from the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A server of Ory, or psql that was asked on its behalf.
    Product(Product),
    /// `docker` or Compose.
    Engine,
    /// PostgreSQL's own log.
    Database,
}

/// What a program ended with.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    pub speaker: Speaker,
    pub exit: Option<i64>,
    pub text: &'a str,
}

/// The version of the migration that failed: `error executing migrations/sql/20191100000001000000_identities...`.
pub(super) fn version(text: &str) -> Option<&str> {
    let file = text.lines().rev().find_map(|line| line.split_once("error executing "))?.1;
    let name = file.split([',', ' ']).next()?.rsplit('/').next()?;
    let version = name.split('_').next()?;
    (version.len() >= 14 && version.bytes().all(|b| b.is_ascii_digit())).then_some(version)
}

/// The first `127.0.0.1:4433` of a text.
pub(super) fn address_in(text: &str) -> Option<&str> {
    let words = text.split_whitespace().map(|word| word.trim_end_matches([':', ',']));
    let mut addresses = words.filter(|word| word.parse::<std::net::SocketAddr>().is_ok_and(|a| a.port() > 0));
    addresses.next()
}
