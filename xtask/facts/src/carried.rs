//! The migrations that an image carries, against what a database has: pending, ahead, up to date.
//!
//! They are compared as sets: a new migration can be older than the newest one applied.

use std::collections::{BTreeMap, BTreeSet};

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
pub fn read_cache(bytes: &[u8]) -> Option<Option<Carried>> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    match json.get("carried")? {
        Value::Null => Some(None),
        rows => read_rows(rows).map(Some),
    }
}

/// The rows that the status command prints. None where one isn't as it should be, or there are none.
pub fn read_rows(rows: &Value) -> Option<Carried> {
    let text = |value: &Value| value.as_str().map(String::from);
    let row = |row: &Value| {
        let sql = text(&row["content"]).unwrap_or_default();
        Some((text(&row["version"])?, Migration { name: text(&row["name"]).unwrap_or_default(), sql }))
    };
    let rows = rows.as_array()?.iter().map(row).collect::<Option<Carried>>()?;
    (!rows.is_empty()).then_some(rows)
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
        assert_eq!(read_cache(b"{"), None);
        assert_eq!(read_cache(br#"{"carried":[1]}"#), None);
        assert_eq!(read_cache(br#"{"carried":[]}"#), None);
        assert_eq!(read_cache(br#"{"carried":null}"#), Some(None));
    }

    #[test]
    fn a_row_is_a_version_its_name_and_its_sql() {
        let known = read_cache(br#"{"carried":[{"version":"1","name":"networks","content":"select 1"}]}"#);
        let migration = Migration { name: "networks".into(), sql: "select 1".into() };
        assert_eq!(known, Some(Some(Carried::from([("1".into(), migration)]))));
    }
}
