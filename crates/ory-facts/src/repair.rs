//! What a killed migration leaves behind that a re-run doesn't fix, and the SQL that does. Nothing is repaired but
//! what is equal to what the image makes.
//!
//! Ory applies a migration and notes it in one transaction, but for those named `.autocommit`. Killed between the
//! two, a step runs again; two of Kratos's fail then for ever, since what they add is there. An index that was being
//! built concurrently stays invalid, and the re-run, which finds it by its name, calls it applied.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Index};
use crate::lost;
use crate::product::Product;
use crate::sql::identifier;

/// A step that can't run a second time: a single statement of its own transaction.
struct Step {
    product: Product,
    version: &'static str,
    table: &'static str,
    adds: Added,
}

/// What a step adds to a table.
enum Added {
    Constraint(&'static str),
    /// A column, with its check.
    Column(&'static str, &'static str),
}

/// Found by killing each `.autocommit` step of Kratos and Hydra v26.2.0 between statement and note.
const STEPS: [Step; 2] = [
    Step {
        product: Product::Kratos,
        version: "20241031094100000002",
        table: "session_token_exchanges",
        adds: Added::Constraint("session_token_exchanges_nid_fk"),
    },
    Step {
        product: Product::Kratos,
        version: "20250708190000000000",
        table: "identities",
        adds: Added::Column("external_id", "identities_external_id_check"),
    },
];

/// The statements that repair a schema, each on its own; empty where there is nothing to repair. The error tells
/// what isn't as the image makes it, so that nothing may be changed.
pub fn statements(
    product: Product,
    pending: &BTreeSet<String>,
    expected: &Catalog,
    actual: &Catalog,
) -> Result<Vec<String>, String> {
    let steps = STEPS.iter().filter(|step| step.product == product && pending.contains(step.version));
    let notes: Result<Vec<_>, _> = steps.filter_map(|step| step.note(expected, actual)).collect();
    let invalid = actual.indexes.iter().filter(|(_, index)| !index.is_valid);
    let own = invalid.filter(|(_, index)| expected.tables.contains(&index.table));
    let indexes = own.map(|(name, index)| rebuild(&actual.schema, name, index, expected));
    let indexes: Result<Vec<_>, _> = indexes.collect();
    let statements = [notes?, indexes?].concat().into_iter();
    // What was left goes first: each rebuilding that fails leaves one more.
    let (first, then): (Vec<_>, Vec<_>) = statements.partition(|statement| statement.starts_with("drop"));
    Ok([first, then].concat())
}

impl Step {
    /// Notes the step as applied, where all that it adds is there; none where nothing of it is.
    fn note(&self, expected: &Catalog, actual: &Catalog) -> Option<Result<String, String>> {
        let key = |name: &str| (self.table.to_string(), name.to_string());
        let constraint = |catalog: &Catalog, name| {
            catalog.constraints.get(&key(name)).map(|constraint| constraint.definition.clone())
        };
        let [made, there] = [expected, actual].map(|catalog| match self.adds {
            Added::Constraint(name) => constraint(catalog, name),
            Added::Column(name, check) => catalog.columns.get(&key(name)).map(|column| {
                let null = if column.not_null { " not null" } else { "" };
                let check = constraint(catalog, check).unwrap_or_else(|| "unchecked".into());
                format!("{}{null} {} {check}", column.kind, column.default)
            }),
        });
        let there = there?;
        if made.as_ref() != Some(&there) {
            let name = match self.adds {
                Added::Constraint(name) | Added::Column(name, _) => name,
            };
            let made = made.unwrap_or_else(|| "not at all".into());
            return Some(Err(format!(
                "{name} of the table {} is `{there}`, the image makes it `{made}`",
                self.table
            )));
        }
        Some(Ok(lost::insert(&actual.schema, self.version)))
    }
}

/// Rebuilds an invalid index, next to the old one and without blocking what is written.
fn rebuild(schema: &str, name: &str, index: &Index, expected: &Catalog) -> Result<String, String> {
    // What a rebuilding that was cut off left beside the index itself.
    // Source: <https://www.postgresql.org/docs/17/sql-reindex.html#SQL-REINDEX-CONCURRENTLY>.
    let place = format!("{}.{}", identifier(schema), identifier(name));
    let digits: &[char] = &['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];
    let base = name.trim_end_matches(digits);
    if base.ends_with("_ccnew") || base.ends_with("_ccold") {
        return Ok(format!("drop index concurrently {place}"));
    }
    match expected.indexes.get(name) {
        Some(made) if made.definition == index.definition => {
            Ok(format!("reindex index concurrently {place}"))
        }
        Some(made) => Err(format!(
            "the invalid index {name} is `{}`, the image makes it `{}`",
            index.definition, made.definition
        )),
        None => Err(format!("the invalid index {name} is none that the image makes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "server\t15\tpublic\n\
        table\tidentities\n\
        column\tidentities\texternal_id\tcharacter varying(64)\tf\t\n\
        constraint\tidentities\tidentities_external_id_check\tCHECK ((external_id <> ''))\tidentities.external_id\n\
        table\tsession_token_exchanges\n\
        constraint\tsession_token_exchanges\tsession_token_exchanges_nid_fk\tFOREIGN KEY (nid)\tnetworks\n\
        index\tidentities\tidentities_idx\tINDEX (external_id)\tt\tf\t\tidentities.external_id\n\
        end\t3\n";

    fn repaired(actual: &str, pending: &[&str]) -> Result<Vec<String>, String> {
        let read = |text: &str| Catalog::parse(text).expect("a catalog");
        let pending = pending.iter().map(ToString::to_string).collect();
        statements(Product::Kratos, &pending, &read(MADE), &read(actual))
    }

    #[test]
    fn a_step_whose_object_is_as_the_image_makes_it_is_noted() {
        for version in ["20241031094100000002", "20250708190000000000"] {
            let note = format!("insert into \"public\".schema_migration (version) values ('{version}')");
            assert_eq!(repaired(MADE, &[version]), Ok(vec![note]));
        }
    }

    #[test]
    fn a_step_that_is_noted_or_has_done_nothing_needs_no_repair() {
        assert_eq!(repaired(MADE, &[]), Ok(vec![]));
        let without = MADE.replace("constraint\tsession_token_exchanges\t", "constraint\tanother\t");
        assert_eq!(repaired(&without, &["20241031094100000002"]), Ok(vec![]));
    }

    #[test]
    fn what_only_looks_like_it_is_refused() {
        for (from, to) in
            [("varying(64)\tf", "varying(64)\tt"), ("varying(64)", "varying(65)"), ("<> ''", "<> 'a'")]
        {
            let refused = repaired(&MADE.replace(from, to), &["20250708190000000000"]);
            assert!(refused.is_err_and(|text| text.contains("external_id of the table identities")), "{to}");
        }
        let refused = repaired(&MADE.replace("KEY (nid)", "KEY (id)"), &["20241031094100000002"]);
        assert!(refused.is_err());
    }

    #[test]
    fn an_invalid_index_is_rebuilt_if_it_is_the_images() {
        let invalid = MADE.replace("(external_id)\tt", "(external_id)\tf");
        assert_eq!(
            repaired(&invalid, &[]),
            Ok(vec!["reindex index concurrently \"public\".\"identities_idx\"".into()])
        );
        let other = invalid.replace("INDEX (external_id)", "INDEX (id)");
        assert!(repaired(&other, &[]).is_err_and(|text| text.contains("INDEX (id)")));
        let left = invalid.replace("identities_idx", "identities_idx_ccnew1");
        assert_eq!(
            repaired(&left, &[]),
            Ok(vec!["drop index concurrently \"public\".\"identities_idx_ccnew1\"".into()])
        );
        let of_nobody = invalid.replace("index\tidentities\t", "index\tapplication\t");
        assert_eq!(repaired(&of_nobody, &[]), Ok(vec![]));
    }
}
