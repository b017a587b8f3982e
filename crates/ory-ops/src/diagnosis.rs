//! A failure explained. The facts know the causes; here the database is asked where they need it, and the stack's
//! own names are filled in.

use ory_facts::diagnosis::{self, Cause, Evidence, Failed, Speaker};
use ory_facts::sql;
use ory_stack::backup_key;
use ory_stack::container::Listed;

use crate::administrator;
use crate::backup::folder;
use crate::context::Context;
use crate::explanation::{self, Words, blame_unset, explain, files, fill, of_server};
use crate::login_refused;
use crate::pooler;
use crate::postgres;
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{CommandError, Invocation, quote};
use ory_stack::stack::Deployment;

/// psql as the administrator of a product's server, to be typed.
pub fn admin_psql(cx: &Context, deployment: &Deployment) -> Invocation {
    let Some(server) = pooler::server_of(cx, deployment) else {
        return Invocation::new("psql", &cx.dir).args(["-h", deployment.server_name(), "-U", "postgres"]);
    };
    cx.engine.compose(["exec", &server.name]).args(administrator::psql(server))
}

/// Says of an administrator who could not connect that it was the administrator; other errors stay what they are.
pub fn without_administrator(
    cx: &Context,
    deployment: &Deployment,
    error: anyhow::Error,
) -> Result<anyhow::Error, anyhow::Error> {
    match pooler::server_of(cx, deployment) {
        Some(server) => administrator::explain(error, server, &admin_psql(cx, deployment)),
        None => Err(error),
    }
}

/// Explains the failure of what was run for a product.
pub fn of_product(cx: &Context, deployment: &Deployment, error: anyhow::Error) -> anyhow::Error {
    let services = [Some(deployment.migrate), deployment.server];
    let names: Vec<_> = services.into_iter().flatten().map(|service| service.name.as_str()).collect();
    let error = blame_unset(cx, &names, error);
    let error = match without_administrator(cx, deployment, error) {
        Ok(explained) => return explained,
        Err(error) => error,
    };
    let filled = |cause: &Cause, text: &str| {
        let words = [
            words(cx, deployment),
            of_server(cx, deployment.server, &deployment.dsn.host),
            files(deployment.migrate, cause),
        ];
        fill(text, &words.concat())
    };
    let speaker = Speaker::Product(deployment.product.kind);
    let error = explain(error, speaker, || evidence(cx, deployment), filled);
    let is_kept_out = |command: &CommandError| command.status == Some(administrator::NOT_CONNECTED);
    if Failure::hint_of(&error).is_some() || !error.downcast_ref().is_some_and(is_kept_out) {
        return error;
    }
    let denied = login_refused::denied(cx, deployment);
    let failed = denied.as_ref().map(|text| Failed { speaker, exit: None, text });
    match failed.and_then(|failed| diagnosis::cause(&failed, Evidence::default)) {
        Some(cause) => {
            let failure = Failure::new(Exit::Failed, filled(&cause, &cause.message));
            error.context(failure.hint(filled(&cause, &cause.hint)))
        }
        None => error,
    }
}

/// Explains, with the end of its log, why a service isn't as it should be.
pub fn of_service(cx: &Context, name: &str, message: String) -> anyhow::Error {
    explanation::of_container(
        cx,
        name,
        message,
        |deployment| words(cx, deployment),
        |deployment| evidence(cx, deployment),
    )
}

/// Explains the failure of an engine's command.
pub fn of_engine(error: anyhow::Error) -> anyhow::Error {
    explain(error, Speaker::Engine, Evidence::default, |_, text| text.to_string())
}

/// What the database says now; nothing where it can't be asked.
fn evidence(cx: &Context, deployment: &Deployment) -> Evidence {
    let mut evidence = postgres::evidence(cx, deployment).unwrap_or_default();
    let name = &deployment.migrate.name;
    let project = &cx.stack.project;
    let runs = |c: &&Listed| c.one_off && c.project == *project && c.service == *name && c.is_running();
    let one_offs = cx.engine.list().unwrap_or_default();
    evidence.others.extend(one_offs.iter().filter(runs).map(|c| format!("the container {}", c.name)));
    evidence
}

/// The names of a product in this stack.
fn words(cx: &Context, deployment: &Deployment) -> Words {
    let dsn = &deployment.dsn;
    let serving = cx.stack.serving(deployment.product).first().copied().unwrap_or(deployment.migrate);
    let inside = admin_psql(cx, deployment).args(["-d", &sql::database(&dsn.database)]).to_string();
    let restore = inside.replacen(" exec ", " exec -T ", 1).replacen("psql ", "pg_restore ", 1);
    vec![
        ("product", deployment.product.name().into()),
        ("migrate", deployment.product.migrate_line()),
        ("service", serving.name.clone()),
        ("role", dsn.user.clone()),
        ("database", dsn.database.clone()),
        ("schema", dsn.schema().unwrap_or_else(|| "public".into())),
        ("server", deployment.server_name().into()),
        ("dump", newest_dump(cx, deployment)),
        ("restore", format!("{restore} --clean --if-exists")),
        ("inside", inside),
        ("psql", admin_psql(cx, deployment).to_string()),
    ]
}

/// The file of a product's newest backup that this stack has made; where there is none, where one is looked for.
fn newest_dump(cx: &Context, deployment: &Deployment) -> String {
    let product = deployment.product;
    let key = backup_key::key(&cx.dir).ok().flatten();
    let all = folder::all(&folder::folder(cx)).unwrap_or_default().into_iter().rev();
    let own = all.filter_map(|(_, backup)| backup.ok()).filter(|backup| {
        let is_own = backup.foreign(key.as_deref()).is_none();
        is_own && !backup.is_unverified() && backup.manifest.project == cx.stack.project
    });
    let dump = { own }.find_map(|backup| Some(backup.path(backup.manifest.dump_of(product)?)));
    dump.map_or(format!("backups/BACKUP/{product}.dump"), |path| quote(&path.display().to_string()))
}
