//! The scripts that give each product of a shared schema a database of its own. All of a product is copied and compared
//! while nothing can write; the old tables are put away in the transaction that held them still.

use std::time::Duration;

use super::dependents::{self, Dependent};
use super::{Division, FROM, NETWORKS, OLD, Part, SETTINGS, VERSIONS, Way, table};
use crate::database_swap::{self, Swap};
use crate::product::Product;
use crate::rows::{self, SUM};
use crate::sql::{UNLOGGED, identifier, literal};

/// What the comment of a role says that was made for a product.
const ROLE: &str = "made by cargo xtask split";

/// What a product's new database is called while it isn't whole.
pub fn unfinished(product: Product) -> String {
    format!("xtask_split_{product}")
}

impl Division {
    /// Keeps others from writing; they go on reading. It lasts as long as its session.
    pub fn hold(&self, limit: Duration) -> String {
        let lock = match self.tables().as_slice() {
            [] => String::new(),
            tables => format!("lock table {} in exclusive mode", tables.join(", ")),
        };
        format!("{SETTINGS}; set lock_timeout = '{}s';\nbegin;\n{lock}", limit.as_secs())
    }

    /// Puts the old tables away, in the transaction that holds them.
    pub fn put_away_and_commit(&self, dependents: &[Dependent]) -> String {
        let own: Vec<_> = self.there().flat_map(Part::own).collect();
        format!("{}{}commit", dependents::drop(dependents), self.put_away(Way::Databases, &own))
    }

    /// A part's versions, as [`Division::complete`] takes them. Each value is printed, not cast: a cast of a row, or of a type
    /// that isn't PostgreSQL's, is code of its maker.
    pub fn versions(&self, part: &Part) -> String {
        let columns = part.version_columns.iter().map(|name| {
            let (name, column) = (literal(name), identifier(name));
            format!("{name}, case when {column} is null then null else format('%s', {column}) end")
        });
        format!(
            "select coalesce(jsonb_agg(jsonb_build_object({})), '[]') from {} of_row{}",
            columns.collect::<Vec<_>>().join(", "),
            self.table(VERSIONS),
            self.rows(part, VERSIONS, &self.schema)
        )
    }

    /// Leaves of the networks in a copy the part's own, and puts its versions there, last: with them, but without tables,
    /// Ory would call it up to date.
    pub fn complete(&self, part: &Part, versions: &str) -> String {
        let into = self.table(VERSIONS);
        let networks = self.table(NETWORKS);
        format!(
            "delete from {networks} where id not in (select id from {networks} of_row{});\n\
             insert into {into} select * from jsonb_populate_recordset(null::{into}, {});\n",
            self.rows(part, NETWORKS, &self.schema),
            literal(versions)
        )
    }

    /// The rows of a part, counted and summed, whatever their order: a line a table.
    pub fn sums(&self, part: &Part) -> String {
        let each = part.tables.iter().map(|name| {
            rows::print(&format!(
                "select {}, count(*), {SUM} from {} of_row{}",
                literal(name),
                self.table(name),
                self.rows(part, name, &self.schema)
            ))
        });
        each.collect()
    }

    /// The arguments of pg_dump for a part: all but the versions.
    pub fn dump(&self, part: &Part) -> Vec<String> {
        let tables = part.tables.iter().map(|name| format!("--table={}", self.table(name)));
        let without = format!("--exclude-table-data={}", self.table(VERSIONS));
        tables.chain([without]).collect()
    }

    /// What a copy needs before its tables: the schema, and the extensions, in the schemas in which they were.
    pub fn prepare(&self, part: &Part) -> String {
        let mut sql = format!("create schema if not exists {};\n", identifier(&self.schema));
        for (name, schema) in part.extensions.iter().filter(|_| part.is_there()) {
            let (name, schema) = (identifier(name), identifier(schema));
            sql += &format!("create schema if not exists {schema};\n");
            sql += &format!("create extension if not exists {name} schema {schema};\n");
        }
        sql
    }

    /// Drops what was put away, and keeps all that somebody else still needs.
    pub fn finish(tables: &[String]) -> String {
        let names: Vec<_> = tables.iter().map(|name| table(OLD, name)).collect();
        let drop =
            if names.is_empty() { String::new() } else { format!("drop table {};\n", names.join(", ")) };
        format!("begin;\n{drop}drop schema {OLD};\ncommit;\n")
    }
}

/// Makes the role of a product, or gives one that was made by an earlier run this password. Nobody else's is altered.
pub fn role(name: &str, password: &str) -> String {
    let (role, password) = (identifier(name), literal(password));
    let of = format!("from pg_roles where rolname = {}", literal(name));
    let create = format!("create role {role} login password {password}");
    let alter = format!("alter role {role} login password {password}");
    let comment = format!("comment on role {role} is {}", literal(ROLE));
    format!(
        "{UNLOGGED}select {} {of} and shobj_description(oid, 'pg_authid') = {} \\gexec\n\
         select not exists (select {of}) as is_missing \\gset\n\
         \\if :is_missing\nbegin;\n{create};\n{comment};\ncommit;\n\\endif\n",
        literal(&alter),
        literal(ROLE),
    )
}

/// Makes a product's new database, empty, as the shared one is made. What a killed run has left of it goes first.
pub fn create(shared: &str, product: Product, owner: &str) -> String {
    let name = unfinished(product);
    let swap = Swap::beside(shared, &name);
    format!(
        "{}comment on database {name} is {};\n",
        swap.create_for(owner),
        literal(&format!("{FROM}{shared}")),
    )
}

/// Gives a new database its name, where it doesn't have it yet; an empty one that was there is kept under another one.
pub fn name(product: Product) -> String {
    let new = unfinished(product);
    format!(
        "select exists (select from pg_database where datname = '{new}') as is_unnamed \\gset\n\
         \\if :is_unnamed\n\
         select 'alter database {product} rename to {product}_before_split'\n\
         from pg_database where datname = '{product}' \\gexec\n\
         alter database {new} rename to {product};\n\\endif\n"
    )
}

/// Removes a new database that didn't get to its name.
pub fn remove(product: Product) -> String {
    database_swap::remove(&unfinished(product))
}

/// Asks whose a product's new database is.
pub fn owner(product: Product) -> String {
    let names = format!("{}, {}", literal(product.name()), literal(&unfinished(product)));
    format!("select pg_get_userbyid(datdba) from pg_database where datname in ({names});\n")
}

/// A line for each name that a product's new database or role would need and that is somebody else's, and `may` where the
/// role may make databases.
pub fn names(product: Product, user: &str) -> String {
    format!(
        "select 'database', {0} from pg_database where datname = {0};\n\
         select 'role', {0} from pg_roles where rolname = {0} and rolname <> {1}\n\
         and shobj_description(oid, 'pg_authid') is distinct from {2};\n\
         select 'may', '' from pg_roles where rolname = current_user and (rolcreatedb or rolsuper);\n",
        literal(product.name()),
        literal(user),
        literal(ROLE),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn division(tables: &[&str]) -> Division {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let part = Part {
            product: Product::Keto,
            tables: set(tables),
            versions: set(&["1"]),
            networked: set(&[]),
            version_columns: set(&["version"]),
            extensions: BTreeMap::from([("pg_trgm".to_string(), "public".to_string())]),
        };
        Division { schema: "ory".into(), parts: vec![part], others: set(&[]), keeps_shared: false }
    }

    #[test]
    fn only_tables_that_are_there_are_held_and_dumped() {
        let there = division(&["networks", "schema_migration", "keto_relation_tuples"]);
        let held = there.hold(Duration::from_secs(3));
        assert!(held.contains("set lock_timeout = '3s'"), "{held}");
        let lock = "lock table \"ory\".\"keto_relation_tuples\", \"ory\".\"networks\", \"ory\".\"schema_migration\" in exclusive mode";
        assert!(held.ends_with(lock), "{held}");
        assert_eq!(
            there.dump(&there.parts[0]),
            [
                "--table=\"ory\".\"keto_relation_tuples\"",
                "--table=\"ory\".\"networks\"",
                "--table=\"ory\".\"schema_migration\"",
                "--exclude-table-data=\"ory\".\"schema_migration\"",
            ]
        );
        let absent = division(&[]);
        assert!(absent.hold(Duration::from_secs(3)).ends_with("begin;\n"));
    }

    #[test]
    fn a_copy_has_the_extensions_of_what_is_there() {
        let prepared = |tables: &[&str]| {
            let division = division(tables);
            division.prepare(&division.parts[0])
        };
        assert_eq!(prepared(&[]), "create schema if not exists \"ory\";\n");
        let with = prepared(&["keto_relation_tuples"]);
        assert!(with.ends_with("create extension if not exists \"pg_trgm\" schema \"public\";\n"), "{with}");
    }

    #[test]
    fn what_was_put_away_is_dropped_by_name_and_nothing_that_needs_it() {
        assert_eq!(Division::finish(&[]), "begin;\ndrop schema split_old;\ncommit;\n");
        let dropped = Division::finish(&["a".into(), "o\"b".into()]);
        let tables = "drop table \"split_old\".\"a\", \"split_old\".\"o\"\"b\";\n";
        assert_eq!(dropped, format!("begin;\n{tables}drop schema split_old;\ncommit;\n"));
    }
}
