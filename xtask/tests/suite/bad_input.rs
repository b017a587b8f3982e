//! Bad input: a clear error, its documented exit code, nothing started.

use crate::fake::Fake;
use crate::project::golden;

#[test]
fn a_compose_file_that_is_missing() {
    let fake = Fake::new().fails("docker compose config", 14, "no configuration file provided: not found\n");
    golden("compose_file_missing", &fake.run("up"));
}

#[test]
fn a_compose_file_that_is_broken() {
    let fake = Fake::new().fails("docker compose config", 15, "yaml: line 12: did not find expected key\n");
    golden("compose_file_broken", &fake.run("up"));
}

#[test]
fn configuration_files_that_are_missing() {
    for (file, command) in [
        ("ory/kratos/kratos.yml", "up"),
        ("ory/kratos/identity.schema.json", "up"),
        ("ory/hydra/hydra.yml", "restart"),
        ("ory/keto/keto.yml", "migrate-keto"),
        ("ory/keto/namespaces.keto.ts", "up"),
    ] {
        let fake = Fake::new();
        fake.project.remove(file);
        let missing = format!("{file} is missing");
        fake.run(command).exits(5).says(&missing).says("hint: put it ");
        assert!(!fake.calls().contains("compose up"), "{}", fake.calls());
    }
}

#[test]
fn an_env_file_that_is_a_folder() {
    let fake = Fake::new();
    fake.project.remove(".env");
    std::fs::create_dir(fake.project.dir.join(".env")).expect("a folder");
    fake.run("up").exits(5).says(".env can't be read");
}

#[test]
fn a_copy_of_the_example_has_no_secret_yet() {
    let fake = Fake::new();
    fake.project.write(".env", &fake.project.read(".env.example"));
    let plan = fake.run("up --dry-run").exits(0);
    assert!(plan.stdout.starts_with("# writes POSTGRES_PASSWORD, KRATOS_DB_PASSWORD, "), "{plan}");
    fake.run("status").exits(5).says("the secret POSTGRES_PASSWORD is not in");
}

#[test]
fn an_empty_secret() {
    let fake = Fake::new();
    fake.project.replace(".env", "HYDRA_SECRETS_SYSTEM=of-the-test", "HYDRA_SECRETS_SYSTEM=");
    golden("empty_secret", &fake.run("up"));
}

#[test]
fn an_unknown_service_is_told_before_secrets_are_written() {
    let fake = Fake::new();
    fake.project.remove(".env");
    fake.run("up nosuch").exits(2).says("the stack has no service `nosuch`");
    assert!(!fake.project.dir.join(".env").exists());
}

#[test]
fn a_missing_secret_is_told_by_what_neither_starts_nor_migrates() {
    let fake = Fake::new();
    fake.project.remove(".env");
    golden("secret_missing", &fake.run("status"));
}

#[test]
fn new_secrets_are_refused_where_there_is_old_data() {
    let fake = Fake::new().answers("docker volume ls *", "stack_db\n");
    fake.project.remove(".env");
    for command in ["up", "migrate-all", "migrate-keto"] {
        let refused = fake.run(command).exits(5).says("this stack has data (volume stack_db)");
        refused.says("hint: put the old .env back");
        assert!(!fake.project.dir.join(".env").exists());
    }
}

#[test]
fn a_malformed_dsn_is_told_without_its_password() {
    let fake = Fake::new();
    let config =
        include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
    let fake = fake.answers("docker compose config", &config.replace("keto-password", "geheim/sache#1"));
    golden("dsn_malformed", &fake.run("migrate-keto").hides("geheim"));
}
