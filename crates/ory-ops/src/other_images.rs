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
    let service = |(name, image): (&String, &String), labels: &dyn Fn(&str) -> String| {
        let [key, image] = [name, image].map(|text| Value::from(text.as_str()));
        format!("  {key}: {{image: {image}{}}}\n", labels(name))
    };
    let write = |labels: &dyn Fn(&str) -> String| {
        let services: String = images.iter().map(|pair| service(pair, labels)).collect();
        let text = format!("{}services:\n{services}", version.as_deref().unwrap_or_default());
        std::fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
    };
    let separator = env_file::setting(&cx.dir, "COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".into());
    let all: Vec<_> = files.iter().chain([&file]).map(|file| file.display().to_string()).collect();
    let settings = [cx.settings.clone(), vec![("COMPOSE_FILE".into(), all.join(&separator))]].concat();
    let find =
        || Context::with(&cx.options, settings.clone(), |dir, env| Engine::find(&cx.options, dir, env));
    if !cx.engine.is_v1 && images.keys().any(|name| tells_others(cx, name)) {
        write(&|name| own_labels(cx, name))?;
        // A Compose before 2.24 doesn't know how.
        if let Ok(new) = find() {
            return Ok(new);
        }
    }
    write(&|_| String::new())?;
    find()
}

/// Whether a service has labels by which others know it, such as a proxy that would send it what is for the server.
pub fn tells_others(cx: &Context, service: &str) -> bool {
    cx.stack.services.get(service).is_some_and(|service| service.labels.keys().any(|name| !is_own(name)))
}

fn is_own(label: &str) -> bool {
    label.starts_with("xtask.")
}

/// What leaves a service none but our own labels.
fn own_labels(cx: &Context, service: &str) -> String {
    let labels = cx.stack.services.get(service).map(|service| &service.labels).into_iter().flatten();
    let own = labels.filter(|(name, _)| is_own(name));
    let own: Vec<_> = own
        .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), Value::from(value.as_str())))
        .collect();
    format!(", labels: !override {{{}}}", own.join(", "))
}

fn version_of(file: &Path) -> Option<String> {
    scalar(&read_config(&std::fs::read_to_string(file).ok()?).ok()?["version"])
}
