//! A schema as PostgreSQL's catalog has it: the query that prints it in lines, and what these lines say.
//!
//! One query for a product's database and for one that was made to compare it with. The name of the schema is
//! in no line but the first, so that schemas of other names compare.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows;
use crate::sorted::Sorted;

/// Prints the schema that a product's tables are in. Left out on purpose: the order of columns, sequences and
/// their values, storage parameters of indexes, as each of these can differ where nothing is wrong. Extensions are told, and not
/// compared: Hydra v26.2.0 makes the extension `uuid-ossp` that v2.3.0 didn't, and nothing but its migrations uses it.
/// What needs an extension goes when the extension goes, and is missed itself.
pub const QUERY: &str = include_str!("catalog.sql");

/// The last line: a cache of another shape, or one that breaks off, is as good as none.
const END: &str = "end\t3";

/// A schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// PostgreSQL's major version.
    pub major: String,
    /// The name of the schema.
    pub schema: String,
    /// The versions in `schema_migration`.
    pub versions: BTreeSet<String>,
    pub tables: BTreeSet<String>,
    /// The extensions of the whole database, each with the schema it is in.
    pub extensions: BTreeMap<String, String>,
    /// By table and name.
    pub columns: BTreeMap<(String, String), Column>,
    /// By table and name.
    pub constraints: BTreeMap<(String, String), Constraint>,
    /// By name, which is unique in a schema.
    pub indexes: BTreeMap<String, Index>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub kind: String,
    pub not_null: bool,
    /// The expression; empty where there is none.
    pub default: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    pub definition: String,
    /// The tables and `table.column`s that it goes with.
    pub needs: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub table: String,
    pub definition: String,
    pub is_valid: bool,
    pub is_unique: bool,
    /// The extensions whose operators it uses.
    pub extensions: Vec<String>,
    /// The `table.column`s that it goes with.
    pub needs: BTreeSet<String>,
}

impl Catalog {
    /// Reads what [`QUERY`] printed; none where that isn't whole.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.trim_end().strip_suffix(END)?;
        let mut catalog = Self::default();
        let list = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
        let set = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(String::from).into_set();
        for line in lines.lines() {
            let fields = rows::fields(line);
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            match fields[..] {
                ["server", major, schema] => {
                    (catalog.major, catalog.schema) = (major.into(), schema.into());
                }
                ["version", version] => _ = catalog.versions.insert(version.into()),
                ["table", name] => _ = catalog.tables.insert(name.into()),
                ["extension", name, schema] => _ = catalog.extensions.insert(name.into(), schema.into()),
                ["column", table, name, kind, not_null, default] => {
                    let (kind, default) = (kind.into(), default.into());
                    let column = Column { kind, not_null: not_null == "t", default };
                    catalog.columns.insert((table.into(), name.into()), column);
                }
                ["constraint", table, name, definition, needs] => {
                    let constraint = Constraint { definition: definition.into(), needs: set(needs) };
                    catalog.constraints.insert((table.into(), name.into()), constraint);
                }
                ["index", table, name, definition, is_valid, is_unique, extensions, needs] => {
                    let index = Index {
                        table: table.into(),
                        definition: definition.into(),
                        is_valid: is_valid == "t",
                        is_unique: is_unique == "t",
                        extensions: list(extensions),
                        needs: set(needs),
                    };
                    catalog.indexes.insert(name.into(), index);
                }
                _ => return None,
            }
        }
        (!catalog.major.is_empty()).then_some(catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_off_or_has_another_shape_is_not_read() {
        let whole = "server\t15\tpublic\ntable\tsessions\nend\t3\n";
        assert!(Catalog::parse(whole).is_some_and(|catalog| catalog.tables.contains("sessions")));
        for broken in ["", "server\t15\tpublic\ntable\tsess", "table\tsessions\nend\t3\n"] {
            assert_eq!(Catalog::parse(broken), None, "{broken}");
        }
        assert_eq!(Catalog::parse(&whole.replace("end\t3", "end\t2")), None);
        assert_eq!(Catalog::parse(&whole.replace("table\t", "table\tpublic\t")), None);
    }
}
