//! On the real engine and a real PostgreSQL, under both Compose generations: from nothing to ready, updates,
//! failures, and what must survive them. With stand-ins, or with XTASK_TEST_IMAGES=real with Ory's own servers.

use std::net::TcpListener;

use crate::stack::{Compose, NEW, OLD, Stack, docker, is_real};
use crate::tiers::scenarios;

scenarios! {
    smoke: [
        up_from_nothing_then_again_then_after_down
    ]
    first: [
        an_update_is_migrated_and_then_restarted
        a_failing_middle_product_stops_migrate_all_and_a_re_run_goes_on
        two_projects_live_side_by_side
        migrate_all_alone_starts_the_database_it_needs
        a_taken_port_is_named_and_a_re_run_finishes
        a_password_that_does_not_match_the_volume_loses_nothing
        a_typo_in_a_database_name_creates_no_database
        a_service_that_does_not_become_ready_shows_its_last_lines
        secrets_are_never_recreated_over_old_data
        down_with_volumes_leaves_nothing_behind
        eight_runs_at_once_from_nothing_in_two_clones_all_end_well
    ]
}

fn up_from_nothing_then_again_then_after_down(compose: Compose) {
    let stack = Stack::new(compose);
    let first =
        stack.run("up").exits(0).says("db: created roles kratos, hydra, keto; databases kratos, hydra, keto");
    for (name, port) in &stack.ports {
        let url = format!("http://127.0.0.1:{port}");
        assert!(first.stdout.contains(&url), "no {name}: {first}");
        let health = minreq::get(format!("{url}/health/ready")).with_timeout(5).send().expect("an answer");
        assert_eq!(health.status_code, 200, "{name}");
    }
    let lines = first.stdout.lines().chain(first.stderr.lines());
    // Stand-ins are said to be stand-ins in a line of their own.
    let (said, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("warning: stand-ins"));
    assert_eq!((said.is_empty(), lines.len() <= 12), (is_real(), true), "{first}");

    let env = stack.project.read(".env");
    assert!(env.contains(&format!("COMPOSE_PROJECT_NAME={}\n", stack.name)), "a value was overwritten");
    let secret = env.lines().find_map(|line| line.strip_prefix("KRATOS_SECRETS_CIPHER=")).expect("a secret");
    assert_eq!(secret.len(), 32);
    for line in env.lines().filter(|line| line.contains("SECRET") || line.contains("PASSWORD")) {
        let secret = line.split_once('=').expect("a setting").1;
        assert!(!first.to_string().contains(secret), "{line} is shown");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(stack.project.dir.join(".env")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let (rows, ids) = (rows_of_a_user(&stack), ["db", "kratos", "hydra", "keto"].map(|s| stack.container(s)));
    let again = stack
        .run("up")
        .exits(0)
        .says("kratos: up to date")
        .says("hydra: up to date")
        .says("keto: up to date");
    assert!(!again.stderr.contains("created"), "{again}");
    assert_eq!(
        ["db", "kratos", "hydra", "keto"].map(|s| stack.container(s)),
        ids,
        "a container was replaced"
    );
    assert_eq!(stack.project.read(".env"), env, ".env was changed");

    stack.run("restart").exits(0);
    assert_eq!(stack.rows(), rows, "after restart");
    stack.run("up").exits(0);
    assert_eq!(
        ["db", "kratos", "hydra", "keto"].map(|s| stack.container(s)),
        ids,
        "restart replaced a container"
    );
    let migrated = stack.run("migrate-all").exits(0);
    assert!(migrated.stderr.lines().count() <= 4, "{migrated}");
    stack.run("down").exits(0);
    stack.run("up").exits(0);
    assert_eq!(stack.rows(), rows, "after down and up");
    if is_real() {
        check_by_api(&stack);
    }
}

fn an_update_is_migrated_and_then_restarted(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run_release(OLD, "up").exits(0);
    let (before, rows) = (stack.applied("kratos"), rows_of_a_user(&stack));

    let refused = stack.run("restart").exits(3).says("hint: cargo xtask migrate-all && cargo xtask restart");
    assert!(refused.stderr.contains("kratos has") && refused.stderr.contains("hydra has"), "{refused}");
    assert!(stack.container("kratos").0.ends_with(OLD), "the service was touched");
    stack.run("status --check").exits(3).says("error: kratos has migrations pending");

    stack.run("migrate-all").exits(0).says("kratos: applied").says("hydra: applied").says("keto: up to date");
    assert!(stack.applied("kratos") > before);
    stack.run("status --check").exits(0);
    let (_, db) = stack.container("db");
    stack.run("restart").exits(0);
    for service in ["kratos", "hydra", "keto"] {
        assert!(stack.container(service).0.ends_with(NEW), "{service} still runs the old image");
    }
    assert_eq!(stack.container("db").1, db, "the database was replaced");
    assert_eq!(stack.rows(), rows);

    for command in ["migrate-kratos", "restart", "up", "status --check"] {
        stack.run_release(OLD, command).exits(4).says("kratos's database is ahead of");
    }
    stack.run("up").exits(0);
    assert_eq!(stack.rows(), rows);
}

fn a_failing_middle_product_stops_migrate_all_and_a_re_run_goes_on(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    stack.run("migrate-kratos").exits(0).says("kratos: applied");
    let env = stack.project.read(".env");
    let password = env.lines().find_map(|line| line.strip_prefix("HYDRA_DB_PASSWORD=")).expect("a password");
    stack.sql("postgres", &format!("create role hydra login password '{password}'"));
    stack.sql("postgres", "create database hydra");

    stack
        .run("migrate-all")
        .exits(1)
        .says("kratos: up to date")
        .says("error: failed to migrate hydra; not reached: keto")
        .says("caused by: the role hydra lacks rights in the database hydra")
        .says("alter database \"hydra\" owner to \"hydra\"");

    stack.sql("postgres", "alter database hydra owner to hydra");
    let again = stack.run("migrate-all").exits(0);
    let order = ["kratos: up to date", "hydra: applied", "keto: applied"];
    let places = order.map(|text| again.stderr.find(text).unwrap_or_else(|| panic!("no {text}: {again}")));
    assert!(places.is_sorted(), "{again}");
}

fn two_projects_live_side_by_side(compose: Compose) {
    let (one, other) = (Stack::new(compose), Stack::new(compose));
    one.run("up").exits(0);
    let before = rows_of_a_user(&one);
    other.run("up").exits(0);
    other.run("down --volumes --yes").exits(0);
    one.run("up").exits(0).says("kratos: up to date");
    assert_eq!(one.rows(), before);
}

fn migrate_all_alone_starts_the_database_it_needs(compose: Compose) {
    let stack = Stack::new(compose);
    // On a fresh clone: there is no secret yet.
    let outcome = stack.run("migrate-all").exits(0).says(".env: written, with 7 new random secrets");
    let outcome = outcome.says("db: started").says("keto: applied");
    assert_eq!(outcome.stdout, "");
    let folder = stack.project.dir.join("ory/kratos");
    let from_below = crate::project::outcome(stack.command(NEW, "migrate-all").current_dir(folder)).exits(0);
    assert!(from_below.stderr.contains("keto: up to date"), "{from_below}");
    stack.sql(
        "keto",
        "delete from schema_migration where version = (select max(version) from schema_migration)",
    );
    let seen = stack.run("migrate-keto");
    assert!(!seen.stderr.contains("up to date"), "a row removed by hand was not seen: {seen}");
}

fn a_taken_port_is_named_and_a_re_run_finishes(compose: Compose) {
    let stack = Stack::new(compose);
    let port = stack.port("HYDRA_ADMIN");
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    stack
        .run("up")
        .exits(1)
        .says(&format!("error: hydra: 127.0.0.1:{port} is held by "))
        .says("hint: stop it (kill ");
    assert_eq!(stack.leftovers(), "", "something was started");
    drop(taken);
    stack.run("up").exits(0);
}

fn a_password_that_does_not_match_the_volume_loses_nothing(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let (env, rows) = (stack.project.read(".env"), rows_of_a_user(&stack));
    let right =
        env.lines().find(|line| line.starts_with("KRATOS_DB_PASSWORD=")).expect("a password").to_string();
    stack.project.replace(".env", &right, "KRATOS_DB_PASSWORD=not-the-password");
    for command in ["up", "migrate-all"] {
        stack
            .run(command)
            .exits(1)
            .says("`db` knows no role kratos with the password of kratos's DSN")
            .says("hint: put back the password")
            .hides("not-the-password");
    }
    stack.project.write(".env", &env);
    stack.run("up").exits(0);
    assert_eq!(stack.rows(), rows);
}

fn a_typo_in_a_database_name_creates_no_database(compose: Compose) {
    let stack = Stack::new(compose);
    stack.project.replace("docker-compose.yml", "@db:5432/hydra?", "@db:5432/hydro?");
    stack
        .run("up")
        .exits(1)
        .says("`db` has no database hydro, which hydra's DSN names")
        .says("hint: fix the DSN");
    assert_eq!(stack.sql("postgres", "select 1 from pg_database where datname = 'hydro'"), "");
    stack.project.replace("docker-compose.yml", "@db:5432/hydro?", "@db:5432/hydra?");
    stack.run("up").exits(0);
}

fn a_service_that_does_not_become_ready_shows_its_last_lines(compose: Compose) {
    let stack = Stack::new(compose);
    stack.project.write("ory/hydra/hydra.conf", &stack.project.read("ory/hydra/hydra.yml"));
    stack.project.replace("docker-compose.yml", "hydra/hydra.yml", "hydra/hydra.conf");
    let outcome = stack.run("up").exits(1).says("error: `hydra` keeps ending");
    assert!(outcome.stderr.contains("unknown config file extension"), "its own words are missing: {outcome}");
    stack.project.replace("docker-compose.yml", "hydra/hydra.conf", "hydra/hydra.yml");
    stack.run("up").exits(0);
}

fn secrets_are_never_recreated_over_old_data(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    let env = stack.project.read(".env");
    stack.project.write(".env", &format!("COMPOSE_PROJECT_NAME={}\n", stack.name));
    stack.run("up").exits(5).says("new secrets could not read it").says("hint: put the old .env back");
    assert_eq!(stack.project.read(".env").lines().count(), 1, ".env was written");
    stack.project.write(".env", &env);
    stack.run("up").exits(0);
}

fn down_with_volumes_leaves_nothing_behind(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let logs = stack.run("logs kratos").exits(0);
    assert!(!logs.stdout.is_empty() && logs.stderr.is_empty(), "{logs}");
    stack.run("down --volumes").exits(2).says("hint: cargo xtask down --volumes --yes");
    assert_ne!(stack.leftovers(), "");
    stack.run("down --volumes --yes").exits(0);
    assert_eq!(stack.leftovers(), "");
    assert!(docker(&["network", "ls"]).lines().all(|line| !line.contains(&stack.name)));
}

fn eight_runs_at_once_from_nothing_in_two_clones_all_end_well(compose: Compose) {
    let stack = Stack::new(compose);
    let example = stack.project.read(".env.example");
    let names =
        example.lines().filter_map(|line| line.strip_suffix('=')).filter(|name| !name.starts_with('#'));
    let secrets: String = names.map(|name| format!("{name}={}\n", "0123456789abcdef".repeat(2))).collect();
    stack.project.write(".env", &(stack.project.read(".env") + &secrets));
    let twin = stack.twin();
    let commands = std::array::from_fn::<_, 8, _>(|place| [&stack, &twin][place % 2].command(NEW, "up"));
    let runs = commands.map(|mut command| std::thread::spawn(move || crate::project::outcome(&mut command)));
    let outcomes = runs.map(|run| run.join().expect("a run"));
    let count = |text: &str| outcomes.iter().filter(|outcome| outcome.stderr.contains(text)).count();
    let migrated = ["kratos", "hydra", "keto"].map(|product| count(&format!("{product}: applied")));
    let waited = count("waiting for another run");
    outcomes.into_iter().for_each(|outcome| drop(outcome.exits(0)));
    assert_eq!((migrated, waited), ([1, 1, 1], 7));
}

/// What a user put there: with Ory's servers through their APIs, with stand-ins, which have none, by SQL.
pub fn rows_of_a_user(stack: &Stack) -> Vec<String> {
    if is_real() {
        create_by_api(stack);
    }
    stack.insert_rows();
    stack.rows()
}

/// An identity, a client and a relation tuple.
fn create_by_api(stack: &Stack) {
    let identity = r#"{"schema_id":"default","traits":{"email":"a@example.com"}}"#;
    call(stack, "POST", "KRATOS_ADMIN", "/admin/identities", identity);
    call(stack, "POST", "HYDRA_ADMIN", "/admin/clients", r#"{"client_name":"a client"}"#);
    let tuple = r#"{"namespace":"Document","object":"a","relation":"owners","subject_id":"b"}"#;
    call(stack, "PUT", "KETO_WRITE", "/admin/relation-tuples", tuple);
}

/// Ory's own servers must still serve what [`create_by_api`] made.
fn check_by_api(stack: &Stack) {
    for (port, path, expected) in [
        ("KRATOS_ADMIN", "/admin/identities", "a@example.com"),
        ("HYDRA_ADMIN", "/admin/clients", "a client"),
        ("KETO_READ", "/relation-tuples?namespace=Document", "\"object\":\"a\""),
    ] {
        let answer = call(stack, "GET", port, path, "");
        assert!(answer.contains(expected), "{path}: {answer}");
    }
}

fn call(stack: &Stack, method: &str, port: &str, path: &str, body: &str) -> String {
    let url = format!("http://127.0.0.1:{}{path}", stack.port(port));
    let request = minreq::Request::new(minreq::Method::Custom(method.into()), url).with_timeout(10);
    let request = request.with_header("content-type", "application/json").with_body(body);
    let answer = request.send().expect("an answer");
    let text = answer.as_str().unwrap_or_default().to_string();
    assert!([200, 201].contains(&answer.status_code), "{path}: {} {text}", answer.status_code);
    text
}
