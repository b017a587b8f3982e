//! A new database, or a new schema, in the place of one: made and filled beside it, put in its place when it is good, and
//! back after a failure.

pub mod database;
pub mod replaceable;
pub mod replacement;
pub mod rights;
pub mod schema;
pub mod swap;

use crate::client::Place;
use crate::context::Context;
use crate::target::Target;
use database::Database;
use replaceable::Replaceable;
use schema::Schema;

/// What of a target is replaced: a schema, where it isn't the whole database.
fn replaceable<'a>(cx: &'a Context, target: &'a Target<'a>, place: &Place) -> Box<dyn Replaceable + 'a> {
    match &target.schema {
        None => Box::new(Database::of(cx, target, place)),
        Some(schema) => Box::new(Schema::of(cx, target, schema, place)),
    }
}
