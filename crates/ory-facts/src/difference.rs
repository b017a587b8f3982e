//! How a schema differs from what its image creates, in words, with what fixes it.
//!
//! An application's own tables, and another product's, belong to nobody here. Of what somebody added to a
//! product's tables, only that counts which can refuse what the server writes.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Column, Index};
use crate::sorted::Sorted;
use crate::sql::identifier;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `the index identities_nid_id_idx is missing`
    pub text: String,
    pub remedy: Remedy,
}

/// What fixes a difference without losing data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// The index is recreated.
    Reindex,
    /// These statements, each on its own.
    Sql(Vec<String>),
    /// What is gone, or was cut, is in a backup only.
    Restore,
}

/// Everything that `actual` has otherwise than `expected`.
pub fn compare(expected: &Catalog, actual: &Catalog) -> Vec<Difference> {
    let mut all =
        Comparison { expected, actual, gone: BTreeSet::new(), retyped: BTreeSet::new(), found: vec![] };
    all.tables();
    all.columns();
    all.constraints();
    all.indexes();
    all.found
}

pub(crate) fn missing_tables(expected: &Catalog, actual: &Catalog) -> Vec<Difference> {
    let missing = expected.tables.difference(&actual.tables);
    let missing = missing.map(|name| format!("the table {name} is missing"));
    missing.map(|text| Difference { text, remedy: Remedy::Restore }).collect()
}

pub(crate) fn invalid_index(name: &str) -> Difference {
    Difference { text: format!("the index {name} is invalid"), remedy: Remedy::Reindex }
}

struct Comparison<'a> {
    expected: &'a Catalog,
    actual: &'a Catalog,
    /// The tables and `table.column`s that are missing: what went with them isn't told of again.
    gone: BTreeSet<String>,
    /// The `table.column`s of another type, by which PostgreSQL words indexes and constraints otherwise.
    retyped: BTreeSet<String>,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn add(&mut self, text: String, remedy: Remedy) {
        self.found.push(Difference { text, remedy });
    }

    /// A difference that SQL fixes: the administrator has another schema before him than the product has.
    fn fix(&mut self, text: String, statements: impl IntoIterator<Item = String>) {
        let schema = Some(&self.actual.schema).filter(|schema| *schema != "public");
        let set = schema.map(|schema| format!("set search_path to {}", identifier(schema)));
        self.add(text, Remedy::Sql(set.into_iter().chain(statements).collect()));
    }

    fn is_gone(&self, table: &str, needs: &BTreeSet<String>) -> bool {
        self.gone.contains(table) || !self.gone.is_disjoint(needs)
    }

    fn differs(&self, needs: &BTreeSet<String>, expected: &str, actual: &str) -> bool {
        expected != actual && self.retyped.is_disjoint(needs)
    }

    fn tables(&mut self) {
        self.gone = self.expected.tables.difference(&self.actual.tables).cloned().into_set();
        self.found.extend(missing_tables(self.expected, self.actual));
    }

    fn columns(&mut self) {
        let (expected, actual) = (self.expected, self.actual);
        let has = both(expected, actual);
        for ((table, name), column) in expected.columns.iter().filter(|((table, _), _)| has(table)) {
            match actual.columns.get(&(table.clone(), name.clone())) {
                Some(other) => self.column(table, name, column, other),
                None => {
                    self.gone.insert(format!("{table}.{name}"));
                    self.add(format!("the column {table}.{name} is missing"), Remedy::Restore);
                }
            }
        }
        let added = actual.columns.iter().filter(|(key, _)| !expected.columns.contains_key(*key));
        for ((table, name), column) in added.filter(|((table, _), _)| has(table)) {
            if column.not_null && column.default.is_empty() {
                let text = format!("the column {table}.{name} was added, and nothing fills it");
                let action = format!("alter column {} drop not null", identifier(name));
                self.fix(text, [alter(table, action)]);
            }
        }
    }

    fn column(&mut self, table: &str, name: &str, expected: &Column, actual: &Column) {
        let column = format!("the column {table}.{name}");
        let change = |action: &str| alter(table, format!("alter column {} {action}", identifier(name)));
        if expected.kind != actual.kind {
            self.add(format!("{column} is {}, not {}", actual.kind, expected.kind), Remedy::Restore);
            // Its default is of its type.
            self.retyped.insert(format!("{table}.{name}"));
            return;
        }
        if expected.not_null != actual.not_null {
            let (is, action) = match expected.not_null {
                true => ("may be null", "set not null"),
                false => ("may not be null", "drop not null"),
            };
            self.fix(format!("{column} {is}"), [change(action)]);
        }
        if expected.default != actual.default {
            let [is, was] = [actual, expected].map(|column| match column.default.as_str() {
                "" => "none",
                default => default,
            });
            let text = format!("{column} has the default {is}, not {was}");
            let action = match expected.default.as_str() {
                "" => "drop default".to_string(),
                default => format!("set default {default}"),
            };
            self.fix(text, [change(&action)]);
        }
    }

    fn constraints(&mut self) {
        let (expected, actual) = (self.expected, self.actual);
        let has = both(expected, actual);
        for ((table, name), constraint) in &expected.constraints {
            if self.is_gone(table, &constraint.needs) {
                continue;
            }
            let text = format!("the constraint {table}.{name}");
            let definition = &constraint.definition;
            let quoted = identifier(name);
            let drop = alter(table, format!("drop constraint {quoted}"));
            let add = alter(table, format!("add constraint {quoted} {definition}"));
            match actual.constraints.get(&(table.clone(), name.clone())) {
                None => self.fix(format!("{text} is missing"), [add]),
                Some(other) if other.definition == format!("{definition} NOT VALID") => {
                    let validate = alter(table, format!("validate constraint {quoted}"));
                    self.fix(format!("{text} was never validated"), [validate]);
                }
                Some(other) if self.differs(&constraint.needs, definition, &other.definition) => {
                    let text = format!("{text} is {}, not {definition}", other.definition);
                    self.fix(text, [drop, add]);
                }
                Some(_) => {}
            }
        }
        let added = actual.constraints.keys().filter(|key| !expected.constraints.contains_key(*key));
        for (table, name) in added.filter(|(table, _)| has(table)) {
            let drop = alter(table, format!("drop constraint {}", identifier(name)));
            self.fix(format!("the constraint {table}.{name} was added"), [drop]);
        }
    }

    fn indexes(&mut self) {
        let (expected, actual) = (self.expected, self.actual);
        let has = both(expected, actual);
        for (name, index) in &expected.indexes {
            // An index of a constraint is told of, and made, with it.
            let of_constraint = expected.constraints.contains_key(&(index.table.clone(), name.clone()));
            if self.is_gone(&index.table, &index.needs) {
                continue;
            }
            match actual.indexes.get(name) {
                None if of_constraint => {}
                None => self.fix(format!("the index {name} is missing"), create(index)),
                Some(other) if !other.is_valid => self.found.push(invalid_index(name)),
                Some(_) if of_constraint => {}
                Some(other) if self.differs(&index.needs, &index.definition, &other.definition) => {
                    let text = format!("the index {name} is {}, not {}", other.definition, index.definition);
                    self.fix(text, [vec![drop_index(name)], create(index)].concat());
                }
                Some(_) => {}
            }
        }
        let added = actual.indexes.iter().filter(|(name, _)| !expected.indexes.contains_key(*name));
        for (name, index) in added.filter(|(_, index)| has(&index.table)) {
            let of_constraint = actual.constraints.contains_key(&(index.table.clone(), name.clone()));
            if !index.is_valid {
                self.found.push(invalid_index(name));
            } else if index.is_unique && !of_constraint {
                self.fix(format!("the unique index {name} was added"), [drop_index(name)]);
            }
        }
    }
}

/// Tells whether a table is the product's, and there.
fn both<'a>(expected: &'a Catalog, actual: &'a Catalog) -> impl Fn(&str) -> bool + 'a {
    |table| expected.tables.contains(table) && actual.tables.contains(table)
}

fn alter(table: &str, action: String) -> String {
    format!("alter table {} {action}", identifier(table))
}

fn drop_index(name: &str) -> String {
    format!("drop index concurrently {}", identifier(name))
}

/// What makes an index while the server goes on writing.
fn create(index: &Index) -> Vec<String> {
    let extensions = index.extensions.iter();
    let extensions = extensions.map(|name| format!("create extension if not exists {}", identifier(name)));
    extensions.chain([index.definition.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "\
server\t15\tpublic
table\tidentities
table\tsessions
column\tidentities\tid\tuuid\tt\t
column\tidentities\tstate\tcharacter varying(255)\tt\t'active'::character varying
column\tidentities\ttraits\tjsonb\tt\t
column\tsessions\tidentity_id\tuuid\tt\t
constraint\tidentities\tidentities_pkey\tPRIMARY KEY (id)\tidentities.id
constraint\tsessions\tsessions_fk\tFOREIGN KEY (identity_id) REFERENCES identities(id)\t\
sessions.identity_id,identities,identities.id
index\tidentities\tidentities_pkey\tCREATE UNIQUE INDEX identities_pkey ON identities (id)\tt\tt\t\tidentities.id
index\tidentities\tstate_idx\tCREATE INDEX state_idx ON identities (state)\tt\tf\tpg_trgm\tidentities.state
end\t3
";

    fn found(actual: &str) -> Vec<Difference> {
        let read = |text: &str| Catalog::parse(text).expect("a catalog");
        compare(&read(MADE), &read(actual))
    }

    fn texts(actual: &str) -> Vec<String> {
        found(actual).into_iter().map(|difference| difference.text).collect()
    }

    /// The schema without the lines that have one of these texts.
    fn without(texts: &[&str]) -> String {
        let kept = MADE.lines().filter(|line| !texts.iter().any(|text| line.contains(text)));
        kept.map(|line| format!("{line}\n")).collect()
    }

    fn with(line: &str) -> String {
        MADE.replace("end\t", &format!("{line}\nend\t"))
    }

    fn changed(from: &str, to: &str) -> String {
        assert!(MADE.contains(from), "{from}");
        MADE.replace(from, to)
    }

    #[test]
    fn an_equal_schema_has_none_whatever_its_name_and_order() {
        assert_eq!(texts(MADE), [""; 0]);
        let mut lines: Vec<_> = MADE.lines().collect();
        let last = lines.len() - 1;
        lines[1..last].reverse();
        assert_eq!(texts(&lines.join("\n").replace("public", "kratos")), [""; 0]);
    }

    #[test]
    fn a_missing_table_is_told_of_without_what_went_with_it() {
        assert_eq!(texts(&without(&["identities"])), ["the table identities is missing"]);
    }

    #[test]
    fn a_missing_column_is_told_of_without_what_went_with_it() {
        let dropped = without(&["column\tidentities\tid", "_pkey", "sessions_fk"]);
        assert_eq!(texts(&dropped), ["the column identities.id is missing"]);
    }

    #[test]
    fn a_changed_column_is_told_of_by_what_changed() {
        for (from, to, text) in [
            ("traits\tjsonb", "traits\ttext", "is text, not jsonb"),
            ("jsonb\tt", "jsonb\tf", "may be null"),
            ("'active'::character varying", "", "has the default none, not 'active'::character varying"),
        ] {
            let texts = texts(&changed(from, to));
            assert_eq!(texts.len(), 1, "{texts:?}");
            assert!(texts[0].ends_with(text), "{texts:?}");
        }
    }

    #[test]
    fn the_indexes_of_a_column_of_another_type_are_not_told_of_for_their_wording() {
        let retyped = changed("identities (state)", "identities ((state)::text)");
        assert_eq!(texts(&retyped).len(), 1);
        let retyped = retyped.replace("character varying(255)", "text");
        assert_eq!(texts(&retyped), ["the column identities.state is text, not character varying(255)"]);
    }

    #[test]
    fn a_missing_constraint_is_told_of_without_its_index() {
        let missing = found(&without(&["identities_pkey"]));
        let sql = "alter table \"identities\" add constraint \"identities_pkey\" PRIMARY KEY (id)";
        let text = "the constraint identities.identities_pkey is missing".to_string();
        assert_eq!(missing, [Difference { text, remedy: Remedy::Sql(vec![sql.into()]) }]);
    }

    #[test]
    fn a_missing_index_can_be_made_while_the_server_writes_with_the_extension_it_needs() {
        let missing = found(&without(&["state_idx"]).replace("public", "a schema"));
        let sql = [
            "set search_path to \"a schema\"",
            "create extension if not exists \"pg_trgm\"",
            "CREATE INDEX CONCURRENTLY state_idx ON identities (state)",
        ];
        assert_eq!(missing[0].text, "the index state_idx is missing");
        assert_eq!(missing[0].remedy, Remedy::Sql(sql.map(String::from).to_vec()));
    }

    #[test]
    fn an_invalid_index_is_told_of_and_one_that_a_broken_reindex_left_too() {
        let invalid = changed("(state)\tt", "(state)\tf");
        let left = with("index\tidentities\tleft_ccnew\tCREATE INDEX\tf\tf\t\t");
        assert_eq!(texts(&invalid), ["the index state_idx is invalid"]);
        assert_eq!(texts(&left), ["the index left_ccnew is invalid"]);
        assert_eq!(found(&invalid)[0].remedy, Remedy::Reindex);
    }

    #[test]
    fn a_constraint_that_was_never_validated_is_told_apart_from_one_of_another_definition() {
        let key = "REFERENCES identities(id)";
        let validate = "alter table \"sessions\" validate constraint \"sessions_fk\"";
        let never = found(&changed(key, &format!("{key} NOT VALID")));
        assert_eq!(never[0].remedy, Remedy::Sql(vec![validate.into()]));
        let other = found(&changed(key, "REFERENCES identities(id) ON DELETE CASCADE"));
        assert!(other[0].text.contains("is FOREIGN KEY"), "{other:?}");
    }

    #[test]
    fn what_was_added_counts_only_where_it_can_refuse_what_the_server_writes() {
        for (line, count) in [
            ("table\torders", 0),
            ("column\torders\tid\tuuid\tt\t", 0),
            ("constraint\torders\torders_fk\tFOREIGN KEY (id) REFERENCES identities(id)\torders.id", 0),
            ("index\torders\torders_idx\tCREATE INDEX\tf\tt\t\torders.id", 0),
            ("column\tidentities\tnote\ttext\tf\t", 0),
            ("column\tidentities\tnote\ttext\tt\t''::text", 0),
            ("column\tidentities\tnote\ttext\tt\t", 1),
            ("index\tidentities\tmail_idx\tCREATE INDEX\tt\tf\t\tidentities.traits", 0),
            ("index\tidentities\tmail_idx\tCREATE UNIQUE INDEX\tt\tt\t\tidentities.traits", 1),
            ("constraint\tidentities\tmail_ck\tCHECK (false)\tidentities.traits", 1),
        ] {
            let texts = texts(&with(line));
            assert_eq!(texts.len(), count, "{line}: {texts:?}");
        }
    }
}
