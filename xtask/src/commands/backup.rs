//! `backup`: a dump of each database, and with `--verify` the proof that it can be restored.

use anyhow::Result;

use crate::cli::Images;
use crate::data_args::{Backup, Folder};
use crate::plan::{self, Step};
use ory_environment::backup;
use ory_environment::context::{Context, Options};
use ory_environment::lock;
use ory_environment::postgres;
use ory_environment::replacement::Replacement;
use ory_environment::snapshot;
use ory_environment::store::{self, Store};
use ory_facts::backup::Dump;
use ory_stack::service::Service;
use xtask_runner::output::{Output, counted, size};

pub fn run(options: &Options, args: &Backup) -> Result<()> {
    let _lock = lock::acquire(options)?;
    let cx = super::context(options, &Images { stand_in: None })?;
    let _project = lock::acquire_project(&cx)?;
    let stores = store::of(&cx, &super::products(&cx, &args.products)?)?;
    start_servers(&cx, &stores)?;
    if options.dry_run {
        return stores.iter().try_for_each(|store| print_dump(&cx, store));
    }
    let made = backup::take(&cx, &stores.iter().collect::<Vec<_>>(), &folder(&cx, &args.folder))?;
    made.manifest.dumps.iter().for_each(|dump| cx.out.say(line(dump)));
    if args.verify {
        for (store, dump) in stores.iter().zip(&made.manifest.dumps) {
            made.check(&cx, dump)?;
            let mut replacement = Replacement::new(&cx, store)?;
            replacement.make()?;
            replacement.restore(dump, &made.path(dump))?;
            cx.out.say(format!("{}: restored and compared", dump.names()));
        }
    }
    Ok(Output::data(made.folder.display().to_string())?)
}

/// Where backups are.
pub fn folder(cx: &Context, folder: &Folder) -> std::path::PathBuf {
    folder.output.clone().unwrap_or_else(|| backup::folder(cx))
}

/// What a dump holds, in a line.
pub fn line(dump: &Dump) -> String {
    let contents = &dump.contents;
    format!(
        "{}: backed up {} in {} ({}, {})",
        dump.names(),
        counted(contents.total() as usize, "row"),
        counted(contents.rows.len(), "table"),
        counted(contents.versions.len(), "migration"),
        size(dump.bytes)
    )
}

/// Starts the servers that are services of the stack, where they don't run.
pub fn start_servers(cx: &Context, stores: &[Store]) -> Result<()> {
    let servers =
        stores.iter().flat_map(|store| &store.deployments).filter_map(|deployment| deployment.server);
    let mut servers: Vec<&Service> = servers.collect();
    servers.dedup_by(|a, b| a.name == b.name);
    let start = |server| Step::StartServer { server, recreate: false, meanwhile: vec![] };
    plan::execute(cx, &servers.into_iter().map(start).collect::<Vec<_>>())
}

/// The command line of a dump.
pub fn print_dump(cx: &Context, store: &Store) -> Result<()> {
    let place = postgres::place(cx, &cx.listed()?, store.main()?);
    let dump = snapshot::dump(cx, store, &place, "SNAPSHOT", false)?;
    Ok(Output::data(format!("{dump}  # dumps {}, in the snapshot that it is counted in", store.database()))?)
}
