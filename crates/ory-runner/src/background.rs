//! Work that is done in the background, in an order of its own.

use std::sync::mpsc::{self, Sender};
use std::thread::{Scope, ScopedJoinHandle};

use crate::at_once::{Work, work};

/// Does one piece of work after the other, beside its owner. What fails is none of the owner's business: it does
/// again what it needs, and tells why it fails.
pub struct Background<'scope> {
    queue: Option<Sender<Work<'scope>>>,
    worker: Option<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Background<'scope> {
    pub fn new(scope: &'scope Scope<'scope, '_>) -> Self {
        let (queue, queued) = mpsc::channel::<Work>();
        let worker = scope.spawn(work(|| queued.into_iter().for_each(|work| work())));
        Self { queue: Some(queue), worker: Some(worker) }
    }

    /// Does this once all before it is done.
    pub fn add(&self, next: impl FnOnce() + Send + 'scope) {
        self.add_work(work(next));
    }

    fn add_work(&self, next: Work<'scope>) {
        // The worker ends after the last work, not before.
        let _ = self.queue.as_ref().map(|queue| queue.send(next));
    }

    /// Waits until all is done.
    pub fn finish(&mut self) {
        drop(self.queue.take());
        let _ = self.worker.take().map(ScopedJoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn work_is_done_in_order_and_all_of_it_before_the_end() {
        let done = Mutex::new(vec![]);
        std::thread::scope(|scope| {
            let mut beside = Background::new(scope);
            for number in 0..100 {
                let done = &done;
                beside.add(move || done.lock().expect("no panic").push(number));
            }
            beside.finish();
            assert!(done.lock().expect("no panic").iter().copied().eq(0..100));
        });
    }
}
