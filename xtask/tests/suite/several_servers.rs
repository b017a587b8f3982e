//! Stacks that have a product of Ory's more than once: on databases of their own, as services of one API each, as replicas,
//! with a courier beside.

use crate::stack::{Compose, OLD, Stack, docker, is_real};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        two_of_a_kind_are_two_products_with_the_names_of_their_services
    ]
    full: [
        several_services_on_one_database_are_one_product
    ]
}

const EMPLOYEES: &str = "  kratos-employees:
    image: ${KRATOS_IMAGE:-oryd/kratos:v26.2.0}
    command: serve --config /etc/config/kratos/kratos.yml --dev
    depends_on:
      db: { condition: service_healthy }
    environment:
      DSN: postgres://employees:employees-pw@db:5432/employees?sslmode=disable
      SECRETS_COOKIE: ${KRATOS_SECRETS_COOKIE:-}
      SECRETS_CIPHER: ${KRATOS_SECRETS_CIPHER:-}
    volumes:
      - ./ory/kratos:/etc/config/kratos:ro

";

fn two_of_a_kind_are_two_products_with_the_names_of_their_services(compose: Compose) {
    let stack = Stack::new(compose);
    stack.project.replace("docker-compose.yml", "  hydra:\n", &format!("{EMPLOYEES}  hydra:\n"));
    let file = stack.project.read("docker-compose.yml").replace("  kratos:\n", "  kratos-customers:\n");
    stack.project.write("docker-compose.yml", &file);
    let up = stack.run("up --create-databases").exits(0);
    up.says("kratos-customers: applied").says("kratos-employees: applied");
    let shown = stack.run("status --check").exits(0);
    let names: Vec<_> = shown.stdout.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["kratos-customers", "kratos-employees", "hydra", "keto"], "{shown}");
    // Each of them by its service's name, both by Ory's.
    stack.run("migrate-kratos kratos-employees").exits(0).says("kratos-employees: up").hides("customers");
    stack.run("migrate-kratos").exits(0).says("kratos-employees: up").says("kratos-customers: up");
    stack.run("migrate-kratos hydra").exits(2).says("hint: cargo xtask migrate-hydra");
    stack
        .run("status nobody")
        .exits(2)
        .says("its products are kratos-customers, kratos-employees, hydra, keto");

    let count = |database: &str| stack.sql(database, "select count(*) from networks");
    let add = |database: &str| {
        stack.sql(database, "insert into networks values (gen_random_uuid(), now(), now())");
    };
    stack.run("backup --verify").exits(0).says("kratos-employees: restored and compared");
    let before = ["kratos", "employees"].map(count);
    ["kratos", "employees"].into_iter().for_each(add);
    let after = count("kratos");
    stack.run("restore latest kratos-employees --yes").exits(0);
    assert_eq!(["kratos", "employees"].map(count), [after.clone(), before[1].clone()]);
    stack.run("restore latest kratos --yes").exits(0);
    assert_eq!(["kratos", "employees"].map(count), before);
    add("kratos");
    stack.run("reset kratos-employees --yes").exits(0);
    assert_eq!(count("kratos"), after);
    stack.run("restart").exits(0);
    stack.run("status --check").exits(0).hides(" no ");
}

fn several_services_on_one_database_are_one_product(compose: Compose) {
    let stack = Stack::new(compose);
    let part = |from: &str, to: &str| stack.project.replace("docker-compose.yml", from, to);
    let file = stack.project.read("docker-compose.yml");
    let service = |name: &str| {
        let start = file.find(&format!("  {name}:\n")).expect("a service");
        let end = file[start..].find("\n\n").expect("an end");
        file[start..start + end].to_string()
    };
    // One API each.
    let hydra = service("hydra");
    let ports = hydra.find("    ports:").expect("ports");
    let admin = hydra[..ports].replace("  hydra:\n", "  hydra-admin:\n").replace("serve all", "serve admin");
    part(&hydra, &format!("{}\n\n{admin}", hydra.replace("serve all", "serve public")));
    part("      - 127.0.0.1:${HYDRA_ADMIN_PORT:-4445}:4445\n", "");
    // Two of the same.
    let keto = service("keto");
    let ports = keto.find("    ports:").expect("ports");
    part(&keto, &format!("{}    deploy: {{ replicas: 2 }}", &keto[..ports]));
    // Who sends, and doesn't serve.
    let kratos = service("kratos");
    let ports = kratos.find("    ports:").expect("ports");
    let courier = kratos[..ports].replace("  kratos:\n", "  courier:\n").replace("serve ", "courier watch ");
    let courier = courier.replace(" --dev", "");
    let sleeps = "    entrypoint: [sh, -c, sleep infinity]\n    command:";
    let courier = if is_real() { courier } else { courier.replace("    command:", sleeps) };
    part(&kratos, &format!("{kratos}\n\n{courier}"));

    stack.run_release(OLD, "up --timeout 90").exits(0);
    let all = |service: &str| {
        let label = format!("label=com.docker.compose.service={service}");
        let project = format!("label=com.docker.compose.project={}", stack.name);
        let format = "{{.ID}} {{.Image}}";
        let ids = docker(&["ps", "--filter", &project, "--filter", &label, "--format", format]);
        ids.lines().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(["hydra", "hydra-admin", "keto", "courier"].map(|name| all(name).len()), [1, 1, 2, 1]);
    let shown = stack.run_release(OLD, "status --check").exits(0);
    assert_eq!(shown.stdout.lines().count(), 4, "{shown}");
    // An update recreates all of them.
    stack.run("migrate-all").exits(0);
    stack.run("status").exits(0).says("restart courier").says("restart hydra-admin").says("restart keto");
    stack.run("restart").exits(0);
    let images: Vec<_> = ["hydra", "hydra-admin", "keto", "courier"].into_iter().flat_map(all).collect();
    assert!(images.len() == 5 && images.iter().all(|image| !image.contains(OLD)), "{images:?}");
    // One that is gone isn't ready, and is brought back.
    let gone = all("keto").remove(1);
    let id = gone.split(' ').next().expect("an id");
    docker(&["update", "--restart=no", id]);
    docker(&["kill", id]);
    assert!(stack.run("status keto").exits(0).stdout.contains("1 of 2 running  no"));
    assert!(stack.run("doctor").stdout.contains("not running: keto (1 of 2 running)"));
    docker(&["rm", id]);
    stack.run("up").exits(0);
    assert_eq!(all("keto").len(), 2);
    // Who writes beside the servers is stopped too while a database is replaced.
    stack.run("backup kratos").exits(0);
    let before = all("courier");
    stack.run("restore latest kratos --yes").exits(0).says("courier");
    assert_eq!(all("courier"), before);
    // One that answers nothing is up only where it runs on.
    let (runs, ends) = match is_real() {
        true => ("courier watch", "courier watch --unknown"),
        false => ("sleep infinity", "exit 3"),
    };
    let file = stack.project.read("docker-compose.yml");
    stack.project.write("docker-compose.yml", &file.replace(runs, ends));
    stack.run("up").exits(1).says("error: `courier` keeps ending, with exit code ");
    stack.run("up").exits(1).says("error: `courier` keeps ending, with exit code ");
    stack.project.write("docker-compose.yml", &file);
    stack.run("up").exits(0);
}
