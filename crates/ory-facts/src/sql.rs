//! Text as SQL has it, and what each session begins with, so that nothing in a database means something else to it.

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

/// A block of PL/pgSQL, whatever is in it: its quotes are none that it has.
pub fn block(body: &str) -> String {
    format!("do {};\n", quoted(body))
}

/// A text in dollar quotes that it doesn't have itself.
fn quoted(text: &str) -> String {
    let mut tag = "$xtask$".to_string();
    while text.contains(&tag) {
        tag.insert(tag.len() - 1, 'x');
    }
    format!("{tag} {text} {tag}")
}

/// Errors with their codes, as their texts can be in any language; see `sqlstate`. Then asks, by the role's own search_path, where its tables are: for psql's variables `own_schema`, `own_schemas` and
/// `own_oid`. No name here is looked for in a schema that somebody may write to, and no operator is used.
const FIND: &str = "\\set VERBOSITY verbose\nselect coalesce(pg_catalog.current_schema(), '') as own_schema, \
    pg_catalog.current_schemas(false) as own_schemas, \
    coalesce(pg_catalog.to_regclass('schema_migration')::pg_catalog.oid, '0') as own_oid \\gset\n";

/// What the owner of a database or a role can set so that names, quotes or limits are others than ours. The empty
/// search_path comes first: from then on every name and every operator is PostgreSQL's. `own_versions`, to be selected
/// from, is the table of the versions, or has none. A view of that name would run code of its maker.
/// Source: <https://www.postgresql.org/docs/17/ddl-schemas.html#DDL-SCHEMAS-PATTERNS>.
fn settings(is_local: bool) -> String {
    // UTF8: whatever the database is encoded in.
    let set = [("search_path", ""), ("standard_conforming_strings", "on"), ("client_encoding", "UTF8")];
    let set = set
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', {is_local}) as own_{name}"));
    let limits =
        ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"];
    let limits = limits.map(|name| format!("('{name}', {is_local})")).join(", ");
    // A session that waits between two transactions must not be ended there.
    format!(
        "select {} \\gset\n\
         select (select count(set_config(name, '0', is_local)) from (values {limits}, ('idle_session_timeout', false)) \
         own (name, is_local) where current_setting(name, true) is not null) as own_limits, \
         coalesce((select format('%I.%I', nspname, relname) from pg_class c \
         join pg_namespace n on n.oid = relnamespace where c.oid = :own_oid and relkind in ('r', 'p')), \
         '(select '''' as version where false)') as own_versions \\gset\n",
        set.join(", "),
    )
}

/// What a script that only reads begins and ends with. Its settings end with its transaction: behind a pooler, the
/// connection is somebody else's afterwards.
pub fn reading() -> [String; 2] {
    [format!("begin read only;\n{FIND}{}", settings(true)), "commit;\n".into()]
}

/// What a session begins with that does more.
pub fn writing() -> String {
    format!("{FIND}{}", settings(false))
}

/// Statements that run as the role that owns a table, in a transaction of an administrator: code of that role, as in a check
/// or a trigger, gets no right of the administrator's. A role that is only set could be left again.
/// Source: <https://www.postgresql.org/docs/17/sql-set-role.html>.
pub fn as_owner_of(table: &str, statements: &str) -> String {
    let give = format!(
        "begin execute format('alter function pg_temp.xtask_run() owner to %I', (select pg_get_userbyid(relowner) \
         from pg_class where oid = {}::regclass)); end",
        literal(table)
    );
    // What is deferred would run at the end, as the administrator.
    format!(
        "set constraints all immediate;\n\
         create function pg_temp.xtask_run() returns void language plpgsql security definer\n\
         set search_path = '' as {};\n\
         {}select pg_temp.xtask_run() as own_setting \\gset\ndrop function pg_temp.xtask_run();\n",
        quoted(&format!("begin {statements} end")),
        block(&give)
    )
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
    format!("dbname={}", conninfo(name))
}

/// A value of a connection string.
pub fn conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
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

/// Waits for whoever creates databases too. A run that was killed goes on in the server to the end of its statement, and
/// its lock with it.
pub const CREATING: &str =
    "select pg_advisory_lock(hashtext('xtask'), hashtext('create')) as own_lock \\gset\n";

/// Ends the sessions that a condition on `pg_stat_activity` finds, and waits until they are gone. `whose` says in an
/// error whose they are.
pub fn end_sessions(condition: &str, whose: &str) -> String {
    let goes_on = literal(&format!("a session {whose} goes on"));
    block(&format!(
        "begin for try in 1..100 loop
           perform pg_terminate_backend(pid) from pg_stat_activity where {condition};
           if not found then return; end if;
           perform pg_sleep(0.05);
           perform pg_stat_clear_snapshot();
         end loop;
         raise '%', {goes_on}; end"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_stays_inside_its_literal() {
        assert_eq!(literal("o'ry\\"), "'o''ry\\'");
        assert_eq!(block("'$xtask$'"), "do $xtaskx$ '$xtask$' $xtaskx$;\n");
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
