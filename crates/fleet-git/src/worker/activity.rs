//! Signs of life: gix counts its work here, and a thread tells the pool when a count has moved.
//!
//! gix reads some of its counters back to know that it is done, so every progress value has a counter of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use gix::progress::{Id, MessageLevel, Step, StepShared, UNKNOWN, Unit};

use super::output::Output;

const PULSE: Duration = Duration::from_millis(250);

type Counter = gix::progress::AtomicStep;

/// A counter of work and, shared with all its relatives, the list of all counters. Cloning makes a new counter.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    counter: StepShared,
    all: Arc<Mutex<Vec<Weak<Counter>>>>,
}

impl Clone for Activity {
    fn clone(&self) -> Self {
        let child = Self { counter: StepShared::default(), all: Arc::clone(&self.all) };
        child.register();
        child
    }
}

impl Activity {
    /// Runs `work` while a thread sends a progress frame whenever the counter has moved.
    pub(super) fn watched<T>(output: &Output, work: impl FnOnce(&Self) -> T) -> T {
        let activity = Self::default();
        activity.register();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = activity.sum();
                while !done.load(Ordering::Acquire) {
                    std::thread::park_timeout(PULSE);
                    let now = activity.sum();
                    if now != seen && !done.load(Ordering::Acquire) && output.progress().is_err() {
                        return;
                    }
                    seen = now;
                }
            });
            let _end = WakeOnDrop { done: &done, thread: watcher.thread() };
            work(&activity)
        })
    }

    /// Counts `steps` of work.
    pub(super) fn moved(&self, steps: usize) {
        self.counter.fetch_add(steps, Ordering::Relaxed);
    }

    fn register(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&self.counter));
    }

    /// A number that changes when any counter does. Counters that went away change it too, which is progress as well.
    fn sum(&self) -> usize {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|counter| counter.strong_count() > 0);
        all.iter()
            .filter_map(Weak::upgrade)
            .fold(all.len(), |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }
}

struct WakeOnDrop<'a> {
    done: &'a AtomicBool,
    thread: &'a std::thread::Thread,
}

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl gix::Count for Activity {
    fn set(&self, step: Step) {
        self.counter.store(step, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        self.counter.load(Ordering::Relaxed)
    }

    fn inc_by(&self, step: Step) {
        self.moved(step);
    }

    fn counter(&self) -> StepShared {
        Arc::clone(&self.counter)
    }
}

impl gix::Progress for Activity {
    fn init(&mut self, _max: Option<Step>, _unit: Option<Unit>) {}

    fn set_name(&mut self, _name: String) {}

    fn name(&self) -> Option<String> {
        None
    }

    fn id(&self) -> Id {
        UNKNOWN
    }

    fn message(&self, _level: MessageLevel, _message: String) {}
}

impl gix::NestedProgress for Activity {
    type SubProgress = Self;

    fn add_child(&mut self, _name: impl Into<String>) -> Self {
        self.clone()
    }

    fn add_child_with_id(&mut self, _name: impl Into<String>, _id: Id) -> Self {
        self.clone()
    }
}
