//! The names that a message and a hint leave open, and how they are filled in.

use crate::sql::{identifier, name};

/// What xtask fills in: names, then commands. `psql` is typed as the server's administrator, `inside` in the product's
/// database; `file` is the one found in the text, `config` the product's own, both as this machine names them.
pub const WORDS: [&str; 18] = [
    "product", "migrate", "service", "role", "database", "schema", "server", "psql", "inside", "restore",
    "dump", "logs", "start", "unpause", "chown", "compose", "file", "config",
];

/// A text with a name in the place of its word in braces. Between double quotes, or as `{word:name}`, which is quoted only
/// where it must be, it stands in SQL that is typed between the single quotes of a shell.
pub fn fill(text: &str, word: &str, value: &str) -> String {
    let [quoted, short] = [identifier(value), name(value)].map(|name| name.replace('\'', r"'\''"));
    let text = text.replace(&format!("\"{{{word}}}\""), &quoted).replace(&format!("{{{word}:name}}"), &short);
    text.replace(&format!("{{{word}}}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_name_in_the_sql_that_is_typed() {
        let typed = fill("psql -c 'alter role \"{role}\" login'", "role", "o'r\"y; $(id)");
        assert_eq!(typed, "psql -c 'alter role \"o'\\''r\"\"y; $(id)\" login'");
        assert_eq!(fill("the role {role}", "role", "o'ry"), "the role o'ry");
    }
}
