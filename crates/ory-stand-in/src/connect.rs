//! Connecting with patience: every failure, also one that can't pass, is retried for about five minutes.

use std::time::{Duration, Instant};

use crate::database::Database;
use crate::dsn::{Dsn, Fault};
use crate::product::{Exit, Product, Program};

const PATIENCE: Duration = Duration::from_secs(300);
/// What every run that reads its settings says first.
const NO_TRACER: &str = "No tracer configured - skipping tracing setup";

/// Waits between tries, each longer than the last.
pub struct Patience {
    product: Product,
    end: Instant,
    wait: Duration,
}

impl Patience {
    pub fn new(product: Product) -> Self {
        let wait = Duration::from_millis(if product == Product::Hydra { 100 } else { 500 });
        Self { product, end: Instant::now() + PATIENCE, wait }
    }

    /// How long to wait before the next try, or nothing when it is time to give up.
    pub fn next(&mut self) -> Option<Duration> {
        let wait = self.wait;
        self.wait = match self.product {
            Product::Hydra => (wait * 2).min(Duration::from_secs(5)),
            _ => (wait * 3 / 2).min(Duration::from_secs(60)),
        };
        (Instant::now() < self.end).then_some(wait)
    }
}

/// The database behind `dsn`, once it answers.
pub fn connect(program: &Program, dsn: &str) -> Result<Database, Exit> {
    let mut patience = Patience::new(program.product);
    let mut dsn = match Dsn::parse(dsn) {
        Ok(dsn) => dsn,
        Err(fault) => return Err(unusable(program, &mut patience, fault)),
    };
    // Of the three, only Kratos gives up on a server that doesn't answer.
    let has_limit = std::env::var_os("PGCONNECT_TIMEOUT").is_some()
        || dsn.variables.iter().any(|(name, _)| *name == "PGCONNECT_TIMEOUT");
    if program.product == Product::Kratos && !has_limit {
        dsn.variables.push(("PGCONNECT_TIMEOUT", "5".into()));
    }
    program.info(NO_TRACER);
    let mut database = Database::new(dsn);
    while let Err(error) = database.run("SELECT 1") {
        let Some(wait) = patience.next() else {
            return Err(give_up(program, &error));
        };
        match program.product {
            Product::Kratos => program.log_error("warning", "Unable to ping database, retrying.", &error),
            Product::Hydra => {
                program.log_error(
                    "info",
                    &format!("Retrying in {:.6} seconds...", wait.as_secs_f64()),
                    &error,
                );
            }
            Product::Keto => {
                program.log_error("error", "Unable to ping the database connection, retrying.", &error);
            }
        }
        std::thread::sleep(wait);
    }
    Ok(database)
}

/// Kratos and Keto try an unusable DSN again and again; Hydra ends at once.
fn unusable(program: &Program, patience: &mut Patience, fault: Fault) -> Exit {
    let (message, error) = match (&fault, program.product) {
        (Fault::Dialect(_), Product::Hydra) => ("Unable to create service registry.", "unsupported DSN type"),
        (Fault::Syntax(error), Product::Hydra) => ("Unable to initialize service registry.", error.as_str()),
        (Fault::Dialect(error) | Fault::Syntax(error), _) => {
            ("Unable to connect to database, retrying.", error.as_str())
        }
    };
    if program.product == Product::Hydra {
        program.log_error("error", message, error);
        return program.fail(error);
    }
    program.info(NO_TRACER);
    let level = if program.product == Product::Keto { "error" } else { "warning" };
    while let Some(wait) = patience.next() {
        program.log_error(level, message, error);
        std::thread::sleep(wait);
    }
    give_up(program, error)
}

fn give_up(program: &Program, error: &str) -> Exit {
    match program.product {
        Product::Kratos => program.fail(&format!("an error occurred initializing migrations: {error}")),
        _ => program.fail(error),
    }
}
