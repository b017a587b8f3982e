//! The way to PostgreSQL past a pooler: a pooler forwards the databases that it was told, none that is made now, and between
//! two transactions it keeps no lock.

use ory_stack::container::Container;
use ory_stack::stack::Deployment;
use serde_json::Value;

use crate::context::Context;
use crate::pooler::is_pooler;
use crate::postgres;

/// The same product past its pooler, where PostgreSQL itself is a service here and takes the same login.
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
    let said = postgres::as_product(cx, deployment, &[]).ok()?.stdin(ASK).read().ok()?;
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
    (!is_pooler(cx, service) && ask.read().is_ok()).then_some(direct)
}
