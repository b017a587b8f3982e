//! The migrations that this release of a product carries, read from the SQL beside this file.

use crate::product::{Product, Program};

pub struct Migration {
    pub version: String,
    pub name: String,
    /// Runs outside a transaction.
    pub autocommit: bool,
    pub up: String,
    pub down: String,
}

impl Migration {
    /// The file that an error names.
    pub fn file(&self, product: Product) -> String {
        let folder = if product == Product::Hydra { "migrations" } else { "migrations/sql" };
        let kind = if self.autocommit { "postgres.autocommit" } else { "postgres" };
        format!("{folder}/{}_{}.{kind}.up.sql", self.version, self.name)
    }
}

/// All migrations, in the order of their versions.
///
/// STAND_IN_VERSIONS pads them with empty ones, to measure what grows with their number.
pub fn carried(program: &Program) -> Vec<Migration> {
    let sql = match program.product {
        Product::Kratos => include_str!("migrations/kratos.sql"),
        Product::Hydra => include_str!("migrations/hydra.sql"),
        Product::Keto => include_str!("migrations/keto.sql"),
    };
    let mut carried: Vec<Migration> = sql.split("--! ").filter_map(|part| read(program, part)).collect();
    let wanted = std::env::var("STAND_IN_VERSIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(0);
    for number in carried.len()..wanted {
        carried.push(Migration {
            version: format!("2027{number:016}"),
            name: "padding".into(),
            autocommit: false,
            up: "-- nothing to do".into(),
            down: "-- nothing to do".into(),
        });
    }
    carried
}

/// Reads `VERSION NAME [autocommit] [since RELEASE]`, the SQL below it, and after a line `--- down` the SQL
/// that undoes it; nothing if this release is older.
fn read(program: &Program, part: &str) -> Option<Migration> {
    let (heading, sql) = part.split_once('\n')?;
    let mut words = heading.split_whitespace();
    let (version, name) = (words.next()?.to_owned(), words.next()?.to_owned());
    let rest: Vec<&str> = words.collect();
    let since = rest.iter().skip_while(|word| **word != "since").nth(1);
    let (up, down) = sql.split_once("--- down\n")?;
    since.is_none_or(|release| program.at_least(release)).then(|| Migration {
        version,
        name,
        autocommit: rest.contains(&"autocommit"),
        up: up.trim_end().to_owned(),
        down: down.trim_end().to_owned(),
    })
}
