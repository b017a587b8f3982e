//! The terminal: data on standard output, talk on standard error. Nothing else writes to either. A terminal that was
//! closed takes no talk: what is done goes on without.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::at_once::work;
use crate::interrupt::{Interrupt, TICK};
use crate::printable::plain;
use crate::program::Program;
use ory_facts::next::Xtask;

const BOLD_RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only errors.
    Quiet,
    /// A line for what was done.
    Normal,
    /// Every line the containers print.
    Verbose,
}

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub verbosity: Verbosity,
    /// What a line that is to be typed next begins with.
    pub program: Program,
}

impl Output {
    /// A line about what was done.
    pub fn say(&self, line: impl AsRef<str>) {
        if self.verbosity > Verbosity::Quiet {
            talk(format_args!("{}\n", self.plain(line.as_ref())));
        }
    }

    /// A line about what should be looked at.
    pub fn warn(&self, line: impl AsRef<str>) {
        if self.verbosity > Verbosity::Quiet {
            talk(format_args!("{YELLOW}warning:{RESET} {}\n", self.plain(line.as_ref())));
        }
    }

    /// Asks a question on the terminal; only `y` or `yes` is a yes. Ctrl-C ends the wait for it.
    pub fn ask(&self, question: &str, interrupt: &Interrupt) -> anyhow::Result<bool> {
        talk(format_args!("{} [y/N] ", self.plain(question)));
        let (typed, answers) = mpsc::channel();
        // A read from the terminal goes on after a signal, so it has a thread that can be left to itself.
        std::thread::spawn(work(move || {
            let mut answer = String::new();
            // Nobody waits for it after a signal.
            let _ = typed.send(std::io::stdin().read_line(&mut answer).map(|_| answer));
        }));
        loop {
            match answers.recv_timeout(TICK) {
                Ok(answer) => return Ok(["y", "yes"].contains(&answer?.trim().to_lowercase().as_str())),
                Err(RecvTimeoutError::Timeout) => interrupt.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    /// A line that a container printed.
    pub fn relay(&self, line: &str) {
        if self.verbosity == Verbosity::Verbose || self.has_groups() {
            // One that GitHub would take for a command of its own is none.
            let mark = if is_on_github() && line.trim_start().starts_with("::") { "| " } else { "" };
            talk(format_args!("{mark}{line}\n"));
        }
    }

    /// Relayed lines are in groups that are closed: all of them may be there.
    fn has_groups(&self) -> bool {
        self.verbosity > Verbosity::Quiet && is_on_github()
    }

    /// Puts what `relay` is handed meanwhile into a group, in GitHub Actions.
    pub fn grouped<T>(&self, name: &str, run: impl FnOnce() -> T) -> T {
        if !self.has_groups() {
            return run();
        }
        talk(format_args!("::group::{name}\n"));
        let result = run();
        talk(format_args!("::endgroup::\n"));
        result
    }

    /// An error with its chain of causes, and the next command to type.
    pub fn error(&self, error: &anyhow::Error, hint: Option<&str>) {
        talk(format_args!("{BOLD_RED}error:{RESET} {}\n", self.plain(&error.to_string())));
        for cause in error.chain().skip(1) {
            talk(format_args!("{YELLOW}caused by:{RESET} {}\n", self.plain(&cause.to_string())));
        }
        if let Some(hint) = hint {
            talk(format_args!("{CYAN}hint:{RESET} {}\n", self.plain(hint)));
        }
        if is_on_github() {
            let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            let causes: Vec<_> = error.chain().take(2).map(ToString::to_string).collect();
            let text = self.named(&format!("{}{hint}", causes.join(": ")));
            let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
            talk(format_args!("::error title={}::{text}\n", self.program));
        }
    }

    /// A text with the next command as it is typed.
    pub fn named(&self, text: &str) -> String {
        Xtask::called(text, self.program.name())
    }

    fn plain(&self, text: &str) -> String {
        plain(&self.named(text))
    }

    /// A line of data. What a command has still to do, and its exit code, are the same where the reader went away
    /// (`| head`).
    pub fn data(line: impl AsRef<str>) -> std::io::Result<()> {
        Self::is_read(line).map(|_| ())
    }

    /// A line of data, of which there may be no end: false once the reader went away.
    pub fn is_read(line: impl AsRef<str>) -> std::io::Result<bool> {
        match writeln!(anstream::stdout(), "{}", line.as_ref()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Says what is waited for, from the first second on, until the guard is dropped: on a terminal
    /// in a line that goes away, elsewhere in one line after five seconds.
    pub fn progress(&self, what: impl Into<String>) -> Progress {
        self.progress_of(what, Arc::default())
    }

    /// The same of a transfer, with how many bytes were transferred.
    pub fn progress_of(&self, what: impl Into<String>, transferred: Arc<AtomicU64>) -> Progress {
        let what = what.into();
        let (done, wait) = mpsc::channel::<()>();
        let verbosity = self.verbosity;
        let thread = std::thread::spawn(work(move || {
            let start = Instant::now();
            let terminal = std::io::stderr().is_terminal() && verbosity == Verbosity::Normal;
            let mut pause = Duration::from_secs(if terminal { 1 } else { 5 });
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(pause) {
                if terminal {
                    let transferred = match transferred.load(Ordering::Relaxed) {
                        0 => String::new(),
                        bytes => format!("{}, ", size(bytes)),
                    };
                    talk(format_args!("\r\x1b[K{what} ({transferred}{} s)", start.elapsed().as_secs()));
                } else if verbosity > Verbosity::Quiet {
                    talk(format_args!("{what} ...\n"));
                    pause = Duration::MAX;
                }
            }
            if terminal && start.elapsed() > pause {
                talk(format_args!("\r\x1b[K"));
            }
        }));
        Progress { done: Some(done), thread: Some(thread) }
    }
}

/// Says something. Where the terminal was closed, or who read it went away, nobody is there to be told.
fn talk(text: fmt::Arguments) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}

/// Whether GitHub reads what is printed: its workflow commands are lines that start with `::`.
fn is_on_github() -> bool {
    std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true")
}

/// A wait that is being shown; see [`Output::progress`].
pub struct Progress {
    done: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // It only prints; there is nothing to do about a failure of it.
            let _ = thread.join();
        }
    }
}

/// A duration as people read it: `0.4 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A size as people read it: `88.1 kB`, in powers of 1000.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0
        && let Some(larger) = units.next()
    {
        (value, unit) = (value / 1000.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1 migration`, `2 migrations`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Columns as wide as their widest cell, with a heading. A line stays a line.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let whole = |cell: &String| plain(cell).replace(['\n', '\t'], " ");
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(whole).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_nothing_to_the_terminal() {
        assert_eq!(
            plain("a\u{1b}]0;title\u{7}b\u{9b}2J\r\u{202e}c"),
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}2J\u{fffd}\u{fffd}c"
        );
        assert_eq!(plain("é\n\tü"), "é\n\tü");
        assert_eq!(table(&[vec!["a\u{1b}[2J\nb".into(), "c".into()]]), ["a\u{fffd}[2J b  c"]);
    }

    #[test]
    fn a_size_has_the_unit_that_keeps_it_short() {
        assert_eq!(
            [0, 999, 1000, 88_123, 1_500_000_000].map(size),
            ["0 B", "999 B", "1.0 kB", "88.1 kB", "1.5 GB"]
        );
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_has_no_space_at_the_end() {
        let rows = [vec!["SERVICE".into(), "IMAGE".into()], vec!["db".into(), "postgres".into()]];
        assert_eq!(table(&rows), ["SERVICE  IMAGE", "db       postgres"]);
    }
}
