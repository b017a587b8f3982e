//! What can be typed after `upgrade`, and where its plan is told.

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::arguments::{Arguments, listed, option, products, switch, yes};
use ory_facts::next::XTASK;
use ory_ops::context::Context;
use ory_runner::output::Output;

pub struct Upgrade {
    pub products: Vec<String>,
    pub to: Option<String>,
    pub plan: bool,
    pub rehearse: bool,
    pub no_rehearsal: bool,
    pub online: bool,
    pub back: bool,
    pub finish: bool,
    pub yes: bool,
    pub json: bool,
}

impl Arguments for Upgrade {
    fn all() -> Vec<Arg> {
        vec![
            products("Only these products, or `db`, PostgreSQL's own major [default: all products]"),
            option("to", "RELEASE", "The release, or PostgreSQL's major [default: what the stack names]")
                .value_parser(image),
            switch("plan", "Only say what would be done, and what is in the way"),
            switch("rehearse", "Only plan it, and rehearse it on a copy of the data"),
            switch("no-rehearsal", "Don't rehearse it").conflicts_with("rehearse"),
            switch("online", "Leave the servers up: a way back loses what they write meanwhile"),
            switch("back", "Go back to what was there before the last upgrade")
                .conflicts_with_all(["to", "plan", "rehearse", "online"]),
            switch("finish", "With `db`: delete the volume that was kept")
                .conflicts_with_all(["to", "plan", "back"]),
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

/// Whether it can be the tag of an image.
pub fn is_tag(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain)
}

/// A release, a major, or a whole image: it goes into files of the stack.
fn image(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let is_image = !text.is_empty() && text.chars().all(is_plain);
    is_image.then(|| text.to_string()).ok_or_else(|| "it isn't a release such as v26.2.0".to_string())
}

impl Upgrade {
    /// Whether nothing is to be changed.
    pub fn only_looks(&self) -> bool {
        self.plan || self.rehearse
    }

    /// The command line as it was typed, with these flags.
    pub fn line(&self, flags: &str) -> String {
        let products = self.products.iter().map(|product| format!(" {product}")).collect::<String>();
        let to = self.to.iter().map(|release| format!(" --to {release}")).collect::<String>();
        format!("{XTASK} upgrade{products}{to} {flags}")
    }
}

/// A line of a plan: data where the plan is what was asked for, else talk.
pub fn tell(cx: &Context, args: &Upgrade, line: String) -> Result<()> {
    if args.only_looks() && !args.json {
        return Ok(Output::data(line)?);
    }
    cx.out.say(line);
    Ok(())
}
