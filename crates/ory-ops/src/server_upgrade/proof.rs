//! The new cluster, made beside a copy of the old one and proved against it. The place of the server's data isn't touched.

use anyhow::{Result, bail};
use ory_facts::server_contents::{self, BUILT_IN};
use ory_facts::tables;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;

use super::bench::{Bench, QUIET, Start};
use super::comparison::{self, All};
use super::kept::{self, Kept, mount_volume};
use super::moving;
use super::scripts;
use super::subject::Subject;
use super::survey::Survey;
use super::transfer;
use crate::administrator::MAINTENANCE_DATABASE;
use crate::context::Context;

/// Where the kept volume is mounted beside the new one.
const OLD: &str = "/xtask-old";

/// What was proved of a new cluster.
pub struct Proved {
    pub contents: All,
    /// From which moment on only the server in its place writes.
    pub moment: String,
}

/// Makes the new cluster beside a copy of the old one, and proves it. The place of the data isn't touched.
pub fn make(cx: &Context, survey: &Survey) -> Result<Proved> {
    let Survey { subject, facts, kept, .. } = survey;
    moving::stop_server(cx, &subject.container)?;
    cx.out.say(format!("{}: stopped; nothing is written from here on", subject.name()));
    moving::keep(cx, kept)?;
    transfer::make_cluster(cx, subject, kept, facts)?;
    let new = mount_volume(&kept::new_volume(cx, subject.name()), &kept.new.place.target);
    let old = Bench::start(cx, of_old(subject, kept, &facts.owner))?;
    let bench = Start {
        subject,
        purpose: "upgrade-new",
        image: &kept.new.image,
        owner: &facts.owner,
        data: vec![new.clone()],
        folder: &kept.new.place.folder,
        with_mounts: false,
        beside: Some(&old.name),
        words: words(&[LOADING, QUIET, ALONE], &[]),
    };
    let loading = Bench::start(cx, bench)?;
    let built_in = loading.ask(MAINTENANCE_DATABASE).stdin(BUILT_IN).read()?;
    transfer::copy(cx, &old, &loading, facts)?;
    loading.stop()?;
    settings(cx, kept, &new)?;
    // As the service will start it, but for what reaches others.
    let bench = Start {
        subject,
        purpose: "upgrade-proof",
        image: &kept.new.image,
        owner: &facts.owner,
        data: vec![new],
        folder: &kept.new.place.folder,
        with_mounts: true,
        beside: None,
        words: words(&[QUIET, ALONE], subject.arguments.as_deref().unwrap_or_default()),
    };
    let proof = Bench::start(cx, bench)?;
    for database in &facts.databases {
        let _progress = cx.out.progress(format!("analysing {}", database.name));
        proof.psql(&database.name).stdin("analyze;\n").read()?;
    }
    let progress = cx.out.progress("comparing the two servers");
    let maintain = facts.major >= 17;
    let contents = comparison::compare(&old, &proof, &facts.databases, maintain)?;
    for database in &facts.databases {
        if proof.ask(&database.name).stdin(BUILT_IN).read()? != built_in {
            let message =
                format!("what was loaded into the database {} has changed PostgreSQL itself", database.name);
            let hint = "look for functions in its checks, defaults and types that do more than they should";
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
    }
    for other in comparison::other_versions(&old, &proof, &facts.databases)? {
        cx.out.say(format!("the extension {other}"));
    }
    drop(progress);
    let moment = proof.ask(MAINTENANCE_DATABASE).stdin(format!("{};\n", tables::NEXT)).read()?;
    proof.stop()?;
    old.stop()?;
    let counts = contents.values().map(server_contents::counted);
    let (tables, rows) = counts.fold((0, 0), |(t, r), (tables, rows)| (t + tables, r + rows));
    let databases = counted(facts.databases.len(), "database");
    cx.out.say(format!(
        "{databases} with {} and {} are the same in PostgreSQL {}",
        counted(tables, "table"),
        counted(rows as usize, "row"),
        kept.new.major
    ));
    moving::stage(cx, kept, &kept::new_volume(cx, subject.name()))?;
    moving::check_untouched(cx, subject)?;
    Ok(Proved { contents, moment: moment.trim().into() })
}

/// What makes loading faster. Where it ends before its end, what was loaded is thrown away.
const LOADING: &[&str] = &[
    "-c",
    "fsync=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "wal_level=minimal",
    "-c",
    "max_wal_senders=0",
    "-c",
    "max_wal_size=2GB",
    "-c",
    "maintenance_work_mem=256MB",
];

/// Who is asked in its own container only.
const ALONE: &[&str] = &["-c", "listen_addresses="];

/// The copy of the old server is read by the new one, on the loopback network that they share, and changes nothing.
const READING: &[&str] = &[
    "-c",
    "listen_addresses=127.0.0.1",
    "-c",
    "port=5432",
    "-c",
    "default_transaction_read_only=on",
    "-c",
    "shared_buffers=64MB",
    "-c",
    "huge_pages=off",
];

/// The service's own words come first: of two of the same setting, the last one counts.
fn words(ours: &[&[&str]], own: &[String]) -> Vec<String> {
    own.iter().cloned().chain(ours.iter().copied().flatten().map(ToString::to_string)).collect()
}

/// What the copy of the old server is started with.
pub fn of_old<'a>(subject: &'a Subject, kept: &'a Kept, owner: &'a str) -> Start<'a> {
    Start {
        subject,
        purpose: "upgrade-old",
        image: &kept.old.image,
        owner,
        data: vec![mount_volume(&kept.volume, &kept.old.place.target)],
        folder: &kept.old.place.folder,
        with_mounts: true,
        beside: None,
        words: words(&[QUIET, READING], subject.arguments.as_deref().unwrap_or_default()),
    }
}

/// The old cluster's settings, who it lets in, and what else is beside them, into the new one.
fn settings(cx: &Context, kept: &Kept, new: &str) -> Result<()> {
    let mounts = [new.to_string(), mount_volume(&kept.volume, OLD) + ",readonly"];
    let old = format!("{OLD}/{}", kept.old.place.within());
    let words = [old.trim_end_matches('/'), &kept.new.place.folder];
    scripts::run(cx, &kept.new.image, &kept::of(cx, &kept.service), &mounts, scripts::SETTINGS, &words)
        .read()?;
    // What was loaded without waiting for the disk is there from now on, whatever happens.
    let sync = ["-D", kept.new.place.folder.as_str()];
    let script = "exec initdb --sync-only \"$@\"";
    let user = cx.stack.services.get(&kept.service).and_then(|service| service.user.as_deref());
    let (of, user) = (kept::of(cx, &kept.service), user.unwrap_or("postgres"));
    scripts::bare(cx, &kept.new.image, &of, user, &mounts[..1], script, &sync).read().map(|_| ())
}
