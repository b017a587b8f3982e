//! A new database, or a new schema, in the place of one: made and filled beside it, put in its place when it is good, and
//! back after a failure.

pub mod database;
pub mod new;
pub mod put;
pub mod replaceable;
pub mod rights;
pub mod schema;

use crate::client::Place;
use crate::context::Context;
use crate::store::Store;
use database::Database;
use replaceable::Replaceable;
use schema::Schema;

/// What of a store is replaced: a schema, where it isn't the whole database.
fn replaceable<'a>(cx: &'a Context, store: &'a Store<'a>, place: &Place) -> Box<dyn Replaceable + 'a> {
    match &store.schema {
        None => Box::new(Database::of(cx, store, place)),
        Some(schema) => Box::new(Schema::of(cx, store, schema, place)),
    }
}
