//! What is known of Ory's products, and of the files that describe a stack, without running anything: `xtask`
//! asks this crate, and it asks nobody.

pub mod applied;
pub mod carried;
pub mod catalog;
pub mod checks;
pub mod container;
pub mod diagnosis;
pub mod difference;
pub mod dsn;
pub mod env_file;
pub mod failure;
pub mod image;
pub mod listener;
pub mod product;
pub mod repair;
pub mod secrets;
pub mod service;
pub mod settings;
pub mod sql;
pub mod stack;
