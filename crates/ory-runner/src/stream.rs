//! What a program prints while it runs: its lines, or its bytes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Context;
use os_pipe::PipeReader;

use crate::at_once::work;
use crate::interrupt::TICK;
use crate::process::{CommandError, Invocation, end};

/// A piece of what a program printed, or a line: of one type, as a channel is compiled for each.
struct Printed {
    bytes: Vec<u8>,
    is_stderr: bool,
}

impl Printed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end_matches('\r').to_string()
    }
}

impl Invocation {
    /// Runs while what it writes to standard output is handed over in pieces, as fast as they are taken. An error of
    /// `on_bytes` ends the program. A failure is a [`CommandError`](crate::process::CommandError).
    pub fn receive(&self, mut on_bytes: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let received = self.receive_all(&mut on_bytes);
        self.ended(complaint(&received).as_deref());
        received
    }

    fn receive_all(&self, on_bytes: &mut dyn FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (mut stdout, stdout_end) = os_pipe::pipe()?;
        let expression = self.with_input()?.stdout_file(stdout_end).stderr_capture();
        let start = Instant::now();
        let running = expression.start().with_context(|| format!("failed to start `{self}`"))?;
        // It holds the writing end of the pipe, whose reader would wait for it.
        drop(expression);
        // A few pieces at a time, however long it all is.
        let (piece, pieces) = mpsc::sync_channel(4);
        std::thread::spawn(work(move || {
            loop {
                let mut bytes = vec![0; 1 << 18];
                match stdout.read(&mut bytes) {
                    Ok(length) if length > 0 => bytes.truncate(length),
                    _ => return,
                }
                if piece.send(Printed { bytes, is_stderr: false }).is_err() {
                    return;
                }
            }
        }));
        loop {
            let taken = match pieces.recv_timeout(TICK) {
                Ok(piece) => on_bytes(&piece.bytes),
                Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = taken.and_then(|()| self.check_limits(start)) {
                end(&running)?;
                return Err(error);
            }
        }
        let output = running.wait()?;
        if output.status.success() { Ok(()) } else { Err(self.error(output).into()) }
    }

    /// Runs while its masked lines, of both streams, are handed over one by one; none every now and then while
    /// there is no line. An error of `on_line` ends the program. A failure is a [`CommandError`](crate::process::CommandError) with the last
    /// lines of standard error.
    pub fn stream(&self, mut on_line: impl FnMut(Option<&str>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let streamed = self.stream_all(&mut on_line);
        self.ended(complaint(&streamed).as_deref());
        streamed
    }

    fn stream_all(&self, on_line: &mut dyn FnMut(Option<&str>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        // Each stream is read on its own: Ory writes to both at once, and one line's half into the other's.
        let (stdout, stdout_end) = os_pipe::pipe()?;
        let (stderr, stderr_end) = os_pipe::pipe()?;
        let expression = self.with_input()?.stdout_file(stdout_end).stderr_file(stderr_end);
        let start = Instant::now();
        let running = expression.start().with_context(|| format!("failed to start `{self}`"))?;
        // It holds the writing ends of the pipes, whose readers would wait for it.
        drop(expression);

        let mut tail = Tail::default();
        let (lines, received) = mpsc::channel();
        let stdout_lines = lines.clone();
        // Not joined: a child of the program can hold its streams open after its end.
        std::thread::spawn(work(move || read_lines(stdout, stdout_lines, false)));
        std::thread::spawn(work(move || read_lines(stderr, lines, true)));
        loop {
            let line = match received.recv_timeout(TICK) {
                Ok(line) => Some((self.mask(&line.text()), line.is_stderr)),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let goes_on = on_line(line.as_ref().map(|(line, _)| line.as_str()));
            if let Err(error) = goes_on.and_then(|()| self.check_limits(start)) {
                end(&running)?;
                return Err(error);
            }
            if let Some((line, is_stderr)) = line.filter(|(line, _)| !(self.reading().is_detail)(line)) {
                tail.push(line, is_stderr);
            }
        }
        match running.wait()? {
            output if !output.status.success() => {
                Err(self.error_of(output.status.code(), tail.text()).into())
            }
            _ => Ok(()),
        }
    }
}

/// What a run complained of that failed.
fn complaint(run: &anyhow::Result<()>) -> Option<String> {
    let error = run.as_ref().err()?;
    Some(error.downcast_ref::<CommandError>().map_or_else(|| error.to_string(), |error| error.stderr.clone()))
}

/// Sends each line of a stream. A stream that breaks off has ended.
fn read_lines(stream: PipeReader, lines: mpsc::Sender<Printed>, is_stderr: bool) {
    for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        if lines.send(Printed { bytes, is_stderr }).is_err() {
            return;
        }
    }
}

/// The last lines: of standard error, or of standard output where that one is silent.
#[derive(Default)]
struct Tail {
    stdout: VecDeque<String>,
    stderr: VecDeque<String>,
}

impl Tail {
    fn push(&mut self, line: String, is_stderr: bool) {
        if line.trim().is_empty() {
            return;
        }
        let lines = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        lines.push_back(line);
        if lines.len() > 200 {
            lines.pop_front();
        }
    }

    fn text(self) -> String {
        let lines = if self.stderr.is_empty() { self.stdout } else { self.stderr };
        Vec::from(lines).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    #[cfg(unix)]
    fn two_streams_that_write_at_once_do_not_tear_the_error_apart() {
        let script = "printf 'ALTER TABLE hy'; echo 'ERROR: denied' >&2; echo 'dra_client;'; exit 3";
        let sh = Invocation::new("sh", Path::new(".")).args(["-c", script]);
        let mut seen = vec![];
        let error = sh.stream(|line| {
            seen.extend(line.map(String::from));
            Ok(())
        });
        let error = error.expect_err("exit code 3").downcast::<CommandError>().expect("a command error");
        assert_eq!((error.status, error.stderr.as_str()), (Some(3), "ERROR: denied"));
        seen.sort();
        assert_eq!(seen, ["ALTER TABLE hydra_client;", "ERROR: denied"]);
    }

    #[test]
    #[cfg(unix)]
    fn bytes_come_whole_and_a_failure_comes_with_its_reason() {
        let sh = |script| Invocation::new("sh", Path::new(".")).args(["-c", script]);
        let mut length = 0;
        let take = |bytes: &[u8]| {
            length += bytes.len();
            Ok(())
        };
        sh("head -c 3000000 /dev/zero").receive(take).expect("received");
        assert_eq!(length, 3_000_000);
        let error = sh("echo half; echo broken >&2; exit 4").receive(|_| Ok(()));
        let error = error.expect_err("exit code 4").downcast::<CommandError>().expect("a command error");
        assert_eq!((error.status, error.stderr.as_str()), (Some(4), "broken"));
        let full = sh("exec cat /dev/zero").receive(|_| anyhow::bail!("no space"));
        assert_eq!(full.expect_err("it is full").to_string(), "no space");
    }
}
