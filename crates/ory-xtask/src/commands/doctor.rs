//! `doctor`: every prerequisite, each ok, a warning or a failure, with what fixes it. It changes nothing.

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, switch};
use crate::doctor::{self, Report};
use ory_facts::document::Document;
use ory_ops::context::Options;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, table};
use ory_stack::checks::{Finding, Level};

pub struct Doctor {
    json: bool,
}

impl Arguments for Doctor {
    fn all() -> Vec<Arg> {
        vec![switch("json", "Print one JSON document")]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { json: typed.get_flag("json") }
    }
}

pub fn run(options: &Options, args: &Doctor) -> Result<()> {
    let mut report = doctor::examine(options);
    // They are data here.
    for text in report.findings.iter_mut().flat_map(Finding::texts) {
        *text = options.output.named(text);
    }
    if options.dry_run {
        return report.commands.iter().try_for_each(Output::data).map_err(Into::into);
    }
    if args.json {
        Output::data(document(&report).text())?;
    } else {
        print(&report.findings)?;
    }
    let failures: Vec<_> = report.findings.iter().filter(|finding| finding.is_failure()).collect();
    if failures.is_empty() {
        return Ok(());
    }
    let is_missing = failures.iter().any(|finding| finding.level == Level::Missing);
    let exit = if is_missing { Exit::Missing } else { Exit::Failed };
    bail!(
        Failure::new(exit, counted(failures.len(), "failure")).hint("fix the first one, then run this again")
    )
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Failure | Level::Missing => "failure",
    }
}

/// A line each, and what fixes it on another one.
fn print(findings: &[Finding]) -> Result<()> {
    let row = |finding: &Finding| {
        vec![word(finding.level).to_string(), finding.subject.clone(), doctor::shown(&finding.message)]
    };
    let rows: Vec<_> = findings.iter().map(row).collect();
    for (finding, line) in findings.iter().zip(table(&rows)) {
        Output::data(line)?;
        if let Some(fix) = &finding.fix {
            Output::data(format!("         fix: {}", doctor::shown(fix)))?;
        }
    }
    Ok(())
}

/// The shape is documented in the guide, and kept by a test.
fn document(report: &Report) -> Document {
    let finding = |finding: &Finding| {
        Document::default()
            .with("level", word(finding.level))
            .with("check", finding.check)
            .with("subject", finding.subject.as_str())
            .with("message", finding.message.as_str())
            .with("fix", finding.fix.as_deref())
    };
    let project = Document::default().with("project", report.project.as_deref());
    project.with_list("findings", report.findings.iter().map(finding))
}
