//! What a schema has otherwise than its image makes it, as far as that shows without a closer look.

use crate::catalog::{Catalog, Index};
use crate::difference::{Difference, invalid_index, missing_tables};
use crate::image_migrations::Carried;

/// Invalid indexes and, where what the image makes is known, missing tables. Where only the image's SQL is known, its
/// tables are those that the SQL names; an application's may have invalid indexes.
pub fn differences(
    expected: Option<&Catalog>,
    carried: Option<&Carried>,
    actual: &Catalog,
) -> Vec<Difference> {
    let missing = expected.map(|expected| missing_tables(expected, actual)).unwrap_or_default();
    let is_own = |index: &Index| match (expected, carried) {
        (Some(expected), _) => expected.tables.contains(&index.table),
        (None, Some(carried)) => carried.values().any(|migration| migration.names(&index.table)),
        (None, None) => false,
    };
    let invalid = actual.indexes.iter().filter(|(_, index)| !index.is_valid && is_own(index));
    missing.into_iter().chain(invalid.map(|(name, _)| invalid_index(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_migrations::Migration;

    fn catalog(tables: &[&str]) -> Catalog {
        let tables = tables.iter().map(|name| format!("table\t{name}\n")).collect::<String>();
        let index = "index\tidentities\tstate_idx\tCREATE INDEX state_idx ON identities (state)\tf\tf\t\t";
        Catalog::parse(&format!("server\t15\tpublic\n{tables}{index}\nend\t3\n")).expect("a catalog")
    }

    fn seen(expected: Option<&Catalog>, sql: Option<&str>) -> Vec<String> {
        let migration = |sql: &str| Migration { name: String::new(), sql: sql.into() };
        let carried = sql.map(|sql| Carried::from([("1".to_string(), migration(sql))]));
        let found = differences(expected, carried.as_ref(), &catalog(&["identities"]));
        found.into_iter().map(|difference| difference.text).collect()
    }

    #[test]
    fn missing_tables_and_invalid_indexes_show() {
        let expected = catalog(&["identities", "sessions"]);
        let both = ["the table sessions is missing", "the index state_idx is invalid"];
        assert_eq!(seen(Some(&expected), None), both);
    }

    #[test]
    fn without_what_the_image_makes_its_sql_tells_whose_an_index_is() {
        let own = "create index state_idx on identities (state)";
        assert_eq!(seen(None, Some(own)), ["the index state_idx is invalid"]);
        assert!(seen(None, Some("create table another_identities ()")).is_empty());
        assert!(seen(None, None).is_empty());
    }
}
