//! The image of a database server, and where its volume is mounted, named in the stack's files: each in its one place, and
//! only if Compose then says that nothing else has changed.

use anyhow::{Result, bail};
use ory_runner::failure::{Exit, Failure};
use ory_stack::data_mount::{Place, moved};
use ory_stack::pin;
use ory_stack::service::Service;
use yaml_rust2::Yaml;

use super::kept::End;
use crate::context::Context;
use crate::engine::read_config;
use crate::folders::files_of_stack;
use crate::image_pin::{self, Edit, Images};

/// How many volumes of a service are looked at.
const ITEMS: usize = 50;

/// The edits by which a server gets the image and the mount of one end of its upgrade; none where it has them. Nothing is
/// written. Fails with what to edit by hand where the place can't be told for sure.
pub fn edits(cx: &Context, service: &Service, from: &Place, to: &End) -> Result<Vec<Edit>> {
    let wanted = Images::from([(service.name.clone(), to.image.clone())]);
    let mut edits = image_pin::edits(cx, &wanted)?;
    let has = |target: &str| service.mounts.iter().any(|mount| mount.target.trim_end_matches('/') == target);
    if from.target == to.place.target || has(&to.place.target) {
        return Ok(edits);
    }
    let (old, new) = (&from.target, &to.place.target);
    let mut found = vec![];
    for file in files_of_stack(&cx.dir) {
        let text = image_pin::current(&edits, &file)?;
        for item in (0..ITEMS).map(|item| item.to_string()) {
            let path = ["services", service.name.as_str(), "volumes", item.as_str()];
            let short =
                pin::scalar_at(&file, &text, &path).and_then(|s| Some((moved(&s.text, old, new)?, s)));
            let long = || pin::scalar_at(&file, &text, &[&path[..], &["target"]].concat());
            let long = || long().filter(|s| s.text.trim_end_matches('/') == old).map(|s| (new.clone(), s));
            if let Some((value, scalar)) = short.or_else(long) {
                found.extend(scalar.replaced(&text, &value).map(|after| (file.clone(), after)));
            }
        }
    }
    match <[_; 1]>::try_from(found) {
        Ok([(file, after)]) => image_pin::put(&mut edits, &file, after)?,
        Err(_) => bail!(by_hand(service, old, to)),
    }
    Ok(edits)
}

/// Writes them, and sees that Compose takes them as meant.
pub fn write(cx: &Context, edits: &[Edit], service: &Service, from: &Place, to: &End) -> Result<()> {
    if edits.is_empty() {
        return Ok(());
    }
    let before = expected(read_config(&cx.resolved)?, &service.name, from, to);
    if image_pin::write_if(cx, edits, |after| Ok(read_config(after)? == before))? {
        return Ok(());
    }
    bail!(by_hand(service, &from.target, to))
}

/// A configuration in which a service has this image and this mount.
fn expected(mut config: Yaml, service: &str, from: &Place, to: &End) -> Yaml {
    let key = |name: &str| Yaml::String(name.into());
    let services = config.as_mut_hash().and_then(|config| config.get_mut(&key("services")));
    let own = services.and_then(|services| services.as_mut_hash()?.get_mut(&key(service)));
    let Some(Yaml::Hash(service)) = own else { return config };
    // Where they are: what is inserted comes last, and the order counts.
    service.get_mut(&key("image")).into_iter().for_each(|image| *image = key(&to.image));
    if let Some(Yaml::Array(volumes)) = service.get_mut(&key("volumes")) {
        for volume in volumes {
            match volume {
                Yaml::Hash(long) => {
                    if let Some(target) = long.get_mut(&key("target"))
                        && target.as_str().is_some_and(|text| text.trim_end_matches('/') == from.target)
                    {
                        *target = key(&to.place.target);
                    }
                }
                Yaml::String(short) => {
                    if let Some(text) = moved(short, &from.target, &to.place.target) {
                        *short = text;
                    }
                }
                _ => {}
            }
        }
    }
    config
}

/// What a person is to do where the place can't be told for sure.
fn by_hand(service: &Service, target: &str, to: &End) -> Failure {
    let message = "where the stack's files name the image, or mount the volume, can't be told for sure: nothing is changed";
    let mount = match target == to.place.target {
        true => String::new(),
        false => format!(", and the volume that it has at {target} is at {}", to.place.target),
    };
    let hint =
        format!("edit them so that `{}` has the image {}{mount}; then this again", service.name, to.image);
    Failure::new(Exit::Failed, message).hint(hint)
}
