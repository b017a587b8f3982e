//! What a database and a schema have in common when one takes the place of another one.

use std::collections::BTreeMap;

use anyhow::Result;
use ory_facts::contents::Contents;
use ory_facts::database_swap::Swap;
use ory_facts::owners::Object;

/// Databases, or schemas of one: the one that is there, the new one, those that were replaced.
pub trait Replaceable {
    /// Their names.
    fn names(&self) -> &Swap;

    /// One of them in words.
    fn in_words(&self, name: &str) -> String;

    /// Where one of them is: the database, and the schema that it is in it.
    fn place_of<'n>(&'n self, name: &'n str) -> (&'n str, Option<&'n str>);

    /// The script that makes the database in which the new one is made.
    fn create(&self, made_in: &Swap, role: &str) -> String;

    /// Readies that database, before it is filled.
    fn prepare(&self, made_in: &Swap, extensions: &BTreeMap<String, String>) -> Result<()>;

    /// A line for each thing that who replaces may do, and for what is there, beside what every replacement takes.
    fn rights(&self) -> Result<String>;

    /// Ends what a run that was killed has left going on, and keeps what it had replaced. Returns what is kept.
    fn heal(&self) -> Result<String>;

    /// Fails with what of others couldn't come along.
    fn refuse_obstacles(&self) -> Result<()>;

    /// What one of them holds.
    fn contents_of(&self, name: &str) -> Result<Contents>;

    /// Brings the new one from where it was made to where it is to take its place. Whether it was brought: then the database
    /// in which it was made is of no use any more.
    fn bring(&self, new: &Made) -> Result<bool>;

    /// The moment from which on rows in the new one are somebody else's.
    fn moment(&self) -> Result<String>;

    /// Puts the new one in its place. `owners`: who gets what is in it.
    fn swap_in(&self, owners: &[Object]) -> Result<()>;

    /// Puts what was replaced back, where it was replaced.
    fn swap_back(&self, had_current: bool) -> Result<()>;

    /// Lets others connect to what was replaced.
    fn open_replaced(&self) -> Result<()>;

    /// Removes some, and gives those that stay the first free names for what is kept; `there`: those that have one. Returns
    /// who got which.
    fn keep(&self, there: &[String], stay: &[String], go: &[String]) -> Result<Vec<(String, String)>>;

    /// Removes a new one that did not get to its place, where that isn't done with the database in which it was made.
    fn remove_new(&self) -> Result<()>;
}

/// A new one, as it was made.
pub struct Made<'a> {
    /// The database in which it is.
    pub database: &'a str,
    /// Tells what it holds.
    pub contents: &'a dyn Fn() -> Result<Contents>,
    /// The extensions that are there where it goes.
    pub extensions: BTreeMap<String, String>,
    /// Whether there is one whose place it takes.
    pub has_current: bool,
}
