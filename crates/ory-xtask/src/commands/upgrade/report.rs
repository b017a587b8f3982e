//! What an upgrade tells: its plan, its rehearsal and its result, in lines for people, as one JSON document, and as the summary
//! of a job in GitHub Actions.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ory_facts::document::Document;
use ory_facts::lock_modes;
use ory_facts::product::Release;
use ory_ops::context::Context;
use ory_ops::target::Target;
use ory_ops::upgrade::change::Change;
use ory_ops::upgrade::lock_watch::Watched;
use ory_ops::upgrade::outlook::{Outlook, Trial};
use ory_ops::upgrade::rehearsal::{Rehearsal, Rehearsed};
use ory_runner::output::{Output, counted, seconds, size};
use serde_json::Value;

use super::arguments::{Upgrade, tell};

/// How long a migration takes that is worth a line.
const SLOW: Duration = Duration::from_millis(100);

/// What a table or an index has, in bytes, that is worth a line: to read or to build less takes a moment.
const FELT_BYTES: u64 = 10_000_000;

/// How a run ends: one that did it, that had nothing to do, that wasn't confirmed, and that undid an upgrade.
pub const UPGRADED: &str = "upgraded";
pub const NOTHING: &str = "nothing to do";
pub const NOT_CONFIRMED: &str = "not confirmed";
pub const WENT_BACK: &str = "went back";

/// What is told so far.
pub struct Report {
    project: String,
    out: Output,
    /// The lines, for a job's summary.
    lines: Vec<String>,
    products: Vec<Document>,
    rehearsals: Vec<Document>,
    downtime: Option<Duration>,
    problem: Option<String>,
    result: Option<&'static str>,
}

impl Report {
    pub fn new(cx: &Context) -> Self {
        Self {
            project: cx.stack.project.clone(),
            out: cx.out,
            lines: vec![],
            products: vec![],
            rehearsals: vec![],
            downtime: None,
            problem: None,
            result: None,
        }
    }

    /// The plan for a product.
    pub fn plan(&mut self, cx: &Context, args: &Upgrade, change: &Change, outlook: &Outlook) -> Result<()> {
        let Change { product, from, to, .. } = change;
        let pending = counted(outlook.pending, "migration");
        let mut lines =
            vec![format!("{product}: {from} -> {to}, {pending} pending, {} of data", size(outlook.bytes))];
        lines.push(match &outlook.configuration {
            Trial::Ready => "  configuration: the new server starts with it".into(),
            Trial::Untried(why) => format!("  configuration: can't be tried: {why}"),
            // Behind that it ended comes why.
            Trial::Refused(error) => {
                let why = error.chain().nth(1).map_or_else(|| error.to_string(), ToString::to_string);
                format!("  configuration: refused: {}", why.replace('\n', "\n    "))
            }
        });
        let (felt, short): (Vec<_>, Vec<_>) =
            outlook.stalls.iter().partition(|stall| stall.bytes >= FELT_BYTES);
        for stall in felt {
            let (rows, bytes) =
                (counted(usize::try_from(stall.rows).unwrap_or(usize::MAX), "row"), size(stall.bytes));
            lines.push(format!(
                "  locks: {} ({rows}, {bytes}): {} ({})",
                stall.table, stall.why, stall.version
            ));
        }
        if !short.is_empty() {
            let count = counted(short.len(), "statement");
            let limit = size(FELT_BYTES);
            lines.push(format!("  locks: {count} on tables and indexes of less than {limit}: a moment each"));
        }
        for note in &outlook.notes {
            lines.push(format!("  note: since {}: {}", told(note.since), note.text));
        }
        for line in lines {
            let line = cx.engine.mask(&line);
            self.lines.push(line.clone());
            tell(cx, args, line)?;
        }
        let stall = |stall: &ory_ops::upgrade::outlook::Stalling| {
            Document::default()
                .with("version", stall.version.as_str())
                .with("table", stall.table.as_str())
                .with("why", stall.why)
                .with("long", stall.is_long)
                .with("rows", stall.rows)
                .with("bytes", stall.bytes)
        };
        let (configuration, why) = match &outlook.configuration {
            Trial::Ready => ("accepted", None),
            Trial::Untried(why) => ("untried", Some(why.clone())),
            Trial::Refused(error) => ("refused", Some(cx.engine.mask(&format!("{error:#}")))),
        };
        self.products.push(
            Document::default()
                .with("product", product.kind.name())
                .with("name", product.name())
                .with("from", from.as_str())
                .with("to", to.as_str())
                .with("pending", outlook.pending)
                .with("configuration", configuration)
                .with("problem", why)
                .with_list("locks", outlook.stalls.iter().map(stall))
                .with("notes", outlook.notes.iter().map(|note| note.text).collect::<Vec<_>>()),
        );
        Ok(())
    }

    /// The rehearsal of a database.
    pub fn rehearsal(
        &mut self,
        cx: &Context,
        args: &Upgrade,
        target: &Target,
        rehearsal: &Rehearsal,
    ) -> Result<()> {
        let rows = counted(usize::try_from(rehearsal.rows).unwrap_or(usize::MAX), "row");
        let place = target.in_words();
        let mut lines = vec![format!(
            "{}: rehearsed with {rows}: copied in {}, down for about {}",
            target.names(", "),
            seconds(rehearsal.dump + rehearsal.load),
            seconds(rehearsal.downtime())
        )];
        for one in &rehearsal.products {
            lines.push(format!("  {}: migrated in {}", one.product, seconds(one.took)));
            let slow = one.migrations.iter().filter(|migration| migration.took >= SLOW);
            lines.extend(slow.map(|migration| format!("    {}", in_words(migration))));
            lines.push(match &one.served {
                Ok((took, read)) if read.is_empty() => {
                    format!("  {}: serves the copy after {}", one.product, seconds(*took))
                }
                Ok((took, read)) => {
                    format!(
                        "  {}: serves the copy after {}, {} read",
                        one.product,
                        seconds(*took),
                        read.join(" and ")
                    )
                }
                Err(why) => format!("  {}: wasn't served: {why}", one.product),
            });
        }
        for (table, (before, after)) in &rehearsal.lost {
            lines.push(format!("  {place}: {table} has {after} of {before} rows afterwards"));
        }
        for line in lines {
            self.lines.push(line.clone());
            tell(cx, args, line)?;
        }
        self.downtime = Some(self.downtime.unwrap_or_default() + rehearsal.downtime());
        let lost = rehearsal.lost.iter().map(|(table, (before, after))| {
            Document::default().with("table", table.as_str()).with("before", *before).with("after", *after)
        });
        self.rehearsals.push(
            Document::default()
                .with("database", target.database())
                .with("schema", target.schema.as_deref())
                .with("rows", rehearsal.rows)
                .with("copy_seconds", number(rehearsal.dump + rehearsal.load))
                .with("downtime_seconds", number(rehearsal.downtime()))
                .with_list("products", rehearsal.products.iter().map(rehearsed))
                .with_list("lost", lost),
        );
        Ok(())
    }

    /// Remembers how it ends before the error comes that says so.
    pub fn ended_as(&mut self, result: &'static str) {
        self.result = Some(result);
    }

    /// How it ended with an error, which is kept where nothing has told why.
    pub fn failure(&mut self, error: &anyhow::Error) -> &'static str {
        let result = *self.result.get_or_insert("failed");
        if self.problem.is_none() && result != "planned" {
            self.problem = Some(format!("{error:#}"));
        }
        result
    }

    /// How long it will take, for a question.
    pub fn downtime_in_words(&self) -> String {
        let words = |time: Duration| format!(" Each server will be down for a part of {}.", seconds(time));
        self.downtime.map(words).unwrap_or_default()
    }

    /// Tells how it ended.
    pub fn end(&self, args: &Upgrade, result: &str) -> Result<()> {
        if let Some(file) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) {
            let lines = self.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let back = self.problem.iter().map(|why| format!("\n{why}\n")).collect::<String>();
            let text =
                format!("### Ory upgrade of {}: {result}\n\n```text\n{lines}```\n{back}", self.project);
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(&file);
            opened
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .with_context(|| format!("failed to write {}", file.to_string_lossy()))?;
        }
        if !args.json {
            return Ok(());
        }
        let document = Document::default()
            .with("project", self.project.as_str())
            .with("result", result)
            .with("problem", self.problem.as_deref().map(|why| self.out.named(why)))
            .with("downtime_seconds", self.downtime.map(number));
        let document = document.with_list("products", self.products.clone());
        let document = document.with_list("rehearsals", self.rehearsals.clone());
        Ok(Output::data(document.text())?)
    }
}

fn rehearsed(one: &Rehearsed) -> Document {
    let migration = |migration: &Watched| {
        let lock = |(table, mode): (&String, &String)| {
            Document::default().with("table", table.as_str()).with("mode", mode.as_str())
        };
        Document::default()
            .with("version", migration.version.as_str())
            .with("seconds", number(migration.took))
            .with_list("locks", migration.locks.iter().map(lock))
    };
    let served = one.served.as_ref();
    Document::default()
        .with("name", one.product.name())
        .with("seconds", number(one.took))
        .with("ready_seconds", served.ok().map(|(took, _)| number(*took)))
        .with("read", served.map(|(_, read)| read.clone()).unwrap_or_default())
        .with_list("migrations", one.migrations.iter().map(migration))
}

/// A migration that took long, with the tables that others had to wait for.
fn in_words(migration: &Watched) -> String {
    let locks = migration.locks.iter().filter_map(|(table, mode)| {
        lock_modes::keeps_out(mode).map(|who| format!("{table}: {who} ({mode})"))
    });
    let locks: Vec<_> = locks.collect();
    let time = format!("{}: {}", migration.version, seconds(migration.took));
    if locks.is_empty() { time } else { format!("{time}; {}", locks.join(", ")) }
}

fn number(time: Duration) -> Value {
    ((time.as_secs_f64() * 1000.0).round() / 1000.0).into()
}

fn told((major, minor, patch): Release) -> String {
    format!("v{major}.{minor}.{patch}")
}
