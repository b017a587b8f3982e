//! A failure in the words of this stack: its cause and the next command, with the stack's own names filled in. No database
//! is asked here.

use ory_facts::diagnosis::{self, Cause, Evidence, Failed, Speaker, error_lines};
use ory_runner::failure::{Exit, Failure};
use ory_runner::process::{CommandError, quote};
use ory_stack::service::Service;
use ory_stack::stack::Deployment;

use crate::context::Context;

/// Explains, with the end of its log, why a database service isn't as it should be.
pub fn of_database(cx: &Context, name: &str, message: String) -> anyhow::Error {
    of_container(cx, name, message, |_| vec![], |_| Evidence::default())
}

/// Explains, with the end of its log, why a container isn't as it should be. `words` and `ask`: what is known of a product,
/// and what its database says, where the container is one's.
pub fn of_container(
    cx: &Context,
    name: &str,
    message: String,
    words: impl FnOnce(&Deployment) -> Words,
    ask: impl FnOnce(&Deployment) -> Evidence,
) -> anyhow::Error {
    let inspected = cx.engine.inspect([name]).unwrap_or_default();
    let Some(container) = inspected.first() else {
        let hint = cx.engine.compose(["ps"]).to_string();
        return Failure::new(Exit::Failed, message).hint(hint).into();
    };
    if let Some(unset) = unset(cx, &[container.service.as_str()]) {
        let lines = format!("the last lines of {}:\n{}", container.name, error_lines(&cx.log_of(name)));
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
    let cause = diagnosis::cause(&failed, || deployment.as_ref().map(ask).unwrap_or_default());
    let lines = format!("the last lines of {}:\n{}", container.name, error_lines(&log));
    let Some(cause) = cause else {
        let hint = cx.engine.compose(["logs", &container.service]).to_string();
        return anyhow::Error::msg(lines).context(Failure::new(Exit::Failed, message).hint(hint));
    };
    let mut known = deployment.as_ref().map(words).unwrap_or_default();
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
pub fn explain(
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

/// What is to be said first where something fails that is given an empty text for a variable that nobody set.
fn unset(cx: &Context, services: &[&str]) -> Option<Failure> {
    let names = cx.engine.unset_of(services);
    let first = names.first()?;
    let message = format!("{} is not set, which `{}` is given", names.join(", "), services.join("` or `"));
    Some(
        Failure::new(Exit::Failed, message).hint(format!("write it to .env: {first}=VALUE, or fix its name")),
    )
}

pub fn blame_unset(cx: &Context, services: &[&str], error: anyhow::Error) -> anyhow::Error {
    let is_blamed = error.downcast_ref::<CommandError>().is_some() && Failure::hint_of(&error).is_none();
    match unset(cx, services).filter(|_| is_blamed) {
        Some(failure) => error.context(failure),
        None => error,
    }
}

/// The commands for a database server, in words; for one elsewhere, what tells whether it answers.
pub fn of_server(cx: &Context, server: Option<&Service>, host: &str) -> Words {
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
pub fn files(service: &Service, cause: &Cause) -> Words {
    let here = |path: &str| match service.on_host(path) {
        Some(file) => quote(&file.display().to_string()),
        None => quote(path),
    };
    let found = cause.found.clone().unwrap_or_default();
    let config = service.config_files().first().map(|file| here(file)).unwrap_or_default();
    vec![("file", here(&found)), ("found", quote(&found)), ("config", config)]
}

pub fn fill(text: &str, words: &[(&str, String)]) -> String {
    // Twice: a command has names in it.
    let once =
        |text: String| words.iter().fold(text, |text, (word, value)| diagnosis::fill(&text, word, value));
    once(once(text.to_string()))
}

/// What stands for the words in braces of a cause.
pub type Words = Vec<(&'static str, String)>;
