//! Causes provoked by PostgreSQL, the engine and the file system: each ends in its own message, and the command
//! that the hint names repairs it. With stand-ins, or with XTASK_TEST_IMAGES=real with Ory's own servers.

use std::time::{Duration, Instant};

use crate::project::Outcome;
use crate::stack::{Compose, NEW, Stack, docker, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_service_that_does_not_start
        a_server_that_serves_before_it_is_migrated
        a_server_that_speaks_french_has_the_same_causes
    ]
    full: [
        what_is_wrong_with_a_role_or_a_database
        what_is_wrong_with_a_dsn
        five_causes_of_already_exists
    ]
}

/// A failure of a command, and what its hint says.
struct Case<'a> {
    stack: &'a Stack,
    command: &'a str,
    outcome: Outcome,
}

/// Runs a command that must fail within seconds with this message.
#[track_caller]
fn fails<'a>(stack: &'a Stack, command: &'a str, message: &str) -> Case<'a> {
    let clock = Instant::now();
    let outcome = stack.run(command).says(message);
    assert_ne!(outcome.code, Some(0), "{outcome}");
    let took = clock.elapsed();
    assert!(took < Duration::from_secs(120), "it took {took:?}: {outcome}");
    eprintln!("{:5.1} s  {message}", took.as_secs_f64());
    Case { stack, command, outcome }
}

impl Case<'_> {
    /// The command line in the hint: what is behind its last colon, or all of it.
    fn line(&self) -> &str {
        let hint = self.outcome.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
        let hint = hint.unwrap_or_else(|| panic!("no hint: {}", self.outcome));
        let programs = ["docker", "cargo ", "chmod ", "openssl "];
        let starts = |at: &usize| programs.iter().any(|program| hint[*at..].starts_with(program));
        let mut places = std::iter::once(0).chain(hint.match_indices(": ").map(|(at, _)| at + 2));
        &hint[places.find(starts).unwrap_or_else(|| panic!("no command: {hint}"))..]
    }

    /// Types the hint's command, after which the command that failed succeeds.
    #[track_caller]
    fn then_its_hint_repairs(self) {
        self.then_its_hint_repairs_with(&[]);
    }

    #[track_caller]
    fn then_its_hint_repairs_with(self, answers: &[(&str, String)]) {
        let typed = self.stack.type_line(self.line(), answers);
        assert_eq!(typed.code, Some(0), "{}: {typed}", self.line());
        self.stack.run(self.command).exits(0);
    }

    /// Does what the hint says in words, after which the command that failed succeeds.
    #[track_caller]
    fn hints(self, text: &str, repair: impl FnOnce(&Stack)) {
        self.outcome.says(text);
        repair(self.stack);
        self.stack.run(self.command).exits(0);
    }
}

/// Puts an empty database, made by `sql`, in the place of a product's.
fn in_place_of(stack: &Stack, product: &str, sql: &str, test: impl FnOnce()) {
    let rename = |from: &str, to: &str| {
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{from}'");
        stack.sql("postgres", &end);
        stack.sql("postgres", &format!("alter database {from} rename to {to}"));
    };
    rename(product, "aside");
    if !sql.is_empty() {
        stack.sql("postgres", sql);
    }
    test();
    stack.sql("postgres", &format!("drop database if exists {product} with (force)"));
    rename("aside", product);
}

/// A stack that is migrated, with nothing but its database running.
fn migrated(compose: Compose) -> Stack {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-all").exits(0);
    stack
}

fn what_is_wrong_with_a_role_or_a_database(compose: Compose) {
    let stack = migrated(compose);
    let (migrate, own) = ("migrate-kratos", "create database kratos owner kratos");
    let env = stack.project.read(".env");
    let password = env.lines().find_map(|line| line.strip_prefix("KRATOS_DB_PASSWORD=")).expect("a password");
    let password = format!("{password}\n");

    stack.sql("postgres", "alter role kratos password 'another'");
    fails(&stack, migrate, "knows no role kratos with the password of kratos's DSN")
        .then_its_hint_repairs_with(&[
            ("Enter new password", password.clone()),
            ("Enter it again", password),
        ]);
    stack.sql("postgres", "alter role kratos nologin");
    fails(&stack, migrate, "the role kratos may not log in").then_its_hint_repairs();
    stack.sql("postgres", "revoke connect on database kratos from public, kratos");
    fails(&stack, migrate, "the role kratos may not connect to the database kratos").then_its_hint_repairs();
    stack.sql("postgres", "alter database kratos allow_connections false");
    fails(&stack, migrate, "the database kratos takes no connections").then_its_hint_repairs();
    stack.sql("postgres", "alter role kratos connection limit 0");
    fails(&stack, migrate, "`db` has no connection left for kratos").hints("pg_stat_activity", |stack| {
        _ = stack.sql("postgres", "alter role kratos connection limit -1")
    });
    docker(&["pause", &stack.container("db").1]);
    fails(&stack, migrate, "the database service `db` is paused").then_its_hint_repairs();

    let take = "do $$ declare t text; begin for t in select tablename from pg_tables where schemaname = 'public' \
                loop execute 'alter table ' || t || ' owner to postgres'; end loop; end $$";
    stack.sql("kratos", take);
    fails(&stack, migrate, "tables in kratos belong to the role postgres, not to kratos")
        .then_its_hint_repairs();

    in_place_of(&stack, "kratos", "create database kratos", || {
        fails(&stack, migrate, "it may make no tables in the schema public").then_its_hint_repairs();
    });
    in_place_of(&stack, "kratos", "create database kratos", || {
        stack.sql("kratos", "grant create on schema public to kratos");
        fails(&stack, migrate, "it may not make the extension pg_trgm").then_its_hint_repairs();
    });
    in_place_of(&stack, "kratos", own, || {
        stack.sql("postgres", "alter database kratos set default_transaction_read_only = on");
        fails(&stack, migrate, "the database kratos takes no writes").then_its_hint_repairs();
    });
    stack.project.replace("docker-compose.yml", "create-databases: kratos", "nothing: kratos");
    in_place_of(&stack, "kratos", "", || {
        fails(&stack, migrate, "`db` has no database kratos").then_its_hint_repairs();
    });
}

fn what_is_wrong_with_a_dsn(compose: Compose) {
    let stack = migrated(compose);
    let (file, migrate) = ("docker-compose.yml", "migrate-kratos");
    let dsn = "@db:5432/kratos?sslmode=disable";
    for (other, message, hint) in [
        ("@db:5433/kratos?sslmode=disable", "`db` takes no connections at the port", "mend the port"),
        ("@db:5432/kratos?sslmode=require", "`db` speaks no TLS", "write sslmode=disable"),
        ("@db:5432/kratos?ssl=true", "kratos's DSN has the parameter ssl", "remove it from the DSN"),
        ("@dbb:5432/kratos", "names the server `dbb`, no service here", "mend the host"),
        ("/@db:5432/kratos", "kratos's DSN in the environment of `kratos` can't be used", "mend the DSN"),
    ] {
        stack.project.replace(file, dsn, other);
        fails(&stack, migrate, message).hints(hint, |stack| stack.project.replace(file, other, dsn));
    }
    in_place_of(&stack, "kratos", "create database kratos owner kratos", || {
        stack.sql("kratos", "create schema app authorization kratos");
        stack.sql("kratos", "create extension pg_trgm; create extension btree_gin");
        let (narrow, wide) = (format!("{dsn}&search_path=app"), format!("{dsn}&search_path=app,public"));
        stack.project.replace(file, dsn, &narrow);
        fails(&stack, migrate, "is of an extension in another schema than app")
            .hints("search_path=app,public", |stack| stack.project.replace(file, &narrow, &wide));
        stack.project.replace(file, &wide, dsn);
    });
    in_place_of(&stack, "keto", "create database keto owner keto", || {
        let (config, text) = ("ory/keto/keto.yml", stack.project.read("ory/keto/keto.yml"));
        stack.project.replace(
            config,
            "file:///etc/config/keto/namespaces.keto.ts",
            "file:///etc/config/keto/n.ts",
        );
        fails(&stack, "migrate-keto", "/n.ts is missing, which the service `keto` reads")
            .hints("put it back", |stack| stack.project.write(config, &text));
    });
}

/// What PostgreSQL says is nearly the same each time.
fn five_causes_of_already_exists(compose: Compose) {
    let stack = migrated(compose);
    let migrate = "migrate-kratos";
    let insert = "insert into networks values (gen_random_uuid(), now(), now())";
    let rows = || stack.sql("kratos", "select count(*) from networks");
    stack.run("backup kratos").exits(0);
    stack.sql("kratos", insert);
    let before = rows();

    stack.sql("kratos", "drop table schema_migration");
    fails(&stack, migrate, "has lost what was applied: schema_migration").then_its_hint_repairs();
    assert_eq!(rows(), before, "rows of after the backup are gone");

    let first = "(select version from schema_migration order by version limit 1)";
    stack.sql("kratos", &format!("delete from schema_migration where version = {first}"));
    let answers = [("[y/N]", "y\n".to_string())];
    fails(&stack, migrate, "has lost what it noted of").then_its_hint_repairs_with(&answers);
    assert_eq!(rows(), before, "rows of after the backup are gone");

    stack.sql("kratos", "delete from schema_migration where version = '20250708190000000000'");
    fails(&stack, migrate, "has lost what it noted of 20250708190000000000")
        .then_its_hint_repairs_with(&[("[y/N]", "y\n".into())]);
    assert_eq!(rows(), before, "rows of after the backup are gone");

    stack.sql("kratos", "drop table schema_migration, sessions cascade");
    fails(&stack, migrate, "has some of kratos's tables")
        .then_its_hint_repairs_with(&[("[y/N]", "y\n".into())]);
    stack.sql("kratos", insert);

    // Another session makes the table of the bookkeeping while this one waits for it.
    in_place_of(&stack, "kratos", "create database kratos owner kratos", || {
        let made = "create table schema_migration (version varchar(48) not null, version_self int not null default 0); \
                    alter table schema_migration owner to kratos";
        let waited_for = "do $$ begin for try in 1..600 loop perform pg_sleep(0.1); perform pg_stat_clear_snapshot(); \
                          exit when exists (select from pg_stat_activity where datname = 'kratos' and \
                          wait_event_type = 'Lock'); end loop; end $$";
        let id = stack.container("db").1;
        let script = format!("begin; {made}; {waited_for}; commit");
        let args = ["exec", "--detach", &id, "psql", "-U", "postgres", "-d", "kratos"].map(String::from);
        let args: Vec<_> = args.iter().map(String::as_str).chain(["-c", &script]).collect();
        docker(&args);
        fails(&stack, migrate, "another migration of kratos ran at the same time").then_its_hint_repairs();
    });
    assert_eq!(rows(), before);

    // Kratos with the tables of Hydra.
    let (file, own) = ("docker-compose.yml", "postgres://kratos:${KRATOS_DB_PASSWORD");
    let shared = "postgres://hydra:${HYDRA_DB_PASSWORD";
    stack.project.replace(file, own, shared);
    stack.project.replace(file, "@db:5432/kratos?", "@db:5432/hydra?");
    in_place_of(&stack, "kratos", "", || {
        let case = fails(&stack, migrate, "has the tables of hydra: kratos needs its own");
        case.hints("cargo xtask split", |stack| {
            stack.run("split --yes").exits(0).says("kratos: keeps its role");
            let text = stack.project.read(file).replacen("@db:5432/hydra?", "@db:5432/kratos?", 1);
            stack.project.write(file, &text);
        });
    });
}

fn a_service_that_does_not_start(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let env = stack.project.read(".env");

    // `up` would see both before it starts anything.
    let config = stack.project.dir.join("ory/kratos/kratos.yml");
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&config, permissions).expect("another mode");
    };
    mode(0o600);
    fails(&stack, "restart kratos", "kratos may not read /etc/config/kratos/kratos.yml")
        .then_its_hint_repairs();

    stack.project.write(".env", &format!("{env}HYDRA_SECRETS_SYSTEM=too-short\n"));
    let case = fails(&stack, "restart hydra", "has 9 characters, which is the wrong length");
    let made = stack.type_line(case.line(), &[]);
    case.outcome.says("length must be >= 16").hides("too-short");
    stack.project.write(".env", &format!("{env}HYDRA_SECRETS_SYSTEM={}\n", made.stdout.trim()));
    stack.run("restart hydra").exits(0);

    // An image of which the program is no program of this machine.
    let image = format!("{}/keto:{NEW}", stack.name);
    stack.project.write("rootfs/usr/bin/keto", "no program\n");
    let import = format!("chmod +x rootfs/usr/bin/keto && tar -c -C rootfs usr | docker import - {image}");
    assert_eq!(stack.type_line(&import, &[]).code, Some(0));
    let (from, to) = ("${KETO_IMAGE:-oryd/keto:v26.2.0}", image.as_str());
    stack.project.replace("docker-compose.yml", from, to);
    // `-v` first: this command takes no stand-ins in place of what the file names.
    fails(&stack, "-v migrate-keto", "an image is for another architecture than this machine")
        .hints("docker image ls", |stack| stack.project.replace("docker-compose.yml", to, from));

    // The data of another major version of PostgreSQL: nothing but the number in its file differs.
    let version = |from: &str, to: &str| {
        let volume = format!("{}_db:/data", stack.name);
        let image = stack.container("db").0;
        let image = if image.is_empty() { "stand-in/postgres:debian".into() } else { image };
        let script = format!("f=$(find /data -maxdepth 2 -name PG_VERSION) && sed -i s/{from}/{to}/ $f");
        docker(&["run", "--rm", "--volume", &volume, "--entrypoint", "sh", &image, "-c", &script]);
    };
    let major = stack.sql("postgres", "show server_version_num").trim()[..2].to_string();
    version(&major, "13");
    docker(&["restart", &stack.container("db").1]);
    fails(
        &stack,
        "migrate-keto",
        &format!("the data of `db` is of PostgreSQL 13, its image of PostgreSQL {major}"),
    )
    .hints("name an image of PostgreSQL 13 again", |_| version("13", &major));
}

fn a_server_that_serves_before_it_is_migrated(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    for product in ["kratos", "hydra", "keto"] {
        in_place_of(&stack, product, &format!("create database {product} owner {product}"), || {
            docker(&["restart", &stack.container(product).1]);
            let command = format!("restart {product}");
            let case = fails(&stack, &command, &format!("{product} has ")).outcome.exits(3);
            let case = Case { stack: &stack, command: &command, outcome: case };
            case.then_its_hint_repairs();
        });
    }
}

fn a_server_that_speaks_french_has_the_same_causes(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    // Afterwards, as the stand-ins only know English.
    let environment = "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?is not set";
    let french = format!("LANG: C.UTF-8\n      LANGUAGE: fr\n      {environment}");
    stack.project.replace("docker-compose.yml", environment, &french);
    stack.run("up").exits(0);
    stack.sql("postgres", "alter system set lc_messages = 'C.UTF-8'");
    stack.sql("postgres", "select pg_reload_conf()");
    for (sql, message) in [
        ("alter role keto nologin", "the role keto may not log in"),
        ("alter role keto password 'another'", "`db` knows no role keto with the password of keto's DSN"),
        ("alter database keto allow_connections false", "the database keto takes no connections"),
        (
            "revoke connect on database keto from public, keto",
            "the role keto may not connect to the database keto",
        ),
    ] {
        let before = stack.sql("postgres", "select rolpassword from pg_authid where rolname = 'keto'");
        stack.sql("postgres", "alter database keto owner to postgres");
        stack.sql("postgres", sql);
        let failed = stack.run("migrate-keto").exits(1).says(message).says("hint: ");
        assert!(!failed.stderr.contains("permission denied for database"), "it speaks English: {failed}");
        stack.sql("postgres", "alter role keto login; alter database keto allow_connections true");
        stack.sql("postgres", &format!("alter role keto password '{}'", before.trim()));
        stack.sql("postgres", "grant connect on database keto to public; alter database keto owner to keto");
    }
    if is_real() {
        stack.sql("keto", "drop table schema_migration");
        stack.run("migrate-keto").exits(1).says("has lost what was applied: schema_migration");
    }
}
