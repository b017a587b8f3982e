//! Attacks: what somebody tries who has one product's DSN, who hands over a backup, or who is another user of this
//! machine; and accidents that cost data. Each was seen to succeed before what it tests was there.
//! `cargo xtask test attacks::` runs all of them.

mod backups;
mod backups_at_once;
mod edges;
mod goes_on;
mod ledger;
mod lost_rows;
mod roles;
mod rows;
mod secrets;
