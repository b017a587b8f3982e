//! The README and the guide, run as they are printed: every command line, in the order of the document, on
//! the real engine with stand-ins. The French guide has the same command lines; another test sees to it.

use crate::docs::command_lines;
use crate::production;
use crate::project::{Outcome, answered, outcome};
use crate::stack::{Compose, NEW, OLD, Stack, docker};
use crate::tiers::full;

/// A command line of a document, and what is true after it.
struct Row {
    line: &'static str,
    /// Why it isn't run.
    skipped: Option<&'static str>,
    /// What is the case where a reader types it, if the lines before don't bring it about.
    before: fn(&Stack),
    /// On a terminal: what is answered to which prompts.
    answers: fn(&Stack) -> Vec<(&'static str, String)>,
    check: fn(&Stack, &Outcome),
}

fn row(line: &'static str, check: fn(&Stack, &Outcome)) -> Row {
    Row { line, skipped: None, before: |_| {}, answers: |_| vec![], check }
}

fn skip(line: &'static str, reason: &'static str) -> Row {
    Row { skipped: Some(reason), ..row(line, |_, _| {}) }
}

impl Row {
    fn given(self, before: fn(&Stack)) -> Self {
        Self { before, ..self }
    }

    fn answered(self, answers: fn(&Stack) -> Vec<(&'static str, String)>) -> Self {
        Self { answers, ..self }
    }
}

fn readme() -> Vec<Row> {
    vec![
        row("cargo xtask up", |stack, outcome| {
            assert!(outcome.stderr.contains(".env: written, with 7 new random secrets"), "{outcome}");
            is_ready(stack, outcome);
        }),
        row("cargo xtask up --stand-in", is_ready),
        skip("cargo xtask test", "this is one of its tests"),
    ]
}

fn guide() -> Vec<Row> {
    let mut rows = the_commands();
    rows.extend(usage());
    rows.extend(backup_and_restore());
    rows.extend(crate::upgrade_db::LINES.map(|line| skip(line, "`upgrade_db` runs it, with two images")));
    rows.extend(split());
    rows.extend(production::LINES.map(|line| skip(line, "`production` runs it, on a server elsewhere")));
    rows.extend(troubleshooting());
    rows
}

fn the_commands() -> Vec<Row> {
    vec![
        row("cargo xtask migrate-kratos", |_, outcome| says(outcome, "kratos: applied")).given(without_data),
        row("cargo xtask migrate-hydra", |_, outcome| says(outcome, "hydra: applied")),
        row("cargo xtask migrate-keto", |_, outcome| says(outcome, "keto: applied")),
        row("cargo xtask migrate-all", |_, outcome| {
            ["kratos", "hydra", "keto"]
                .iter()
                .for_each(|product| says(outcome, &format!("{product}: up to date")));
        }),
        row("cargo xtask up", is_ready),
        row("cargo xtask status", |_, outcome| {
            let rows = outcome.stdout.lines().skip(1);
            let rows: Vec<Vec<_>> = rows.map(|line| line.split_whitespace().collect()).collect();
            let rows: Vec<_> = rows.iter().map(|row| (row[0], &row[2..6])).collect();
            let fine = &["0", "0", "running", "yes"][..];
            assert_eq!(rows, [("kratos", fine), ("hydra", fine), ("keto", fine)], "{outcome}");
        }),
        row("cargo xtask status --check", |_, outcome| assert_ne!(outcome.stdout, "")),
        row("cargo xtask status --drift", |_, outcome| {
            ["kratos: no drift", "hydra: no drift", "keto: no drift"]
                .iter()
                .for_each(|line| says(outcome, line));
        }),
        row("cargo xtask doctor", |_, outcome| {
            let found = outcome.stdout.lines().find(|line| !line.starts_with("ok "));
            assert_eq!(found, None, "{outcome}");
        }),
        row("cargo xtask restart", is_ready),
        row("cargo xtask down", |stack, _| {
            assert!(stack.leftovers().contains(&format!("{}_db", stack.name)), "the data is gone");
            assert_eq!(stack.container("db"), (String::new(), String::new()));
        }),
        down_with_volumes(),
        row("cargo xtask logs kratos", |_, outcome| assert_ne!(outcome.stdout, "")).given(|stack| {
            xtask(stack, "up");
        }),
        row("cargo xtask completions bash --name xt > ~/.xt.bash", |stack, _| {
            assert!(stack.project.read(".xt.bash").contains("migrate-kratos"));
        }),
        row("cargo xtask repair kratos", |_, outcome| says(outcome, "kratos: nothing to repair")),
    ]
}

fn usage() -> Vec<Row> {
    vec![
        row("cargo xtask up", is_ready),
        row("cargo xtask up db", |stack, outcome| {
            says(outcome, ".env: written");
            assert_ne!(stack.container("db").1, "");
            assert_eq!(stack.container("kratos").1, "");
        })
        .given(|stack| {
            without_data(stack);
            without_lines(stack, &["SECRETS", "PASSWORD"]);
        }),
        row("cargo xtask migrate-all", |_, outcome| {
            ["kratos", "hydra", "keto"]
                .iter()
                .for_each(|product| says(outcome, &format!("{product}: applied")));
        }),
        row("cargo xtask up", is_ready),
        row("cargo xtask up --stand-in", |stack, outcome| {
            is_ready(stack, outcome);
            assert!(stack.project.read(".env").contains(&format!("KRATOS_IMAGE=stand-in/kratos:{NEW}")));
        })
        .given(|stack| without_lines(stack, &["_IMAGE="])),
        down_with_volumes(),
        row("cargo xtask up --stand-in=v25.4.0", |stack, _| runs_release(stack, OLD)),
        row("cargo xtask up --stand-in", |stack, outcome| {
            says(outcome, "kratos: applied");
            runs_release(stack, NEW);
        }),
        down_with_volumes(),
        // Here the reader has removed the stand-ins from `.env`. Without a registry, others are named.
        row("cargo xtask up", is_ready).given(|stack| stack.project.replace(".env", NEW, OLD)),
        row("cargo xtask migrate-all", |stack, outcome| {
            says(outcome, "kratos: applied");
            runs_release(stack, OLD);
        })
        .given(|stack| stack.project.replace(".env", OLD, NEW)),
        row("cargo xtask restart kratos hydra keto", |stack, outcome| {
            is_ready(stack, outcome);
            runs_release(stack, NEW);
        }),
        row("cargo xtask upgrade --to v26.2.0 --rehearse", |stack, outcome| {
            assert!(outcome.stdout.contains("kratos: stand-in/kratos:v25.4.0 -> "), "{outcome}");
            assert!(outcome.stdout.contains("kratos: rehearsed with "), "{outcome}");
            runs_release(stack, OLD);
        })
        .given(|stack| {
            without_data(stack);
            stack.project.replace(".env", NEW, OLD);
            xtask(stack, "up");
        }),
        row("cargo xtask upgrade --to v26.2.0", |stack, _| runs_release(stack, NEW))
            .answered(|_| vec![("[y/N]", "y\n".into())]),
        row("cargo xtask upgrade --back", |stack, _| runs_release(stack, OLD))
            .answered(|_| vec![("[y/N]", "y\n".into())]),
        row("cargo xtask restart kratos", |_, outcome| {
            let services: Vec<_> =
                outcome.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
            assert_eq!(services, ["SERVICE", "kratos"], "{outcome}");
        })
        .given(|stack| {
            stack.project.replace(".env", OLD, NEW);
            xtask(stack, "up");
            let file = "ory/kratos/kratos.yml";
            stack.project.write(file, &format!("{}\n# edited\n", stack.project.read(file)));
        }),
        row("docker compose run --rm kratos migrate sql status -e", |stack, outcome| {
            lists_migrations(stack, outcome);
            assert_ne!(stack.container("db").1, "", "the database was not started");
        })
        .given(|stack| drop(docker(&["stop", &stack.container("db").1]))),
        row("docker compose run --rm hydra migrate sql status -e", lists_migrations),
        row("docker compose run --rm keto migrate status -c /etc/config/keto/keto.yml", lists_migrations),
        row("cargo xtask status", |_, outcome| {
            let ready = outcome.stdout.lines().filter(|line| line.split_whitespace().nth(5) == Some("yes"));
            assert_eq!(ready.count(), 3, "{outcome}");
        })
        .given(|stack| {
            // The servers were without their database for a moment.
            xtask(stack, "up");
        }),
    ]
}

/// A row that a user put into a database.
const ID: &str = "11111111-1111-1111-1111-111111111111";

/// Here nothing is shared; `split` runs them where something is.
fn split() -> Vec<Row> {
    let nothing = |line| row(line, |_, outcome| says(outcome, "nothing to split"));
    vec![
        nothing("cargo xtask split --dry-run"),
        nothing("cargo xtask split"),
        nothing("cargo xtask split"),
        row("cargo xtask split --finish", |_, outcome| says(outcome, "nothing is left of a split")),
    ]
}

fn backup_and_restore() -> Vec<Row> {
    let yes = |_: &Stack| vec![("[y/N]", "y\n".to_string())];
    vec![
        row("cargo xtask backup", |_, outcome| assert!(outcome.stdout.contains("backups/"), "{outcome}"))
            .given(|stack| {
                stack.sql("kratos", &format!("insert into networks values ('{ID}', now(), now())"));
            }),
        row("cargo xtask backups", |_, outcome| {
            assert!(outcome.stdout.contains("kratos, hydra, keto"), "{outcome}")
        }),
        row("cargo xtask restore latest kratos", |stack, _| {
            let rows = stack.sql("kratos", &format!("select id from networks where id = '{ID}'"));
            assert_eq!(rows.trim(), ID);
        })
        .given(|stack| {
            stack.sql("kratos", &format!("delete from networks where id = '{ID}'"));
        })
        .answered(yes),
        row("cargo xtask reset keto", |_, outcome| {
            assert!(outcome.stdout.contains("keto: empty, with"), "{outcome}");
        })
        .answered(yes),
    ]
}

fn troubleshooting() -> Vec<Row> {
    vec![
        down_with_volumes(),
        row("cargo xtask up", is_ready),
        row(r"docker compose exec db psql -U postgres -c '\password kratos'", kratos_migrates)
            .given(|stack| {
                stack.sql("postgres", "alter role kratos password 'another'");
                refuses(stack, "knows no role kratos with the password");
            })
            .answered(|stack| {
                let env = stack.project.read(".env");
                let password = env.lines().find_map(|line| line.strip_prefix("KRATOS_DB_PASSWORD="));
                let password = format!("{}\n", password.expect("a password"));
                vec![("Enter new password", password.clone()), ("Enter it again", password)]
            }),
        row(r#"docker compose exec db psql -U postgres -c 'alter role "kratos" login'"#, kratos_migrates)
            .given(|stack| {
                stack.sql("postgres", "alter role kratos nologin");
                refuses(stack, "the role kratos may not log in");
            }),
        row(
            r#"docker compose exec db psql -U postgres -c 'create database "kratos" owner "kratos"'"#,
            kratos_migrates,
        )
        .given(|stack| {
            stack.project.replace("docker-compose.yml", "create-databases: kratos", "nothing: kratos");
            stack.sql("postgres", "drop database kratos with (force)");
            refuses(stack, "has no database kratos");
        }),
        row("docker compose logs db", |_, outcome| assert_ne!(outcome.stdout, "")),
        row("docker compose unpause db", kratos_migrates).given(|stack| {
            docker(&["pause", &stack.container("db").1]);
            refuses(stack, "the database service `db` is paused");
        }),
        row(
            r#"docker compose exec db psql -U postgres -c 'alter database "kratos" owner to "kratos"'"#,
            |stack, outcome| {
                belongs_to_kratos(stack, outcome);
                kratos_migrates(stack, outcome);
            },
        )
        .given(|stack| {
            stack.sql("postgres", "drop database kratos with (force)");
            stack.sql("postgres", "create database kratos");
            refuses(stack, "the role kratos lacks rights in the database kratos");
        }),
    ]
}

full! { once_full, [every_command_line_works_as_it_is_printed], () }

#[test]
fn every_command_line_is_in_a_table() {
    for (document, rows) in documents() {
        let lines: Vec<_> = rows.iter().map(|row| row.line).collect();
        assert_eq!(command_lines(document), lines, "{document} differs from the lines that are run here");
    }
}

fn documents() -> [(&'static str, Vec<Row>); 2] {
    [("README.md", readme()), ("docs/guide.en.md", guide())]
}

fn every_command_line_works_as_it_is_printed() {
    let stack = Stack::new(Compose::V2);
    let cargo = "#!/bin/sh\n[ \"$1\" = xtask ] || exit 97\nshift\nexec \"$XTASK\" \"$@\"\n";
    stack.project.write_program("bin/cargo", cargo);
    let clock = std::time::Instant::now();
    // The images that can be had here, in `.env`, as the guide says. Nothing else is left of this.
    xtask(&stack, "up db --stand-in");
    without_data(&stack);
    without_lines(&stack, &["SECRETS", "PASSWORD"]);
    for (document, rows) in documents() {
        for row in rows.iter().filter(|row| row.skipped.is_none()) {
            (row.before)(&stack);
            let outcome = run(&stack, row);
            assert_eq!(outcome.code, Some(0), "{document}: {}\n{outcome}", row.line);
            eprintln!("{:5.1} s  {document}: {}", clock.elapsed().as_secs_f64(), row.line);
            (row.check)(&stack, &outcome);
        }
    }
}

/// Runs a line in a shell, with the ports of this stack and its folder as the home; nothing else is replaced.
fn run(stack: &Stack, row: &Row) -> Outcome {
    let mut line = row.line.replace("~/", "./");
    for (port, variable) in [("4434", "KRATOS_ADMIN"), ("4445", "HYDRA_ADMIN"), ("4466", "KETO_READ")] {
        line = line.replace(&format!(":{port}/"), &format!(":{}/", stack.port(variable)));
    }
    let answers = (row.answers)(stack);
    // `script` gives it a terminal.
    let (program, args) = match answers.is_empty() {
        true => ("sh", vec!["-c", &line]),
        false => ("script", vec!["--quiet", "--return", "--command", &line, "/dev/null"]),
    };
    let mut command = stack.project.command(program);
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", stack.project.dir.join("bin").display());
    command.args(args).env("PATH", path).env("XTASK", env!("CARGO_BIN_EXE_xtask"));
    if answers.is_empty() {
        return outcome(&mut command);
    }
    answered(&mut command, &answers)
}

fn down_with_volumes() -> Row {
    row("cargo xtask down --volumes", |stack, _| assert_eq!(stack.leftovers(), ""))
        .answered(|_| vec![("[y/N]", "y\n".into())])
}

/// Runs `cargo xtask ARGS` to make a state.
fn xtask(stack: &Stack, args: &str) -> Outcome {
    outcome(stack.project.xtask().args(args.split_whitespace())).exits(0)
}

fn refuses(stack: &Stack, message: &str) {
    outcome(stack.project.xtask().arg("migrate-kratos")).exits(1).says(message);
}

fn kratos_migrates(stack: &Stack, _: &Outcome) {
    xtask(stack, "migrate-kratos");
}

fn without_data(stack: &Stack) {
    xtask(stack, "down --volumes --yes");
}

/// Removes the lines of `.env` that contain one of these texts.
fn without_lines(stack: &Stack, texts: &[&str]) {
    let env = stack.project.read(".env");
    let kept = env.lines().filter(|line| !texts.iter().any(|text| line.contains(text)));
    stack.project.write(".env", &kept.map(|line| format!("{line}\n")).collect::<String>());
}

#[track_caller]
fn says(outcome: &Outcome, text: &str) {
    assert!(outcome.stderr.contains(text), "it doesn't say: {text}\n{outcome}");
}

#[track_caller]
fn is_ready(stack: &Stack, outcome: &Outcome) {
    says(outcome, "ready in ");
    for (name, port) in &stack.ports {
        let url = format!("http://127.0.0.1:{port}/health/ready");
        let health = minreq::get(url).with_timeout(5).send().expect("an answer");
        assert_eq!(health.status_code, 200, "{name}");
    }
}

#[track_caller]
fn runs_release(stack: &Stack, release: &str) {
    for service in ["kratos", "hydra", "keto"] {
        assert_eq!(stack.container(service).0, format!("stand-in/{service}:{release}"));
    }
}

#[track_caller]
fn lists_migrations(_: &Stack, outcome: &Outcome) {
    assert!(outcome.stdout.contains("Applied") && !outcome.stdout.contains("Pending"), "{outcome}");
}

fn owner(stack: &Stack) -> String {
    let sql = "select pg_get_userbyid(datdba) from pg_database where datname = 'kratos'";
    stack.sql("postgres", sql).trim().into()
}

#[track_caller]
fn belongs_to_kratos(stack: &Stack, _: &Outcome) {
    assert_eq!(owner(stack), "kratos");
}
