//! What is told of a schema that isn't as its image makes it, on a fake engine.

use crate::fake::Fake;
use crate::project::golden;

const STATUS: &str = "docker compose run *status*";

/// What PostgreSQL's catalog has of a product with one migration.
const MADE: &str = "\
server\t15\tpublic
version\t1
table\tidentities
table\tsessions
column\tidentities\ttraits\tjsonb\tt\t
column\tsessions\tnid\tuuid\tf\t
index\tidentities\tidentities_nid_id_idx\tCREATE INDEX identities_nid_id_idx ON identities (nid)\tt\tf\t\tidentities.nid
index\tidentities\tidentities_uq_idx\tCREATE UNIQUE INDEX identities_uq_idx ON identities (id)\tt\tt\t\tidentities.id
end\t3
";

/// An engine whose image carries one migration, which is applied; the catalog is that of each database.
fn fake(catalog: &str) -> Fake {
    let rows = r#"[{"state":"Applied","version":"1","name":"step","content":"select 1;"}]"#;
    let fake = Fake::new().with_database("1\n").answers(STATUS, rows);
    fake.answers("docker exec *pg_attrdef*", catalog)
}

/// As [`fake`], with what Kratos's image makes known before.
fn knowing(catalog: &str) -> Fake {
    let fake = fake(catalog);
    fake.project.write("target/ory/images/kratos-cafe-postgres-15.schema", MADE);
    fake
}

fn drifted() -> String {
    let drifted = MADE.replace("jsonb", "text").replace("(id)\tt", "(id)\tf");
    let gone = ["table\tsessions", "column\tsessions", "index\tidentities\tidentities_nid"];
    let kept = drifted.lines().filter(|line| !gone.iter().any(|start| line.starts_with(start)));
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn each_difference_is_a_line_with_the_next_command_and_exit_1() {
    let fake = knowing(&drifted());
    golden("drift", &fake.run("status kratos --drift"));
    assert!(!fake.scripts().contains("create database"), "{}", fake.scripts());
}

#[test]
fn is_an_array_of_a_kept_shape_in_json() {
    golden("drift_json", &knowing(&drifted()).run("status kratos --drift --json"));
    let none = knowing(MADE).run("status kratos --drift --json").exits(0);
    assert!(none.stdout.contains(r#""drift": []"#), "{none}");
}

#[test]
fn none_is_exit_0_and_an_image_is_asked_once() {
    let fake = fake(MADE);
    let kratos = fake.run("status kratos --drift").exits(0).says("kratos: no drift");
    let create = "drop database if exists \"xtask_scratch_kratos_kratos\";\n\
                  create database \"xtask_scratch_kratos_kratos\" owner \"kratos\" template template0;\n";
    assert!(fake.scripts().contains(create), "{kratos}\n{}", fake.scripts());
    assert!(fake.scripts().ends_with("drop database if exists \"xtask_scratch_kratos_kratos\";\n"));
    let migrate = "docker compose run --rm -T --no-deps --name xtask-stack-scratch-kratos -e PGAPPNAME=\
                   xtask-stack-scratch-kratos -e DSN -e PGCONNECT_TIMEOUT=5 --entrypoint kratos kratos migrate sql";
    assert!(fake.calls().contains(migrate), "{}", fake.calls());
    assert!(!fake.calls().contains("kratos-password"), "{}", fake.calls());

    fake.run("status kratos --drift").exits(0);
    assert!(!fake.scripts().contains("create database"), "{}", fake.scripts());
    fake.project.write("target/ory/images/kratos-cafe-postgres-15.schema", "server\t15\tpublic\ntab");
    fake.run("status kratos --drift").exits(0);
    assert!(fake.scripts().contains("create database"), "a broken cache was taken: {}", fake.scripts());
}

#[test]
fn what_is_made_to_compare_with_is_removed_after_a_failure_too() {
    let fake = fake(MADE).fails("docker compose run *-e DSN *", 1, "ERROR: no (SQLSTATE 42501)\n");
    golden("drift_not_learned", &fake.run("status kratos --drift"));
    assert!(fake.scripts().ends_with("drop database if exists \"xtask_scratch_kratos_kratos\";\n"));
    let removes = fake.calls().matches("docker rm --force xtask-stack-scratch-kratos").count();
    assert_eq!(removes, 1, "{}", fake.calls());
}

#[test]
fn is_not_judged_while_other_migrations_are_applied_than_the_image_carries() {
    for (applied, text, code) in [("", "kratos has migrations pending", 3), ("1\n2\n", "is ahead of", 4)] {
        let fake = knowing(MADE).answers("docker exec *json_build_object*", applied);
        let fake = fake.answers("docker exec *pg_attrdef*", MADE);
        fake.run("status kratos --drift").exits(1).says("error: kratos's drift can't be told").says(text);
        fake.run("status kratos --drift --check").exits(code);
    }
    knowing(&drifted()).run("status kratos --drift --check").exits(1).says("kratos has 4 differences");
}

#[test]
fn of_an_image_that_lists_nothing_is_judged_by_what_it_applies() {
    let old = |catalog: &str| {
        let fake = knowing(catalog);
        let config = include_str!("fixtures/config-v2.yml").replace("kratos:v26.2.0", "kratos:v1.3.1");
        let config = config.replace("DIR", &fake.project.dir.display().to_string());
        fake.answers("docker compose config", &config)
    };
    old(MADE).run("status kratos --drift").exits(0);
    old(&drifted()).run("status kratos --drift").exits(1).says("kratos has 4 differences");
    let ahead = MADE.replace("version\t1", "version\t1\nversion\t2");
    old(&ahead).run("status kratos --drift").exits(1).says("is ahead of");
    let pending = MADE.replace("version\t1", "version\t0");
    old(&pending).run("status kratos --drift").exits(1).says("has migrations pending");
}

#[test]
fn is_not_looked_for_in_a_dry_run() {
    golden("drift_dry_run", &fake(MADE).run("status kratos --drift --dry-run"));
}

#[test]
fn of_a_database_that_can_not_be_asked_is_never_0() {
    let fake = Fake::new();
    fake.run("status --drift").exits(1).says("error: kratos's migrations can't be read");
}
