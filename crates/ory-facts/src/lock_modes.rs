//! The locks on tables that a session of PostgreSQL holds, from the weakest to the strongest.
//!
//! Source: <https://www.postgresql.org/docs/17/explicit-locking.html#LOCKING-TABLES>.

use crate::rows;

/// The modes as `pg_locks` names them.
const MODES: [&str; 8] = [
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
];

/// How strong a mode is; one that isn't known is the weakest.
pub fn strength(mode: &str) -> usize {
    MODES.iter().position(|known| *known == mode).map_or(0, |at| at + 1)
}

/// Whom a mode keeps from a table; none where it keeps nobody who reads or writes rows.
pub fn keeps_out(mode: &str) -> Option<&'static str> {
    match strength(mode) {
        8 => Some("reads and writes wait"),
        5..=7 => Some("writes wait"),
        _ => None,
    }
}

/// Asks which versions are applied, whether sessions of an application are there, and which locks they hold on tables of this database.
/// `application` is an SQL literal.
pub fn query(application: &str) -> String {
    // Within a transaction, what sessions do would be told as it was at its begin.
    [
        "select 'version', format('%s', version) from :own_versions own".into(),
        format!("select distinct 'session' from pg_stat_activity where application_name = {application}"),
        format!(
            "select distinct 'lock', c.relname, l.mode from pg_locks l join pg_class c on c.oid = l.relation
             join pg_namespace n on n.oid = c.relnamespace
             where l.granted and l.locktype = 'relation' and c.relkind in ('r', 'p') and n.nspname !~ '^pg_'
             and c.relname <> 'schema_migration'
             and l.database = (select oid from pg_database where datname = current_database())
             and l.pid in (select pid from pg_stat_activity where application_name = {application})"
        ),
        // Where another version was applied meanwhile, whose the locks were can't be told.
        "select 'versions', count(*) from :own_versions own".into(),
    ]
    .map(|query: String| rows::print(&query))
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_lock_keeps_out_all_and_the_weakest_nobody() {
        assert!(strength("AccessExclusiveLock") > strength("ShareLock"));
        assert_eq!(strength("SomethingNew"), 0);
        assert_eq!(keeps_out("AccessExclusiveLock"), Some("reads and writes wait"));
        assert_eq!(keeps_out("ShareLock"), Some("writes wait"));
        assert_eq!(keeps_out("RowExclusiveLock"), None);
    }
}
