//! The volumes of an upgrade. The one that is kept has the old cluster, as it was stopped, and knows what was upgraded, by
//! its labels, and how far that is, by a file: whoever finds it can go on, or back.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use ory_runner::process::Invocation;
use ory_stack::data_mount::Place;

use super::scripts::{self, LABEL, MOMENT, PHASE, SET_PHASE};
use crate::context::Context;
use crate::engine::state::printed;

/// Where data is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The new cluster comes in.
    New,
    /// The old one comes back.
    Old,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Old => "old",
        }
    }
}

/// How far an upgrade is, once the old cluster was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The place of the data hasn't been touched.
    Untouched,
    /// What is there is being replaced.
    Moving(Way),
    /// It is replaced; the server has not been seen to serve from it.
    Moved(Way),
    /// The new server serves.
    Done,
}

impl FromStr for Phase {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim() {
            "" => Self::Untouched,
            "emptying new" | "filling new" => Self::Moving(Way::New),
            "emptying old" | "filling old" => Self::Moving(Way::Old),
            "new" => Self::Moved(Way::New),
            "old" => Self::Moved(Way::Old),
            "done" => Self::Done,
            other => anyhow::bail!("the kept volume is in no phase that is known: {other}"),
        })
    }
}

/// One end of an upgrade: before it, or after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub major: u32,
    pub image: String,
    pub place: Place,
}

/// What an upgrade is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The volume's name.
    pub volume: String,
    pub service: String,
    /// What the engine mounts for the server's data.
    pub source: String,
    pub old: End,
    pub new: End,
}

/// What containers and volumes of a server's upgrade are labelled with.
pub fn of(cx: &Context, service: &str) -> String {
    format!("{}/{service}", cx.stack.project)
}

/// A volume that an upgrade makes beside the server's own.
fn volume(cx: &Context, service: &str, purpose: &str) -> String {
    format!("{}_{service}_xtask_{purpose}", cx.stack.project)
}

/// The volume in which a new cluster is made.
pub fn new_volume(cx: &Context, service: &str) -> String {
    volume(cx, service, "new")
}

/// As the engine mounts a volume, with nothing of an image in it.
pub fn mount(source: &str, target: &str) -> String {
    let more = if source.starts_with("type=volume") { ",volume-nocopy" } else { "" };
    format!("{source},target={target}{more}")
}

/// The same of a volume by its name.
pub fn mount_volume(name: &str, target: &str) -> String {
    mount(&format!("type=volume,source={name}"), target)
}

/// Makes a volume of an upgrade.
pub fn volume_command(cx: &Context, name: &str, of: &str, labels: &[(&str, &str)]) -> Invocation {
    let labels = labels.iter().map(|(name, value)| format!("{LABEL}.{name}={value}"));
    let labels = labels.chain([format!("{LABEL}={of}")]).flat_map(|label| ["--label".into(), label]);
    cx.engine.docker(["volume", "create"]).args(labels).arg(name)
}

/// Removes a volume of an upgrade, where it is there. One that only has its name stays.
pub fn remove_volume(cx: &Context, service: &str, name: &str) -> Result<()> {
    if !is_own(cx, service, name)? {
        return Ok(());
    }
    cx.engine.docker(["volume", "rm", name]).read().map(|_| ())
}

/// Whether a volume is of this server's upgrade: it has its label.
pub fn is_own(cx: &Context, service: &str, name: &str) -> Result<bool> {
    let filter = format!("label={LABEL}={}", of(cx, service));
    let names = cx.engine.docker(["volume", "ls", "--quiet", "--filter", &filter]).read()?;
    Ok(names.lines().any(|line| line == name))
}

/// The volumes that have the names that an upgrade needs, and are none of its own.
pub fn in_the_way(cx: &Context, kept: &Kept) -> Result<Vec<String>> {
    let names = [kept.volume.clone(), new_volume(cx, &kept.service)];
    let mut found = vec![];
    for name in names {
        if cx.engine.has_volume(&name)? && !is_own(cx, &kept.service, &name)? {
            found.push(name);
        }
    }
    Ok(found)
}

/// The volumes that upgrades of this project's servers have left.
pub fn volumes(cx: &Context) -> Result<Vec<String>> {
    let format = format!("{{{{.Label \"{LABEL}\"}}}}\t{{{{.Name}}}}");
    let ls = ["volume", "ls", "--filter", &format!("label={LABEL}"), "--format", &format];
    let listed = cx.engine.docker(ls).read()?;
    let own = listed.lines().filter_map(|line| line.split_once('\t'));
    let own =
        own.filter(|(of, _)| of.rsplit_once('/').is_some_and(|(project, _)| project == cx.stack.project));
    Ok(own.map(|(_, name)| name.into()).collect())
}

/// Ends what an earlier run has left of its containers.
pub fn end_containers(cx: &Context, service: &str) -> Result<()> {
    let filter = format!("label={LABEL}={}", of(cx, service));
    let ids = cx.engine.docker(["ps", "--all", "--quiet", "--filter", &filter]).read()?;
    for id in ids.split_whitespace() {
        // One that was started with `--rm` may be going by itself.
        cx.engine.docker(["rm", "--force", "--volumes", id]).output()?;
    }
    Ok(())
}

impl Kept {
    /// What is to be kept of a server.
    pub fn planned(cx: &Context, service: &str, source: &str, old: End, new: End) -> Self {
        let volume = volume(cx, service, &format!("pg{}", old.major));
        Self { volume, service: service.into(), source: source.into(), old, new }
    }

    /// The one that there is of a server.
    pub fn find(cx: &Context, service: &str) -> Result<Option<Self>> {
        let filter = format!("label={LABEL}={}", of(cx, service));
        let names = cx.engine.docker(["volume", "ls", "--quiet", "--filter", &filter]).read()?;
        for name in names.lines() {
            let json = printed(&cx.engine.docker(["volume", "inspect", name]))?;
            let labels = &json.first().context("the volume is gone")?["Labels"];
            let label = |name: &str| labels[format!("{LABEL}.{name}")].as_str().map(String::from);
            let end = |which: &str| {
                let place = Place {
                    folder: label(&format!("{which}-folder"))?,
                    target: label(&format!("{which}-target"))?,
                };
                let major = label(&format!("{which}-major"))?.parse().ok()?;
                Some(End { major, image: label(&format!("{which}-image"))?, place })
            };
            if let (Some(old), Some(new), Some(source)) = (end("old"), end("new"), label("source")) {
                return Ok(Some(Self { volume: name.into(), service: service.into(), source, old, new }));
            }
        }
        Ok(None)
    }

    /// Makes the volume.
    pub fn make_command(&self, cx: &Context) -> Invocation {
        let [old, new] = [&self.old, &self.new].map(|end| end.major.to_string());
        volume_command(
            cx,
            &self.volume,
            &of(cx, &self.service),
            &[
                ("source", &self.source),
                ("old-major", &old),
                ("old-image", &self.old.image),
                ("old-folder", &self.old.place.folder),
                ("old-target", &self.old.place.target),
                ("new-major", &new),
                ("new-image", &self.new.image),
                ("new-folder", &self.new.place.folder),
                ("new-target", &self.new.place.target),
            ],
        )
    }

    /// The image whose shell and tools are used: the new one, or where that is gone, the old one.
    pub fn tools(&self, cx: &Context) -> Result<String> {
        let is_here = cx.image(&self.new.image)?.is_some();
        Ok(if is_here { &self.new.image } else { &self.old.image }.clone())
    }

    /// A file of the volume; empty where there is none.
    fn file(&self, cx: &Context, name: &str) -> Result<String> {
        let mounts = [mount_volume(&self.volume, "/kept") + ",readonly"];
        let read = scripts::run(
            cx,
            &self.tools(cx)?,
            &of(cx, &self.service),
            &mounts,
            "[ ! -e \"/kept/$1\" ] || cat \"/kept/$1\"",
            &[name],
        );
        Ok(read.read()?.trim().into())
    }

    /// How far it is.
    pub fn phase(&self, cx: &Context) -> Result<Phase> {
        self.file(cx, PHASE)?.parse()
    }

    /// The moment from which on only the new server has written.
    pub fn moment(&self, cx: &Context) -> Result<String> {
        self.file(cx, MOMENT)
    }

    /// Says that the new server serves.
    pub fn done(&self, cx: &Context) -> Result<()> {
        let mounts = [mount_volume(&self.volume, "/kept")];
        let of = of(cx, &self.service);
        scripts::run(cx, &self.tools(cx)?, &of, &mounts, SET_PHASE, &["done"])
            .uninterrupted()
            .read()
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_what_the_scripts_write() {
        let phase = |text: &str| text.parse::<Phase>().ok();
        assert_eq!(phase(""), Some(Phase::Untouched));
        for way in [Way::New, Way::Old] {
            let word = way.word();
            for part in ["emptying", "filling"] {
                assert!(super::scripts::MOVE.contains(&format!("phase \"{part} $way\"")));
                assert_eq!(phase(&format!("{part} {word}\n")), Some(Phase::Moving(way)));
            }
            assert_eq!(phase(word), Some(Phase::Moved(way)));
        }
        assert_eq!(phase("done\n"), Some(Phase::Done));
        assert_eq!(phase("else"), None);
    }
}
