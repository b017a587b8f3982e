//! Products whose tables would be in one schema.

use crate::fake::Fake;
use crate::project::golden;

fn sharing(hydra: &str, keto: &str) -> Fake {
    let fake = Fake::new();
    let config =
        include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
    let config = config.replace("db:5432/hydra?", hydra).replace("db:5432/keto?", keto);
    fake.answers("docker compose config", &config)
}

#[test]
fn with_hydra_are_refused_before_anything_runs() {
    let fake = sharing("db/kratos?", "db/keto?");
    golden("shared_with_hydra", &fake.run("migrate-all"));
    for command in ["migrate-hydra", "up"] {
        fake.run(command).exits(1).says("hydra shares one schema of the database kratos on `db` with kratos");
        assert!(!fake.calls().contains("compose up"), "{}", fake.calls());
    }
    fake.run("migrate-kratos --dry-run").exits(0).says("warning: kratos shares one schema");
}

#[test]
fn of_kratos_and_keto_are_warned_of() {
    let fake = sharing("db/hydra?", "db:5432/kratos?");
    golden("shared_without_hydra", &fake.run("migrate-all --dry-run"));
}

#[test]
fn are_none_where_hydra_has_a_search_path() {
    let fake = sharing("db/kratos?search_path=hydra&", "db/keto?");
    assert_eq!(fake.run("migrate-hydra --dry-run").exits(0).stderr, "");
}
