//! What is known of Ory's products and of what they say and do, and of PostgreSQL, without running anything: `xtask`
//! asks this crate, and it asks nobody.

pub mod applied;
pub mod catalog;
pub mod contents;
pub mod database_swap;
pub mod diagnosis;
pub mod difference;
pub mod digest;
pub mod document;
pub mod dsn;
mod dsn_text;
pub mod first_sight;
pub mod image_migrations;
pub mod instance;
pub mod lost;
pub mod manifest;
pub mod names;
pub mod next;
pub mod owners;
pub mod product;
pub mod repair;
pub mod rights;
pub mod rows;
pub mod schema_swap;
pub mod scram;
pub mod secret_names;
pub mod secrets;
pub mod server_contents;
pub mod server_facts;
pub mod server_options;
pub mod split;
pub mod sql;
pub mod sqlstate;
pub mod tables;
