//! Members whose data is on a persistent volume: when their task ends, they stay, and are run again where the volume is.
//!
//! Such a member *rests* between two tasks. To its cluster that is the restart of a server that takes a little longer: it
//! keeps its number, its place among the witnesses, and its data; only its task is another one. A resting member that is
//! given up leaves like any other, and then its volume is released, as soon as that is durable.

use super::event::EventKind;
use super::levers::{AcceptedLoss, LeverError};
use super::observed::Observed;
use super::state::{Leaving, Member};
use super::{Cluster, Effect, Placed};
use crate::{MemberId, Millis, Preference, VolumeId};
use std::collections::{BTreeSet, VecDeque};

/// Most volumes that are kept of members that are gone; then the oldest is released.
const KEPT_MAX: usize = 2;

/// Why nothing can be released where nothing is kept.
pub(super) const NOTHING_KEPT: &str = "the cluster keeps no volumes of members that it no longer has: nothing to prune";

impl Cluster {
    /// Places the next member, like [`Cluster::place`], with its data on a volume that is made for it.
    ///
    /// # Panics
    /// When no member is wanted: see [`Cluster::wanted`].
    pub fn place_on_volume(&mut self, now: Millis, placed: Placed) -> MemberId {
        self.place_new(now, placed, true)
    }

    /// The member that shall be run again on this volume, if it is one of a member that rests.
    pub fn returning(&self, volume: &VolumeId) -> Option<MemberId> {
        let (cluster, id) = volume.parse().ok()?;
        if cluster != *self.name() || self.state.deleting || self.state.paused || self.relaunch.is_held(id) {
            return None;
        }
        let member = self.state.members.get(&id)?;
        (member.resting && self.may_return(id, member)).then_some(id)
    }

    /// Whether a resting member is to be run again. While there is no primary, also one that is to leave: the election may
    /// wait for what it has.
    fn may_return(&self, id: MemberId, member: &Member) -> bool {
        let needed = self.state.opened && self.state.primary.is_none();
        member.leaving.is_none() || needed || self.is_spared(id, member)
    }

    /// Runs a resting member again, where its volume is; its launch comes out as an effect once that is durable.
    ///
    /// # Panics
    /// When that member does not rest: see [`Cluster::returning`].
    pub fn resume(&mut self, now: Millis, id: MemberId, placed: Placed) {
        let Placed { offer, agent, endpoint, zone } = placed;
        let mut task = None;
        self.change(|state| {
            let member = state.members.get_mut(&id).filter(|member| member.resting).expect("only who rests returns");
            (member.agent, member.endpoint, member.zone) = (agent.clone(), endpoint, zone);
            member.resting = false; // one that is given up is taken back when it is heard of, not before
            member.run += 1;
            task = Some(member.clone());
        });
        let missed_since = self.observed.get(&id).and_then(|observed| observed.missed_since);
        self.observed.insert(id, Box::new(Observed { missed_since, ..Observed::new(now) }));
        self.log(now, EventKind::Launching { member: id, agent: agent.clone() });
        if let Some(member) = task {
            let task = Box::new(self.task(id, &member));
            self.want(Effect::Launch { offer, agent, task });
        }
        self.reconcile(now);
    }

    /// The last task of a resting member says that it runs: that it had ended was wrong, as after a master that has lost its
    /// memory. It goes on.
    pub(crate) fn take_up(&mut self, now: Millis, id: MemberId, run: u32) -> bool {
        let is_it = |member: &Member| member.resting && member.run == run;
        if self.state.deleting || !self.state.members.get(&id).is_some_and(is_it) {
            return false;
        }
        self.change(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.resting = false;
            }
        });
        self.observed.insert(id, Box::new(Observed::new(now)));
        self.log(now, EventKind::TakenBack { member: id });
        true
    }

    /// A member that had a volume is gone: releases that, or keeps it while it may hold what nobody else has.
    pub(super) fn let_go_of_volume(&mut self, id: MemberId, gone: &Member) {
        let suspicious = (gone.may_hold_data()
            && matches!(gone.leaving, Some(Leaving::Errant | Leaving::Damaged | Leaving::Unstable | Leaving::Broken)))
            || self.state.paused;
        let left_behind = self.is_left_behind(gone);
        // One that probably holds nothing else does not push out one that certainly does.
        // What was not found may be there again, as when a disk was not mounted.
        let rebuilt = gone.may_hold_data() && matches!(gone.leaving, Some(Leaving::Rebuild | Leaving::DataGone));
        let others = self.state.kept.iter().filter(|other| !self.state.left_behind.contains(other)).count();
        let doubtful = others < KEPT_MAX && (rebuilt || self.is_uncompared(gone));
        if self.state.deleting || !(suspicious || doubtful || left_behind) {
            return self.want(Effect::Release { member: id });
        }
        self.change(|state| {
            if !state.kept.contains(&id) {
                state.kept.push_back(id);
            }
            if left_behind {
                state.left_behind.insert(id);
            }
        });
    }

    /// Releases the oldest of the volumes that are kept, when there are many and nobody can need it.
    pub(super) fn release_surplus(&mut self, now: Millis) {
        loop {
            let mut surplus = self.state.kept.iter().filter(|id| !self.state.left_behind.contains(*id));
            let oldest = surplus.next().copied().filter(|_| surplus.count() >= KEPT_MAX);
            let Some(member) = oldest.filter(|_| self.can_spare_data(now)) else { return };
            self.change(|state| state.kept.retain(|id| *id != member));
            self.want(Effect::Release { member });
        }
    }

    /// Releases all volumes that are kept, as a person has decided.
    pub(super) fn release_all_kept(&mut self, now: Millis, accepted: &AcceptedLoss) -> Result<(), LeverError> {
        let members: Vec<MemberId> = self.state.kept.iter().copied().collect();
        self.why_not_released(now).map_or(Ok(()), Err)?;
        accepted.covers(LeverError::ReleaseNotAccepted(members.clone()))?;
        self.release_kept();
        self.log(now, EventKind::KeptReleased { members });
        self.reconcile(now);
        Ok(())
    }

    /// Why the volumes that are kept stay for now.
    pub(super) fn why_not_released(&self, now: Millis) -> Option<LeverError> {
        if self.state.paused {
            Some(LeverError::Paused)
        } else if self.state.kept.is_empty() {
            Some(LeverError::CannotRelease(NOTHING_KEPT))
        } else if !self.can_spare_data(now) {
            let why = "the kept volumes may be needed as long as no primary is open, or a member is not a complete copy; try again then";
            Some(LeverError::CannotRelease(why))
        } else {
            None
        }
    }

    /// Whether a member may hold acknowledged commits that the primary lacks: elections may have left some behind, and it
    /// was not seen to replicate from the primary since.
    fn is_uncompared(&self, member: &Member) -> bool {
        let spec = &self.state.spec;
        let may_lack = spec.durability.acks() == 0 || spec.preference == Preference::Availability;
        may_lack && member.joined && member.attached < self.state.last_epoch
    }

    /// Whether a member may hold what was lost when a person chose another one as primary, and was told that it would be.
    fn is_left_behind(&self, member: &Member) -> bool {
        member.may_hold_data() && self.state.forced.is_some_and(|epoch| member.attached < epoch)
    }

    /// Releases everything that was kept.
    pub(super) fn release_kept(&mut self) {
        if self.state.kept.is_empty() {
            return;
        }
        let mut kept = VecDeque::new();
        self.change(|state| {
            kept = std::mem::take(&mut state.kept);
            state.left_behind.clear();
        });
        for member in kept {
            self.want(Effect::Release { member });
        }
    }

    /// How many members wait to be run again.
    pub(crate) fn returning_count(&self) -> u32 {
        if self.state.deleting || self.state.paused {
            return 0;
        }
        let returns = |(id, member): &(&MemberId, &Member)| {
            member.resting && !self.relaunch.is_held(**id) && self.may_return(**id, member)
        };
        let resting = self.state.members.iter().filter(returns).count();
        u32::try_from(resting).unwrap_or(u32::MAX)
    }

    /// Which run of a member its task is; `None` when it has none.
    pub(crate) fn run_of(&self, id: MemberId) -> Option<u32> {
        self.state.members.get(&id).filter(|member| !member.resting).map(|member| member.run)
    }

    /// Whether a member has a task, as far as is known.
    pub(super) fn has_task(&self, id: MemberId) -> bool {
        self.run_of(id).is_some()
    }

    /// Whether a member whose task has ended shall come back: its data outlives the task, and is worth it.
    pub(super) fn shall_return(&self, now: Millis, id: MemberId, member: &Member) -> bool {
        if !member.volume || !self.state.opened || self.state.deleting {
            return false;
        }
        // While there is no primary, everything that ever ran may be needed, be it by a person.
        let ran = member.run > 0 || self.observed.get(&id).is_some_and(|observed| observed.report.is_some());
        let complete = member.joined || self.state.witnesses.contains(&id);
        (complete && (member.leaving.is_none() || self.is_spared(id, member)))
            || (ran && (member.leaving.is_some() || !self.is_open_for_sure(now)))
    }

    /// A member's task has ended, and its data is still there.
    pub(super) fn rest(&mut self, now: Millis, id: MemberId, reason: String) {
        let missed_since = self.observed.get(&id).and_then(|observed| observed.missed_since).or(Some(now));
        self.observed.insert(id, Box::new(Observed { missed_since, ..Observed::new(now) }));
        self.effects.retain(|(_, effect)| effect.member() != Some(id));
        self.change(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.resting = true;
                if member.leaving == Some(Leaving::Unreachable) {
                    member.leaving = Some(Leaving::Missing);
                }
            }
        });
        self.log(now, EventKind::Resting { member: id, reason });
    }

    /// Gives up members whose volumes have not come back for too long; while there is no primary, their data may be
    /// needed, and nobody else may have it.
    pub(super) fn leave_missing(&mut self, now: Millis) {
        if !self.is_open_for_sure(now) {
            return;
        }
        let (mut missing, mut wake) = (BTreeSet::new(), None);
        for (id, _) in self.state.staying().filter(|(_, member)| member.resting) {
            // A scheduler that has just started has missed nobody yet.
            let observed = self.observed.entry(id).or_insert_with(|| Box::new(Observed::new(now)));
            let due = observed.missed_since.get_or_insert(now).after(self.timing.return_ms);
            if now >= due {
                missing.insert(id);
            } else {
                wake = crate::time::earliest(wake, Some(due));
            }
        }
        self.timeout = crate::time::earliest(self.timeout, wake);
        self.leave(now, &missing, Leaving::Missing);
    }
}
