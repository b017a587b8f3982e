//! `upgrade db`: the database server itself to another major version of PostgreSQL.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::report::{NOT_CONFIRMED, NOTHING, UPGRADED, WENT_BACK};
use ory_facts::product::Product;
use ory_ops::context::{Context, Options};
use ory_ops::lock::{FolderLock, Locked};
use ory_ops::server_upgrade::kept::{Kept, Phase, Way};
use ory_ops::server_upgrade::survey::{Found, Pull, Survey, survey};
use ory_ops::server_upgrade::{back, run as upgrade, subject};
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::{Output, counted, size};

/// The word that stands for the database server, whatever its service is called.
pub const DB: &str = "db";

/// What was asked for.
pub struct Asked<'a> {
    /// [`DB`], or the name of a service.
    pub server: &'a str,
    pub to: Option<&'a str>,
    pub plan: bool,
    pub back: bool,
    pub finish: bool,
    pub yes: bool,
    pub json: bool,
}

pub fn run(options: &Options, args: &Asked) -> Result<()> {
    let name = args.server;
    if args.plan || options.dry_run {
        return tell(&Context::new(options, vec![])?, args, name);
    }
    let mut cx = FolderLock::take(options)?.and_project(Context::new(options, vec![])?)?;
    let service = subject::named(&cx, name)?.name.clone();
    let ended = change(&mut cx, &service, args);
    if args.json {
        let (state, problem) = match &ended {
            Ok(state) => (*state, None),
            Err(error) => ("failed", Some(options.output.named(&format!("{error:#}")))),
        };
        Output::data(json!({"server": service, "state": state, "problem": problem}).to_string())?;
    }
    ended.map(|_| ())
}

/// Does what was asked for, or what an earlier run has begun; in a word or two how it ended.
fn change(cx: &mut Locked, service: &str, args: &Asked) -> Result<&'static str> {
    let left = Kept::find(cx, service)?;
    let phase = left.as_ref().map(|kept| kept.phase(cx)).transpose()?;
    match left.zip(phase) {
        Some((kept, Phase::Done)) if args.finish => finish(cx, &kept, args),
        Some((kept, Phase::Done)) if args.back => go_back(cx, &kept, args),
        Some((kept, Phase::Moving(Way::New) | Phase::Moved(Way::New))) if !args.back => {
            cx.out.say(format!(
                "an earlier run was ended while it put PostgreSQL {} in place: going on",
                kept.new.major
            ));
            upgrade::go_on(cx, kept).map(|()| UPGRADED)
        }
        Some((kept, phase @ (Phase::Moving(_) | Phase::Moved(_)))) => {
            cx.out.say(format!(
                "an earlier run was ended on its way back to PostgreSQL {}: going on",
                kept.old.major
            ));
            back::back(cx, &kept, phase).map(|_| WENT_BACK)
        }
        Some((kept, Phase::Untouched)) if args.finish || args.back => {
            upgrade::make_ready(cx, service)?;
            cx.out.say(format!(
                "{}: an earlier run was ended before it changed anything; removed",
                kept.volume
            ));
            Ok(NOTHING)
        }
        _ if args.finish || args.back => {
            let message = format!("no upgrade of `{service}` is kept that could be finished, or left");
            bail!(Failure::new(Exit::Failed, message).hint(format!("{{XTASK}} upgrade {service} --plan")))
        }
        left => begin(cx, service, args, left.is_some_and(|(_, phase)| phase == Phase::Untouched)),
    }
}

/// Whether a name is of a database server: that word, or a service that is one.
pub fn is_meant(options: &Options, name: &str) -> Result<bool> {
    if name == DB {
        return Ok(true);
    }
    if Product::named(name).is_some() {
        return Ok(false);
    }
    let cx = Context::new(options, vec![])?;
    Ok(subject::servers(&cx)?.iter().any(|service| service.name == name))
}

/// Upgrades from the start. `was_begun`: an earlier run has left what came to nothing.
fn begin(cx: &mut Locked, service: &str, args: &Asked, was_begun: bool) -> Result<&'static str> {
    if was_begun {
        cx.out.say("an earlier run was ended before it changed anything: starting again");
    }
    upgrade::make_ready(cx, service)?;
    let plan = match survey(cx, subject::named(cx, service)?, args.to, Pull::Yes)? {
        Found::Nothing(why) => {
            cx.out.say(why);
            return Ok(NOTHING);
        }
        Found::Plan(plan) => plan,
    };
    refuse(&plan)?;
    lines(&plan).iter().for_each(|line| cx.out.say(line));
    let question = format!("Upgrade `{service}` to PostgreSQL {}?", plan.kept.new.major);
    let what = format!("stops `{service}` and what uses it for as long as it takes");
    if !super::super::confirm(cx, args.yes, &what, &question, &format!("{} --yes", line(args)))? {
        cx.out.say("nothing was changed");
        return Ok(NOT_CONFIRMED);
    }
    upgrade::run(cx, *plan).map(|()| UPGRADED)
}

/// The line that does what was planned.
fn line(args: &Asked) -> String {
    let to = args.to.map(|to| format!(" --to {to}")).unwrap_or_default();
    format!("{{XTASK}} upgrade {}{to}", args.server)
}

/// What a plan says, a line each.
fn lines(plan: &Survey) -> Vec<String> {
    let Survey { subject, facts, kept, .. } = plan;
    let name = subject.name();
    let mut lines = vec![format!(
        "{name}: PostgreSQL {} becomes {}, by {}",
        facts.version, kept.new.major, kept.new.image
    )];
    if let Some((used, free)) = plan.room {
        lines.push(format!("data: {} in the {}, {} are free there", size(used), subject.told, size(free)));
    }
    let databases: Vec<_> = facts.databases.iter().map(|database| database.name.as_str()).collect();
    lines.push(format!(
        "copied and compared: {}: {}",
        counted(databases.len(), "database"),
        databases.join(", ")
    ));
    if !plan.users.is_empty() {
        lines.push(format!("stopped meanwhile: {name}, {}", plan.users.join(", ")));
    }
    let changed = plan.edits.iter().map(|edit| format!("changed: {}: {}", edit.file.display(), edit.line()));
    lines.extend(changed);
    if kept.old.place.target != kept.new.place.target {
        lines.push(format!("mounted at {}, no longer at {}", kept.new.place.target, kept.old.place.target));
    }
    lines.push(format!("kept until --finish: the volume {}, with the old data", kept.volume));
    if !plan.is_here {
        lines.push(format!("note: {} isn't here; what it lacks shows once it is pulled", kept.new.image));
    }
    lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    lines
}

/// Fails where something is in the way.
fn refuse(plan: &Survey) -> Result<()> {
    let Some((_, hint)) = plan.blocked.first() else { return Ok(()) };
    let all: Vec<_> = plan.blocked.iter().map(|(message, _)| message.as_str()).collect();
    let message = format!("`{}` can't be upgraded: {}", plan.subject.name(), all.join("; "));
    let hint = hint.clone().unwrap_or("see to it, then this again".into());
    bail!(Failure::new(Exit::Failed, message).hint(hint))
}

/// The plan, and its exit code: 0 where there is nothing to do, 3 where there is, 1 where something is in the way.
fn tell(cx: &Context, args: &Asked, name: &str) -> Result<()> {
    let service = subject::named(cx, name)?;
    let kept = Kept::find(cx, &service.name)?;
    if args.finish || args.back {
        return tell_end(cx, args, kept.as_ref());
    }
    if let Some(kept) = kept {
        let phase = kept.phase(cx)?;
        let state = match phase {
            Phase::Untouched => "was ended before it changed anything",
            Phase::Moving(Way::New) | Phase::Moved(Way::New) => {
                "was ended while the new data was put in place"
            }
            Phase::Moving(Way::Old) | Phase::Moved(Way::Old) => "was ended on its way back",
            Phase::Done => "is done, and its old data kept",
        };
        let from_to = format!("from PostgreSQL {} to {}", kept.old.major, kept.new.major);
        cx.out.say(format!("an upgrade of `{}` {from_to} {state}: the volume {}", service.name, kept.volume));
        if phase != Phase::Done && phase != Phase::Untouched {
            bail!(
                Failure::new(Exit::Pending, "an upgrade waits to go on")
                    .hint(format!("{{XTASK}} upgrade {}", service.name))
            );
        }
    }
    let found = survey(cx, service, args.to, Pull::No);
    if let (true, Err(error)) = (cx.options.dry_run, &found) {
        return Ok(Output::data(format!(
            "# what is done depends on the server, which can't be asked: {error}"
        ))?);
    }
    let plan = match found? {
        Found::Nothing(why) if args.json => {
            return Ok(Output::data(
                json!({"server": service.name, "state": "current", "why": why}).to_string(),
            )?);
        }
        Found::Nothing(why) => return Ok(Output::data(cx.out.named(&why))?),
        Found::Plan(plan) => plan,
    };
    if args.json {
        Output::data(document(&plan).to_string())?;
    } else if cx.options.dry_run {
        lines(&plan).iter().try_for_each(|line| Output::data(format!("# {line}")))?;
        upgrade::commands(cx, &plan)?.iter().try_for_each(|command| Output::data(command.to_string()))?;
    } else {
        lines(&plan).iter().try_for_each(Output::data)?;
    }
    refuse(&plan)?;
    if cx.options.dry_run {
        return Ok(());
    }
    let message = format!("`{}` can be upgraded to PostgreSQL {}", plan.subject.name(), plan.kept.new.major);
    bail!(Failure::new(Exit::Pending, message).hint(line(args)))
}

/// What going back, or deleting what is kept, would run.
fn tell_end(cx: &Context, args: &Asked, kept: Option<&Kept>) -> Result<()> {
    let Some(kept) = kept else { return Ok(Output::data("# no old data is kept: nothing is done")?) };
    let commands = if args.finish { back::finish_commands(cx, kept) } else { back::commands(cx, kept)? };
    Ok(commands.iter().try_for_each(|command| Output::data(command.to_string()))?)
}

fn document(plan: &Survey) -> Value {
    let Survey { subject, facts, kept, .. } = plan;
    let blocked: Vec<_> = plan.blocked.iter().map(|(message, _)| message).collect();
    let changes =
        plan.edits.iter().map(|edit| json!({"file": edit.file.display().to_string(), "line": edit.line()}));
    json!({
        "server": subject.name(),
        "state": if blocked.is_empty() { "can be upgraded" } else { "blocked" },
        "from": {"version": facts.version, "major": kept.old.major, "image": kept.old.image, "mount": kept.old.place.target},
        "to": {"major": kept.new.major, "image": kept.new.image, "mount": kept.new.place.target},
        "image_is_here": plan.is_here,
        "bytes": plan.room.map(|(used, _)| used),
        "free": plan.room.map(|(_, free)| free),
        "databases": facts.databases.iter().map(|database| &database.name).collect::<Vec<_>>(),
        "stopped": plan.users,
        "changes": changes.collect::<Vec<_>>(),
        "kept": kept.volume,
        "notes": plan.notes,
        "blocked": blocked,
    })
}

/// Deletes what was kept, after asking.
fn finish(cx: &Locked, kept: &Kept, args: &Asked) -> Result<&'static str> {
    let what = format!("deletes the volume {}, the data of PostgreSQL {}", kept.volume, kept.old.major);
    let question = format!("Delete the volume {}, the data of PostgreSQL {}?", kept.volume, kept.old.major);
    if !super::super::confirm(cx, args.yes, &what, &question, &format!("{} --finish --yes", line(args)))? {
        cx.out.say("nothing was deleted");
        return Ok(NOT_CONFIRMED);
    }
    back::finish(cx, kept)?;
    cx.out.say(format!("{}: deleted", kept.volume));
    Ok("finished")
}

/// Goes back, after saying what that loses.
fn go_back(cx: &mut Locked, kept: &Kept, args: &Asked) -> Result<&'static str> {
    let lost = back::lost(cx, kept)?;
    let rows: u64 = lost.iter().map(|(_, rows)| rows).sum();
    for (table, rows) in &lost {
        cx.out.say(format!("lost: {table}: {}", counted(*rows as usize, "row")));
    }
    let what = match rows {
        0 => format!("goes back to PostgreSQL {}; no row was written since the upgrade", kept.old.major),
        rows => format!(
            "goes back to PostgreSQL {}, and loses {} written since, and what was changed otherwise",
            kept.old.major,
            counted(rows as usize, "row")
        ),
    };
    let question = format!("This {what}. Go back?");
    if !super::super::confirm(cx, args.yes, &what, &question, &format!("{} --back --yes", line(args)))? {
        cx.out.say("nothing was changed");
        return Ok(NOT_CONFIRMED);
    }
    let lost = back::back(cx, kept, Phase::Done)?;
    let more = lost.iter().map(|(_, rows)| rows).sum::<u64>();
    if more != rows {
        cx.out.warn(format!(
            "{} were lost in all: some were written while it was asked",
            counted(more as usize, "row")
        ));
    }
    Ok(WENT_BACK)
}
