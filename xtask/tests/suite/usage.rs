//! What can be typed: help, and wrong usage.

use crate::fake::Fake;
use crate::project::{golden, outcome};

#[test]
fn help_is_grouped_and_fits_80_columns() {
    let outcome = Fake::new().run("--help");
    golden("help", &outcome);
    let long = outcome.stdout.lines().find(|line| line.chars().count() > 80);
    assert_eq!(long, None, "longer than 80 columns");
}

#[test]
fn an_unknown_command_is_exit_2() {
    golden("unknown_command", &Fake::new().run("migrate-foo"));
}

#[test]
fn an_unknown_service_is_exit_2_and_the_known_ones_are_named() {
    for command in ["up", "restart", "logs"] {
        golden("unknown_service", &Fake::new().run(&format!("{command} nosuch")));
    }
}

#[test]
fn a_product_that_the_stack_has_not_got_is_absent_from_all_and_wrong_by_name() {
    let fake = Fake::new();
    let config =
        include_str!("fixtures/config-v2.yml").replace("DIR", &fake.project.dir.display().to_string());
    let (before, rest) = config.split_once("  keto:\n").expect("keto");
    let (_, after) = rest.split_once("  kratos:\n").expect("kratos");
    let fake = fake.answers("docker compose config", &format!("{before}  kratos:\n{after}"));
    golden("product_absent", &fake.run("migrate-all --dry-run"));
    golden("product_absent_by_name", &fake.run("migrate-keto"));
}

#[test]
fn a_stack_folder_that_is_not_there_is_exit_5() {
    Fake::new().run("-C nosuch up").exits(5).says("the stack's folder nosuch is not there");
}

#[test]
fn colours_only_where_asked_for() {
    let fake = Fake::new();
    assert!(!fake.run("up nosuch").stderr.contains('\u{1b}'));
    assert!(fake.run("up nosuch --color always").stderr.contains('\u{1b}'));
    let mut command = fake.command("up nosuch");
    assert!(!outcome(command.env("NO_COLOR", "1")).stderr.contains('\u{1b}'));
}

#[test]
fn a_completion_script_is_data() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = Fake::new().run(&format!("completions {shell}")).exits(0);
        assert!(outcome.stdout.contains("migrate-kratos") && outcome.stderr.is_empty(), "{outcome}");
    }
}

#[test]
fn numbers_and_releases_that_make_no_sense_are_exit_2() {
    for args in [
        "up --timeout 0",
        "up --lock-timeout x",
        "up --stand-in=v26",
        "up --yes",
        "upgrade db --rehearse --yes",
    ] {
        Fake::new().run(args).exits(2);
    }
}
