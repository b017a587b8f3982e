//! A database server that is no service of the stack: a managed one, as far as the stack can tell.

use crate::project::Outcome;
use crate::stack::{Compose, Stack, docker, scenarios};

scenarios! {
    a_server_elsewhere_is_asked_through_a_client_container
    a_fault_of_a_server_elsewhere_is_told_without_a_service_to_look_at
    drift_on_a_server_elsewhere_is_told_to_a_role_that_may_create_databases
}

/// A PostgreSQL server on a network of its own, that no Compose project knows.
struct Managed {
    name: String,
    image: String,
}

impl Managed {
    fn start(stack: &mut Stack) -> Self {
        let name = format!("{}-managed", stack.name);
        let image = stack.setting("POSTGRES_IMAGE").unwrap_or_else(|| "postgres:17-alpine".into());
        docker(&["network", "create", &name]);
        let password = "POSTGRES_PASSWORD=administrator";
        docker(&["run", "--detach", "--name", &name, "--network", &name, "--env", password, &image]);
        let managed = Self { name, image };
        while managed.sql("postgres", "select 1").trim() != "1" {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        managed.sql("postgres", "create role identity login password 's3cret-of-managed'");
        managed.sql("postgres", "create database identity owner identity");
        stack.set("PLATFORM_NETWORK", &managed.name);
        stack.set("DATABASE_HOST", &managed.name);
        stack.set("XTASK_POSTGRES_IMAGE", &managed.image);
        managed
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        // Over TCP, where the server that only initialises doesn't answer.
        let uri = format!("postgresql://postgres:administrator@127.0.0.1/{database}");
        docker(&["exec", &self.name, "psql", "-XqAt", &uri, "-c", sql])
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name]);
        // The stack's own container is still in its network.
        for id in docker(&["ps", "--all", "--quiet", "--filter", &format!("network={}", self.name)]).lines() {
            docker(&["rm", "--force", "--volumes", id]);
        }
        docker(&["network", "rm", &self.name]);
    }
}

fn a_server_elsewhere_is_asked_through_a_client_container(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = Managed::start(&mut stack);
    stack.run("up").exits(0).says("kratos: applied");
    managed.sql("identity", "insert into networks values (gen_random_uuid(), now(), now())");
    let rows = managed.sql("identity", "select id from networks order by 1");
    stack.run("up").exits(0).says("kratos: up to date");
    stack.run("migrate-all").exits(0).says("kratos: up to date");
    stack.run("restart").exits(0);
    assert_eq!(managed.sql("identity", "select id from networks order by 1"), rows);
    let plan: Outcome = stack.run("migrate-kratos --dry-run").exits(0).hides("s3cret-of-managed");
    assert!(plan.stdout.contains(&format!("docker run --rm -i --network {}", managed.name)), "{plan}");
}

fn a_fault_of_a_server_elsewhere_is_told_without_a_service_to_look_at(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = Managed::start(&mut stack);
    managed.sql("postgres", "alter role identity password 'another'");
    stack
        .run("up")
        .exits(1)
        .says(&format!("`{}` knows no role identity with the password of kratos's DSN", managed.name))
        .says(&format!("psql -h {} -U postgres -c '\\password identity'", managed.name))
        .hides("s3cret-of-managed");
    stack.set("DATABASE_HOST", "nowhere.invalid");
    stack.run("migrate-kratos").exits(1).says("the host in kratos's DSN is not found");
}

fn drift_on_a_server_elsewhere_is_told_to_a_role_that_may_create_databases(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = Managed::start(&mut stack);
    stack.run("migrate-all").exits(0);
    let refused = crate::project::outcome(&mut stack.forgetful("status --drift")).exits(1);
    refused
        .says("caused by: the role identity may not create the empty database that its image would fill")
        .says(&format!("hint: psql -h {} -U postgres -c 'alter role \"identity\" createdb'", managed.name));
    managed.sql("postgres", "alter role identity createdb");
    crate::project::outcome(&mut stack.forgetful("status --drift")).exits(0).says("kratos: no drift");
    assert_eq!(managed.sql("postgres", "select datname from pg_database where datname like 'xtask%'"), "");
}
