//! After an upgrade: back to what was before it, with what that loses said first; or the kept data deleted.

use anyhow::{Context as _, Result};
use ory_facts::rows;
use ory_facts::tables;

use super::kept::{self, Kept};
use super::subject::Subject;
use crate::context::Context;

/// Rows written since an upgrade, by the names of their databases and tables.
pub type Written = Vec<(String, u64)>;

/// What going back loses: the rows that the new server has written since it serves. Rows that were deleted aren't counted.
pub fn lost(cx: &Context, kept: &Kept) -> Result<Written> {
    let moment = kept.moment(cx)?;
    let service = cx.stack.services.get(&kept.service).context("the server's service is gone")?;
    let subject = Subject::find(cx, service)?;
    let mut lost = vec![];
    for database in subject.facts(cx)?.databases.iter().filter(|database| !database.is_closed) {
        let count = format!(
            "select %1$L, count(*) from %1$s where age(xmin) <= age({}::xid)",
            ory_facts::sql::literal(&moment)
        );
        let said = subject.psql(cx, &database.name).stdin(tables::each(None, &count)).read()?;
        for row in rows::read(said.lines()) {
            if let [table, count] = &row[..]
                && let Some(count) = count.parse().ok().filter(|count| *count > 0)
            {
                lost.push((format!("{}: {table}", database.name), count));
            }
        }
    }
    Ok(lost)
}

/// Deletes what was kept.
pub fn finish(cx: &Context, kept: &Kept) -> Result<()> {
    kept::remove_volume(cx, &kept::new_volume(cx, &kept.service))?;
    kept::remove_volume(cx, &kept.volume)
}
