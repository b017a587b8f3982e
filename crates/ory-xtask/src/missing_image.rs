//! What is to be typed where an image can't be had: its variable, a stand-in where the stack takes one, or the services
//! that do without it.

use ory_facts::next::XTASK;
use ory_facts::product::Product;
use ory_facts::sorted::Sorted;
use ory_ops::context::Context;
use ory_runner::process::quote;
use ory_stack::env_file;
use ory_stack::service::{Service, scalar};

/// The next command.
pub fn hint(cx: &Context, image: &str) -> String {
    let raw = cx.engine.uninterpolated();
    let written = |service: &str| scalar(&raw["services"][service]["image"]).unwrap_or_default();
    let uses = |service: &&Service| service.image.as_deref() == Some(image);
    let users: Vec<_> = cx.stack.services.values().filter(uses).collect();
    let name = match users.iter().find_map(|service| variable(&written(&service.name))) {
        Some(name) => format!("name one that can be had, in .env ({name})"),
        None => {
            let names: Vec<_> = users.iter().map(|service| service.name.as_str()).collect();
            format!("name one that can be had, at `image:` of {}", names.join(" and "))
        }
    };
    let takes_stand_in = |product: &Product| {
        let variable = format!("{}_IMAGE", product.name().to_uppercase());
        let members = cx.stack.members(*product).unwrap_or_default();
        let mut serving = members.iter().flat_map(|members| &members.serve);
        serving.all(|service| env_file::uses(&written(&service.name), &variable))
    };
    let is_any = cx.stack.products().is_ok_and(|products| !products.is_empty());
    if is_any && Product::ALL.iter().all(takes_stand_in) {
        return format!("{name}, or try it without a registry: {XTASK} up --stand-in");
    }
    let absent = users.iter().map(|service| service.name.as_str()).into_set();
    let does_without = |service: &&Service| {
        let all = cx.stack.with_dependencies(vec![*service]);
        all.iter().all(|service| !absent.contains(service.name.as_str()))
    };
    let others: Vec<_> = cx.stack.services.values().filter(does_without).map(|s| quote(&s.name)).collect();
    if others.is_empty() {
        name
    } else {
        format!("{name}, or do without it: {XTASK} up {}", others.join(" "))
    }
}

/// The variable that an image's name comes from.
fn variable(written: &str) -> Option<String> {
    let (_, rest) = written.split_once('$')?;
    let rest = rest.trim_start_matches('{');
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then(|| rest[..end].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_an_image_is_read() {
        let read = |written| variable(written);
        assert_eq!(read("${KRATOS_IMAGE:-oryd/kratos:v26.2.0}").as_deref(), Some("KRATOS_IMAGE"));
        assert_eq!(read("oryd/kratos:$TAG").as_deref(), Some("TAG"));
        assert_eq!((read("oryd/kratos:v1"), read("a$$")), (None, None));
    }
}
