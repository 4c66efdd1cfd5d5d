//! Keeping track of who may have acknowledged a commit that nobody else has.
//!
//! A server start enters `State::ackers` before it is told to follow, and durably so. It leaves when it can
//! acknowledge no more (it ended, restarted, or detached) *and* what it may have acknowledged is elsewhere: the primary
//! is asked for its position after that, and as many other ackers as a commit needs must have it.
//!
//! Who was not seen frozen when the next primary was decided may go on following the old one, and is kept in
//! `State::strays` in case that one leads again.

use super::state::Acker;
use super::{Cluster, Effect};
use crate::protocol::{MemberRole, Stage, ToExecutor};
use crate::{Durability, GtidSet, MemberId, Millis};
use std::collections::{BTreeMap, BTreeSet};

/// Ackers that are to be forgotten once others have what they had.
#[derive(Debug)]
pub(super) struct Retirement {
    gone: BTreeSet<Acker>,
    nonce: u64,
    asked: Millis,
    mark: Option<GtidSet>,
    /// When the others were last asked how far they are.
    asked_others: Option<Millis>,
}

impl Cluster {
    /// A member that restarted its server follows again by itself: count the new start before it can matter.
    pub(super) fn observe_acker(&mut self, id: MemberId) {
        let Some(start) = self.observed.get(&id).and_then(|o| o.start(id)) else { return };
        let known = self.state.ackers.iter().any(|a| a.member == id);
        if known && !self.state.ackers.contains(&start) {
            self.change(|state| {
                state.ackers.insert(start);
            });
        }
    }

    /// Forgets starts of a member that have ended and never replicated, although they were told to: a start that found that
    /// the primary's logs do not reach back, and was copied over. No later start may be forgotten with them: it stands for
    /// itself from its first report on, and until then only an epoch keeps it from following in which nobody is primary yet.
    pub(super) fn forget_unattached(&mut self, id: MemberId) {
        let Some(report) = self.observed.get(&id).and_then(|o| o.report.as_ref()) else { return };
        let undecided = self.state.primary.is_none() && report.epoch == self.state.epoch;
        let forgotten = |a: &Acker| {
            let is_of_it = a.member == id && a.incarnation == report.incarnation;
            // Start 0 stands for the first one, while the executor has made none.
            let has_ended = a.boot == 0 || report.unattached.contains(&a.boot);
            is_of_it && has_ended && (a.boot < report.boot || undecided)
        };
        let gone: BTreeSet<Acker> = self.state.ackers.iter().copied().filter(forgotten).collect();
        if !gone.is_empty() {
            self.change(|state| state.ackers.retain(|a| !gone.contains(a)));
        }
    }

    /// Who follows primaries of the past, as far as is known, now that nobody is primary: who was told to and is not frozen.
    pub(super) fn strays(&self) -> BTreeMap<MemberId, BTreeSet<Acker>> {
        let epoch = self.state.epoch;
        let frozen = |id: &MemberId| {
            let report = self.observed.get(id).and_then(|observed| observed.report_in(epoch));
            report.is_some_and(|report| report.role == MemberRole::Frozen)
        };
        let mut strays = self.state.strays.clone();
        if let Some(primary) = self.state.last_primary {
            strays.entry(primary).or_default().extend(&self.state.ackers);
        }
        for starts in strays.values_mut() {
            starts.retain(|start| self.state.members.contains_key(&start.member) && !frozen(&start.member));
        }
        strays.retain(|primary, starts| self.state.members.contains_key(primary) && !starts.is_empty());
        strays
    }

    /// A member that is frozen in this epoch, or follows in it, follows no earlier primary any more.
    pub(super) fn forget_stray(&mut self, id: MemberId) {
        let epoch = self.state.epoch;
        let obeys = self.observed.get(&id).is_some_and(|observed| {
            let frozen = observed.report_in(epoch).is_some_and(|report| report.role == MemberRole::Frozen);
            frozen || observed.following(epoch) == Some(true)
        });
        let is_stray = self.state.strays.values().flatten().any(|start| start.member == id);
        if !(obeys && is_stray) {
            return;
        }
        self.change(|state| {
            for starts in state.strays.values_mut() {
                starts.retain(|start| start.member != id);
            }
            state.strays.retain(|_, starts| !starts.is_empty());
        });
    }

    /// Counts a member's present server start among those that may acknowledge.
    pub(super) fn count_acker(&mut self, id: MemberId) {
        let start = self.observed.get(&id).and_then(|o| o.start(id));
        if let Some(start) = start.filter(|start| !self.state.ackers.contains(start)) {
            self.change(|state| {
                state.ackers.insert(start);
            });
        }
    }

    /// Whether a member may still acknowledge, or hold what nobody else has.
    pub(super) fn is_acker(&self, id: MemberId) -> bool {
        self.state.ackers.iter().any(|a| a.member == id)
    }

    pub(super) fn reconcile_ackers(&mut self, now: Millis) {
        if self.state.spec.durability == Durability::Async || !self.is_open() {
            self.retirement = None;
            return;
        }
        let Some(primary) = self.state.primary else { return };
        let gone: BTreeSet<Acker> = self.state.ackers.iter().copied().filter(|a| self.can_not_acknowledge(a)).collect();
        if gone.is_empty() {
            self.retirement = None;
            return;
        }
        let resend = self.timing.resend_ms;
        let known = self.retirement.as_ref().is_some_and(|r| gone.is_subset(&r.gone));
        if !known {
            let nonce = self.ask_for_report(primary);
            self.retirement = Some(Box::new(Retirement { gone, nonce, asked: now, mark: None, asked_others: None }));
            return self.wake_at(now.after(resend));
        }
        let epoch = self.state.epoch;
        let report = self.observed.get(&primary).and_then(|o| o.report_in(epoch));
        let answer = report.map(|r| (r.echo, r.position.clone()));
        let Some(retirement) = &mut self.retirement else { return };
        if retirement.mark.is_none() {
            match answer {
                Some((echo, position)) if echo >= retirement.nonce => {
                    retirement.mark = Some(position);
                    retirement.asked_others = None;
                }
                _ if now.since(retirement.asked) >= resend => {
                    retirement.asked = now;
                    let nonce = self.ask_for_report(primary);
                    if let Some(retirement) = &mut self.retirement {
                        retirement.nonce = nonce;
                    }
                    return self.wake_at(now.after(resend));
                }
                _ => {
                    let at = retirement.asked.after(resend);
                    return self.wake_at(at);
                }
            }
        }
        let Some(Retirement { gone, mark: Some(mark), .. }) = self.retirement.as_deref() else { return };
        let has_it = |a: &&Acker| {
            let observed = self.observed.get(&a.member).filter(|o| o.start(a.member) == Some(**a));
            observed.and_then(|o| o.report_in(epoch)).is_some_and(|r| r.position.contains(mark))
        };
        let others = self.state.ackers.difference(gone).filter(has_it).count();
        if others >= self.state.spec.durability.acks() as usize {
            let gone = gone.clone();
            self.change(|state| state.ackers.retain(|a| !gone.contains(a)));
            self.retirement = None;
            return;
        }
        // Their usual reports would tell in a few seconds, but until then another loss could not be decided at once.
        let asked = self.retirement.as_ref().and_then(|r| r.asked_others);
        let due = asked.map_or(now, |at| at.after(resend));
        if now < due {
            return self.wake_at(due);
        }
        self.ask_ackers();
        if let Some(retirement) = &mut self.retirement {
            retirement.asked_others = Some(now);
        }
        self.wake_at(now.after(resend));
    }

    /// Asks those that may acknowledge how far they are.
    fn ask_ackers(&mut self) {
        let members: BTreeSet<MemberId> = self.state.ackers.iter().map(|a| a.member).collect();
        for member in members {
            self.ask_for_report(member);
        }
    }

    /// Sends a member a number that its next reports will echo, and asks for one at once.
    pub(super) fn ask_for_report(&mut self, member: MemberId) -> u64 {
        self.nonce += 1;
        let nonce = self.nonce;
        // Answers no report: it must not renew a lease, whose end may have been waited for already.
        let ask = ToExecutor::Heard { incarnation: 0, seq: 0, nonce, report_now: true, others: 0 };
        self.effects.retain(|(_, queued)| {
            let asks = matches!(queued, Effect::Send { message: ToExecutor::Heard { report_now: true, .. }, .. });
            !asks || queued.member() != Some(member) // the later question asks for all that the earlier one did
        });
        self.send(member, ask);
        nonce
    }

    /// Answers a report of an asynchronous primary, which renews its lease.
    pub(super) fn answer_report(&mut self, now: Millis, member: MemberId) {
        self.tell_accounts(member);
        let leased = self.state.spec.durability == Durability::Async && self.state.primary == Some(member);
        let report = self.observed.get(&member).and_then(|o| o.report_in(self.state.epoch));
        let Some((incarnation, seq)) = report.filter(|_| leased).map(|r| (r.incarnation, r.seq)) else { return };
        let nonce = self.nonce;
        if let Some(observed) = self.observed.get_mut(&member) {
            observed.lease_renewed = Some(now);
        }
        let others = u32::try_from(self.state.members.len()).unwrap_or(u32::MAX).saturating_sub(1);
        self.send(member, ToExecutor::Heard { incarnation, seq, nonce, report_now: false, others });
    }

    pub(super) fn send(&mut self, member: MemberId, message: ToExecutor) {
        if let Some(agent) = self.state.members.get(&member).map(|m| m.agent.clone()) {
            self.want(Effect::Send { member, agent, message });
        }
    }

    fn can_not_acknowledge(&self, acker: &Acker) -> bool {
        if !self.has_task(acker.member) {
            return true;
        }
        let Some(observed) = self.observed.get(&acker.member) else { return false };
        let Some(start) = observed.start(acker.member) else { return false };
        let detached = |r: &crate::protocol::Report| r.role == MemberRole::Frozen && r.stage == Some(Stage::Detach);
        start > *acker || observed.report_in(self.state.epoch).is_some_and(detached)
    }
}
