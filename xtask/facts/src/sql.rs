//! Text as SQL has it.

/// A string constant, whatever is in it, with backslashes taken as they are.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an identifier, whatever is in it.
pub fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The names in a list such as a search_path, without their quotes; none where PostgreSQL takes it for no list.
/// Source: `SplitIdentifierString`, by which a server reads it.
pub fn names(list: &str) -> Option<Vec<String>> {
    let mut names = vec![];
    let mut rest = list.trim_ascii();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let end = rest.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(rest.len());
                (rest[..end].to_ascii_lowercase(), &rest[end..])
            }
        };
        let is_quoted = rest.starts_with('"');
        if name.is_empty() && !is_quoted {
            return None;
        }
        // No schema has an empty name.
        names.extend(Some(name).filter(|name| !name.is_empty()));
        rest = match behind.trim_ascii_start() {
            "" => return Some(names),
            more => more.strip_prefix(',')?.trim_ascii_start(),
        };
    }
}

/// The name up to its closing quote, and what is behind that.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name += before;
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

/// A name in such a list: quoted where it isn't a plain word.
pub fn name(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.chars().all(is_plain) { text.into() } else { identifier(text) }
}

/// An argument of one of psql's own commands, whatever is in it.
pub fn argument(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

/// A database as the argument of a client program, which takes a name with an equals sign, or one that looks like a URL,
/// for a whole connection string.
/// Source: <https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-PARAMKEYWORDS>.
pub fn database(name: &str) -> String {
    let is_string =
        name.contains('=') || ["postgres://", "postgresql://"].iter().any(|url| name.starts_with(url));
    if !is_string {
        return name.into();
    }
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
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

    #[test]
    fn a_database_is_never_taken_for_a_connection_string() {
        assert_eq!(database("it's \\ a%b"), "it's \\ a%b");
        assert_eq!(database("a='\\"), r"dbname='a=\'\\'");
        assert_eq!(database("postgres://x"), "dbname='postgres://x'");
    }

    #[test]
    fn a_name_in_a_list_is_read_as_it_was() {
        let all = ["plain_1", "A b", "o\"ry", "a,b", "$user", "é", "a.b"];
        let list: Vec<_> = all.iter().map(|text| name(text)).collect();
        assert_eq!(list[0], "plain_1");
        assert_eq!(names(&list.join(", ")).as_deref(), Some(&all.map(String::from)[..]));
        assert_eq!([names(""), names(" , a"), names("a b"), names("\"a")], [Some(vec![]), None, None, None]);
    }
}
