//! The environment workflow of a project that runs Ory Kratos, Hydra and Keto on PostgreSQL in Docker Compose.
//!
//! A package `xtask` that is all of it:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     ory_xtask::main()
//! }
//! ```
//!
//! With a task of one's own beside the commands, `cargo xtask codegen`: see [`Tool::task`]. Below a command line of
//! one's own, `cargo xtask ory up`: see [`Tool::command`].

pub mod arguments;
mod backup_step;
mod cli;
mod commands;
mod doctor;
mod global;
pub mod install;
mod missing_image;
mod new_secrets;
mod plan;
mod replace_plan;
pub mod stand_in;
mod summary;
mod tool;

use std::process::ExitCode;

pub use ory_ops::context::Options;
pub use tool::Tool;

/// All that `cargo xtask` does: reads what was typed, runs it, and tells how it ended. The program is named after the
/// package that calls this: in a package `dev`, hints name `cargo dev`.
pub fn main() -> ExitCode {
    Tool::of_package().main()
}
