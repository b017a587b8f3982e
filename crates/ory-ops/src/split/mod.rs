//! A place of its own for each product of a shared schema: a database, or a schema.

pub mod databases;
pub mod new_dsns;
pub mod schemas;
pub mod shared;
