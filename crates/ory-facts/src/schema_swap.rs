//! What is in a schema put in the place of what is in another one, in a database that others are in: the scripts for psql,
//! run there by who owns both. The foreign keys of others lead to the new tables afterwards, and hold.
//!
//! Source: <https://www.postgresql.org/docs/17/catalog-pg-depend.html>.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::database_swap::{self, Swap};
use crate::owners::{self, Object};
use crate::rows;
use crate::split::SETTINGS;
use crate::sql::{block, identifier, literal};

/// The schemas of a replacement, under the names that databases have for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaSwap(pub Swap);

impl SchemaSwap {
    /// The names are always the same, so that what a killed run has left is found by the next.
    pub fn of(schema: &str) -> Self {
        Self(Swap::of(schema))
    }

    /// A line for each thing that the role may do, and for what is there.
    pub fn rights(&self) -> String {
        let current = literal(&self.0.current);
        format!(
            "select 'owns' where has_database_privilege(current_database(), 'create') and not exists\n\
             (select from pg_namespace where nspname = {current} and not pg_has_role(nspowner, 'usage'));\n\
             select 'there' from pg_namespace where nspname = {current};\n"
        )
    }

    /// Keeps what a run has replaced that was killed before its success. Prints what was kept before, and what is now.
    pub fn heal(&self) -> String {
        let (before, kept) = (literal(&self.0.before), database_swap::list(&self.0.kept()));
        let there = |what: &str| {
            rows::print(&format!(
                "select '{what}', nspname from pg_namespace where nspname = any ({kept}) order by nspname"
            ))
        };
        format!(
            "{}select format('alter schema %I rename to %I', nspname, (select name \
             from unnest({kept}) with ordinality as kept (name, place) \
             where not exists (select from pg_namespace n where n.nspname = name) order by place limit 1)) \
             from pg_namespace where nspname = {before} \\gexec\n{}",
            there("kept"),
            there("now"),
        )
    }

    /// What of others can't come along, a line each.
    pub fn obstacles(&self) -> String {
        let own = namespace(&self.0.current);
        [
            format!("{SETTINGS};\n"),
            rows::print(&format!("{} and not is_key", needed(&self.0.current))),
            rows::print(&format!(
                "select format('the trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger t
                 join pg_class c on c.oid = t.tgrelid join pg_proc p on p.oid = t.tgfoid
                 where not t.tgisinternal and c.relnamespace = {own}
                 and p.pronamespace not in ({own}, 'pg_catalog'::regnamespace)"
            )),
            rows::print(&format!(
                "select format('the foreign key %I of %s into %s', c.conname, c.conrelid::regclass, c.confrelid::regclass)
                 from pg_constraint c join pg_class o on o.oid = c.conrelid join pg_class i on i.oid = c.confrelid
                 where c.contype = 'f' and c.conparentid = 0 and o.relnamespace = {own} and i.relnamespace <> {own}"
            )),
            rows::print(&format!(
                "select format('the foreign key %I of %s, a table of %I', c.conname, o.oid::regclass,
                 pg_get_userbyid(o.relowner)) {} and not pg_has_role(o.relowner, 'usage')",
                keys(&self.0.current)
            )),
        ]
        .concat()
    }

    /// How many rows of others, by which key, refer to what the new schema doesn't have.
    pub fn orphans(&self) -> String {
        format!(
            "{SETTINGS};\n\
             select format('copy (select count(*), %L from %s o where %s and not exists (select from %I.%I i where %s))\n\
             to stdout',\n\
             format('the foreign key %I of %s', conname, other), other,\n\
             string_agg(format('o.%I is not null', a.attname), ' and '), {}, relname,\n\
             string_agg(format('i.%I = o.%I', b.attname, a.attname), ' and '))\n\
             from (select c.conname, o.oid::regclass as other, i.relname, c.conrelid, c.confrelid, c.conkey, c.confkey\n\
             {}) as key\n\
             cross join lateral unnest(conkey, confkey) as pair (theirs, own)\n\
             join pg_attribute a on a.attrelid = conrelid and a.attnum = pair.theirs\n\
             join pg_attribute b on b.attrelid = confrelid and b.attnum = pair.own\n\
             group by conname, other, relname \\gexec\n",
            literal(&self.0.new),
            keys(&self.0.current),
        )
    }

    /// Lets PostgreSQL look at the new tables: else the first questions would be answered slowly.
    pub fn analyze(&self) -> String {
        let new = &self.0.new;
        format!(
            "select format('analyze %I.%I', {}, relname) from pg_class\n\
             where relnamespace = {} and relkind in ('r', 'p', 'm') \\gexec\n",
            literal(new),
            namespace(new),
        )
    }

    /// Puts the new schema in the current one's place, once nobody uses either, and gives what is in it its owners.
    pub fn swap(&self, limit: Duration, owners: &[Object]) -> String {
        let Swap { current, new, before: aside, .. } = &self.0;
        let moves = [
            make_as(aside, current),
            take(current, aside),
            take(new, current),
            format!("drop schema {};\n", identifier(new)),
            owners::give(Some(current), owners),
        ];
        format!(
            "select {} is null as is_missing \\gset\n\\if :is_missing\n{}\\else\n{}\\endif\n",
            namespace(current),
            rename(new, current),
            self.exchange(limit, &moves.concat(), &refuse_needed(aside)),
        )
    }

    /// Takes [`SchemaSwap::swap`] back where it was done. `had_current`: there was one to be replaced.
    pub fn swap_back(&self, limit: Duration, had_current: bool) -> String {
        let Swap { current, new, before: aside, .. } = &self.0;
        let moves = [
            make_as(new, current),
            take(current, new),
            take(aside, current),
            format!("drop schema {};\n", identifier(aside)),
        ];
        let back = match had_current {
            true => self.exchange(limit, &moves.concat(), ""),
            false => rename(current, new),
        };
        format!("select {} is null as is_swapped \\gset\n\\if :is_swapped\n{back}\\endif\n", namespace(new))
    }

    /// The tables of others are held first, as they come first where their rows are written.
    fn exchange(&self, limit: Duration, moves: &str, check: &str) -> String {
        let current = &self.0.current;
        let keys = keys(current);
        format!(
            "{SETTINGS}; set lock_timeout = '{}s';\nbegin;\n\
             select format('lock table %s in access exclusive mode', string_agg(name, ', ' order by is_own, name))\n\
             from (select distinct o.oid::regclass::text, false {keys}\n\
             union all select oid::regclass::text, true from pg_class\n\
             where relnamespace = {} and relkind in ('r', 'p')) as held (name, is_own) having count(*) > 0 \\gexec\n\
             select coalesce(string_agg(format('alter table %s drop constraint %I;', o.oid::regclass, c.conname),\n\
             ' '), '') as drops, coalesce(string_agg(format('alter table %s add constraint %I %s;',\n\
             o.oid::regclass, c.conname, pg_get_constraintdef(c.oid)), ' '), '') as adds {keys} \\gset\n\
             :drops\n{moves}:adds\n{check}commit;\n",
            limit.as_secs(),
            namespace(current),
        )
    }

    /// Makes the new one, empty, for the role that fills it.
    pub fn make_new(&self, role: &str) -> String {
        format!("create schema {} authorization {};\n", identifier(&self.0.new), identifier(role))
    }

    /// Removes the new one, which did not get to its place.
    pub fn remove_new(&self) -> String {
        remove(&self.0.new)
    }

    /// Removes a schema of ours, and nothing of others.
    pub fn remove(schema: &str) -> String {
        remove(schema)
    }

    /// Keeps something under another name.
    pub fn keep_as(from: &str, to: &str) -> String {
        rename(from, to)
    }

    /// In the database where the new one was made under the name of the current one, gives it its own.
    pub fn name_new(&self) -> String {
        let Swap { current, new, .. } = &self.0;
        make_as(new, current) + &take(current, new)
    }
}

/// Makes the extensions that a database lacks, in these schemas, where that may be done; the others are of somebody else.
pub fn create_extensions(extensions: &BTreeMap<String, String>) -> String {
    let mut sql = String::new();
    for (name, schema) in extensions {
        let missing = format!(
            "from pg_available_extension_versions v where v.name = {0} and to_jsonb(v)->>'trusted' = 'true'\n\
             and not exists (select from pg_extension where extname = {0}) limit 1 \\gexec\n",
            literal(name)
        );
        let create = format!("create extension {} schema {}", identifier(name), identifier(schema));
        let schema = format!("create schema if not exists {}", identifier(schema));
        sql += &format!("select {} {missing}select {} {missing}", literal(&schema), literal(&create));
    }
    sql
}

fn namespace(schema: &str) -> String {
    format!("(select oid from pg_namespace where nspname = {})", literal(schema))
}

/// The foreign keys `c` of tables `o` of others into tables `i` of a schema.
fn keys(schema: &str) -> String {
    format!(
        "from pg_constraint c join pg_class o on o.oid = c.conrelid join pg_class i on i.oid = c.confrelid\n\
         where c.contype = 'f' and c.conparentid = 0 and i.relnamespace = {}\n\
         and o.relnamespace <> i.relnamespace",
        namespace(schema)
    )
}

/// What of others needs what is in a schema. The objects of an extension go where it goes.
fn needed(schema: &str) -> String {
    let own = namespace(schema);
    let of_table = |table: &str, column: &str| {
        format!(
            "when '{table}'::regclass then (select relnamespace from {table} x\n\
             join pg_class c on c.oid = x.{column} where x.oid = d.objid)\n"
        )
    };
    format!(
        "with own (class, id) as (\n\
         select 'pg_class'::regclass, oid from pg_class where relnamespace = {own}\n\
         union all select 'pg_type'::regclass, oid from pg_type where typnamespace = {own}\n\
         union all select 'pg_proc'::regclass, oid from pg_proc where pronamespace = {own}),\n\
         needs as (select distinct d.classid, d.objid, case d.classid\n{}{}{}{}\
         when 'pg_constraint'::regclass then (select connamespace from pg_constraint where oid = d.objid)\n\
         when 'pg_class'::regclass then (select relnamespace from pg_class where oid = d.objid)\n\
         when 'pg_type'::regclass then (select typnamespace from pg_type where oid = d.objid)\n\
         when 'pg_proc'::regclass then (select pronamespace from pg_proc where oid = d.objid)\n\
         when 'pg_statistic_ext'::regclass then (select stxnamespace from pg_statistic_ext where oid = d.objid)\n\
         end as place, d.classid = 'pg_constraint'::regclass and exists\n\
         (select from pg_constraint where oid = d.objid and contype = 'f') as is_key\n\
         from pg_depend d join own on d.refclassid = own.class and d.refobjid = own.id\n\
         where d.deptype in ('n', 'a') and not exists (select from pg_depend e\n\
         where e.classid = own.class and e.objid = own.id and e.deptype = 'e'))\n\
         select case when classid = 'pg_rewrite'::regclass\n\
         then (select format('the %s %s', case relkind when 'm' then 'materialized view' when 'v' then 'view'\n\
         else 'rule on' end, c.oid::regclass) from pg_rewrite r join pg_class c on c.oid = ev_class where r.oid = objid)\n\
         else 'the ' || pg_describe_object(classid, objid, 0) end as text\n\
         from needs where place is distinct from {own}",
        of_table("pg_rewrite", "ev_class"),
        of_table("pg_attrdef", "adrelid"),
        of_table("pg_trigger", "tgrelid"),
        of_table("pg_policy", "polrelid"),
    )
}

/// Fails where somebody else needs what is in a schema.
fn refuse_needed(schema: &str) -> String {
    let message = format!("others need what is in the schema {schema}: ");
    block(&format!(
        "declare what text; begin\n\
         select string_agg(text, ', ') into what from ({}) as other;\n\
         if what is not null then raise '%', {} || what; end if; end",
        needed(schema),
        literal(&message)
    ))
}

/// Removes a schema that may be there, with what is in it, and nothing of others.
fn remove(schema: &str) -> String {
    format!("{SETTINGS}; begin;\n{}commit;\n", remove_within(schema))
}

/// The same within a transaction.
fn remove_within(schema: &str) -> String {
    format!("{}drop schema if exists {} cascade;\n", refuse_needed(schema), identifier(schema))
}

/// Renames a schema that may be there.
fn rename(from: &str, to: &str) -> String {
    let rename = format!("alter schema {} rename to {}", identifier(from), identifier(to));
    format!("select {} from pg_namespace where nspname = {} \\gexec\n", literal(&rename), literal(from))
}

/// Makes a schema with the owner of another one.
fn make_as(schema: &str, other: &str) -> String {
    format!(
        "select format('create schema %I authorization %I', {}, pg_get_userbyid(nspowner))\n\
         from pg_namespace where nspname = {} \\gexec\n",
        literal(schema),
        literal(other)
    )
}

/// Takes all that is in a schema to another one: but not extensions, which others may use too, and whose parts belong to
/// the server's administrator.
fn take(from: &str, to: &str) -> String {
    let (place, to) = (namespace(from), literal(to));
    let is_own = |class: &str| {
        format!(
            "not exists (select from pg_depend d where d.classid = '{class}'::regclass and d.objid = o.oid\n\
             and d.deptype = 'e')"
        )
    };
    format!(
        "{SETTINGS};\n\
         select format('alter table %s set schema %I', o.oid::regclass, {to}) from pg_class o\n\
         where relnamespace = {place} and relkind in ('r', 'p', 'v', 'm', 'f', 'S') and {}\n\
         and not exists (select from pg_depend d where relkind = 'S' and d.classid = 'pg_class'::regclass\n\
         and d.objid = o.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')) \\gexec\n\
         select format('alter routine %s set schema %I', o.oid::regprocedure, {to}) from pg_proc o\n\
         where pronamespace = {place} and {} \\gexec\n\
         select format('alter type %s set schema %I', o.oid::regtype, {to}) from pg_type o\n\
         where typnamespace = {place} and typtype in ('b', 'c', 'd', 'e', 'r') and {}\n\
         and not exists (select from pg_class c where c.oid = typrelid and relkind <> 'c')\n\
         and not exists (select from pg_type e where e.typarray = o.oid) \\gexec\n",
        is_own("pg_class"),
        is_own("pg_proc"),
        is_own("pg_type"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_others_are_dropped_before_the_tables_move_and_added_after_it() {
        let sql = SchemaSwap::of("kratos").swap(Duration::from_secs(5), &[]);
        let at = |text: &str| sql.find(text).unwrap_or_else(|| panic!("no {text} in {sql}"));
        let order = [
            "begin;",
            "lock table",
            "\n:drops\n",
            "set schema %I', o.oid::regclass, 'xtask_before_kratos')",
            "set schema %I', o.oid::regclass, 'kratos')",
            "\n:adds\n",
            "others need what is in the schema xtask_before_kratos",
            "commit;",
        ];
        assert!(order.map(at).is_sorted(), "{sql}");
    }

    #[test]
    fn a_schema_is_removed_only_where_nobody_else_needs_what_is_in_it() {
        let sql = SchemaSwap::of("o'r\"y").remove_new();
        let (check, drop) = sql.split_once("end $xtask$;").expect("a check");
        assert!(check.contains("raise") && check.contains("'xtask_new_o''r\"y'"), "{sql}");
        assert!(drop.contains(r#"drop schema if exists "xtask_new_o'r""y" cascade"#), "{sql}");
    }

    #[test]
    fn an_extension_is_made_where_it_was_and_where_it_is_missing() {
        let sql = create_extensions(&BTreeMap::from([("uuid-ossp".into(), "hydra".into())]));
        assert!(sql.contains(r#"'create extension "uuid-ossp" schema "hydra"'"#), "{sql}");
        assert!(sql.contains("not exists (select from pg_extension where extname = 'uuid-ossp')"), "{sql}");
    }
}
