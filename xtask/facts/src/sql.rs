//! Text as SQL has it.

/// A string constant, whatever is in it, with backslashes taken as they are.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an identifier, whatever is in it.
pub fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// An argument of one of psql's own commands, whatever is in it.
pub fn argument(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_stays_inside_its_literal() {
        assert_eq!(literal("o'ry\\"), "'o''ry\\'");
        assert_eq!(argument("o'ry\\"), r"'o\'ry\\'");
    }
}
