//! The code that PostgreSQL gives each error, which is the same whatever language it speaks.
//!
//! Source: <https://www.postgresql.org/docs/17/errcodes-appendix.html>.

/// A line of psql's errors with the code where Ory's driver has it: `ERROR:  42501: no` becomes `ERROR:  no (SQLSTATE 42501)`.
/// None for the line that names a place in PostgreSQL's source.
pub fn tidy(line: &str) -> Option<String> {
    let Some((severity, rest)) = line.split_once(":  ") else { return Some(line.into()) };
    if is_location(rest) {
        return None;
    }
    match rest.split_once(": ") {
        Some((code, text)) if is_code(code) => Some(format!("{severity}:  {text} (SQLSTATE {code})")),
        _ => Some(line.into()),
    }
}

/// A text without the code behind it.
pub fn without(text: &str) -> &str {
    text.split_once(" (SQLSTATE ").map_or(text, |(text, _)| text)
}

/// Whether a text has an error of one of these codes.
pub fn has(text: &str, codes: &[&str]) -> bool {
    codes.iter().any(|code| text.contains(&format!("SQLSTATE {code}")))
}

fn is_code(word: &str) -> bool {
    word.len() == 5 && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// `aclcheck_error, aclchk.c:3650`.
fn is_location(text: &str) -> bool {
    let file = text.split_once(", ").and_then(|(_, file)| file.split_once(':'));
    file.is_some_and(|(file, line)| {
        file.ends_with(".c") && !file.contains(' ') && line.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_at_the_end_of_a_line_has_no_code() {
        assert_eq!(without("table orders (SQLSTATE 42501)"), "table orders");
        assert_eq!(without("table orders"), "table orders");
    }

    #[test]
    fn a_code_is_told_in_every_language() {
        let french = "psql:<stdin>:3: ERREUR:  42501: droit refusé pour le schéma public";
        let tidied = tidy(french).expect("a line");
        assert_eq!(tidied, "psql:<stdin>:3: ERREUR:  droit refusé pour le schéma public (SQLSTATE 42501)");
        assert!(has(&tidied, &["55P03", "42501"]) && !has(&tidied, &["55P03"]));
        assert_eq!(tidy("EMPLACEMENT :  aclcheck_error, aclchk.c:3650"), None);
        for same in
            ["FATAL:  database \"nodb\" does not exist", "DETAIL:  Key (id)=(1): no", "plain: text", ""]
        {
            assert_eq!(tidy(same).as_deref(), Some(same));
        }
    }
}
