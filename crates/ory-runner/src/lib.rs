//! How a command runs programs, is interrupted, speaks and fails.

pub mod at_once;
pub mod background;
mod command_error;
pub mod failure;
pub mod file_lock;
pub mod interrupt;
pub mod memo;
pub mod output;
pub mod own_folder;
pub mod plain_file;
mod printable;
pub mod process;
pub mod program;
pub mod session;
pub mod stream;
pub mod terms;
