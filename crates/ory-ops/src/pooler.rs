//! What is between the products and PostgreSQL, as PgBouncer is: a service that DSNs name, and whose image has no psql. It is
//! asked from a container of our own, as a server elsewhere is, and knows no administrator.

use anyhow::Result;
use ory_stack::container::Container;
use ory_stack::image;
use ory_stack::service::Service;
use ory_stack::stack::Deployment;
use serde_json::Value;

use crate::context::{Context, work_file};
use crate::postgres;

/// The exit codes of `docker run` where the program is missing, or can't be run.
/// Source: <https://docs.docker.com/engine/containers/run/#exit-status>.
const NO_PROGRAM: [Option<i32>; 2] = [Some(126), Some(127)];

/// The service of a product's PostgreSQL; none where the server is elsewhere, or behind a pooler.
pub fn server_of<'a>(cx: &Context, deployment: &Deployment<'a>) -> Option<&'a Service> {
    deployment.server.filter(|service| !is_pooler(cx, service))
}

/// The same product past its pooler, where PostgreSQL itself is a service here and takes the same login: a pooler forwards
/// the databases that it was told, none that is made now, and between two transactions it keeps no lock.
pub fn past<'a>(cx: &'a Context, deployment: Deployment<'a>) -> Deployment<'a> {
    direct(cx, &deployment).unwrap_or(deployment)
}

/// The same; none where there is no pooler. PostgreSQL tells its own address, whoever is in between, and the engine whose
/// that is.
pub fn direct<'a>(cx: &'a Context, deployment: &Deployment<'a>) -> Option<Deployment<'a>> {
    if !deployment.server.is_some_and(|service| is_pooler(cx, service)) {
        return None;
    }
    const ASK: &str =
        "select json_build_array(host(inet_server_addr()), inet_server_port(), current_database());\n";
    let said = postgres::as_product(cx, deployment, &[]).ok()?.stdin(ASK).read(&cx.secrets).ok()?;
    let said: Value = serde_json::from_str(said.trim()).ok()?;
    let (address, port, database) =
        (said[0].as_str()?, said[1].as_u64()?.try_into().ok()?, said[2].as_str()?);
    let containers = cx.containers().ok()?;
    let is_its = |c: &&Container| c.is_running() && c.addresses.iter().any(|own| own == address);
    let service = cx.stack.services.get(&containers.iter().find(is_its)?.service)?;
    let dsn = deployment.dsn.at(&service.name, port).with_database(database);
    let configs = deployment.configs.clone();
    let direct = Deployment { dsn, configs, server: Some(service), ..*deployment };
    let ask = postgres::as_product(cx, &direct, &[]).ok()?.stdin("select 1;\n");
    (!is_pooler(cx, service) && ask.read(&cx.secrets).is_ok()).then_some(direct)
}

/// Whether the image of a service that a DSN names has no psql. One that can't be asked has.
pub fn is_pooler(cx: &Context, service: &Service) -> bool {
    let Some(name) = service.image.as_deref() else { return false };
    image::name(name) != "postgres" && !has_psql(cx, name).unwrap_or(true)
}

/// A fact of the image, asked once and kept by its id.
fn has_psql(cx: &Context, name: &str) -> Result<bool> {
    let Some(image) = cx.image(name)? else { return Ok(true) };
    let path = work_file(&format!("images/{}.psql", image.id))?;
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
