//! The migrations that an image carries, against what a database has: pending, ahead, up to date.
//!
//! They are compared as sets: a new migration can be older than the newest one applied.

use std::collections::{BTreeMap, BTreeSet};

use jzon::JsonValue;

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
pub fn read_cache(text: &str) -> Option<Option<Carried>> {
    let json = jzon::parse(text).ok()?;
    match json.get("carried")? {
        JsonValue::Null => Some(None),
        rows => read_rows(rows).map(Some),
    }
}

/// The rows that the status command prints. None where one isn't as it should be, or there are none.
pub fn read_rows(rows: &JsonValue) -> Option<Carried> {
    let text = |value: &JsonValue| value.as_str().map(String::from);
    let row = |row: &JsonValue| {
        let sql = text(&row["content"]).unwrap_or_default();
        Some((text(&row["version"])?, Migration { name: text(&row["name"]).unwrap_or_default(), sql }))
    };
    let rows = rows.as_array()?.iter().map(row).collect::<Option<Carried>>()?;
    (!rows.is_empty()).then_some(rows)
}

/// The last line of a list of versions: one that breaks off is as good as none.
const END: &str = "end";

/// A list of versions with their names, without SQL; of an image that is too old to be asked, an empty one.
pub fn write_versions(carried: Option<&Carried>) -> String {
    let lines = carried.into_iter().flatten();
    lines.map(|(version, migration)| format!("{version}\t{}\n", migration.name)).collect::<String>() + END
}

/// Reads what [`write_versions`] made.
pub fn read_versions(text: &str) -> Option<Option<Carried>> {
    let lines = text.strip_suffix(END)?.lines();
    let carried = lines.map(|line| Some(versioned(line.split_once('\t')?))).collect::<Option<Carried>>()?;
    Some((!carried.is_empty()).then_some(carried))
}

fn versioned((version, name): (&str, &str)) -> (String, Migration) {
    (version.into(), Migration { name: name.into(), sql: String::new() })
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
    output.lines().filter_map(row).collect()
}

/// How a database stands to its image.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub applied: BTreeSet<String>,
    /// What the image carries; none where the image is too old to be asked.
    pub carried: Option<Carried>,
}

impl State {
    /// How many are to be applied; none where that can't be known.
    pub fn pending(&self) -> Option<usize> {
        self.carried.as_ref().map(|carried| carried.keys().filter(|v| !self.applied.contains(*v)).count())
    }

    /// What is to be applied, in order.
    pub fn pending_migrations(&self) -> impl Iterator<Item = (&String, &Migration)> {
        let carried = self.carried.iter().flatten();
        carried.filter(|(version, _)| !self.applied.contains(*version))
    }

    /// Applied versions that the image doesn't know.
    pub fn ahead(&self) -> usize {
        let unknown = |carried: &Carried| self.applied.iter().filter(|v| !carried.contains_key(*v)).count();
        self.carried.as_ref().map_or(0, unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(applied: &[&str], carried: &[&str]) -> State {
        let migration = || Migration { name: "a".into(), sql: String::new() };
        let carried = carried.iter().map(|version| (version.to_string(), migration())).collect();
        State { applied: applied.iter().map(ToString::to_string).collect(), carried: Some(carried) }
    }

    #[test]
    fn pending_and_ahead_are_sets_and_not_a_maximum() {
        let state = state(&["1", "5", "9"], &["1", "3", "5"]);
        assert_eq!((state.pending(), state.ahead()), (Some(1), 1));
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
        assert_eq!(read_cache(r#"{"carried":null}"#), Some(None));
    }

    #[test]
    fn a_list_of_versions_that_breaks_off_is_none() {
        let carried = state(&[], &["1", "2"]).carried;
        let text = write_versions(carried.as_ref());
        assert_eq!(read_versions(&text), Some(carried));
        assert_eq!(read_versions(&write_versions(None)), Some(None));
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
        assert_eq!(known, Some(Some(Carried::from([("1".into(), migration)]))));
    }
}
