//! Secrets of a new environment, which must not be new to data that is there.

use anyhow::{Result, bail};

use ory_ops::context::{Context, Options};
use ory_ops::engine::Engine;
use ory_ops::external_data;
use ory_ops::folders::stack_directory;
use ory_ops::lock::FolderLock;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted};

/// Writes the secrets of a new environment, in which these services are asked for. Nothing is started before.
pub fn write(_folder: &FolderLock, options: &Options, services: &[String]) -> Result<()> {
    let env = Engine::env_file(options, &stack_directory(options)?)?;
    let missing = env.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(", ");
    if options.dry_run {
        return Ok(Output::data(format!("# writes {names} to .env"))?);
    }
    let cx = Context::with_placeholders(options, vec![])?;
    cx.stack.services(services)?;
    refuse_for_old_data(&cx, &names)?;
    let mode = env.write_missing()?;
    let secrets = counted(missing.len(), "new random secret");
    cx.out.say(format!(".env: written, with {secrets} (mode {mode:04o})"));
    Ok(())
}

/// What was encrypted with the old secrets can't be read with new ones.
pub fn refuse_for_old_data(cx: &Context, missing: &str) -> Result<()> {
    let volumes = cx.engine.volumes(&cx.stack.project)?;
    let outside = external_data::places(cx, &volumes)?;
    if volumes.is_empty() && outside.is_empty() {
        return Ok(());
    }
    let own = (!volumes.is_empty()).then(|| format!("volume {}", volumes.join(", ")));
    let places: Vec<_> = own.into_iter().chain(outside.iter().map(ToString::to_string)).collect();
    let message = format!(
        "this stack has data ({}), but .env lacks its {missing}: new secrets could not read it",
        places.join(", ")
    );
    let goes = match outside.iter().find(|place| !place.is_removed) {
        Some(place) => format!("if its data may be deleted, empty the {place}"),
        None => "if the data may be deleted: {XTASK} down --volumes".into(),
    };
    let hint = format!("put the old .env back; or, {goes}");
    bail!(Failure::new(Exit::Missing, message).hint(hint))
}
