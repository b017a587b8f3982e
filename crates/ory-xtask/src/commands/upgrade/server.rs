//! `upgrade db`: the database server itself to another major version of PostgreSQL.

use anyhow::Result;
use ory_ops::context::Options;

use super::Upgrade;

pub fn run(options: &Options, args: &Upgrade) -> Result<()> {
    let _ = (options, args);
    anyhow::bail!("not yet")
}
