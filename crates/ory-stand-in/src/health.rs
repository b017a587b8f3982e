//! `/health/alive` and `/health/ready`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::migrate::applied;
use crate::migrations::carried;
use crate::product::{Product, Program};

const OK: &str = r#"{"status":"ok"}"#;
const HIDDEN: &str = "error may contain sensitive information and was obfuscated";

pub struct Health {
    product: Product,
    /// Before v26, Kratos sends everything on its admin port to /admin.
    redirects_admin: bool,
    versions: Vec<String>,
    state: Mutex<State>,
}

struct State {
    database: Database,
    /// Kratos and Hydra look at the migrations no more after they were complete once.
    was_migrated: bool,
    /// Kept for a moment, so that polling costs little.
    last: Option<(Instant, Result<(), String>)>,
}

impl Health {
    pub fn new(program: &Program, database: Database) -> Self {
        Self {
            product: program.product,
            redirects_admin: program.product == Product::Kratos && !program.at_least("v26.0.0"),
            versions: carried(program).into_iter().map(|migration| migration.version).collect(),
            state: Mutex::new(State { database, was_migrated: false, last: None }),
        }
    }

    /// Answers one request and closes the connection.
    pub fn answer(&self, port: u16, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut lines =
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let Some(request) = lines.next() else { return };
        // Closing with unread headers would reset the connection.
        lines.for_each(drop);

        let path = request.split([' ', '?']).nth(1).unwrap_or_default();
        let is_admin = matches!(port, 4434 | 4445);
        let wanted = path.strip_prefix("/admin").filter(|_| is_admin).unwrap_or(path);
        let (status, kind, body) = match wanted {
            _ if is_admin && self.redirects_admin && wanted == path => {
                (format!("307 Temporary Redirect\r\nLocation: /admin{path}"), "text/plain", String::new())
            }
            "/health/alive" if port != 4468 => {
                ("200 OK".into(), "application/json; charset=utf-8", OK.into())
            }
            "/health/ready" if port != 4468 => match self.ready() {
                Ok(()) => ("200 OK".into(), "application/json; charset=utf-8", OK.into()),
                Err(error) => {
                    ("503 Service Unavailable".into(), "application/json", self.refusal(port, &error))
                }
            },
            _ => ("404 Not Found".into(), "text/plain; charset=utf-8", "404 page not found".into()),
        };
        let length = body.len() + 1;
        // A client that has gone needs no answer.
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}\n"
        );
    }

    /// Ready means that the database answers and nothing is pending.
    fn ready(&self) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, result)) = &state.last
            && when.elapsed() < Duration::from_millis(200)
        {
            return result.clone();
        }
        let result = applied(&mut state.database).and_then(|applied| {
            let is_complete = self.versions.iter().all(|version| applied.contains(version));
            state.was_migrated |= is_complete && self.product != Product::Keto;
            let is_ready = is_complete || state.was_migrated;
            is_ready.then_some(()).ok_or_else(|| "migrations have not yet been fully applied".into())
        });
        state.last = Some((Instant::now(), result.clone()));
        result
    }

    fn refusal(&self, port: u16, error: &str) -> String {
        let message = match (self.product, port) {
            (Product::Hydra, _) => {
                return r#"{"error":"error","error_description":"The error is unrecognizable"}"#.into();
            }
            (Product::Kratos, 4434) => error.replace('"', "\\\"").replace('\n', " "),
            _ => HIDDEN.into(),
        };
        format!(r#"{{"error":{{"code":500,"status":"Internal Server Error","message":"{message}"}}}}"#)
    }
}
