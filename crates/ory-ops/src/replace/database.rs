//! A database in the place of another one of the same server: renamed in one transaction, by who may.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use ory_facts::contents::Contents;
use ory_facts::database_swap::{self, Swap};
use ory_facts::owners::Object;
use ory_facts::rows;
use ory_runner::failure::{Exit, Failure};

use super::replaceable::{Made, Replaceable};
use crate::client::Place;
use crate::context::Context;
use crate::postgres;
use crate::snapshot;
use crate::target::Target;

/// Where a database is to be replaced.
pub struct Database<'a> {
    cx: &'a Context,
    target: &'a Target<'a>,
    place: Place,
    swap: Swap,
}

impl<'a> Database<'a> {
    /// That of a target.
    pub fn of(cx: &'a Context, target: &'a Target<'a>, place: &Place) -> Self {
        Self { cx, target, place: place.clone(), swap: Swap::of(target.database()) }
    }

    fn maintain(&self, script: String) -> Result<String> {
        postgres::maintain(self.cx, &self.place, self.target.main()?, script).read()
    }
}

impl Replaceable for Database<'_> {
    fn names(&self) -> &Swap {
        &self.swap
    }

    fn in_words(&self, name: &str) -> String {
        name.into()
    }

    fn place_of<'n>(&'n self, name: &'n str) -> (&'n str, Option<&'n str>) {
        (name, None)
    }

    fn create(&self, made_in: &Swap, role: &str) -> String {
        made_in.create(role)
    }

    fn prepare(&self, _made_in: &Swap, _extensions: &BTreeMap<String, String>) -> Result<()> {
        Ok(())
    }

    fn rights(&self) -> Result<String> {
        Ok(String::new())
    }

    fn heal(&self) -> Result<String> {
        self.maintain(self.swap.heal())
    }

    fn refuse_obstacles(&self) -> Result<()> {
        let said = self.maintain(self.swap.obstacles())?;
        let obstacles: Vec<_> = rows::read(said.lines()).flatten().collect();
        if obstacles.is_empty() {
            return Ok(());
        }
        let database = self.target.in_words();
        let message = format!("{database} can't be replaced with {}", obstacles.join(", "));
        let hint = "drop what is named, run this again, and make it again; a subscription first lets go of its publisher: \
                    alter subscription ... disable; alter subscription ... set (slot_name = none)";
        bail!(Failure::new(Exit::Failed, message).hint(hint))
    }

    fn contents_of(&self, name: &str) -> Result<Contents> {
        snapshot::contents(self.cx, self.target, name)
    }

    fn bring(&self, _new: &Made) -> Result<bool> {
        // It takes its place from where it is.
        Ok(false)
    }

    fn moment(&self) -> Result<String> {
        snapshot::moment(self.cx, self.target, &self.swap.new, true)
    }

    fn swap_in(&self, _owners: &[Object]) -> Result<()> {
        let swapped = self.maintain(self.swap.copy_limits()).and_then(|_| self.maintain(self.swap.swap()));
        let Swap { new, current, .. } = &self.swap;
        swapped.map(|_| ()).with_context(|| format!("{new} can't take the place of {current}"))
    }

    fn swap_back(&self, had_current: bool) -> Result<()> {
        self.maintain(self.swap.swap_back(had_current)).map(|_| ())
    }

    fn open_replaced(&self) -> Result<()> {
        self.maintain(self.swap.open_before()).map(|_| ())
    }

    fn keep(&self, there: &[String], stay: &[String], go: &[String]) -> Result<Vec<(String, String)>> {
        let places = self.swap.places(there, stay);
        let remove = go.iter().map(|name| database_swap::remove(name)).collect::<String>();
        let rename = places.iter().map(|(from, to)| Swap::keep_as(from, to)).collect::<String>();
        self.maintain(format!("{remove}begin;\n{rename}commit;\n"))?;
        Ok(places)
    }

    fn remove_new(&self) -> Result<()> {
        Ok(())
    }
}
