//! SHA-256: whether bytes are those that were written, and secrets told apart without being told.

use hmac_sha256::{HMAC, Hash};

/// A sum over bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sum(Hash);

impl Sum {
    /// Goes on with these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum in hexadecimal, as `sha256sum` prints it.
    pub fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// The sum over a text.
pub fn of(text: &str) -> String {
    of_bytes(text.as_bytes())
}

/// The same over bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Hash::hash(bytes))
}

/// Tells a secret from another one: keyed with a salt, so that the same secret elsewhere has another fingerprint.
pub fn fingerprint(salt: &str, secret: &str) -> String {
    hexadecimal(&HMAC::mac(secret.as_bytes(), salt.as_bytes()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sum::default().finish(), empty);
        let mut sum = Sum::default();
        sum.add(b"a");
        sum.add(b"bc");
        assert_eq!(sum.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of(""), empty);
    }

    #[test]
    fn a_fingerprint_is_of_the_secret_and_the_salt() {
        assert_eq!(fingerprint("salt", "secret"), fingerprint("salt", "secret"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("salt", "secreT"));
        assert_ne!(fingerprint("salt", "secret"), fingerprint("pepper", "secret"));
    }
}
