//! A record that was found to be older than the world, such as one that was restored from a copy of yesterday.
//!
//! What it says of who has acknowledged what, who has everything and who may go is not to be trusted. So nothing is killed,
//! and nobody new is made; a primary is elected only when all members are frozen, and only one that has all that any of
//! them has. Once it is open, the record is right again.

use super::observed::Observed;
use super::state::{Acker, Member, State};
use super::{Cluster, Timing};
use crate::election::{self, MemberList, Rules, Undecided};
use crate::protocol::MemberRole;
use crate::{Epoch, GtidSet, MemberId, Millis};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Cluster {
    /// A cluster whose record was made again, from what its members know. Its first checkpoint is due at once.
    pub(crate) fn adopt(timing: impl Into<Arc<Timing>>, state: State, nonce: u64, now: Millis) -> Self {
        let mut this = Self::recover(timing, state, nonce, now);
        this.change(|_| {});
        this
    }

    /// Adds members that run and that the record does not know, or knows an earlier run of. They may have acknowledged, in
    /// these starts of their servers, what the present primary has.
    pub(crate) fn add(&mut self, now: Millis, members: BTreeMap<MemberId, Member>, starts: BTreeSet<Acker>) {
        for id in members.keys() {
            self.observed.insert(*id, Box::new(Observed::new(now)));
        }
        self.change(|state| {
            state.distrust();
            state.ackers.extend(starts.into_iter().filter(|start| state.primary != Some(start.member)));
            for (id, member) in members {
                state.next_member = state.next_member.max(id.next());
                state.members.insert(id, member);
            }
            // Whoever adopts a member wants it: how many were wanted before is as old as the rest of the record.
            state.spec.size = state.spec.size.max(u32::try_from(state.staying().count()).unwrap_or(u32::MAX));
        });
    }

    /// Numbers below this one were used.
    pub(crate) fn pass(&mut self, next: MemberId) {
        self.change(|state| state.next_member = state.next_member.max(next));
    }

    pub(super) fn on_outdated(&mut self, now: Millis, unknown: bool) {
        self.has_unknown = unknown;
        if unknown && !self.state.outdated && !self.state.deleting {
            self.change(State::distrust);
            self.drop_kills();
            let reason = "a task runs that it does not know".to_owned();
            self.log(now, super::event::EventKind::Outdated { reason });
        }
    }

    /// Whether a record under which a primary is open says what there is: all tasks that it does not know would have been
    /// heard of.
    pub(super) fn is_up_to_date(&mut self, now: Millis) -> bool {
        let due = self.watching_since.after(self.timing.unreachable_ms);
        if self.state.outdated && now < due {
            self.wake_at(due);
        }
        !self.has_unknown && now >= due
    }

    /// Decides an election under a record that cannot be trusted.
    pub(super) fn decide_outdated(&mut self, now: Millis) {
        if self.election.is_none() {
            return; // none is needed: its primary is open
        }
        match self.outdated_verdict(now) {
            Ok((winner, position)) => self.appoint(now, winner, position),
            Err(undecided) => self.wait(now, undecided),
        }
    }

    /// Who is to be elected under a record that cannot be trusted.
    pub(super) fn outdated_verdict(&self, now: Millis) -> Result<(MemberId, GtidSet), Undecided> {
        if self.has_unknown {
            return Err(Undecided::Unknown);
        }
        let epoch = self.state.epoch;
        let is_frozen = |id: &MemberId| {
            let observed = self.observed.get(id).filter(|observed| observed.silent_ms(now) < self.timing.silence_ms);
            let report = observed.and_then(|observed| observed.report_in(epoch));
            report.is_some_and(|report| report.role == MemberRole::Frozen)
        };
        let missing: BTreeSet<MemberId> = self.state.members.keys().copied().filter(|id| !is_frozen(id)).collect();
        if !missing.is_empty() {
            return Err(Undecided::Outdated(MemberList(missing)));
        }
        let mut ballots = self.ballots(now);
        for ballot in &mut ballots {
            // Whom they were attached to, and whether they are complete, may have changed since.
            (ballot.attached, ballot.joined) = (Epoch(0), true);
        }
        let (ackers, witnesses) = (BTreeSet::new(), BTreeSet::new());
        let rules =
            Rules { ackers: &ackers, acks: 0, floor: &GtidSet::Empty, witnesses: &witnesses, last: None, force: false };
        let winner = election::elect(&ballots, &rules)?;
        let position = ballots.into_iter().find(|b| b.member == winner).map(|b| b.position).unwrap_or_default();
        Ok((winner, position))
    }
}
