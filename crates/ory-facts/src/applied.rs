//! The versions that databases have: the script that asks for them, and what psql prints of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::dsn::Dsn;
use crate::instance::Instance;
use crate::names;
use crate::product::Product;
use crate::sorted::Sorted;
use crate::sql::{self, argument, literal};

/// A script for psql, connected as the first of these DSNs says. It asks all of them in one session, whose start
/// takes longer than all that it does. A database that was never migrated has no versions. Whose they are is told by what psql
/// is connected as: behind a pooler, the server can know the database by another name. A line a product, in JSON: what
/// is in a row of one can't be taken for the next one's.
pub fn script(products: &[(Instance, &Dsn)]) -> String {
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
            script += &format!("\\connect -reuse-previous=off\n{}", sql::reading()[0]);
        }
        let (user, database) = (literal(&dsn.user), literal(&dsn.database));
        let schema = dsn.schema().unwrap_or_else(|| "public".into());
        let (kind, name) = (product.kind, literal(product.name()));
        let [database_before, schema_before] =
            [dsn.database.as_str(), &schema].map(|place| literal(&names::object("before", &[place])));
        let scratch = literal(&names::scratch(product.name(), &dsn.database));
        script += &require_schema(dsn);
        script += &format!(
            "select json_build_object('product', '{kind}', 'name', {name}, 'versions', coalesce(json_agg(format('%s', version)), '[]'), 'unfinished', \
             coalesce((select datname from pg_database where datname = {database_before}), \
             (select nspname from pg_namespace where nspname = {schema_before}), \
             (select datname from pg_database where datname = {scratch}))) \
             from :own_versions own having :'USER' = {user} and :'DBNAME' = {database};\n"
        );
    }
    script
}

/// Fails where none of the schemas that a DSN names is there, or may be used: tables would be made nowhere, and what isn't there
/// is no empty schema. The texts are ours, whatever language the server speaks.
fn require_schema(dsn: &Dsn) -> String {
    let Some(schemas) = dsn.schemas().filter(|schemas| !schemas.is_empty()) else { return String::new() };
    let names: Vec<_> = schemas.iter().map(|name| literal(name)).collect();
    let fail = |text: &str| sql::block(&format!("begin raise '%', {}; end", literal(text)));
    format!(
        "select :'own_schema' = '' as own_is_nowhere, exists (select from pg_namespace where nspname in ({})) \
         as own_is_there \\gset\n\\if :own_is_nowhere\n\\if :own_is_there\n{}\\else\n{}\\endif\n\\endif\n",
        names.join(", "),
        fail(UNUSABLE),
        fail(NOWHERE),
    )
}

/// What is said of the schemas of a DSN: none is there, or none of them may be used.
pub const NOWHERE: &str = "no schema of the search_path is there";
pub const UNUSABLE: &str = "no schema of the search_path may be used";

/// What psql printed of one product.
pub fn of_one(rows: &str) -> BTreeSet<String> {
    of_each(rows).into_values().next().unwrap_or_default()
}

/// What psql printed of several. A product is left out where psql doesn't tell that it was in its database.
pub fn of_each(rows: &str) -> BTreeMap<Instance, BTreeSet<String>> {
    let text = |version: &Value| version.as_str().map(String::from);
    let read = |(product, json): (Instance, Value)| {
        Some((product, json["versions"].as_array()?.iter().map(text).all_into_set()?))
    };
    answers(rows).filter_map(read).into_map()
}

/// What a run has left that was killed: the name of what was there before it had replaced a product's tables, or of the copy
/// that it had made.
pub fn unfinished(rows: &str) -> BTreeMap<Instance, String> {
    answers(rows)
        .filter_map(|(product, json)| Some((product, json["unfinished"].as_str()?.into())))
        .into_map()
}

fn answers(rows: &str) -> impl Iterator<Item = (Instance, Value)> {
    rows.lines().filter_map(|line| {
        let json: Value = serde_json::from_str(line).ok()?;
        let kind = Product::named(json["product"].as_str()?)?;
        Some((Instance::named(kind, json["name"].as_str()?), json))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[&str]) -> BTreeSet<String> {
        versions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_product_has_its_versions_whatever_is_in_a_row() {
        let text = r#"{"product" : "kratos", "name" : "customers", "versions" : ["1", "2"]}
{"product" : "hydra", "name" : "hydra", "versions" : []}
{"product" : "keto", "name" : "keto", "versions" : ["3\n{\"product\" : \"hydra\"}"]}"#;
        let forged = "3\n{\"product\" : \"hydra\"}";
        let customers = Instance::named(Product::Kratos, "customers");
        let expected = [
            (customers, versions(&["1", "2"])),
            (Product::Hydra.into(), versions(&[])),
            (Product::Keto.into(), versions(&[forged])),
        ];
        assert_eq!(of_each(text), BTreeMap::from(expected));
        let keto = r#"{"product" : "keto", "name" : "keto", "versions" : ["1"], "unfinished" : "#;
        assert_eq!(of_one(&format!("{keto}null}}\n")), versions(&["1"]));
        let left = unfinished(&format!("{keto}\"xtask_before_keto\"}}"));
        assert_eq!(left, BTreeMap::from([(Product::Keto.into(), "xtask_before_keto".to_string())]));
        assert_eq!(unfinished(&format!("{keto}null}}")), BTreeMap::new());
    }

    #[test]
    fn what_is_no_answer_is_nobodys() {
        assert_eq!(of_each("1\n2\n{\"product\" : \"kratos\""), BTreeMap::new());
    }

    #[test]
    fn nothing_of_one_dsn_is_left_for_the_next() {
        let parse = |text| Dsn::parse(text).expect("a DSN");
        let kratos = parse("postgres://kratos:one@db/kratos?sslmode=require");
        let hydra = parse("postgres://hydra:it's%5C%0A@db/hydra");
        let script = script(&[(Product::Kratos.into(), &kratos), (Product::Hydra.into(), &hydra)]);
        let (first, second) = script.split_once("\\setenv PGHOST\n").expect("a change of the connection");
        assert!(!first.contains("one") && !script.contains("require"), "{script}");
        assert!(second.contains("\\setenv PGSSLMODE\n"), "{script}");
        assert!(second.contains(":'DBNAME' = 'hydra'") && !script.contains("current_database()"), "{script}");
        assert!(second.contains("\\setenv PGPASSWORD 'it\\'s\\\\\\n'\n"), "{script}");
    }
}
