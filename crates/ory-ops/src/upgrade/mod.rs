//! An upgrade of products to other images: what changes, what it will do, what a rehearsal on a copy of the data tells.

pub mod change;
pub mod lock_watch;
pub mod outlook;
pub mod rehearsal;
pub mod space;
