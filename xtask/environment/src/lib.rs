//! A stack as it runs: what the engine, the images and the databases say, and what is done to them. No command is known
//! here.

pub mod backup;
mod belongings;
pub mod carried;
mod client;
pub mod compose;
pub mod context;
pub mod convergence;
pub mod diagnosis;
pub mod drift;
mod hashes;
pub mod in_place;
pub mod known;
pub mod load;
pub mod lock;
pub mod lost_rows;
pub mod migrations;
pub mod new_dsns;
pub mod one_off;
pub mod others;
pub mod outside;
pub mod postgres;
mod probe;
pub mod readiness;
pub mod replacement;
pub mod schema;
pub mod scratch;
pub mod server;
pub mod server_lock;
pub mod services;
pub mod snapshot;
pub mod split;
pub mod split_databases;
pub mod split_schemas;
pub mod store;
mod variables;
pub mod work_dump;
