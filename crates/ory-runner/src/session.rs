//! A program that stays: requests go in, answers come out. It ends with xtask, however that ends, because its
//! standard input does.

use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::at_once::work;
use crate::interrupt::TICK;
use crate::process::Invocation;

/// What psql prints after the rows of one request.
const END: &str = "-- end of rows --";

/// A psql that stays connected.
pub struct Session {
    command: Invocation,
    running: duct::Handle,
    input: os_pipe::PipeWriter,
    lines: Receiver<String>,
}

impl Session {
    /// Starts psql. Whether it can connect shows at the first request.
    pub fn start(command: Invocation) -> Result<Self> {
        let failed = || format!("failed to start `{command}`");
        let (stdin, mut input) = os_pipe::pipe()?;
        let (output, stdout) = os_pipe::pipe()?;
        let expression = command.expression().stdin_file(stdin).stdout_file(stdout).stderr_capture();
        let running = expression.start().with_context(failed)?;
        // Where it has ended already, the first request tells why.
        let _ = input.write_all(command.opening().as_bytes());
        let (line, lines) = mpsc::channel();
        std::thread::spawn(work(move || {
            // The receiver is gone once the session has ended.
            let _ = BufReader::new(output).lines().map_while(Result::ok).try_for_each(|text| line.send(text));
        }));
        Ok(Self { command, running, input, lines })
    }

    /// Runs SQL and returns the lines of its rows.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<String>> {
        let rows = self.request(sql);
        let complaint = rows.as_ref().err().map(ToString::to_string);
        self.command.ended(complaint.as_deref());
        rows
    }

    fn request(&mut self, sql: &str) -> Result<Vec<String>> {
        // Where psql has ended, the reason is what it printed last.
        let request = self.command.in_frame(&format!("{sql};\n"));
        let _ = writeln!(self.input, "{request}\\echo {END:?}").and_then(|()| self.input.flush());
        let start = Instant::now();
        let mut rows = Vec::new();
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) if line.trim_matches('"') == END => return Ok(rows),
                Ok(line) => rows.push(line),
                Err(RecvTimeoutError::Disconnected) => {
                    let output = self.running.wait()?;
                    bail!(self.command.error(output));
                }
                Err(RecvTimeoutError::Timeout) => self.command.check_limits(start)?,
            }
        }
    }
}
