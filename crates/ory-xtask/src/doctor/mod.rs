//! What `doctor` finds out: the checks of `ory-facts`, and what the system, the engine and PostgreSQL say.

mod errors;
mod ports;
mod questions;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::new_secrets;
use errors::of_error;
use ory_facts::next::XTASK;
use ory_ops::context::{Context, Options};
use ory_ops::engine::{Engine, Found};
use ory_ops::folders::stack_directory;
use ory_runner::failure::Failure;
use ory_runner::output::counted;
use ory_stack::checks::{CHECKS, Finding};
use ory_stack::service::Service;

/// Everything that was found, in the order in which it is printed.
#[derive(Default)]
pub struct Report {
    pub project: Option<String>,
    pub findings: Vec<Finding>,
    /// What a dry run would run beside a look at the stack.
    pub commands: Vec<String>,
    /// Where the daemon keeps everything; none while it can't be asked.
    daemon: Option<PathBuf>,
}

/// Looks at everything. What can't be looked at for want of something else is left out, after its failure.
pub fn examine(options: &Options) -> Report {
    let mut report = Report::default();
    let dir = match stack_directory(options) {
        Ok(dir) => dir,
        Err(error) => {
            report.error("folder", &error);
            return report;
        }
    };
    let settings = settings(options, &dir);
    let found = match &settings {
        Ok((_, settings)) => {
            Context::with(options, settings.clone(), |dir, env| report.engine(options, dir, env)).map(Some)
        }
        Err(_) => report.engine(options, &dir, &[]).map(|_| None),
    };
    match &settings {
        Ok((text, _)) => report.findings.extend(text.clone().map(|text| Finding::ok("env", text))),
        Err(error) => report.error("env", error),
    }
    match found {
        Ok(cx) => cx.iter().for_each(|cx| report.stack(cx)),
        // The engine's own failure is the first line; what Compose can't do comes after it.
        Err(error) if report.findings.iter().any(|finding| finding.check == "engine") => {
            report.error("compose", &error);
        }
        Err(error) => {
            report.findings.insert(0, Finding { check: "engine", ..of_error("engine", &error) });
        }
    }
    report
}

/// Variables, by name and value.
type Settings = Vec<(String, String)>;

/// What is so of `.env`, where it is to have secrets, and what stands for those that `up` will write.
fn settings(options: &Options, dir: &Path) -> Result<(Option<String>, Settings)> {
    let file = Engine::env_file(options, dir)?;
    let missing = file.placeholders();
    file.check(&missing)?;
    let text = match (file.wanted(), missing.len()) {
        (0, _) => None,
        (wanted, 0) => Some(format!(".env has {}", counted(wanted, "secret"))),
        (_, missing) => Some(format!("`{XTASK} up` writes {} to .env", counted(missing, "secret"))),
    };
    Ok((text, missing))
}

impl Report {
    /// Adds what a check found; nothing found is a line of its own.
    fn add(&mut self, check: &'static str, ok: impl Into<String>, found: Vec<Finding>) {
        if found.is_empty() {
            self.findings.push(Finding::ok(check, ok));
        }
        self.findings.extend(found.into_iter().map(|finding| Finding { check, ..finding }));
    }

    fn error(&mut self, check: &'static str, error: &anyhow::Error) {
        self.findings.push(Finding { check, ..of_error(check, error) });
    }

    fn engine(&mut self, options: &Options, dir: &Path, env: &[(String, String)]) -> Result<Found> {
        let (listed, found) = Engine::search(options, dir, env)?;
        let (engine, resolved) = match (&listed, found) {
            (Err(error), found) => {
                self.error("engine", error);
                found?
            }
            (Ok(_), Ok((engine, resolved))) => {
                match engine.info() {
                    Ok((version, folder)) => {
                        self.add("engine", format!("Docker {version} answers"), vec![]);
                        self.daemon = Some(folder);
                    }
                    Err(error) => self.error("engine", &error),
                }
                (engine, resolved)
            }
            (Ok(_), Err(error)) => {
                self.add("engine", "Docker answers", vec![]);
                return Err(error);
            }
        };
        let version = engine.compose_version().unwrap_or_default();
        self.add("compose", format!("{} {version}", engine.compose([])), vec![]);
        Ok(Found { engine, resolved, listed: listed.unwrap_or_default() })
    }

    fn stack(&mut self, cx: &Context) {
        self.project = Some(cx.stack.project.clone());
        let unset = cx.engine.unset.iter().map(|name| {
            let message = "it is not set: Compose uses an empty string";
            Finding::warning(name, message, format!("write it to .env: {name}=VALUE, or fix its name"))
        });
        let read = if cx.engine.env_files.is_empty() {
            "each that the stack names is set".into()
        } else {
            cx.env_files_in_words()
        };
        self.add("variables", read, unset.collect());
        let view = cx.stack.view();
        for check in CHECKS {
            self.add(check.name, check.ok, check.run(&view));
        }
        if let (Ok([]), Err(error)) = (cx.stack.products().as_deref(), cx.require_products()) {
            self.error("stack", &error);
        }
        let products = cx.stack.products().unwrap_or_else(|error| {
            self.error("stack", &error);
            vec![]
        });
        for product in products {
            let Err(error) = cx.stack.deployment(product) else { continue };
            // What stops every command, unless a check has said it already.
            let deployed = view.products.iter().filter(|deployed| deployed.product == product);
            let mut names = deployed.flat_map(|deployed| deployed.services()).map(|service| &service.name);
            let failed = |name: &String| {
                self.findings.iter().any(|found| found.is_failure() && found.subject == *name)
            };
            if !names.any(failed) {
                self.error("stack", &error);
            }
        }
        if let Some(folder) = self.daemon.clone()
            && let Err(error) = self.daemon(cx, &folder)
        {
            self.error("engine", &error);
        }
    }

    /// What needs the daemon.
    fn daemon(&mut self, cx: &Context, folder: &Path) -> Result<()> {
        if !cx.settings.is_empty() {
            let names: Vec<_> = cx.settings.iter().map(|(name, _)| name.as_str()).collect();
            if let Err(error) = new_secrets::refuse_for_old_data(cx, &names.join(", ")) {
                self.findings.retain(|finding| finding.check != "env");
                self.error("env", &error);
            }
        }
        if !cx.stack.external.is_empty() && !cx.options.dry_run {
            match cx.engine.require_external(&cx.stack.external) {
                Ok(()) => self.add("external", "its networks and volumes of elsewhere are there", vec![]),
                Err(error) => self.error("external", &error),
            }
        }
        let containers = cx.containers()?;
        let groups = questions::groups(cx, &containers, folder)?;
        if cx.options.dry_run {
            self.commands = groups.iter().flat_map(questions::Group::lines).collect();
            self.commands.extend(state::lines(cx)?);
            return Ok(());
        }
        for (check, ok, found) in questions::answers(groups) {
            self.add(check, ok, found);
        }
        self.add("ports", questions::if_here(cx, "free, or this stack's own"), ports::check(cx, &containers));
        let (ok, found) = state::services(cx, &containers);
        self.add("services", ok, found);
        if let Some(found) = state::databases(cx, &containers) {
            self.add("logins", "each product can use its database, and no index of it is invalid", found);
        }
        Ok(())
    }
}

/// A text with the paths below the current folder as they can be typed here.
pub fn shown(text: &str) -> String {
    let here = std::env::current_dir().map(|dir| format!("{}/", dir.display())).unwrap_or_default();
    if here.len() > 1 { text.replace(&here, "") } else { text.into() }
}

/// The part that costs nothing, before `up` starts anything: a failure stops it; a warning is shown where data
/// would be lost. Where nothing is wrong, no program is started.
pub fn before_up(cx: &Context, services: &[&Service]) -> Result<()> {
    let view = cx.stack.view();
    let is_asked = |finding: &Finding| services.iter().any(|service| service.name == finding.subject);
    let mut failures = Vec::new();
    for check in CHECKS {
        for finding in check.run(&view).into_iter().filter(is_asked) {
            if finding.is_failure() {
                failures.push(finding);
            } else if check.hurts {
                let Finding { subject, message, fix, .. } = finding;
                cx.out.warn(format!("{subject}: {message}; {}", fix.unwrap_or_default()));
            }
        }
    }
    if !cx.options.dry_run {
        let readable = questions::readable(cx)?;
        let answers = questions::answers(vec![readable]).into_iter().flat_map(|(_, _, found)| found);
        failures.extend(answers.filter(|finding| finding.is_failure() && is_asked(finding)));
        failures.extend(ports::held_by_processes(cx, services));
    }
    let more = failures.len().saturating_sub(1);
    let Some(first) = failures.into_iter().next() else { return Ok(()) };
    let hint = first.fix.clone().unwrap_or_default();
    let failure = Failure::from(first);
    bail!(match more {
        0 => failure,
        more => failure.hint(format!("{hint}; `{XTASK} doctor` shows {more} more")),
    })
}
