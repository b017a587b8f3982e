//! A fake engine, alone on the PATH: it answers from a list, and notes every call.

use std::path::PathBuf;
use std::process::Command;

use crate::project::{Outcome, Project, outcome};

/// What `docker`, and `docker-compose`, answer. The first rule that fits a call wins.
pub struct Fake {
    pub project: Project,
    programs: Vec<&'static str>,
    rules: Vec<Rule>,
}

struct Rule {
    /// A shell pattern over the whole command line.
    pattern: String,
    stdout: String,
    stderr: String,
    code: i32,
}

impl Fake {
    /// Compose v2, the recommended stack, all images here, nothing running.
    pub fn new() -> Self {
        let project = Project::new();
        project.write("Cargo.lock", "");
        project.write(".env", &secrets());
        let config =
            include_str!("fixtures/config-v2.yml").replace("DIR", &project.dir.display().to_string());
        let project_file = project_file();
        // The fakes are one project, each of an engine of its own: none waits for the lock of another.
        let engine = format!("{}\n", project.dir.display());
        Self { project, programs: vec!["docker"], rules: vec![] }
            .answers("docker info --format {{.ID}}", &engine)
            .answers("docker container inspect *", "[]\n")
            .answers("docker compose version --short", "2.26.1\n")
            .answers("docker compose config", &config)
            .answers("docker compose -f - config", "{}\n")
            .answers("docker compose config --no-interpolate", &project_file)
            .answers("docker image inspect *", r#"[{"Id":"sha256:cafe","Config":{"Labels":null}}]"#)
    }

    /// docker-compose 1.29 and no plugin.
    pub fn v1() -> Self {
        let mut fake = Self::new();
        let config =
            include_str!("fixtures/config-v1.yml").replace("DIR", &fake.project.dir.display().to_string());
        fake.programs = vec!["docker", "docker-compose"];
        fake.fails("docker compose *", 1, "docker: 'compose' is not a docker command.\n")
            .answers("docker-compose version --short", "1.29.2\n")
            .answers("docker-compose config", &config)
            .answers("docker-compose -f - config", "{}\n")
            .answers("docker-compose config --no-interpolate", &project_file())
    }

    /// The production stack instead, all its files written.
    pub fn in_production(self) -> Self {
        let is_v1 = self.has_program("docker-compose");
        let (compose, config) = match is_v1 {
            true => ("docker-compose config", include_str!("fixtures/config-production-v1.yml")),
            false => ("docker compose config", include_str!("fixtures/config-production-v2.yml")),
        };
        let config = config.replace("DIR", &self.project.dir.display().to_string());
        self.project.write("secrets/database-ca.crt", "");
        for product in ["kratos", "hydra", "keto"] {
            let example = self.project.read(&format!("secrets.example/{product}.yml"));
            let secret = example.replace("change-me-by-openssl-rand-hex-16", &"of-the-test".repeat(3)[..32]);
            self.project
                .write(&format!("secrets/{product}.yml"), &secret.replace("change-me", "of-the-test"));
        }
        self.answers(compose, &config)
    }

    /// Whether there is such a program.
    pub fn has_program(&self, program: &str) -> bool {
        self.programs.contains(&program)
    }

    /// One more program on the PATH.
    pub fn with_program(mut self, program: &'static str) -> Self {
        self.programs.push(program);
        self
    }

    /// A machine without these programs.
    pub fn without_programs(mut self) -> Self {
        self.programs.clear();
        self
    }

    /// A call that succeeds.
    pub fn answers(self, pattern: &str, stdout: &str) -> Self {
        self.rule(pattern, stdout, "", 0)
    }

    /// A call that succeeds, and warns.
    pub fn warns(self, pattern: &str, stdout: &str, stderr: &str) -> Self {
        self.rule(pattern, stdout, stderr, 0)
    }

    /// A call that fails.
    pub fn fails(self, pattern: &str, code: i32, stderr: &str) -> Self {
        self.rule(pattern, "", stderr, code)
    }

    fn rule(mut self, pattern: &str, stdout: &str, stderr: &str, code: i32) -> Self {
        // A later rule is a more special one.
        self.rules
            .insert(0, Rule { pattern: pattern.into(), stdout: stdout.into(), stderr: stderr.into(), code });
        self
    }

    /// The database service running, each product with these versions applied.
    pub fn with_database(self, applied: &str) -> Self {
        let versions: String = applied.lines().map(|version| format!("version\t{version}\n")).collect();
        self.answers("docker ps --all *", &listed("db1", "db", "running"))
            .answers("docker container inspect db1", &container("db1", "db", "running"))
            .answers("docker exec *psql*", applied)
            .answers("docker exec *pg_attrdef*", &format!("server\t15\tpublic\n{versions}end\t3\n"))
    }

    /// Runs `cargo xtask ARGS`. The folder is `DIR` in what is returned.
    pub fn run(&self, args: &str) -> Outcome {
        self.outcome(&mut self.command(args))
    }

    /// As [`Fake::run`], of a command that was changed.
    pub fn outcome(&self, command: &mut Command) -> Outcome {
        let outcome = outcome(command);
        let plain = |text: String| text.replace(&self.project.dir.display().to_string(), "DIR");
        Outcome { stdout: plain(outcome.stdout), stderr: plain(outcome.stderr), ..outcome }
    }

    /// The command itself, for a test that changes more of it.
    pub fn command(&self, args: &str) -> Command {
        self.install();
        let mut command = self.project.xtask();
        command
            .env("PATH", self.programs_folder())
            .env("FAKE", &self.project.dir)
            .env_remove("DOCKER_HOST")
            .env("CARGO_MANIFEST_DIR", self.project.dir.join("xtask"))
            .args(args.split_whitespace());
        command
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> String {
        self.project.read("calls")
    }

    /// What psql was to run so far, in order.
    pub fn scripts(&self) -> String {
        self.project.read("scripts")
    }

    fn programs_folder(&self) -> PathBuf {
        self.project.dir.join("bin")
    }

    /// Writes the programs: a shell script each, with nothing but the shell's own commands and `cat`.
    fn install(&self) {
        self.project.write("calls", "");
        self.project.write("scripts", "");
        std::fs::create_dir_all(self.programs_folder()).expect("a folder");
        for program in &self.programs {
            let mut script = format!("#!/bin/sh\ncall=\"{program} $*\"\necho \"$call\" >>\"$FAKE/calls\"\n");
            // The psql that holds the lock of a database answers line by line.
            script += "case \"$call\" in docker\\ exec*PGAPPNAME*) while read -r line; do case \"$line\" in\n\
                *try_advisory_lock*) echo t ;; *\"'held'\"*) echo held ;; '\\echo '*) echo '-- end of rows --' ;;\n\
                esac; done; exit ;; esac\n";
            // What psql is to run belongs to the call, but isn't noted with it. Where psql stays connected, it is up
            // to a line that is to be printed after the answer.
            script += "request() { while IFS= read -r line; do printf '%s\\n' \"$line\"\n\
                case \"$line\" in '\\echo \"-- end of rows'*) break ;; esac; done; }\n\
                end() { case \"$sql\" in *'-- end of rows'*) echo '-- end of rows --' ;; esac; }\n";
            script += "[ \"$2\" = -i ] && sql=$(request) && printf '%s\\n' \"$sql\" >>\"$FAKE/scripts\"\n";
            // psql prints the versions of each product that the script has, as JSON.
            script += "answer() { case \"$sql\" in *\"json_build_object('\"*) printf '%s\\n' \"$sql\" | while IFS= read -r line; do case \"$line\" in\n\
                \"select json_build_object('product', '\"*) kind=${line#*\\'product\\', \\'}; name=${line#*\\'name\\', \\'}; list=; while read -r version || [ -n \"$version\" ]; do\n\
                list=\"$list${list:+, }\\\"$version\\\"\"; done <\"$1\"; echo \"{\\\"product\\\" : \\\"${kind%%\\'*}\\\", \\\"name\\\" : \\\"${name%%\\'*}\\\", \\\"versions\\\" : [$list]}\" ;;\n\
                esac; done ;; *) /bin/cat \"$1\" ;; esac; }\n";
            script += "case \"$call$sql\" in\n";
            for (number, rule) in self.rules.iter().enumerate() {
                self.project.write(&format!("out{number}"), &rule.stdout);
                self.project.write(&format!("err{number}"), &rule.stderr);
                let pattern = rule.pattern.replace(' ', "\\ ");
                script += &format!(
                    "{pattern}) /bin/cat \"$FAKE/err{number}\" >&2; answer \"$FAKE/out{number}\"; end; exit {} ;;\n",
                    rule.code
                );
            }
            script += "esac\n";
            self.project.write_program(&format!("bin/{program}"), &script);
        }
    }
}

/// What `docker ps` prints of a container of the stack.
pub fn listed(id: &str, service: &str, state: &str) -> String {
    format!("{id}\tstack-{service}-1\t{state}\tstack\t{service}\tFalse\n")
}

/// What `docker container inspect` prints of a container of the stack.
pub fn container(id: &str, service: &str, state: &str) -> String {
    format!(
        r#"[{{"Id":"{id}","Name":"/stack-{service}-1","RestartCount":0,
            "State":{{"Status":"{state}","ExitCode":0}},
            "Config":{{"Image":"image-of-{service}","Labels":{{"com.docker.compose.service":"{service}"}}}},
            "HostConfig":{{"PortBindings":{{}}}},"NetworkSettings":{{"Ports":{{}}}}}}]"#
    )
}

/// The stack with its variables' names in it, as Compose prints it without their values.
fn project_file() -> String {
    let path = crate::project::workspace().join("docker-compose.yml");
    std::fs::read_to_string(path).expect("the stack")
}

fn secrets() -> String {
    let names = ["POSTGRES_PASSWORD", "KRATOS_DB_PASSWORD", "HYDRA_DB_PASSWORD", "KETO_DB_PASSWORD"];
    let more = ["KRATOS_SECRETS_COOKIE", "KRATOS_SECRETS_CIPHER", "HYDRA_SECRETS_SYSTEM"];
    names.iter().chain(&more).map(|name| format!("{name}=of-the-test\n")).collect()
}
