//! What a stack is, by what Compose resolves of it, the files that it mounts and what the engine describes, and what can
//! be wrong with it. Nothing is started here.

pub mod asked;
pub mod backup_key;
pub mod checks;
mod command;
pub mod compose_output;
pub mod container;
pub mod data_mount;
pub mod deployment;
pub mod dsns;
pub mod encryption;
pub mod env_file;
pub mod env_files;
pub mod given;
pub mod identity;
pub mod ignored;
pub mod image;
pub mod install_hints;
pub mod learned;
pub mod listener;
pub mod members;
pub mod mount;
pub mod partial_backup;
pub mod pin;
pub mod private_file;
pub mod products;
pub mod random;
pub mod reach;
mod resolved;
pub mod service;
pub mod settings;
pub mod stack;
mod text;
pub mod unresolved;
