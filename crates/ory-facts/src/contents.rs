//! What a database holds, in numbers: the question for psql, the answer, and what one has otherwise than another.

use std::collections::{BTreeMap, BTreeSet};

use crate::owners;
use crate::rows;
use crate::sorted::Sorted;
use crate::sql::literal;
use crate::tables::{self, MOMENT};

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
    /// The roles that own a table.
    pub owners: BTreeSet<String>,
    /// What isn't the product's own role's, as `table public.orders`, and whose it is.
    pub owned: BTreeMap<String, String>,
    /// What the product's role can't make, by the numbers that a dump has for it, in words.
    pub beyond: BTreeMap<String, String>,
    /// What in a schema needs what is in another one, in words.
    pub outside: BTreeSet<String>,
    /// How many rows PostgreSQL's statistics give each table. No backup has them.
    pub estimates: BTreeMap<String, u64>,
    /// What tells rows that are written later from those that were counted, see [`MOMENT`]. No backup has it either.
    pub moment: String,
}

/// Asks for it. What belongs to an extension isn't counted, as it isn't dumped. `role` is the product's.
pub fn query(schema: Option<&str>, role: &str) -> String {
    let own = tables::own(schema);
    let print = |query: &str| rows::print(query);
    [
        print("select 'postgres', split_part(current_setting('server_version'), ' ', 1)"),
        print("select 'version', format('%s', version) from :own_versions own"),
        print(
            "select 'extension', extname, n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
             where extname <> 'plpgsql'",
        ),
        print(&format!("select distinct 'owner', pg_get_userbyid(c.relowner) from pg_class c {own}")),
        print(&format!(
            "select 'owned', kind || ' ' || identity, owner from ({}) own where owner <> {}",
            owners::objects(schema),
            literal(role)
        )),
        match schema {
            None => print(&format!("select 'beyond', class || '/' || id, text from ({}) own (class, id, text)", owners::beyond(role))),
            Some(schema) => print(&format!("select 'outside', text from ({}) own (text)", owners::outside(schema))),
        },
        tables::each(schema, "select 'table', count(*), %1$L, pg_stat_get_live_tuples(%2$s) from %1$s"),
        print(&format!("select 'moment', ({MOMENT})")),
        print(&format!("select '{END}'")),
    ]
    .concat()
}

/// Asks whether who asks may read all that a dump holds: of a database, or of one schema of it.
pub fn sees_all(schema: Option<&str>) -> String {
    let within = schema.map_or_else(String::new, |schema| format!(" and n.nspname = {}", literal(schema)));
    format!(
        "select not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'S', 'm') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'{within}
         and (not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))
           or row_security_active(c.oid)));\n"
    )
}

/// Reads the lines that psql printed; none where they break off.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Contents> {
    read_from(&mut lines.into_iter())
}

fn read_from(lines: &mut dyn Iterator<Item = &str>) -> Option<Contents> {
    let mut contents = Contents::default();
    for fields in rows::read(lines) {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        match fields[..] {
            ["postgres", version] => contents.postgres = version.into(),
            ["version", version] => _ = contents.versions.insert(version.into()),
            ["owner", role] => _ = contents.owners.insert(role.into()),
            ["owned", what, role] => _ = contents.owned.insert(what.into(), role.into()),
            ["beyond", id, what] => _ = contents.beyond.insert(id.into(), what.into()),
            ["outside", what] => _ = contents.outside.insert(what.into()),
            ["extension", name, schema] => _ = contents.extensions.insert(name.into(), schema.into()),
            ["table", count, name, estimate] => {
                contents.rows.insert(name.into(), count.parse().ok()?);
                contents.estimates.insert(name.into(), estimate.parse().ok()?);
            }
            ["moment", moment] => contents.moment = moment.into(),
            [END] => return Some(contents),
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
        Self { rows: self.rows.into_iter().map(|(name, count)| (bare(name), count)).into_map(), ..self }
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

/// What is less than it is likely to be: a line a table of which PostgreSQL's statistics, or what was counted before,
/// have at least a thousand rows and more than twice as many as are there.
pub fn implausible(contents: &Contents, before: Option<&Contents>) -> Vec<String> {
    let is_less = |count: u64, than: u64| than >= 1000 && count < than / 2;
    let line = |(table, count): (&String, &u64)| {
        let estimate = contents.estimates.get(table).filter(|estimate| is_less(*count, **estimate));
        let earlier = before.and_then(|before| before.rows.get(table)).filter(|rows| is_less(*count, **rows));
        let why = match (earlier, estimate) {
            (Some(rows), _) => format!("the backup before has {rows}"),
            (None, Some(estimate)) => format!("PostgreSQL's statistics say about {estimate}"),
            (None, None) => return None,
        };
        Some(format!("{table} has {count} rows, and {why}"))
    };
    contents.rows.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 8] = [
        "postgres\t17.1",
        "version\t1",
        "extension\tpg_trgm\tpublic",
        "owner\tkratos",
        "owned\ttable public.orders\tshop",
        "table\t20\tpublic.identities\t21",
        "table\t1\tpublic.\"odd\\tname\\nend\"\t0",
        "end",
    ];

    fn contents() -> Contents {
        read(LINES).expect("contents")
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let contents = contents();
        assert_eq!(contents.rows["public.\"odd\tname\nend\""], 1);
        assert_eq!((contents.total(), contents.postgres.as_str()), (21, "17.1"));
        assert_eq!(read(LINES[..7].iter().copied()), None);
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
    fn a_table_that_has_lost_most_of_its_rows_is_told() {
        let counts = |rows: u64, estimate: u64| Contents {
            rows: BTreeMap::from([("t".to_string(), rows)]),
            estimates: BTreeMap::from([("t".to_string(), estimate)]),
            ..Contents::default()
        };
        assert_eq!(implausible(&counts(900, 999), None), Vec::<String>::new());
        assert_eq!(implausible(&counts(220, 400_219), None).len(), 1);
        let told = implausible(&counts(220, 0), Some(&counts(400_219, 0)));
        assert_eq!(told, ["t has 220 rows, and the backup before has 400219"]);
        assert_eq!(implausible(&counts(300_000, 0), Some(&counts(400_219, 0))), Vec::<String>::new());
    }

    #[test]
    fn what_nobody_counts_on_is_no_difference() {
        let expected = contents();
        let mut actual = expected.clone();
        (actual.postgres, actual.moment) = ("18".into(), "later".into());
        actual.estimates.clear();
        actual.owners.insert("another".into());
        actual.extensions.insert("one_more".into(), "public".into());
        assert_eq!(differences(&expected, &actual), Vec::<String>::new());
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
            "public.\"odd\tname\nend\" is missing",
            "public.identities has 19 rows, not 20",
            "public.new is new",
            "the extension pg_trgm is missing",
            "schema_migration has other versions",
        ];
        assert_eq!(differences(&expected, &actual), lines);
    }
}
