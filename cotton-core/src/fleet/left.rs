//! What members have left behind, and whether anybody may need it. Decided from durable state and what was heard lately,
//! in one place: for tasks that no record accounts for, for volumes found in offers, and for what a person wants removed.

use super::Fleet;
use super::slot::Slot;
use crate::{ClusterName, MemberId, Millis, VolumeId};
use serde::{Deserialize, Serialize};

/// What a member of that number is to its cluster, and so what has become of all that it left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Its cluster was deleted, durably.
    Deleted,
    /// It was given up, durably, and there are enough complete copies without it.
    GivenUp,
    /// It was given up, and what it had may still be needed.
    Awaited,
    /// It was given up, and its volume is kept, since it may hold what nobody else has.
    Kept,
    /// It is no member, and the latest change to its cluster is not durable yet.
    NotSaved,
    /// It is a member.
    Member,
    /// Its number is higher than any that its cluster's record knows.
    Newer,
    /// There is no record of such a cluster, and none that it was deleted.
    NoRecord,
    /// The record of its cluster is damaged.
    Damaged,
}

impl Left {
    /// Whether nobody needs what it left, durably.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Deleted | Self::GivenUp)
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deleted => "its cluster was deleted",
            Self::GivenUp => "its member was given up, and there are enough complete copies without it",
            Self::Awaited => "its member was given up, but its cluster has too few complete copies without it",
            Self::Kept => "it may hold transactions that nobody else has",
            Self::NotSaved => "the latest change to its cluster is not saved yet",
            Self::Member => "its member belongs to a cluster",
            Self::Newer => "it is newer than the record of its cluster",
            Self::NoRecord => "there is no record of its cluster, and none that it was deleted",
            Self::Damaged => "the record of its cluster is damaged",
        })
    }
}

/// Volumes without a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverVolumes {
    /// To be released as soon as they are offered and nobody needs them.
    pub awaited: Vec<VolumeId>,
    /// Kept, since they may hold what nobody else has.
    pub kept: Vec<VolumeId>,
}

impl Fleet {
    /// What has become of what a member left behind.
    pub fn left(&self, now: Millis, name: &ClusterName, member: MemberId) -> Left {
        if self.damaged.contains(name) {
            return Left::Damaged;
        }
        let slot = self.slots.get(name).filter(|slot| member >= slot.cluster.state().first_member);
        let Some(slot) = slot else {
            return if self.was_deleted(name, member) { Left::Deleted } else { Left::NoRecord };
        };
        let (cluster, state) = (&slot.cluster, slot.cluster.state());
        if state.members.contains_key(&member) {
            Left::Member
        } else if member >= state.next_member {
            Left::Newer
        } else if cluster.persisted() != cluster.revision() {
            Left::NotSaved
        } else if state.kept.contains(&member) {
            Left::Kept
        } else if state.deleting {
            Left::Deleted
        } else if !(state.opened || state.outdated) || cluster.can_spare_data(now) {
            Left::GivenUp // a cluster that never was open has no data to lose
        } else {
            Left::Awaited
        }
    }

    /// Looks at once for volumes that nobody needs, as is done now and then anyway, to release them.
    pub fn release_leftovers(&mut self, now: Millis) {
        self.now = now;
        self.releasing.look_now(now);
        self.flow.wanted_more();
        self.ask_for_offers(now);
    }

    /// Volumes without a member of which is known that they are there, or may be.
    pub fn leftover_volumes(&self) -> LeftoverVolumes {
        let kept = |slot: &Slot| {
            let state = slot.cluster.state();
            state.kept.iter().map(|member| VolumeId::of(state.name(), *member)).collect::<Vec<_>>()
        };
        let kept = self.slots.values().flat_map(|slot| kept(slot)).collect();
        LeftoverVolumes { awaited: self.releasing.volumes(), kept }
    }

    /// Whether that member's cluster was deleted, durably.
    pub(super) fn was_deleted(&self, name: &ClusterName, member: MemberId) -> bool {
        self.state.was_deleted(name, member) && self.persisted == self.revision
    }
}
