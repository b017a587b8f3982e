//! A PostgreSQL server that no Compose project knows: a managed one, as far as a stack can tell.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::project::outcome;
use crate::stack::{Stack, docker};

/// The name that its certificate is for.
pub const HOST: &str = "database.example.test";

/// Another name that it is reached by.
pub const OTHER_HOST: &str = "other.example.test";

/// The server, on a network of its own that stacks are to join.
pub struct Managed {
    pub name: String,
}

impl Managed {
    /// Starts it, and names its image to a stack as the one to take psql from.
    pub fn start(stack: &mut Stack) -> Self {
        let name = format!("{}-managed", stack.name);
        let image = stack.postgres_image().unwrap_or_else(|| "postgres:17-alpine".into());
        docker(&["network", "create", &name]);
        let run = ["run", "--detach", "--name", &name, "--env", "POSTGRES_PASSWORD=administrator"];
        let network = ["--network", &name, "--network-alias", HOST, "--network-alias", OTHER_HOST];
        docker(&[&run[..], &network, &[&image]].concat());
        let managed = Self { name };
        managed.wait_for("select 1", "1");
        stack.set("XTASK_POSTGRES_IMAGE", &image);
        managed
    }

    /// Runs SQL as the superuser, and returns its rows.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        // Over TCP, where the server that only initialises doesn't answer.
        let uri = format!("postgresql://postgres:administrator@127.0.0.1/{database}");
        docker(&["exec", &self.name, "psql", "-XqAt", &uri, "-c", sql])
    }

    /// Lets it take connections with TLS only, with a certificate that an authority has signed.
    pub fn speak_tls(&self, authority: &Authority) {
        let script = "cd \"$PGDATA\" && printf %s \"$0\" >server.crt && printf %s \"$1\" >server.key && \
                      chown postgres: server.crt server.key && chmod 600 server.key && \
                      printf 'local all all trust\\nhostssl all all all scram-sha-256\\n' >pg_hba.conf";
        let (certificate, key) = authority.sign(HOST);
        docker(&["exec", "--user", "root", &self.name, "sh", "-c", script, &certificate, &key]);
        self.sql("postgres", "alter system set ssl = on");
        self.sql("postgres", "select pg_reload_conf()");
        self.wait_for("select ssl from pg_stat_ssl where pid = pg_backend_pid()", "t");
    }

    /// Makes a database for each of these roles, which owns that and may do nothing else.
    pub fn make_owners(&self, owners: [(&str, &str); 3]) {
        self.sql("postgres", "revoke connect on database postgres, template1 from public");
        for (role, password) in owners {
            self.sql("postgres", &format!("create role {role} login password '{password}'"));
            self.sql("postgres", &format!("create database {role} owner {role}"));
            self.sql("postgres", &format!("revoke connect on database {role} from public"));
        }
    }

    fn wait_for(&self, sql: &str, row: &str) {
        while self.sql("postgres", sql).trim() != row {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name]);
        // The stack's own containers are still in its network.
        for id in docker(&["ps", "--all", "--quiet", "--filter", &format!("network={}", self.name)]).lines() {
            docker(&["rm", "--force", "--volumes", id]);
        }
        docker(&["network", "rm", &self.name]);
    }
}

/// An authority that signs certificates, in a folder of its own.
pub struct Authority(PathBuf);

impl Authority {
    pub fn new(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).expect("a folder");
        let authority = Self(folder);
        authority.openssl(
            "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=authority \
                           -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt",
        );
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> String {
        self.read("ca.crt")
    }

    /// A certificate for a host, and its key.
    fn sign(&self, host: &str) -> (String, String) {
        std::fs::write(self.0.join("names"), format!("subjectAltName=DNS:{host}\n")).expect("a file");
        self.openssl(&format!(
            "req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN={host} -keyout server.key -out server.csr"
        ));
        self.openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt");
        (self.read("server.crt"), self.read("server.key"))
    }

    fn openssl(&self, args: &str) {
        outcome(Command::new("openssl").args(args.split_whitespace()).current_dir(&self.0)).exits(0);
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).expect("a file")
    }
}
