//! The next command to type, in a hint or a message.

use std::fmt;

/// The program in a line that is to be typed next: `format!("{XTASK} repair {product}")`, and in a text that is no
/// format the same letters. Only where it is printed is it known how the program was called.
pub struct Xtask;

/// The one value of [`Xtask`].
pub const XTASK: Xtask = Xtask;

impl Xtask {
    /// What stands for the program until then.
    const MARK: &str = "{XTASK}";

    /// A text with the program as it was called.
    pub fn called(text: &str, program: &str) -> String {
        text.replace(Self::MARK, program)
    }
}

impl fmt::Display for Xtask {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Self::MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_and_a_plain_text_name_the_program_alike() {
        let (format, plain) = (format!("{XTASK} up"), "{XTASK} up");
        assert_eq!(Xtask::called(&format, "ory-xtask"), "ory-xtask up");
        assert_eq!(Xtask::called(plain, "cargo xtask ory"), "cargo xtask ory up");
    }
}
