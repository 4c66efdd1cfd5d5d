//! Handing over from an open primary to a replica that has everything, on purpose.
//!
//! 1. *Step down*, in the present epoch: the primary becomes read-only, lets the commits under way end, and tells its
//!    last position. This is a *turn* of the epoch, durable before it is said.
//! 2. The candidate applies all of that position; bounded in time.
//! 3. An ordinary election, in the next epoch, that prefers the candidate. All rules of a failover hold: that the old
//!    primary has stepped down is needed to be gentle and to lose nobody's transaction, never to be safe.
//!
//! Whatever goes wrong before 3 ends with another turn of the same epoch: the old primary is told to open again. Nobody
//! else can have opened, because that takes an epoch of its own. A scheduler that is restarted does the same.

use super::event::EventKind;
use super::view::SwitchoverView;
use super::{Cluster, Effect};
use crate::protocol::{MemberRole, Stage, ToExecutor, Trouble};
use crate::{AgentId, GtidSet, MemberId, Millis};
use std::collections::BTreeSet;

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
    #[error("no primary is open for writes: wait until one is")]
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
    deadline: Millis,
    /// Where the old primary stands for good.
    position: Option<GtidSet>,
    /// When the candidate was last asked how far it is.
    asked: Option<Millis>,
}

/// Why a cluster hands over by itself.
#[derive(Clone, Debug)]
struct Cause {
    reason: String,
    /// How long to wait before the next attempt.
    pause_ms: u64,
    /// Whether the primary waits for it and can be let go.
    waits: bool,
}

impl Cluster {
    /// Asks to hand over to `to`, or to the replica that suits best. Answers with the present primary and its successor.
    ///
    /// # Errors
    /// Why that cannot be begun.
    pub fn switchover(&mut self, now: Millis, to: Option<MemberId>) -> Result<(MemberId, MemberId), SwitchoverError> {
        let from = self.may_hand_over()?;
        let to = match to {
            Some(to) if !self.state.members.contains_key(&to) => return Err(SwitchoverError::NoMember(to)),
            Some(to) if to == from => return Err(SwitchoverError::IsPrimary(to)),
            Some(to) => match self.why_not_ready(now, to) {
                Some(why) => return Err(SwitchoverError::NotReady { member: to, why }),
                None => to,
            },
            None => self.best_successor(now, from, &BTreeSet::new())?,
        };
        self.begin_switchover(now, from, to, "it was asked for");
        self.reconcile(now);
        Ok((from, to))
    }

    /// Says which agents are to be taken down: a primary on one of them hands over as soon as it can, and to no member
    /// that is on one. Replaces what was said before.
    pub fn vacate(&mut self, now: Millis, agents: BTreeSet<AgentId>) {
        if self.vacate != agents {
            self.vacate = agents;
            self.switchover_pause_until = Millis(0);
            self.reconcile(now);
        }
    }

    /// Whether the cluster stays open, with as many replicas as must acknowledge, when these agents are taken down.
    pub fn can_do_without(&self, now: Millis, agents: &BTreeSet<AgentId>) -> bool {
        let stays = |id: &MemberId| self.state.members.get(id).is_some_and(|member| !agents.contains(&member.agent));
        let healthy = |id: &MemberId| self.observed.get(id).is_some_and(|o| self.is_healthy(now, *id, o));
        let open = self.state.primary.filter(|_| self.is_open() && self.switchover.is_none());
        let replicas =
            self.state.staying().map(|(id, _)| id).filter(|id| Some(*id) != open && stays(id) && healthy(id));
        let enough = replicas.count() >= self.state.spec.durability.acks() as usize;
        self.state.deleting || open.is_some_and(|primary| stays(&primary)) && enough
    }

    /// The primary that can hand over.
    fn may_hand_over(&self) -> Result<MemberId, SwitchoverError> {
        if self.switchover.is_some() || self.latest_switchover.as_ref().is_some_and(SwitchoverView::is_under_way) {
            return Err(SwitchoverError::UnderWay);
        }
        let open = self.state.primary.filter(|id| self.is_open() && self.unobeyed(*id).is_none());
        let primary = open.filter(|_| !self.state.deleting).ok_or(SwitchoverError::NoPrimary)?;
        if self.state.members.len() == 1 { Err(SwitchoverError::Alone) } else { Ok(primary) }
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

    fn best_successor(
        &self,
        now: Millis,
        from: MemberId,
        shunned: &BTreeSet<AgentId>,
    ) -> Result<MemberId, SwitchoverError> {
        let here = self.state.members.get(&from).map(|m| &m.agent);
        let (mut ready, mut why) = (Vec::new(), Vec::new());
        for (id, member) in self.state.members.iter().filter(|(id, _)| **id != from) {
            if shunned.contains(&member.agent) {
                why.push(format!("member {id}: its agent is to be taken down, too"));
            } else if let Some(reason) = self.why_not_ready(now, *id) {
                why.push(format!("member {id}: {reason}"));
            } else {
                let report = self.observed.get(id).and_then(|o| o.report.as_ref());
                let behind = report.map_or((0, 0), |r| (r.lag_s.unwrap_or(0), r.unapplied));
                ready.push((Some(&member.agent) == here, behind, *id));
            }
        }
        let best = ready.into_iter().min().map(|(_, _, id)| id);
        best.ok_or_else(|| SwitchoverError::NoCandidate { why: why.join("; ") })
    }

    fn begin_switchover(&mut self, now: Millis, from: MemberId, to: MemberId, reason: &str) {
        self.change(|state| {
            state.turn += 1;
            state.switchover = Some(to);
        });
        assert!(self.state.turn % 2 == 1, "an open primary's turn is even");
        let deadline = now.after(self.timing.step_down_ms).after(self.timing.step_down_patience_ms);
        self.switchover = Some(Switchover { from, to, started: now, deadline, position: None, asked: None });
        self.latest_switchover = Some(SwitchoverView::under_way(from, to));
        self.log(now, EventKind::SwitchingOver { from, to, reason: reason.to_owned() });
    }

    /// Drives a switchover on, takes one back, or begins one by itself.
    pub(super) fn reconcile_switchover(&mut self, now: Millis, primary: MemberId) {
        if self.switchover.is_some() {
            self.advance_switchover(now);
        } else if self.state.switchover.is_some() {
            let to = self.state.switchover.unwrap_or_default();
            self.latest_switchover = Some(SwitchoverView::under_way(primary, to));
            self.take_back(now, "the scheduler was restarted");
        } else if self.may_hand_over().is_ok_and(|id| id == primary) {
            self.reopening_since = None;
            self.hand_over_when_needed(now, primary);
        } else if self.state.turn > 0 && !self.is_open() {
            // To be told to open again is all that it needs. If that does not help, others may do better.
            let since = *self.reopening_since.get_or_insert(now);
            let due = since.after(self.timing.reopen_ms);
            let steps = self.observed.get(&primary).and_then(|o| o.report.as_ref()).is_some_and(|r| {
                r.epoch == self.state.epoch && matches!(r.role, MemberRole::SteppedDown | MemberRole::Promoting)
            });
            if steps && now >= due {
                self.begin_election(now, "it could not be opened again after a switchover failed");
            } else if steps {
                self.wake_at(due);
            }
        } else if self.state.members.len() == 1 && self.is_open() {
            self.hand_over_when_needed(now, primary);
        }
    }

    fn advance_switchover(&mut self, now: Millis) {
        let Some(Switchover { from, to, started, deadline, position, asked }) = &self.switchover else { return };
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
                self.switchover =
                    Some(Switchover { from, to, started, deadline, position: Some(position), asked: None });
                return self.advance_switchover(now);
            }
            if now < deadline {
                return self.wake_at(deadline);
            }
            let why = report.and_then(|r| r.trouble.as_ref()).map(|t| format!(": {t}")).unwrap_or_default();
            return self.take_back(now, &format!("member {from} did not step down in time{why}"));
        };
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
        self.log(now, EventKind::SwitchoverFailed { from, to, reason: reason.to_owned() });
    }

    /// The primary that an election of a switchover ended with is open.
    pub(super) fn switchover_ended(&mut self, now: Millis, primary: MemberId, ms: u64) {
        let Some(latest) = self.latest_switchover.as_mut().filter(|latest| latest.is_under_way()) else { return };
        let (from, to) = (latest.from, latest.to);
        if primary == to {
            latest.succeed(ms);
            self.log(now, EventKind::SwitchedOver { from, to, ms });
        } else {
            self.switchover_failed(now, &format!("member {primary} was elected instead"));
        }
    }

    /// Why the primary should hand over without being asked to.
    fn cause(&self, primary: MemberId) -> Option<Cause> {
        let report = self.observed.get(&primary)?.report.as_ref()?;
        let agent = &self.state.members.get(&primary)?.agent;
        let (reason, pause_ms, waits) = if report.asked_to_leave {
            ("its agent wants it to end".to_owned(), self.timing.leave_retry_ms, true)
        } else if self.vacate.contains(agent) {
            (format!("its agent {agent} is to be taken down"), self.timing.vacate_retry_ms, false)
        } else if let Some(trouble @ Trouble::Storage { .. }) = &report.trouble {
            (trouble.to_string(), self.timing.storage_retry_ms, false)
        } else {
            return None;
        };
        Some(Cause { reason, pause_ms, waits })
    }

    fn hand_over_when_needed(&mut self, now: Millis, primary: MemberId) {
        let Some(Cause { reason, pause_ms, waits }) = self.cause(primary) else { return };
        if now < self.switchover_pause_until {
            let until = self.switchover_pause_until;
            return self.wake_at(until);
        }
        match self.best_successor(now, primary, &self.vacate) {
            Ok(to) => {
                self.switchover_pause_until = now.after(pause_ms);
                self.begin_switchover(now, primary, to, &reason);
                let deadline = self.switchover.as_ref().map_or(now, |s| s.deadline);
                self.wake_at(deadline);
            }
            Err(_) if waits && self.state.spec.size == 1 && self.state.members.len() == 1 => {
                // Nobody will ever take its place.
                self.switchover_pause_until = now.after(self.timing.resend_ms);
                self.let_go(primary);
                let until = self.switchover_pause_until;
                self.wake_at(until);
            }
            Err(_) => {} // whatever makes a member ready is news, and leads here again
        }
    }

    /// Tells a member that its end need not wait for a successor.
    pub(super) fn let_go(&mut self, member: MemberId) {
        if let Some(agent) = self.state.members.get(&member).map(|m| m.agent.clone()) {
            self.want(Effect::Send { member, agent, message: ToExecutor::LetGo });
        }
    }

    /// Whether a member may put off its end, because it is or was the primary.
    pub(super) fn may_linger(&self, member: MemberId) -> bool {
        let role = self.observed.get(&member).and_then(|o| o.report.as_ref()).map(|r| &r.role);
        let serves = matches!(role, Some(MemberRole::Primary | MemberRole::Promoting | MemberRole::SteppedDown));
        serves || self.state.primary == Some(member)
    }
}
