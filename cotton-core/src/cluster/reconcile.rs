//! The one place that decides: compares what is with what should be.

use super::event::EventKind;
use super::observed::Observed;
use super::state::{Leaving, Member};
use super::{Cluster, Effect};
use crate::protocol::{MemberRole, Stage, Trouble};
use crate::scaling::{self, Candidate};
use crate::{MemberId, Millis};
use std::collections::{BTreeMap, BTreeSet};

impl Cluster {
    pub(super) fn reconcile(&mut self, now: Millis) {
        self.timeout = None;
        self.looked_at = now;
        if self.state.deleting {
            return self.reconcile_deletion(now);
        }
        if let Some(until) = self.relaunch.reconcile(now) {
            self.wake_at(until);
        }
        if self.state.paused {
            return self.reconcile_paused(now);
        }
        self.forget_failovers(now);
        self.reconcile_primary(now);
        self.held = None;
        self.reconcile_joining(now);
        self.note_successes(now);
        self.reconcile_ackers(now);
        self.reconcile_size(now);
        self.release_surplus(now);
        self.direct(now);
        self.publish(now);
        self.reconcile_leaving(now);
        self.reconcile_applying(now);
        self.reconcile_blocked(now);
        self.reconcile_silence(now);
    }

    /// Takes the members out of the clients' sight and kills until nothing is left, then takes the cluster out of it; its
    /// record goes last.
    fn reconcile_deletion(&mut self, now: Millis) {
        self.election = None;
        self.switchover = None;
        if self.withdraw_sent.is_none() {
            self.show(None, BTreeMap::new());
        }
        let members: Vec<MemberId> = self.state.members.keys().copied().collect();
        for id in members {
            self.kill(now, id);
        }
        if !self.state.members.is_empty() || self.withdrawn {
            return;
        }
        self.release_kept();
        let retry = self.timing.kill_retry_ms;
        if self.withdraw_sent.is_none_or(|at| now.since(at) >= retry) {
            self.withdraw_sent = Some(now);
            self.want(Effect::Withdraw);
        }
        self.wake_at(now.after(retry));
    }

    /// Whether a member was away and is given up, but no other has taken its place yet: its copy of the data may be needed.
    pub(super) fn is_spared(&self, id: MemberId, member: &Member) -> bool {
        member.is_away() && member.joined && !self.ends(id) && !self.can_spare_data(self.looked_at)
    }

    /// Whether a member that is to leave is away, for whatever reason it leaves: its end would be waited for in vain.
    pub(super) fn is_away(&self, now: Millis, id: MemberId, member: &Member) -> bool {
        let unreachable_since = self.observed.get(&id).and_then(|observed| observed.unreachable_since);
        let unreachable = unreachable_since.is_some_and(|since| now >= since.after(self.timing.unreachable_ms));
        member.is_away() || (member.leaving.is_some() && unreachable)
    }

    /// Whether a member that is to leave stays what it is for now.
    pub(super) fn is_held(&self, id: MemberId, member: &Member) -> bool {
        self.is_spared(id, member) || self.is_needed(id, member)
    }

    /// Whether the end of a member was begun.
    pub(super) fn ends(&self, id: MemberId) -> bool {
        self.is_detached(id) || self.observed.get(&id).is_some_and(|observed| observed.killed_at.is_some())
    }

    /// Whether a member was told to stop receiving, after which it follows nobody in this epoch.
    fn is_detached(&self, id: MemberId) -> bool {
        let epoch = self.state.epoch;
        self.observed.get(&id).is_some_and(|observed| {
            let told = observed.sent.is_some_and(|(rank, _)| rank == (epoch, Stage::Detach));
            told || observed.report_in(epoch).is_some_and(|report| report.stage == Some(Stage::Detach))
        })
    }

    /// Those stay that are heard of again in time. If others were begun in their place, the cluster is too large then.
    fn welcome_back(&mut self, now: Millis) {
        let back = |(id, member): (&MemberId, &Member)| {
            let observed = self.observed.get(id).filter(|_| !member.resting && self.is_spared(*id, member))?;
            let heard = observed.report.is_some() && observed.silent_ms(now) < self.timing.silence_ms;
            (heard && observed.unreachable_since.is_none()).then_some(*id)
        };
        let back: Vec<MemberId> = self.state.members.iter().filter_map(back).collect();
        for id in back {
            self.change(|state| {
                if let Some(member) = state.members.get_mut(&id) {
                    member.leaving = None;
                }
            });
            self.effects.retain(|(_, effect)| !matches!(effect, Effect::Kill { member, .. } if *member == id));
            self.log(now, EventKind::TakenBack { member: id });
        }
    }

    /// Marks the members that are to leave: too many, in the way of a replacement, or lost.
    fn reconcile_size(&mut self, now: Millis) {
        if self.state.outdated {
            return; // who is too many, or lost, is not known
        }
        self.welcome_back(now);
        self.leave_missing(now);
        let primary = self.state.primary;
        let open = self.is_open_for_sure(now);
        let (mut errant, mut unstable) = (BTreeSet::new(), BTreeSet::new());
        let mut detached = BTreeSet::new();
        // At their end there is nothing that the others could need: all at once. Who runs on stays as long as it is needed.
        let mut gone = BTreeSet::new();
        let (mut unreachable, mut stuck, mut hopeless) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut wake = None;
        for (id, member) in self.state.staying().filter(|(id, m)| Some(*id) != primary && !m.resting) {
            let Some(observed) = self.observed.get(&id) else { continue };
            if self.is_detached(id) {
                detached.insert(id); // told so before it was taken back
                continue;
            }
            let errant_now = observed.report_in(self.state.epoch).and_then(|r| r.trouble.as_ref());
            if let Some(why) = self.why_hopeless(id).filter(|_| open || !self.state.opened) {
                hopeless.push((id, why));
            } else if open && matches!(errant_now, Some(Trouble::Errant { .. })) {
                errant.insert(id);
            } else if open && matches!(observed.trouble(), Some(Trouble::DataGone { .. })) {
                gone.insert(id);
            } else if open && matches!(observed.trouble(), Some(Trouble::Unstable { .. })) {
                unstable.insert((id, Leaving::Unstable));
            } else if open && matches!(observed.trouble(), Some(Trouble::Broken { .. })) {
                unstable.insert((id, Leaving::Broken));
            } else if let Some(since) = observed.unreachable_since {
                let due = since.after(self.timing.unreachable_ms);
                if !open && self.state.opened {
                    // Without a primary its data may still be needed.
                } else if now >= due {
                    unreachable.insert(id);
                } else {
                    wake = crate::time::earliest(wake, Some(due));
                }
            } else if observed.report.is_none() {
                let due = observed.heard.max(self.watching_since).after(self.timing.launch_ms);
                if !open && self.state.opened {
                    // Silent since this scheduler started, it may have data all the same.
                } else if now >= due && member.joined {
                    unreachable.insert(id); // its server may well serve on
                } else if now >= due {
                    stuck.insert(id);
                } else {
                    wake = crate::time::earliest(wake, Some(due));
                }
            }
        }
        self.timeout = crate::time::earliest(self.timeout, wake);
        self.leave(now, &detached, Leaving::Unreachable);
        self.leave(now, &gone, Leaving::DataGone);
        self.leave_errant(now, &errant);
        self.leave_one_by_one(now, &unstable);
        self.leave_unreachable(now, &unreachable);
        self.leave(now, &stuck, Leaving::Stuck);
        for (id, why) in hopeless {
            self.leave(now, &BTreeSet::from([id]), why);
        }
        // While there is no primary, every copy may be needed: scaling down waits.
        let surplus = self.state.staying().count().saturating_sub(self.state.spec.size as usize);
        if surplus > 0 && (open || !self.state.opened) {
            let candidates: Vec<Candidate> = self.state.staying().map(|(id, m)| self.candidate(now, id, m)).collect();
            let victims = self.spare_the_complete(now, scaling::victims(&candidates, surplus));
            self.leave(now, &victims, Leaving::ScaleDown);
        }
    }

    /// Of members that are too many, those that can go now: no complete copy while fewer than wanted would be left.
    fn spare_the_complete(&self, now: Millis, victims: Vec<MemberId>) -> BTreeSet<MemberId> {
        let joined = |id: &MemberId| self.state.members.get(id).is_some_and(|member| member.joined);
        let (complete, size) = (self.complete_now(now), self.state.spec.size as usize);
        let mut spare = complete.saturating_sub(size);
        let mut can_go = |id: &MemberId| {
            // One that was complete and is not now may hold what others lack.
            let counts = self.is_complete_now(now, *id);
            let can = if counts { spare > 0 } else { !joined(id) || complete >= size };
            spare -= usize::from(can && counts);
            can
        };
        victims.into_iter().filter(|id| can_go(id)).collect()
    }

    /// Replaces members that do not work, one after another, since what makes one server fail may make others fail, too,
    /// and their data may be needed: each only when all others are complete copies that stay, or fail as well; then it
    /// stays until there is a second complete copy (`is_needed`). Those that are away and given up wait for complete
    /// copies themselves: they are not waited for, while another copy than the primary's is there.
    fn leave_one_by_one(&mut self, now: Millis, failing: &BTreeSet<(MemberId, Leaving)>) {
        let Some((first, why)) = failing.first() else { return };
        let counts = |id: &MemberId| self.is_complete_now(now, *id) || failing.iter().any(|(other, _)| other == id);
        let here = || self.state.members.iter().filter(|(id, member)| !self.is_away(now, **id, member));
        let settled = here().all(|(id, member)| !member.resting && member.leaving.is_none() && counts(id));
        let none_away = here().count() == self.state.members.len();
        if settled && (none_away || self.complete_now(now) > 1) {
            self.leave(now, &BTreeSet::from([*first]), *why);
        }
    }

    /// Replaces unreachable members one after another: all at once, it is more likely the network than the machines.
    fn leave_unreachable(&mut self, now: Millis, unreachable: &BTreeSet<MemberId>) {
        let Some(first) = unreachable.first() else { return };
        let complete = self.state.staying().all(|(id, member)| member.joined || unreachable.contains(&id));
        if complete && self.state.staying().count() >= self.state.spec.size as usize {
            self.leave(now, &BTreeSet::from([*first]), Leaving::Unreachable);
        }
    }

    fn candidate(&self, now: Millis, id: MemberId, member: &Member) -> Candidate {
        let observed = self.observed.get(&id);
        Candidate {
            member: id,
            primary: self.state.primary == Some(id),
            healthy: observed.is_some_and(|o| self.is_healthy(now, id, o)),
            agent: member.agent.clone(),
            zone: member.zone.clone(),
            lag_s: self.lag_s(id),
        }
    }

    /// Whether a member is what it shall be, connected, and heard of lately.
    pub(super) fn is_healthy(&self, now: Millis, id: MemberId, observed: &Observed) -> bool {
        let epoch = self.state.epoch;
        let heard = observed.silent_ms(now) < self.timing.silence_ms && observed.unreachable_since.is_none();
        let role = if self.state.primary == Some(id) {
            observed.report_in(epoch).is_some_and(|r| r.role == MemberRole::Primary)
        } else {
            observed.following(epoch) == Some(true) && self.state.members.get(&id).is_some_and(|m| m.joined)
        };
        heard && role && observed.trouble().is_none()
    }

    /// Kills those that are to leave, once what they may have acknowledged is elsewhere, and a copy of the data, too.
    fn reconcile_leaving(&mut self, now: Millis) {
        if self.state.outdated {
            return;
        }
        let held = self.state.members.iter().filter(|(id, m)| m.leaving.is_some() && self.is_held(**id, m));
        let held = held.map(|(id, m)| (*id, matches!(m.leaving, Some(Leaving::Broken | Leaving::DataGone))));
        let held: Vec<(MemberId, bool)> = held.collect();
        for (id, has_time) in held {
            let Some(observed) = self.observed.get_mut(&id) else { continue };
            observed.leaving_since = None; // its time to detach has not begun
            let due = observed.to_leave_since.get_or_insert(now).after(self.timing.unreachable_ms);
            if has_time && now < due {
                self.wake_at(due);
            }
        }
        let leaving = self.state.members.iter().filter(|(id, m)| m.leaving.is_some() && !self.is_held(**id, m));
        let leaving: Vec<MemberId> = leaving.map(|(id, _)| *id).collect();
        for id in leaving {
            let Some(observed) = self.observed.get_mut(&id) else { continue };
            let patience_ends = observed.leaving_since.get_or_insert(now).after(self.timing.detach_ms);
            // One that was not heard of yet, since the scheduler was started, probably does; one that takes a copy may follow
            // at any moment.
            let runs =
                observed.report.as_ref().is_none_or(|r| r.role.is_up() || matches!(r.role, MemberRole::Starting));
            if self.state.opened && !self.is_open_for_sure(now) {
                continue; // nobody's data is spared before another primary is known to have it
            }
            if self.state.opened && !self.primary_is_there(now, id) {
                continue;
            }
            if self.is_acker(id) && runs && now < patience_ends {
                self.wake_at(patience_ends);
            } else {
                self.kill(now, id);
            }
        }
    }

    /// Whether the primary has answered since a member is to leave. It may have died a moment before, unheard, and then
    /// that member's copy is the best that is left.
    fn primary_is_there(&mut self, now: Millis, leaving: MemberId) -> bool {
        let Some(primary) = self.state.primary else { return false };
        let epoch = self.state.epoch;
        let echo = self.observed.get(&primary).and_then(|o| o.report_in(epoch)).map_or(0, |report| report.echo);
        let asked = self.observed.get(&leaving).and_then(|o| o.asked_primary);
        let recent = self.timing.silence_ms;
        if asked.is_some_and(|(nonce, at)| echo >= nonce && now.since(at) < recent) {
            return true;
        }
        let due = asked.map_or(now, |(_, at)| at.after(self.timing.resend_ms));
        if now < due {
            self.wake_at(due);
            return false;
        }
        // One question serves for all.
        let newest = self.observed.values().filter_map(|o| o.asked_primary).filter(|(_, at)| *at == now).max();
        let nonce = newest.map_or_else(|| self.ask_for_report(primary), |(nonce, _)| nonce);
        if let Some(observed) = self.observed.get_mut(&leaving) {
            observed.asked_primary = Some((nonce, now));
        }
        self.wake_at(now.after(self.timing.resend_ms));
        false
    }

    fn kill(&mut self, now: Millis, member: MemberId) {
        let Some(agent) = self.state.members.get(&member).map(|m| m.agent.clone()) else { return };
        let withheld = |effect: &Effect| matches!(effect, Effect::Launch { task, .. } if task.member == member);
        if self.effects.iter().any(|(_, effect)| withheld(effect)) {
            let ran_before = self.state.members.get(&member).is_some_and(|member| member.run > 0);
            return self.forget(now, member, "it was not launched yet".to_owned(), ran_before);
        }
        if !self.has_task(member) {
            return self.forget(now, member, "its task had ended before".to_owned(), true);
        }
        let observed = self.observed.entry(member).or_insert_with(|| Box::new(Observed::new(now)));
        let due = observed.killed_at.map_or(now, |at| at.after(self.timing.kill_retry_ms));
        if due > now {
            return self.wake_at(due);
        }
        observed.killed_at = Some(now);
        let retry = now.after(self.timing.kill_retry_ms);
        if self.may_linger(member) {
            self.let_go(member);
        }
        self.want(Effect::Kill { member, agent });
        self.wake_at(retry);
    }
}
