//! What a database holds, in numbers: the question for psql, the answer, and what one has otherwise than another.

use std::collections::{BTreeMap, BTreeSet};

use crate::sql::literal;

/// The last line: an answer that breaks off is none.
const END: &str = "end";

/// What a database holds, or one schema of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The server's version, as it tells it itself.
    pub postgres: String,
    /// The versions in `schema_migration`.
    pub versions: BTreeSet<String>,
    /// How many rows each table has, by the table's name with its schema.
    pub rows: BTreeMap<String, u64>,
    /// Each extension, and the schema it is in.
    pub extensions: BTreeMap<String, String>,
    /// The roles that own something.
    pub owners: BTreeSet<String>,
}

/// Asks, connected as a product. What belongs to an extension isn't counted, as it isn't dumped.
pub fn query(schema: Option<&str>) -> String {
    let within = schema.map_or_else(String::new, |schema| format!(" and n.nspname = {}", literal(schema)));
    let own = format!(
        "join pg_namespace n on n.oid = c.relnamespace
         where c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'{within}
         and not exists (select from pg_depend d
           where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')"
    );
    format!(
        "select 'postgres', split_part(current_setting('server_version'), ' ', 1);
         select to_regclass('schema_migration') is not null as is_migrated \\gset
         \\if :is_migrated
         select 'version', version from schema_migration;
         \\endif
         select 'extension', extname, n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
         where extname <> 'plpgsql';
         select distinct 'owner', pg_get_userbyid(c.relowner) from pg_class c {own};
         select format('select ''table'', count(*), %L from %s', t.name, t.name) from
         (select format('%I.%I', n.nspname, c.relname) as name from pg_class c {own} and c.relkind = 'r') t
         order by t.name \\gexec
         select '{END}'"
    )
}

/// Asks whether who asks may read all that a dump holds.
pub const SEES_ALL: &str = "
    select not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'S', 'm') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
      and (not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))
        or row_security_active(c.oid)));\n";

/// Reads the lines that psql printed; none where they break off.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Contents> {
    let mut contents = Contents::default();
    for line in lines {
        match line.split_once('|').unwrap_or((line, "")) {
            ("postgres", version) => contents.postgres = version.into(),
            ("version", version) => _ = contents.versions.insert(version.into()),
            ("owner", role) => _ = contents.owners.insert(role.into()),
            ("extension", rest) => {
                let (name, schema) = rest.split_once('|')?;
                contents.extensions.insert(name.into(), schema.into());
            }
            ("table", rest) => {
                let (count, name) = rest.split_once('|')?;
                contents.rows.insert(name.into(), count.parse().ok()?);
            }
            (END, _) => return Some(contents),
            _ => return None,
        }
    }
    None
}

impl Contents {
    /// How many rows all the tables have.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    /// The same with the tables' names alone, to be compared with a schema of another name.
    pub fn without_schema(self) -> Self {
        let bare = |name: String| {
            let mut is_quoted = false;
            let dot = name.find(|c| {
                is_quoted ^= c == '"';
                c == '.' && !is_quoted
            });
            dot.map_or(name.clone(), |at| name[at + 1..].into())
        };
        Self { rows: self.rows.into_iter().map(|(name, count)| (bare(name), count)).collect(), ..self }
    }
}

/// What one database has otherwise than another: a line an object. Empty where both have the same.
pub fn differences(expected: &Contents, actual: &Contents) -> Vec<String> {
    let mut lines = Vec::new();
    for (table, expected) in &expected.rows {
        match actual.rows.get(table) {
            None => lines.push(format!("{table} is missing")),
            Some(actual) if actual != expected => {
                lines.push(format!("{table} has {actual} rows, not {expected}"));
            }
            Some(_) => {}
        }
    }
    let unknown = actual.rows.keys().filter(|table| !expected.rows.contains_key(*table));
    lines.extend(unknown.map(|table| format!("{table} is new")));
    let missing = expected.extensions.keys().filter(|name| !actual.extensions.contains_key(*name));
    lines.extend(missing.map(|name| format!("the extension {name} is missing")));
    if expected.versions != actual.versions {
        lines.push("schema_migration has other versions".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 7] = [
        "postgres|17.1",
        "version|1",
        "extension|pg_trgm|public",
        "owner|kratos",
        "table|20|public.identities",
        "table|1|public.\"odd|name\"",
        "end",
    ];

    fn contents() -> Contents {
        read(LINES).expect("contents")
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let contents = contents();
        assert_eq!(contents.rows["public.\"odd|name\""], 1);
        assert_eq!((contents.total(), contents.postgres.as_str()), (21, "17.1"));
        assert_eq!(read(LINES[..6].iter().copied()), None);
        assert_eq!(read(["ERROR", "end"]), None);
    }

    #[test]
    fn a_table_has_the_same_name_in_each_schema() {
        let named = |name: &str| {
            let rows = BTreeMap::from([(name.to_string(), 1)]);
            Contents { rows, ..Contents::default() }.without_schema()
        };
        assert_eq!(named("kratos.identities"), named("\"o\"\"d.d\".identities"));
        assert_eq!(named("kratos.\"a.b\"").rows.keys().collect::<Vec<_>>(), ["\"a.b\""]);
    }

    #[test]
    fn every_row_that_is_missing_shows() {
        let expected = contents();
        assert_eq!(differences(&expected, &expected), Vec::<String>::new());
        let mut actual = expected.clone();
        actual.rows = BTreeMap::from([("public.identities".to_string(), 19), ("public.new".into(), 0)]);
        actual.extensions.clear();
        actual.versions.clear();
        let lines = [
            "public.\"odd|name\" is missing",
            "public.identities has 19 rows, not 20",
            "public.new is new",
            "the extension pg_trgm is missing",
            "schema_migration has other versions",
        ];
        assert_eq!(differences(&expected, &actual), lines);
    }
}
