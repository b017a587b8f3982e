//! What `restore` and `reset` do, as data: new databases, or schemas, filled beside what is there, and put in its place.
//! What fills one, and what stops its services, is done and printed by the same values.

use std::path::PathBuf;

use anyhow::Result;

use ory_facts::instance::Instance;
use ory_facts::manifest::Dump;
use ory_ops::context::Context;
use ory_ops::replace::replacement::Replacement;
use ory_ops::services;
use ory_ops::target::Target;
use ory_runner::output::size;

/// One that takes a place.
pub struct New<'a> {
    pub target: &'a Target<'a>,
    /// What it is filled with, in order.
    pub fills: Vec<Fill<'a>>,
}

/// Something that a new database is filled with.
pub enum Fill<'a> {
    /// A dump, which is compared with it afterwards. `is_own`: this stack has made it.
    Dump { dump: &'a Dump, path: PathBuf, is_own: bool },
    /// The rights of what is there.
    Rights,
    /// What its images carry. Where it isn't known whether that is more than it has, they aren't asked by a dry run.
    Migrations { are_known: bool },
}

impl New<'_> {
    /// Makes it, and fills it.
    pub fn make(&self, replacement: &mut Replacement) -> Result<()> {
        replacement.make()?;
        for fill in &self.fills {
            match fill {
                Fill::Dump { dump, path, is_own } => replacement.restore(dump, path, *is_own)?,
                Fill::Rights => replacement.copy_rights()?,
                Fill::Migrations { .. } => replacement.migrate()?,
            }
        }
        Ok(())
    }

    /// The dump that it is filled from, and whether this stack has made it.
    pub fn source(&self) -> (Option<&Dump>, bool) {
        let dump = self.fills.iter().find_map(|fill| match fill {
            Fill::Dump { dump, is_own, .. } => Some((Some(*dump), *is_own)),
            _ => None,
        });
        dump.unwrap_or((None, false))
    }

    /// What [`New::make`] does.
    fn lines(&self) -> Vec<String> {
        let name = self.target.in_words();
        let mut lines = vec![format!("# creates a new database next to {name}")];
        lines.extend(self.fills.iter().map(|fill| match fill {
            Fill::Dump { dump, .. } => {
                format!("# restores {} ({}) into it, and compares it", dump.file, size(dump.bytes))
            }
            Fill::Rights => format!("# gives it the rights of {name}"),
            Fill::Migrations { are_known: true } => "# lets the image migrate it".into(),
            Fill::Migrations { are_known: false } => {
                "# lets the image migrate it, if it carries more than the backup has".into()
            }
        }));
        lines
    }
}

/// The products whose services are stopped.
pub fn products(all: &[New]) -> Vec<Instance> {
    all.iter().flat_map(|new| &new.target.deployments).map(|deployment| deployment.product).collect()
}

/// The whole, as a dry run prints it. `stopped`: what is done while the services are stopped, before anything takes its
/// place; `fate`: what becomes of what was there.
pub fn lines(cx: &Context, all: &[New], stopped: Vec<String>, fate: &str) -> Result<Vec<String>> {
    let mut lines: Vec<_> = all.iter().flat_map(New::lines).collect();
    lines.extend(all.iter().filter(|new| new.target.schema.is_some()).map(|new| {
        let name = new.target.in_words();
        format!("# brings the new one from its database, beside {name}, and compares it")
    }));
    let stop = services::stop_command(cx, &services::serving(cx, &products(all))?);
    lines.extend(stop.iter().map(ToString::to_string));
    lines.extend(stopped);
    lines.extend(all.iter().map(|new| {
        let name = new.target.in_words();
        format!("# puts the new one in the place of {name}, which is {fate}")
    }));
    lines.extend(stop.map(|_| "# starts what was stopped, and waits until it is ready".into()));
    Ok(lines)
}
