//! What a command of the engine may change of what it said before: told by its words. What isn't known to read only may
//! change everything.

/// What of the engine's answers is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// Which images are here.
    Images,
    /// Which containers there are, and what they are in.
    Containers,
    /// Containers, and with them the servers and their databases.
    Everything,
}

/// Docker's commands that only read.
const READING: [&str; 14] = [
    "diff", "events", "history", "info", "inspect", "logs", "manifest", "port", "ps", "search", "stats",
    "top", "version", "images",
];

/// Its groups of commands, of which these read.
const GROUPS: [&str; 6] = ["container", "context", "image", "network", "system", "volume"];
const READING_OF_GROUP: [&str; 4] = ["df", "info", "inspect", "ls"];

/// What `docker` with these words changes.
pub fn of_docker(words: &[&str]) -> Effect {
    let Some((verb, rest)) = words.split_first() else { return Effect::Nothing };
    match *verb {
        verb if READING.contains(&verb) => Effect::Nothing,
        verb if GROUPS.contains(&verb) => match rest.first() {
            Some(verb) if READING_OF_GROUP.contains(verb) => Effect::Nothing,
            _ => Effect::Everything,
        },
        // What runs in a container is told of by who runs it.
        "exec" => Effect::Nothing,
        "run" if rest.contains(&"--rm") => Effect::Nothing,
        "build" | "import" | "load" | "pull" | "rmi" | "tag" => Effect::Images,
        "create" | "kill" | "pause" | "restart" | "rm" | "run" | "start" | "stop" | "unpause" => {
            Effect::Containers
        }
        _ => Effect::Everything,
    }
}

/// Options of Compose that take a value, before the command.
const WITH_VALUE: [&str; 5] = ["--env-file", "--file", "--profile", "--project-name", "-f"];

/// What Compose with these words changes.
pub fn of_compose(words: &[&str]) -> Effect {
    let mut words = words.iter();
    let verb = loop {
        match words.next() {
            None => return Effect::Nothing,
            Some(option) if WITH_VALUE.contains(option) => _ = words.next(),
            Some(option) if option.starts_with('-') => {}
            Some(verb) => break *verb,
        }
    };
    let has = |word: &str| words.clone().any(|other| *other == word);
    match verb {
        "config" | "exec" | "images" | "logs" | "ls" | "port" | "ps" | "top" | "version" => Effect::Nothing,
        "run" if has("--rm") => Effect::Nothing,
        "build" | "pull" => Effect::Images,
        "create" => Effect::Containers,
        "up" if has("--no-start") => Effect::Containers,
        _ => Effect::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(line: &str) -> Effect {
        of_docker(&line.split(' ').collect::<Vec<_>>())
    }

    fn compose(line: &str) -> Effect {
        of_compose(&line.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn what_only_reads_changes_nothing() {
        for line in ["ps --all", "image inspect x", "network inspect x", "exec -i db psql", "run --rm -i x"] {
            assert_eq!(docker(line), Effect::Nothing, "{line}");
        }
        for line in ["config", "-f - config --hash *", "--profile * config", "logs -f", "run --rm -T kratos"]
        {
            assert_eq!(compose(line), Effect::Nothing, "{line}");
        }
    }

    #[test]
    fn what_writes_changes_what_it_writes() {
        assert_eq!(docker("pull --quiet x"), Effect::Images);
        assert_eq!(docker("stop a b"), Effect::Containers);
        assert_eq!(docker("run -d x"), Effect::Containers);
        assert_eq!(docker("volume rm x"), Effect::Everything);
        assert_eq!(compose("build kratos"), Effect::Images);
        assert_eq!(compose("up --no-start kratos"), Effect::Containers);
        for line in ["up -d", "--profile * down --volumes", "restart kratos", "-f x rm"] {
            assert_eq!(compose(line), Effect::Everything, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_may_change_everything() {
        assert_eq!(docker("swarm init"), Effect::Everything);
        assert_eq!(compose("watch"), Effect::Everything);
    }
}
