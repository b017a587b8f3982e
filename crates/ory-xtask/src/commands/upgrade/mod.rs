//! `upgrade`: to a newer release, planned, rehearsed on a copy of the data, and back if it fails.

mod server;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, listed, option, products, switch, yes};
use ory_ops::context::Options;

pub struct Upgrade {
    products: Vec<String>,
    to: Option<String>,
    plan: bool,
    rehearse: bool,
    no_rehearsal: bool,
    online: bool,
    back: bool,
    finish: bool,
    yes: bool,
    json: bool,
}

impl Arguments for Upgrade {
    fn all() -> Vec<Arg> {
        vec![
            products("Only these products, or `db`, PostgreSQL's own major [default: all products]"),
            option("to", "RELEASE", "The release, or PostgreSQL's major [default: what the stack names]"),
            switch("plan", "Only say what would be done, and what is in the way"),
            switch("rehearse", "Only rehearse it on a copy of the data"),
            switch("no-rehearsal", "Don't rehearse it").conflicts_with("rehearse"),
            switch("online", "Leave the servers up: a way back loses what they write meanwhile"),
            switch("back", "Go back to what was there before the last upgrade")
                .conflicts_with_all(["to", "plan", "rehearse", "online"]),
            switch("finish", "With `db`: delete the volume that was kept"),
            yes(),
            switch("json", "Print one JSON document"),
        ]
    }

    fn read(typed: &ArgMatches) -> Self {
        Self {
            products: listed(typed, "PRODUCT"),
            to: typed.get_one("to").cloned(),
            plan: typed.get_flag("plan"),
            rehearse: typed.get_flag("rehearse"),
            no_rehearsal: typed.get_flag("no-rehearsal"),
            online: typed.get_flag("online"),
            back: typed.get_flag("back"),
            finish: typed.get_flag("finish"),
            yes: typed.get_flag("yes"),
            json: typed.get_flag("json"),
        }
    }
}

pub fn run(options: &Options, args: &Upgrade) -> Result<()> {
    // A service's name stands for the server that it is.
    if let [name] = &args.products[..]
        && server::is_meant(options, name)?
    {
        let Upgrade { to, plan, back, finish, yes, json, .. } = args;
        let asked = server::Asked {
            server: name,
            to: to.as_deref(),
            plan: *plan,
            back: *back,
            finish: *finish,
            yes: *yes,
            json: *json,
        };
        return server::run(options, &asked);
    }
    anyhow::bail!("not yet")
}
