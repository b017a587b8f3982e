//! `docker-compose.production.yml` as it is, on a server elsewhere that speaks TLS only, for roles that own their
//! database and may do nothing else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::ground::{PRODUCTS, Run};
use crate::managed::{Authority, HOST, Managed, OTHER_HOST};
use crate::project::{Outcome, outcome};
use crate::stack::{Compose, NEW, OLD, SERVERS, Stack, docker, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_server_that_can_not_show_who_it_is_is_refused_with_the_cause
    ]
    full: [
        production_comes_up_is_updated_and_gets_new_secrets_as_the_guide_says
        two_machines_wait_for_each_other_without_the_maintenance_database
    ]
}

/// The command lines of the guide's chapter, in their order: `docs_run` leaves them to the tests here.
pub const LINES: [&str; 7] = [
    "cp -r secrets.example secrets && chmod 700 secrets",
    "cargo xtask doctor",
    "cargo xtask up",
    "cargo xtask restart kratos",
    "cargo xtask status",
    "cargo xtask migrate-all --backup",
    "cargo xtask restart",
];

/// What each password and secret of these tests has in it.
pub const SECRET: &str = "n3ver-shown";

/// A stack that is to run in production, and the server that it is to use.
pub struct Production {
    // Dropped first, and with it what is in its network.
    pub managed: Managed,
    authority: Authority,
    pub stack: Stack,
    /// The lines of the guide that were typed.
    typed: RefCell<BTreeSet<&'static str>>,
}

impl Production {
    /// All is there but the secrets.
    fn new(compose: Compose) -> Self {
        let mut stack = Stack::new(compose);
        let managed = Managed::start(&mut stack);
        let authority = Authority::new(stack.project.dir.with_file_name("authority"));
        managed.speak_tls(&authority);
        managed.make_owners(PRODUCTS.map(|product| (product, password(product))));
        write_settings(&stack, &managed);
        Self { managed, authority, stack, typed: RefCell::default() }
    }

    /// As after all that the guide says to write.
    pub fn written(compose: Compose) -> Self {
        let production = Self::new(compose);
        production.typed(NEW, LINES[0]);
        write_secrets(&production.stack);
        production.stack.project.write("secrets/database-ca.crt", &production.authority.certificate());
        production
    }

    /// Runs a line of the guide with the images of a release.
    #[track_caller]
    fn typed(&self, release: &str, line: &'static str) -> Outcome {
        assert!(LINES.contains(&line), "not in the guide: {line}");
        self.typed.borrow_mut().insert(line);
        let outcome = match line.strip_prefix("cargo xtask ") {
            Some(args) => self.stack.run_release(release, args),
            None => outcome(self.stack.project.command("sh").args(["-c", line])),
        };
        outcome.exits(0).hides(SECRET)
    }

    /// A row in each database, and with Ory's servers what their APIs made, as it is served.
    fn rows(&self) -> Vec<String> {
        let rows = |product| self.managed.sql(product, "select id from networks order by 1");
        let mut rows = PRODUCTS.map(rows).to_vec();
        if is_real() {
            rows.push(self.call("kratos", 4434, "GET", "/admin/identities", ""));
            rows.push(self.call("hydra", 4445, "GET", "/admin/clients", ""));
            rows.push(self.call("keto", 4466, "GET", "/relation-tuples?namespace=Document", ""));
        }
        rows
    }

    fn make_rows(&self) {
        for product in PRODUCTS {
            self.managed.sql(product, "insert into networks values (gen_random_uuid(), now(), now())");
        }
        if is_real() {
            let identity = r#"{"schema_id":"default","traits":{"email":"a@example.com"}}"#;
            self.call("kratos", 4434, "POST", "/admin/identities", identity);
            self.call("hydra", 4445, "POST", "/admin/clients", r#"{"client_name":"a client"}"#);
            let tuple = r#"{"namespace":"Document","object":"a","relation":"owners","subject_id":"b"}"#;
            self.call("keto", 4467, "PUT", "/admin/relation-tuples", tuple);
        }
    }

    /// What a server of Ory's answers in the project's network, as the application would ask.
    #[track_caller]
    fn call(&self, service: &str, port: u16, method: &str, path: &str, body: &str) -> String {
        let answer = self.ask(service, port, method, path, body);
        let text = answer.as_str().unwrap_or_default().to_string();
        assert!([200, 201].contains(&answer.status_code), "{path}: {} {text}", answer.status_code);
        text
    }

    fn ask(&self, service: &str, port: u16, method: &str, path: &str, body: &str) -> minreq::Response {
        let url = format!("http://{}:{port}{path}", self.stack.address(service));
        let request = minreq::Request::new(minreq::Method::Custom(method.into()), url).with_timeout(10);
        request.with_header("content-type", "application/json").with_body(body).send().expect("an answer")
    }

    /// The keys that Hydra signs with.
    fn signing_keys(&self) -> minreq::Response {
        self.ask("hydra", 4444, "GET", "/.well-known/jwks.json", "")
    }
}

fn password(product: &str) -> &'static str {
    match product {
        "kratos" => "of-kratos-n3ver-shown",
        "hydra" => "of-hydra-n3ver-shown",
        _ => "of-keto-n3ver-shown",
    }
}

/// What `.env` has in production. Elsewhere a router knows the way to the server; here the stack joins its network.
fn write_settings(stack: &Stack, managed: &Managed) {
    let settings = "COMPOSE_FILE=docker-compose.production.yml:managed.yml\n\
                    KRATOS_PUBLIC_URL=https://id.example.com/\nHYDRA_PUBLIC_URL=https://oauth.example.com/\n\
                    LOGIN_URL=https://login.example.com\n";
    stack.project.write(".env", &(stack.project.read(".env") + settings));
    let network = format!("networks: {{ default: {{ external: true, name: {} }} }}\n", managed.name);
    stack.project.write("managed.yml", &network);
}

/// Writes the passwords, and a secret in each place.
fn write_secrets(stack: &Stack) {
    for product in PRODUCTS {
        let file = format!("secrets/{product}.yml");
        let mut text = stack.project.read(&file).replace("database.example.com", HOST);
        let mut number = 0;
        while text.contains("change-me-by-openssl-rand-hex-16") {
            let secret = format!("{product:.>6}-{SECRET}-secret-number-{number}");
            text = text.replacen("change-me-by-openssl-rand-hex-16", &secret[..32], 1);
            number += 1;
        }
        stack.project.write(&file, &text.replace("change-me", password(product)));
    }
}

fn production_comes_up_is_updated_and_gets_new_secrets_as_the_guide_says(compose: Compose) {
    let production = Production::new(compose);
    let (stack, managed) = (&production.stack, &production.managed);
    let project = &stack.project;

    // What isn't written yet is named, with what is to be done.
    let examples = project.dir.join("secrets.example").display().to_string();
    let secrets = project.dir.join("secrets").display().to_string();
    stack.run("up").exits(5).says(&format!("hint: cp -r {examples} {secrets} && chmod 700 {secrets}"));
    production.typed(NEW, LINES[0]);
    let mode = std::fs::metadata(&secrets).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    stack.run("up").exits(5).says("database-ca.crt is missing").says("a secret is in no repository");
    project.write("secrets/database-ca.crt", &production.authority.certificate());
    stack
        .run("up")
        .exits(5)
        .says("error: dsn in /run/secrets/kratos.yml, secrets.")
        .says("hint: replace it with a random one (openssl rand -hex 16)")
        .hides("change-me");
    assert_eq!(stack.leftovers(), "", "something was started");
    write_secrets(stack);

    // From nothing, with the release before.
    let found = production.typed(OLD, "cargo xtask doctor");
    assert!(found.stdout.lines().all(|line| line.starts_with("ok ")), "{found}");
    let up = production.typed(OLD, "cargo xtask up");
    PRODUCTS.iter().for_each(|product| assert!(up.stderr.contains(&format!("{product}: applied")), "{up}"));
    for (service, ports) in SERVERS {
        assert!(stack.is_ready(service, ports), "{service}");
    }
    is_hardened(&production);
    let clear = "select usename from pg_stat_activity join pg_stat_ssl using (pid) where usename <> 'postgres' \
                 and not ssl";
    assert_eq!(managed.sql("postgres", clear), "");
    production.make_rows();
    let rows = production.rows();

    // An update.
    stack.run("restart").exits(3).says("hint: cargo xtask migrate-all && cargo xtask restart");
    production.typed(NEW, "cargo xtask status");
    let migrated = production.typed(NEW, "cargo xtask migrate-all --backup").says("hydra: applied");
    assert!(migrated.stderr.contains("kratos: backed up") && !migrated.stderr.contains("keto: backed up"));
    assert!(migrated.stderr.contains("kratos: applied") && migrated.stderr.contains("keto: up to date"));
    production.typed(NEW, "cargo xtask restart");
    stack.run("status --check").exits(0);
    assert_eq!(production.rows(), rows);
    let containers = stack.containers();
    stack.run("up").exits(0).says("kratos: up to date").hides(SECRET);
    assert_eq!(stack.containers(), containers, "a container was touched");
    let plan = stack.run("migrate-all --dry-run").exits(0).hides(SECRET);
    let authority = format!("type=bind,source={secrets}/database-ca.crt,target=/run/secrets/database-ca.crt");
    assert!(plan.stdout.contains(&authority), "{plan}");

    // Another password of a role, then another secret in front of the old one.
    managed.sql("postgres", &format!("alter role kratos password 'new-{SECRET}'"));
    project.replace("secrets/kratos.yml", password("kratos"), &format!("new-{SECRET}"));
    production.typed(NEW, "cargo xtask restart kratos");
    let keys = is_real().then(|| production.signing_keys().as_str().expect("keys").to_string());
    let hydra = project.read("secrets/hydra.yml");
    let add = |kept: &str| hydra.replace("system: [", &format!("system: [another-{SECRET}-in-front{kept}"));
    project.write("secrets/hydra.yml", &add(", "));
    stack.run("restart hydra").exits(0).hides(SECRET);
    assert_eq!(production.rows(), rows);
    let running = stack.run("doctor").exits(0).hides(SECRET);
    assert!(running.stdout.lines().all(|line| line.starts_with("ok ")), "{running}");
    assert!(running.stdout.contains("each product can use its database"), "{running}");
    if let Some(keys) = keys {
        assert_eq!(production.signing_keys().as_str().expect("keys"), keys);
        // The guide says how long the old one is needed.
        project.write("secrets/hydra.yml", &add("] # "));
        stack.run("restart hydra").exits(0);
        assert_eq!(production.signing_keys().status_code, 500);
    }
    assert_eq!(*production.typed.borrow(), BTreeSet::from(LINES), "lines of the guide that were not typed");
}

/// What the Compose file promises of each server, as the engine has it.
#[track_caller]
fn is_hardened(production: &Production) {
    for service in PRODUCTS {
        let id = production.stack.container(service).1;
        let all = docker(&["inspect", &id]);
        assert!(!all.contains(SECRET), "{service}: a secret is shown by the engine");
        assert!(!all.contains("--dev"), "{service} runs with --dev");
        let format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} \
                      {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} \
                      {{.HostConfig.PidsLimit}}";
        let host = docker(&["inspect", "--format", format, &id]);
        let expected = "true [ALL] [no-new-privileges:true] unless-stopped 536870912 1000000000 200";
        assert_eq!(host.trim(), expected, "{service}");
        let published = docker(&["port", &id]);
        let expected = match service {
            "kratos" => format!("4433/tcp -> 127.0.0.1:{}\n", production.stack.port("KRATOS_PUBLIC")),
            "hydra" => format!("4444/tcp -> 127.0.0.1:{}\n", production.stack.port("HYDRA_PUBLIC")),
            _ => String::new(),
        };
        assert_eq!(published, expected, "{service}");
    }
    if is_real() {
        let flow = production.call("kratos", 4433, "GET", "/self-service/login/api", "");
        let issuer = production.call("hydra", 4444, "GET", "/.well-known/openid-configuration", "");
        assert!(flow.contains("https://id.example.com/self-service/login"), "{flow}");
        assert!(issuer.contains("https://oauth.example.com/oauth2/auth"), "{issuer}");
        assert!(!issuer.contains("127.0.0.1"), "{issuer}");
    }
}

fn a_server_that_can_not_show_who_it_is_is_refused_with_the_cause(compose: Compose) {
    let production = Production::written(compose);
    let stack = &production.stack;
    let refuses = |command: &str, cause: &str, hint: &str| {
        stack.run(command).exits(1).says(&format!("caused by: {cause}")).says(hint).hides(SECRET);
    };
    let other = Authority::new(stack.project.dir.with_file_name("other-authority"));
    stack.project.write("secrets/database-ca.crt", &other.certificate());
    for command in ["migrate-kratos", "up"] {
        let cause = format!("the certificate of `{HOST}` isn't trusted");
        refuses(command, &cause, "hint: name the authority that signed it in the DSN: sslrootcert=FILE");
    }
    stack.project.write("secrets/database-ca.crt", &production.authority.certificate());
    let right = stack.project.read("secrets/kratos.yml");
    let with = |from: &str, to: &str| stack.project.write("secrets/kratos.yml", &right.replace(from, to));
    with(HOST, OTHER_HOST);
    let cause =
        format!("the certificate of `{OTHER_HOST}` is for {HOST}, which isn't the host in kratos's DSN");
    refuses(
        "migrate-kratos",
        &cause,
        &format!("hint: write the host in the DSN as the certificate has it: {HOST}"),
    );
    with("&sslrootcert=/run/secrets/database-ca.crt", "");
    let cause = "sslrootcert in kratos's DSN names no authority's certificate that can be read there";
    refuses(
        "migrate-kratos",
        cause,
        "hint: name its file in the DSN, sslrootcert=FILE, and mount it in `kratos`",
    );
    with("verify-full", "disable");
    let cause = format!("`{HOST}` lets no kratos in from here");
    refuses("migrate-kratos", &cause, "sslmode=require in the DSN");
    assert_eq!(
        production.managed.sql("kratos", "select relname from pg_class where relname = 'networks'"),
        ""
    );
    // The authority of the next certificate may be there already.
    let both = other.certificate() + &production.authority.certificate();
    stack.project.write("secrets/database-ca.crt", &both);
    stack.project.write("secrets/kratos.yml", &right);
    stack.run("migrate-kratos").exits(0).says("kratos: applied");
}

fn two_machines_wait_for_each_other_without_the_maintenance_database(compose: Compose) {
    let production = Production::written(compose);
    let (first, managed) = (&production.stack, &production.managed);
    // Another machine has other projects and other locks of files.
    let mut second = Stack::new(compose);
    second.set("XTASK_POSTGRES_IMAGE", &first.setting("XTASK_POSTGRES_IMAGE").expect("an image"));
    write_settings(&second, managed);
    outcome(second.project.command("sh").args(["-c", LINES[0]])).exits(0);
    write_secrets(&second);
    second.project.write("secrets/database-ca.crt", &production.authority.certificate());

    first.run_release(OLD, "migrate-kratos").exits(0);
    let sql = "begin; lock table schema_migration in share mode; select pg_sleep(300)";
    let psql = ["exec", &managed.name, "psql", "-XqAt", "-U", "postgres", "-d", "kratos", "-c", sql];
    let mut holder = Command::new("docker").args(psql).spawn().expect("docker starts");
    let waits_for = |sql: &str| {
        while managed.sql("kratos", sql).trim() != "t" {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    waits_for("select exists (select from pg_locks where mode = 'ShareLock' and granted)");
    let migrating = Run::start(first, &mut first.command(NEW, "migrate-kratos"));
    waits_for("select exists (select from pg_locks where locktype = 'relation' and not granted)");
    second
        .run("migrate-kratos --lock-timeout 1")
        .exits(6)
        .says("waiting for another run on kratos's database: xtask migrate-kratos, process ")
        .says("another run still holds kratos's database after 1 s");
    managed
        .sql("kratos", "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
    holder.wait().expect("it was ended");
    migrating.end().exits(0).says("kratos: applied");
    second.run("migrate-kratos").exits(0).says("kratos: up to date");
}
