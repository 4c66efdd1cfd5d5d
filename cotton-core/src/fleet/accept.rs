//! Gathering the launches of one offer: an offer can be accepted only once, but the clusters that were placed on it
//! become durable one by one.

use crate::ports::mesos::{Launch, MesosCall};
use crate::{AgentId, Millis, OfferId, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// How long the launches that are ready wait for those that are not, in milliseconds. A late one then meets a used
/// offer, is dropped by Mesos, and its member is placed anew.
const WAIT_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Accepts {
    pending: BTreeMap<OfferId, Pending>,
}

#[derive(Debug)]
struct Pending {
    agent: AgentId,
    waiting: BTreeSet<TaskId>,
    launches: Vec<Launch>,
    due: Millis,
}

impl Accepts {
    pub(super) fn expect(&mut self, now: Millis, offer: OfferId, agent: AgentId, tasks: BTreeSet<TaskId>) {
        let due = now.after(WAIT_MS);
        self.pending.insert(offer, Pending { agent, waiting: tasks, launches: Vec::new(), due });
    }

    /// A launch became durable; gives the call when it was the last of its offer, or when its offer is used already.
    pub(super) fn ready(&mut self, offer: OfferId, agent: AgentId, launch: Launch) -> Option<MesosCall> {
        let Some(pending) = self.pending.get_mut(&offer) else {
            return Some(MesosCall::Accept { offer, agent, launches: vec![launch] });
        };
        pending.waiting.remove(&launch.task);
        pending.launches.push(launch);
        if !pending.waiting.is_empty() {
            return None;
        }
        let Pending { agent, launches, .. } = self.pending.remove(&offer)?;
        Some(MesosCall::Accept { offer, agent, launches })
    }

    /// An offer whose launches waited long enough.
    pub(super) fn overdue(&mut self, now: Millis) -> Option<MesosCall> {
        let offer = self.pending.iter().find(|(_, p)| p.due <= now).map(|(offer, _)| offer.clone())?;
        let Pending { agent, launches, .. } = self.pending.remove(&offer)?;
        Some(MesosCall::Accept { offer, agent, launches })
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.pending.values().map(|p| p.due).min()
    }

    /// The connection is gone, and with it all offers.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }
}
