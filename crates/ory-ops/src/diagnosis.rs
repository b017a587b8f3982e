//! A failure explained. The facts know the causes; here the database is asked where they need it, and the stack's
//! own names are filled in.

use ory_facts::diagnosis::{self, Cause, Evidence, Failed, Speaker, essence};
use ory_facts::sql;
use ory_stack::backup_key;
use ory_stack::container::Listed;
use ory_stack::service::Service;

use crate::administrator;
use crate::admission;
use crate::backup;
use crate::context::Context;
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
    let denied = admission::denied(cx, deployment);
    let failed = denied.as_ref().map(|text| Failed { speaker, exit: None, text });
    match failed.and_then(|failed| diagnosis::cause(&failed, Evidence::default)) {
        Some(cause) => {
            let failure = Failure::new(Exit::Failed, filled(&cause, &cause.message));
            error.context(failure.hint(filled(&cause, &cause.hint)))
        }
        None => error,
    }
}

/// What is to be said first where something fails that is given an empty text for a variable that nobody set.
fn unset(cx: &Context, services: &[&str]) -> Option<Failure> {
    let names = cx.engine.unset_of(services);
    let first = names.first()?;
    let message = format!("{} is not set, which `{}` is given", names.join(", "), services.join("` or `"));
    Some(
        Failure::new(Exit::Failed, message)
            .hint(format!("write it to .env: {first}=VALUE, or mend its name")),
    )
}

fn blame_unset(cx: &Context, services: &[&str], error: anyhow::Error) -> anyhow::Error {
    let is_blamed = error.downcast_ref::<CommandError>().is_some() && Failure::hint_of(&error).is_none();
    match unset(cx, services).filter(|_| is_blamed) {
        Some(failure) => error.context(failure),
        None => error,
    }
}

/// Explains the failure of an engine's command.
pub fn of_engine(error: anyhow::Error) -> anyhow::Error {
    explain(error, Speaker::Engine, Evidence::default, |_, text| text.to_string())
}

/// Explains, with the end of its log, why a service isn't as it should be.
pub fn of_service(cx: &Context, name: &str, message: String) -> anyhow::Error {
    let inspected = cx.engine.inspect([name]).unwrap_or_default();
    let Some(container) = inspected.first() else {
        let hint = cx.engine.compose(["ps"]).to_string();
        return Failure::new(Exit::Failed, message).hint(hint).into();
    };
    if let Some(unset) = unset(cx, &[container.service.as_str()]) {
        let lines = format!("the last lines of {}:\n{}", container.name, essence(&cx.log_of(name)));
        return anyhow::Error::msg(lines).context(message).context(unset);
    }
    let log = cx.log_of(name);
    let service = cx.stack.services.get(&container.service);
    let product = service.and_then(|service| cx.stack.product_of(service));
    let deployment = product.and_then(|product| cx.stack.deployment(product).ok().flatten());
    let is_server = cx.stack.servers().iter().any(|server| server.name == container.service);
    let speaker = match &deployment {
        Some(deployment) => Speaker::Product(deployment.product.kind),
        None if is_server => Speaker::Database,
        None => Speaker::Engine,
    };
    let failed = Failed { speaker, exit: Some(container.exit_code), text: &log };
    let ask = || deployment.as_ref().map(|deployment| evidence(cx, deployment)).unwrap_or_default();
    let cause = diagnosis::cause(&failed, ask);
    let lines = format!("the last lines of {}:\n{}", container.name, essence(&log));
    let Some(cause) = cause else {
        let hint = cx.engine.compose(["logs", &container.service]).to_string();
        return anyhow::Error::msg(lines).context(Failure::new(Exit::Failed, message).hint(hint));
    };
    let mut known = deployment.as_ref().map(|deployment| words(cx, deployment)).unwrap_or_default();
    let (server, host) = match &deployment {
        Some(deployment) => (deployment.server, deployment.dsn.host.as_str()),
        None => (service, ""),
    };
    known.extend(of_server(cx, server, host));
    known.extend(service.map(|service| files(service, &cause)).unwrap_or_default());
    let (why, hint) = (fill(&cause.message, &known), fill(&cause.hint, &known));
    anyhow::Error::msg(lines).context(why).context(Failure::new(Exit::Failed, message).hint(hint))
}

/// Puts its cause and the next command before a command's failure, where they are known.
fn explain(
    error: anyhow::Error,
    speaker: Speaker,
    ask: impl FnOnce() -> Evidence,
    fill: impl Fn(&Cause, &str) -> String,
) -> anyhow::Error {
    let Some(command) = error.downcast_ref::<CommandError>() else {
        return error;
    };
    // Where it failed, more was known.
    if Failure::hint_of(&error).is_some() {
        return error;
    }
    let failed = Failed { speaker, exit: command.status.map(i64::from), text: &command.stderr };
    match diagnosis::cause(&failed, ask) {
        Some(cause) => {
            let failure = Failure::new(Exit::Failed, fill(&cause, &cause.message));
            error.context(failure.hint(fill(&cause, &cause.hint)))
        }
        None => error,
    }
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

type Words = Vec<(&'static str, String)>;

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
    let all = backup::all(&backup::folder(cx)).unwrap_or_default().into_iter().rev();
    let own = all.filter_map(|(_, backup)| backup.ok()).filter(|backup| {
        let is_own = backup.foreign(key.as_deref()).is_none();
        is_own && !backup.is_unverified() && backup.manifest.project == cx.stack.project
    });
    let dump = { own }.find_map(|backup| Some(backup.path(backup.manifest.dump_of(product)?)));
    dump.map_or(format!("backups/BACKUP/{product}.dump"), |path| quote(&path.display().to_string()))
}

/// The commands for a database server; for one elsewhere, what tells whether it answers.
fn of_server(cx: &Context, server: Option<&Service>, host: &str) -> Words {
    let Some(server) = server else {
        let ask = format!("pg_isready -h {}", quote(host));
        return ["logs", "start", "unpause", "chown"].map(|word| (word, ask.clone())).into();
    };
    let name = server.name.as_str();
    let compose = |words: &[&str]| cx.engine.compose(words.iter().copied().chain([name])).to_string();
    let container = cx.container_name(&cx.listed().unwrap_or_default(), server);
    let image = server.image.as_deref().unwrap_or_default();
    vec![
        ("server", name.into()),
        ("logs", compose(&["logs"])),
        ("start", compose(&["up", "-d"])),
        ("unpause", compose(&["unpause"])),
        (
            "chown",
            format!(
                "docker run --rm --user root --volumes-from {container} --entrypoint sh {} -c \
                 'chown -R postgres: \"$0\" && chmod 700 \"$0\"' {{found}}",
                quote(image)
            ),
        ),
    ]
}

/// The files that a cause is about, as this machine names them.
fn files(service: &Service, cause: &Cause) -> Words {
    let here = |path: &str| match service.on_host(path) {
        Some(file) => quote(&file.display().to_string()),
        None => quote(path),
    };
    let found = cause.found.clone().unwrap_or_default();
    let config = service.config_files().first().map(|file| here(file)).unwrap_or_default();
    vec![("file", here(&found)), ("found", quote(&found)), ("config", config)]
}

fn fill(text: &str, words: &[(&str, String)]) -> String {
    // Twice: a command has names in it.
    let once =
        |text: String| words.iter().fold(text, |text, (word, value)| diagnosis::fill(&text, word, value));
    once(once(text.to_string()))
}
