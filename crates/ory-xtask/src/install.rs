//! `--install-docker`: brings an engine and Compose with the system's own package manager, and starts the
//! daemon, with or without systemd. It says what it is about to run, and asks.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, switch, yes};
use ory_ops::context::Options;
use ory_ops::folders::work_file;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::Output;
use ory_runner::process::{self, Invocation};

/// A package manager: its program, what it runs first, how it installs, and what it calls things.
struct Manager {
    program: &'static str,
    refresh: Option<&'static [&'static str]>,
    install: &'static [&'static str],
    engine: &'static str,
    compose: &'static str,
    /// What makes a PostgreSQL image where none can be pulled, for stand-ins.
    image_maker: Option<&'static str>,
}

/// Only apt-get was seen to work, on Debian 12.
const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        refresh: Some(&["update", "-qq"]),
        install: &["install", "-y", "-qq"],
        engine: "docker.io",
        compose: "docker-compose",
        image_maker: Some("mmdebstrap"),
    },
    Manager {
        program: "dnf",
        refresh: None,
        install: &["install", "-y"],
        engine: "moby-engine",
        compose: "docker-compose",
        image_maker: None,
    },
    Manager {
        program: "pacman",
        refresh: None,
        install: &["-Sy", "--noconfirm"],
        engine: "docker",
        compose: "docker-compose",
        image_maker: None,
    },
    Manager {
        program: "apk",
        refresh: None,
        install: &["add"],
        engine: "docker",
        compose: "docker-cli-compose",
        image_maker: None,
    },
];

/// What is going to be used beyond an engine and any Compose.
pub struct Need {
    /// Stand-ins are going to be built.
    pub stand_ins: bool,
    /// Both Compose v2 and docker-compose 1.29, as the tests run under each.
    pub both_composes: bool,
}

/// Whether Docker may be installed.
pub struct Install {
    pub install_docker: bool,
    pub yes: bool,
}

impl Arguments for Install {
    fn all() -> Vec<Arg> {
        vec![
            switch("install-docker", "Install Docker and Compose if missing, and start the daemon"),
            yes().help("Don't ask before that").requires("install-docker"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self { install_docker: typed.get_flag("install-docker"), yes: typed.get_flag("yes") }
    }
}

/// Installs what is missing and starts the daemon; nothing where that isn't asked for, or an engine answers and all is there.
pub fn engine(options: &Options, asked: &Install, need: &Need) -> Result<()> {
    if !asked.install_docker {
        return Ok(());
    }
    let commands = commands(options, need)?;
    if options.dry_run {
        return Ok(commands.iter().try_for_each(|command| Output::data(command.to_string()))?);
    }
    if commands.is_empty() {
        return Ok(());
    }
    options.output.say("to get Docker running, this is going to run:");
    commands.iter().for_each(|command| options.output.say(format!("  {command}")));
    if !asked.yes {
        if !std::io::stdin().is_terminal() {
            let failure =
                Failure::new(Exit::Usage, "there is no terminal to ask on before installing Docker");
            bail!(failure.hint("add --yes"));
        }
        if !options.output.ask("Run them?", &options.interrupt)? {
            bail!(Failure::new(Exit::Missing, "nothing was installed").hint("install Docker your own way"));
        }
    }
    for command in &commands {
        let _progress = options.output.progress(format!("running `{command}`"));
        let run = command.stream(|line| {
            line.into_iter().for_each(|line| options.output.relay(line));
            Ok(())
        });
        run.with_context(|| format!("failed to run `{command}`"))?;
    }
    wait_for_daemon(options)
}

/// The command lines that are needed here, in order.
fn commands(options: &Options, need: &Need) -> Result<Vec<Invocation>> {
    let mut commands = Vec::new();
    let answers = daemon_answers();
    let has_v1 = process::find("docker-compose").is_some();
    let has_v2 = run(&["docker", "compose", "version"]);
    let has_compose = has_v1 || !need.both_composes && has_v2;
    let lacks_engine = !answers && process::find("dockerd").is_none();
    let lacks_maker = need.stand_ins && process::find("mmdebstrap").is_none();
    if lacks_engine || !has_compose || lacks_maker {
        let manager = MANAGERS.iter().find(|manager| process::find(manager.program).is_some());
        let manager = manager.filter(|_| cfg!(target_os = "linux")).ok_or_else(|| {
            Failure::new(Exit::Missing, "no package manager that is known here can install Docker")
                .hint("install Docker Desktop, or your system's packages, then leave --install-docker out")
        })?;
        let packages = [
            lacks_engine.then_some(manager.engine),
            (!has_compose).then_some(manager.compose),
            manager.image_maker.filter(|_| lacks_maker),
        ];
        let packages: Vec<_> = packages.into_iter().flatten().collect();
        if !packages.is_empty() {
            commands.extend(manager.refresh.map(|args| as_root(manager.program, args)));
            commands.push(as_root(manager.program, &[manager.install, &packages].concat()));
        }
    }
    if need.both_composes && !has_v2 {
        let script = work_file(options, "install/compose-v2.sh")?;
        fs::write(&script, include_str!("compose-v2.sh"))
            .with_context(|| format!("failed to write {}", script.display()))?;
        commands.push(as_root("sh", &[&script.display().to_string()]));
    }
    if !answers {
        commands.push(start_daemon());
    }
    Ok(commands)
}

/// The command that starts the daemon: by systemd where it runs the system, else by itself.
fn start_daemon() -> Invocation {
    if Path::new("/run/systemd/system").is_dir() {
        return as_root("systemctl", &["start", "docker"]);
    }
    // A daemon that was killed leaves its pid files, and the numbers may be others' by now, or a zombie's.
    let script = "pgrep -x -r R,S,D dockerd >/dev/null || \
                  rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid; \
                  setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &";
    as_root("sh", &["-c", script])
}

fn wait_for_daemon(options: &Options) -> Result<()> {
    let _progress = options.output.progress("waiting for the Docker daemon");
    let start = Instant::now();
    while !daemon_answers() {
        if start.elapsed() > options.wait() {
            let message = format!("the Docker daemon does not answer after {} s", options.wait().as_secs());
            bail!(Failure::new(Exit::Missing, message).hint("docker info; its log is /var/log/dockerd.log"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn daemon_answers() -> bool {
    run(&["docker", "ps", "--quiet"])
}

/// Whether a command is there and succeeds.
fn run(words: &[&str]) -> bool {
    let [program, args @ ..] = words else { return false };
    let command = Invocation::new(*program, Path::new(".")).args(args.iter().copied());
    process::find(program).is_some() && command.output().is_ok_and(|output| output.status.success())
}

/// A command with the rights of the system's administrator.
fn as_root(program: &str, args: &[&str]) -> Invocation {
    let here = Path::new(".");
    let is_root = Invocation::new("id", here).arg("-u").read().is_ok_and(|id| id.trim() == "0");
    let command =
        if is_root { Invocation::new(program, here) } else { Invocation::new("sudo", here).arg(program) };
    // apt-get must not ask on a terminal that isn't there.
    command.args(args.iter().copied()).envs([("DEBIAN_FRONTEND".to_string(), "noninteractive".to_string())])
}
