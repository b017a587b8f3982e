//! PostgreSQL's client programs: in the container of the server, or in one of our own.

use crate::administrator::FROM_FILES;
use crate::context::Context;
use ory_runner::process::Invocation;

/// Where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the container of the server, by name.
    Container(String),
    /// In a one-off container, for a server that is no service of the stack.
    Client { image: String, options: Vec<String> },
}

/// Takes the password from the first line of standard input, then becomes the program. A shell reads a line from a pipe
/// byte by byte, so the rest is the program's.
const WRAPPER: &str = "read -r p; export PGPASSWORD=\"$(printf %b \"$p\")\"; exec \"$@\"";

/// A client program with these variables.
///
/// What a program is started with in a container that is there, the engine tells nobody. A container of our own has in
/// `docker inspect` all that it is started with, so it is told the password when it runs.
pub fn program(cx: &Context, place: &Place, env: Vec<(String, String)>, words: &[&str]) -> Invocation {
    let program = words.first().copied().unwrap_or_default();
    let (start, name) = match place {
        Place::Container(name) => {
            let has_files = env.iter().any(|(name, _)| name.ends_with("_FILE"));
            let exec = with_variables(cx.engine.docker(["exec", "-i"]), env).arg(name);
            let exec = if has_files { exec.args(["sh", "-c", FROM_FILES, "sh"]) } else { exec };
            (exec, name)
        }
        Place::Client { image, options } => {
            let (password, env): (Vec<_>, Vec<_>) =
                env.into_iter().partition(|(name, _)| name == "PGPASSWORD");
            // Else the engine would keep in its log all that is dumped.
            let run = cx.engine.docker(["run", "--rm", "-i", "--log-driver", "none"]).args(options.clone());
            let run = with_variables(run, env).arg(image);
            let run = match password.into_iter().next() {
                Some((_, password)) => run.args(["sh", "-c", WRAPPER, "sh"]).opens_with(line(&password)),
                None => run,
            };
            (run, image)
        }
    };
    start.args(words.iter().copied()).called(format!("{program} in {name}"))
}

fn with_variables(command: Invocation, env: Vec<(String, String)>) -> Invocation {
    command.options("-e", env.iter().map(|(name, _)| name)).envs(env)
}

/// A password as the wrapper reads it: each byte that a shell could take otherwise as `printf %b` spells it.
fn line(password: &str) -> String {
    let spelled = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("\\0{byte:03o}"),
    };
    password.bytes().map(spelled).collect::<String>() + "\n"
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_password_of_whatever_characters_arrives_and_leaves_the_rest_to_the_program() {
        for password in ["", "plain1", " a'b\"c\\d$e`f ", "p\u{e4}ss\tw%rd\\n\\0", "two\nlines", "-n"] {
            let sh = Invocation::new("sh", Path::new("."))
                .args(["-c", WRAPPER, "sh", "sh", "-c", "printf %s\\| \"$PGPASSWORD\"; cat"])
                .opens_with(line(password))
                .stdin("select 1\n");
            assert_eq!(sh.read().expect("read"), format!("{password}|select 1\n"));
        }
    }
}
