//! Ctrl-C and other requests to end: noticed here, so that what runs is ended in order. A second one ends xtask at
//! once; but for a closed terminal, which says so twice: once by the shell, once by the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Exit, Failure};

/// What asks a program to end. On Windows, Ctrl-C alone does.
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// How often a wait looks whether it was interrupted.
pub const TICK: Duration = Duration::from_millis(25);

/// Whether xtask was asked to end. Its copies share one answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
    is_cleaning_up: Arc<AtomicBool>,
}

impl Interrupt {
    /// Notices signals from now on.
    pub fn listen() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            // They act in this order: at the first signal nothing is set yet.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_second))?;
            flag::register(signal, Arc::clone(&is_second))?;
            interrupt.notice(signal)?;
        }
        // The terminal was closed. Neither a second one of these nor what follows it ends xtask at once.
        #[cfg(unix)]
        if !is_ignored(SIGHUP) {
            interrupt.notice(SIGHUP)?;
        }
        Ok(interrupt)
    }

    fn notice(&self, signal: i32) -> std::io::Result<()> {
        flag::register_usize(signal, Arc::clone(&self.signal), signal.unsigned_abs() as usize).map(|_| ())
    }

    /// The failure of a command that was asked to end; none where it wasn't.
    pub fn failure(&self) -> Option<Failure> {
        let exit = match self.signal.load(Ordering::Relaxed) {
            0 => return None,
            signal if signal == SIGTERM.unsigned_abs() as usize => Exit::Terminated,
            #[cfg(unix)]
            signal if signal == SIGHUP.unsigned_abs() as usize => Exit::HungUp,
            _ => Exit::Interrupted,
        };
        Some(Failure::new(exit, "interrupted"))
    }

    /// Cleans up what is left behind, which no signal ends. After one, that goes on for what is still to be told.
    pub fn clean_up<T>(&self, work: impl FnOnce() -> T) -> T {
        self.is_cleaning_up.store(true, Ordering::Relaxed);
        let done = work();
        self.is_cleaning_up.store(self.failure().is_some(), Ordering::Relaxed);
        done
    }

    /// The failure of something, once what it has left behind is cleaned up; what could not be, first.
    pub fn clean_up_after(&self, error: Error, work: impl FnOnce() -> Result<()>) -> Error {
        match self.clean_up(work) {
            Ok(()) => error,
            Err(left) => left.context(format!("{error:#}")),
        }
    }

    /// The exit code of what failed: that of the signal, where there was one.
    pub fn exit(&self) -> Exit {
        self.failure().map_or(Exit::Failed, |failure| failure.exit)
    }

    /// Fails once xtask was asked to end.
    pub fn check(&self) -> Result<()> {
        if self.is_cleaning_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Waits, and fails as soon as xtask is asked to end.
    pub fn sleep(&self, duration: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            self.check()?;
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

/// Whether xtask was started so that this signal is ignored, as `nohup` does it. Only Linux tells without unsafe code.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}
