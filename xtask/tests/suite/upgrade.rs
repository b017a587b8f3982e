//! `upgrade`: planned, rehearsed, done, and back.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::stack::{Compose, NEW, OLD, Stack, docker, is_real};
use crate::tiers::scenarios;

scenarios! {
    first: [
        it_is_planned_and_rehearsed_and_done_and_goes_back
    ]
    full: [
        a_migration_that_fails_leaves_all_as_it_was
        an_image_in_the_compose_file_is_changed_in_its_one_place
        one_that_is_killed_at_any_step_goes_on
        the_backup_of_an_upgrade_that_has_ended_is_no_way_back_of_another_one
    ]
}

/// Puts something in the way of a new migration of Kratos. Ory's own passes over a column that is there already.
fn obstacle() -> &'static str {
    match is_real() {
        true => "alter table session_devices add constraint session_devices_identities_id_fk check (true)",
        false => "alter table courier_messages add column request_headers jsonb",
    }
}

fn old(compose: Compose) -> (Stack, Vec<String>) {
    let stack = Stack::new(compose);
    stack.up_as_named(OLD).exits(0);
    stack.insert_rows();
    let rows = stack.rows();
    (stack, rows)
}

/// Whether the servers of a release run, and are named.
fn is_of(stack: &Stack, release: &str) {
    for service in ["kratos", "hydra", "keto"] {
        assert!(stack.container(service).0.ends_with(release), "{service} isn't of {release}");
    }
    let env = stack.project.read(".env");
    let named = env.lines().filter(|line| line.ends_with(release));
    assert_eq!(named.count(), 3, "{env}");
    stack.run_as_named("status --check").exits(0);
}

fn it_is_planned_and_rehearsed_and_done_and_goes_back(compose: Compose) {
    let (stack, rows) = old(compose);
    let env = stack.project.read(".env");
    let planned = stack.run_as_named(&format!("upgrade --to {NEW} --plan")).exits(3);
    assert!(planned.stdout.contains(&format!(":{OLD} -> ")), "{planned}");
    assert!(planned.stdout.contains("configuration: the new server starts with it"), "{planned}");
    assert!(planned.stdout.contains("note: since v26.2.0: "), "{planned}");
    let rehearsed = stack.run_as_named(&format!("upgrade --to {NEW} --rehearse --json")).exits(0);
    let told: serde_json::Value = serde_json::from_str(&rehearsed.stdout).expect("a document");
    assert_eq!(told["result"], "rehearsed", "{rehearsed}");
    assert_eq!(told["rehearsals"][0]["products"][0]["name"], "kratos", "{rehearsed}");
    assert_eq!(
        (stack.rows(), stack.project.read(".env")),
        (rows.clone(), env.clone()),
        "it was only looked at"
    );
    is_of(&stack, OLD);

    stack.run_as_named(&format!("upgrade --to {NEW} --no-rehearsal")).exits(2).says("there is no terminal");
    stack
        .run_as_named(&format!("upgrade --to {NEW} --yes"))
        .exits(0)
        .says("kratos: applied")
        .says("upgraded in");
    is_of(&stack, NEW);
    assert_eq!(stack.rows(), rows);
    stack.run_as_named("upgrade").exits(0).says("kratos: nothing to upgrade");

    an_unfinished_one_is_told(&stack, &env);

    stack.insert_rows();
    let asked = stack.run_as_named("upgrade --back").exits(2);
    assert!(asked.stderr.contains("public.networks has 3 rows now, and had 2"), "{asked}");
    is_of(&stack, NEW);
    let back =
        stack.run_as_named("upgrade --back --yes --json").exits(0).says("kratos: as before the upgrade");
    assert!(back.stdout.contains("\"result\": \"went back\""), "{back}");
    is_of(&stack, OLD);
    // Keto had nothing to migrate, and so has lost nothing.
    assert_eq!(stack.rows()[..2], rows[..2]);
    let kept = "a way back drops what an earlier restore has kept: xtask_replaced_kratos (";
    stack.run_as_named(&format!("upgrade kratos --to {NEW} --no-rehearsal")).exits(2).says(kept);
    assert_no_leftovers(&stack);
}

/// As a killed run leaves it: migrations pending, or on its way back, with the old images named again.
fn an_unfinished_one_is_told(stack: &Stack, env: &str) {
    let unfinished = "the upgrade of kratos of ";
    let noted = "create table public.kept as select * from schema_migration order by version desc limit 1";
    stack.sql("kratos", noted);
    stack.sql("kratos", "delete from schema_migration where version in (select version from kept)");
    // One that has ended is no word of one that was killed.
    let ended = stack.run_as_named("status --check").exits(3);
    assert!(!ended.stderr.contains(unfinished), "{ended}");
    stack
        .run_as_named("upgrade --yes")
        .exits(3)
        .says("kratos: migrations are pending, and the image is the one that runs");
    let words = mark_unfinished(stack);
    let told = stack.run_as_named("status --check").exits(3);
    told.says(unfinished).says("hint: cargo xtask upgrade, which goes on; or cargo xtask upgrade --back");
    let told = stack.run_as_named("doctor").exits(1);
    assert!(told.stdout.contains(unfinished), "{told}");
    stack.sql("kratos", "insert into schema_migration select * from kept; drop table kept");

    let new = stack.project.read(".env");
    stack.project.write(".env", env);
    stack
        .run_as_named("migrate-kratos")
        .exits(4)
        .says(unfinished)
        .says("isn't finished: cargo xtask upgrade --back");
    let json = stack.run_as_named("status --json").exits(0);
    assert!(json.stdout.contains("isn't finished: cargo xtask upgrade --back"), "{json}");
    stack.project.write(".env", &new);
    words.iter().for_each(|word| std::fs::remove_file(word).expect("removed"));
    is_of(stack, NEW);
}

/// What a run that is killed leaves in its backups.
fn mark_unfinished(stack: &Stack) -> Vec<PathBuf> {
    let backups = std::fs::read_dir(stack.project.dir.join("backups")).expect("backups").flatten();
    let words: Vec<_> = backups.map(|entry| entry.path().join("unfinished")).collect();
    let words: Vec<_> = words.into_iter().filter(|word| word.parent().is_some_and(Path::is_dir)).collect();
    words.iter().for_each(|word| std::fs::write(word, "").expect("written"));
    words
}

fn the_backup_of_an_upgrade_that_has_ended_is_no_way_back_of_another_one(compose: Compose) {
    let (stack, _) = old(compose);
    let env = stack.project.read(".env");
    let upgrade = format!("upgrade kratos --to {NEW} --yes --no-rehearsal");
    stack.run_as_named(&upgrade).exits(0);
    stack.insert_rows();
    let rows = stack.rows();
    // Somebody puts the old file back, and starts what it names; then the next upgrade fails.
    stack.project.write(".env", &env);
    let mut compose = stack.project.command("docker");
    compose
        .args(["compose", "up", "-d", "kratos"])
        .envs(stack.as_named("status").get_envs().filter_map(|(name, value)| Some((name, value?))));
    crate::project::outcome(&mut compose).exits(0);
    stack.sql(
        "kratos",
        "delete from schema_migration where version = (select max(version) from schema_migration)",
    );
    let outcome = stack.run_as_named(&upgrade);
    assert!(!outcome.stderr.contains("the way back is the backup"), "{outcome}");
    assert_eq!(stack.rows(), rows, "{outcome}");

    // Each that is named goes back, though another run has upgraded it.
    stack.run_as_named(&format!("upgrade keto --to {NEW} --yes --no-rehearsal")).exits(0);
    stack
        .run_as_named("upgrade --back hydra --yes")
        .exits(5)
        .says("no backup that an upgrade of hydra has made");
    stack
        .run_as_named("upgrade --back kratos keto --yes")
        .exits(0)
        .says("keto: as before")
        .says("kratos: as before");
    assert!(["kratos", "keto"].iter().all(|service| stack.container(service).0.ends_with(OLD)));
}

fn a_migration_that_fails_leaves_all_as_it_was(compose: Compose) {
    let (stack, rows) = old(compose);
    stack.sql("kratos", obstacle());
    let upgrade = format!("upgrade kratos --to {NEW} --yes");
    let failed = stack.run_as_named(&format!("{upgrade} --json")).exits(1);
    let told: serde_json::Value = serde_json::from_str(&failed.stdout).expect("a document");
    assert_eq!(told["result"], "failed", "{failed}");
    assert!(told["problem"].as_str().is_some_and(|why| why.starts_with("the rehearsal failed")), "{failed}");
    is_of(&stack, OLD);
    let failed = stack.run_as_named(&format!("{upgrade} --no-rehearsal")).exits(1);
    failed.says("kratos: stopped").says("error: the upgrade of kratos failed, which is as it was before");
    is_of(&stack, OLD);
    assert_eq!(stack.rows(), rows);
    assert_no_leftovers(&stack);
}

fn an_image_in_the_compose_file_is_changed_in_its_one_place(compose: Compose) {
    let stack = Stack::new(compose);
    let publisher = if is_real() { "oryd" } else { "stand-in" };
    let named = |release: &str| format!("image: {publisher}/keto:{release}  # reviewed by Ana");
    let file = stack.project.read("docker-compose.yml");
    // By such a label a proxy would send a server that is only tried what is for the one that serves.
    let old = format!("{}\n    labels: {{traefik.enable: 'true'}}", named(OLD));
    let before = file.replace("image: ${KETO_IMAGE:-oryd/keto:v26.2.0}", &old);
    stack.project.write("docker-compose.yml", &before);
    stack.up_as_named(OLD).exits(0);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs().to_string();
    let upgraded = stack.run_as_named(&format!("upgrade keto --to {NEW} --yes --no-rehearsal")).exits(0);
    let asked = [
        "events",
        "--since",
        &since,
        "--until",
        "0s",
        "--filter",
        "event=create",
        "--format",
        "{{.Actor.Attributes}}",
    ];
    let trial = format!("name:xtask-{}-trial-keto", stack.name);
    let tried: Vec<_> =
        docker(&asked).lines().filter(|line| line.contains(&trial)).map(String::from).collect();
    match compose {
        Compose::V2 => assert!(tried.len() == 1 && !tried[0].contains("traefik"), "{tried:?}"),
        Compose::V1 => {
            assert!(tried.is_empty(), "{tried:?}");
            upgraded.says("configuration: can't be tried: `keto` has labels");
        }
    }
    assert_eq!(stack.project.read("docker-compose.yml"), before.replace(&named(OLD), &named(NEW)));
    assert!(stack.container("keto").0.ends_with(NEW));

    // Where a variable comes from the environment, no file has the image.
    let mut command = stack.as_named(&format!("upgrade kratos --to {NEW} --yes --no-rehearsal"));
    command.env("KRATOS_IMAGE", format!("{publisher}/kratos:{OLD}"));
    let refused = crate::project::outcome(&mut command).exits(1);
    assert!(refused.stderr.contains("can't be told for sure, so nothing was changed"), "{refused}");
    assert!(stack.container("kratos").0.ends_with(OLD), "the server was touched");
    // Nor could the old one be named again.
    let mut command = stack.as_named("upgrade kratos --yes --no-rehearsal");
    command.env("KRATOS_IMAGE", format!("{publisher}/kratos:{NEW}"));
    let refused = crate::project::outcome(&mut command).exits(1);
    assert!(refused.stderr.contains("can't be told for sure, so nothing was changed"), "{refused}");
    assert!(stack.container("kratos").0.ends_with(OLD), "the server was touched");
}

fn one_that_is_killed_at_any_step_goes_on(compose: Compose) {
    let (stack, rows) = old(compose);
    for step in
        ["kratos: stopped", "kratos: backed up", "kratos: applied", "hydra: backed up", "hydra: ready"]
    {
        let mut command = stack.as_named(&format!("upgrade --to {NEW} --yes --no-rehearsal"));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("its words")).lines();
        lines.map_while(Result::ok).find(|line| line.starts_with(step)).expect(step);
        child.kill().expect("killed");
        child.wait().expect("ended");
        stack.run_as_named(&format!("upgrade --to {NEW} --yes --no-rehearsal")).exits(0);
        is_of(&stack, NEW);
        assert_eq!(stack.rows(), rows, "killed after `{step}`");
        stack.run_as_named("upgrade --back --yes").exits(0);
        let back = stack.run_as_named("upgrade kratos hydra keto --plan");
        // Each run that was killed has a way back of its own.
        if stack.container("kratos").0.ends_with(NEW) {
            stack.run_as_named("upgrade --back --yes kratos").exits(0);
        }
        drop(back);
    }
    assert_no_leftovers(&stack);
}

/// Neither databases nor containers of a run are left.
fn assert_no_leftovers(stack: &Stack) {
    let databases =
        stack.sql("postgres", "select datname from pg_database where datname like 'xtask_scratch%'");
    assert_eq!(databases, "", "a copy is left");
    let names = docker(&["ps", "--all", "--format", "{{.Names}}"]);
    let own = format!("xtask-{}-", stack.name);
    assert!(!names.contains(&own), "a container is left: {names}");
}
