//! Secrets that somebody else reads, and files of secrets that are not what they seem.

use crate::shared::Shared;
use crate::stack::{Compose, Stack, scenarios_once};

scenarios_once! {
    a_password_is_in_no_log_of_postgresql
}

/// All that a server has printed.
fn log_of(stack: &Stack) -> String {
    crate::project::outcome(std::process::Command::new("docker").args(["logs", &stack.container("db").1]))
        .to_string()
}

/// Lets the server log whatever it can.
fn log_all(stack: &Stack) {
    let settings = [
        "session_preload_libraries = 'auto_explain'",
        "log_min_duration_statement = 0",
        "log_min_duration_sample = 0",
        "log_statement_sample_rate = 1",
        "log_transaction_sample_rate = 1",
        "log_duration = on",
        "log_statement = 'all'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
    ];
    for setting in settings {
        stack.sql("postgres", &format!("alter system set {setting}"));
        stack.sql("postgres", "select pg_reload_conf(), pg_sleep(0.1)");
    }
}

fn a_password_is_in_no_log_of_postgresql(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up db").exits(0);
    log_all(&stack);
    stack.run("up").exits(0);
    let log = log_of(&stack);
    assert!(log.contains("duration: "), "it logs too little");
    let env = stack.project.read(".env");
    let passwords: Vec<_> = env.lines().filter_map(|line| line.split_once("_DB_PASSWORD=")).collect();
    assert_eq!(passwords.len(), 3);
    for (product, password) in passwords {
        assert!(!log.contains(password), "the password of {product} is in the log");
        let role = product.to_lowercase();
        let sql = format!("select left(rolpassword, 19) from pg_authid where rolname = '{role}'");
        assert_eq!(stack.sql("postgres", &sql), "SCRAM-SHA-256$4096:\n", "{role}");
    }

    let stack = Stack::of_others("shared-with-hydra", compose);
    let shared = Shared::with(stack, "acme:secret");
    log_all(&shared.stack);
    shared.stack.run("split --drop-foreign-keys --yes").exits(0);
    let log = log_of(&shared.stack);
    let dsns = shared.stack.project.read(".env.split");
    let password =
        |line: &str| Some(line.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_string());
    let passwords: Vec<_> = dsns.lines().filter_map(password).collect();
    assert_eq!(passwords.len(), 3);
    assert!(passwords.iter().all(|password| !log.contains(password)), "a password is in the log");
}
