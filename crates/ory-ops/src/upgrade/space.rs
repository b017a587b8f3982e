//! Whether there is room for an upgrade: on this machine for a backup, beside the database for a copy of it, and for the one
//! that a way back puts in its place.

use anyhow::Result;
use ory_facts::sql::literal;
use ory_runner::output::size;

use crate::backup;
use crate::client::Place;
use crate::context::Context;
use crate::postgres;
use crate::target::Target;

/// What is missing, in words; none where there is enough, or it can't be told.
pub fn missing(cx: &Context, target: &Target) -> Result<Option<String>> {
    let main = target.main()?;
    let ask = format!("select pg_database_size({});\n", literal(&main.dsn.database));
    let bytes: u64 =
        postgres::as_product(cx, main, &[])?.stdin(ask).read()?.trim().parse().unwrap_or_default();
    let lacks = |free: Option<u64>, needed: u64, place: &str| {
        let free = free.filter(|free| *free < needed)?;
        Some(format!(
            "{} may need {} of {place}, which has {} left",
            target.in_words(),
            size(needed),
            size(free)
        ))
    };
    let backups = backup::folder(cx);
    let here = if backups.is_dir() { backups } else { cx.dir.clone() };
    let df = cx.engine.program("df").args(["-P", "-k"]).arg(here.to_string_lossy());
    // A dump is smaller than its database.
    if let Some(text) = lacks(free(df.read().ok()), bytes / 2, &here.display().to_string()) {
        return Ok(Some(text));
    }
    let place = postgres::running_place(cx, main)?;
    let Place::Container(name) = &place else { return Ok(None) };
    // Only the administrator is told the folder.
    let folder = postgres::as_owner(cx, &place, main, &[]).stdin("show data_directory;\n").read();
    let Ok(folder) = folder else { return Ok(None) };
    let df = cx.engine.docker(["exec", name, "df", "-P", "-k", folder.trim()]);
    Ok(lacks(free(df.read().ok()), bytes * 2, &format!("the disk of {name}")))
}

/// The free bytes that `df -P -k` tells: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/df.html>.
fn free(said: Option<String>) -> Option<u64> {
    let said = said?;
    // A name of a file system may have blanks: the numbers are counted from the end of the capacity.
    let line = said.lines().nth(1)?;
    let before = line.split('%').next()?;
    let mut numbers = before.split_whitespace().rev();
    let (_, free) = (numbers.next()?, numbers.next()?);
    free.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_bytes_are_those_of_the_column_before_the_capacity() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a b 100 60 40 60% /srv/my data\n";
        assert_eq!(free(Some(said.into())), Some(40 * 1024));
        assert_eq!(free(Some("df: x: No such file".into())), None);
        assert_eq!(free(None), None);
    }
}
