//! Stacks that aren't like ours: what they lack is said, and nothing that wasn't done is called done. On a fake engine.

use crate::fake::{Fake, container, listed};
use crate::project::outcome;

const NOTHING: &str = "name: stack\nservices: {}\n";

const IN_A_PROFILE: &str = "name: stack\nservices:\n  db:\n    profiles: [dev]\n    image: postgres:17-alpine\n  kratos:\n    \
    profiles: [dev]\n    image: oryd/kratos:v26.2.0\n";

/// Nothing is active: the profile has all.
fn inactive() -> Fake {
    let fake = Fake::new().answers("docker compose config", NOTHING);
    fake.answers("docker compose --profile \\* config", IN_A_PROFILE)
}

#[test]
fn no_command_pretends_success_where_no_profile_is_active() {
    let commands = "up,up kratos,restart,status,status --check,migrate-all,migrate-kratos,backup,reset kratos --yes,\
                    logs,repair kratos,split";
    for command in commands.split(',') {
        let fake = inactive();
        fake.run(command).exits(2).says("COMPOSE_PROFILES=dev");
        assert!(!fake.project.dir.join("backups").exists(), "{command}");
        assert!(!fake.calls().contains("exec") && !fake.calls().contains(" up "), "{}", fake.calls());
    }
    let told = inactive().run("doctor").exits(1);
    assert!(told.stdout.contains("COMPOSE_PROFILES=dev"), "{told}");
}

#[test]
fn a_stack_without_a_product_is_told_the_label_that_names_one() {
    let config = "name: stack\nservices:\n  identity:\n    image: registry.example.com/shop/identity:3\n";
    let fake = || Fake::new().answers("docker compose config", config);
    for command in ["up", "restart", "status", "migrate-all", "backup", "split"] {
        fake().run(command).exits(2).says("labels: {xtask.product: kratos}").says("identity");
    }
    // With it, or where the image starts the program, it is one.
    let labelled = config.to_string() + "    labels: {xtask.product: kratos}\n";
    Fake::new().answers("docker compose config", &labelled).run("status").exits(1).says("kratos has no DSN");
    let image = r#"[{"Id":"sha256:cafe","Config":{"Labels":null,"Entrypoint":["/usr/bin/kratos"]}}]"#;
    let starts = || fake().answers("docker image inspect *", image);
    let version = "docker run --rm --name xtask-version-* version";
    let told = starts().answers(version, "Version: v26.2.0\nBuild Commit: abc\n");
    told.run("status").exits(1).says("kratos has no DSN");
    let is_asked = told.calls().contains("--entrypoint /usr/bin/kratos sha256:cafe version");
    assert!(is_asked, "{}", told.calls());
    // It is asked once, with the program that it has. Something else has its name only.
    told.run("status").exits(1).says("kratos has no DSN");
    assert!(!told.calls().contains("xtask-version"), "{}", told.calls());
    let other = starts().answers(version, "kratos version v2.7.0\n");
    other.run("status").exits(2).says("none of these services is Kratos, Hydra or Keto");
    let other = starts().fails(version, 127, "executable file not found in $PATH\n");
    other.run("status").exits(2).says("none of these services is Kratos, Hydra or Keto");
    // An engine that can't tell now isn't believed to have said no.
    starts()
        .fails(version, 125, "no space left on device\n")
        .run("status")
        .exits(1)
        .says("kratos has no DSN");
}

#[test]
fn down_takes_the_containers_of_every_profile_and_says_which_go_on() {
    let running = listed("k1", "kratos", "running");
    let fake = inactive().answers("docker ps --all *", &running);
    let fake = fake.answers("docker container inspect k1", &container("k1", "kratos", "running"));
    fake.run("down").exits(1).says("stack-kratos-1: still running").hides("stack: down");
    assert!(fake.calls().contains("docker compose --profile * down"), "{}", fake.calls());
}

#[test]
fn down_asks_where_only_the_container_has_the_data() {
    let fake = Fake::new().answers("docker ps --all *", &listed("db1", "db", "exited"));
    let fake = fake.answers("docker container inspect db1", &container("db1", "db", "exited"));
    fake.run("down").exits(2).says("db (its container alone: ").says("hint: cargo xtask down --yes");
    assert!(!fake.calls().contains("compose down"), "{}", fake.calls());
    let kept = container("db1", "db", "exited").replace(
        "\"RestartCount\"",
        "\"Mounts\":[{\"Type\":\"volume\",\"Name\":\"stack_db\",\"Destination\":\"/var/lib/postgresql/data\"}],\"RestartCount\"",
    );
    let fake = fake.answers("docker container inspect db1", &kept);
    // The fake's container stays, but doesn't run.
    fake.run("down").exits(0).hides("deleted");
}

#[test]
fn a_variable_that_is_not_set_is_shown() {
    let warning = "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"The \\\"KRATOS_DB_PASSWROD\\\" variable is not set. \
                   Defaulting to a blank string.\"\n";
    let config = |fake: Fake| {
        let text =
            include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
        fake.warns("docker compose config", &text, warning)
    };
    let shown = config(Fake::new()).run("status").exits(0);
    assert_eq!(shown.stderr.matches("KRATOS_DB_PASSWROD").count(), 1, "{shown}");
    let told = config(Fake::new()).run("doctor");
    assert!(told.stdout.contains("warning  KRATOS_DB_PASSWROD"), "{told}");
}

#[test]
fn the_containers_tell_which_variables_they_were_made_with() {
    let fake = Fake::new();
    let dir = fake.project.dir.display().to_string();
    let made = |file: &str| {
        let line = listed("k1", "kratos", "running");
        format!("{}\t{dir}/{file}\t{dir}\n", line.trim_end())
    };
    let own = fake.project.dir.join(".env.local");
    let with = format!("docker compose --env-file {} config", own.display());
    let text = include_str!("fixtures/config-v2.yml").replace("DIR", &dir);
    let fake = fake.answers("docker ps --all *", &made(".env.local")).answers(&with, &text);
    let fake = fake.answers("docker container inspect k1", &container("k1", "kratos", "running"));
    fake.run("up").exits(5).says(".env.local, which isn't there").says("COMPOSE_ENV_FILES=");
    assert!(!fake.calls().contains(" up "), "{}", fake.calls());
    fake.project.write(".env.local", "A=b\n");
    fake.run("status").exits(0).says("variables come from DIR/.env.local");
    let usual = fake.answers("docker ps --all *", &made(".env"));
    usual.run("status").exits(0).hides("variables come from");
}

#[test]
fn what_runs_is_shown_and_that_a_restart_is_due() {
    let fake = Fake::new().answers("docker ps --all *", &listed("k1", "kratos", "running"));
    let fake = fake.answers("docker container inspect k1", &container("k1", "kratos", "running"));
    let shown = fake.run("status kratos").exits(0);
    assert!(shown.stdout.contains("image-of-kratos"), "{shown}");
    shown.says("image-of-kratos runs, the stack says oryd/kratos:v26.2.0: cargo xtask restart kratos");
}

#[test]
fn a_network_from_elsewhere_that_is_not_there_is_named_with_what_makes_it() {
    let fake = Fake::new();
    let text = include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
    let with = format!("{text}networks:\n  default:\n    name: nowhere\n    external: true\n");
    let with = match text.split_once("\nnetworks:\n") {
        Some((before, _)) => {
            format!("{before}\nnetworks:\n  default:\n    name: nowhere\n    external: true\n")
        }
        None => with,
    };
    let fake = fake.answers("docker compose config", &with);
    let fake = fake.fails("docker network inspect nowhere", 1, "Error: No such network: nowhere\n");
    for command in ["up", "migrate-all", "restart"] {
        fake.run(command)
            .exits(5)
            .says("the external network nowhere")
            .says("hint: docker network create nowhere");
    }
}

#[test]
fn a_compose_error_is_told_and_not_the_first_warning() {
    let text = "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"The \\\"A\\\" variable is not set.\"\n\
                service \"kratos\" refers to undefined network proxy: invalid compose project\n";
    let fake = Fake::new().fails("docker compose config", 15, text);
    fake.run("up")
        .exits(5)
        .says("caused by: service \"kratos\" refers to undefined network")
        .hides("level=warning");
}

#[test]
fn a_stand_in_is_only_offered_where_the_images_come_from_the_variables() {
    let absent = |fake: Fake| {
        let fake = fake.answers("docker image inspect *", "[]\n");
        fake.fails("docker pull *", 1, "Error response from daemon: manifest unknown\n").run("up").exits(5)
    };
    absent(Fake::new()).says("cargo xtask up --stand-in");
    let own = "services:\n  db: {image: postgres:17-alpine}\n  kratos: {image: oryd/kratos:v26.2.0}\n";
    let fake = Fake::new().answers("docker compose config --no-interpolate", own);
    absent(fake).says("at `image:` of").hides("--stand-in");
}

#[test]
fn up_of_a_service_starts_its_database_though_nothing_says_that_it_depends_on_it() {
    let fake = Fake::new();
    let text = include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
    let without = text.replace(
        "    depends_on:\n      db:\n        condition: service_healthy\n        required: true\n",
        "",
    );
    assert_ne!(text, without, "the fixture has another form");
    let plan = fake.answers("docker compose config", &without).run("up kratos --dry-run").exits(0);
    assert!(plan.stdout.contains("docker compose up -d db\n"), "{plan}");
}

#[test]
fn a_file_that_compose_misses_is_named_with_what_brings_it() {
    let fake = Fake::new();
    let dir = fake.project.dir.display().to_string();
    let said = format!("env file {dir}/app.env not found: stat {dir}/app.env: no such file or directory\n");
    let fake = fake.fails("docker compose config*", 1, &said).answers("docker compose version*", "2.40.3\n");
    fake.project.write("app.env.example", "A=1\n");
    let mut command = fake.command("up");
    // Where somebody is, is no secret, though its name has three letters of one.
    let failed = outcome(command.env("PWD", &dir)).exits(5);
    failed
        .says(&format!("env file {dir}/app.env not found"))
        .says(&format!("cp {dir}/app.env.example {dir}/app.env"));
}
