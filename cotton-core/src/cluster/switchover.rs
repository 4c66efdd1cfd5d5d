//! Handing over from an open primary to a replica that has everything, on purpose.
//!
//! 1. *Step down*, in the present epoch: the primary becomes read-only, lets the commits under way end, and tells its
//!    last position. This is a *turn* of the epoch, durable before it is said.
//! 2. The candidate applies all of that position; bounded in time.
//! 3. An ordinary election, in the next epoch, that prefers the candidate. All rules of a failover hold: that the old
//!    primary has stepped down is needed to be gentle and to lose nobody's transaction, never to be safe.
//!
//! Whatever goes wrong before 3 ends with another turn of the same epoch: the old primary is told to open again. Nobody
//! else can have opened, because that takes an epoch of its own. A scheduler that is restarted does the same. When none is
//! there to say so, the primary opens again by itself after a while (`executor/turn.rs`).

use super::Cluster;
use super::event::EventKind;
use super::vacate::Pause;
use super::view::SwitchoverView;
use crate::protocol::{MemberRole, Stage};
use crate::{GtidSet, MemberId, Millis};
use std::cmp::Reverse;

/// Longer behind than this, in seconds, and a replica is not tried: it would not catch up in time.
const LAG_S_MAX: u64 = 5;
/// How often the candidate is asked how far it is, in milliseconds.
const ASK_MS: u64 = 50;

/// Why a switchover was refused; nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchoverError {
    /// No such member.
    #[error("there is no member {0}: see the cluster's members")]
    NoMember(MemberId),
    /// It is the primary already.
    #[error("member {0} is the primary already")]
    IsPrimary(MemberId),
    /// It cannot take over at the moment.
    #[error("member {member} cannot take over: {why}")]
    NotReady {
        /// Which member.
        member: MemberId,
        /// What keeps it from that.
        why: String,
    },
    /// Nobody can take over at the moment.
    #[error("no member can take over: {why}")]
    NoCandidate {
        /// What keeps each of them from that.
        why: String,
    },
    /// The only member.
    #[error("the cluster has no other member: scale it up first")]
    Alone,
    /// Without an open primary there is nothing to hand over.
    #[error("the cluster has no settled primary at the moment: try again in a few seconds")]
    NoPrimary,
    /// One at a time.
    #[error("a switchover is under way: wait for its end")]
    UnderWay,
}

/// A switchover before its election.
#[derive(Debug)]
pub(super) struct Switchover {
    from: MemberId,
    pub(super) to: MemberId,
    pub(super) started: Millis,
    /// When the present phase has taken too long.
    pub(super) deadline: Millis,
    /// Where the old primary stands for good.
    position: Option<GtidSet>,
    /// When the candidate was last asked how far it is.
    asked: Option<Millis>,
}

impl Cluster {
    /// Asks to hand over to `to`, or to the replica that suits best. Answers with the present primary and its successor.
    ///
    /// # Errors
    /// Why that cannot be begun.
    pub fn switchover(&mut self, now: Millis, to: Option<MemberId>) -> Result<(MemberId, MemberId), SwitchoverError> {
        let (from, to) = self.who_takes_over(now, to)?;
        self.pause = Pause::default();
        self.begin_switchover(now, from, to, "it was asked for");
        self.reconcile(now);
        Ok((from, to))
    }

    /// Who would hand over to whom if that was asked for now.
    pub(super) fn who_takes_over(
        &self,
        now: Millis,
        to: Option<MemberId>,
    ) -> Result<(MemberId, MemberId), SwitchoverError> {
        let from = self.may_hand_over()?;
        let to = match to {
            Some(to) if !self.state.members.contains_key(&to) => return Err(SwitchoverError::NoMember(to)),
            Some(to) if to == from => return Err(SwitchoverError::IsPrimary(to)),
            Some(to) => match self.why_not_for_long(from, to).or_else(|| self.why_not_ready(now, to)) {
                Some(why) => return Err(SwitchoverError::NotReady { member: to, why }),
                None => to,
            },
            None => self.best_successor(now, from, None)?,
        };
        Ok((from, to))
    }

    /// The primary that can hand over.
    pub(super) fn may_hand_over(&self) -> Result<MemberId, SwitchoverError> {
        if self.switchover.is_some() || self.latest_switchover.as_deref().is_some_and(SwitchoverView::is_under_way) {
            return Err(SwitchoverError::UnderWay);
        }
        let open = self.state.primary.filter(|id| self.is_open() && self.unobeyed(*id).is_none());
        let primary = open.filter(|_| !self.state.deleting).ok_or(SwitchoverError::NoPrimary)?;
        if self.state.members.len() == 1 { Err(SwitchoverError::Alone) } else { Ok(primary) }
    }

    /// Why a replica would have to hand over again soon, before the present primary would.
    fn why_not_for_long(&self, from: MemberId, to: MemberId) -> Option<String> {
        let goes = self.state.members.get(&to).and_then(|member| self.vacate.get(&member.agent)).copied();
        let sooner = goes.is_some() && self.goes_after(from).is_none_or(|after| goes <= Some(after));
        sooner.then(|| "its agent is to be taken down".to_owned())
    }

    /// Why a replica cannot take over now.
    fn why_not_ready(&self, now: Millis, id: MemberId) -> Option<String> {
        let (Some(member), Some(observed)) = (self.state.members.get(&id), self.observed.get(&id)) else {
            return Some("it has never been heard of".to_owned());
        };
        let report = observed.report.as_ref();
        Some(if member.resting {
            "its task has ended, and its volume waits for another".to_owned()
        } else if let Some(leaving) = member.leaving {
            format!("it is leaving, since {}", leaving.reason())
        } else if report.is_some_and(|r| r.asked_to_leave) {
            "its agent wants it to end".to_owned()
        } else if !member.joined {
            "it is no complete copy yet".to_owned()
        } else if self.is_ruled_out(id) {
            "its promotion rule is 'never': change it first, with 'cotton rule'".to_owned()
        } else if let Some(trouble) = observed.trouble() {
            trouble.to_string()
        } else if let Some(lag_s) = report.and_then(|r| r.lag_s).filter(|lag_s| *lag_s > LAG_S_MAX) {
            format!("it is {lag_s} s behind")
        } else if !self.is_healthy(now, id, observed) {
            "it is not connected to the primary, or not heard of".to_owned()
        } else {
            return None;
        })
    }

    /// Who should take over. One whose agent is to be taken down is the last choice, and none if that is not after
    /// `goes_after`.
    pub(super) fn best_successor(
        &self,
        now: Millis,
        from: MemberId,
        goes_after: Option<Millis>,
    ) -> Result<MemberId, SwitchoverError> {
        let here = self.state.members.get(&from).map(|m| &m.agent);
        let (mut ready, mut why) = (Vec::new(), Vec::new());
        for (id, member) in self.state.members.iter().filter(|(id, _)| **id != from) {
            let goes = self.vacate.get(&member.agent).copied();
            if goes.is_some_and(|at| goes_after.is_some_and(|after| at <= after)) {
                why.push(format!("member {id}: its agent is to be taken down, too"));
            } else if let Some(reason) = self.why_not_ready(now, *id) {
                why.push(format!("member {id}: {reason}"));
            } else {
                let report = self.observed.get(id).and_then(|o| o.report.as_ref());
                let behind = report.map_or((0, 0), |r| (r.lag_s.unwrap_or(0), r.unapplied));
                ready.push((goes.is_some(), Reverse(goes), member.rule, Some(&member.agent) == here, behind, *id));
            }
        }
        let best = ready.into_iter().min().map(|(.., id)| id);
        best.ok_or_else(|| SwitchoverError::NoCandidate { why: why.join("; ") })
    }

    pub(super) fn begin_switchover(&mut self, now: Millis, from: MemberId, to: MemberId, reason: &str) {
        self.change(|state| {
            state.turn += 1;
            state.switchover = Some(to);
        });
        assert!(self.state.turn % 2 == 1, "an open primary's turn is even");
        let deadline = now.after(self.timing.step_down_ms).after(self.timing.step_down_patience_ms);
        self.switchover = Some(Box::new(Switchover { from, to, started: now, deadline, position: None, asked: None }));
        self.latest_switchover = Some(Box::new(SwitchoverView::under_way(from, to)));
        self.log(now, EventKind::SwitchingOver { from, to, reason: reason.to_owned() });
    }

    /// Drives a switchover on, takes one back, or begins one by itself.
    pub(super) fn reconcile_switchover(&mut self, now: Millis, primary: MemberId) {
        if self.is_open() && self.unobeyed(primary).is_none() {
            self.reopening_since = None;
        }
        if self.switchover.is_some() {
            self.advance_switchover(now);
        } else if self.state.switchover.is_some() {
            let to = self.state.switchover.unwrap_or_default();
            self.latest_switchover = Some(Box::new(SwitchoverView::under_way(primary, to)));
            self.take_back(now, "the scheduler was restarted");
        } else if self.may_hand_over().is_ok_and(|id| id == primary) {
            self.hand_over_when_needed(now, primary);
        } else if self.reopens(primary) {
            // To be told to open again is all that it needs. If that does not help, or does not reach it, others do better:
            // whatever was last heard of it, it may take no writes.
            let since = *self.reopening_since.get_or_insert(now);
            let due = since.max(self.heard_since.unwrap_or(now)).after(self.timing.reopen_ms);
            let silence = self.timing.silence_ms;
            let anybody = self.observed.values().any(|observed| observed.silent_ms(now) < silence);
            if now < due {
                self.wake_at(due);
            } else if anybody {
                self.begin_election(now, "it could not be opened again after a switchover failed");
            }
        } else if self.state.members.len() == 1 && self.is_open() {
            self.hand_over_when_needed(now, primary);
        }
    }

    /// Whether the primary was told to open again, and has not said that it did.
    fn reopens(&self, primary: MemberId) -> bool {
        let report = self.observed.get(&primary).and_then(|o| o.report_in(self.state.epoch));
        let steps = |role: &MemberRole| matches!(role, MemberRole::SteppedDown | MemberRole::Promoting);
        let closed = report.is_some_and(|r| steps(&r.role));
        self.state.turn > 0 && (closed || self.reopening_since.is_some())
    }

    fn advance_switchover(&mut self, now: Millis) {
        let Some(Switchover { from, to, started, deadline, position, asked }) = self.switchover.as_deref() else {
            return;
        };
        let (from, to, started, deadline, asked) = (*from, *to, *started, *deadline, *asked);
        let (epoch, turn) = (self.state.epoch, self.state.turn);
        let follows = self.observed.get(&to).and_then(|o| o.following(epoch)) == Some(true);
        if !follows || self.state.members.get(&to).is_none_or(|m| m.leaving.is_some()) {
            return self.take_back(now, &format!("member {to} does not follow the primary any more"));
        }
        let Some(position) = position.clone() else {
            let report = self.observed.get(&from).and_then(|o| o.report_in(epoch));
            let done = report
                .filter(|r| r.role == MemberRole::SteppedDown && r.stage == Some(Stage::Turn(turn)))
                .map(|r| r.position.clone());
            if let Some(position) = done {
                let deadline = now.after(self.timing.catch_up_ms);
                let position = Some(position);
                self.switchover = Some(Box::new(Switchover { from, to, started, deadline, position, asked: None }));
                return self.advance_switchover(now);
            }
            if now < deadline {
                return self.wake_at(deadline);
            }
            let why = report.and_then(|r| r.trouble.as_ref()).map(|t| format!(": {t}")).unwrap_or_default();
            return self.take_back(now, &format!("member {from} did not step down in time{why}"));
        };
        if self.observed.get(&from).and_then(|o| o.report_in(epoch)).is_some_and(|r| r.role == MemberRole::Primary) {
            return self.take_back(now, &format!("member {from} has opened again by itself"));
        }
        let report = self.observed.get(&to).and_then(|o| o.report_in(epoch));
        let complete = report.is_some_and(|r| r.unapplied == 0 && r.position.contains(&position));
        if complete {
            self.switchover = None;
            return self.begin_handover(now, from, to, started);
        }
        if now >= deadline {
            let seconds = self.timing.catch_up_ms / 1000;
            return self.take_back(now, &format!("member {to} did not catch up within {seconds} s"));
        }
        let due = asked.map_or(now, |at| at.after(ASK_MS));
        if now >= due {
            self.ask_for_report(to);
            if let Some(switchover) = &mut self.switchover {
                switchover.asked = Some(now);
            }
        }
        self.wake_at(due.max(now.after(ASK_MS)).min(deadline));
    }

    /// Lets the old primary open again.
    fn take_back(&mut self, now: Millis, reason: &str) {
        self.switchover = None;
        self.reopening_since = Some(now);
        self.change(|state| {
            state.turn += 1;
            state.switchover = None;
        });
        self.switchover_failed(now, reason);
    }

    /// Takes note of the end of a switchover that did not come to its end.
    pub(super) fn switchover_failed(&mut self, now: Millis, reason: &str) {
        self.switchover = None;
        let Some(latest) = self.latest_switchover.as_mut().filter(|latest| latest.is_under_way()) else { return };
        latest.fail(reason);
        let (from, to) = (latest.from, latest.to);
        self.pause_switchovers(now);
        self.log(now, EventKind::SwitchoverFailed { from, to, reason: reason.to_owned() });
    }

    /// The primary that an election of a switchover ended with is open.
    pub(super) fn switchover_ended(&mut self, now: Millis, primary: MemberId, ms: u64) {
        let Some(latest) = self.latest_switchover.as_mut().filter(|latest| latest.is_under_way()) else { return };
        let (from, to) = (latest.from, latest.to);
        if primary == to {
            latest.succeed(ms);
            self.pause.failures = 0;
            self.log(now, EventKind::SwitchedOver { from, to, ms });
        } else {
            self.switchover_failed(now, &format!("member {primary} was elected instead"));
        }
    }
}
