//! An election that waits, decided by a person, who is told first what may be lost by it.
//!
//! The structure is that of any election: it is decided in an epoch of its own, which all members that can be reached have
//! obeyed before, and which fences the others when they are back. A replica with data that the winner lacks never follows it:
//! it is replaced, and what it has is kept. A former primary may drop the end of its own before it follows; a MariaDB server
//! does, and keeps a copy of it beside its data, as after any failover.

use super::Cluster;
use super::event::EventKind;
use super::levers::{AcceptedLoss, LeverError};
use crate::protocol::MemberRole;
use crate::{Durability, GtidSet, MemberId, Millis};
use std::collections::BTreeSet;

impl Cluster {
    /// Makes `to` the primary, whatever others may have.
    pub(super) fn force(&mut self, now: Millis, to: MemberId, accepted: &AcceptedLoss) -> Result<(), LeverError> {
        let loss = self.loss_if_elected(now, to)?;
        let stuck = self.why_needs_a_person(now)?;
        accepted.covers(LeverError::LossNotAccepted { member: to, loss: loss.clone() })?;
        self.log(now, EventKind::ElectionForced { member: to, loss });
        if stuck == Stuck::Primary {
            self.begin_election(now, "a person has decided that another member takes its place");
        }
        if let Some(election) = &mut self.election {
            election.forced = Some(to);
        }
        self.end_cooldown(now);
        self.reconcile(now);
        Ok(())
    }

    /// What may be lost if a person makes `to` the primary.
    pub(super) fn loss_if_elected(&self, now: Millis, to: MemberId) -> Result<String, LeverError> {
        if self.state.paused {
            return Err(LeverError::Paused);
        }
        if !self.state.members.contains_key(&to) {
            return Err(LeverError::NoMember(to));
        }
        self.why_needs_a_person(now)?;
        match self.why_not_electable(now, to) {
            Some(why) => Err(LeverError::CannotElect { member: to, why }),
            None => Ok(self.loss(now, to)),
        }
    }

    /// Decides as a person has, once that member is frozen. What was accepted is what would be lost then, not hours later:
    /// when the election's deadline comes first, the decision is void.
    pub(super) fn decide_as_told(&mut self, now: Millis) -> bool {
        let forced = self.election.as_ref().and_then(|election| Some((election.forced?, election.deadline)));
        let Some((to, deadline)) = forced else { return false };
        let ballot = self.ballots(now).into_iter().find(|ballot| ballot.member == to);
        let Some(ballot) = ballot else {
            if let Some(election) = self.election.as_mut().filter(|_| now >= deadline) {
                election.forced = None;
                let reason =
                    format!("member {to}, which a person has chosen, did not stop receiving in time: choose again");
                self.log(now, EventKind::ElectionWaits { reason });
            }
            return false;
        };
        self.appoint(now, to, ballot.position);
        self.change(|state| state.forced = Some(state.epoch));
        true
    }

    /// Whether the one that a person has chosen is about to be frozen. Nobody else is chosen meanwhile.
    pub(super) fn awaits_forced(&mut self, now: Millis) -> bool {
        let Some((to, deadline)) = self.election.as_ref().and_then(|e| Some((e.forced?, e.deadline))) else {
            return false;
        };
        self.wake_at(deadline);
        let observed = self.observed.get(&to).filter(|observed| observed.silent_ms(now) < self.timing.silence_ms);
        self.has_task(to) && observed.and_then(|o| o.report.as_ref()).is_some_and(|report| report.role.is_up())
    }

    /// Whether the cluster cannot help itself.
    fn why_needs_a_person(&self, now: Millis) -> Result<Stuck, LeverError> {
        let refuse = |why: String| Err(LeverError::NoElection(why));
        let Some(primary) = self.state.primary else {
            return match self.election_waits(now) {
                Some(_) => Ok(Stuck::Election),
                None if !self.state.opened => refuse("the cluster never had a primary: the first member is".to_owned()),
                None => Err(LeverError::UnderWay("an election")),
            };
        };
        let attached = self.state.members.get(&primary).is_some_and(|member| member.attached == self.state.epoch);
        let opening = !self.is_open() && self.state.turn == 0 && !attached;
        let since = now.since(self.appointed_at);
        let silent = self.observed.get(&primary).is_none_or(|o| o.silent_ms(now) >= self.timing.silence_ms);
        if opening && since < self.timing.restart_grace_ms {
            Err(LeverError::UnderWay("a promotion"))
        } else if opening || silent {
            Ok(Stuck::Primary)
        } else {
            refuse(format!("member {primary} is the primary: use 'cotton switchover'"))
        }
    }

    /// Why a member cannot be made primary, whatever is accepted.
    fn why_not_electable(&self, now: Millis, to: MemberId) -> Option<String> {
        if self.state.primary == Some(to) {
            return Some("it was chosen already, and is to open".to_owned());
        }
        let observed = self.observed.get(&to)?;
        let report = observed.report.as_ref();
        let position = report.map(|report| &report.position);
        if report.is_none() || observed.silent_ms(now) >= self.timing.silence_ms {
            Some("it is not heard of".to_owned())
        } else if !report.is_some_and(|report| report.role.is_up()) {
            Some("its server does not run".to_owned())
        } else if self.state.primary.is_none() && !self.ballots(now).iter().any(|ballot| ballot.member == to) {
            Some("it has not stopped receiving yet: try again in a few seconds".to_owned())
        } else if position.is_some_and(GtidSet::is_empty) && !self.is_electable(to) {
            Some("it has no data".to_owned())
        } else {
            None
        }
    }

    /// What may be lost when that member becomes primary now, in words.
    fn loss(&self, now: Millis, to: MemberId) -> String {
        let mut losses = Vec::new();
        let position = self.observed.get(&to).and_then(|o| o.report.as_ref()).map(|r| r.position.clone());
        let position = position.unwrap_or_default();
        let open_once = self.state.witnesses.iter().chain(self.state.strays.keys()).chain(&self.state.last_primary);
        let open_once: BTreeSet<MemberId> = open_once.copied().filter(|old| *old != to).collect();
        for old in open_once.into_iter().filter(|old| self.may_still_write(*old)) {
            losses.push(format!(
                "member {old} was primary, is not known to have stopped, and may take writes until its server ends or hears \
                 of the new primary: until then two servers may take writes"
            ));
        }
        if !self.is_electable(to) {
            losses.push(format!("member {to} is no complete copy, and what it lacks is not known"));
        }
        if self.is_damaged(to) {
            losses.push(format!(
                "the binary log of member {to} is damaged: it may lack transactions that others have applied, and may hold \
                 some that nobody acknowledged"
            ));
        }
        for id in self.state.members.keys().filter(|id| **id != to) {
            losses.extend(self.loss_of(now, *id, to, &position));
        }
        let gone: BTreeSet<MemberId> = self.state.ackers.iter().map(|acker| acker.member).collect();
        for id in gone.into_iter().filter(|id| !self.state.members.contains_key(id)) {
            losses.push(format!("member {id}, which is gone, may have acknowledged commits that nobody else has"));
        }
        if let Some(gtids) = self.state.floor.errant_against(&position) {
            losses.push(format!("of commits that were acknowledged before, member {to} lacks {gtids}"));
        }
        if self.state.outdated {
            losses.push("the stored record is older than the cluster, and does not know who has what".to_owned());
        }
        if losses.is_empty() { "nothing, as far as is known".to_owned() } else { losses.join("; ") }
    }

    /// What a member has, or may have, beyond the one that is to be primary.
    fn loss_of(&self, now: Millis, id: MemberId, to: MemberId, position: &GtidSet) -> Option<String> {
        let observed = self.observed.get(&id);
        let report = observed.and_then(|observed| observed.report.as_ref());
        let beyond = report.and_then(|report| report.position.errant_against(position));
        let receives_nothing = |role: &MemberRole| matches!(role, MemberRole::Frozen | MemberRole::Promoting);
        let frozen = observed.filter(|observed| observed.silent_ms(now) < self.timing.silence_ms);
        let frozen = frozen.and_then(|observed| observed.report_in(self.state.epoch));
        let frozen = frozen.is_some_and(|report| receives_nothing(&report.role));
        let silent = observed.filter(|observed| observed.report.is_some()).map(|observed| observed.silent_ms(now));
        let known = self.state.members.get(&id).is_some_and(|member| member.joined || member.received.is_some())
            || self.state.witnesses.contains(&id)
            || self.is_acker(id);
        match (beyond, silent) {
            (Some(gtids), _) if frozen => Some(format!("member {id} has {gtids}, which member {to} lacks")),
            (None, _) if frozen => None,
            (Some(gtids), Some(ms)) => Some(format!(
                "member {id} had {gtids}, which member {to} lacks, when it was last heard of {} s ago, and may have more",
                ms / 1_000
            )),
            (None, Some(ms)) if known => Some(format!(
                "what member {id} has received is not known: it was last heard of {} s ago, and had nothing that member {to} \
                 lacks then",
                ms / 1_000
            )),
            (_, None) if known => {
                let since = "it has not been heard of since the scheduler was started";
                Some(format!("what member {id} has received is not known: {since}"))
            }
            _ => None,
        }
    }

    /// Whether a former primary may be open: without acknowledgements while it is not known to be closed, with them as long
    /// as somebody may be giving them.
    fn may_still_write(&self, old: MemberId) -> bool {
        if self.is_frozen_or_gone(Some(old)) {
            return false;
        }
        let epoch = self.state.epoch;
        let obeys = |id: MemberId| self.observed.get(&id).is_some_and(|o| o.report_in(epoch).is_some());
        let none = BTreeSet::new();
        let ackers = match self.state.last_primary {
            Some(last) if last == old => &self.state.ackers,
            _ => self.state.strays.get(&old).unwrap_or(&none),
        };
        self.state.spec.durability == Durability::Async
            || ackers.iter().any(|acker| self.has_task(acker.member) && !obeys(acker.member))
    }
}

/// Where the cluster cannot go on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    /// Nobody can be chosen.
    Election,
    /// The one that was chosen does not open, or the primary is not heard of.
    Primary,
}
