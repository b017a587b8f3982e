//! What is between the products and PostgreSQL, as PgBouncer is: a service that DSNs name, and whose image has no psql. It is
//! asked from a container of our own, as a server elsewhere is, and knows no administrator.

use anyhow::Result;
use ory_stack::image;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::folders::work_file;

/// The exit codes of `docker run` where the program is missing, or can't be run.
/// Source: <https://docs.docker.com/engine/containers/run/#exit-status>.
const NO_PROGRAM: [Option<i32>; 2] = [Some(126), Some(127)];

/// The service of a product's PostgreSQL; none where the server is elsewhere, or behind a pooler.
pub fn server_of<'a>(cx: &Context, deployment: &Deployment<'a>) -> Option<&'a Service> {
    deployment.server.filter(|service| !is_pooler(cx, service))
}

/// Whether the image of a service that a DSN names has no psql. One that can't be asked has.
pub fn is_pooler(cx: &Context, service: &Service) -> bool {
    let Some(name) = service.image.as_deref() else { return false };
    image::name(name) != "postgres" && !has_psql(cx, name).unwrap_or(true)
}

/// A fact of the image, asked once and kept by its id.
fn has_psql(cx: &Context, name: &str) -> Result<bool> {
    let Some(image) = cx.image(name)? else { return Ok(true) };
    let path = work_file(&cx.options, &format!("images/{}.psql", image.id))?;
    if let Ok(kept) = std::fs::read_to_string(&path) {
        return Ok(kept != "no");
    }
    let ask = ["run", "--rm", "--network", "none", "--entrypoint", "psql", name, "--version"];
    let status = cx.engine.docker(ask).output()?.status;
    let kept = match status.code() {
        Some(0) => "yes",
        code if NO_PROGRAM.contains(&code) => "no",
        _ => return Ok(true),
    };
    std::fs::write(path, kept)?;
    Ok(kept == "yes")
}
