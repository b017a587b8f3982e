//! What can be typed about backups: the arguments of `backup`, `backups`, `restore` and `reset`.

use std::path::PathBuf;

use clap::Args;
use ory_facts::product::Product;

use crate::cli::product;

#[derive(Debug, Args)]
pub struct Backup {
    /// Only these products [default: all of the stack]
    #[arg(value_name = "PRODUCT", value_parser = product())]
    pub products: Vec<Product>,
    /// Restore it too, into a database that is removed again, and compare
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub folder: Folder,
}

#[derive(Debug, Args)]
pub struct Backups {
    #[command(flatten)]
    pub folder: Folder,
}

#[derive(Debug, Args)]
pub struct Folder {
    /// Where backups are [default: backups/ in the stack's folder]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The backup: its name as `backups` lists it, `latest`, or its folder
    pub backup: PathBuf,
    /// Only these products [default: all that are in it]
    #[arg(value_name = "PRODUCT", value_parser = product())]
    pub products: Vec<Product>,
    /// Restore one product into this empty database, and replace nothing
    #[arg(long, value_name = "DATABASE")]
    pub into: Option<String>,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    /// Restore also what this stack's secrets can't decrypt
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Reset {
    /// The products to reset
    #[arg(value_name = "PRODUCT", required = true, value_parser = product())]
    pub products: Vec<Product>,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also on a remote engine, and on a server that is no service of the stack
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub folder: Folder,
}

#[derive(Debug, Args)]
pub struct Split {
    /// A schema each in the same database: nothing of the application is cut off
    #[arg(long)]
    pub in_place: bool,
    /// A database each all the same: drop the keys and views of others that lead into the tables
    #[arg(long, conflicts_with = "in_place")]
    pub drop_foreign_keys: bool,
    /// Delete the old tables, once each product is served from its new place
    #[arg(long, conflicts_with_all = ["in_place", "drop_foreign_keys"])]
    pub finish: bool,
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub folder: Folder,
}
