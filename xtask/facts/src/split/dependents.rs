//! What of others goes with the tables of a shared schema: foreign keys, views and triggers across the border.

use super::Division;
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

/// Asks for them, as lines for [`read`]. Run with no search_path, so that each name is whole.
pub fn query(division: &Division) -> String {
    let pairs = division.there().flat_map(|part| part.tables.iter().map(|name| (part.product, name)));
    let pairs: Vec<_> = pairs.map(|(product, name)| format!("('{product}', {})", literal(name))).collect();
    if pairs.is_empty() {
        return "select 1 where false".into();
    }
    let tables = format!(
        "own as (select product, c.oid from (values {}) as part (product, name)
         join pg_class c on c.relname = part.name and c.relnamespace = {}::regnamespace)",
        pairs.join(", "),
        literal(&identifier(&division.schema)),
    );
    format!(
        "with {tables}
         select 'key', exists (select from own where oid = c.conrelid),
           format('%s drop constraint %I', c.conrelid::regclass, c.conname),
           format('the foreign key %I of %s into %s', c.conname, c.conrelid::regclass, c.confrelid::regclass)
         from pg_constraint c where c.contype = 'f' and c.conparentid = 0
           and exists (select from own where oid in (c.conrelid, c.confrelid))
           and not exists (select from own a join own b using (product)
             where a.oid = c.conrelid and b.oid = c.confrelid)
         order by 4;
         with recursive {tables}, seen (oid) as (
           select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
             join own on own.oid = d.refobjid
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
             and r.ev_class not in (select oid from own)
           union select r.ev_class from seen join pg_depend d on d.refobjid = seen.oid
             join pg_rewrite r on r.oid = d.objid
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
             and r.ev_class <> seen.oid)
         select case relkind when 'm' then 'materialized view' else 'view' end as kind, false,
           seen.oid::regclass,
           format('the %s %s', case relkind when 'm' then 'materialized view' else 'view' end, seen.oid::regclass)
         from seen join pg_class c using (oid) order by 4;
         with {tables}
         select distinct 'trigger', true, format('%I on %s', t.tgname, t.tgrelid::regclass),
           format('the trigger %I on %s', t.tgname, t.tgrelid::regclass)
         from pg_trigger t join own on own.oid = t.tgrelid where not t.tgisinternal order by 4"
    )
}

/// Reads what psql printed.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Dependent> {
    let dependent = |line: &str| {
        let mut fields = line.split('|').map(String::from);
        let mut next = || fields.next();
        let (kind, is_on, name, text) = (next()?, next()?, next()?, next()?);
        Some(Dependent { text, is_on_product: is_on == "t", kind, name })
    };
    lines.into_iter().filter_map(dependent).collect()
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
            "key|f|public.orders drop constraint k|the foreign key k of public.orders into public.identities",
            "view|f|public.a|the view public.a",
            "view|f|public.b|the view public.b",
        ];
        let sql = drop(&read(lines));
        assert_eq!(sql, "alter table public.orders drop constraint k;\ndrop view public.a, public.b;\n");
    }
}
