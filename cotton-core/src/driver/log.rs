//! The latest events of all clusters, in memory and to whoever listens.

use super::handle::LoggedEvent;
use super::scheduler::WallClock;
use crate::ClusterName;
use crate::cluster::event::Event;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast;
use tracing::info;

/// Events that are kept.
const KEPT_MAX: usize = 10_000;
/// Events that a slow listener may be behind before it misses the oldest.
const BEHIND_MAX: usize = 1_024;

pub(super) struct EventLog {
    latest: VecDeque<Arc<LoggedEvent>>,
    listeners: broadcast::Sender<Arc<LoggedEvent>>,
    number: u64,
    wall_clock: WallClock,
}

impl EventLog {
    pub(super) fn new(wall_clock: WallClock) -> Self {
        let (listeners, _) = broadcast::channel(BEHIND_MAX);
        Self { latest: VecDeque::new(), listeners, number: 0, wall_clock }
    }

    pub(super) fn sender(&self) -> broadcast::Sender<Arc<LoggedEvent>> {
        self.listeners.clone()
    }

    pub(super) fn append(&mut self, cluster: ClusterName, event: Event) {
        info!(%cluster, epoch = event.epoch.0, "{}", event.kind);
        self.number += 1;
        let unix_ms = (self.wall_clock)();
        let logged = Arc::new(LoggedEvent { number: self.number, unix_ms, cluster, event });
        if self.latest.len() == KEPT_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(Arc::clone(&logged));
        let _ = self.listeners.send(logged); // nobody listens: it is kept all the same
    }

    pub(super) fn latest(&self) -> Vec<Arc<LoggedEvent>> {
        self.latest.iter().cloned().collect()
    }
}
