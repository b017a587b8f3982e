//! A database server brought to another major version of PostgreSQL: a new cluster is made, and proved, beside a copy of the
//! old one, and then put in its place. The copy is kept until it isn't needed any more.
//!
//! While it is done the server is stopped, so nothing can be written that a copy hasn't got. What goes on is told by the
//! volumes, never by this machine's files: whoever is killed leaves all that the next run needs.

pub mod back;
mod bench;
mod comparison;
pub mod kept;
mod moving;
mod pins;
mod proof;
mod returning;
pub mod run;
mod scripts;
pub mod subject;
mod surroundings;
pub mod survey;
mod transfer;
