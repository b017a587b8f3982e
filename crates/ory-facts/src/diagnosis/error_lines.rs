//! Of all that a program printed, the lines that say what went wrong.

/// The lines of an output that say what went wrong, indented: those about an error, else the last ones.
/// Of Ory's 230 lines of stack trace none is left.
pub fn error_lines(text: &str) -> String {
    let lines: Vec<_> =
        text.lines().filter(|line| !line.trim().is_empty() && !is_detail(line) && !is_noise(line)).collect();
    let speaks = |line: &&&str| {
        let line = line.to_lowercase();
        ["error", "fatal", "denied", "failed", "invalid", "^--"].iter().any(|word| line.contains(word))
    };
    let mut chosen: Vec<&&str> = lines.iter().filter(speaks).collect();
    if chosen.is_empty() {
        chosen = lines.iter().collect();
    }
    let chosen = &chosen[chosen.len().saturating_sub(6)..];
    let short = |line: &&&str| match line.char_indices().nth(400) {
        Some((end, _)) => format!("  {} ...", &line[..end]),
        None => format!("  {line}"),
    };
    chosen.iter().map(short).collect::<Vec<_>>().join("\n")
}

/// A frame of a Go stack trace, which is a lone word, or an indented line: its source, or SQL.
pub fn is_detail(line: &str) -> bool {
    let is_frame = !line.contains(char::is_whitespace) && line.contains('.') && !line.starts_with('{');
    is_frame || line.starts_with(['\t', ' ']) && !line.contains("SQLSTATE")
}

/// Lines that look like failures and are none: the first run on an empty database, and Ory's own advice.
const NOISE: [&str; 4] = [
    "relation \"schema_migration\" does not exist",
    "is deprecated, Please use",
    "One or more of connection details are specified in database.yml",
    "HTTPS is disabled. Please ensure",
];

pub(super) fn is_noise(line: &str) -> bool {
    let is_first_run = line.contains("schema_migration") && line.contains("SQLSTATE 42P01");
    is_first_run || NOISE.iter().any(|noise| line.contains(noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard error recorded from Hydra v26.2.0, shortened.
    const HYDRA: &str = "\
time=2026-11-23T07:42:11Z level=info msg=No tracer configured - skipping tracing setup
        login_error IS NOT NULL AND
Could not apply migrations:
ERROR: permission denied for schema public (SQLSTATE 42501)
github.com/ory/x/popx.(*MigrationBox).exec
\tgithub.com/ory/x@v0.0.724/popx/migrator.go:490
main.main
\tgithub.com/ory/hydra/v2/main.go:14
runtime.goexit
\truntime/asm_amd64.s:1771
";

    #[test]
    fn of_a_failed_migration_its_error_is_shown_and_not_its_stack_trace() {
        assert_eq!(error_lines(HYDRA), "  ERROR: permission denied for schema public (SQLSTATE 42501)");
    }

    #[test]
    fn without_an_error_the_last_lines_are_shown() {
        assert_eq!(error_lines("one\ntwo\n"), "  one\n  two");
    }

    #[test]
    fn what_is_no_failure_is_not_shown_as_one() {
        let text = "ERROR:  relation \"schema_migration\" does not exist at character 21\nFATAL: no\n";
        assert_eq!(error_lines(text), "  FATAL: no");
    }
}
