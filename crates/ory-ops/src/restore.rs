//! What a restore refuses: what a backup has, against what the stack has. Nothing is asked here.

use std::collections::BTreeMap;

use ory_facts::instance::Instance;
use ory_facts::manifest::{Content, Dump};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;

/// Something that a restore is refused for, unless it is forced.
#[derive(Debug, PartialEq, Eq)]
pub struct Objection {
    pub exit: Exit,
    pub message: String,
    /// What is typed next; with the command that forces it.
    pub hint: String,
}

impl From<Objection> for Failure {
    fn from(objection: Objection) -> Self {
        Self::new(objection.exit, objection.message).hint(objection.hint)
    }
}

/// A product that is asked for, and isn't in a backup.
pub fn missing(dumps: &[Dump], asked: &[Instance]) -> Option<Instance> {
    asked.iter().copied().find(|product| !dumps.iter().any(|dump| has(dump, *product)))
}

/// The dumps with a product that is asked for; all of them, where none is.
pub fn of_products<'a>(dumps: &'a [Dump], asked: &[Instance]) -> Vec<&'a Dump> {
    let is_asked = |dump: &&Dump| asked.is_empty() || asked.iter().any(|product| has(dump, *product));
    dumps.iter().filter(is_asked).collect()
}

fn has(dump: &Dump, product: Instance) -> bool {
    dump.products.iter().any(|content| content.product == product)
}

/// Whether a dump is of this place: the same products, in a database or in a schema of the same name.
pub fn is_of(dump: &Dump, products: impl IntoIterator<Item = Instance>, schema: Option<&str>) -> bool {
    let own = dump.products.iter().map(|content| content.product);
    own.eq(products) && dump.schema.as_deref() == schema
}

/// This stack has not made the backup: a dump is a program, and does what it was made to do with the rights of the role that
/// loads it. `forced`: the command line that restores all the same.
pub fn foreign(backup: &str, why: &str, forced: &str) -> Objection {
    Objection {
        exit: Exit::Failed,
        message: format!("this stack did not make the backup {backup}, as far as can be told: {why}"),
        hint: format!("a dump can do what the role may do that loads it; if you trust who made it: {forced}"),
    }
}

/// Rows are encrypted with secrets that are in no backup. `known`: the fingerprints of the stack's secrets, by where each is
/// set.
pub fn unreadable(
    content: &Content,
    known: &BTreeMap<String, Vec<String>>,
    time: &str,
    forced: &str,
) -> Vec<Objection> {
    let product = content.product;
    let is_known = |fingerprint: &String| known.values().flatten().any(|other| other == fingerprint);
    let lost = content.secrets.iter().filter(|(_, fingerprints)| !fingerprints.iter().all(is_known));
    let objection = |(place, _): (&String, _)| Objection {
        exit: Exit::Missing,
        message: format!(
            "what {product} encrypted could not be read: {place} has another value than on {time}"
        ),
        hint: format!(
            "append the old value to the current one (NEW,OLD) and run this again; or restore all the same: {forced}"
        ),
    };
    lost.map(objection).collect()
}

/// What isn't the products' goes back with them. `place`, `names`: what is replaced, and its products, in words; `into`: the
/// command line that restores beside it.
pub fn tables_of_others(
    (place, names): (&str, &str),
    tables: &[(String, u64)],
    (dump, time): (&Dump, &str),
    (into, forced): (&str, &str),
) -> Option<Objection> {
    if tables.is_empty() {
        return None;
    }
    let each = tables.iter().map(|(name, rows)| {
        let then = dump.contents.rows.get(name);
        let then = then.map_or("none in the backup".into(), |then| format!("{then} in the backup"));
        format!("{name} ({}, {then})", counted(*rows as usize, "row"))
    });
    let each = each.collect::<Vec<_>>().join(", ");
    Some(Objection {
        exit: Exit::Failed,
        message: format!(
            "{place} has tables that the images of {names} don't make, and they would be again as on {time}: {each}"
        ),
        hint: format!("restore into an empty database: {into}; or, if they may be replaced too: {forced}"),
    })
}

#[cfg(test)]
mod tests {
    use ory_facts::product::Product;

    use super::*;

    fn content(product: Product, fingerprints: &[&str]) -> Content {
        let values = fingerprints.iter().map(ToString::to_string).collect();
        let secrets = BTreeMap::from([("secrets.cipher".to_string(), values)]);
        Content { product: product.into(), image: String::new(), secrets }
    }

    fn dump(products: &[Product], schema: Option<&str>) -> Dump {
        let products = products.iter().map(|product| content(*product, &[])).collect();
        Dump { products, schema: schema.map(String::from), ..Dump::default() }
    }

    #[test]
    fn what_is_not_in_a_backup_is_missed_and_the_rest_is_left_out() {
        let dumps = [dump(&[Product::Kratos, Product::Keto], None), dump(&[Product::Hydra], None)];
        let [kratos, hydra] = [Product::Kratos, Product::Hydra].map(Instance::from);
        assert_eq!(missing(&dumps, &[kratos, hydra]), None);
        assert_eq!(missing(&dumps[..1], &[kratos, hydra]), Some(hydra));
        assert_eq!(of_products(&dumps, &[hydra]), [&dumps[1]]);
        assert_eq!(of_products(&dumps, &[]).len(), 2);
    }

    #[test]
    fn a_dump_goes_where_the_same_products_are_and_nowhere_else() {
        let both = [Product::Kratos, Product::Keto].map(Instance::from);
        let whole = dump(&[Product::Kratos, Product::Keto], None);
        assert!(is_of(&whole, both, None));
        assert!(!is_of(&whole, [both[0]], None));
        assert!(!is_of(&whole, both, Some("ory")));
        assert!(is_of(&dump(&[Product::Kratos], Some("ory")), [both[0]], Some("ory")));
    }

    #[test]
    fn each_secret_that_rows_were_encrypted_with_must_be_known_wherever_it_is_set_now() {
        let known = |values: &[&str]| {
            BTreeMap::from([("other".to_string(), values.iter().map(ToString::to_string).collect())])
        };
        let found = |values: &[&str]| {
            unreadable(&content(Product::Kratos, &["a", "b"]), &known(values), "monday", "xtask --force")
        };
        assert_eq!(found(&["b", "a", "c"]), []);
        let lost = found(&["a"]);
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].exit, Exit::Missing);
        assert!(lost[0].message.contains("secrets.cipher has another value than on monday"), "{lost:?}");
        assert!(lost[0].hint.ends_with("xtask --force"), "{lost:?}");
    }

    #[test]
    fn tables_of_others_are_named_with_their_rows_of_now_and_of_then() {
        let mut dump = dump(&[Product::Kratos], None);
        dump.contents.rows.insert("orders".into(), 2);
        let found = |tables: &[(String, u64)]| {
            tables_of_others(("kratos", "kratos"), tables, (&dump, "monday"), ("--into", "--force"))
        };
        assert_eq!(found(&[]), None);
        let tables = [("orders".to_string(), 1), ("users".to_string(), 5)];
        let objection = found(&tables).expect("an objection");
        let right = "orders (1 row, 2 in the backup), users (5 rows, none in the backup)";
        assert!(objection.message.ends_with(right), "{}", objection.message);
    }
}
