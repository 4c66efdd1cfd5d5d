//! Losing a primary and choosing the next one.

use super::Cluster;
use super::event::{EventKind, Timeline};
use super::observed::Observed;
use super::stall::Stalled;
use super::state::{Appointed, Leaving};
use crate::election::{self, Ballot, Rules, Undecided};
use crate::protocol::{MemberRole, Report, Stage, Trouble};
use crate::{Durability, Epoch, GtidSet, MemberId, Millis, Preference, Revision, words};
use std::collections::BTreeSet;

/// An election under way; volatile, since recovery starts a new one.
#[derive(Debug)]
pub(super) struct Election {
    pub(super) started: Millis,
    pub(super) deadline: Millis,
    /// The old primary may still take writes until then, as far as its lease tells.
    pub(super) lease_until: Option<Millis>,
    /// When the first replica of the old primary was known to have left it.
    first_left: Option<Millis>,
    pub(super) waiting: Option<Undecided>,
    pub(super) announced: Option<Undecided>,
    /// Who shall win, all else being equal: the candidate of a switchover.
    preferred: Option<MemberId>,
    /// Who shall win, as a person has decided.
    pub(super) forced: Option<MemberId>,
    /// The primary that was replaced because its commits did not come to their end: it could not do better now.
    stalled: Option<MemberId>,
    progress: Progress,
}

impl Election {
    /// Whether nothing was lost, but handed over.
    pub(super) const fn is_planned(&self) -> bool {
        self.progress.planned
    }
}

/// How far a failover has come, for its timeline.
#[derive(Debug)]
pub(super) struct Progress {
    epoch: Epoch,
    from: Option<MemberId>,
    lost_at: Millis,
    /// Revision with which the new epoch, then the decision, became durable.
    epoch_revision: Revision,
    epoch_durable: Option<Millis>,
    decided_at: Option<Millis>,
    decision_revision: Option<Revision>,
    decision_durable: Option<Millis>,
    promoted_at: Option<Millis>,
    /// Whether nothing was lost, but handed over.
    planned: bool,
}

impl Cluster {
    /// Whether the decided primary has reported to be open for writes in this epoch.
    pub(super) fn is_open(&self) -> bool {
        let report = self.state.primary.and_then(|p| self.observed.get(&p)).and_then(|o| o.report_in(self.state.epoch));
        report.is_some_and(|r| r.role == MemberRole::Primary)
    }

    /// The same, heard of lately: then others may be given up. A primary that is silent may be dead, and what is given up
    /// on its last word may be the last copy. Nor is one open for sure that was asked to leave.
    pub(super) fn is_open_for_sure(&self, now: Millis) -> bool {
        let primary = self.state.primary.and_then(|id| self.observed.get(&id));
        let stays = |o: &Observed| !o.report.as_ref().is_some_and(|r| r.asked_to_leave);
        let heard = |o: &Observed| o.silent_ms(now) < self.timing.silence_ms;
        self.is_open() && primary.is_some_and(|primary| heard(primary) && stays(primary))
    }

    pub(super) fn reconcile_primary(&mut self, now: Millis) {
        if let Some(epoch) = self.later_epoch() {
            self.change(|state| {
                state.epoch = epoch;
                state.distrust();
            });
            self.begin_election(now, "the stored state is older than what members obey");
        } else if let Some(primary) = self.state.primary {
            if let Some(reason) = self.why_lost(now, primary) {
                self.begin_election(now, &reason);
            } else if let Some((other, reason)) = self.why_overtaken(now, primary) {
                self.begin_election(now, &reason);
                if let Some(election) = &mut self.election {
                    election.preferred = Some(other); // before one with a better rule that is slow
                }
            } else if let Some(reason) = self.why_stalled(now, primary) {
                self.begin_election(now, &reason);
            } else if let Some(stalled) = self.why_out_of_room(now, primary).or_else(|| self.why_unread(now, primary)) {
                self.replace_stalled(now, primary, stalled);
            } else {
                self.reconcile_switchover(now, primary);
            }
        } else if self.election.is_none() && self.state.epoch > Epoch(0) {
            self.begin_election(now, "the scheduler was restarted during an election");
        }
        if self.state.primary.is_none() {
            if self.decide_as_told(now) || self.awaits_forced(now) {
                // a person knows more than the rules
            } else if self.state.outdated {
                self.decide_outdated(now);
            } else if self.state.opened {
                self.decide(now);
            } else {
                self.choose_first(now);
            }
        }
        self.confirm_primary(now);
    }

    /// The epoch of a member that obeys a higher one than ours, or what we have not decided in ours: our state is then older
    /// than the world.
    pub(super) fn later_epoch(&self) -> Option<Epoch> {
        let reports = self.observed.iter().filter_map(|(id, o)| Some((*id, o.report.as_deref()?)));
        let obeys_later = |(id, report): &(MemberId, &Report)| {
            report.epoch > self.state.epoch || report.epoch == self.state.epoch && self.is_undecided(*id, report)
        };
        reports.filter(obeys_later).map(|(_, report)| report.epoch).max()
    }

    /// Whether a member obeys, in this epoch, a decision that our record does not have. A record that was restored from a
    /// copy can come to an epoch that has been decided otherwise since.
    fn is_undecided(&self, id: MemberId, report: &Report) -> bool {
        let leads = matches!(report.role, MemberRole::Primary | MemberRole::Promoting | MemberRole::SteppedDown);
        match (self.state.primary, report.stage) {
            (None, Some(Stage::Decided | Stage::Turn(_))) => true,
            (Some(primary), _) if leads => primary != id,
            (_, Some(Stage::Turn(turn))) => turn > self.state.turn,
            (_, Some(Stage::Freeze | Stage::Decided | Stage::Detach) | None) => false,
        }
    }

    /// Why the primary must be replaced, if it must.
    pub(super) fn why_lost(&mut self, now: Millis, primary: MemberId) -> Option<String> {
        if !self.has_task(primary) {
            return Some("its task has ended".to_owned());
        }
        let epoch = self.state.epoch;
        let opened = self.state.members.get(&primary)?.attached == epoch;
        let observed = self.observed.get(&primary)?;
        if let Some(report) = &observed.report {
            // Before it opens, reports from before the order may still come in; after that, an older epoch is a loss too.
            let current = report.epoch == epoch || opened;
            match &report.role {
                MemberRole::Down { reason } => return Some(format!("its server is down: {reason}")),
                MemberRole::Idle | MemberRole::Starting if current => {
                    return Some("its server was restarted".to_owned());
                }
                MemberRole::Frozen if current && matches!(report.trouble, Some(Trouble::Incomplete { .. })) => {
                    return report.trouble.as_ref().map(ToString::to_string);
                }
                MemberRole::Frozen | MemberRole::Following { .. } if opened => {
                    return Some(format!("it has become {}", report.role.name()));
                }
                MemberRole::Idle
                | MemberRole::Starting
                | MemberRole::Frozen
                | MemberRole::Promoting
                | MemberRole::Following { .. }
                | MemberRole::SteppedDown
                | MemberRole::Primary => {}
            }
            // It commits nothing any more, but for what it is in the middle of; the election is safe in any case.
            if let Some(trouble @ Trouble::Hung { .. }) = report.trouble.as_ref().filter(|_| current) {
                return Some(trouble.to_string());
            }
            let hinders = |t: &&Trouble| t.is_of_storage() || matches!(t, Trouble::Failing { .. });
            if let Some(trouble) = report.trouble.as_ref().filter(hinders)
                && !opened
            {
                let due = self.appointed_at.after(self.timing.election_ms);
                if now >= due {
                    return Some(format!("it could not be opened for writes: {trouble}"));
                }
                self.wake_at(due);
            }
        }
        self.why_silent_is_dead(now, primary)
    }

    /// Why another member is to take the place of one that was chosen and does not open: it has all that the chosen one
    /// had, and nothing left to apply. The chosen one goes on applying meanwhile, and loses nothing by it.
    fn why_overtaken(&mut self, now: Millis, primary: MemberId) -> Option<(MemberId, String)> {
        let epoch = self.state.epoch;
        if self.state.turn > 0 || self.state.members.get(&primary)?.attached == epoch {
            return None;
        }
        let chosen = self.observed.get(&primary)?.report_in(epoch)?;
        let stuck = matches!(chosen.trouble, Some(Trouble::Stuck { .. }));
        if chosen.role != MemberRole::Promoting || (chosen.unapplied == 0 && !stuck) {
            return None;
        }
        let left = chosen.unapplied;
        let due = self.appointed_at.after(self.timing.resend_ms); // most are through by then
        if now < due {
            self.wake_at(due);
            return None;
        }
        let (silence, floor) = (self.timing.silence_ms, &self.state.floor);
        let opens_at_once = |(id, _): &(MemberId, &super::state::Member)| {
            let observed = self.observed.get(id).filter(|o| *id != primary && o.silent_ms(now) < silence);
            // One that fails to follow, since the chosen one is not open, is as good as any.
            let fine = |r: &Report| matches!(r.trouble, None | Some(Trouble::Failing { .. }));
            let report = observed.and_then(|o| o.report.as_ref()).filter(|r| r.role.is_up() && fine(r));
            let may_lead = stuck || !self.is_ruled_out(*id) || self.is_ruled_out(primary);
            let wins = self.errant(*id).is_none() && !self.is_about_to_go(*id); // or it would only lose the election
            may_lead
                && wins
                && self.is_electable(*id)
                && report.is_some_and(|r| r.unapplied == 0 && r.position.contains(floor))
        };
        let (other, _) = self.state.staying().find(opens_at_once)?;
        Some((
            other,
            format!("it has {} left to apply, and member {other} has them all applied", words::transactions(left)),
        ))
    }

    /// A silent primary is dead when its replicas lost it too. While they replicate from it, only the way to its
    /// executor is cut; but one that never said that it opened is given up all the same.
    fn why_silent_is_dead(&mut self, now: Millis, primary: MemberId) -> Option<String> {
        let epoch = self.state.epoch;
        let heard = self.observed.get(&primary)?.heard.max(self.watching_since);
        let silence = self.timing.silence_ms;
        if now.since(heard) < silence {
            self.wake_at(heard.after(silence));
            return None;
        }
        self.wake_at(now.after(self.timing.resend_ms)); // evidence may come without a further report of ours
        let unopened = self.state.members.get(&primary)?.attached != epoch;
        let fresh = |o: &Observed| o.silent_ms(now) < silence && o.report.as_ref().is_some_and(|r| r.role.is_up());
        // One that does not follow, and cannot, has lost it as well: its server was started again, or it never reached it.
        let fails_to_follow = |o: &Observed| {
            o.report_in(epoch).is_some_and(|r| {
                let hinders =
                    |t: &Trouble| t.is_of_storage() || matches!(t, Trouble::Failing { .. } | Trouble::Stuck { .. });
                matches!(r.role, MemberRole::Idle | MemberRole::Frozen) && r.trouble.as_ref().is_some_and(hinders)
            })
        };
        let others = self.observed.iter().filter(|(id, _)| **id != primary).map(|(_, o)| o);
        let (mut connected, mut broken) = (0, 0);
        for other in others.filter(|other| fresh(other)) {
            match other.following(epoch) {
                Some(true) => connected += 1,
                Some(false) => broken += 1,
                None if unopened || fails_to_follow(other) => broken += 1,
                None => {}
            }
        }
        if broken == 0 || (connected > 0 && !unopened) {
            return None;
        }
        let seconds = now.since(heard) / 1000;
        Some(if unopened {
            format!("it has not been heard of for {seconds} s and never opened for writes")
        } else {
            format!("it has not been heard of for {seconds} s, and its replicas lost it too")
        })
    }

    /// Begins the election that ends a switchover: its old primary has stepped down, and is not told to open again.
    pub(super) fn begin_handover(&mut self, now: Millis, from: MemberId, to: MemberId, started: Millis) {
        // It says that it is closed, and opens again by itself if it hears nothing more.
        let lease_until = self.may_write_until(Some(from));
        self.open_election(now, Some(from), lease_until);
        if let Some(election) = &mut self.election {
            election.preferred = Some(to);
            election.progress.planned = true;
            election.progress.lost_at = started;
        }
    }

    pub(super) fn begin_election(&mut self, now: Millis, reason: &str) {
        self.switchover_failed(now, reason);
        let lost = self.state.primary.or(self.state.last_primary);
        if let Some(member) = lost {
            self.log(now, EventKind::PrimaryLost { member, reason: reason.to_owned() });
        }
        let lease_until = self.may_write_until(lost);
        self.open_election(now, lost, lease_until);
    }

    /// Until when a lost primary may take writes that need no acknowledgement. One that reported its own loss takes none;
    /// one that is only silent may, until its lease ends.
    fn may_write_until(&self, lost: Option<MemberId>) -> Option<Millis> {
        let may_write = self.state.spec.durability == Durability::Async && !self.is_frozen_or_gone(lost);
        may_write.then(|| {
            if !self.state.leased {
                return Millis(u64::MAX);
            }
            let renewed = lost.and_then(|id| self.observed.get(&id)).and_then(|o| o.lease_renewed);
            renewed.unwrap_or(self.watching_since).max(self.watching_since).after(self.timing.lease_ms)
        })
    }

    fn open_election(&mut self, now: Millis, lost: Option<MemberId>, lease_until: Option<Millis>) {
        // What began with an earlier loss and was never over is one outage.
        let unfinished = self.election.as_ref().map(|e| &e.progress).or(self.failover.as_ref());
        let held_since = self.held.take().map_or(now, |held| held.since);
        let lost_at = unfinished.filter(|p| p.promoted_at.is_none()).map_or(held_since, |p| p.lost_at);
        self.change(|state| {
            state.epoch = state.epoch.next();
            state.primary = None;
            state.turn = 0;
            state.switchover = None;
        });
        self.reopening_since = None;
        self.effects.retain(|(_, effect)| effect.ordered().is_none()); // orders of the old epoch are void
        self.drop_kills(); // and whoever was to leave may be needed
        let progress = Progress {
            epoch: self.state.epoch,
            from: lost,
            lost_at,
            epoch_revision: self.revision,
            epoch_durable: None,
            decided_at: None,
            decision_revision: None,
            decision_durable: None,
            promoted_at: None,
            planned: false,
        };
        let deadline = now.after(self.timing.election_ms);
        self.retirement = None;
        self.failover = None;
        self.election = Some(Box::new(Election {
            started: now,
            deadline,
            lease_until,
            first_left: None,
            waiting: None,
            announced: None,
            preferred: None,
            forced: None,
            stalled: None,
            progress,
        }));
    }

    /// A cluster that never was open for writes has no data to lose: the first member to run is primary.
    fn choose_first(&mut self, now: Millis) {
        let up = |id: &MemberId| {
            let observed = self.observed.get(id).filter(|o| o.silent_ms(now) < self.timing.silence_ms);
            observed.and_then(|o| o.report.as_ref()).is_some_and(|r| r.role.is_up())
        };
        let grace = self.timing.restart_grace_ms;
        if let (Some(last), Some(until)) =
            (self.state.last_primary, self.election.as_ref().map(|e| e.started.after(grace)))
            && now < until
            && self.has_task(last)
            && !up(&last)
        {
            return self.wake_at(until); // restarted in place, it has what it had
        }
        // One that was told to be primary before, and is lost, may have opened unheard.
        let position = |id: &MemberId| self.observed.get(id).and_then(|o| o.report.as_ref()).map(|r| &r.position);
        let mut first: Option<MemberId> = None;
        for id in self.state.staying().map(|(id, _)| id).filter(up) {
            let has_more =
                |best: &MemberId| position(&id).zip(position(best)).is_some_and(|(own, its)| !its.contains(own));
            if first.as_ref().is_none_or(|best| has_more(best) && self.state.last_primary != Some(*best)) {
                first = Some(id);
            }
        }
        let Some(first) = first else { return };
        self.appoint(now, first, GtidSet::Empty);
    }

    /// Until when an election waits for the lease of a primary that nobody saw end, `u64::MAX` for one without a lease.
    pub(super) fn awaited_lease(&self, now: Millis, lease_until: Option<Millis>) -> Option<Millis> {
        lease_until.filter(|until| now < *until && !self.is_frozen_or_gone(self.state.last_primary))
    }

    fn decide(&mut self, now: Millis) {
        let Some(election) = &self.election else { return };
        let (started, deadline, lease_until) = (election.started, election.deadline, election.lease_until);
        let acks = self.state.spec.durability.acks();
        let expired = now >= deadline;
        if !expired {
            self.wake_at(deadline);
        }
        if acks == 0 {
            if let Some(until) = self.awaited_lease(now, lease_until) {
                if until < Millis(u64::MAX) {
                    return self.wake_at(until);
                }
                return self.wait(now, Undecided::MayWrite(self.state.last_primary.unwrap_or_default()));
            }
            if !expired && self.awaits_answers(now, started) {
                return;
            }
            if self.hold_failover(now) {
                return;
            }
        }
        if self.awaits_preferred(now) {
            return;
        }
        let ballots = self.ballots(now);
        if let Some(until) = self.may_be_unnoticed(now, &ballots, lease_until) {
            return self.wake_at(until);
        }
        match self.elect_sound(now, &ballots, &self.rules(expired)) {
            Ok(winner) => {
                let position = ballots.into_iter().find(|b| b.member == winner).map(|b| b.position).unwrap_or_default();
                self.appoint(now, winner, position);
            }
            Err(undecided) => self.wait(now, undecided),
        }
    }

    /// Replaces a primary by one of those that can take its place.
    fn replace_stalled(&mut self, now: Millis, primary: MemberId, stalled: Stalled) {
        let Stalled { reason, damaged, successor } = stalled;
        self.change(|state| {
            if let Some(member) = state.members.get_mut(&primary) {
                member.damaged |= damaged;
            }
        });
        self.begin_election(now, &reason);
        if let Some(election) = &mut self.election {
            election.preferred = successor;
            election.stalled = Some(primary);
        }
    }

    /// Elects, at first without a primary that was replaced because its commits did not come to their end: it has what was
    /// never acknowledged, and would win by it when it is back before the others have answered. Whose binary log is damaged
    /// may lack what others have applied, and wins only where being available counts for more, or by a person's decision.
    pub(super) fn elect_sound(
        &self,
        now: Millis,
        ballots: &[Ballot],
        rules: &Rules<'_>,
    ) -> Result<MemberId, Undecided> {
        let early = |election: &&Election| now < election.started.after(self.timing.restart_grace_ms);
        let stalled = self.election.as_deref().filter(early).and_then(|election| election.stalled);
        let is_sound = |ballot: &&Ballot| Some(ballot.member) != stalled && !self.is_damaged(ballot.member);
        let sound: Vec<Ballot> = ballots.iter().filter(is_sound).cloned().collect();
        if sound.len() == ballots.len() || rules.acks == 0 {
            return election::elect(ballots, rules);
        }
        match election::elect(&sound, rules) {
            Err(_) if rules.force => election::elect(ballots, rules),
            elected => elected,
        }
    }

    /// Whether the binary log of a former primary could not be read to its end.
    pub(super) fn is_damaged(&self, id: MemberId) -> bool {
        self.state.members.get(&id).is_some_and(|member| member.damaged)
    }

    /// Whether the candidate of a switchover will probably answer within the moment.
    fn awaits_preferred(&mut self, now: Millis) -> bool {
        let Some((started, to)) = self.election.as_ref().and_then(|e| Some((e.started, e.preferred?))) else {
            return false;
        };
        let until = started.after(self.timing.restart_grace_ms);
        let observed = self.observed.get(&to).filter(|o| o.silent_ms(now) < self.timing.silence_ms);
        let awaited = observed
            .and_then(|o| o.report.as_ref())
            .is_some_and(|r| r.role.is_up() && !(r.epoch == self.state.epoch && r.role == MemberRole::Frozen));
        if awaited && now < until {
            self.wake_at(until);
        }
        awaited && now < until
    }

    /// While all its replicas are connected, a primary may go on without a lease; that one has left it, it notices a
    /// moment later. Gives the end of that moment, if it has not come.
    fn may_be_unnoticed(&mut self, now: Millis, ballots: &[Ballot], lease_until: Option<Millis>) -> Option<Millis> {
        lease_until.filter(|_| !self.is_frozen_or_gone(self.state.last_primary))?;
        let left = ballots.iter().any(|ballot| Some(ballot.member) != self.state.last_primary);
        let election = self.election.as_mut().filter(|_| left)?;
        let until = election.first_left.get_or_insert(now).after(self.timing.desertion_ms);
        (now < until).then_some(until)
    }

    /// Tells what the election waits for. Answers arrive one by one: only what stays missing for a moment is worth it.
    pub(super) fn wait(&mut self, now: Millis, undecided: Undecided) {
        let Some(election) = &mut self.election else { return };
        let settled_at = election.started.after(self.timing.restart_grace_ms);
        let news = now >= settled_at && election.announced.as_ref() != Some(&undecided);
        if news {
            election.announced = Some(undecided.clone());
            let reason = undecided.to_string();
            election.waiting = Some(undecided);
            self.log(now, EventKind::ElectionWaits { reason });
        } else {
            election.waiting = Some(undecided);
        }
        if now < settled_at {
            self.wake_at(settled_at);
        }
    }

    /// What an election waits for, and not just for the answers that are on their way.
    pub(super) fn election_waits(&self, now: Millis) -> Option<&Undecided> {
        let waits = |election: &&Election| now.since(election.started) >= self.timing.restart_grace_ms;
        self.election.as_deref().filter(waits)?.waiting.as_ref()
    }

    /// Whether a primary of this cluster must renew a lease: where nobody's acknowledgement can be taken from it, but
    /// somebody is there to take its place.
    pub(super) fn is_leased(&self) -> bool {
        self.state.spec.durability == Durability::Async && self.state.spec.size > 1
    }

    /// When what was lost at first began to be missed, while its place is not filled.
    pub(super) fn lost_at(&self) -> Option<Millis> {
        let progress = self.election.as_ref().map(|e| &e.progress).or(self.failover.as_ref());
        let planned = self.switchover.as_ref().map(|switchover| switchover.started);
        progress.map(|progress| progress.lost_at).or(planned).or(self.reopening_since)
    }

    /// Whether the last primary takes no writes and will take none. What it was before it was told to be primary says
    /// nothing about that: it may have obeyed since, unheard.
    pub(super) fn is_frozen_or_gone(&self, last_primary: Option<MemberId>) -> bool {
        let Some(id) = last_primary.filter(|id| self.has_task(*id)) else { return true };
        let report = self.observed.get(&id).and_then(|o| o.report.as_ref());
        let appointed = (self.state.last_epoch, Some(Stage::Decided));
        report.is_some_and(|r| !r.role.may_write() && (r.epoch, r.stage) >= appointed)
    }

    /// Whether a member that will probably answer has not yet done so. An asynchronous election waits for each of
    /// them, and for a moment also for a crashed primary: restarted in place, it has all its data.
    fn awaits_answers(&mut self, now: Millis, started: Millis) -> bool {
        let (epoch, silence) = (self.state.epoch, self.timing.silence_ms);
        let grace_until = started.after(self.timing.restart_grace_ms);
        let rests = |id: &MemberId| self.state.members.get(id).is_some_and(|member| member.resting);
        let mut wake = self.state.last_primary.filter(|id| rests(id) && now < grace_until).map(|_| grace_until);
        for (id, observed) in &self.observed {
            let Some(report) = observed.report.as_ref().filter(|_| observed.silent_ms(now) < silence) else { continue };
            let frozen = report.epoch == epoch && report.role == MemberRole::Frozen;
            let restarting = Some(*id) == self.state.last_primary && matches!(report.role, MemberRole::Down { .. });
            if (report.role.is_up() && !frozen) || (restarting && now < grace_until) {
                let silent_at = observed.heard.after(silence);
                let until = if restarting { silent_at.min(grace_until) } else { silent_at };
                wake = crate::time::earliest(wake, Some(until));
            }
        }
        self.timeout = crate::time::earliest(self.timeout, wake);
        wake.is_some()
    }

    /// What an election must respect, before or after its deadline.
    pub(super) fn rules(&self, expired: bool) -> Rules<'_> {
        let state = &self.state;
        let force = expired && state.spec.preference == Preference::Availability;
        let acks = state.spec.durability.acks();
        Rules {
            ackers: &state.ackers,
            acks,
            floor: &state.floor,
            witnesses: &state.witnesses,
            last: state.last_primary,
            force,
        }
    }

    /// What those bring to the election who are frozen in its epoch.
    pub(super) fn ballots(&self, now: Millis) -> Vec<Ballot> {
        let epoch = self.state.epoch;
        self.ballots_of(now, |_, observed| observed.report_in(epoch).filter(|r| r.role == MemberRole::Frozen))
    }

    /// What members bring to an election, those that can be heard and of whom `answer` gives an answer.
    pub(super) fn ballots_of(
        &self,
        now: Millis,
        answer: impl for<'a> Fn(MemberId, &'a Observed) -> Option<&'a Report>,
    ) -> Vec<Ballot> {
        let silence = self.timing.silence_ms;
        let preferred = self.election.as_ref().and_then(|election| election.preferred);
        let never_opened = self.state.appointed.as_ref().is_some_and(|appointed| self.never_opened(appointed));
        let origins = self.origins();
        let ballot = |(id, member): (&MemberId, &super::state::Member)| {
            let observed = self.observed.get(id).filter(|o| o.silent_ms(now) < silence)?;
            let report = answer(*id, observed)?;
            // The last primary may have opened without our hearing of it: it has then what it had to contain, and counts as
            // attached to itself. Otherwise what it wrote and nobody acknowledged would look like a split brain.
            let is_last = Some(*id) == self.state.last_primary && !never_opened;
            let decided = is_last && report.position.contains(&self.state.floor);
            let written = !origins.is_empty() && !origins.contains("");
            let position =
                if written { report.position.within(&self.state.floor, &origins) } else { report.position.clone() };
            Some(Ballot {
                member: *id,
                start: observed.start(*id)?,
                kept_since: observed.kept_since(*id)?,
                errant: position != report.position,
                position,
                unapplied: report.unapplied,
                stuck: matches!(report.trouble, Some(Trouble::Stuck { .. } | Trouble::Broken { .. })),
                attached: if decided { self.state.last_epoch } else { member.attached },
                joined: self.is_electable(*id),
                leaving: member.leaving.is_some()
                    || member.damaged
                    || report.trouble.as_ref().is_some_and(Trouble::is_of_storage)
                    || (self.is_about_to_go(*id) && preferred != Some(*id)), // it was asked for by name
                preferred: preferred == Some(*id),
                rule: member.rule,
            })
        };
        self.state.members.iter().filter_map(ballot).collect()
    }

    /// What marks the transactions that count, see [`State::origins`](super::state::State::origins).
    fn origins(&self) -> BTreeSet<String> {
        let chosen = self.state.chosen().filter(|chosen| !self.never_opened(chosen));
        self.state.origins.iter().chain(chosen.map(|chosen| &chosen.origin)).cloned().collect()
    }

    /// Whether a server that was chosen to be primary is frozen by now and sure never to have opened. What it wrote by itself
    /// before must not decide a second election any more than it did the first.
    fn never_opened(&self, chosen: &Appointed) -> bool {
        let start = chosen.start;
        let Some(observed) = self.observed.get(&start.member) else { return false };
        let report = observed.report_in(self.state.epoch).filter(|report| report.role == MemberRole::Frozen);
        let is_newer = self.state.epoch > self.state.last_epoch;
        is_newer && observed.start(start.member) == Some(start) && report.is_some_and(|report| report.never_opened)
    }

    pub(super) fn appoint(&mut self, now: Millis, winner: MemberId, position: GtidSet) {
        let first = self.state.epoch == Epoch(0);
        let gtids = position.to_string();
        let leased = self.is_leased();
        let strays = self.strays();
        let failovers = self.note_failover(now, winner);
        let report = self.observed.get(&winner).and_then(|o| o.report.as_ref());
        let origin = report.map(|r| r.origin.clone()).unwrap_or_default();
        let doubtful = self.state.chosen().filter(|chosen| !self.never_opened(chosen)).cloned().collect();
        let start = self.observed.get(&winner).and_then(|observed| observed.start(winner));
        // What it wrote when it was not the one to write must not spread before it is known to open, and it may not.
        let stuck = report.is_some_and(|r| matches!(r.trouble, Some(Trouble::Stuck { .. })));
        let is_doubtful = stuck || report.is_some_and(|r| r.position != position);
        let rebuilt = self.state.members.get(&winner).is_some_and(|member| member.leaving == Some(Leaving::Rebuild));
        self.appointed_at = now;
        self.change(|state| {
            if first {
                state.epoch = state.epoch.next();
            }
            state.primary = Some(winner);
            state.last_primary = Some(winner);
            state.last_epoch = state.epoch;
            state.witnesses.insert(winner);
            state.doubtful = doubtful;
            state.appointed = start.map(|start| Appointed { start, origin: origin.clone() });
            if start.is_none() {
                state.origins.insert(origin);
            }
            state.strays = strays;
            state.ackers = state.strays.remove(&winner).unwrap_or_default();
            state.leased = leased;
            state.failovers = failovers;
            state.floor = position;
            if let Some(member) = state.members.get_mut(&winner) {
                member.leaving = None;
                member.damaged = false; // its replicas will tell
            }
        });
        if rebuilt {
            self.log(now, EventKind::RebuildDropped { member: winner });
        }
        self.followers_wait = is_doubtful.then_some(self.state.epoch);
        self.log(now, EventKind::Elected { member: winner, gtids });
        if let Some(mut election) = self.election.take() {
            election.progress.decided_at = Some(now);
            election.progress.decision_revision = Some(self.revision);
            self.failover = Some(election.progress);
        }
    }

    /// Takes note when the decided primary says that it is open.
    pub(super) fn confirm_primary(&mut self, now: Millis) {
        let Some(primary) = self.state.primary.filter(|_| self.is_open()) else { return };
        self.followers_wait = None;
        let epoch = self.state.epoch;
        let Some(member) = self.state.members.get(&primary) else { return };
        let endpoint = member.endpoint.clone();
        let origin = self.observed.get(&primary).and_then(|o| o.report.as_ref()).map(|r| r.origin.clone());
        let origin = origin.unwrap_or_default();
        let noted = member.joined && member.attached == epoch && self.state.opened && self.state.witnesses.len() == 1;
        let up_to_date = self.is_up_to_date(now);
        if !noted || (up_to_date && self.state.outdated) {
            self.change(|state| {
                state.opened = true;
                state.outdated &= !up_to_date;
                state.witnesses.retain(|id| *id == primary);
                state.origins = BTreeSet::from([origin]);
                state.appointed = None;
                state.doubtful.clear();
                if let Some(member) = state.members.get_mut(&primary) {
                    member.joined = true;
                    member.attached = epoch;
                }
            });
        }
        // Also after a restart of the scheduler: whoever follows the events has no other way to know where to write now.
        if self.told_open != Some((epoch, primary)) {
            self.told_open = Some((epoch, primary));
            self.log(now, EventKind::Promoted { member: primary, endpoint });
        }
        self.finish_failover(now, primary);
    }

    /// Fills in the timeline: once when the primary opened, and once more when its first replica is connected.
    fn finish_failover(&mut self, now: Millis, primary: MemberId) {
        let epoch = self.state.epoch;
        let replica = self.observed.iter().any(|(id, o)| *id != primary && o.following(epoch) == Some(true));
        let Some(progress) = &mut self.failover else { return };
        let promoted_at = *progress.promoted_at.get_or_insert(now);
        if progress.planned {
            let ms = promoted_at.since(progress.lost_at);
            self.failover = None;
            return self.switchover_ended(now, primary, ms);
        }
        let since = |at: Option<Millis>| at.unwrap_or(promoted_at).since(progress.lost_at);
        let timeline = Timeline {
            epoch: progress.epoch,
            from: progress.from,
            to: primary,
            checkpointed_ms: since(progress.epoch_durable),
            frozen_ms: since(progress.decided_at),
            decided_ms: since(progress.decision_durable),
            promoted_ms: since(Some(promoted_at)),
            replica_ms: replica.then(|| now.since(progress.lost_at)),
        };
        let complete = replica || self.state.members.len() == 1;
        self.last_failover = Some(timeline.clone());
        if complete {
            self.failover = None;
            self.log(now, EventKind::FailedOver { timeline });
        }
    }

    /// For the timeline: something became durable.
    pub(super) fn note_durable(&mut self, now: Millis) {
        let persisted = self.persisted;
        let progress = self.failover.as_mut().or(self.election.as_mut().map(|e| &mut e.progress));
        let Some(progress) = progress else { return };
        if progress.epoch_durable.is_none() && progress.epoch_revision <= persisted {
            progress.epoch_durable = Some(now);
        }
        if progress.decision_durable.is_none() && progress.decision_revision.is_some_and(|r| r <= persisted) {
            progress.decision_durable = Some(now);
        }
    }
}
