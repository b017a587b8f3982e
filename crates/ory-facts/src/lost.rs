//! Pending migrations that are older than one that is applied: a release brought them later, or they were applied
//! and their rows in `schema_migration` are lost. Run again, those drop tables and delete rows.
//!
//! Their number tells nothing. What tells is the schema: whether it is as the applied ones alone make it, or has
//! what the one in question makes.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::image_migrations::State;
use crate::product::Product;
use crate::sorted::Sorted;
use crate::sql::{identifier, literal};

/// Migrations that a release brought below the newest one of the release before, each with one that came with it and
/// is applied after it: where that isn't there, neither is the other.
const BROUGHT_LATE: [(Product, &str, &str); 1] =
    [(Product::Hydra, "20241609000001000001", "20251119112639000000")];

/// What is to be applied. Those of an early Ory were noted by 14 digits, which Ory itself goes by.
pub fn pending(state: &State) -> BTreeSet<String> {
    let is_noted = |version: &str| version.get(..14).is_some_and(|early| state.applied.contains(early));
    let pending = state.pending_migrations().map(|(version, _)| version);
    pending.filter(|version| !is_noted(version)).cloned().into_set()
}

/// Those of them that are older than one that is applied, but for what is known to have come later.
pub fn suspects(product: Product, state: &State) -> BTreeSet<String> {
    // In a shared schema the rows of the other product are in the same table.
    let carried = state.carried.as_ref();
    let newest = state.applied.iter().rfind(|v| carried.is_some_and(|carried| carried.contains_key(*v)));
    let came_late = |version: &str| {
        BROUGHT_LATE
            .iter()
            .any(|(of, late, beside)| *of == product && *late == version && !state.applied.contains(*beside))
    };
    let older = |version: &String| newest.is_some_and(|newest| version < newest) && !came_late(version);
    pending(state).into_iter().filter(older).into_set()
}

/// What a schema tells of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing of what it makes is there.
    Pending,
    /// All that it makes is there.
    Applied,
    /// It makes nothing that stays in a schema, or a part of it is there.
    Unclear,
}

/// Judges a migration by the schemas that the image makes `without` and `with` it, and by what the applied ones alone
/// make.
pub fn judge(alone: &Catalog, without: &Catalog, with: &Catalog, actual: &Catalog) -> Verdict {
    let [alone, without, with, actual] = [alone, without, with, actual].map(objects);
    let changed = without.keys().chain(with.keys()).filter(|key| without.get(*key) != with.get(*key));
    let changed: Vec<_> = changed.collect();
    let is_as = |there: &BTreeMap<_, _>| changed.iter().all(|key| actual.get(*key) == there.get(*key));
    match () {
        () if changed.is_empty() => Verdict::Unclear,
        () if is_as(&without) && is_as(&alone) => Verdict::Pending,
        () if is_as(&with) => Verdict::Applied,
        () => Verdict::Unclear,
    }
}

/// What the image makes of the applied ones, but as it makes the `whole` where the schema is so already: a release may have
/// put a step that is applied into a new one.
pub fn nearest(applied: &Catalog, whole: &Catalog, actual: &Catalog) -> Catalog {
    let mut near = applied.clone();
    for table in &applied.tables ^ &whole.tables {
        match (whole.tables.contains(&table), actual.tables.contains(&table)) {
            (true, true) => _ = near.tables.insert(table),
            (false, false) => _ = near.tables.remove(&table),
            _ => {}
        }
    }
    near.columns = settled(&applied.columns, &whole.columns, &actual.columns);
    near.constraints = settled(&applied.constraints, &whole.constraints, &actual.constraints);
    near.indexes = settled(&applied.indexes, &whole.indexes, &actual.indexes);
    near
}

fn settled<K: Ord + Clone, V: Clone + PartialEq>(
    applied: &BTreeMap<K, V>,
    whole: &BTreeMap<K, V>,
    actual: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let mut near = BTreeMap::new();
    for key in applied.keys().chain(whole.keys()) {
        let nearest = if actual.get(key) == whole.get(key) { whole } else { applied };
        if let Some(value) = nearest.get(key) {
            near.insert(key.clone(), value.clone());
        }
    }
    near
}

/// SQL that notes versions as applied, in a schema where nothing was migrated yet: the table as Ory makes it.
pub fn note(schema: &str, versions: &BTreeSet<String>) -> String {
    if versions.is_empty() {
        return String::new();
    }
    let table = format!("{}.schema_migration", identifier(schema));
    let rows: Vec<_> = versions.iter().map(|version| insert(schema, version) + ";\n").collect();
    format!(
        "create table {table} (version varchar(48) not null, version_self int not null default 0);\n\
         create unique index schema_migration_version_idx on {table} (version);\n\
         create index schema_migration_version_self_idx on {table} (version_self);\n{}",
        rows.concat()
    )
}

/// The statement that notes a version as applied.
pub fn insert(schema: &str, version: &str) -> String {
    format!("insert into {}.schema_migration (version) values ({})", identifier(schema), literal(version))
}

/// Each object of a schema with all that is told of it. The list of the versions is Ory's own, and no migration's.
fn objects<'a>(catalog: &'a Catalog) -> BTreeMap<[&'a str; 3], String> {
    let mut all = BTreeMap::new();
    let mut add = |kind, table: &'a str, name: &'a str, told| {
        if table != "schema_migration" {
            all.insert([kind, table, name], told);
        }
    };
    for table in &catalog.tables {
        add("table", table, "", String::new());
    }
    for ((table, name), column) in &catalog.columns {
        add("column", table, name, format!("{column:?}"));
    }
    for ((table, name), constraint) in &catalog.constraints {
        add("constraint", table, name, constraint.definition.clone());
    }
    for (name, index) in &catalog.indexes {
        add("index", &index.table, name, index.definition.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_migrations::tests::state;

    #[test]
    fn what_is_newer_than_all_that_is_applied_is_no_suspect() {
        assert!(suspects(Product::Keto, &state(&["1", "2"], &["1", "2", "3", "4"])).is_empty());
        assert!(suspects(Product::Keto, &state(&[], &["1", "2"])).is_empty());
        let lost = suspects(Product::Keto, &state(&["1", "3"], &["1", "2", "3", "4"]));
        assert_eq!(lost, BTreeSet::from(["2".to_string()]));
    }

    #[test]
    fn the_rows_of_another_product_make_none() {
        assert!(suspects(Product::Kratos, &state(&["1", "9"], &["1", "2", "3"])).is_empty());
    }

    #[test]
    fn what_an_early_ory_noted_by_14_digits_is_applied() {
        let state = state(
            &["20191100000001", "20191100000009000000"],
            &["20191100000001000000", "20191100000002000000", "20191100000009000000"],
        );
        assert_eq!(pending(&state), BTreeSet::from(["20191100000002000000".to_string()]));
    }

    #[test]
    fn what_a_release_brought_late_is_pending_until_what_came_with_it_is_there() {
        let [late, beside] = [BROUGHT_LATE[0].1, BROUGHT_LATE[0].2];
        let carried = ["20150101000001000000", late, "20251030112809000000", beside];
        let before = state(&["20150101000001000000", "20251030112809000000"], &carried);
        assert!(suspects(Product::Hydra, &before).is_empty());
        let after = state(&["20150101000001000000", "20251030112809000000", beside], &carried);
        assert_eq!(suspects(Product::Hydra, &after), BTreeSet::from([late.to_string()]));
    }

    fn catalog(objects: &[&str]) -> Catalog {
        let line = |object: &&str| match *object {
            "index" => "index\tt\ti\tINDEX (c)\tt\tf\t\tt.c\n".to_string(),
            column => format!("column\tt\t{column}\tuuid\tf\t\n"),
        };
        let lines: String = objects.iter().map(line).collect();
        Catalog::parse(&format!("server\t15\tpublic\ntable\tt\n{lines}end\t3\n")).expect("a catalog")
    }

    #[test]
    fn a_migration_is_applied_where_what_it_makes_is_there() {
        let (without, with) = (catalog(&["c"]), catalog(&["c", "d", "index"]));
        let judged = |actual: &[&str]| judge(&without, &without, &with, &catalog(actual));
        assert_eq!(judged(&["c"]), Verdict::Pending);
        assert_eq!(judged(&["c", "d", "index"]), Verdict::Applied);
        assert_eq!(judged(&["c", "d"]), Verdict::Unclear);
        // What somebody added beside it tells nothing.
        assert_eq!(judged(&["c", "other"]), Verdict::Pending);
        assert_eq!(judged(&["c", "d", "index", "other"]), Verdict::Applied);
    }

    #[test]
    fn what_an_older_release_made_already_is_no_difference() {
        let (applied, whole) = (catalog(&["c", "old"]), catalog(&["c", "d", "index"]));
        let near = |actual: &[&str]| nearest(&applied, &whole, &catalog(actual));
        assert_eq!(near(&["c", "old", "index"]), catalog(&["c", "old", "index"]));
        assert_eq!(near(&["c"]), catalog(&["c"]));
        // What is in neither is one.
        assert_eq!(near(&["old", "other"]), catalog(&["c", "old"]));
    }

    #[test]
    fn one_that_leaves_no_trace_can_not_be_judged() {
        let same = catalog(&["c"]);
        assert_eq!(judge(&same, &same, &same, &same), Verdict::Unclear);
    }

    #[test]
    fn one_that_removes_what_another_would_make_is_pending_only_where_neither_is_applied() {
        let (alone, between) = (catalog(&["c"]), catalog(&["c", "d"]));
        assert_eq!(judge(&alone, &between, &alone, &catalog(&["c"])), Verdict::Applied);
        assert_eq!(judge(&alone, &between, &alone, &catalog(&["c", "d"])), Verdict::Unclear);
    }
}
