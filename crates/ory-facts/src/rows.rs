//! Rows as PostgreSQL's own `copy ... to stdout` prints them: a line each, whatever is in their fields.
//!
//! Source: <https://www.postgresql.org/docs/17/sql-copy.html#SQL-COPY-FILE-FORMATS>, text format.

/// The statement that prints what a query finds.
pub fn print(query: &str) -> String {
    format!("copy ({query}) to stdout;\n")
}

/// A sum over rows `of_row`, whatever their order. Printed as output, a row runs no code but PostgreSQL's; cast to a text, it
/// would run a cast that its table's owner can make.
pub const SUM: &str = "coalesce(sum(hashtextextended(format('%s', of_row), 0)::numeric), 0)";

/// The fields of a line. One that is null is empty.
pub fn fields(line: &str) -> Vec<String> {
    line.split('\t').map(|field| if field == "\\N" { String::new() } else { unescaped(field) }).collect()
}

/// The same of each line of a text.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = Vec<String>> {
    lines.into_iter().map(fields)
}

fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next() {
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_hold_what_ends_fields_and_lines() {
        assert_eq!(fields("a\\tb\\nc\\\\d|e\t\\N\t\\\\N"), ["a\tb\nc\\d|e", "", "\\N"]);
        assert_eq!(fields(""), [""]);
    }
}
