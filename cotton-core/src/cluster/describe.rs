//! Saying what a cluster is and what it waits for.

use super::Cluster;
use super::state::{Leaving, Member};
use super::view::{ClusterStatus, ClusterView, MemberView, Reason, ReasonCode, RetryView};
use crate::election::Undecided;
use crate::protocol::{MemberRole, Trouble};
use crate::{MemberId, Millis, TaskId};

/// Reason that does not make a cluster less healthy: it has all the members that it wants.
const UNREACHABLE: ReasonCode = ReasonCode::MemberUnreachable;

impl Cluster {
    /// A snapshot for people and programs.
    pub fn view(&self, now: Millis) -> ClusterView {
        let state = &self.state;
        let primary = state.primary.filter(|_| self.is_open());
        let reasons = self.reasons(now);
        ClusterView {
            name: state.spec.name.clone(),
            user: state.spec.user.clone(),
            status: self.status(now, &reasons),
            size: state.spec.size,
            resources: state.spec.resources,
            durability: state.spec.durability,
            preference: state.spec.preference,
            epoch: state.epoch,
            primary,
            endpoint: primary.and_then(|p| state.members.get(&p)).map(|m| m.endpoint.clone()),
            members: state.members.iter().map(|(id, m)| self.member_view(now, *id, m)).collect(),
            last_failover: self.last_failover.clone(),
            switchover: self.latest_switchover.as_deref().cloned(),
            reasons,
            retries: self.retries(now),
            refusals: Vec::new(), // the fleet knows them
        }
    }

    fn member_view(&self, now: Millis, id: MemberId, member: &Member) -> MemberView {
        let observed = self.observed.get(&id);
        let report = observed.and_then(|o| o.report.as_ref());
        MemberView {
            id,
            task: TaskId::of(self.name(), id, member.run),
            agent: member.agent.clone(),
            endpoint: member.endpoint.clone(),
            role: if member.resting { "resting" } else { report.map_or("unknown", |r| r.role.name()) },
            healthy: observed.is_some_and(|o| self.is_healthy(now, id, o))
                && !self.is_lagging(id)
                && self.errant(id).is_none(),
            leaving: member.leaving.is_some(),
            leaving_code: member.leaving.map(Leaving::code),
            rule: member.rule,
            epoch: report.map(|r| r.epoch).unwrap_or_default(),
            gtids: report.map(|r| r.position.to_string()).unwrap_or_default(),
            lag_s: self.lag_s(id),
            unapplied: report.map(|r| r.unapplied).unwrap_or_default(),
            applying: self.applying(now, id),
            errant: self.errant(id).map(ToString::to_string),
            silent_ms: observed.filter(|o| o.report.is_some()).map(|o| o.silent_ms(now)),
            server_version: report.map(|r| r.server_version.clone()).unwrap_or_default(),
            disk_free_bytes: report.and_then(|r| r.disk_free_bytes),
            trouble: report.and_then(|r| r.trouble.as_ref()).map(ToString::to_string),
            trouble_code: report.and_then(|r| r.trouble.as_ref()).map(Trouble::code),
        }
    }

    fn retries(&self, now: Millis) -> Vec<RetryView> {
        let copy = |(id, member): (&MemberId, &Member)| {
            let observed = self.observed.get(id)?;
            let report = observed.report.as_ref().filter(|report| report.failed_copies > 0)?;
            Some(RetryView {
                what: "copy",
                member: Some(*id),
                agent: Some(member.agent.clone()),
                failures: report.failed_copies,
                in_ms: report.next_copy_ms.unwrap_or_default().saturating_sub(observed.silent_ms(now)),
                reason: report.trouble.as_ref().map(ToString::to_string).unwrap_or_default(),
            })
        };
        let copies = self.state.members.iter().filter_map(copy);
        self.failed_launches(now).into_iter().chain(copies).collect()
    }

    fn failed_launches(&self, now: Millis) -> Vec<RetryView> {
        let staying = || self.state.staying();
        let wanted = staying().count() < self.state.spec.size as usize || staying().any(|(_, member)| !member.joined);
        self.relaunch.views(now, wanted)
    }

    fn status(&self, now: Millis, reasons: &[Reason]) -> ClusterStatus {
        if self.state.deleting {
            ClusterStatus::Deleting
        } else if !self.state.opened {
            ClusterStatus::Creating
        } else if !self.is_open() {
            let held = self.held.is_some() || (self.state.paused && self.state.primary.is_none());
            if held || self.election_waits(now).is_some() { ClusterStatus::Waiting } else { ClusterStatus::FailingOver }
        } else if self.why_blocked().is_some() {
            ClusterStatus::Blocked
        } else if reasons.iter().all(|reason| reason.code == UNREACHABLE) {
            ClusterStatus::Healthy
        } else {
            ClusterStatus::Degraded
        }
    }

    /// Why the primary that was elected is not open yet.
    fn promotion(&self, now: Millis) -> String {
        let applying = self.state.primary.and_then(|id| Some((id, self.applying(now, id)?)));
        let why = applying.map_or_else(String::new, |(id, applying)| format!(": member {id} has {applying}"));
        format!("the elected primary is not open for writes yet{why}")
    }

    fn reasons(&self, now: Millis) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.state.deleting {
            for id in self.state.members.keys() {
                let text = format!("member {id} is being stopped");
                reasons.push(Reason { code: ReasonCode::MemberEnding, member: Some(*id), text });
            }
            return reasons;
        }
        let mut tell = |code, text: String| reasons.push(Reason { code, member: None, text });
        self.tell_levers(&mut tell);
        if let Some(election) = &self.election {
            match &election.waiting {
                Some(undecided @ Undecided::CoolsDown { .. }) => {
                    tell(
                        ReasonCode::FailoverCooldown,
                        format!("{undecided}. To continue now: cotton resume {}", self.name()),
                    );
                }
                Some(undecided) => tell(ReasonCode::ElectionWaits, undecided.to_string()),
                None => tell(ReasonCode::Election, "a new primary is being elected".to_owned()),
            }
        } else if let Some(switchover) = &self.switchover {
            tell(ReasonCode::Switchover, format!("the primary is handing over to member {}", switchover.to));
        } else if self.reopening_since.is_some() {
            tell(ReasonCode::Switchover, "a switchover failed, and the primary is to open again".to_owned());
        } else if self.state.epoch.0 > 0 && !self.is_open() && self.held.is_none() {
            tell(ReasonCode::Promotion, self.promotion(now));
        }
        if let Some(text) = self.why_blocked() {
            tell(ReasonCode::WaitingForAck, text);
        }
        let staying = self.state.staying().count();
        let size = self.state.spec.size as usize;
        if staying < size {
            tell(ReasonCode::MemberMissing, format!("{staying} of {size} members are placed"));
        }
        for retry in self.failed_launches(now) {
            tell(ReasonCode::LaunchFailed, retry.to_string());
        }
        for (id, member) in &self.state.members {
            let mut tell = |code, text: String| reasons.push(Reason { code, member: Some(*id), text });
            if let Some(leaving) = member.leaving {
                let text = self.why_it_leaves(*id, member, leaving);
                let code = if leaving == Leaving::Unreachable { UNREACHABLE } else { ReasonCode::MemberLeaving };
                tell(code, format!("member {id}: {text}"));
                continue;
            }
            if let Some(gtids) = self.errant(*id) {
                let text = "it has transactions of its own, written there and not by the primary:";
                tell(ReasonCode::MemberErrant, format!("member {id}: {text} {gtids}"));
            }
            let Some(observed) = self.observed.get(id) else { continue };
            let applying = self.applying(now, *id);
            if self.is_healthy(now, *id, observed) {
                if let Some(lag_s) = self.lag_s(*id).filter(|_| self.is_lagging(*id)) {
                    let left = applying.map_or_else(String::new, |applying| format!(", and has {applying}"));
                    tell(ReasonCode::MemberLagging, format!("member {id}: it is {lag_s} s behind the primary{left}"));
                }
                continue;
            }
            let silent = observed.silent_ms(now) >= self.timing.silence_ms;
            let text = match &observed.report {
                _ if observed.unreachable_since.is_some() => "its agent cannot be reached".to_owned(),
                None if member.resting => {
                    format!("its task has ended; it waits for an offer of its volume on agent {}", member.agent)
                }
                None if member.joined && silent => {
                    "it has not been heard of since the scheduler was started".to_owned()
                }
                None => "it is being started".to_owned(),
                Some(_) if silent => format!("it has not been heard of for {} s", observed.silent_ms(now) / 1000),
                Some(report) => match (&report.trouble, &report.role, applying) {
                    (Some(trouble), ..) => trouble.to_string(),
                    (None, MemberRole::Down { reason }, _) => format!("its server is down: {reason}"),
                    (None, MemberRole::Following { connected: true }, Some(applying)) => {
                        format!("it is catching up, and has {applying}")
                    }
                    (None, MemberRole::Following { connected: true }, None) => "it is catching up".to_owned(),
                    (None, MemberRole::Following { connected: false }, _) => {
                        "it is not connected to the primary".to_owned()
                    }
                    (None, role, Some(applying)) => format!("it is {}, and has {applying}", role.name()),
                    (None, role, None) => format!("it is {}", role.name()),
                },
            };
            tell(ReasonCode::MemberUnhealthy, format!("member {id}: {text}"));
        }
        reasons
    }

    /// Why a member leaves, and whether it goes on for now.
    fn why_it_leaves(&self, id: MemberId, member: &Member, leaving: Leaving) -> String {
        let spared = self.is_spared(id, member);
        let needed = self.is_needed(id, member);
        let unreachable = self.observed.get(&id).is_some_and(|observed| observed.unreachable_since.is_some());
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others are told alike")]
        match leaving {
            Leaving::Unreachable | Leaving::Missing if spared => {
                format!("{}; it is being replaced, and stays if it is back before", leaving.reason())
            }
            Leaving::Unreachable => {
                "it, or its agent, cannot be reached; it has been replaced, and is stopped when it is back".into()
            }
            _ if needed => {
                format!("it is being replaced: {}; it stays until another replica is complete", leaving.reason())
            }
            _ if unreachable => {
                format!("it is leaving: {}; it ends when its agent {} is back", leaving.reason(), member.agent)
            }
            _ => format!("it is leaving: {}", leaving.reason()),
        }
    }
}
