//! The release of a product's image: what its program says, and what is known of it without asking.

use ory_facts::product::{Release, parse_release};
use ory_stack::image;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::image_version::{self, Identity};

/// The release of a product's image: none where it doesn't say one.
pub fn of(cx: &Context, deployment: &Deployment) -> Option<Release> {
    of_image(cx, deployment, deployment.migrate.image.as_deref()?)
}

/// The same of another image of the product.
pub fn of_image(cx: &Context, deployment: &Deployment, name: &str) -> Option<Release> {
    let image = cx.image(name).ok()??;
    let program = deployment.migrate.program(deployment.product.kind);
    match image_version::of(&cx.engine, &cx.options, deployment.product.kind, &image, &program)? {
        Identity::Version(version) => parse_release(&version),
        Identity::Other => None,
    }
}

/// What is known of a product's image without asking it: what it said before, else the tag of an image of Ory's own.
pub fn known(cx: &Context, deployment: &Deployment) -> Option<Release> {
    let name = deployment.migrate.image.as_deref()?;
    let image = cx.image(name).ok().flatten();
    if let Some(identity) =
        image.as_ref().and_then(|image| image_version::kept(&cx.options, deployment.product.kind, &image.id))
    {
        return match identity {
            Identity::Version(version) => parse_release(&version),
            Identity::Other => None,
        };
    }
    let is_true = image::is_orys(name) || image.is_some_and(|image| image.stand_in.is_some());
    // Beside a digest, a tag is only a remark.
    parse_release(image::tag(name)?).filter(|_| is_true && !name.contains('@'))
}
