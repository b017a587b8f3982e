//! What an upgrade of a server would be, and what is in its way. It asks: the old server, the new image, the engine. Nothing
//! is changed, but that an image is pulled where that is allowed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ory_facts::rows;
use ory_facts::server_facts::{self, EXTENSIONS, Facts, Release};
use ory_runner::failure::Failure;
use ory_runner::output::size;
use ory_stack::data_mount::{Said, image_for};
use ory_stack::image;
use ory_stack::service::Service;

use super::kept::{self, End, Kept, mount};
use super::pins;
use super::scripts;
use super::subject::Subject;
use super::surroundings::users_of;
use crate::context::Context;
use crate::engine::state::printed;
use crate::image_pin::Edit;
use crate::server;

/// A plan for a server.
pub struct Survey {
    pub subject: Subject,
    pub facts: Facts,
    pub kept: Kept,
    /// Whether the new image is here.
    pub is_here: bool,
    /// What is changed in the stack's files.
    pub edits: Vec<Edit>,
    /// What is in the way; each with what helps, where that is known.
    pub blocked: Vec<(String, Option<String>)>,
    /// What a person should know before.
    pub notes: Vec<String>,
    /// The services that are stopped meanwhile.
    pub users: Vec<String>,
    /// What the data takes, and what is free where it is, in bytes.
    pub room: Option<(u64, u64)>,
}

/// What is found of a server.
pub enum Found {
    /// It runs what is asked for.
    Nothing(String),
    Plan(Box<Survey>),
}

/// Whether an image that isn't here may be pulled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    Yes,
    No,
}

/// Looks at all of it. `to`: a major version or an image; none: what the stack names now.
pub fn survey(cx: &Context, service: &Service, to: Option<&str>, pull: Pull) -> Result<Found> {
    let subject = Subject::find(cx, service)?;
    if !subject.is_running {
        server::running(cx, service)?;
    }
    let facts = subject.facts(cx)?;
    let named = service.image.clone().unwrap_or_default();
    let image = match to {
        Some(asked) => image_for(&subject.image, asked)?,
        None => named.clone(),
    };
    let runs = format!("`{}` runs PostgreSQL {}, {}", service.name, facts.version, subject.image);
    let is_same = cx.image(&subject.image)?.is_some_and(|image| image.id == subject.image_id);
    if to.is_none() && image == subject.image && is_same {
        let more =
            format!("as the stack says; name a newer one: {{XTASK}} upgrade {} --to MAJOR", service.name);
        return Ok(Found::Nothing(format!("{runs}, {more}")));
    }
    let mut blocked = vec![];
    let is_here = bring(cx, &image, pull, &mut blocked)?;
    let release = if is_here { probe(cx, &subject, &image, &facts, &mut blocked)? } else { None };
    let major = release.as_ref().map(|release| release.major).or_else(|| image::postgres_major(&image));
    let Some(major) = major.or_else(|| to?.parse().ok()) else {
        blocked.push((format!("which major version {image} has can't be told"), None));
        return Ok(Found::Plan(Box::new(unknown(cx, subject, facts, &image, blocked))));
    };
    if major == facts.major {
        return Ok(Found::Nothing(format!("{runs}, and {image} is of the same major version")));
    }
    if major < facts.major {
        let hint = format!("{{XTASK}} upgrade {} --back, after an upgrade", service.name);
        blocked.push((format!("{runs}: a server doesn't go back to PostgreSQL {major}"), Some(hint)));
    }
    if !is_same {
        let message = format!(
            "the image that runs has lost its name: {} is another one, so no way leads back",
            subject.image
        );
        let id = &subject.image_id[..subject.image_id.len().min(12)];
        let hint = format!(
            "docker tag {id} NAME:TAG, name that in the stack, {{XTASK}} up {}; then this",
            service.name
        );
        blocked.push((message, Some(hint)));
    }
    if let Some(kept) = Kept::find(cx, &service.name)? {
        let message = format!("the volume {} of the last upgrade is still kept", kept.volume);
        blocked.push((message, Some(format!("{{XTASK}} upgrade {} --finish", service.name))));
    }
    let old = End { major: facts.major, image: subject.image.clone(), place: subject.place.clone() };
    let set = service.environment.get("PGDATA").map(String::as_str);
    let said = if is_here { said(cx, &image)? } else { usual(major) };
    let place = said.place(&subject.place, set).unwrap_or_else(|message| {
        blocked.push((message, None));
        subject.place.clone()
    });
    let kept = Kept::planned(cx, &service.name, &subject.source, old, End { major, image, place });
    for volume in kept::in_the_way(cx, &kept)? {
        let message =
            format!("there is a volume {volume}, whose name an upgrade needs, and it is none of one");
        blocked.push((message, Some(format!("docker volume rm {volume}, if nobody needs it"))));
    }
    let extensions = extensions(cx, &subject, &facts)?;
    let found = server_facts::in_the_way(&facts, &extensions, release.as_ref());
    blocked.extend(found.into_iter().map(|message| (message, None)));
    if facts.data_directory.trim_end_matches('/') != subject.place.folder {
        let message = format!(
            "the server's data is in {}, its image says {}",
            facts.data_directory, subject.place.folder
        );
        blocked.push((message, Some("move it there, or set PGDATA in the stack".into())));
    }
    let edits = pins::edits(cx, service, &subject.place, &kept.new).unwrap_or_else(|error| {
        blocked.push((error.to_string(), Failure::hint_of(&error).map(String::from)));
        vec![]
    });
    // The way back has to be one, too.
    if named != subject.image && (named == kept.new.image || to.is_some()) {
        let back = pins::edits(cx, service, &kept.new.place, &kept.old);
        blocked
            .extend(back.err().map(|error| (error.to_string(), Failure::hint_of(&error).map(String::from))));
    }
    let mut survey = Survey {
        users: users(cx, &subject, &facts)?,
        room: room(cx, &subject).ok(),
        notes: vec![],
        subject,
        facts,
        kept,
        is_here,
        edits,
        blocked,
    };
    survey.check_room();
    survey.note(cx, &extensions, release.as_ref())?;
    Ok(Found::Plan(Box::new(survey)))
}

/// A plan that can't be made.
fn unknown(
    cx: &Context,
    subject: Subject,
    facts: Facts,
    image: &str,
    blocked: Vec<(String, Option<String>)>,
) -> Survey {
    let old = End { major: facts.major, image: subject.image.clone(), place: subject.place.clone() };
    let new = End { major: 0, image: image.into(), place: subject.place.clone() };
    let kept = Kept::planned(cx, subject.name(), &subject.source, old, new);
    let (edits, notes, users) = (vec![], vec![], vec![]);
    Survey { subject, facts, kept, is_here: false, edits, blocked, notes, users, room: None }
}

/// Whether an image is here, or could be brought.
fn bring(cx: &Context, image: &str, pull: Pull, blocked: &mut Vec<(String, Option<String>)>) -> Result<bool> {
    if cx.image(image)?.is_some() {
        return Ok(true);
    }
    if pull == Pull::No {
        let can_be = cx.engine.docker(["manifest", "inspect", image]).output()?.status.success();
        if !can_be {
            blocked.push((
                format!("the image {image} is neither here nor can it be pulled"),
                Some(format!("docker pull {image}")),
            ));
        }
        return Ok(false);
    }
    let _progress = cx.out.progress(format!("pulling {image}"));
    if let Err(error) = cx.engine.docker(["pull", "--quiet", image]).within(None).read() {
        cx.options.interrupt.check()?;
        let line = error.to_string();
        blocked.push((
            format!("the image {image} can't be pulled: {line}"),
            Some(format!("docker pull {image}")),
        ));
        return Ok(false);
    }
    Ok(true)
}

/// What the new image can do: a server of it is asked, whose cluster is made as the old one's.
fn probe(
    cx: &Context,
    subject: &Subject,
    image: &str,
    facts: &Facts,
    blocked: &mut Vec<(String, Option<String>)>,
) -> Result<Option<Release>> {
    let _progress = cx.out.progress(format!("asking {image}"));
    let made: Vec<_> = facts.initdb.iter().map(String::as_str).collect();
    let of = kept::of(cx, subject.name());
    let probe = scripts::bare(cx, image, &of, subject.user(), &[], scripts::PROBE, &made);
    match probe.stdin(server_facts::release_query()).read() {
        Ok(said) => {
            server_facts::read_release(&said).context("the new image's server didn't answer").map(Some)
        }
        Err(error) => {
            cx.options.interrupt.check()?;
            let why = format!("{error:#}");
            let message =
                format!("{image} can't make a cluster as this one was made ({}): {why}", made.join(" "));
            blocked.push((message, None));
            Ok(None)
        }
    }
}

/// What an image says of where its data is.
fn said(cx: &Context, image: &str) -> Result<Said> {
    let json = printed(&cx.engine.docker(["image", "inspect", image]))?;
    Ok(json.first().map(Said::read).unwrap_or_default())
}

/// What the official image of a release says, where that isn't here.
/// Source: <https://github.com/docker-library/docs/blob/master/postgres/README.md#pgdata>.
fn usual(major: u32) -> Said {
    let above = "/var/lib/postgresql";
    match major >= 18 {
        true => Said { folder: Some(format!("{above}/{major}/docker")), volumes: vec![above.into()] },
        false => Said { folder: Some(format!("{above}/data")), volumes: vec![format!("{above}/data")] },
    }
}

type Extensions = BTreeMap<String, Vec<(String, String)>>;

fn extensions(cx: &Context, subject: &Subject, facts: &Facts) -> Result<Extensions> {
    let mut all = Extensions::new();
    for database in facts.databases.iter().filter(|database| !database.is_closed) {
        let said = subject.psql(cx, &database.name).stdin(EXTENSIONS).read()?;
        let rows = rows::read(said.lines()).filter_map(|row| <[String; 2]>::try_from(row).ok());
        all.insert(database.name.clone(), rows.map(|[name, version]| (name, version)).collect());
    }
    Ok(all)
}

/// The services that use the server, by its sessions too.
fn users(cx: &Context, subject: &Subject, facts: &Facts) -> Result<Vec<String>> {
    let containers = cx.containers()?;
    let has_sessions = |service: &Service| {
        let own = containers.iter().filter(|container| container.service == service.name);
        own.flat_map(|container| &container.addresses).any(|address| facts.sessions.contains_key(address))
    };
    Ok(users_of(cx, subject.name(), has_sessions))
}

/// What the data takes, and what is free beside it, in bytes.
fn room(cx: &Context, subject: &Subject) -> Result<(u64, u64)> {
    let mounts = [mount(&subject.source, "/from") + ",readonly"];
    let of = kept::of(cx, subject.name());
    let said = scripts::run(cx, &subject.image, &of, &mounts, scripts::ROOM, &[]).read()?;
    let mut numbers = said.lines().filter_map(|line| line.trim().parse::<u64>().ok()).map(|kb| kb * 1024);
    numbers.next().zip(numbers.next()).context("the size of the data can't be told")
}

/// How many times what the data takes now is needed at most beside it: the kept copy, the new cluster, and that once more
/// while it is put in its place.
const TIMES: u64 = 3;

impl Survey {
    fn check_room(&mut self) {
        if let Some((used, free)) = self.room.filter(|(used, free)| used * TIMES > *free) {
            let message = format!(
                "{} are free where the data is, and up to {} are needed",
                size(free),
                size(used * TIMES)
            );
            self.blocked.push((message, Some("docker system df, and make room".into())));
        }
    }

    fn note(&mut self, cx: &Context, extensions: &Extensions, release: Option<&Release>) -> Result<()> {
        let containers = cx.containers()?;
        let is_known = |address: &String| containers.iter().any(|c| c.addresses.contains(address));
        let strangers = self.facts.sessions.iter().filter(|(from, _)| !from.is_empty() && !is_known(from));
        let strangers: Vec<_> = strangers.map(|(from, count)| format!("{count} from {from}")).collect();
        if !strangers.is_empty() {
            let all = strangers.join(", ");
            self.notes.push(format!("sessions of others than this stack's services end: {all}"));
        }
        let is_alpine = |end: &End| end.image.contains("alpine");
        if is_alpine(&self.kept.old) != is_alpine(&self.kept.new) {
            self.notes
                .push("one image is Alpine's and the other isn't: texts may sort in another order".into());
        }
        if self.subject.arguments.is_none() {
            let message =
                "the service has a command of its own: whether the new server takes it shows when it starts";
            self.notes.push(message.into());
        }
        if let Some(release) = release {
            for (database, all) in extensions {
                for (name, version) in all {
                    if let Some(new) = release.extensions.get(name).filter(|new| *new != version) {
                        self.notes.push(format!(
                            "the extension {name} of {database} becomes {new}, and is {version}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
