//! Handing over unasked: away from agents that are to be taken down or that want the primary to end, and from disks that
//! fail; and whether a cluster can do without an agent.

use super::{Cluster, Effect};
use crate::backoff::Pauses;
use crate::protocol::{MemberRole, ToExecutor, Trouble};
use crate::{AgentId, MemberId, Millis};
use std::collections::{BTreeMap, BTreeSet};

/// Longest pause after a switchover that failed, in milliseconds.
const PAUSE_MS_MAX: u64 = 600_000;

/// Starts of maintenances that are not further apart than this, in milliseconds, are the same.
pub(crate) const SAME_START_MS: u64 = 60_000;

/// What makes a cluster hand over by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Why {
    /// Its agent wants the primary to end, and the primary waits for it.
    #[default]
    Asked,
    /// Its agent is to be taken down: no better on an agent that goes no later.
    Vacates,
    /// Its storage fails.
    Storage,
    /// A person has decided that it is not to be primary.
    Rule,
}

/// Until when a cluster does not hand over again for the same reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    why: Why,
    until: Millis,
    /// After the first failure; doubled with each that follows.
    first_ms: u64,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl Cluster {
    /// Says which agents are to be taken down soon, and when: a primary on one of them hands over as soon as it can, to a
    /// member that stays, or stays longer. Replaces what was said before.
    pub fn vacate(&mut self, now: Millis, agents: BTreeMap<AgentId, Millis>) {
        if self.vacate != agents {
            self.vacate = agents;
            if self.pause.why == Why::Vacates && self.pause.failures == 0 {
                self.pause = Pause::default();
            }
            self.reconcile(now);
        }
    }

    /// Why the cluster would not stay open, with as many replicas as must acknowledge, when these agents are taken down;
    /// `None` when it would.
    pub fn why_needed(&self, now: Millis, agents: &BTreeSet<AgentId>) -> Option<String> {
        let stays = |id: &MemberId| {
            let leaves = self.observed.get(id).and_then(|o| o.report.as_ref()).is_some_and(|r| r.asked_to_leave);
            !leaves && self.state.members.get(id).is_some_and(|member| !agents.contains(&member.agent))
        };
        let healthy = |id: &MemberId| self.observed.get(id).is_some_and(|o| self.is_healthy(now, *id, o));
        if self.state.deleting {
            let undone = self.persisted < self.revision; // until that is durable, it may come to nothing
            return undone.then(|| "its deletion is not saved yet".to_owned());
        }
        if self.state.paused && self.state.members.values().any(|member| agents.contains(&member.agent)) {
            return Some("the cluster is paused: resume it first".to_owned());
        }
        let Some(primary) = self.state.primary.filter(|_| self.is_open() && self.switchover.is_none()) else {
            return Some("no primary is open for writes".to_owned());
        };
        if !stays(&primary) {
            let there = format!("its primary, member {primary}, is there");
            return Some(match self.best_successor(now, primary, self.goes_after(primary)) {
                Ok(_) => format!("{there}, and hands over"),
                Err(error) => format!("{there}: {error}"),
            });
        }
        let others = self.state.staying().map(|(id, _)| id).filter(|id| Some(*id) != self.state.primary);
        let count = others.filter(|id| stays(id) && healthy(id)).count();
        let acks = self.state.spec.durability.acks() as usize;
        (count < acks).then(|| "no other healthy replica would be left to acknowledge commits".to_owned())
    }

    /// When a member's agent is to be taken down, if it is: whoever takes over must stay longer than that.
    pub(super) fn goes_after(&self, member: MemberId) -> Option<Millis> {
        let agent = self.state.members.get(&member).map(|member| &member.agent);
        agent.and_then(|agent| self.vacate.get(agent)).map(|at| at.after(SAME_START_MS))
    }

    /// Whether a member's agent is about to go, or wants it to.
    pub(super) fn is_about_to_go(&self, id: MemberId) -> bool {
        let asked = self.observed.get(&id).and_then(|o| o.report.as_ref()).is_some_and(|r| r.asked_to_leave);
        asked || self.state.members.get(&id).is_some_and(|member| self.vacate.contains_key(&member.agent))
    }

    /// After an attempt that failed, the next one that nobody asks for comes later each time.
    pub(super) fn pause_switchovers(&mut self, now: Millis) {
        self.pause.failures += 1;
        let pauses = Pauses { first_ms: self.pause.first_ms, max_ms: PAUSE_MS_MAX };
        self.pause.until = now.after(pauses.after(self.pause.failures));
    }

    /// Why the primary should hand over without being asked to, in words as well, and how long to wait before the next
    /// attempt.
    fn cause(&self, primary: MemberId) -> Option<(Why, String, u64)> {
        let report = self.observed.get(&primary)?.report.as_ref()?;
        let agent = &self.state.members.get(&primary)?.agent;
        if report.asked_to_leave {
            Some((Why::Asked, "its agent wants it to end".to_owned(), self.timing.leave_retry_ms))
        } else if self.vacate.contains_key(agent) {
            Some((Why::Vacates, format!("its agent {agent} is to be taken down"), self.timing.vacate_retry_ms))
        } else if let Some(trouble) = report.trouble.as_ref().filter(|trouble| trouble.is_of_storage())
            && !report.waits_for_room
        {
            // One whose commits wait for room cannot step down: it would have to break them off.
            // A disk may be given room; what is gone is gone, and nobody knows for how long the server still runs.
            let is_gone = matches!(trouble, Trouble::DataGone { .. });
            let retry_ms = if is_gone { self.timing.leave_retry_ms } else { self.timing.storage_retry_ms };
            Some((Why::Storage, trouble.to_string(), retry_ms))
        } else if self.is_ruled_out(primary) {
            let reason = format!("the promotion rule of member {primary} is 'never'");
            Some((Why::Rule, reason, self.timing.vacate_retry_ms))
        } else {
            None
        }
    }

    pub(super) fn hand_over_when_needed(&mut self, now: Millis, primary: MemberId) {
        let Some((why, reason, first_ms)) = self.cause(primary) else { return };
        if self.pause.why != why {
            self.pause = Pause { why, ..Pause::default() };
        }
        if now < self.pause.until {
            let until = self.pause.until;
            return self.wake_at(until);
        }
        let goes_after = self.goes_after(primary).filter(|_| why == Why::Vacates);
        match self.best_successor(now, primary, goes_after) {
            Ok(to) => {
                self.pause.first_ms = first_ms;
                self.pause.until = now.after(first_ms);
                self.begin_switchover(now, primary, to, &reason);
                let deadline = self.switchover.as_ref().map_or(now, |s| s.deadline);
                self.wake_at(deadline);
            }
            Err(_) if why == Why::Asked && self.state.spec.size == 1 && self.state.members.len() == 1 => {
                // Nobody will ever take its place.
                self.pause.until = now.after(self.timing.resend_ms);
                self.let_go(primary);
                let until = self.pause.until;
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
