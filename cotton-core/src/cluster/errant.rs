//! Transactions that a replica has and the primary lacks, seen while all is well: somebody wrote on the replica. No client
//! of the primary was ever told that they are done. They decide no election; the member is replaced by a fresh copy, and goes on
//! to acknowledge until another one can. A replica's report may be newer than the primary's, so what looks like
//! that counts only when the primary, asked afterwards, still lacks it.

use super::Cluster;
use super::event::EventKind;
use super::observed::Observed;
use super::state::{Leaving, Member};
use crate::protocol::Trouble;
use crate::{GtidSet, MemberId, Millis};
use std::collections::BTreeSet;

/// What a replica has beyond the primary.
#[derive(Clone, Debug)]
pub(super) struct Errant {
    gtids: GtidSet,
    /// What the primary was asked about it.
    nonce: Option<u64>,
    confirmed: bool,
}

impl Cluster {
    /// Compares after a report: of the primary with all, of a replica with that one.
    pub(super) fn observe_errant(&mut self, now: Millis, id: MemberId) {
        let epoch = self.state.epoch;
        let Some(primary) = self.state.primary.filter(|_| self.is_open()) else { return };
        let report = self.observed.get(&primary).and_then(|o| o.report_in(epoch));
        let Some((echo, has)) = report.map(|report| (report.echo, report.position.clone())) else { return };
        let members: Vec<MemberId> =
            if id == primary { self.observed.keys().copied().filter(|id| *id != primary).collect() } else { vec![id] };
        for member in members {
            self.compare(now, member, (primary, id == primary), echo, &has);
        }
    }

    fn compare(&mut self, now: Millis, id: MemberId, asked: (MemberId, bool), echo: u64, has: &GtidSet) {
        let (primary, is_answer) = asked;
        let epoch = self.state.epoch;
        let Some(observed) = self.observed.get_mut(&id) else { return };
        let follows = observed.following(epoch).is_some();
        let position = observed.report_in(epoch).filter(|_| follows).map(|report| report.position.clone());
        let Some(beyond) = position.and_then(|position| position.errant_against(has)) else {
            observed.errant = None;
            return;
        };
        let Some(known) = observed.errant.as_deref().cloned() else {
            observed.errant = Some(Box::new(Errant { gtids: beyond, nonce: None, confirmed: false }));
            return;
        };
        let Some(left) = known.gtids.errant_against(has) else {
            // that was on its way; what else is beyond is judged anew
            observed.errant = Some(Box::new(Errant { gtids: beyond, nonce: None, confirmed: false }));
            return;
        };
        let answered = known.nonce.is_some_and(|nonce| echo >= nonce);
        if !known.confirmed && answered {
            observed.errant = Some(Box::new(Errant { gtids: left.clone(), nonce: None, confirmed: true }));
            self.log(now, EventKind::ErrantSeen { member: id, gtids: left.to_string() });
        } else if !known.confirmed && is_answer {
            let nonce = self.ask_for_report(primary);
            if let Some(errant) = self.observed.get_mut(&id).and_then(|o| o.errant.as_mut()) {
                errant.nonce.get_or_insert(nonce); // an answer to the first question is as good
            }
        }
    }

    /// Replaces replicas with errant transactions and former primaries whose binary log is damaged, one after another: first
    /// those that do not follow because of them (`refused`), which nobody misses; then those that follow.
    pub(super) fn leave_errant(&mut self, now: Millis, refused: &BTreeSet<MemberId>) {
        let replaced =
            |(id, member): &(&MemberId, &Member)| member.leaving.is_some() && !self.is_away(now, **id, member);
        let mut leaving = self.state.members.iter().filter(replaced);
        // One that stays until another one is complete may wait for the place of one that does not follow.
        let waits = |(id, member): (&MemberId, &Member)| !refused.is_empty() && self.is_needed(*id, member);
        if !self.is_open_for_sure(now) || !leaving.all(waits) {
            return;
        }
        // Another one that is being made a copy may need what is left of this one's time and place; it is done soon. One that
        // cannot apply never is, and waits for this one itself.
        let is_broken = |id| matches!(self.observed.get(&id).and_then(|o| o.trouble()), Some(Trouble::Broken { .. }));
        let is_there = |(id, member): (MemberId, &Member)| {
            let joined = member.joined && !member.resting;
            refused.contains(&id) || self.state.primary == Some(id) || joined || is_broken(id)
        };
        if !self.state.staying().all(is_there) {
            return;
        }
        let enough = self.state.staying().count() >= self.state.spec.size as usize;
        let why = |(id, member): (MemberId, &Member)| match (self.errant(id), member.damaged) {
            (Some(_), _) => Some((id, Leaving::Errant)),
            (None, true) => Some((id, Leaving::Damaged)),
            (None, false) => None,
        };
        let is_replica = |(id, _): &(MemberId, &Member)| self.state.primary != Some(*id);
        let follows = self.state.staying().filter(is_replica).find_map(why).filter(|_| enough);
        if let Some((next, why)) = refused.first().map(|id| (*id, Leaving::Errant)).or(follows) {
            self.leave(now, &BTreeSet::from([next]), why);
        }
    }

    /// Whether a member that is to be replaced goes on for now, since nobody could stand in for it.
    pub(super) fn is_needed(&self, id: MemberId, member: &Member) -> bool {
        if self.ends(id) {
            return false;
        }
        let any = |_: &Observed| true;
        let applies = |other: &Observed| !matches!(other.trouble(), Some(Trouble::Broken { .. }));
        match member.leaving {
            Some(Leaving::Errant) => self.acknowledges_alone(id),
            Some(Leaving::Damaged | Leaving::Rebuild) => {
                self.acknowledges_alone(id) || self.may_be_second_copy(id, member, any)
            }
            Some(Leaving::Unstable) => self.may_be_second_copy(id, member, any),
            // Of several that cannot apply, the primary has what they lack.
            Some(Leaving::Broken) => {
                self.may_be_second_copy(id, member, applies) || self.receives_alone(id) && self.has_successor(id)
            }
            // As long as its server runs, the files that it has open are a copy.
            Some(Leaving::DataGone) => {
                let runs = |o: &Observed| o.report.as_ref().is_some_and(|report| report.role.is_up());
                self.observed.get(&id).is_some_and(|observed| runs(observed))
                    && (self.acknowledges_alone(id)
                        || self.may_be_second_copy(id, member, any) && self.has_successor(id))
            }
            Some(Leaving::ScaleDown | Leaving::Unreachable | Leaving::Stuck | Leaving::Missing | Leaving::Deleted)
            | None => false,
        }
    }

    /// Whether a member follows, and no other replica could acknowledge in its stead. Without acknowledgements, it is the
    /// only other copy.
    fn acknowledges_alone(&self, id: MemberId) -> bool {
        let follows = self.observed.get(&id).and_then(|o| o.following(self.state.epoch)) == Some(true);
        if !follows || self.state.spec.size <= 1 {
            return false; // where no replica is wanted, none will take its place
        }
        let others = self.state.staying().filter(|(other, _)| self.state.primary != Some(*other));
        let complete = others.filter(|(other, _)| self.is_complete_now(self.looked_at, *other)).count();
        complete < self.state.spec.durability.acks().max(1) as usize
    }

    /// Whether a member follows and acknowledges what it receives, and without it not enough others would. It is not
    /// connected for a moment whenever it tries again.
    fn receives_alone(&self, id: MemberId) -> bool {
        let follows = |id: &MemberId| self.observed.get(id).and_then(|o| o.following(self.state.epoch));
        let others = self.state.members.keys().filter(|other| **other != id && follows(other) == Some(true)).count();
        follows(&id).is_some() && others < self.state.spec.durability.acks() as usize
    }

    /// Whether another member takes its place, or there was hardly time for one to be placed: where there is no room beside
    /// it, it gives its own up.
    fn has_successor(&self, id: MemberId) -> bool {
        let since = self.observed.get(&id).and_then(|observed| observed.to_leave_since).unwrap_or(self.looked_at);
        let is_placed = self.state.staying().count() >= self.state.spec.size as usize;
        is_placed || self.looked_at < since.after(self.timing.unreachable_ms)
    }

    /// Whether what a member has may be needed beside the primary's copy: no other complete one is there, and a replica that
    /// was one fails, too (`counts`), perhaps as the primary will.
    fn may_be_second_copy(&self, id: MemberId, member: &Member, counts: impl Fn(&Observed) -> bool) -> bool {
        let fails = |(other, it): (MemberId, &Member)| {
            let replica = other != id && self.state.primary != Some(other) && it.joined;
            replica
                && !self.is_complete_now(self.looked_at, other)
                && self.observed.get(&other).is_some_and(|o| counts(o))
        };
        member.joined && self.complete_now(self.looked_at) < 2 && self.state.staying().any(fails)
    }

    /// What a replica certainly has and the primary certainly lacks.
    pub(super) fn errant(&self, id: MemberId) -> Option<&GtidSet> {
        let errant = self.observed.get(&id)?.errant.as_deref()?;
        errant.confirmed.then_some(&errant.gtids)
    }
}
