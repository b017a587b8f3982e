//! What is called, in which order, and what is said of it.

use crate::fake::{Fake, container, listed};
use crate::project::golden;

/// What `migrate status --format json` prints of an image with these versions.
fn carries(versions: &[&str]) -> String {
    let row = |version: &&str| {
        let text = r#"{"state":"Pending","version":"V","name":"step","content":"select V;\n"}"#;
        text.replace('V', version)
    };
    let rows = versions.iter().map(row);
    format!("[{}]\n", rows.collect::<Vec<_>>().join(","))
}

const STATUS: &str = "docker compose run *status*";

#[test]
fn nothing_pending_starts_no_container_once_the_image_is_known() {
    let fake = Fake::new().with_database("1\n2\n").answers(STATUS, &carries(&["1", "2"]));
    golden("migrate_all_learns", &fake.run("migrate-all -q"));
    assert_eq!(fake.calls().matches("docker compose run").count(), 3, "{}", fake.calls());
    fake.run("migrate-kratos").exits(0).says("kratos: up to date (2 migrations)");
    assert!(!fake.calls().contains("docker compose run"), "{}", fake.calls());
}

#[test]
fn with_nothing_pending_the_server_is_asked_once_for_all_products() {
    let fake = Fake::new().with_database("1\n2\n").answers(STATUS, &carries(&["1", "2"]));
    fake.run("migrate-all").exits(0);
    fake.run("migrate-all").exits(0).says("keto: up to date (2 migrations)");
    let count = |program: &str| fake.calls().lines().filter(|call| call.starts_with(program)).count();
    let counts = ["docker ps", "docker compose", "docker exec"].map(count);
    assert_eq!(counts, [1, 1, 1], "{}", fake.calls());
    let script = fake.scripts();
    assert!(
        script.contains("json_build_object('product', 'hydra'") && !script.contains("create role"),
        "{script}"
    );
}

#[test]
fn where_not_all_products_can_be_asked_at_once_each_is_asked_alone() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1"]));
    let refused = "psql: error: FATAL:  password authentication failed for user \"hydra\"\n";
    let fake = fake.fails("docker exec *json_build_object*product*hydra*", 2, refused);
    fake.run("migrate-all")
        .exits(1)
        .says("kratos: up to date (1 migration)")
        .says("error: failed to migrate hydra; not reached: keto")
        .says("`db` knows no role hydra");
}

#[test]
fn forced_ory_migrates_although_nothing_is_pending() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1"]));
    fake.run("migrate-keto --force").exits(0).says("keto: up to date (1 migration)");
    assert!(fake.calls().contains("keto migrate up --yes"), "{}", fake.calls());
}

#[test]
fn a_dry_run_counts_what_is_pending() {
    let fake = Fake::new().with_database("1\n2\n").answers(STATUS, &carries(&["1", "2"]));
    fake.run("migrate-keto").exits(0);
    let fake = fake.with_database("1\n");
    let plan = fake.run("migrate-keto --dry-run").exits(0).stdout;
    assert!(plan.trim_end().ends_with("  # 1 migration pending"), "{plan}");
}

#[test]
fn an_image_whose_first_plan_is_all_that_the_database_has_then_is_not_asked() {
    let plan = |version: &str| format!("Version\t\tName\tStatus\t\n{version}\t\tstep\t\tPending\t\n");
    for (version, asked) in [("1", false), ("2", true)] {
        let fake = Fake::new().with_database("").answers(STATUS, &carries(&["1"]));
        let fake = fake.answers("docker exec *pg_attrdef*", "server\t15\tpublic\nversion\t1\nend\t3\n");
        let fake = fake.answers("docker compose run *--yes*", &plan(version));
        fake.run("migrate-hydra").exits(0).says("hydra: applied 1 migration");
        assert_eq!(fake.calls().contains("status"), asked, "{}", fake.calls());
        assert_eq!(fake.project.read("target/ory/images/hydra-cafe.versions"), "1\tstep\nend");
    }
}

#[test]
fn a_deleted_or_broken_cache_is_learned_again() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1"]));
    fake.run("migrate-keto").exits(0);
    fake.project.write("target/ory/images/keto-cafe.versions", "1\tste");
    fake.run("migrate-keto").exits(0).says("keto: up to date (1 migration)");
    assert!(fake.calls().contains("migrate status"), "{}", fake.calls());
}

#[test]
fn a_migration_that_leaves_something_pending_has_failed_whatever_it_printed() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1", "2"]));
    let fake = fake.answers("docker compose run *--yes*", "Successfully applied migrations!\n");
    golden("migrate_still_pending", &fake.run("migrate-hydra"));
}

#[test]
fn a_failing_product_stops_the_run_and_the_rest_is_named() {
    let error = "level=error msg=denied\nERROR: permission denied for schema public (SQLSTATE 42501)\n";
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1"]));
    let fake = fake
        .answers("docker compose run *status* hydra *", "")
        .answers("docker compose run *hydra migrate sql status*", &carries(&["1", "2"]))
        .fails("docker compose run *hydra migrate sql -e --yes", 1, error);
    golden("migrate_all_fails_midway", &fake.run("migrate-all"));
    assert!(!fake.calls().contains("keto migrate"), "{}", fake.calls());
    // In GitHub Actions: each step's output in a group, and the error as an annotation.
    golden("on_github", &fake.outcome(fake.command("migrate-all").env("GITHUB_ACTIONS", "true")));
}

#[test]
fn a_database_ahead_of_its_image_is_exit_4() {
    let fake = Fake::new().with_database("1\n2\n3\n").answers(STATUS, &carries(&["1"]));
    golden("migrate_ahead", &fake.run("migrate-kratos"));
    fake.run("restart kratos").exits(4);
}

#[test]
fn restart_is_refused_with_exit_3_while_migrations_are_pending() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1", "2"]));
    golden("restart_pending", &fake.run("restart"));
    assert!(!fake.calls().contains("restart "), "{}", fake.calls());
}

#[test]
fn what_compose_told_of_a_configuration_is_kept_until_a_container_says_otherwise() {
    let of_hash = |hash: &str| {
        let own = r#""Config":{"Image":"image-of-keto","Labels":{"#;
        let label = format!(r#""Image":"sha256:cafe",{own}"com.docker.compose.config-hash":"{hash}","#);
        container("k1", "keto", "running").replace(own, &label)
    };
    let both = listed("db1", "db", "running") + &listed("k1", "keto", "running");
    let fake = Fake::new()
        .with_database("1\n")
        .answers(STATUS, &carries(&["1"]))
        .answers("docker ps --all *", &both)
        .answers("docker container inspect *k1*", &of_hash("told"))
        .answers("docker compose -f - config --hash *", "keto told\n");
    let restart = |fake: &Fake, command: &str| {
        let plan = fake.run("--dry-run restart keto").exits(0);
        assert!(plan.stdout.contains(command), "{plan}");
        fake.calls().contains("config --hash")
    };
    assert!(restart(&fake, "docker restart stack-keto-1"));
    assert!(!restart(&fake, "docker restart stack-keto-1"), "{}", fake.calls());
    fake.project.write("target/ory/configurations/stack.hashes", "cut off");
    assert!(restart(&fake, "docker restart stack-keto-1"));

    let fake = fake.answers("docker container inspect *k1*", &of_hash("of another configuration"));
    assert!(restart(&fake, "docker compose up -d keto"));
}

#[test]
fn an_older_image_is_never_asked_for_its_status() {
    let fake = Fake::new().with_database("1\n");
    fake.project.write("kratos-image", "");
    let config = include_str!("fixtures/config-v2.yml").replace("kratos:v26.2.0", "kratos:v1.3.1");
    let config = config.replace("DIR", &fake.project.dir.display().to_string());
    let fake = fake.answers("docker compose config", &config);
    fake.run("migrate-kratos").exits(0);
    assert!(!fake.calls().contains("status"), "{}", fake.calls());
    assert!(fake.calls().contains("kratos migrate sql -e --yes"), "{}", fake.calls());
}

#[test]
fn another_migration_of_the_product_that_runs_is_exit_6() {
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1", "2"]));
    let running = container("m1", "kratos", "running");
    let fake = fake.answers("docker container inspect xtask-stack-migrate-kratos", &running);
    golden("migrate_locked", &fake.run("migrate-kratos --lock-timeout 1"));
}

#[test]
fn what_a_container_prints_is_masked() {
    let leak = "cannot parse `postgres://kratos:xx@db`: failed to parse as URL (parse \
                \"postgres://kratos:kratos-password@db\": invalid)\nerror: got of-the-test too\n";
    let fake = Fake::new().with_database("1\n").answers(STATUS, &carries(&["1", "2"]));
    let fake = fake.fails("docker compose run *kratos migrate sql -e --yes", 1, leak);
    let outcome = fake.run("migrate-kratos -v").exits(1).hides("kratos-password");
    assert!(outcome.stderr.contains("postgres://kratos:***@db"), "{outcome}");
    let log = fake.project.read("target/ory/logs/stack-migrate-kratos.log");
    assert!(log.contains("***") && !log.contains("kratos-password"), "{log}");
}

#[test]
fn down_with_volumes_asks_and_without_a_terminal_needs_yes() {
    let fake = Fake::new().answers("docker volume ls *", "stack_db\n");
    golden("down_volumes_unasked", &fake.run("down --volumes"));
    assert!(!fake.calls().contains("compose down"), "{}", fake.calls());
    fake.run("down --volumes --yes").exits(0).says("stack_db deleted");
}

#[test]
fn down_works_without_env() {
    let fake = Fake::new();
    fake.project.remove(".env");
    fake.run("down").exits(0);
    assert!(fake.calls().contains("docker compose down"), "{}", fake.calls());
}

#[test]
fn a_paused_database_is_said_to_be_paused() {
    let fake = Fake::new().answers("docker ps --all *", &listed("db1", "db", "paused"));
    let fake = fake.answers("docker container inspect db1", &container("db1", "db", "paused"));
    golden("database_paused", &fake.run("migrate-kratos"));
}

#[test]
fn a_run_that_waits_too_long_for_another_one_is_exit_6() {
    let fake = Fake::new();
    fake.run("down").exits(0);
    let locks = std::fs::read_dir(fake.project.dir.join("target/ory/locks")).expect("a folder");
    let lock = locks.map(|entry| entry.expect("an entry").path()).next().expect("a lock");
    let file = std::fs::File::open(lock).expect("a file");
    file.lock().expect("the lock");
    fake.run("migrate-kratos --lock-timeout 1")
        .exits(6)
        .says("waiting for another run on this stack: cargo xtask down (process ")
        .says("error: another run still holds this stack after 1 s");
}

mod status {
    use super::{STATUS, carries};
    use crate::fake::Fake;
    use crate::project::golden;

    fn fake(applied: &str) -> Fake {
        Fake::new().with_database(applied).answers(STATUS, &carries(&["1", "2"]))
    }

    #[test]
    fn is_a_table() {
        golden("status", &fake("1\n").run("status"));
    }

    #[test]
    fn is_one_json_document_of_a_kept_shape() {
        golden("status_json", &fake("1\n2\n").run("status kratos --json"));
    }

    #[test]
    fn prints_the_sql_of_what_is_pending() {
        golden("status_sql", &fake("1\n").run("status keto --sql"));
    }

    #[test]
    fn checks_by_its_exit_code() {
        for (applied, code) in [("1\n2\n", 0), ("1\n", 3), ("1\n2\n3\n", 4), ("3\n", 4)] {
            let outcome = fake(applied).run("status --check").exits(code);
            assert!(outcome.stdout.starts_with("PRODUCT"), "{outcome}");
        }
    }

    #[test]
    fn that_can_not_be_known_is_never_0() {
        golden("status_unknown", &Fake::new().run("status --check"));
        fake("1\n")
            .fails("docker exec *psql*", 2, "FATAL:  database \"kratos\" does not exist\n")
            .run("status kratos --check --json")
            .exits(1);
    }
}
