//! Other images named in the stack's files, each in the one place that says it. Compose is asked what it makes of that: only
//! where nothing but these images changes is it as meant.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ory_facts::sorted::Sorted;
use ory_runner::failure::{Exit, Failure};
use ory_stack::env_file;
use ory_stack::image::tag;
use ory_stack::pin::{self, Scalar};
use ory_stack::private_file::{self, Readers};
use ory_stack::service::scalar;
use yaml_rust2::Yaml;

use crate::context::Context;
use crate::engine::read_config;
use crate::folders::files_of_stack;

/// The images that services are to have, by the names of the services.
pub type Images = BTreeMap<String, String>;

/// A file, and what is to stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub file: PathBuf,
    before: String,
    after: String,
}

impl Edit {
    /// Whether its file is as it left it.
    pub fn stands(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text == self.after)
    }

    /// Writes it, unless somebody has changed the file meanwhile.
    fn make(&self) -> Result<()> {
        if current(&[], &self.file)? != self.before {
            let message = format!("{} was changed meanwhile, so it isn't written", self.file.display());
            bail!(Failure::new(Exit::Failed, message).hint("see to it, then run this again"));
        }
        self.write(&self.after)
    }

    fn write(&self, text: &str) -> Result<()> {
        private_file::replace(&self.file, text, Readers::Kept)
    }

    /// The edit that undoes this one.
    pub fn undone(&self) -> Self {
        Self { file: self.file.clone(), before: self.after.clone(), after: self.before.clone() }
    }

    /// The first line that changes, as it will be.
    pub fn line(&self) -> String {
        let before: Vec<_> = self.before.lines().collect();
        let new = self.after.lines().enumerate().find(|(at, line)| before.get(*at) != Some(line));
        new.map(|(_, line)| line.trim().to_string()).unwrap_or_default()
    }
}

/// Whether the stack names all of these images.
pub fn are_named(cx: &Context, images: &Images) -> bool {
    images.iter().all(|pair| is_named(cx, pair))
}

fn is_named(cx: &Context, (name, image): (&String, &String)) -> bool {
    cx.stack.services.get(name).is_some_and(|service| service.image.as_ref() == Some(image))
}

/// The edits by which these services get these images. Nothing is written. Fails with the lines to edit by hand where the
/// place can't be told for sure.
pub fn edits(cx: &Context, wanted: &Images) -> Result<Vec<Edit>> {
    let left: Vec<_> = wanted.iter().filter(|pair| !is_named(cx, *pair)).collect();
    let files = files_of_stack(&cx.dir);
    let mut edits: Vec<Edit> = vec![];
    let mut variables: Vec<(String, String)> = vec![];
    for (name, image) in left {
        let found = match place(&files, name) {
            Some(place) if place.variables().is_empty() => literal(&mut edits, &place.file, name, image)?,
            // One variable may be several services'.
            Some(place) if variables.iter().any(|(known, _)| env_file::uses(&place.text, known)) => true,
            Some(place) => match variable(cx, &place, &variables, name, image, wanted)? {
                Some(pair) => set(cx, &mut edits, &mut variables, pair)?,
                None => false,
            },
            None => false,
        };
        if !found {
            bail!(by_hand(&files, wanted));
        }
    }
    Ok(edits)
}

/// Writes the edits, and sees that Compose takes them as meant. Otherwise every file is as it was before, and this fails.
pub fn write(cx: &Context, edits: &[Edit], wanted: &Images) -> Result<()> {
    let is_as_meant = |after: &str| {
        Ok(only_images_differ(&cx.resolved, after, wanted)?
            && images(&read_config(after)?) == expected(cx, wanted)?)
    };
    if write_if(cx, edits, is_as_meant)? {
        return Ok(());
    }
    bail!(by_hand(&files_of_stack(&cx.dir), wanted))
}

/// Writes the edits, and sees whether what Compose makes of them is as meant. Otherwise every file is as it was before.
pub(crate) fn write_if(
    cx: &Context,
    edits: &[Edit],
    is_as_meant: impl Fn(&str) -> Result<bool>,
) -> Result<bool> {
    let written = || -> Result<bool> {
        edits.iter().try_for_each(Edit::make)?;
        is_as_meant(&cx.engine.compose(["config"]).read()?)
    };
    cx.options.interrupt.clean_up(|| {
        let outcome = written();
        if !matches!(outcome, Ok(true)) {
            undo(edits)?;
        }
        outcome
    })
}

/// Puts back what the files had before some edits, where they have been written and nobody has changed them since.
pub fn undo(edits: &[Edit]) -> Result<()> {
    edits.iter().filter(|edit| edit.stands()).try_for_each(|edit| edit.write(&edit.before))
}

/// The place that says a service's image. Of several files, the last one counts.
fn place(files: &[PathBuf], service: &str) -> Option<Scalar> {
    let mut found = files.iter().rev().filter_map(|file| {
        pin::scalar_at(file, &fs::read_to_string(file).ok()?, &["services", service, "image"])
    });
    found.next()
}

/// Changes a literal. Whether it could.
fn literal(edits: &mut Vec<Edit>, file: &Path, service: &str, image: &str) -> Result<bool> {
    let text = current(edits, file)?;
    let scalar = pin::scalar_at(file, &text, &["services", service, "image"]);
    let Some(after) = scalar.and_then(|scalar| scalar.replaced(&text, image)) else { return Ok(false) };
    put(edits, file, after)?;
    Ok(true)
}

/// The variable that gives a service its image, and the value with which it gives this one, and no other service any image
/// that it isn't to have. Compose is asked, with the variable in its environment.
fn variable(
    cx: &Context,
    place: &Scalar,
    known: &[(String, String)],
    service: &str,
    image: &str,
    wanted: &Images,
) -> Result<Option<(String, String)>> {
    let tag = tag(image).unwrap_or_default();
    for name in place.variables() {
        for value in [image, tag, tag.trim_start_matches('v')] {
            let pair = (name.to_string(), value.to_string());
            let all = known.iter().cloned().chain([pair.clone()]);
            let Ok(text) = cx.engine.compose(["config"]).envs(all).read() else { continue };
            let now = images(&read_config(&text)?);
            if now.get(service).map(String::as_str) == Some(image)
                && only_images_differ(&cx.resolved, &text, wanted)?
            {
                return Ok(Some(pair));
            }
        }
    }
    Ok(None)
}

/// Sets a variable where it is set now. Whether it could: the environment goes before every file.
fn set(
    cx: &Context,
    edits: &mut Vec<Edit>,
    variables: &mut Vec<(String, String)>,
    (name, value): (String, String),
) -> Result<bool> {
    let usual = [cx.dir.join(".env")];
    let files = if cx.engine.env_files.is_empty() { &usual[..] } else { &cx.engine.env_files };
    let has = |file: &&PathBuf| env_file::value_in(file, &name).is_some();
    // Of several, the later one counts.
    let Some(file) = files.iter().rev().find(has).or(files.last()) else { return Ok(false) };
    let text = current(edits, file)?;
    let old = env_file::value_in(file, &name).unwrap_or_default();
    let after = pin::set_variable(&text, &name, &old, &value).filter(|_| std::env::var_os(&name).is_none());
    let Some(after) = after else { return Ok(false) };
    put(edits, file, after)?;
    variables.push((name, value));
    Ok(true)
}

/// What stands in a file after the edits so far.
pub(crate) fn current(edits: &[Edit], file: &Path) -> Result<String> {
    match edits.iter().find(|edit| edit.file == file) {
        Some(edit) => Ok(edit.after.clone()),
        None if file.exists() => {
            fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
        }
        None => Ok(String::new()),
    }
}

/// Adds the edit that leaves a file so.
pub(crate) fn put(edits: &mut Vec<Edit>, file: &Path, after: String) -> Result<()> {
    let before = current(&[], file)?;
    edits.retain(|edit| edit.file != file);
    edits.push(Edit { file: file.into(), before, after });
    Ok(())
}

/// The image of each service of a configuration.
fn images(config: &Yaml) -> Images {
    let services = config["services"].as_hash().into_iter().flatten();
    services.filter_map(|(name, service)| Some((scalar(name)?, scalar(&service["image"])?))).into_map()
}

/// The images of all services, of these as they are to be.
fn expected(cx: &Context, wanted: &Images) -> Result<Images> {
    let mut all = images(&read_config(&cx.resolved)?);
    all.extend(wanted.clone());
    Ok(all)
}

/// Whether two configurations differ in nothing but images that services are to have.
fn only_images_differ(before: &str, after: &str, wanted: &Images) -> Result<bool> {
    let [before, after] = [read_config(before)?, read_config(after)?];
    let [old, new] = [images(&before), images(&after)];
    let is_meant =
        |(name, image): (&String, &String)| old.get(name) == Some(image) || wanted.get(name) == Some(image);
    Ok(new.iter().all(is_meant) && without_images(before) == without_images(after))
}

fn without_images(config: Yaml) -> Yaml {
    let Yaml::Hash(mut config) = config else { return config };
    let services = config.get_mut(&Yaml::String("services".into()));
    if let Some(Yaml::Hash(services)) = services {
        for (_, service) in services.iter_mut() {
            if let Yaml::Hash(service) = service {
                service.remove(&Yaml::String("image".into()));
            }
        }
    }
    Yaml::Hash(config)
}

/// What a person is to do where the place can't be told for sure.
fn by_hand(files: &[PathBuf], wanted: &Images) -> Failure {
    let each = wanted.iter().map(|(service, image)| match place(files, service) {
        Some(place) => {
            let text = fs::read_to_string(&place.file).unwrap_or_default();
            format!(
                "{}:{}: `{}`, so that {service} has {image}",
                place.file.display(),
                place.line(&text),
                place.text
            )
        }
        None => format!("the image of the service {service}, so that it is {image}"),
    });
    let each: Vec<_> = each.collect();
    Failure::new(
        Exit::Failed,
        "where the stack's files name the image can't be told for sure, so nothing was changed",
    )
    .hint(format!("edit {}; then {{XTASK}} upgrade", each.join("; ")))
}
