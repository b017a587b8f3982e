//! A database server that is no service of the stack: a managed one, as far as the stack can tell.

use crate::managed::Managed;
use crate::project::Outcome;
use crate::stack::{Compose, NEW, Stack};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        a_server_elsewhere_is_asked_through_a_client_container
    ]
    full: [
        a_fault_of_a_server_elsewhere_is_told_without_a_service_to_look_at
        a_split_on_a_server_elsewhere_needs_the_right_to_create_databases_and_no_other
        a_backup_of_a_server_elsewhere_needs_no_right_and_a_restore_that_to_create_databases
        drift_on_a_server_elsewhere_is_told_to_a_role_that_may_create_databases
        a_schema_on_a_server_elsewhere_is_replaced_by_a_role_that_owns_it_and_may_create_databases
    ]
}

/// A server with the database of the stack, which joins its network.
pub fn managed(stack: &mut Stack) -> Managed {
    let managed = Managed::start(stack);
    managed.sql("postgres", "create role identity login password 's3cret-of-managed'");
    managed.sql("postgres", "create database identity owner identity");
    stack.set("PLATFORM_NETWORK", &managed.name);
    stack.set("DATABASE_HOST", &managed.name);
    managed
}

fn a_server_elsewhere_is_asked_through_a_client_container(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
    stack.run("up").exits(0).says("kratos: applied");
    managed.sql("identity", "insert into networks values (gen_random_uuid(), now(), now())");
    let rows = managed.sql("identity", "select id from networks order by 1");
    stack.run("up").exits(0).says("kratos: up to date");
    stack.run("migrate-all").exits(0).says("kratos: up to date");
    stack.run("restart").exits(0);
    assert_eq!(managed.sql("identity", "select id from networks order by 1"), rows);
    let plan: Outcome = stack.run("migrate-kratos --dry-run").exits(0).hides("s3cret-of-managed");
    assert!(plan.stdout.contains(&format!(" --network {} ", managed.name)), "{plan}");
}

fn a_fault_of_a_server_elsewhere_is_told_without_a_service_to_look_at(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
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
    let managed = managed(&mut stack);
    stack.run("migrate-all").exits(0);
    let refused = crate::project::outcome(&mut stack.forgetful(NEW, "status --drift")).exits(1);
    refused
        .says("caused by: the role identity may not create the empty database that its image would fill")
        .says(&format!("hint: psql -h {} -U postgres -c 'alter role \"identity\" createdb'", managed.name));
    managed.sql("postgres", "alter role identity createdb");
    crate::project::outcome(&mut stack.forgetful(NEW, "status --drift")).exits(0).says("kratos: no drift");
    assert_eq!(managed.sql("postgres", "select datname from pg_database where datname like 'xtask%'"), "");
}

fn a_split_on_a_server_elsewhere_needs_the_right_to_create_databases_and_no_other(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
    managed.sql("postgres", "alter role identity createdb");
    stack.run("up").exits(0);
    stack.run("split").exits(0).says("nothing to split");
    managed.sql("identity", "create table orders (id int); alter table orders owner to identity");
    managed.sql("identity", "insert into networks values (gen_random_uuid(), now(), now())");
    let rows = managed.sql("identity", "select id from networks order by 1");
    let told = stack.run("split --yes").exits(0).says("kratos: copied ").hides("s3cret-of-managed");
    assert!(told.stdout.contains("put KRATOS_DSN of .env.split there"), "{told}");
    assert_eq!(managed.sql("kratos", "select id from networks order by 1"), rows);
    stack.project.write(".env", &stack.project.read(".env.split"));
    let old = "postgres://identity:s3cret-of-managed@${DATABASE_HOST:-postgres.internal}:5432/identity?sslmode=disable";
    stack.project.replace("docker-compose.yml", old, "${KRATOS_DSN}");
    stack.run("split").exits(0).says("kratos: up to date");
    stack.run("split --finish --yes").exits(0).says(" old tables deleted");
    assert_eq!(
        managed.sql("identity", "select tablename from pg_tables where schemaname = 'public'"),
        "orders\n"
    );
}

fn a_backup_of_a_server_elsewhere_needs_no_right_and_a_restore_that_to_create_databases(compose: Compose) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
    stack.run("up").exits(0);
    let insert = "insert into networks values (gen_random_uuid(), now(), now())";
    managed.sql("identity", insert);
    let rows = |database: &str| managed.sql(database, "select id from networks order by 1");
    let before = rows("identity");
    let made = stack.run("backup").exits(0).says("kratos: backed up ").hides("s3cret-of-managed");
    made.says("a restore could not put it in its place: the role identity may not create the database");
    managed.sql("identity", insert);
    let after = rows("identity");
    for command in ["backup --verify", "restore latest --yes", "reset kratos --yes --force"] {
        let refused =
            stack.run(command).exits(1).says("the role identity may not create the database that would take");
        refused.says("alter role \"identity\" createdb").hides("s3cret-of-managed");
        assert_eq!(rows("identity"), after, "{command}");
    }
    managed.sql("postgres", "create database other owner identity");
    stack.run("restore latest --into other").exits(0).says("restored ");
    assert_eq!(rows("other"), before);

    managed.sql("postgres", "alter role identity createdb");
    stack.run("backup --verify").exits(0).says("kratos: restored and compared");
    stack.run("restore latest --yes").exits(0).hides("s3cret-of-managed");
    assert_eq!(rows("identity"), after);
    stack.run("reset kratos --yes").exits(1).says("kratos could be in production: the server");
    assert_eq!(rows("identity"), after);
    stack.run("reset kratos --yes --force").exits(0).says("kratos: empty, with");
    assert!(!rows("identity").contains(after.trim()));
    assert!(stack.is_ready("kratos", [4433, 4434]), "it doesn't serve");
    stack.run("restore latest --yes").exits(0);
    assert_eq!(rows("identity"), after);
    stack.run("up").exits(0).says("kratos: up to date");

    // An application's table, which is its own.
    managed.sql("identity", "create table orders (id int)");
    let refused = stack.run("backup").exits(1).says("may not read the table orders, which is backed up with");
    let hint =
        refused.stderr.lines().find_map(|line| line.strip_prefix("hint: have its owner run, in identity: "));
    managed.sql("identity", hint.unwrap_or_else(|| panic!("no hint: {refused}")));
    stack.run("backup").exits(0);
}

fn a_schema_on_a_server_elsewhere_is_replaced_by_a_role_that_owns_it_and_may_create_databases(
    compose: Compose,
) {
    let mut stack = Stack::of_others("server-elsewhere", compose);
    let managed = managed(&mut stack);
    stack.project.replace("docker-compose.yml", "sslmode=disable", "sslmode=disable&search_path=kratos");
    let sql = |sql: &str| managed.sql("identity", sql);
    sql("alter database identity owner to postgres; grant create on database identity to identity");
    sql("create schema kratos authorization identity; create role app");
    stack.run("up").exits(0);
    sql("insert into kratos.networks values (gen_random_uuid(), now(), now())");
    sql("create table orders (buyer uuid references kratos.identities); alter table orders owner to app");
    stack.run("backup").exits(0);
    let rows = || sql("select id from kratos.networks order by 1");
    let before = rows();
    sql("insert into kratos.networks values (gen_random_uuid(), now(), now())");
    let changed = rows();

    let refused = |what: &str| _ = stack.run("restore latest --yes").exits(1).says(what);
    refused("the role identity may not create the database that would take the place of identity");
    managed.sql("postgres", "alter role identity createdb; revoke create on database identity from identity");
    refused("the role identity may not rename the schema kratos of identity");
    refused("grant create on database \"identity\" to \"identity\"");
    sql("grant create on database identity to identity");
    refused("without the foreign key orders_buyer_fkey of public.orders, a table of app");
    assert_eq!(rows(), changed);
    sql("grant app to identity");
    stack.run("restore latest --yes").exits(0).hides("s3cret-of-managed");
    assert_eq!(rows(), before);
    let key = "select confrelid::regclass from pg_constraint where conname = 'orders_buyer_fkey'";
    assert_eq!(sql(key), "kratos.identities\n");
    stack.run("reset kratos --yes").exits(1).says("kratos could be in production");
    stack.run("reset kratos --yes --force").exits(0).says("kratos: empty, with");
    assert_eq!(sql(key), "kratos.identities\n");
    assert_ne!(rows(), before);
    stack.run("status --check").exits(0);
    let left = "select nspname from pg_namespace where nspname like 'xtask%' union all \
                select datname from pg_database where datname like 'xtask%'";
    assert_eq!(sql(left), "");
}
