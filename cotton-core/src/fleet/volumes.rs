//! Volumes found in offers: whose they are, who returns to them, and which are released.
//!
//! What is to become of a volume is decided from durable state alone, whenever it is offered, so that nothing has to be
//! remembered for it: a scheduler that was killed in between finds it again. A volume is destroyed only when its member
//! certainly was given up, and its cluster has as many complete copies as it shall have, at that moment. One of a cluster that is not known and never was deleted is left alone: then it is our state
//! that is not to be trusted.

use super::{Fleet, Left};
use crate::cluster::Placed;
use crate::cluster::event::{Event, EventKind};
use crate::placement::Refusal;
use crate::ports::mesos::{Held, Offer, VolumeOutcome};
use crate::{AgentId, ClusterName, Endpoint, Epoch, MemberId, Millis, OfferId, TaskId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};

/// How long offers are asked for to find a volume that is to be released, in milliseconds. Later it is still released
/// when it is seen.
const RELEASE_MS: u64 = 120_000;
/// How long a scheduler asks for offers to find volumes that were left, in milliseconds: at its start, and then...
const SWEEP_MS: u64 = 60_000;
/// ... every so often: agents come back that were away when their members were given up.
const SWEEP_EVERY_MS: u64 = 3_600_000;

/// Volumes that are looked for.
#[derive(Debug, Default)]
pub(super) struct Releasing {
    /// Until when.
    volumes: BTreeMap<VolumeId, Millis>,
    /// Since when leftovers are looked for, or from when on again; `None` before the first connection of this run.
    sweep_from: Option<Millis>,
}

impl Releasing {
    /// Whether offers are needed.
    pub(super) fn is_looking(&self, now: Millis) -> bool {
        !self.volumes.is_empty() || self.sweep_from.is_some_and(|from| from <= now)
    }

    /// Offers come from now on.
    pub(super) fn connected(&mut self, now: Millis) {
        self.sweep_from.get_or_insert(now);
    }

    /// Looks for leftovers now, not only when it is time again.
    pub(super) fn look_now(&mut self, now: Millis) {
        if self.sweep_from.is_some() {
            self.sweep_from = Some(now); // otherwise it begins with the first connection
        }
    }

    pub(super) fn volumes(&self) -> Vec<VolumeId> {
        self.volumes.keys().cloned().collect()
    }

    /// When to stop looking for something.
    pub(super) fn next(&self, now: Millis) -> Option<Millis> {
        let sweep = self.sweep_from.map(|from| if from <= now { from.after(SWEEP_MS) } else { from });
        crate::time::earliest(sweep, self.volumes.values().min().copied())
    }

    /// Says whether something begins to be looked for now.
    pub(super) fn handle_timeout(&mut self, now: Millis) -> bool {
        self.volumes.retain(|_, until| now < *until);
        match self.sweep_from {
            Some(from) if from.after(SWEEP_MS) <= now => {
                self.sweep_from = Some(from.after(SWEEP_EVERY_MS).max(now));
                false
            }
            Some(from) => from <= now,
            None => false,
        }
    }
}

/// What is done with one offer.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) agent: AgentId,
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) releases: Vec<VolumeId>,
}

impl Use {
    pub(super) const fn of(agent: AgentId) -> Self {
        Self { agent, tasks: BTreeSet::new(), releases: Vec::new() }
    }
}

/// What a volume is.
enum Owner {
    /// Nobody's: its member is gone, durably.
    Nobody,
    /// A resting member's.
    Resting(ClusterName, MemberId),
    /// Nobody's as soon as its cluster has enough complete copies without it.
    Awaited,
    /// In use, on its way to be, or not ours to judge.
    Other,
}

impl Fleet {
    /// Lets resting members return and releases what belongs to nobody. What that takes is taken out of the offers.
    pub(super) fn use_volumes(&mut self, now: Millis, offers: &mut [Offer]) -> BTreeMap<OfferId, Use> {
        let mut uses = BTreeMap::new();
        for offer in offers {
            for held in std::mem::take(&mut offer.held) {
                let owner = self.owner(now, &held);
                let task = match &owner {
                    Owner::Nobody => None,
                    Owner::Resting(name, member) if held.exists => self.bring_back(now, name, *member, offer, &held),
                    Owner::Awaited => {
                        self.look_later(now, held.volume);
                        continue;
                    }
                    Owner::Resting(..) | Owner::Other => continue,
                };
                if task.is_none() && !matches!(owner, Owner::Nobody) {
                    continue;
                }
                let entry = uses.entry(offer.id.clone()).or_insert_with(|| Use::of(offer.agent.clone()));
                match task {
                    Some(task) => drop(entry.tasks.insert(task)),
                    None => entry.releases.push(held.volume),
                }
            }
        }
        uses
    }

    fn owner(&self, now: Millis, held: &Held) -> Owner {
        let volume = &held.volume;
        let Ok((name, member)) = volume.parse() else { return Owner::Other };
        let left = self.left(now, &name, member);
        if left == Left::Member && self.slots.get(&name).is_some_and(|slot| slot.cluster.returning(volume).is_some()) {
            return Owner::Resting(name, member);
        }
        match left {
            Left::Deleted | Left::GivenUp => Owner::Nobody,
            Left::Awaited if !held.exists => Owner::Nobody, // there is nothing to wait for
            Left::Awaited => Owner::Awaited,
            Left::Kept | Left::NotSaved | Left::Member | Left::Newer | Left::NoRecord | Left::Damaged => Owner::Other,
        }
    }

    /// Runs a resting member again with what is held for it and what else it needs of the offer.
    fn bring_back(
        &mut self,
        now: Millis,
        name: &ClusterName,
        id: MemberId,
        offer: &mut Offer,
        held: &Held,
    ) -> Option<TaskId> {
        let slot = self.slots.get_mut(name)?;
        let state = slot.cluster.state();
        let member = state.members.get(&id)?;
        let needed = state.spec.resources.less(&held.resources);
        let Some(left) = offer.resources.checked_sub(&needed) else {
            let why = Refusal::lacks(&offer.resources, &needed)?;
            slot.cannot_return = Some(format!("member {id} can not return to its volume on {}: {why}", offer.host));
            return None;
        };
        let mut ports = offer.ports.clone();
        let own = member.endpoint.port;
        let port = if held.ports.contains(own) || ports.contains(own) {
            ports.remove(own);
            own
        } else {
            held.ports.clone().take(id.0).or_else(|| ports.take(id.0))?
        };
        (offer.resources, offer.ports) = (left, ports);
        let endpoint = Endpoint::new(&*offer.host, port);
        let placed =
            Placed { offer: offer.id.clone(), agent: offer.agent.clone(), endpoint, zone: member.zone.clone() };
        slot.cannot_return = None;
        slot.cluster.resume(now, id, placed);
        self.settle(name);
        self.task_of(name, id)
    }

    /// Looks for a volume again that could not be released yet.
    fn look_later(&mut self, now: Millis, volume: VolumeId) {
        self.releasing.volumes.insert(volume, now.after(RELEASE_MS));
    }

    /// A member with a volume is gone for good, durably: looks for its volume.
    pub(super) fn look_for(&mut self, volume: VolumeId) {
        self.releasing.volumes.insert(volume, self.now.after(RELEASE_MS));
        self.flow.wanted_more();
        self.ask_for_offers(self.now);
    }

    pub(super) fn on_volume(&mut self, now: Millis, volume: &VolumeId, outcome: VolumeOutcome) {
        if outcome == VolumeOutcome::Released {
            self.releasing.volumes.remove(volume);
            self.ask_for_offers(now);
        }
        let Ok((name, member)) = volume.parse() else { return };
        let kind = match outcome {
            VolumeOutcome::Made => return, // its member's task tells more
            VolumeOutcome::Released => EventKind::VolumeReleased { member },
            VolumeOutcome::Failed { reason } => EventKind::VolumeFailed { member, reason },
        };
        // Also of a cluster that is no more: whoever asked for it wants to know.
        let epoch = self.slots.get(&name).map_or(Epoch(0), |slot| slot.cluster.state().epoch);
        self.calls.push_back(super::Effect::Log(name, Event { at: now, epoch, kind }));
    }
}
