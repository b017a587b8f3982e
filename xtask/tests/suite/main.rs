//! The tests of `cargo xtask` as it is used: from the command line, on a fake engine and on a real one.
//!
//! Those on a real engine are marked `ignore`: `cargo test` says that it left them out, `cargo xtask test`
//! runs them, or with `--full` all of them (`tiers`).

mod adoption;
mod backups;
mod crates;
mod doctor_faults;
mod elsewhere;
mod end_to_end;
mod managed;
mod older_images;
mod project;
mod random;
mod recorded;
mod repair;
mod schemas;
mod several_servers;
mod shared;
mod split;
mod stack;
mod tiers;
mod upgrade;

// Linux's `/proc` tells the arguments of all processes.
#[cfg(target_os = "linux")]
mod argv;
#[cfg(unix)]
mod attacks;
// The fake engine is a shell script.
#[cfg(unix)]
mod bad_input;
#[cfg(unix)]
mod data_faults;
#[cfg(unix)]
mod data_ground;
#[cfg(unix)]
mod docs;
#[cfg(unix)]
mod drift;
#[cfg(unix)]
mod drift_run;
// It gives some lines a terminal by Linux's `script`.
#[cfg(target_os = "linux")]
mod docs_run;
#[cfg(unix)]
mod doctor;
#[cfg(unix)]
mod engine_failures;
#[cfg(target_os = "linux")]
mod failures;
#[cfg(unix)]
mod fake;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod ground;
mod house;
#[cfg(unix)]
mod interrupted;
#[cfg(unix)]
mod other_stacks;
mod other_stacks_run;
#[cfg(unix)]
mod plans;
#[cfg(unix)]
mod pooled;
mod production;
#[cfg(unix)]
mod round;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod shared_schemas;
#[cfg(unix)]
mod split_faults;
#[cfg(unix)]
mod templates;
#[cfg(unix)]
mod three_ways;
mod upgrade_db;
mod usage;
