//! The versions that databases have: the script that asks for them, and what psql prints of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::dsn::Dsn;
use crate::product::Product;
use crate::sql::{argument, literal};

/// What stands before the versions of a product.
const HEADING: &str = "-- ";
const NEXT_HEADING: &str = "\n-- ";

/// A script for psql, connected as the first of these DSNs says. It asks all of them in one session, whose start
/// takes longer than all that it does. A database that was never migrated has no versions.
pub fn script(products: &[(Product, &Dsn)]) -> String {
    let mut script = String::new();
    let mut before: Option<&Dsn> = None;
    for (product, dsn) in products {
        if let Some(before) = before.replace(dsn) {
            for (name, _) in before.environment() {
                script += &format!("\\setenv {name}\n");
            }
            for (name, value) in dsn.environment() {
                script += &format!("\\setenv {name} {}\n", argument(&value));
            }
            script += "\\connect -reuse-previous=off\n";
        }
        let (user, database) = (literal(&dsn.user), literal(&dsn.database));
        script += &format!(
            "select '{HEADING}{product}' where session_user = {user} and current_database() = {database};\n\
             select to_regclass('schema_migration') is not null as migrated \\gset\n\
             \\if :migrated\n\
             select version from schema_migration;\n\
             \\endif\n"
        );
    }
    script
}

/// What psql printed of one product.
pub fn of_one(rows: &str) -> BTreeSet<String> {
    rows.lines().filter(|row| !row.starts_with(HEADING)).map(String::from).collect()
}

/// What psql printed of several. A product is left out where psql doesn't tell that it was in its database.
pub fn of_each(rows: &str) -> BTreeMap<Product, BTreeSet<String>> {
    let sections = rows.strip_prefix(HEADING).into_iter().flat_map(|rows| rows.split(NEXT_HEADING));
    let section = |text: &str| {
        let mut lines = text.lines();
        let product = Product::named(lines.next()?)?;
        Some((product, lines.map(String::from).collect()))
    };
    sections.filter_map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[&str]) -> BTreeSet<String> {
        versions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_product_has_the_versions_below_its_heading() {
        let each = of_each("-- kratos\n1\n2\n-- hydra\n-- keto\n3\n");
        let expected = [("kratos", &["1", "2"][..]), ("hydra", &[]), ("keto", &["3"])];
        let expected =
            expected.map(|(name, list)| (Product::named(name).expect("a product"), versions(list)));
        assert_eq!(each, BTreeMap::from(expected));
        assert_eq!(of_one("-- kratos\n1\n2\n"), versions(&["1", "2"]));
    }

    #[test]
    fn versions_without_a_heading_are_nobodys() {
        assert_eq!(of_each("1\n2\n"), BTreeMap::new());
    }

    #[test]
    fn nothing_of_one_dsn_is_left_for_the_next() {
        let parse = |text| Dsn::parse(text).expect("a DSN");
        let kratos = parse("postgres://kratos:one@db/kratos?sslmode=require");
        let hydra = parse("postgres://hydra:it's%5C%0A@db/hydra");
        let script = script(&[(Product::Kratos, &kratos), (Product::Hydra, &hydra)]);
        let (first, second) = script.split_once("\\setenv PGHOST\n").expect("a change of the connection");
        assert!(!first.contains("one") && !script.contains("require"), "{script}");
        assert!(second.contains("\\setenv PGSSLMODE\n"), "{script}");
        assert!(second.contains("\\setenv PGPASSWORD 'it\\'s\\\\\\n'\n"), "{script}");
    }
}
