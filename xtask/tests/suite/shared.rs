//! One database that Kratos, Keto and an application share, where Hydra could never migrate: the stack
//! `shared-with-hydra` with rows in it, and somebody who writes there.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::project::{Outcome, outcome};
use crate::stack::{Compose, SERVERS, Stack, docker, is_real};

/// Where a product's tables are once it has a database, as psql names it.
pub fn own_database(product: &str) -> String {
    product.into()
}

/// The stack, with what others put there.
pub struct Shared {
    pub stack: Rc<Stack>,
    pub emails: Vec<&'static str>,
    /// The name and password of the DSNs.
    login: &'static str,
}

impl Shared {
    /// Kratos and Keto have rows, the application has a key into Kratos's, and Hydra can't start.
    pub fn new(compose: Compose) -> Self {
        Self::with(Stack::of_others("shared-with-hydra", compose), "acme:secret")
    }

    pub fn with(stack: Stack, login: &'static str) -> Self {
        for command in ["migrate-kratos", "migrate-keto"] {
            stack.run(command).exits(0);
        }
        stack.run("up").exits(1);
        let shared =
            Self { stack: Rc::new(stack), emails: vec!["ada@acme.example", "bob@acme.example"], login };
        // Each of two servers that start at once on no network makes one; this is the older.
        shared.sql("insert into networks values (gen_random_uuid(), '2001-01-01', now())");
        shared
            .sql("insert into networks values ('11111111-1111-1111-1111-111111111111', '2002-01-01', now())");
        shared.serve_as_others_do();
        for email in &shared.emails {
            shared.add_identity(email);
        }
        shared
            .sql("create table orders (id serial primary key, buyer uuid references identities, price int)");
        shared.sql("insert into orders (buyer, price) select id, 5 from identities");
        shared
    }

    pub fn sql(&self, sql: &str) -> String {
        self.stack.sql("acme", sql)
    }

    /// Gives Keto a role of its own in the shared database, with these rights, and its tables.
    pub fn give_keto_a_role(&self, rights: &str) {
        self.sql(&format!(
            "create role keto login password 'Geheim1'; {rights};
             do $$ declare t text; begin for t in select format('%I.%I', schemaname, tablename) from pg_tables
               where schemaname = 'keto' loop execute format('alter table %s owner to keto', t); end loop; end $$"
        ));
        let env = self.stack.project.read(".env");
        let as_keto = |line: &str| match line.starts_with("KETO_DSN=") {
            true => line.replace("acme:secret@", "keto:Geheim1@") + "\n",
            false => format!("{line}\n"),
        };
        self.stack.project.write(".env", &env.lines().map(as_keto).collect::<String>());
        self.stack.run("up").exits(0);
    }

    /// As plain Compose starts them.
    fn serve_as_others_do(&self) {
        let of_xtask = self.stack.command("v26.2.0", "status");
        let mut compose = self.stack.project.command("docker");
        compose.args(["compose", "up", "-d", "kratos", "keto"]);
        compose.envs(of_xtask.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outcome(&mut compose).exits(0);
        let start = Instant::now();
        while !(self.stack.is_ready("kratos", [4433, 4434]) && self.stack.is_ready("keto", [4466, 4467])) {
            assert!(start.elapsed() < Duration::from_secs(60), "it isn't ready");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// An identity and a relation: through the API of a real server, as a stand-in has none.
    pub fn add_identity(&self, email: &str) {
        if is_real() {
            let body = format!(r#"{{"schema_id": "person", "traits": {{"email": "{email}"}}}}"#);
            let url = format!("{}/admin/identities", self.url("kratos", 4434));
            let answer = minreq::post(url).with_header("content-type", "application/json").with_body(body);
            assert_eq!(answer.with_timeout(10).send().expect("an answer").status_code, 201);
            let tuple = format!(
                r#"{{"namespace": "Document", "object": "{email}", "relation": "view", "subject_id": "u"}}"#
            );
            let url = format!("{}/admin/relation-tuples", self.url("keto", 4467));
            let answer = minreq::put(url).with_header("content-type", "application/json").with_body(tuple);
            assert_eq!(answer.with_timeout(10).send().expect("an answer").status_code, 201);
        } else {
            let network = "11111111-1111-1111-1111-111111111111";
            // Before a split they are in the first of these.
            let place = "dbname=acme options=-csearch_path=public,kratos,keto";
            let insert = |sql: String| self.stack.sql(place, &sql);
            insert(format!(
                "insert into identities (id, nid, schema_id, traits)
                 values (gen_random_uuid(), '{network}', 'person', '{{\"email\": \"{email}\"}}')"
            ));
            insert(format!(
                "insert into keto_relation_tuples values (gen_random_uuid(), '{network}', 'Document', '{email}', 'view')"
            ));
        }
    }

    fn url(&self, service: &str, port: u16) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = docker(&["inspect", "--format", format, &self.stack.container(service).1]);
        format!("http://{}:{port}", addresses.split_whitespace().next().unwrap_or_default())
    }

    /// What the servers serve, or where they are stand-ins, what they would find: `place` tells psql where.
    pub fn served(&self, place: impl Fn(&str) -> String) -> Vec<String> {
        let text = if is_real() {
            let get = |url: String| {
                let answer = minreq::get(url).with_timeout(10).send().expect("an answer");
                assert_eq!(answer.status_code, 200);
                answer.as_str().expect("text").to_string()
            };
            let tuples = format!("{}/relation-tuples?namespace=Document", self.url("keto", 4466));
            get(format!("{}/admin/identities", self.url("kratos", 4434))) + &get(tuples)
        } else {
            // A server takes the oldest network that it finds.
            let own = "nid = (select id from networks order by created_at limit 1)";
            self.stack.sql(&place("kratos"), &format!("select traits from identities where {own}"))
                + &self
                    .stack
                    .sql(&place("keto"), &format!("select object from keto_relation_tuples where {own}"))
        };
        let is_there = |email: &&&str| text.matches(**email).count() == 2;
        self.emails.iter().filter(is_there).map(ToString::to_string).collect()
    }

    /// Puts the new DSNs where the old ones are.
    fn put_new_dsns(&self) {
        let project = &self.stack.project;
        project.write(".env", &project.read(".env.split"));
        let file = "docker-compose.yml";
        let old = format!("&dsn postgres://{}@db:5432/acme?sslmode=disable", self.login);
        project.replace(file, &old, "${KRATOS_DSN}");
        project.replace(file, "*dsn", "${KETO_DSN}");
        project.replace(file, "SECRETS_SYSTEM:", "DSN: ${HYDRA_DSN}\n      SECRETS_SYSTEM:");
    }

    /// No password that was made is in what is printed.
    pub fn hides_passwords(&self, outcome: Outcome) -> Outcome {
        let text = self.stack.project.read(".env.split");
        let password =
            |line: &str| Some(line.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_string());
        let passwords: BTreeSet<_> = text.lines().filter_map(password).collect();
        assert!(!passwords.is_empty());
        passwords
            .iter()
            .filter(|password| *password != "secret")
            .fold(outcome, |outcome, password| outcome.hides(password))
    }

    /// All three migrate, serve, and have what they had.
    pub fn goes_on(&self, place: impl Fn(&str) -> String) {
        self.put_new_dsns();
        let done = self.hides_passwords(self.stack.run("split").exits(0));
        assert!(done.stderr.contains("hydra: applied "), "{done}");
        for (service, ports) in SERVERS {
            assert!(self.stack.is_ready(service, ports), "{service} isn't ready");
        }
        assert_eq!(self.served(place), self.emails);
        self.stack.run("status --check --drift").exits(0);
    }

    pub fn orders(&self) -> String {
        self.sql("select count(*), count(buyer), sum(price) from orders")
    }
}

/// Writes one row after another to a table of Keto, from the moment it is made until an error ends it.
pub struct Writer {
    psql: Child,
    input: std::thread::JoinHandle<()>,
}

impl Writer {
    pub fn start(shared: &Shared) -> Self {
        let db = shared.stack.container("db").1;
        let mut psql = Command::new("docker");
        psql.args(["exec", "-i", &db, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "acme"]);
        let mut psql = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut input = psql.stdin.take().expect("an input");
        let row = "insert into keto_uuid_mappings (id, string_representation)
                   values (gen_random_uuid(), 'written') returning id;\n";
        let input = std::thread::spawn(move || {
            while input.write_all(row.as_bytes()).is_ok() {
                // Others have something to do too.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { psql, input }
    }

    /// The rows that PostgreSQL took, and the error that ended it.
    pub fn end(self) -> (BTreeSet<String>, String) {
        let output = self.psql.wait_with_output().expect("an end");
        self.input.join().expect("an end");
        let rows = String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect();
        (rows, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
