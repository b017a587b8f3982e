//! The same stack with other images of some services, as Compose resolves it with a file over the stack's own: to ask an
//! image, and to try it, while no file of the stack names it.

use std::path::Path;

use anyhow::{Context as _, Result};
use ory_stack::env_file;
use ory_stack::service::scalar;
use serde_json::Value;

use crate::context::Context;
use crate::engine::{Engine, read_config};
use crate::folders::{files_of_stack, work_file};
use crate::image_pin::Images;

/// The stack with these images.
pub fn context(cx: &Context, images: &Images) -> Result<Context> {
    let file = work_file(&cx.options, &format!("images/{}-over.yml", cx.stack.project))?;
    let files = files_of_stack(&cx.dir);
    // docker-compose 1.29 takes a file over another one only where both have the same version.
    let version =
        files.first().and_then(|file| version_of(file)).map(|version| format!("version: '{version}'\n"));
    // JSON is YAML.
    let service = |(name, image): (&String, &String)| {
        format!("  {}: {{image: {}}}\n", Value::from(name.as_str()), Value::from(image.as_str()))
    };
    let services: String = images.iter().map(service).collect();
    let text = format!("{}services:\n{services}", version.unwrap_or_default());
    std::fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    let separator = env_file::setting(&cx.dir, "COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".into());
    let all: Vec<_> = files.iter().chain([&file]).map(|file| file.display().to_string()).collect();
    let settings = [cx.settings.clone(), vec![("COMPOSE_FILE".into(), all.join(&separator))]].concat();
    Context::with(&cx.options, settings, |dir, env| Engine::find(&cx.options, dir, env))
}

fn version_of(file: &Path) -> Option<String> {
    scalar(&read_config(&std::fs::read_to_string(file).ok()?).ok()?["version"])
}
