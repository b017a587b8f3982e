//! A password as PostgreSQL keeps it: what proves that somebody knows it, and doesn't tell it. Sent in its place, it can
//! be in a log, in a table of statistics or in an error without being given away.
//!
//! Source: <https://www.postgresql.org/docs/17/catalog-pg-authid.html>, RFC 5802, RFC 7677.

use hmac_sha256::{HMAC, Hash};

/// What PostgreSQL itself takes. Source: `SCRAM_SHA_256_DEFAULT_ITERATIONS` in its `scram-common.h`.
const ITERATIONS: u32 = 4096;

/// What stands for a password in `create role ... password`: its verifier, whatever `password_encryption` says, and
/// whatever the password looks like. PostgreSQL would take one that begins with `md5` or `SCRAM-SHA-256` for a verifier.
///
/// The salt is told to whoever tries to log in, so it has to be random.
///
/// A password with other characters than ASCII's stays as it is: PostgreSQL normalises those before it sums them
/// (SASLprep), with tables that aren't worth a dependency. ASCII's it leaves alone. So does an empty one: PostgreSQL
/// takes it for none.
pub fn secret(password: &str, salt: &str) -> String {
    if password.is_empty() || !password.is_ascii() {
        return password.into();
    }
    let salted = salted(password.as_bytes(), salt.as_bytes(), ITERATIONS);
    let stored = Hash::hash(&HMAC::mac(b"Client Key", salted));
    let server = HMAC::mac(b"Server Key", salted);
    let [salt, stored, server] = [salt.as_bytes(), &stored, &server].map(base64);
    format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}")
}

/// PBKDF2 with HMAC-SHA-256, of which SCRAM takes the first block.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = HMAC::mac([salt, &1u32.to_be_bytes()].concat(), password);
    let mut sum = block;
    for _ in 1..iterations {
        block = HMAC::mac(block, password);
        sum.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of_three = |three: &[u8]| {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |at: usize| match at {
            at if at > three.len() => '=',
            at => char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]),
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.as_ref().chunks(3).map(of_three).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_salted_as_the_rfc_does() {
        // RFC 7677, 3: the user is `user`, the password `pencil`; the sums are those of its messages.
        let salt =
            [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        assert_eq!(base64(salt), "W22ZaJ0SNY7soEsUEjb6gQ==");
        let server = HMAC::mac(b"Server Key", salted(b"pencil", &salt, 4096));
        let messages = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                        c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        assert_eq!(base64(HMAC::mac(messages, server)), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_verifier_is_the_one_that_postgresql_makes() {
        let verifier = "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$f2XPfxn5m9SXRrB7D6CRXhU6SrmM7LZCldK60oENDe0=:M03DhnTymP00+FQVSFTgKRDW+ycMD4iMYHqDTSpBdCE=";
        assert_eq!(secret("s3cret of-a 'test'", "0123456789abcdef"), verifier);
    }

    #[test]
    fn what_postgresql_would_normalise_or_take_for_none_stays_as_it_is() {
        assert_eq!(secret("", "salt"), "");
        assert_eq!(secret("pässword", "salt"), "pässword");
        assert!(secret(&format!("md5{}", "0".repeat(32)), "salt").starts_with("SCRAM-SHA-256$4096:"));
    }

    #[test]
    fn base64_fills_up_what_is_left_of_three_bytes() {
        assert_eq!(["", "f", "fo", "foo", "foob"].map(base64), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
