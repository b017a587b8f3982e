//! Work for threads of its own, all of it of one type: what starts a thread, and ends it, is compiled for each type that is
//! spawned.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

/// What a thread does.
pub type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Makes it of a closure.
pub fn work<'a>(work: impl FnOnce() + Send + 'a) -> Work<'a> {
    Box::new(work)
}

/// Does this with each item, all at the same time. What comes of them is in their order. A panic goes on here.
pub fn each<T: Send, R: Send>(items: impl IntoIterator<Item = T>, run: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut slots = Vec::new();
    for item in items {
        slots.push((Some(item), None));
    }
    let mut all = Vec::new();
    for (item, result) in &mut slots {
        all.push(work(|| *result = item.take().map(&run)));
    }
    join(all);
    let mut results = Vec::new();
    for (_, result) in slots {
        results.extend(result);
    }
    results
}

fn join(all: Vec<Work>) {
    thread::scope(|scope| {
        let threads: Vec<ScopedJoinHandle<()>> = all.into_iter().map(|work| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn each_is_done_at_the_same_time_and_told_in_order() {
        let all_are_there = Barrier::new(20);
        let done = each(0..20, |number| {
            all_are_there.wait();
            number * 2
        });
        assert!(done.into_iter().eq((0..40).step_by(2)));
    }

    #[test]
    fn a_panic_goes_on_once_all_has_ended() {
        let run = || each([1, 2], |number| assert_eq!(number, 1, "the second"));
        let panic = std::panic::catch_unwind(run).expect_err("a panic");
        assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("the second")));
    }
}
