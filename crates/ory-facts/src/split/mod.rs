//! One schema that several products share, or a product and an application, taken apart: whose each table and
//! version is, and what the database remembers of it.

pub mod databases;
pub mod dependents;
pub mod schemas;

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::product::Product;
use crate::rows;
use crate::sorted::Sorted;
use crate::sql::{as_owner_of, identifier, literal};

/// The schema that the old tables go to, so that nothing that has the old DSN writes to them.
pub const OLD: &str = "split_old";

/// The tables that each product has: they are copied.
pub const SHARED: [&str; 2] = [NETWORKS, VERSIONS];
const NETWORKS: &str = "networks";
const VERSIONS: &str = "schema_migration";

/// Where each product goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a database of its own.
    Databases,
    /// To a schema of its own, in the same database.
    Schemas,
}

/// What a product has in the shared schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub product: Product,
    /// Its tables, those that each product has among them. None where it was never migrated.
    pub tables: BTreeSet<String>,
    pub versions: BTreeSet<String>,
    /// Those of its tables whose rows belong to one of the `networks` each.
    pub networked: BTreeSet<String>,
    /// The columns of its table of versions.
    pub version_columns: BTreeSet<String>,
    /// The extensions that it uses and that are there, each with its schema.
    pub extensions: BTreeMap<String, String>,
}

impl Part {
    /// Whether it has something to be taken along.
    pub fn is_there(&self) -> bool {
        !self.tables.is_empty()
    }

    /// The tables that no other product has.
    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(String::as_str).filter(|table| !SHARED.contains(table))
    }
}

fn networked(catalog: &Catalog) -> BTreeSet<String> {
    let columns = catalog.columns.keys().filter(|(_, column)| column == "nid");
    columns.map(|(table, _)| table.clone()).into_set()
}

fn version_columns(catalog: &Catalog) -> BTreeSet<String> {
    let columns = catalog.columns.keys().filter(|(table, _)| table == VERSIONS);
    columns.map(|(_, column)| column.clone()).into_set()
}

fn is_among<'a>(versions: impl IntoIterator<Item = &'a String>) -> String {
    let versions: Vec<_> = versions.into_iter().map(|version| literal(version)).collect();
    if versions.is_empty() {
        "false".into()
    } else {
        format!("format('%s', version) in ({})", versions.join(", "))
    }
}

/// A shared schema, divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    pub schema: String,
    pub parts: Vec<Part>,
    /// The tables that are no product's.
    pub others: BTreeSet<String>,
    /// Somebody who isn't split needs `networks` and `schema_migration`: they stay, without the rows of those who go.
    pub keeps_shared: bool,
}

/// Why a schema can't be divided.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Only what the image makes is known to be the product's.
    Pending(Product, usize),
    Missing(Product, String),
}

impl Division {
    /// Divides a schema by what the images of the products make.
    pub fn of(actual: &Catalog, expected: &[(Product, &Catalog)]) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        for (product, catalog) in expected {
            let mut own = catalog.tables.iter().filter(|table| !SHARED.contains(&table.as_str()));
            let has = |table: &String| actual.tables.contains(table);
            // The first version is of `networks`, which others have too.
            let is_migrated =
                catalog.versions.iter().skip(1).any(|version| actual.versions.contains(version));
            // Of what was never migrated, some tables can have the names of somebody else's.
            let is_there = if is_migrated { own.any(has) } else { own.all(has) };
            if is_there {
                let pending = catalog.versions.difference(&actual.versions).count();
                if pending > 0 {
                    return Err(Fault::Pending(*product, pending));
                }
                if let Some(table) = catalog.tables.difference(&actual.tables).next() {
                    return Err(Fault::Missing(*product, table.clone()));
                }
            }
            let taken = |all: &BTreeSet<String>| if is_there { all.clone() } else { BTreeSet::new() };
            let extensions = actual.extensions.iter();
            let extensions = extensions.filter(|(name, _)| catalog.extensions.contains_key(*name));
            parts.push(Part {
                product: *product,
                networked: taken(&networked(catalog)),
                version_columns: taken(&version_columns(catalog)),
                tables: taken(&catalog.tables),
                versions: taken(&catalog.versions),
                extensions: extensions.map(|(name, schema)| (name.clone(), schema.clone())).into_map(),
            });
        }
        let is_of = |table: &String| parts.iter().any(|part| part.tables.contains(table));
        let others = actual.tables.iter().filter(|table| !is_of(table));
        let others = others.filter(|table| !SHARED.contains(&table.as_str())).cloned().into_set();
        let is_known = |version: &String| parts.iter().any(|part| part.versions.contains(version));
        let keeps_shared = actual.versions.iter().any(|version| !is_known(version));
        Ok(Self { schema: actual.schema.clone(), parts, others, keeps_shared })
    }

    /// The parts that have something to be taken along.
    pub fn there(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_there())
    }

    /// Whether there is somebody to be separated from.
    pub fn is_shared(&self) -> bool {
        self.parts.len() > 1 || !self.others.is_empty()
    }

    /// Every table of a product, as SQL names it.
    fn tables(&self) -> Vec<String> {
        let names = self.there().flat_map(|part| &part.tables).map(String::as_str).into_set();
        names.into_iter().map(|name| self.table(name)).collect()
    }

    fn table(&self, name: &str) -> String {
        table(&self.schema, name)
    }

    /// Which rows of a table, called `of_row`, are a part's own, while its other tables are in this schema. Of the
    /// networks those that it has rows of: products that were started at the same time on no network have each made one,
    /// and started again, each takes the oldest that it finds.
    fn rows(&self, part: &Part, name: &str, schema: &str) -> String {
        if name == VERSIONS {
            return format!(" where {}", is_among(&part.versions));
        }
        if name != NETWORKS || part.networked.is_empty() {
            return String::new();
        }
        let is_used = |network: &str| {
            let has = |name: &String| {
                format!("exists (select from {} r where r.nid = {network}.id)", table(schema, name))
            };
            part.networked.iter().map(has).collect::<Vec<_>>().join(" or ")
        };
        let all = self.table(NETWORKS);
        format!(" where {} or not exists (select from {all} n where {})", is_used("of_row"), is_used("n"))
    }

    /// Puts the old tables away, or of the shared ones the rows, and notes what was done.
    fn put_away(&self, way: Way, moved: &[&str]) -> String {
        let products = self.parts.iter().map(|part| part.product).collect();
        let note = Note { way, products };
        let mut sql = format!(
            "create schema {OLD};\ncomment on schema {OLD} is {};\nrevoke all on schema {OLD} from public;\n",
            literal(&note.text())
        );
        for name in moved {
            sql += &format!("alter table {} set schema {OLD};\n", self.table(name));
        }
        if self.there().next().is_none() {
            return sql;
        }
        if self.keeps_shared {
            // The first is of `networks`, which stays.
            let gone = self.there().flat_map(|part| part.versions.iter().skip(1));
            let table = self.table(VERSIONS);
            sql += &as_owner_of(&table, &format!("delete from {table} where {};", is_among(gone)));
        } else {
            for name in SHARED {
                sql += &format!("alter table {} set schema {OLD};\n", self.table(name));
            }
        }
        sql
    }
}

fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// What a session of a split begins with: rows print the same wherever they are, and nothing ends it early.
pub const SETTINGS: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; \
    set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 3; \
    set bytea_output = 'hex'; set search_path = ''";

/// What a database with a split schema remembers of it, as the comment of [`OLD`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub way: Way,
    /// Who was split off.
    pub products: Vec<Product>,
}

const NOTE: &str = "cargo xtask split, into";
const FROM: &str = "cargo xtask split, from ";

impl Note {
    /// As it is written.
    pub fn text(&self) -> String {
        let way = match self.way {
            Way::Databases => "databases:",
            Way::Schemas => "schemas:",
        };
        let names: Vec<_> = self.products.iter().map(|product| product.name()).collect();
        format!("{NOTE} {way} {}", names.join(" "))
    }

    /// Reads it; none where it isn't one.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix(NOTE)?.split_whitespace();
        let way = match words.next()? {
            "databases:" => Way::Databases,
            "schemas:" => Way::Schemas,
            _ => return None,
        };
        Some(Self { way, products: words.map(Product::named).collect::<Option<_>>()? })
    }
}

/// What a database remembers: lines for [`Memory::read`].
pub const MEMORY: &str = "
    copy (select 'old', obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'split_old') to stdout;
    copy (select 'from', shobj_description(oid, 'pg_database') from pg_database
      where datname = current_database()) to stdout;\n";

/// What a database remembers of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// What was split off of it.
    pub note: Option<Note>,
    /// The database that what is in it was split off from.
    pub from: Option<String>,
}

impl Memory {
    /// Reads what [`MEMORY`] printed.
    pub fn read(text: &str) -> Self {
        let mut memory = Self::default();
        for fields in rows::read(text.lines()) {
            match fields.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["old", comment] => memory.note = Note::read(comment),
                ["from", comment] => memory.from = comment.strip_prefix(FROM).map(String::from),
                _ => {}
            }
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn catalog(tables: &[&str], versions: &[&str]) -> Catalog {
        let schema = "public".to_string();
        let extensions = BTreeMap::from([("pg_trgm".to_string(), "public".to_string())]);
        Catalog { schema, tables: set(tables), versions: set(versions), extensions, ..Catalog::default() }
    }

    fn divide(tables: &[&str], versions: &[&str]) -> Result<Division, Fault> {
        let kratos = catalog(&["networks", "schema_migration", "identities"], &["1", "2"]);
        let hydra = catalog(&["networks", "schema_migration", "hydra_client"], &["3", "4"]);
        let expected = [(Product::Kratos, &kratos), (Product::Hydra, &hydra)];
        Division::of(&catalog(tables, versions), &expected)
    }

    #[test]
    fn one_that_was_never_migrated_takes_nothing_along() {
        let division = divide(&["networks", "schema_migration", "identities", "orders"], &["1", "2"]);
        let division = division.expect("a division");
        let there: Vec<_> = division.there().map(|part| part.product).collect();
        assert_eq!(there, [Product::Kratos]);
        assert_eq!(division.others, set(&["orders"]));
        assert!(division.is_shared() && !division.keeps_shared);
        assert_eq!(division.parts[0].own().collect::<Vec<_>>(), ["identities"]);
    }

    #[test]
    fn what_the_image_would_still_change_is_not_divided() {
        let tables = ["networks", "schema_migration", "identities"];
        assert_eq!(divide(&tables, &["1"]), Err(Fault::Pending(Product::Kratos, 1)));
        let missing = divide(&["schema_migration", "identities"], &["1", "2"]);
        assert_eq!(missing, Err(Fault::Missing(Product::Kratos, "networks".into())));
        // The list of what was applied was lost.
        assert_eq!(divide(&tables, &[]), Err(Fault::Pending(Product::Kratos, 2)));
    }

    #[test]
    fn versions_of_nobody_keep_the_shared_tables_and_the_first_version() {
        let division = divide(&["networks", "schema_migration", "identities"], &["1", "2", "9"]);
        let division = division.expect("a division");
        assert!(division.keeps_shared);
        let sql = division.put_away(Way::Databases, &["identities"]);
        assert!(sql.contains("where format('%s', version) in ('2');"), "{sql}");
        assert!(!sql.contains("\"networks\""), "{sql}");
    }

    #[test]
    fn what_is_put_away_is_told_by_the_way_and_by_who_needs_the_shared_tables() {
        let tables = ["networks", "schema_migration", "identities", "hydra_client"];
        let division = divide(&tables, &["1", "2", "3", "4"]).expect("a division");
        let away = |name: &str| format!("alter table \"public\".\"{name}\" set schema split_old;\n");
        let databases = division.put_away(Way::Databases, &["identities", "hydra_client"]);
        assert!(databases.contains("'cargo xtask split, into databases: kratos hydra'"), "{databases}");
        for name in tables {
            assert!(databases.contains(&away(name)), "{name}: {databases}");
        }
        let schemas = division.put_away(Way::Schemas, &[]);
        assert!(schemas.contains("'cargo xtask split, into schemas: kratos hydra'"), "{schemas}");
        assert!(schemas.contains(&away("networks")) && !schemas.contains(&away("identities")), "{schemas}");
        // Where nobody has tables there, nothing but the note is left.
        let nothing = divide(&[], &[]).expect("a division").put_away(Way::Databases, &[]);
        assert!(nothing.contains("create schema split_old") && !nothing.contains("alter table"), "{nothing}");
    }

    #[test]
    fn a_product_alone_shares_with_nobody_and_with_an_application_it_does() {
        let kratos = catalog(&["networks", "schema_migration", "identities"], &["1", "2"]);
        let is_shared = |tables: &[&str]| {
            let division = Division::of(&catalog(tables, &["1", "2"]), &[(Product::Kratos, &kratos)]);
            division.expect("a division").is_shared()
        };
        assert!(!is_shared(&["networks", "schema_migration", "identities"]));
        assert!(is_shared(&["networks", "schema_migration", "identities", "orders"]));
    }

    #[test]
    fn a_table_of_another_by_the_same_name_is_none_of_what_was_never_migrated() {
        let hydra = catalog(&["networks", "schema_migration", "hydra_client", "hydra_jwk"], &["3", "4"]);
        let divide = |tables: &[&str], versions: &[&str]| {
            let tables = [&["networks", "schema_migration"], tables].concat();
            Division::of(&catalog(&tables, versions), &[(Product::Hydra, &hydra)])
        };
        let of_another = divide(&["hydra_client"], &["3"]).expect("a division");
        assert_eq!((of_another.there().count(), of_another.others), (0, set(&["hydra_client"])));
        // With its versions it is its own, and half gone.
        let half = divide(&["hydra_client"], &["3", "4"]);
        assert_eq!(half, Err(Fault::Missing(Product::Hydra, "hydra_jwk".into())));
    }

    #[test]
    fn the_rows_of_shared_tables_are_those_of_the_product_that_goes() {
        let mut division =
            divide(&["networks", "schema_migration", "identities"], &["1", "2"]).expect("a division");
        let rows = |division: &Division, name: &str| division.rows(&division.parts[0], name, "kratos");
        assert_eq!(rows(&division, "identities"), "");
        assert_eq!(rows(&division, "networks"), "", "no table of it names one");
        assert_eq!(rows(&division, "schema_migration"), " where format('%s', version) in ('1', '2')");
        division.parts[0].networked = set(&["identities"]);
        let used =
            |of: &str| format!("exists (select from \"kratos\".\"identities\" r where r.nid = {of}.id)");
        let expected = format!(
            " where {} or not exists (select from \"public\".\"networks\" n where {})",
            used("of_row"),
            used("n")
        );
        assert_eq!(rows(&division, "networks"), expected);
        assert_eq!(division.rows(&division.parts[1], "schema_migration", "hydra"), " where false");
    }

    #[test]
    fn a_database_remembers_what_went_and_where_what_it_has_came_from() {
        let memory = Memory::read(
            "old\tcargo xtask split, into databases: kratos\nfrom\tcargo xtask split, from a b\n",
        );
        let note = Note { way: Way::Databases, products: vec![Product::Kratos] };
        assert_eq!(memory, Memory { note: Some(note), from: Some("a b".into()) });
        for odd in [
            "",
            "old\tcargo xtask split, into places: kratos\n",
            "old\tcargo xtask split, into schemas: kratoz\n",
            "from\tmine\n",
        ] {
            assert_eq!(Memory::read(odd), Memory::default(), "{odd}");
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Note { way: Way::Schemas, products: vec![Product::Kratos, Product::Keto] };
        assert_eq!(Note::read(&note.text()), Some(note));
        assert_eq!(Note::read("somebody's own comment"), None);
        let memory = Memory::read("from\tcargo xtask split, from acme\n");
        assert_eq!(memory, Memory { note: None, from: Some("acme".into()) });
    }
}
