//! Gathering the launches of one offer: an offer can be accepted only once, but the clusters that were placed on it
//! become durable one by one.

use super::volumes::Use;
use crate::ports::mesos::Launch;
use crate::{AgentId, Millis, OfferId, TaskId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// How long the launches that are ready wait for those that are not, in milliseconds. A late one then meets a used
/// offer, is dropped by Mesos, and its member is placed anew.
const WAIT_MS: u64 = 1_000;
/// How long an offer is held while no launch is ready, in milliseconds. If the store takes nothing, others shall have it.
const HOLD_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Accepts {
    pending: BTreeMap<OfferId, Pending>,
}

#[derive(Debug)]
struct Pending {
    agent: AgentId,
    waiting: BTreeSet<TaskId>,
    launches: Vec<Launch>,
    releases: Vec<VolumeId>,
    /// Until when the launches that are ready wait, counted from the first of them.
    due: Option<Millis>,
    /// Until when it is held at most.
    held_until: Millis,
}

impl Pending {
    fn due(&self) -> Millis {
        self.due.map_or(self.held_until, |due| due.min(self.held_until))
    }
}

/// An offer whose launches have been gathered; there is none when all of them were cancelled.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) offer: OfferId,
    pub(super) agent: AgentId,
    pub(super) launches: Vec<Launch>,
    pub(super) releases: Vec<VolumeId>,
}

impl Accepts {
    /// Launches will come for this offer; gives it back at once when it is only to release something.
    pub(super) fn expect(&mut self, now: Millis, offer: OfferId, used: Use) -> Option<Gathered> {
        let Use { agent, tasks, releases } = used;
        let held_until = now.after(HOLD_MS);
        let pending = Pending { agent, waiting: tasks, launches: Vec::new(), releases, due: None, held_until };
        self.pending.insert(offer.clone(), pending);
        self.take_complete(offer)
    }

    /// A launch became durable; gives the offer when it was the last for it, or when the offer is used already.
    pub(super) fn ready(&mut self, now: Millis, offer: OfferId, agent: AgentId, launch: Launch) -> Option<Gathered> {
        let Some(pending) = self.pending.get_mut(&offer) else {
            return Some(Gathered { offer, agent, launches: vec![launch], releases: Vec::new() });
        };
        pending.waiting.remove(&launch.task);
        pending.launches.push(launch);
        pending.due.get_or_insert(now.after(WAIT_MS));
        self.take_complete(offer)
    }

    /// A task that is not to be launched any more; gives the offer when the others waited only for it.
    pub(super) fn cancel(&mut self, task: &TaskId) -> Option<Gathered> {
        let (offer, pending) = self.pending.iter_mut().find_map(|(offer, pending)| {
            let planned = pending.launches.len();
            pending.launches.retain(|launch| launch.task != *task);
            let known = pending.waiting.remove(task) || pending.launches.len() < planned;
            known.then(|| (offer.clone(), pending))
        })?;
        if pending.launches.is_empty() {
            pending.due = None;
        }
        self.take_complete(offer)
    }

    /// Tasks whose launches are not ready yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &TaskId> {
        self.pending.values().flat_map(|pending| &pending.waiting)
    }

    /// An offer whose launches waited long enough.
    pub(super) fn overdue(&mut self, now: Millis) -> Option<Gathered> {
        let overdue = self.pending.iter().find(|(_, pending)| pending.due() <= now);
        let offer = overdue.map(|(offer, _)| offer.clone())?;
        self.take(offer)
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.pending.values().map(Pending::due).min()
    }

    /// The connection is gone, and with it all offers.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    fn take_complete(&mut self, offer: OfferId) -> Option<Gathered> {
        if self.pending.get(&offer)?.waiting.is_empty() { self.take(offer) } else { None }
    }

    fn take(&mut self, offer: OfferId) -> Option<Gathered> {
        let Pending { agent, launches, releases, .. } = self.pending.remove(&offer)?;
        Some(Gathered { offer, agent, launches, releases })
    }
}
