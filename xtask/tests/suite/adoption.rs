//! Stacks of other people, as real projects look like, taken as they are: each folder in `stacks` is one.
//!
//! Whatever its shape, xtask brings it up, migrates it and restarts it, writes nothing into it, and leaves
//! what isn't Ory's alone. docker-compose 1.29 reads every one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::project::Outcome;
use crate::stack::{Compose, NEW, Stack, ports};
use crate::tiers::{first, full};

/// How much of the circle a stack goes through.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Circle {
    /// All of it.
    Whole,
    /// Up, and nothing to do afterwards.
    Short,
}

/// Each stack goes through the whole circle under both generations of Compose: those that differ most in the first tier,
/// under v2. The others come up there in short.
macro_rules! stacks {
    (whole: [$($whole:ident)*] short: [$($short:ident)*]) => {
        first! { compose_v2, [$($whole)*], (super::Compose::V2, super::Circle::Whole) }
        first! { compose_v2_in_short, [$($short)*], (super::Compose::V2, super::Circle::Short) }
        full! { compose_v2_full, [$($short)*], (super::Compose::V2, super::Circle::Whole) }
        full! { compose_v1_full, [$($whole)* $($short)*], (super::Compose::V1, super::Circle::Whole) }
    };
}

stacks! {
    whole: [
        one_database_with_hydra_in_it_is_refused_before_anything_runs
        hydra_in_a_schema_of_its_own
        entrypoints_that_are_a_shell
        several_files_profiles_and_env_files_in_a_folder_below
        an_application_beside_it_and_one_shots_that_must_not_run_again
    ]
    short: [
        one_server_whose_databases_an_init_script_makes
        a_server_a_product
        kratos_beside_keto_in_one_database_is_warned_of_and_works
        a_dsn_only_in_the_configuration_file_yaml_json_or_toml
        passwords_with_dollars_and_percent_encoding
        one_shots_that_migrate_as_an_owner_while_the_servers_have_few_rights
        built_images_without_entrypoint
        kratos_alone
        no_published_ports
        random_ports
    ]
}

/// A server of Ory's, and where it keeps its data.
struct Server {
    product: &'static str,
    service: &'static str,
    /// The service of the database server.
    on: &'static str,
    /// The database as psql names it, with the schema where it isn't `public`.
    database: &'static str,
}

/// A product whose service has its name.
const fn server(product: &'static str, on: &'static str, database: &'static str) -> Server {
    Server { product, service: product, on, database }
}

impl Server {
    /// The rows of a table that each product has.
    fn rows(&self, stack: &Stack) -> String {
        stack.sql_on(self.on, self.database, "select id from networks order by 1")
    }
}

/// A stack that was brought up, and what must stay as it is.
struct Adopted<'a> {
    stack: &'a Stack,
    servers: &'a [Server],
    circle: Circle,
    files: BTreeMap<std::path::PathBuf, String>,
    rows: Vec<String>,
}

/// What every stack must go through: up from nothing, again, migrate-all, and in the whole circle restart.
#[track_caller]
fn adopt<'a>(stack: &'a Stack, servers: &'a [Server], circle: Circle) -> Adopted<'a> {
    let files = stack.project.files();
    let first = stack.run("up").exits(0);
    for server in servers {
        let row = first.stdout.lines().find(|line| line.split_whitespace().next() == Some(server.service));
        let ready = row.and_then(|row| row.split_whitespace().nth(1)).unwrap_or_default();
        assert!(ready.parse::<f64>().is_ok(), "{} isn't said to be ready\n{first}", server.service);
        assert!(first.stderr.contains(&format!("{}: applied", server.product)), "{first}");
        let row = "insert into networks values (gen_random_uuid(), now(), now())";
        stack.sql_on(server.on, server.database, row);
    }
    let rows: Vec<_> = servers.iter().map(|server| server.rows(stack)).collect();
    assert!(rows.iter().all(|rows| rows.lines().count() >= 1), "a row was not inserted: {rows:?}");
    let adopted = Adopted { stack, servers, circle, files, rows };
    adopted.holds(&first);

    adopted.changes_nothing("up");
    adopted.changes_nothing("migrate-all");
    if circle == Circle::Short {
        return adopted;
    }
    let before = stack.containers();
    let restarted = stack.run("restart").exits(0);
    adopted.holds(&restarted);
    for (service, container) in stack.containers() {
        let [id, started, _] = &before[&service];
        let is_ory = servers.iter().any(|server| server.service == service);
        assert_eq!(&container[0], id, "restart replaced {service}\n{restarted}");
        assert_eq!(container[1] != *started, is_ory, "restart of {service}\n{restarted}");
    }
    adopted.changes_nothing("up");
    let drift = stack.run("status --drift").exits(0);
    let told = drift.stderr.lines().filter(|line| line.ends_with(": no drift")).count();
    assert_eq!(told, servers.len(), "{drift}");
    adopted
}

impl Adopted<'_> {
    /// Runs a command that has nothing to do; returns what it printed.
    #[track_caller]
    fn changes_nothing(&self, command: &str) -> Outcome {
        let (before, since) = (self.stack.containers(), SystemTime::now());
        let outcome = self.stack.run(command).exits(0);
        for server in self.servers {
            let text = format!("{}: up to date", server.product);
            assert!(outcome.stderr.contains(&text), "it doesn't say: {text}\n{outcome}");
        }
        assert_eq!(self.stack.containers(), before, "{command} changed a container\n{outcome}");
        assert_eq!(self.stack.started_since(since), [""; 0], "{command} started a container\n{outcome}");
        self.holds(&outcome);
        outcome
    }

    /// In the whole circle: what the images make is learned in the way of this stack, and nothing of that is left behind.
    #[track_caller]
    fn learns_its_schemas(&self) {
        if self.circle == Circle::Short {
            return;
        }
        let outcome = crate::project::outcome(&mut self.stack.forgetful(NEW, "status --drift")).exits(0);
        for server in self.servers {
            let text = format!("{}: no drift", server.product);
            assert!(outcome.stderr.contains(&text), "it doesn't say: {text}\n{outcome}");
            let databases = "select datname from pg_database where datname like 'xtask%'";
            assert_eq!(self.stack.sql_on(server.on, server.database, databases), "", "{outcome}");
        }
        self.holds(&outcome);
    }

    /// In the whole circle: a backup is put in the place of what was written after it, and of what a reset has emptied.
    #[track_caller]
    fn backs_up_and_restores(&self) {
        if self.circle == Circle::Short {
            return;
        }
        let folder = self.stack.project.dir.with_file_name("backups");
        let made = self.stack.run(&format!("backup --verify --output {}", folder.display())).exits(0);
        let restore = format!("restore {} --yes", made.stdout.trim());
        for server in self.servers {
            self.stack.sql_on(server.on, server.database, "truncate networks cascade");
        }
        let restored = self.stack.run(&restore).exits(0);
        self.holds(&restored);
        let products: Vec<_> = self.servers.iter().map(|server| server.product).collect();
        let reset = format!("reset {} --yes --output {}", products.join(" "), folder.display());
        let reset = self.stack.run(&reset).exits(0);
        for (server, rows) in self.servers.iter().zip(&self.rows) {
            assert!(self.stack.is_ready(server.service, ports(server.product)), "{reset}");
            assert!(!server.rows(self.stack).contains(rows.as_str()), "it isn't empty\n{reset}");
        }
        let restored = self.stack.run(&restore).exits(0);
        self.holds(&restored);
    }

    /// Fails unless every server is ready, with its rows, and the files are as they were.
    #[track_caller]
    fn holds(&self, outcome: &Outcome) {
        for (server, rows) in self.servers.iter().zip(&self.rows) {
            assert!(
                self.stack.is_ready(server.service, ports(server.product)),
                "{} isn't ready\n{outcome}",
                server.service
            );
            assert_eq!(&server.rows(self.stack), rows, "{}'s rows\n{outcome}", server.product);
        }
        let mut files = self.stack.project.files();
        // The first backup made it.
        files.remove(&self.stack.project.dir.join(".env.backup-key"));
        assert_eq!(files, self.files, "a file was changed or added\n{outcome}");
    }
}

fn one_server_whose_databases_an_init_script_makes(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("one-server", compose);
    let servers = [
        server("kratos", "postgres", "kratos"),
        server("hydra", "postgres", "hydra"),
        server("keto", "postgres", "keto"),
    ];
    adopt(&stack, &servers, circle);
}

fn a_server_a_product(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("server-each", compose);
    let servers = [
        server("kratos", "kratos-db", "accounts"),
        server("hydra", "hydra-db", "postgres"),
        server("keto", "keto-db", "keto"),
    ];
    adopt(&stack, &servers, circle).backs_up_and_restores();
}

fn one_database_with_hydra_in_it_is_refused_before_anything_runs(compose: Compose, _: Circle) {
    let stack = Stack::of_others("shared-with-hydra", compose);
    let files = stack.project.files();
    for command in ["migrate-all", "up", "migrate-hydra"] {
        stack
            .run(command)
            .exits(1)
            .says("error: hydra shares one schema of the database acme on `db` with kratos and keto")
            .says("hint: cargo xtask split, which gives each a database of its own");
        assert_eq!(stack.leftovers(), "", "{command} started something");
    }
    assert_eq!(stack.project.files(), files);
}

fn kratos_beside_keto_in_one_database_is_warned_of_and_works(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("kratos-beside-keto", compose);
    let servers = [server("kratos", "db", "identity"), server("keto", "db", "identity")];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    stack.run("status --check --drift").exits(0);
    for command in ["up", "migrate-all"] {
        adopted
            .changes_nothing(command)
            .says("warning: kratos shares one schema of the database identity on `db` with keto");
    }
}

fn hydra_in_a_schema_of_its_own(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("schema-of-its-own", compose);
    let servers = [
        server("kratos", "database", "platform"),
        server("hydra", "database", "dbname=platform options=-csearch_path=hydra"),
    ];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    assert_ne!(adopted.rows[0], adopted.rows[1], "both read one schema");
    assert!(!adopted.changes_nothing("migrate-all").stderr.contains("warning"));
}

fn a_dsn_only_in_the_configuration_file_yaml_json_or_toml(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("dsn-in-files", compose);
    let servers = [
        server("kratos", "database", "kratos"),
        server("hydra", "database", "hydra"),
        server("keto", "database", "keto"),
    ];
    adopt(&stack, &servers, circle).learns_its_schemas();
}

fn passwords_with_dollars_and_percent_encoding(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("odd-passwords", compose);
    let servers = [
        server("kratos", "postgres", "kratos"),
        server("hydra", "postgres", "hydra"),
        server("keto", "postgres", "keto"),
    ];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    adopted.backs_up_and_restores();
}

fn one_shots_that_migrate_as_an_owner_while_the_servers_have_few_rights(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("one-shots", compose);
    let servers = [
        server("kratos", "postgresd", "kratos"),
        server("hydra", "postgresd", "hydra"),
        server("keto", "postgresd", "keto"),
    ];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    for server in &servers {
        let owner = "select distinct tableowner from pg_tables where schemaname = 'public'";
        assert_eq!(stack.sql_on(server.on, server.database, owner), "owner\n", "{}", server.product);
        let [_, _, ended] = &stack.containers()[&format!("{}-migrate", server.product)];
        assert_eq!(ended, "exited:0");
    }
    adopted.backs_up_and_restores();
}

fn entrypoints_that_are_a_shell(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("shell-entrypoints", compose);
    adopt(
        &stack,
        &[server("kratos", "db", "kratos"), server("hydra", "db", "hydra"), server("keto", "db", "keto")],
        circle,
    )
    .learns_its_schemas();
}

fn built_images_without_entrypoint(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("no-entrypoint", compose);
    let servers = [server("kratos", "postgres", "kratos"), server("keto", "keto-postgres", "keto")];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    adopted.backs_up_and_restores();
}

fn several_files_profiles_and_env_files_in_a_folder_below(compose: Compose, circle: Circle) {
    let mut stack = Stack::of_others("several-files", compose);
    stack.folder = Some("deploy");
    let servers = [server("kratos", "db", "kratos"), server("hydra", "db", "hydra")];
    let adopted = adopt(&stack, &servers, circle);
    adopted.learns_its_schemas();
    adopted
        .changes_nothing("migrate-all")
        .says("keto: not in this stack; its service `keto` is in the inactive profile permissions");
    let services: BTreeSet<_> = stack.containers().into_keys().collect();
    assert_eq!(services, BTreeSet::from(["db", "hydra", "kratos", "web"].map(String::from)));
}

fn kratos_alone(compose: Compose, circle: Circle) {
    let mut stack = Stack::of_others("kratos-alone", compose);
    stack.set("CONTAINER_PREFIX", &stack.name.clone());
    let servers = [Server { service: "auth", ..server("kratos", "db", "kratos") }];
    let adopted = adopt(&stack, &servers, circle);
    adopted.changes_nothing("migrate-all").says("hydra: not in this stack").says("keto: not in this stack");
    adopted.changes_nothing("migrate-kratos");
    stack.run("migrate-hydra").exits(2).says("hint: the services of this stack are auth, db");
}

fn no_published_ports(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("unpublished", compose);
    adopt(
        &stack,
        &[server("kratos", "db", "kratos"), server("hydra", "db", "hydra"), server("keto", "db", "keto")],
        circle,
    );
}

fn random_ports(compose: Compose, circle: Circle) {
    let stack = Stack::of_others("random-ports", compose);
    adopt(
        &stack,
        &[server("kratos", "db", "kratos"), server("hydra", "db", "hydra"), server("keto", "db", "keto")],
        circle,
    );
    let shown = stack.run("up").exits(0).stdout;
    let urls: Vec<_> = shown.split_whitespace().filter(|word| word.starts_with("http://")).collect();
    assert_eq!(urls.len(), 6, "{shown}");
    for url in urls {
        let answer = minreq::get(format!("{url}/health/ready")).with_timeout(5).send().expect("an answer");
        assert_eq!(answer.status_code, 200, "{url}");
    }
}

fn an_application_beside_it_and_one_shots_that_must_not_run_again(compose: Compose, circle: Circle) {
    let mut stack = Stack::of_others("beside-an-application", compose);
    let servers = [server("kratos", "db", "kratos")];
    adopt(&stack, &servers, circle);
    let before = stack.containers();
    for one_shot in ["seed", "permissions"] {
        assert_eq!(before[one_shot][2], "exited:0", "{one_shot}");
    }

    // Only what changed is recreated.
    for (command, level) in [("up", "debug"), ("restart", "warning")] {
        let before = stack.containers();
        stack.set("KRATOS_LOG_LEVEL", level);
        let outcome = stack.run(command).exits(0);
        for (service, container) in stack.containers() {
            assert_eq!(container != before[&service], service == "kratos", "{service}\n{outcome}");
        }
        assert!(stack.is_ready("kratos", [4433, 4434]), "{outcome}");
    }
    assert_eq!(stack.sql_on("db", "acme", "select name from plans"), "free\n");
}
