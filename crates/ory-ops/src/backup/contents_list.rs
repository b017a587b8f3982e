//! What is in a dump that somebody else has made, as pg_restore lists it: in a container that has no network, no rights
//! and nothing of the stack, since a dump can be made to break what reads it.

use anyhow::{Context as _, Result};
use ory_facts::manifest::Dump;
use ory_runner::process::Invocation;

use super::folder::Backup;
use crate::client::Place;
use crate::context::Context;
use crate::postgres;
use crate::target::Target;

/// How much of the list is kept.
const LIMIT: usize = 1 << 20;

/// The objects in a dump, a line each: kind, schema, name and owner.
pub fn objects(cx: &Context, backup: &Backup, target: &Target, dump: &Dump) -> Result<Vec<String>> {
    let image = match postgres::running_place(cx, target.main()?)? {
        Place::Container(name) => {
            let inspect = cx.engine.docker(["inspect", "--format", "{{.Image}}", &name]);
            inspect.read()?.trim().to_string()
        }
        Place::Client { image, .. } => image,
    };
    let list = command(cx, &image).stdin_file(&backup.path(dump));
    let mut text = Vec::new();
    let listed = list.within(cx.options.wait()).receive(|bytes| {
        let room = LIMIT.saturating_sub(text.len());
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    });
    listed.with_context(|| format!("{} can't be listed", backup.path(dump).display()))?;
    let mut lines: Vec<_> = String::from_utf8_lossy(&text).lines().filter_map(object).collect();
    if text.len() == LIMIT {
        lines.push("and more".into());
    }
    Ok(lines)
}

/// The command line that lists what it reads.
pub fn command(cx: &Context, image: &str) -> Invocation {
    let may_nothing = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "65534:65534"];
    let has_little = ["--memory", "512m", "--pids-limit", "16"];
    let run =
        cx.engine.docker(["run", "--rm", "-i", "--log-driver", "none"]).args(may_nothing).args(has_little);
    let run = run.args(["--security-opt", "no-new-privileges", "--entrypoint", "pg_restore"]);
    run.args([image, "--list"]).called(format!("pg_restore in {image}"))
}

/// A line of the list without the numbers before it; none where it is a comment.
fn object(line: &str) -> Option<String> {
    let is_object = !line.starts_with(';') && !line.trim().is_empty();
    is_object.then(|| line.splitn(4, ' ').nth(3).unwrap_or(line).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_tells_an_object_or_is_a_comment() {
        assert_eq!(object("217; 1259 16386 TABLE public t keto").as_deref(), Some("TABLE public t keto"));
        assert_eq!(object("odd").as_deref(), Some("odd"));
        assert_eq!([";", "; Archive created at", ""].map(object), [None, None, None]);
    }
}
