//! What of others goes with the tables of a shared schema: foreign keys, views and triggers across the border.

use super::Division;
use crate::rows;
use crate::sql::{identifier, literal};

/// An object that is of one side and needs the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// `the foreign key orders_buyer_fkey of public.orders into public.identities`
    pub text: String,
    /// It is on a product's table, and can't be in a database without what it needs.
    pub is_on_product: bool,
    kind: String,
    name: String,
}

/// The tables of products `own`, with whose each is; none where there is none.
fn tables(division: &Division) -> Option<String> {
    let pairs = division.there().flat_map(|part| part.tables.iter().map(|name| (part.product, name)));
    let pairs: Vec<_> = pairs.map(|(product, name)| format!("('{product}', {})", literal(name))).collect();
    if pairs.is_empty() {
        return None;
    }
    Some(format!(
        "own as (select product, c.oid from (values {}) as part (product, name)
         join pg_class c on c.relname = part.name and c.relnamespace = {}::regnamespace)",
        pairs.join(", "),
        literal(&identifier(&division.schema)),
    ))
}

/// Asks for them, as lines for [`read`]. Run with no search_path, so that each name is whole.
pub fn query(division: &Division) -> String {
    let Some(tables) = tables(division) else { return String::new() };
    let keys = format!(
        "with {tables}
         select 'key', exists (select from own where oid = c.conrelid),
           format('%s drop constraint %I', c.conrelid::regclass, c.conname),
           format('the foreign key %I of %s into %s', c.conname, c.conrelid::regclass, c.confrelid::regclass)
         from pg_constraint c where c.contype = 'f' and c.conparentid = 0
           and exists (select from own where oid in (c.conrelid, c.confrelid))
           and not exists (select from own a join own b using (product)
             where a.oid = c.conrelid and b.oid = c.confrelid)
         order by 4"
    );
    let views = format!(
        "with recursive {tables}, seen (oid) as (
           select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
             join own on own.oid = d.refobjid
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
             and r.ev_class not in (select oid from own)
           union select r.ev_class from seen join pg_depend d on d.refobjid = seen.oid
             join pg_rewrite r on r.oid = d.objid
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
             and r.ev_class <> seen.oid)
         select case when relkind = 'm' then 'materialized view' else 'view' end as kind, false,
           seen.oid::regclass,
           format('the %s %s', case relkind when 'm' then 'materialized view' else 'view' end, seen.oid::regclass)
         from seen join pg_class c using (oid) order by 4"
    );
    let triggers = format!(
        "with {tables}
         select 'trigger', true, format('%I on %s', t.tgname, t.tgrelid::regclass),
           format('the trigger %I on %s', t.tgname, t.tgrelid::regclass)
         from pg_trigger t join own on own.oid = t.tgrelid where not t.tgisinternal
         union select 'rule', true, format('%I on %s', rulename, ev_class::regclass),
           format('the rule %I on %s', rulename, ev_class::regclass)
         from pg_rewrite r join own on own.oid = ev_class order by 4"
    );
    [keys, views, triggers].map(|query| rows::print(&query)).concat()
}

/// Asks for what names a product's tables and is in no copy of them, a line each.
pub fn left_behind(division: &Division) -> String {
    let Some(tables) = tables(division) else { return String::new() };
    rows::print(&format!(
        "with {tables}
         select distinct format('the publication %I of %s', pubname, prrelid::regclass)
         from pg_publication_rel r join pg_publication p on p.oid = prpubid join own on own.oid = prrelid
         union select format('the publication %I of all tables', pubname) from pg_publication where puballtables
         union select format('the statistics %I.%I of %s', nspname, stxname, stxrelid::regclass)
         from pg_statistic_ext s join own on own.oid = stxrelid join pg_namespace n on n.oid = stxnamespace
         order by 1"
    ))
}

/// Reads what psql printed.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Dependent> {
    let dependent = |fields: Vec<String>| {
        let [kind, is_on, name, text] = <[String; 4]>::try_from(fields).ok()?;
        Some(Dependent { text, is_on_product: is_on == "t", kind, name })
    };
    rows::read(lines).filter_map(dependent).collect()
}

/// Drops those that can't go on, and nothing that depends on them in turn.
pub(super) fn drop(dependents: &[Dependent]) -> String {
    let of = |kind: &str| {
        let names = dependents.iter().filter(|d| d.kind == kind).map(|d| d.name.as_str());
        names.collect::<Vec<_>>()
    };
    let mut sql: String = of("key").iter().map(|key| format!("alter table {key};\n")).collect();
    for kind in ["view", "materialized view"] {
        if let names @ [_, ..] = of(kind).as_slice() {
            sql += &format!("drop {kind} {};\n", names.join(", "));
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_on_views_are_dropped_at_once_and_nothing_with_cascade() {
        let lines = [
            "key\tf\tpublic.orders drop constraint k\tthe foreign key k of public.orders into public.identities",
            "view\tf\tpublic.a\tthe view public.a",
            "view\tf\tpublic.b\tthe view public.b",
        ];
        let sql = drop(&read(lines));
        assert_eq!(sql, "alter table public.orders drop constraint k;\ndrop view public.a, public.b;\n");
    }
}
