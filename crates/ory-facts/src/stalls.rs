//! What in the SQL of a migration makes others wait: found by its words, for who decides when to migrate. How long it takes
//! and which locks are held, a rehearsal tells.
//!
//! Source: <https://www.postgresql.org/docs/17/sql-altertable.html>,
//! <https://www.postgresql.org/docs/17/explicit-locking.html>.

/// Something that keeps others from a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// The table, without its schema.
    pub table: String,
    pub why: &'static str,
    /// Whether it reads or writes the whole table while it does so.
    pub is_long: bool,
}

/// What of a statement tells it: words that follow each other, in this order, whatever is between them.
const RULES: &[(&[&str], &str, bool)] = &[
    (
        &["alter", "table", "generated always", "stored"],
        "a stored column is added: the table is rewritten",
        true,
    ),
    (
        &["alter", "table", "alter", " type "],
        "the type of a column changes: the table may be rewritten",
        true,
    ),
    (&["alter", "table", "set not null"], "NOT NULL is set: every row is read", true),
    (&["alter", "table", "foreign key"], "a foreign key is added: every row is checked", true),
    (&["alter", "table", "references"], "a foreign key is added: every row is checked", true),
    (&["alter", "table", "check"], "a check is added: every row is read", true),
    (&["alter", "table", "primary key"], "a primary key is added: an index is built", true),
    (&["alter", "table", "unique"], "a unique constraint is added: an index is built", true),
    (&["create", "index"], "an index is built: writes wait", true),
    (&["drop", "index"], "an index is dropped: all wait for a moment", false),
    (&["update "], "rows are rewritten", true),
    (&["delete from"], "rows are deleted", true),
];

/// The stalls of a migration's SQL, in its order. A table that it makes itself has nobody who waits.
pub fn of(sql: &str) -> Vec<Stall> {
    let statements: Vec<String> = without_comments(sql).split(';').map(plain).collect();
    let made: Vec<_> = statements.iter().filter_map(|text| after(text, "create table")).collect();
    let mut found: Vec<Stall> = vec![];
    for statement in &statements {
        let Some((_, why, is_long)) = RULES.iter().find(|(words, ..)| fits(statement, words)) else {
            continue;
        };
        // Building it so lets others write.
        if statement.contains(" concurrently ") || statement.contains(" not valid") {
            continue;
        }
        let Some(table) = table(statement) else { continue };
        let stall = Stall { table, why, is_long: *is_long };
        if !made.contains(&stall.table) && !found.contains(&stall) {
            found.push(stall);
        }
    }
    found
}

/// In lower case, with single spaces.
fn plain(text: &str) -> String {
    format!("{} ", text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
}

fn without_comments(sql: &str) -> String {
    sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn fits(statement: &str, words: &[&str]) -> bool {
    let mut rest = statement;
    if !words.first().is_some_and(|first| statement.starts_with(first)) {
        return false;
    }
    words.iter().all(|word| match rest.split_once(word) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The table that a statement is about; of an index that is dropped, the index.
fn table(statement: &str) -> Option<String> {
    let of_index = || after(statement.get(statement.find(" on ")?..)?, " on");
    match statement.split(' ').next()? {
        "create" => of_index(),
        "drop" => after(statement, "drop index"),
        "update" => after(statement, "update"),
        "delete" => after(statement, "delete from"),
        _ => after(statement, "alter table"),
    }
}

/// The name that follows some words: without `if exists` and the like, its schema and its quotes.
fn after(statement: &str, words: &str) -> Option<String> {
    let rest =
        statement.trim_start().strip_prefix(words.trim_start()).or_else(|| statement.strip_prefix(words))?;
    let skipped = ["if", "not", "exists", "only", "concurrently"];
    let name = rest.split([' ', '(']).find(|word| !word.is_empty() && !skipped.contains(word))?;
    Some(name.rsplit('.').next()?.trim_matches('"').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Vec<(String, bool)> {
        of(sql).into_iter().map(|stall| (stall.table, stall.is_long)).collect()
    }

    #[test]
    fn what_makes_others_wait_is_named_with_its_table() {
        let flow = "-- a comment; with an update x\nALTER TABLE hydra_oauth2_flow ADD COLUMN expires_at TIMESTAMP GENERATED \
                    ALWAYS AS (requested_at + x) STORED NOT NULL;";
        assert_eq!(told(flow), [("hydra_oauth2_flow".into(), true)]);
        assert!(of(flow)[0].why.contains("rewritten"));
        assert_eq!(
            told("create unique index a_idx on \"public\".sessions (a);"),
            [("sessions".into(), true)]
        );
        assert_eq!(told("DROP INDEX IF EXISTS a_idx;"), [("a_idx".into(), false)]);
        assert_eq!(
            told("alter table only a add constraint f foreign key (b) references c (d)"),
            [("a".into(), true)]
        );
        assert_eq!(told("ALTER TABLE a ALTER COLUMN b TYPE text"), [("a".into(), true)]);
        assert_eq!(told("UPDATE identities SET x = 1 WHERE y"), [("identities".into(), true)]);
    }

    #[test]
    fn what_lets_others_go_on_is_not_told() {
        assert_eq!(told("create index concurrently if not exists a on b (c)"), []);
        assert_eq!(told("alter table a add column b text"), []);
        assert_eq!(told("create table a (b text references c); create index i on a (b)"), []);
        assert_eq!(told("alter table a add constraint c check (b > 0) not valid"), []);
        assert_eq!(told("insert into a values ('update me')"), []);
    }
}
