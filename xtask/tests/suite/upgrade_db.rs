//! `upgrade db`: the database server to another major version. What is planned and what is refused needs one image; what
//! is done needs two: `XTASK_TEST_NEWER_POSTGRES` names the second, else it is made from Debian's packages.

use std::process::Command;

use crate::project::{Outcome, workspace};
use crate::stack::{Compose, Stack, docker};
use crate::tiers::{first, full};

first! { once, [a_plan_says_what_changes_and_changes_nothing], () }
full! { once_full, [what_is_in_the_way_is_named_and_the_server_serves_on], () }
full! { newer_postgres_full, [a_server_is_upgraded_goes_back_and_is_upgraded_again], () }

/// The command lines of the guide, which are run here with the images that there are.
pub const LINES: [&str; 4] = [
    "cargo xtask upgrade db --to 18 --plan",
    "cargo xtask upgrade db --to 18",
    "cargo xtask upgrade db --back",
    "cargo xtask upgrade db --finish",
];

/// An image that nobody has.
const NONE: &str = "stand-in/postgres:99";

/// A stack whose database alone runs, with its image in `.env`.
fn stack() -> Stack {
    let stack = Stack::new(Compose::chosen());
    stack.run("up").exits(0);
    let image = stack.container("db").0;
    let env = stack.project.read(".env").replace(&format!("POSTGRES_IMAGE={image}\n"), "");
    stack.project.write(".env", &format!("{env}POSTGRES_IMAGE={image} # ours\n"));
    stack
}

/// What must be as it was: the containers, the files.
fn state(stack: &Stack) -> (String, String, String) {
    let id = stack.container("db").1;
    let started = docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &id]);
    (started, stack.project.read(".env"), stack.project.read("docker-compose.yml"))
}

fn volumes(stack: &Stack) -> Vec<String> {
    let all = docker(&["volume", "ls", "--quiet", "--filter", &format!("name={}_", stack.name)]);
    all.lines().filter(|name| name.contains("_xtask_")).map(String::from).collect()
}

fn a_plan_says_what_changes_and_changes_nothing() {
    let stack = stack();
    let before = state(&stack);
    let current = stack.run("upgrade db --plan").exits(0);
    assert!(current.stdout.contains("as the stack says"), "{current}");
    let current = stack.run("upgrade db --yes --json").exits(0);
    assert_eq!(current.stdout, "{\"problem\":null,\"server\":\"db\",\"state\":\"nothing to do\"}\n");
    // Another name of the very same image says nothing: the image is asked.
    let image = stack.container("db").0;
    let alias = format!("{}/postgres:16", stack.name);
    docker(&["tag", &image, &alias]);
    let same = stack.run(&format!("upgrade db --to {alias} --plan"));
    docker(&["rmi", &alias]);
    assert!(same.exits(0).stdout.contains("is of the same major version"));
    // Of one that isn't here, what the official image of that release is.
    let planned = stack.run(&format!("upgrade db --to {NONE} --plan --json")).exits(1);
    let json: serde_json::Value = serde_json::from_str(&planned.stdout).expect("JSON");
    assert_eq!(json["state"], "blocked", "{planned}");
    assert_eq!(json["to"]["mount"], "/var/lib/postgresql");
    let lines = json["changes"].as_array().expect("changes").iter();
    let lines: Vec<_> = lines.map(|change| change["line"].as_str().expect("a line")).collect();
    assert_eq!(lines, [&format!("POSTGRES_IMAGE={NONE} # ours"), "- db:/var/lib/postgresql"], "{planned}");
    stack.run("upgrade db --to seventeen --plan").exits(2).says("neither a major version of PostgreSQL");
    assert_eq!(state(&stack), before);
    assert_eq!(volumes(&stack), [""; 0]);
}

fn what_is_in_the_way_is_named_and_the_server_serves_on() {
    let stack = stack();
    stack.sql("postgres", "create database closed allow_connections false");
    stack.sql("postgres", "select pg_create_physical_replication_slot('follower')");
    stack.sql("postgres", "create table rows as select generate_series(1, 3) n");
    let before = state(&stack);
    let refused = stack.run(&format!("upgrade db --to {NONE} --yes")).exits(1);
    for said in ["can't be pulled", "the database closed lets nobody in", "the replication slot follower"] {
        assert!(refused.stderr.contains(said), "it doesn't say: {said}\n{refused}");
    }
    let none = stack.run("upgrade db --finish --yes --json").exits(1).says("no upgrade of `db` is kept");
    assert!(none.stdout.contains("\"state\":\"failed\""), "{none}");
    stack.run("upgrade db --back --yes").exits(1).says("no upgrade of `db` is kept");
    assert_eq!(state(&stack), before);
    assert_eq!(stack.sql("postgres", "select count(*) from rows").trim(), "3");
    // Data in a folder, or in a volume without a name, is told before anything is stopped.
    stack.sql("postgres", "drop database closed");
    let file = stack.project.read("docker-compose.yml");
    let nameless = file.replace("- db:/var/lib/postgresql/data", "- /var/lib/postgresql/data");
    stack.project.write("docker-compose.yml", &nameless);
    // What replaces a container takes over its volumes.
    stack.run("down").exits(0);
    stack.run("up db").exits(0);
    stack.run(&format!("upgrade db --to {NONE} --plan")).exits(1).says("a volume without a name");
}

/// An image of a newer PostgreSQL than the stack's. Where none can be had, the test fails: it wasn't run.
fn newer() -> String {
    if let Ok(image) = std::env::var("XTASK_TEST_NEWER_POSTGRES") {
        return image;
    }
    let (image, base) = ("stand-in/postgres:17", "stand-in/debian-postgresql:17");
    if docker(&["image", "ls", "--quiet", image]).is_empty() {
        let archive = std::env::temp_dir().join(format!("xtask-postgres-{}.tar", std::process::id()));
        let archive = archive.display().to_string();
        let make = ["--quiet", "--variant=minbase", "--include=postgresql,postgresql-contrib", "trixie"];
        let made = Command::new("mmdebstrap").args(make).arg(&archive).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "not run: there is no mmdebstrap to make a newer PostgreSQL with; name an image in XTASK_TEST_NEWER_POSTGRES"
        );
        docker(&["import", &archive, base]);
        std::fs::remove_file(&archive).expect("removed");
        let folder = workspace().join("crates/ory-stand-in/src/postgres").display().to_string();
        let argument = format!("BASE={base}");
        docker(&["build", "--quiet", "--tag", image, "--build-arg", &argument, &folder]);
    }
    image.into()
}

fn a_server_is_upgraded_goes_back_and_is_upgraded_again() {
    let newer = newer();
    let stack = stack();
    stack.sql("postgres", "create role shopper login password 'of-the-shop'");
    stack.sql("postgres", "create database shop owner shopper");
    stack.sql("postgres", "alter database shop set work_mem = '8MB'");
    stack.sql("shop", "create extension pg_trgm; create table orders (id serial, note text)");
    stack.sql("shop", "insert into orders (note) select 'n' || n from generate_series(1, 1000) n");
    stack.sql("shop", "alter table orders owner to shopper; select lo_from_bytea(77, 'large')");
    let verifier = "select rolpassword from pg_authid where rolname = 'shopper'";
    let password = stack.sql("postgres", verifier);
    let files = [".env", "docker-compose.yml"].map(|file| stack.project.read(file));
    let major = || stack.sql("postgres", "show server_version_num").trim()[..2].to_string();
    let old = major();

    let upgrade = |outcome: Outcome| outcome.exits(0).says("the old data is in the volume");
    upgrade(stack.run(&format!("upgrade db --to {newer} --yes")));
    let new = major();
    assert!(new > old, "{new} after {old}");
    assert_eq!(stack.sql("postgres", verifier), password, "the password's verifier");
    let shop = "select count(*), max(id), (select convert_from(lo_get(77), 'UTF8')) from orders";
    assert_eq!(stack.sql("shop", shop).trim(), "1000|1000|large");
    assert_eq!(stack.sql("shop", "show work_mem").trim(), "8MB");
    stack.run("status").exits(0);
    stack.run("upgrade db --plan").exits(0);

    // Back: what was written since is told, and lost.
    stack.sql("shop", "insert into orders (note) values ('new'), ('newer')");
    let asked = stack.run("upgrade db --back").exits(2);
    assert!(asked.stderr.contains("lost: shop: public.orders: 2 rows"), "{asked}");
    stack.run("upgrade db --back --yes").exits(0).says("serves again");
    assert_eq!((major(), stack.sql("shop", shop).trim()), (old, "1000|1000|large"));
    assert_eq!([".env", "docker-compose.yml"].map(|file| stack.project.read(file)), files, "to the letter");
    assert_eq!(volumes(&stack), [""; 0]);

    upgrade(stack.run(&format!("upgrade db --to {newer} --yes")));
    assert_eq!(volumes(&stack).len(), 1, "the old data is kept");
    stack.run("upgrade db --finish").exits(2);
    stack.run("upgrade db --finish --yes").exits(0).says("deleted");
    assert_eq!((volumes(&stack), major()), (vec![], new));
}
