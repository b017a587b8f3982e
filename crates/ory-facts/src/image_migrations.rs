//! The migrations that an image carries, against what a database has: pending, ahead, up to date.
//!
//! They are compared as sets: a new migration can be older than the newest one applied.

use std::collections::{BTreeMap, BTreeSet};

use crate::sorted::Sorted;
use serde_json::Value;

/// A migration of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub name: String,
    pub sql: String,
}

impl Migration {
    /// Whether its SQL has this name in it, as a word.
    pub fn names(&self, name: &str) -> bool {
        let mut words = self.sql.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == name)
    }
}

/// The migrations of an image by version, which is their order.
pub type Carried = BTreeMap<String, Migration>;

/// A cache that can't be read is as good as none.
pub fn read_cache(text: &str) -> Option<Carried> {
    let json: Value = serde_json::from_str(text).ok()?;
    read_rows(json.get("carried")?)
}

/// The rows that the status command prints. None where one isn't as it should be, or there are none.
pub fn read_rows(rows: &Value) -> Option<Carried> {
    let text = |value: &Value| value.as_str().map(String::from);
    let row = |row: &Value| {
        let sql = text(&row["content"]).unwrap_or_default();
        Some((text(&row["version"])?, Migration { name: text(&row["name"]).unwrap_or_default(), sql }))
    };
    let rows = rows.as_array()?.iter().map(row).all_into_map()?;
    (!rows.is_empty()).then_some(rows)
}

/// The last line of a list of versions: one that breaks off is as good as none.
const END: &str = "end";

/// A list of versions with their names, without SQL.
pub fn write_versions(carried: &Carried) -> String {
    carried.iter().map(|(version, migration)| format!("{version}\t{}\n", migration.name)).collect::<String>()
        + END
}

/// Reads what [`write_versions`] made. An empty list is as good as none.
pub fn read_versions(text: &str) -> Option<Carried> {
    let lines = text.strip_suffix(END)?.lines();
    let carried = lines.map(|line| Some(versioned(line.split_once('\t')?))).all_into_map()?;
    (!carried.is_empty()).then_some(carried)
}

fn versioned((version, name): (&str, &str)) -> (String, Migration) {
    (version.into(), Migration { name: name.into(), sql: String::new() })
}

/// Migrations of which only the versions are known.
pub fn of_versions(versions: &BTreeSet<String>) -> Carried {
    versions.iter().map(|version| versioned((version, ""))).into_map()
}

/// The plan that a migration prints before it begins: all that its image carries, without SQL.
pub fn plan(output: &str) -> Carried {
    let row = |line: &str| {
        let fields: Vec<_> = line.split('\t').map(str::trim).filter(|field| !field.is_empty()).collect();
        match fields[..] {
            [version, name, "Pending" | "Applied"] if version.bytes().all(|b| b.is_ascii_digit()) => {
                Some(versioned((version, name)))
            }
            _ => None,
        }
    };
    output.lines().filter_map(row).into_map()
}

/// How a database stands to its image.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub applied: BTreeSet<String>,
    /// What the image carries; none where it is too old to be asked, and couldn't show it either.
    pub carried: Option<Carried>,
    /// What the images of other products carry that have their rows in the same table; none where no other product has.
    pub others: Option<BTreeSet<String>>,
}

/// How many digits a version had in Ory's first releases: the first ones of those it has now.
/// Source: `Status` and `UpTo` of ory/x/popx, which leave the rows of that time where they are.
const LEGACY: usize = 14;

/// Whether a version is applied, by its name or by that which it had first.
pub fn is_applied(applied: &BTreeSet<String>, version: &str) -> bool {
    let legacy = || version.get(..LEGACY).filter(|_| version.len() > LEGACY);
    applied.contains(version) || legacy().is_some_and(|legacy| applied.contains(legacy))
}

/// The applied versions that an image doesn't know: neither by their names nor by those that they had first.
pub fn unknown(applied: &BTreeSet<String>, carries: impl Fn(&str) -> bool) -> impl Iterator<Item = &String> {
    let is_legacy = |v: &str| v.len() == LEGACY && v.bytes().all(|b| b.is_ascii_digit());
    applied.iter().filter(move |version| !carries(version) && !is_legacy(version))
}

impl State {
    /// Of a table that no other product has its rows in.
    pub fn new(applied: BTreeSet<String>, carried: Option<Carried>) -> Self {
        Self { applied, carried, others: None }
    }

    /// How many of the product's own are applied; of a table of its own, all that are there.
    pub fn count(&self) -> usize {
        match &self.carried {
            Some(carried) => {
                let own = carried.keys().filter(|version| is_applied(&self.applied, version)).count();
                own + if self.others.is_some() { 0 } else { self.ahead() }
            }
            None => self.applied.len(),
        }
    }

    /// How many are to be applied; none where that can't be known.
    pub fn pending(&self) -> Option<usize> {
        self.carried.as_ref().map(|_| self.pending_migrations().count())
    }

    /// What is to be applied, in order.
    pub fn pending_migrations(&self) -> impl Iterator<Item = (&String, &Migration)> {
        let carried = self.carried.iter().flatten();
        carried.filter(|(version, _)| !is_applied(&self.applied, version))
    }

    /// Applied versions that the image doesn't know, nor that of another product in the same table.
    pub fn ahead(&self) -> usize {
        let Some(carried) = &self.carried else { return 0 };
        let is_others = |version: &str| self.others.as_ref().is_some_and(|others| others.contains(version));
        unknown(&self.applied, |version| carried.contains_key(version) || is_others(version)).count()
    }

    /// Whether what the image doesn't know is older than it, not newer: the database has it instead of what the image has.
    pub fn is_of_other_history(&self) -> bool {
        let Some(carried) = &self.carried else { return false };
        let newest = carried.keys().next_back();
        let is_older = |version: &String| newest.is_some_and(|newest| version < newest);
        let mut unknown = unknown(&self.applied, |version| carried.contains_key(version)).peekable();
        self.pending() > Some(0) && unknown.peek().is_some() && unknown.all(is_older)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn state(applied: &[&str], carried: &[&str]) -> State {
        let migration = || Migration { name: "a".into(), sql: String::new() };
        let carried = carried.iter().map(|version| (version.to_string(), migration())).collect();
        State::new(applied.iter().map(ToString::to_string).collect(), Some(carried))
    }

    #[test]
    fn pending_and_ahead_are_sets_and_not_a_maximum() {
        let state = state(&["1", "5", "9"], &["1", "3", "5"]);
        assert_eq!((state.pending(), state.ahead()), (Some(1), 1));
    }

    #[test]
    fn what_is_pending_is_all_that_is_carried_and_not_applied_in_order() {
        let pending = |applied: &[&str], carried: &[&str]| {
            let state = state(applied, carried);
            state.pending_migrations().map(|(version, _)| version.clone()).collect::<Vec<_>>()
        };
        assert_eq!(pending(&[], &["2", "1"]), ["1", "2"]);
        assert_eq!(pending(&["2"], &["3", "2", "1"]), ["1", "3"]);
        assert_eq!(pending(&["1", "2", "9"], &["1", "2"]), [""; 0]);
    }

    #[test]
    fn a_row_of_the_first_releases_is_the_same_migration_and_not_ahead() {
        let long = ["20191100000001000000", "20191100000001000001", "20200101000000000000"];
        let state = state(&["20191100000001", "20180101000000"], &long);
        assert_eq!((state.count(), state.pending(), state.ahead()), (2, Some(1), 0));
    }

    #[test]
    fn each_product_of_a_shared_table_is_counted_by_its_own() {
        let others = Some(["1", "7"].map(String::from).into());
        let of =
            |applied: &[&str], carried: &[&str]| State { others: others.clone(), ..state(applied, carried) };
        let counts = |state: &State| (state.count(), state.pending(), state.ahead());
        assert_eq!(counts(&of(&["7"], &["1", "3"])), (0, Some(2), 0), "none of its own");
        assert_eq!(counts(&of(&["1", "3", "7"], &["1", "3"])), (2, Some(0), 0));
        assert_eq!(counts(&of(&["1", "3", "7", "9"], &["1", "3"])), (2, Some(0), 1), "nobody's");
    }

    #[test]
    fn a_release_before_the_history_of_the_image_is_told_from_a_newer_one() {
        assert!(state(&["1", "2", "3"], &["1", "5", "6"]).is_of_other_history());
        // One that came later may be dated back.
        assert!(!state(&["1", "2", "5", "6"], &["1", "5", "6"]).is_of_other_history());
        assert!(!state(&["1", "5", "9"], &["1", "5", "6"]).is_of_other_history());
        assert!(!state(&["1"], &["1", "5"]).is_of_other_history());
    }

    #[test]
    fn an_image_that_can_not_be_asked_leaves_pending_unknown() {
        let state = State { carried: None, ..state(&["1"], &[]) };
        assert_eq!((state.pending(), state.ahead()), (None, 0));
    }

    #[test]
    fn a_broken_cache_is_learned_again() {
        assert_eq!(read_cache("{"), None);
        assert_eq!(read_cache(r#"{"carried":[1]}"#), None);
        assert_eq!(read_cache(r#"{"carried":[]}"#), None);
        assert_eq!(read_cache(r#"{"carried":null}"#), None);
    }

    #[test]
    fn a_list_of_versions_that_breaks_off_is_none() {
        let carried = state(&[], &["1", "2"]).carried.unwrap_or_default();
        let text = write_versions(&carried);
        assert_eq!(read_versions(&text), Some(carried));
        assert_eq!(read_versions(&write_versions(&Carried::new())), None);
        assert_eq!(read_versions(&text[..text.len() - 1]), None);
        assert_eq!(read_versions(""), None);
    }

    #[test]
    fn a_plan_is_what_the_image_carries() {
        let printed = "The migration plan is as follows:\nVersion\t\t\tName\t\tStatus\t\n\
                       20150100000001000000\tnetworks\t\t\t\tPending\t\n\
                       20251105000000000001\tBackfill column identity_id\tApplied\t\n\
                       ------------ 20150100000001000000 - networks ------------\nselect 1;\n";
        let names: Vec<_> =
            plan(printed).into_iter().map(|(version, m)| format!("{version} {}", m.name)).collect();
        assert_eq!(
            names,
            ["20150100000001000000 networks", "20251105000000000001 Backfill column identity_id"]
        );
    }

    #[test]
    fn a_row_is_a_version_its_name_and_its_sql() {
        let known = read_cache(r#"{"carried":[{"version":"1","name":"networks","content":"select 1"}]}"#);
        let migration = Migration { name: "networks".into(), sql: "select 1".into() };
        assert_eq!(known, Some(Carried::from([("1".into(), migration)])));
    }
}
