//! Events that wait to be taken: bounded for what is read from the network, and emptied when the scheduler subscribes
//! again.

use super::error::SchedulerError;
use cotton_core::ports::mesos::MesosEvent;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Events that may wait; then the network is no longer read.
const EVENTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    /// There is something to take.
    filled: Notify,
    /// There is room.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<MesosEvent>,
    closed: Option<SchedulerError>,
}

impl Inbox {
    /// Forgets everything.
    pub(super) fn reset(&self) {
        *self.queue() = Queue::default();
        self.taken.notify_one();
    }

    /// Adds an event, also when there are too many.
    pub(super) fn push(&self, event: MesosEvent) {
        self.push_all([event]);
    }

    /// Adds events, with nothing in between.
    pub(super) fn push_all(&self, events: impl IntoIterator<Item = MesosEvent>) {
        self.queue().events.extend(events);
        self.filled.notify_one();
    }

    /// Waits until there is room for more. There is one that waits.
    pub(super) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            if self.queue().events.len() < EVENTS_MAX {
                return;
            }
            taken.await;
        }
    }

    /// After the events that are there, there will be only this.
    pub(super) fn close(&self, error: SchedulerError) {
        self.queue().closed = Some(error);
        self.filled.notify_one();
    }

    /// Why there are no more events, if it is so.
    pub(super) fn closed(&self) -> Option<SchedulerError> {
        self.queue().closed.clone()
    }

    /// The next event; waits for it. Cancelling this loses nothing.
    pub(super) async fn next(&self) -> Result<MesosEvent, SchedulerError> {
        // Masters may always have another offer; others must have their turn.
        tokio::task::coop::consume_budget().await;
        loop {
            let filled = self.filled.notified();
            {
                let mut queue = self.queue();
                if let Some(event) = queue.events.pop_front() {
                    self.taken.notify_one();
                    return Ok(event);
                }
                if let Some(error) = &queue.closed {
                    return Err(error.clone());
                }
            }
            filled.await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
