//! What runs beside the steps of a plan: what they needn't wait for.
//!
//! A failure here is none of the plan: the step that needs it does it again, and tells why it fails.

use std::sync::mpsc::{self, Sender};
use std::thread::{Scope, ScopedJoinHandle};

use crate::context::Context;
use xtask_runner::process::Invocation;

type Work<'scope> = Box<dyn FnOnce() + Send + 'scope>;

/// Compose commands that are run one after the other, beside the steps.
pub struct Beside<'scope> {
    work: Option<Sender<Work<'scope>>>,
    worker: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Beside<'scope> {
    pub fn new(scope: &'scope Scope<'scope, '_>) -> Self {
        let (work, queue) = mpsc::channel::<Work>();
        Self { work: Some(work), worker: Some(scope.spawn(|| queue.into_iter().for_each(|work| work()))) }
    }

    /// Runs a command once those before it have ended.
    pub fn run(&self, cx: &'scope Context, command: Invocation) {
        let work: Work = Box::new(move || cx.run_beside(&command));
        // The worker ends after the last work, not before.
        let _ = self.work.as_ref().map(|queue| queue.send(work));
    }

    /// Waits until all is done.
    pub fn finish(&mut self) {
        drop(self.work.take());
        let _ = self.worker.take().map(ScopedJoinHandle::join);
    }
}
