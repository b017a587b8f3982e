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

/// Keeps what follows out of the server's log, of the tables in which its modules keep statements, and of the list of
/// sessions. What a release or a server hasn't got is left out.
pub const UNLOGGED: &str = "\
do $xtask$ begin
  perform pg_catalog.set_config(known.name, quiet.value, false)
  from pg_catalog.pg_settings known join (values
    ('log_statement', 'none'), ('log_min_error_statement', 'panic'), ('log_duration', 'off'),
    ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'), ('log_transaction_sample_rate', '0'),
    ('log_parser_stats', 'off'), ('log_planner_stats', 'off'), ('log_executor_stats', 'off'),
    ('log_statement_stats', 'off'), ('debug_print_parse', 'off'), ('debug_print_rewritten', 'off'),
    ('debug_print_plan', 'off'), ('debug_print_raw_parse', 'off'), ('track_activities', 'off'),
    ('auto_explain.log_min_duration', '-1'), ('pg_stat_statements.track', 'none'),
    ('pg_stat_statements.track_utility', 'off'), ('pgaudit.log', 'none'), ('pgaudit.role', '')
  ) quiet (name, value) on known.name operator(pg_catalog.=) quiet.name;
end $xtask$;\n";

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
