//! Secrets that somebody else reads, and files of secrets that are not what they seem.

use std::collections::BTreeSet;
use std::fs::{Permissions, metadata, set_permissions, symlink_metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fake::Fake;
use crate::production::{Production, SECRET};
use crate::project::outcome;
use crate::shared::Shared;
use crate::stack::{Compose, NEW, Stack, docker};
use crate::tiers::{scenarios, scenarios_once};

scenarios_once! {
    first: [
        a_password_is_in_no_log_of_postgresql
        new_secrets_are_refused_beside_data_in_a_folder_or_a_volume_of_others
    ]
    full: [
        what_is_in_files_is_in_no_inspection_of_a_container
    ]
}
scenarios! {
    first: [
        a_secret_that_compose_reads_in_its_own_way_is_not_made_up
        what_compose_says_of_a_stack_that_it_cannot_read_shows_no_secret
    ]
}

/// All that a server has printed.
fn log_of(stack: &Stack) -> String {
    outcome(Command::new("docker").args(["logs", &stack.container("db").1])).to_string()
}

/// Lets the server log whatever it can.
fn log_all(stack: &Stack) {
    let settings = [
        "session_preload_libraries = 'auto_explain'",
        "log_min_duration_statement = 0",
        "log_min_duration_sample = 0",
        "log_statement_sample_rate = 1",
        "log_transaction_sample_rate = 1",
        "log_duration = on",
        "log_statement = 'all'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
    ];
    for setting in settings {
        stack.sql("postgres", &format!("alter system set {setting}"));
        stack.sql("postgres", "select pg_reload_conf(), pg_sleep(0.1)");
    }
}

fn a_password_is_in_no_log_of_postgresql(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    log_all(&stack);
    stack.run("up").exits(0);
    let log = log_of(&stack);
    assert!(log.contains("duration: "), "it logs too little");
    let env = stack.project.read(".env");
    let passwords: Vec<_> = env.lines().filter_map(|line| line.split_once("_DB_PASSWORD=")).collect();
    assert_eq!(passwords.len(), 3);
    for (product, password) in passwords {
        assert!(!log.contains(password), "the password of {product} is in the log");
        let role = product.to_lowercase();
        let sql = format!("select left(rolpassword, 19) from pg_authid where rolname = '{role}'");
        assert_eq!(stack.sql("postgres", &sql), "SCRAM-SHA-256$4096:\n", "{role}");
    }

    let stack = Stack::of_others("shared-with-hydra", compose);
    let shared = Shared::with(stack, "acme:secret");
    log_all(&shared.stack);
    shared.stack.run("split --drop-foreign-keys --yes").exits(0);
    let log = log_of(&shared.stack);
    let dsns = shared.stack.project.read(".env.split");
    let password =
        |line: &str| Some(line.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_string());
    let passwords: Vec<_> = dsns.lines().filter_map(password).collect();
    assert_eq!(passwords.len(), 3);
    assert!(passwords.iter().all(|password| !log.contains(password)), "a password is in the log");
}

/// A stack whose `.env` isn't written yet, and where a run of `up` that writes it is.
fn unwritten() -> Fake {
    let fake = Fake::new();
    fake.project.remove(".env");
    fake
}

fn mode(fake: &Fake, file: &str) -> u32 {
    metadata(fake.project.dir.join(file)).expect("a file").mode() & 0o777
}

#[test]
fn secrets_are_not_written_into_a_file_or_a_link_that_somebody_left_where_they_pass() {
    let fake = unwritten();
    fake.project.write("elsewhere", "of somebody");
    for name in [".env.tmp", ".env.xtask"] {
        symlink(fake.project.dir.join("elsewhere"), fake.project.dir.join(name)).expect("a link");
    }
    fake.run("up").says(".env: written, with 7 new random secrets (mode 0600)");
    assert_eq!(fake.project.read("elsewhere"), "of somebody");
    assert_eq!(mode(&fake, ".env"), 0o600);

    let fake = unwritten();
    fake.project.write(".env.tmp", "of somebody");
    fake.run("up").says(".env: written, ");
    assert_eq!(fake.project.read(".env.tmp"), "of somebody");
    assert_eq!(mode(&fake, ".env"), 0o600);
}

#[test]
fn an_env_that_is_a_link_stays_one_and_owner_and_mode_stay() {
    let fake = unwritten();
    std::fs::create_dir(fake.project.dir.join("deploy")).expect("a folder");
    fake.project.write("deploy/settings", "PORT=1\n");
    let (link, target) = (fake.project.dir.join(".env"), fake.project.dir.join("deploy/settings"));
    symlink("deploy/settings", &link).expect("a link");
    set_permissions(&target, Permissions::from_mode(0o640)).expect("a mode");
    // Only root may give a file away.
    let is_given = chown(&target, Some(12345), Some(54321)).is_ok();
    fake.run("up").says(".env: written, with 7 new random secrets (mode 0640)");
    assert!(symlink_metadata(&link).expect("a link").is_symlink());
    let written = fake.project.read("deploy/settings");
    assert!(written.starts_with("PORT=1\n") && written.contains("\nHYDRA_SECRETS_SYSTEM="), "{written}");
    assert_eq!(mode(&fake, ".env"), 0o640);
    let metadata = metadata(&target).expect("a file");
    assert!(!is_given || (metadata.uid(), metadata.gid()) == (12345, 54321), "{metadata:?}");
}

#[test]
fn a_read_only_env_is_refused_and_stays() {
    let fake = unwritten();
    fake.project.write(".env", "PORT=1\n");
    let path = fake.project.dir.join(".env");
    set_permissions(&path, Permissions::from_mode(0o400)).expect("a mode");
    fake.run("up").exits(1).says(".env is read-only").says("hint: chmod u+w ");
    assert_eq!((fake.project.read(".env").as_str(), mode(&fake, ".env")), ("PORT=1\n", 0o400));
    assert!(!fake.calls().contains(" up "), "{}", fake.calls());
}

fn a_secret_that_compose_reads_in_its_own_way_is_not_made_up(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    let env = stack.project.read(".env");
    let rewritten = |rewrite: &dyn Fn(&str, &str) -> String| {
        let pair =
            |line: &str| line.split_once('=').map_or(line.into(), |(name, value)| rewrite(name, value));
        env.lines().map(pair).collect::<Vec<_>>().join("\n") + "\n"
    };
    let stays = |text: &str| {
        stack.project.write(".env", text);
        stack.run("up db").exits(0);
        stack.run("doctor").hides("not-yet-written");
        assert_eq!(stack.project.read(".env"), text);
    };
    let yaml = rewritten(&|name, value| format!("{name}: {value}"));
    let (secrets, others): (Vec<_>, Vec<_>) = env.lines().partition(|line| line.contains("_PASSWORD="));
    let marked = format!("\u{feff}{}\n", [secrets, others].concat().join("\n"));
    stays(&marked);
    match compose {
        Compose::V2 => stays(&yaml),
        // It doesn't see them: to make them up would lose them for who reads the file in another way.
        Compose::V1 => {
            stack.project.write(".env", &yaml);
            let mut up = stack.command(crate::stack::NEW, "up db");
            let refused = outcome(up.env("COMPOSE_PROJECT_NAME", &stack.name)).exits(5);
            refused.says("where Compose doesn't read it");
            assert_eq!(stack.project.read(".env"), yaml);
        }
    }
    stays(&rewritten(&|name, value| format!("export {name}={value}")));
    stays(&rewritten(&|name, value| format!("{name}=\"{value}\" # a comment")));
    stays(&rewritten(&|name, value| format!("{name} = '{value}'")));
    stays(&format!("OTHER=\"a text\nof several lines\"\n{env}"));
    // What only looks like a secret, in a text of several lines.
    let hidden = format!("OTHER=\"\n{env}\"\nCOMPOSE_PROJECT_NAME={}\n", stack.name);
    stack.project.write(".env", &hidden);
    stack.run("up db").exits(5).says("where Compose doesn't read it");
    assert_eq!(stack.project.read(".env"), hidden);
    stack.project.write(".env", &env);
}

fn what_compose_says_of_a_stack_that_it_cannot_read_shows_no_secret(compose: Compose) {
    const SECRET: &str = "a-secret-of-this-test";
    let stack = Stack::new(compose);
    stack.run("up --dry-run").exits(0);
    let env = stack.project.read(".env");
    let file = stack.project.read("docker-compose.yml");
    let secrets: String = std::fs::read_to_string(stack.project.dir.join(".env.example"))
        .expect("a file")
        .lines()
        .filter(|line| line.ends_with('=') && !line.starts_with('#'))
        .map(|line| format!("{line}{SECRET}\n"))
        .collect();
    let fails = |env: &str, file: &str| {
        stack.project.write(".env", env);
        stack.project.write("docker-compose.yml", file);
        for command in ["status", "doctor", "down"] {
            let failed = stack.run(command);
            // 1.29 accepts some of it.
            assert!(failed.code == Some(5) || matches!(compose, Compose::V1), "{failed}");
            failed.hides(SECRET).hides("of-this-test");
        }
    };
    let env = format!("{env}{secrets}");
    let port = |port: &str| file.replace("127.0.0.1:${KETO_READ_PORT:-4466}:4466", port);
    fails(&env, &port("${KETO_DB_PASSWORD}:80"));
    fails(&env, &port("80:80/${KETO_DB_PASSWORD}"));
    fails(
        &env,
        &file.replace("POSTGRES_PASSWORD: ", &format!("POSTGRES_PASSWORD: '{SECRET}${{'\n      X: ")),
    );
    fails(&env, &file.replace("cap_drop: [ALL]", "mem_limit: ${KETO_DB_PASSWORD}"));
    fails(&env, &file.replace("read_only: true", "read_only: ${KETO_DB_PASSWORD}"));
    // docker-compose 1.29 passes over lines that it can't read.
    if matches!(compose, Compose::V2) {
        fails(&format!("{env}OTHER+PASSWORD={SECRET}\n"), &file);
        fails(&format!("{env}OTHER_PASSWORD=\"{SECRET}\n"), &file);
        stack.project.write("more.env", &format!("MORE+PASSWORD={SECRET}\n"));
        fails(&env, &file.replace("read_only: true", "env_file: more.env"));
    }
}

/// A volume that no project has made, removed with it.
struct Volume(String);

impl Drop for Volume {
    fn drop(&mut self) {
        docker(&["volume", "rm", "--force", &self.0]);
    }
}

fn new_secrets_are_refused_beside_data_in_a_folder_or_a_volume_of_others(compose: Compose) {
    let mut stack = Stack::new(compose);
    let image = stack.postgres_image().expect("an image");
    stack.set("POSTGRES_IMAGE", &image);
    let settings = stack.project.read(".env");
    let file = stack.project.read("docker-compose.yml");
    let volume = Volume(format!("{}-of-others", stack.name));
    docker(&["volume", "create", &volume.0]);
    let external = format!("volumes:\n  db: {{external: true, name: {}}}", volume.0);
    let folder = stack.project.dir.join("data");
    std::fs::create_dir(&folder).expect("a folder");
    let as_root = |script: &str| {
        let mount = format!("type=bind,source={},target=/mnt", folder.display());
        let run =
            ["run", "--rm", "--user", "0", "--mount", &mount, "--entrypoint", "sh", &image, "-c", script];
        docker(&run)
    };
    as_root("chown postgres: /mnt && chmod 700 /mnt");
    for (yaml, place) in [
        (file.replace("volumes:\n  db:", &external), format!("volume {}", volume.0)),
        (file.replace("- db:/var/lib", "- ./data:/var/lib"), format!("folder {}", folder.display())),
    ] {
        stack.project.write("docker-compose.yml", &yaml);
        stack.project.write(".env", &settings);
        // While it is empty, it is no reason.
        stack.run("up db").exits(0).says(".env: written, ");
        let secrets = stack.project.read(".env");
        stack.run("down").exits(0);
        stack.project.write(".env", &settings);
        let refused = stack.run("up db").exits(5);
        refused.says(&format!("this stack has data ({place}), but .env lacks its POSTGRES_PASSWORD"));
        assert_eq!(stack.project.read(".env"), settings);

        stack.project.write(".env", &secrets);
        let down = stack.run("down --volumes --yes").exits(0);
        down.says(&format!("warning: the data in the {place} stays"))
            .says(&format!("down, the data in the {place} stays"));
        stack.run("up db").exits(0);
        stack.sql("postgres", "select 1");
        stack.run("down").exits(0);
    }
    // What the server's user has made, a test can't remove.
    as_root("rm -rf /mnt/* && chown root: /mnt && chmod 777 /mnt");
}

fn what_is_in_files_is_in_no_inspection_of_a_container(compose: Compose) {
    let production = Production::written(compose);
    let Production { stack, managed, .. } = &production;
    managed.sql("postgres", "grant connect on database postgres, template1 to public");
    for product in ["kratos", "hydra", "keto"] {
        managed.sql("postgres", &format!("alter role {product} createdb"));
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let (ends, network) = (Arc::clone(&is_over), format!("network={}", managed.name));
    let watch = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !ends.load(Ordering::Relaxed) {
            let ids =
                outcome(Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &network])).stdout;
            // One may be gone meanwhile.
            let inspect = |id| outcome(Command::new("docker").args(["inspect", id])).stdout;
            seen.extend(ids.lines().map(inspect));
        }
        seen
    });
    for command in ["up", "backup --verify", "restore latest --yes", "reset keto --yes --force"] {
        stack.run(command).exits(0).hides(SECRET);
    }
    outcome(&mut stack.forgetful(NEW, "status --drift")).exits(0).hides(SECRET);
    is_over.store(true, Ordering::Relaxed);
    let seen = watch.join().expect("an end");
    let shown = seen.iter().find(|text| text.contains(SECRET));
    assert!(shown.is_none(), "{}", shown.map(String::as_str).unwrap_or_default());
    for word in ["xtask-dsn.yml", "pg_dump", "pg_restore"] {
        assert!(seen.iter().any(|text| text.contains(word)), "{word} wasn't seen");
    }
    let left = stack.project.paths().into_iter().filter(|path| path.ends_with("dsn.yml"));
    assert_eq!(left.count(), 0);
}
