//! All of a server into a new cluster: a dump of each database, by the new release's programs, goes straight into it.

use anyhow::{Context as _, Result, bail};
use ory_facts::server_facts::Facts;
use ory_facts::sql;
use ory_facts::sqlstate;
use ory_runner::failure::{Exit, Failure};

use super::bench::Bench;
use super::kept::{self, Kept, mount_volume};
use super::scripts;
use super::subject::Subject;
use crate::administrator::MAINTENANCE_DATABASE;
use crate::context::Context;
use crate::temporary_dump::WorkDump;

/// The template that every new database is a copy of.
const TEMPLATE: &str = "template1";

/// Who is there already: the role that the cluster was made with.
/// Source: <https://www.postgresql.org/docs/17/errcodes-appendix.html>, `duplicate_object`.
const THERE: &[&str] = &["42710"];

/// Makes the new cluster in its volume, just as the old one was made.
pub fn make_cluster(cx: &Context, subject: &Subject, kept: &Kept, facts: &Facts) -> Result<()> {
    let (name, of) = (kept::new_volume(cx, subject.name()), kept::of(cx, subject.name()));
    kept::volume_command(cx, &name, &of, &[]).read()?;
    let place = &kept.new.place;
    let mounts = [mount_volume(&name, &place.target)];
    let words = [place.folder.as_str(), subject.user(), place.target.as_str()];
    scripts::run(cx, &kept.new.image, &of, &mounts, scripts::PREPARE, &words).read()?;
    let checksums = match facts.has_checksums {
        true => Some("--data-checksums"),
        // Since 18 they are the default.
        false => (kept.new.major >= 18).then_some("--no-data-checksums"),
    };
    let made = facts.initdb.iter().map(String::as_str).chain(checksums);
    let words: Vec<_> = [place.folder.as_str(), &facts.owner].into_iter().chain(made).collect();
    let _progress = cx.out.progress("making the new cluster");
    let init = scripts::bare(cx, &kept.new.image, &of, subject.user(), &mounts, scripts::INIT, &words);
    init.called("initdb").read().map(|_| ())
}

/// Copies roles, then databases. `new` reaches `old`, and nobody else.
pub fn copy(cx: &Context, old: &Bench, new: &Bench, facts: &Facts) -> Result<()> {
    roles(cx, new, facts)?;
    let mut failed = None;
    for database in &facts.databases {
        let name = database.name.as_str();
        let _progress = cx.out.progress(format!("copying the database {name}"));
        if failed.is_none() {
            let Err(error) = stream(new, facts, name) else { continue };
            cx.options.interrupt.check()?;
            cx.out.say("the new release's programs can't dump this server; the old release's do it instead");
            failed = Some(format!("{error:#}"));
        }
        let copied = by_file(cx, old, new, facts, name);
        copied.with_context(|| failed.clone().unwrap_or_default())?;
    }
    Ok(())
}

/// The database to be in while another one is made again.
fn beside(database: &str) -> &'static str {
    if database == MAINTENANCE_DATABASE { TEMPLATE } else { MAINTENANCE_DATABASE }
}

/// By the new release's programs, which know what a new server wants, without a file.
fn stream(new: &Bench, facts: &Facts, database: &str) -> Result<()> {
    let argument = sql::database(database);
    let mut words = vec![facts.owner.as_str(), &argument, beside(database)];
    // They are in the new cluster already, and have settings and rights as any other.
    words.extend([MAINTENANCE_DATABASE, TEMPLATE].contains(&database).then_some("--clean"));
    let copy = new.script(scripts::DATABASE, &words);
    copy.called(format!("copying the database {database}")).read().map(|_| ())
}

/// By the old release's own dump: it knows what its own server keeps, as a minor release that is newer than the new
/// release's may have brought.
fn by_file(cx: &Context, old: &Bench, new: &Bench, facts: &Facts, database: &str) -> Result<()> {
    let argument = sql::database(database);
    let words =
        ["pg_dump", "-w", "-h", "/tmp", "-U", &facts.owner, "-Fc", "-Z1", "--create", "-d", &argument];
    let dump = WorkDump::take(cx, "upgrade", &old.exec(&words))?;
    let into =
        ["pg_restore", "-w", "-h", "/tmp", "-U", &facts.owner, "--exit-on-error", "--create", "--clean"];
    let words = [&into[..], &["--if-exists", "-d", beside(database)]].concat();
    new.exec(&words).stdin_file(dump.path()).read().map(|_| ())
}

fn roles(cx: &Context, bench: &Bench, facts: &Facts) -> Result<()> {
    let output = bench.script(scripts::ROLES, &[&facts.owner]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let wrong = said
        .lines()
        .filter_map(sqlstate::tidy)
        .find(|line| line.contains("ERROR:  ") && !sqlstate::has(line, THERE));
    match wrong {
        None if output.status.success() => Ok(()),
        // What follows the first line of an error can quote a statement, and that a password's sum.
        wrong => {
            let line = cx.engine.mask(wrong.as_deref().unwrap_or("psql ended before its end"));
            let failure = Failure::new(Exit::Failed, "the roles can't be copied");
            bail!(anyhow::Error::msg(line).context(failure))
        }
    }
}
