//! The script that gives each product of a shared schema a schema of its own, in the same database and in one
//! transaction. Tables keep their rows, keys, views and triggers; of `networks` and `schema_migration` each gets a copy.

use std::time::Duration;

use super::{Division, Part, SETTINGS, SHARED, VERSIONS, Way, table};
use crate::sql::{as_owner_of, identifier, literal, name};

/// What a copy is called until it is in its place.
const CLONE: &str = "xtask_clone";

impl Division {
    /// Gives each product its schema, owned by this role of its DSN.
    pub fn to_schemas(&self, owner: impl Fn(&Part) -> String, limit: Duration) -> String {
        let mut sql = format!("{SETTINGS}; set lock_timeout = '{}s';\nbegin;\n", limit.as_secs());
        if let tables @ [_, ..] = self.tables().as_slice() {
            sql += &format!("lock table {} in access exclusive mode;\n", tables.join(", "));
        }
        for part in &self.parts {
            let name = part.product.name();
            let owner = identifier(&owner(part));
            sql += &format!("create schema if not exists {name};\nalter schema {name} owner to {owner};\n");
            for own in part.own() {
                sql += &format!("alter table {} set schema {name};\n", self.table(own));
            }
            if part.is_there() {
                sql += &SHARED.map(|shared| self.clone_shared(part, shared)).concat();
                sql += &self.point_to_clones(part);
                sql += &self.grant(name);
            } else if self.keeps_shared && self.there().next().is_some() {
                // Where its search_path goes on, it would take the versions that stay for its own.
                sql += &self.clone_shared(part, VERSIONS);
            }
        }
        sql + &self.put_away(Way::Schemas, &[]) + "commit;\n"
    }

    /// The search_path of a part's new DSN: its schema, then those of the extensions that its migrations use by name.
    pub fn search_path(part: &Part) -> String {
        let mut path = vec![name(part.product.name())];
        for schema in
            part.extensions.values().filter(|schema| *schema != "pg_catalog").map(|schema| name(schema))
        {
            if !path.contains(&schema) {
                path.push(schema);
            }
        }
        path.join(",")
    }

    /// A copy of a table that each product has, with the same owner, rights, constraints and indexes. Its owner fills it:
    /// checks and defaults are code of the owner's.
    fn clone_shared(&self, part: &Part, name: &str) -> String {
        let schema = part.product.name();
        let (old, new, unnamed) = (self.table(name), table(schema, name), self.table(CLONE));
        let [old_literal, new_literal, unnamed_literal] = [&old, &new, &unnamed].map(|table| literal(table));
        let on = |schema: &str| format!("format(' ON %I.%I ', {}, {})", literal(schema), literal(name));
        let fill = format!(
            "insert into {unnamed} select * from {old} of_row \
             where of_row.ctid in (select ctid_of_row from pg_temp.xtask_rows);"
        );
        format!(
            "create table {unnamed} (like {old} including all excluding indexes);\n\
             create temporary table xtask_rows on commit drop as select ctid as ctid_of_row from {old} of_row{};\n\
             select format('grant select on pg_temp.xtask_rows to %I', pg_get_userbyid(relowner))\n\
             from pg_class where oid = {old_literal}::regclass \\gexec\n\
             select format('alter table %s owner to %I', {unnamed_literal}, pg_get_userbyid(relowner))\n\
             from pg_class where oid = {old_literal}::regclass \\gexec\n\
             {}drop table pg_temp.xtask_rows;\n\
             alter table {unnamed} set schema {schema};\n\
             alter table {} rename to {};\n\
             select format('alter table %s add constraint %I %s', {new_literal}, conname, pg_get_constraintdef(oid))\n\
             from pg_constraint where conrelid = {old_literal}::regclass and contype in ('p', 'u', 'x') \\gexec\n\
             select replace(pg_get_indexdef(indexrelid), {}, {}) from pg_index\n\
             where indrelid = {old_literal}::regclass\n\
             and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u', 'x')) \\gexec\n\
             select format('grant %s on %s to %s', a.privilege_type, {new_literal},\n\
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)\n\
             from pg_class, aclexplode(relacl) a where pg_class.oid = {old_literal}::regclass \\gexec\n",
            self.rows(part, name, schema),
            as_owner_of(&old, &fill),
            table(schema, CLONE),
            identifier(name),
            on(&self.schema),
            on(schema),
        )
    }

    /// The foreign keys of a part's tables into `networks` lead to its own copy.
    fn point_to_clones(&self, part: &Part) -> String {
        let schema = part.product.name();
        let mut sql = String::new();
        for name in SHARED {
            let references =
                |schema: &str| format!("format('REFERENCES %I.%I(', {}, {})", literal(schema), literal(name));
            sql += &format!(
                "select format('alter table %s drop constraint %I, add constraint %I %s', conrelid::regclass,\n\
                 conname, conname, replace(pg_get_constraintdef(c.oid), {}, {}))\n\
                 from pg_constraint c join pg_class t on t.oid = conrelid\n\
                 where contype = 'f' and confrelid = {}::regclass and t.relnamespace = '{schema}'::regnamespace \\gexec\n",
                references(&self.schema),
                references(schema),
                literal(&self.table(name)),
            );
        }
        sql
    }

    /// Who has rights on a table of the schema may use the schema; what is made there later gets the rights that it would
    /// have got in the old one.
    fn grant(&self, schema: &str) -> String {
        let old = literal(&identifier(&self.schema));
        format!(
            "select distinct format('grant usage on schema {schema} to %s',\n\
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)\n\
             from pg_class, aclexplode(relacl) a where relnamespace = '{schema}'::regnamespace \\gexec\n\
             select format('alter default privileges for role %I in schema {schema} grant %s on %s to %s',\n\
             pg_get_userbyid(d.defaclrole), a.privilege_type,\n\
             case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'\n\
             else 'types' end,\n\
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)\n\
             from pg_default_acl d, aclexplode(d.defaclacl) a where d.defaclnamespace = {old}::regnamespace \\gexec\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::product::Product;

    #[test]
    fn a_search_path_is_the_own_schema_then_those_of_extensions_each_once() {
        let path = |extensions: &[(&str, &str)]| {
            let extensions = extensions.iter().map(|(name, schema)| (name.to_string(), schema.to_string()));
            Division::search_path(&Part {
                product: Product::Kratos,
                tables: Default::default(),
                versions: Default::default(),
                networked: Default::default(),
                version_columns: Default::default(),
                extensions: extensions.collect::<BTreeMap<_, _>>(),
            })
        };
        assert_eq!(path(&[]), "kratos");
        assert_eq!(
            path(&[("plpgsql", "pg_catalog"), ("pg_trgm", "public"), ("uuid-ossp", "public")]),
            "kratos,public"
        );
        assert_eq!(path(&[("btree_gin", "Odd,one"), ("pg_trgm", "kratos")]), "kratos,\"Odd,one\"");
    }
}
