//! What is asked of each table of a database, or of one schema of it. What belongs to an extension isn't asked, as it isn't
//! dumped.

use crate::rows::{self, SUM};
use crate::sql::literal;

/// Asks for the moment: what is written by a transaction of this number or a later one wasn't there yet.
pub const MOMENT: &str = "select txid_snapshot_xmin(txid_current_snapshot()) % 4294967296";

/// The same where only who connects from now on can write: whoever is in the middle of something elsewhere doesn't count.
pub const NEXT: &str = "select txid_snapshot_xmax(txid_current_snapshot()) % 4294967296";

/// The schema of relations `c`, and which of them are meant.
pub fn own(schema: Option<&str>) -> String {
    let within = schema.map_or_else(String::new, |schema| format!(" and n.nspname = {}", literal(schema)));
    format!(
        "join pg_namespace n on n.oid = c.relnamespace
         where c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'{within}
         and not exists (select from pg_depend d
           where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')"
    )
}

/// Asks for their names, as SQL has them.
pub fn names(schema: Option<&str>) -> String {
    rows::print(&format!(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c {} and c.relkind in ('r', 'p') order by 1",
        own(schema)
    ))
}

/// Asks for the rows that PostgreSQL estimates, and the bytes, of each table and index, by its name alone.
pub fn sizes(schema: Option<&str>) -> String {
    rows::print(&format!(
        "select c.relname, greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0), case c.relkind when 'i' then pg_relation_size(c.oid)
         else pg_table_size(c.oid) end from pg_class c {} and c.relkind in ('r', 'i')",
        own(schema)
    ))
}

/// Asks for all that is counted, each with its name without its schema where that is one of a product's own, `home`.
pub fn homes(schema: Option<&str>, home: &str) -> String {
    rows::print(&format!(
        "select format('%I.%I', n.nspname, c.relname), case when n.nspname = {} then c.relname else '' end
         from pg_class c {} and c.relkind = 'r' order by 1",
        literal(home),
        own(schema)
    ))
}

/// Asks something of each table: of its name `%1$s`, which is `%1$L` as a text, its number `%2$s`, and its name without
/// its schema, `%3$L`.
pub fn each(schema: Option<&str>, query: &str) -> String {
    format!(
        "select format({}, t.name, t.oid, t.relname)
         from (select c.oid, c.relname, format('%I.%I', n.nspname, c.relname) as name from pg_class c {} and c.relkind = 'r') t order by t.name \\gexec\n",
        literal(rows::print(query).trim_end().trim_end_matches(';')),
        own(schema)
    )
}

/// Asks for a sum over the rows of each table. Those of two schemas compare.
pub fn sums(schema: Option<&str>) -> String {
    let (name, sum) = (if schema.is_some() { "%3$L" } else { "%1$L" }, SUM.replace('%', "%%"));
    each(schema, &format!("select {name}, count(*), {sum} from %1$s of_row"))
}

/// Asks how many rows were ever deleted, as far as PostgreSQL has counted it.
pub fn deleted(schema: Option<&str>) -> String {
    rows::print(&format!(
        "select coalesce(sum(pg_stat_get_tuples_deleted(c.oid)), 0) from pg_class c {} and c.relkind = 'r'",
        own(schema)
    ))
}

/// Asks how many rows were written since a moment, a line a table.
pub fn written_since(schema: Option<&str>, moment: &str) -> String {
    each(schema, &format!("select %1$L, count(*) from %1$s where age(xmin) <= age({}::xid)", literal(moment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_each_table_stays_a_text_until_the_server_fills_in_its_name() {
        let sql = sums(Some("o'ry"));
        assert!(sql.contains("n.nspname = 'o''ry'") && sql.contains("format(''%%s'', of_row)"), "{sql}");
        assert!(written_since(None, "7").contains("age(''7''::xid)"));
    }
}
