//! Every plan, as `--dry-run` prints it, compared whole.

use crate::fake::Fake;
use crate::project::golden;

/// The plan of a command, from nothing, under both Compose generations.
fn plan(command: &str) {
    let name = command.replace([' ', '-'], "_");
    golden(&format!("plan_{name}"), &Fake::new().run(&format!("{command} --dry-run")));
    golden(&format!("plan_{name}_v1"), &Fake::v1().run(&format!("{command} --dry-run")));
}

#[test]
fn of_migrate_kratos() {
    plan("migrate-kratos");
}

#[test]
fn of_migrate_hydra() {
    plan("migrate-hydra");
}

#[test]
fn of_migrate_keto() {
    plan("migrate-keto");
}

#[test]
fn of_split_where_no_database_can_be_asked() {
    plan("split");
}

#[test]
fn of_migrate_all() {
    plan("migrate-all");
}

#[test]
fn of_up() {
    plan("up");
}

#[test]
fn of_up_with_a_service_takes_its_dependencies_along() {
    plan("up keto");
}

#[test]
fn of_up_in_production() {
    golden("plan_up_in_production", &Fake::new().in_production().run("up --dry-run").hides("of-the-test"));
    golden("plan_up_in_production_v1", &Fake::v1().in_production().run("up --dry-run").hides("of-the-test"));
}

#[test]
fn of_restart() {
    plan("restart");
}

#[test]
fn of_restart_with_a_service() {
    plan("restart hydra");
}

#[test]
fn of_down() {
    plan("down");
}

#[test]
fn of_down_with_volumes() {
    plan("down --volumes");
}

#[test]
fn of_logs() {
    plan("logs kratos --follow");
}

#[test]
fn of_test() {
    let cores = std::thread::available_parallelism().expect("a number").get();
    for (name, command) in [
        ("plan_test", "test --dry-run migrate"),
        ("plan_test_full", "test --full --dry-run"),
        ("plan_test_no_compose_v1", "test --no-compose-v1 --dry-run"),
    ] {
        let mut plan = Fake::new().run(command);
        plan.stdout = plan.stdout.replace(&format!("--test-threads={}", cores + 1), "--test-threads=N");
        golden(name, &plan);
    }
}

#[test]
fn of_up_without_env_names_the_secrets_and_writes_nothing() {
    let fake = Fake::new();
    fake.project.remove(".env");
    golden("plan_up_without_env", &fake.run("up --dry-run"));
    assert!(!fake.project.dir.join(".env").exists());
}

#[test]
fn of_up_without_images_pulls_them_first() {
    let fake = Fake::new().fails("docker image inspect *", 1, "Error: No such image\n");
    golden("plan_up_without_images", &fake.run("up --dry-run"));
}

#[test]
fn a_plan_only_reads() {
    let fake = Fake::new();
    fake.run("up --dry-run").exits(0);
    let reads = [
        "docker ps",
        "docker info",
        "docker compose version",
        "docker compose config",
        "docker image inspect",
    ];
    for call in fake.calls().lines() {
        assert!(reads.iter().any(|read| call.starts_with(read)), "not a mere look: {call}");
    }
}

#[test]
fn no_plan_shows_a_secret() {
    for command in ["up", "migrate-all", "restart"] {
        Fake::new().run(&format!("{command} --dry-run")).exits(0).hides("-password ").hides("of-the-test");
    }
}
