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

/// Keeps the passwords of what follows out of the server's log.
pub const UNLOGGED: &str = "set log_statement = 'none'; set log_min_error_statement = 'panic';\n";

/// Ends the sessions that a condition on `pg_stat_activity` finds, and waits until they are gone. `whose` says in an
/// error whose they are.
pub fn end_sessions(condition: &str, whose: &str) -> String {
    let goes_on = literal(&format!("a session {whose} goes on"));
    format!(
        "do $xtask$ begin for try in 1..100 loop
           perform pg_terminate_backend(pid) from pg_stat_activity where {condition};
           if not found then return; end if;
           perform pg_sleep(0.05);
           perform pg_stat_clear_snapshot();
         end loop;
         raise '%', {goes_on}; end $xtask$;\n"
    )
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
