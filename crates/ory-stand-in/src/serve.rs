//! `serve`: refuses or waits without tables, then listens.

use std::net::TcpListener;
use std::sync::Arc;

use crate::arguments::Arguments;
use crate::config::Config;
use crate::connect::{Patience, connect};
use crate::database::Database;
use crate::health::Health;
use crate::migrate::applied;
use crate::product::{Exit, Product, Program};

const NO_TABLE: &str = "Unable to locate the table";

pub fn serve(program: &Program, arguments: &Arguments) -> Result<(), Exit> {
    if program.product == Product::Hydra {
        println!("Thank you for using Ory Hydra {}! (A stand-in.)", program.version);
    }
    let config = Config::read(program, arguments)?;
    config.check_to_serve(program)?;
    let mut database = connect(program, &config.dsn(program)?)?;
    find_network(program, &mut database)?;
    listen(program, database)
}

/// Each product wants the table `networks` before it listens; only Kratos waits for it.
fn find_network(program: &Program, database: &mut Database) -> Result<(), Exit> {
    let nothing_applied = applied(database).is_ok_and(|versions| versions.is_empty());
    if program.product == Product::Keto && nothing_applied {
        eprintln!("Migrations were not applied yet, please apply them first.");
        return Err(program.failed());
    }
    let mut patience = Patience::new(program.product);
    while let Err(error) = database.run("SELECT id FROM networks LIMIT 1") {
        let error = if error.contains("SQLSTATE 42P01") { NO_TABLE } else { &error };
        let wait = patience.next().filter(|_| program.product == Product::Kratos);
        if program.product != Product::Keto {
            let map =
                format!("map[debug: message:{error} reason: status:Internal Server Error status_code:500]");
            program.log("warning", "Unable to determine network, retrying.", &[("error", &map)]);
            if wait.is_none() {
                program.log("error", "Unable to initialize service registry.", &[("error", &map)]);
            }
        }
        match wait {
            Some(wait) => std::thread::sleep(wait),
            None => return Err(program.fail(error)),
        }
    }
    Ok(())
}

fn listen(program: &Program, database: Database) -> Result<(), Exit> {
    let mut listeners = vec![];
    for port in program.product.ports() {
        let listener = TcpListener::bind(("0.0.0.0", *port))
            .map_err(|error| program.fail(&format!("listen tcp 0.0.0.0:{port}: bind: {error}")))?;
        program.info(&format!("Setting up http server on 0.0.0.0:{port}"));
        listeners.push((*port, listener));
    }
    let health = Arc::new(Health::new(program, database));
    std::thread::scope(|scope| {
        for (port, listener) in &listeners {
            let health = &health;
            scope.spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (health, port) = (Arc::clone(health), *port);
                    // A thread for each request: one that waits for a frozen database holds up no other.
                    std::thread::spawn(move || health.answer(port, stream));
                }
            });
        }
    });
    Ok(())
}
