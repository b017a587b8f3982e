//! Backups that somebody else made, changed or named; and which one is the latest.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ory_facts::digest::{self, fingerprint};

use crate::elsewhere::managed;
use crate::fake::Fake;
use crate::project::{Outcome, outcome};
use crate::stack::{Compose, NEW, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_backup_that_this_stack_did_not_make_is_shown_and_needs_force
    ]
    full: [
        a_backup_of_somebody_else_is_listed_without_a_service_to_ask
        a_backup_whose_verification_failed_is_not_the_latest
    ]
}

const KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// The manifest of a backup of Keto, with other values.
fn manifest(project: &str, time: &str, bytes: &str) -> String {
    format!(
        r#"{{"format": 1, "time": "{time}", "project": "{project}", "salt": "salt", "dumps": [{{"file": "keto.dump",
        "sha256": "{}", "bytes": {bytes}, "database": "keto", "schema": null, "postgres": "15", "owners": [],
        "products": [{{"product": "keto", "image": "", "secrets": {{}}}}], "extensions": {{}}, "versions": [],
        "rows": {{"public.\u001b[2J": {bytes}}}}}]}}"#,
        digest::of("dump")
    )
}

/// Writes a backup, signed with the stack's key where one is given.
fn write(folder: &Path, manifest: &str, key: Option<&str>) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("keto.dump"), "dump").expect("a dump");
    fs::write(folder.join("manifest.json"), manifest).expect("a manifest");
    let sum = format!("{}  manifest.json\n", digest::of(manifest));
    fs::write(folder.join("manifest.json.sha256"), sum).expect("a sum");
    if let Some(key) = key {
        let signature = format!("{}  manifest.json\n", fingerprint(key, manifest));
        fs::write(folder.join("manifest.json.hmac-sha256"), signature).expect("a signature");
    }
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    outcome(Command::new("mkfifo").arg(path)).exits(0);
}

/// Runs a command that waits for ever where it fails.
fn within(seconds: u64, command: &mut Command) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        if start.elapsed() > Duration::from_secs(seconds) {
            child.kill().expect("killed");
            panic!("it waits: {}", Outcome::of(child.wait_with_output().expect("output")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Outcome::of(child.wait_with_output().expect("output"))
}

#[test]
fn one_backup_that_is_odd_hides_no_other() {
    let fake = Fake::new();
    fake.project.write(".env.backup-key", KEY);
    let backups = fake.project.dir.join("backups");
    let time = "2026-01-02T03:04:05Z";
    write(&backups.join("2026-01-02T03-04-05Z"), &manifest("stack", time, "4"), Some(KEY));
    let max = u64::MAX.to_string();
    let dump = manifest("stack", time, &max);
    let (head, dump) = dump.split_at(dump.find("{\"file\"").expect("a dump"));
    let dump = dump.strip_suffix("]}").expect("an end");
    let other = dump.replace("keto", "kratos");
    write(&backups.join("huge"), &format!("{head}{dump},{other}]}}"), None);
    write(
        &backups.join("twice"),
        &format!("{},{dump}]}}", manifest("stack", time, "4").trim_end_matches("]}")),
        None,
    );
    write(&backups.join("deep"), &"[".repeat(1_000_000), None);
    write(&backups.join("escape"), &manifest("\\u001b]0;mine\\u0007", time, "4"), None);
    write(&backups.join("pipe"), "", None);
    fifo(&backups.join("pipe/manifest.json"));
    write(&backups.join("long"), "", None);
    let long = fs::OpenOptions::new().write(true).open(backups.join("long/manifest.json"));
    long.expect("a file").set_len(1 << 40).expect("a long file");
    let listed = within(20, &mut fake.command("backups")).exits(0).hides("\u{1b}");
    assert!(listed.stdout.contains("2026-01-02T03-04-05Z  stack"), "{listed}");
    for name in ["huge", "twice", "deep", "pipe", "long"] {
        assert!(!listed.stdout.contains(name), "{name}: {listed}");
        assert!(listed.stderr.contains(&format!("backups/{name} is")), "{name}: {listed}");
    }
}

#[test]
fn the_latest_backup_is_the_newest_by_its_manifest_and_of_this_project() {
    let fake = Fake::new();
    fake.project.write(".env.backup-key", KEY);
    let backups = fake.project.dir.join("backups");
    // The name tells another time, as after a copy or on a machine whose clock is wrong.
    write(&backups.join("a"), &manifest("stack", "2026-03-01T00:00:00Z", "4"), Some(KEY));
    write(&backups.join("z"), &manifest("stack", "2026-01-01T00:00:00Z", "5"), Some(KEY));
    write(&backups.join("2027-01-01T00-00-00Z"), &manifest("other", "2027-01-01T00:00:00Z", "6"), Some(KEY));
    let latest = || within(20, &mut fake.command("restore latest --dry-run"));
    let size = |bytes: &str, outcome: &Outcome| {
        assert!(outcome.stdout.contains(&format!("keto.dump ({bytes} B)")), "{outcome}");
    };
    size("4", &latest().exits(0));
    fs::create_dir(backups.join("zz-notes")).expect("a folder");
    size("4", &latest().exits(0));

    // One that was to be verified, and was not, is named, and passed over.
    let newer = backups.join("2026-04-01T00-00-00Z");
    write(&newer, &manifest("stack", "2026-04-01T00:00:00Z", "7"), Some(KEY));
    fs::write(newer.join("unverified"), "").expect("a mark");
    size(
        "4",
        &latest().exits(0).says("2026-04-01T00-00-00Z is passed over: it was to be verified, and is not"),
    );
    let named = within(20, &mut fake.command("restore 2026-04-01T00-00-00Z --dry-run")).exits(0);
    size("7", &named.says("2026-04-01T00-00-00Z was to be verified, and that failed or was cut off"));

    // One that is damaged is told: its name says that it is the newest.
    let damaged = backups.join("2026-05-01T00-00-00Z");
    write(&damaged, "", None);
    latest().exits(1).says("2026-05-01T00-00-00Z is damaged");
    fs::remove_dir_all(damaged).expect("removed");

    // One of the same project that another stack has made isn't taken without a word.
    write(&backups.join("b"), &manifest("stack", "2026-06-01T00:00:00Z", "8"), Some(&KEY.replace('k', "x")));
    latest().exits(1).says("this stack did not make the backup b").says("cargo xtask restore b --force");
}

#[test]
fn a_dump_that_is_no_file_is_not_waited_for_and_not_followed() {
    let fake = Fake::new();
    let folder = fake.project.dir.join("elsewhere");
    write(&folder, &manifest("stack", "2026-03-01T00:00:00Z", "4"), None);
    let backup = ory_ops::backup::open(&folder).expect("a backup");
    let dump = folder.join("keto.dump");
    let compare = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(backup.compare(&backup.manifest.dumps[0], |_| Ok(()))));
            let told = receiver.recv_timeout(Duration::from_secs(10));
            if told.is_err() {
                // Whoever waits to read it is let go.
                let _ = fs::OpenOptions::new().write(true).open(&dump);
            }
            told.expect("it waits")
        })
    };
    compare().expect("it is whole");
    fs::write(folder.join("whole"), "dump").expect("a file");
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change; 4] = [
        ("a pipe", &|| fifo(&dump)),
        ("a symlink", &|| symlink(folder.join("whole"), &dump).expect("a symlink")),
        ("a folder", &|| fs::create_dir(&dump).expect("a folder")),
        ("it is longer", &|| fs::write(&dump, "dumps").expect("a file")),
    ];
    for (name, change) in changes {
        fs::remove_file(&dump).or_else(|_| fs::remove_dir(&dump)).expect("removed");
        change();
        let refused = compare().expect_err(name).to_string();
        assert!(refused.contains("is damaged: keto.dump"), "{name}: {refused}");
    }
}

#[test]
fn the_key_is_made_once_kept_private_and_no_symlink_is_followed() {
    let fake = Fake::new();
    let dir = &fake.project.dir;
    let path = dir.join(".env.backup-key");
    let made = ory_stack::backup_key::make_key(dir).expect("a key");
    assert_eq!(ory_stack::backup_key::make_key(dir).expect("a key"), made);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let keys = fs::read_dir(dir).expect("a folder").flatten();
    assert_eq!(keys.filter(|entry| entry.file_name().to_string_lossy().contains("backup-key")).count(), 1);

    let elsewhere = dir.join("elsewhere");
    fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("a symlink");
    assert!(ory_stack::backup_key::make_key(dir).is_err());
    // One that leads nowhere isn't written through.
    fs::remove_file(&elsewhere).expect("removed");
    assert!(ory_stack::backup_key::make_key(dir).is_err());
    assert!(!elsewhere.exists());
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "").expect("a file");
    assert!(ory_stack::backup_key::make_key(dir).is_err());
}

fn a_backup_that_this_stack_did_not_make_is_shown_and_needs_force(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.sql("keto", "create function public.canary() returns int language sql as 'select 1'");
    let folder = PathBuf::from(stack.run("backup keto").exits(0).stdout.trim());
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    stack.insert_rows();
    let rows = stack.rows();
    let key = stack.project.dir.join(".env.backup-key");
    let signature = folder.join("manifest.json.hmac-sha256");
    let texts = [&key, &signature, &folder.join("manifest.json")]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let refused = |what: &str| {
        let refused = stack.run(&format!("restore {name} --yes")).exits(1);
        let refused = refused.says("this stack did not make the backup").says(what);
        let refused = refused.says("FUNCTION public canary()").says("TABLE public networks keto");
        refused.says(&format!("restore {name} --force")).hides(texts[0].trim());
        stack
            .run(&format!("restore {name} --yes --dry-run"))
            .exits(1)
            .says("this stack did not make the backup");
        assert_eq!(stack.rows(), rows);
        let listed = stack.run("backups").exits(0);
        assert!(listed.stdout.contains("not made by this stack"), "{listed}");
    };
    // Of an earlier xtask, or of somebody who knows no key.
    let _ = fs::remove_file(&signature);
    refused("it isn't signed");
    // Changed, and summed up again.
    fs::write(&signature, &texts[1]).expect("written");
    let changed = texts[2].replace("\"owners\": [", "\"owners\": [\"postgres\",");
    write(&folder, &changed, None);
    let dump = stack.project.dir.join("dump");
    let keep = |from: &Path, to: &Path| _ = fs::copy(from, to).expect("copied");
    // `write` has put its own dump there.
    assert_ne!(changed, texts[2]);
    outcome(stack.command(NEW, "backup keto --output kept").stdin(Stdio::null())).exits(0);
    let kept = fs::read_dir(stack.project.dir.join("kept")).expect("a folder").flatten();
    let kept = kept.map(|entry| entry.path()).find(|path| path.is_dir()).expect("a backup");
    keep(&kept.join("keto.dump"), &dump);
    keep(&dump, &folder.join("keto.dump"));
    refused("this stack's key didn't sign it");

    // The key is lost, or the stack is another one.
    let named = format!("restore {} --yes", kept.display());
    fs::remove_file(&key).expect("removed");
    stack.run(&named).exits(1).says(".env.backup-key, isn't there to tell");
    stack.run("backup keto").exits(0);
    stack.run(&named).exits(1).says("this stack's key didn't sign it");
    let canary = "select count(*) from pg_proc where proname = 'canary'";
    stack.sql("keto", "drop function canary");
    stack.run(&format!("{named} --force")).exits(0).says("warning: this stack did not make the backup");
    assert_eq!(stack.sql("keto", canary), "1\n");

    // It is this stack's again with its key.
    fs::write(&key, &texts[0]).expect("written");
    stack.run(&named).exits(0);
}

fn a_backup_of_somebody_else_is_listed_without_a_service_to_ask(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
    stack.run("up").exits(0);
    let folder = PathBuf::from(stack.run("backup").exits(0).stdout.trim());
    managed.sql("postgres", "create database other owner identity");
    let _ = fs::remove_file(folder.join("manifest.json.hmac-sha256"));
    let refused = stack.run("restore latest --into other").exits(1).says("TABLE public networks identity");
    refused.says(" --into other --force").hides("s3cret-of-managed");
    let tables = "select count(*) from pg_class where relname = 'networks'";
    assert_eq!(managed.sql("other", tables), "0\n");
    stack.run("restore latest --into other --force").exits(0);
    assert_eq!(managed.sql("other", tables), "1\n");

    // What isn't a dump is none for pg_restore either.
    write(&folder, &fs::read_to_string(folder.join("manifest.json")).expect("a manifest"), None);
    for entry in fs::read_dir(&folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().ends_with(".dump") {
            fs::write(entry.path(), "PGDMP no dump").expect("a file");
        }
    }
    stack.run("restore latest --into other --force").exits(1).says("can't be listed");
}

fn a_backup_whose_verification_failed_is_not_the_latest(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    stack.run("backup keto").exits(0);
    let rows = stack.rows();
    std::thread::sleep(Duration::from_secs(1));
    // What is restored has no `limits` in sight when the check is asked.
    let check = "create table limits (most int); insert into limits values (9);
        create function is_fine(i int) returns boolean language plpgsql as
        $$ begin return i <= (select most from limits); end $$;
        create table fine (i int check (is_fine(i))); insert into fine values (1);
        alter table limits owner to keto; alter table fine owner to keto; alter function is_fine owner to keto";
    stack.sql("keto", check);
    let failed = stack.run("backup --verify keto").exits(1).says("backups/");
    failed.says("stays, but is not `latest`: it was to be verified, and is not");
    let listed = stack.run("backups").exits(0).stdout;
    let last = listed.lines().last().expect("a backup");
    assert!(last.contains("not verified, though it was to be"), "{listed}");
    let name = last.split_whitespace().next().expect("a name");
    stack.sql("keto", "drop table fine, limits; drop function is_fine");
    stack.insert_rows();
    stack.run("restore latest keto --yes").exits(0).says(&format!("the backup {name} is passed over"));
    assert_eq!(stack.rows()[2], rows[2]);
    stack.run("backup --verify keto").exits(0);
    let listed = stack.run("backups").exits(0).stdout;
    assert!(!listed.lines().last().expect("a backup").contains("not verified"), "{listed}");
}
