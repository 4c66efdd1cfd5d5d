//! Pausing between launches that fail. Members that end before they are of any use would else be replaced without end, or run
//! again without end where their volume is.
//!
//! A launch has succeeded when its member is a healthy, complete copy: to run is not enough, since a copy may fail, or be
//! killed, each time. What is kept here is volatile, since a new scheduler may well try at once.

use super::Cluster;
use super::event::EventKind;
use super::state::{Leaving, Member};
use super::view::RetryView;
use crate::backoff::{Backoff, Pauses};
use crate::{AgentId, MemberId, Millis};
use std::collections::BTreeMap;

const PAUSES: Pauses = Pauses { first_ms: 500, max_ms: 60_000 };

/// After so many copies that failed in a row, a member that never was complete is replaced, elsewhere if possible.
const FAILED_COPIES_MAX: u32 = 4;

/// Failed launches in a row.
#[derive(Debug, Default)]
pub(super) struct Relaunch {
    /// Of new members.
    new: Attempts,
    /// Of members that are run again on their volumes.
    returns: BTreeMap<MemberId, Attempts>,
    /// Whether the last launch was dropped: once is a stale offer, twice is a reason to wait.
    dropped: bool,
    /// The latest of each agent.
    verdicts: BTreeMap<AgentId, Verdict>,
}

#[derive(Debug, Default)]
struct Attempts {
    backoff: Backoff,
    /// Whether nothing is to be launched for now.
    waits: bool,
    /// Why the last one failed, and where.
    reason: String,
    agent: Option<AgentId>,
}

/// What a member's fate says about its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A member became a healthy, complete copy there.
    Works,
    /// A member failed there before that.
    Failed(String),
}

impl Attempts {
    /// Gives the pause, if this failure began one: members that were launched together fail together.
    fn failed(&mut self, now: Millis, agent: Option<AgentId>, reason: String) -> Option<u64> {
        let pause = self.backoff.failed_together(now, PAUSES);
        (self.waits, self.reason, self.agent) = (true, reason, agent);
        pause
    }

    /// When the pause ends, if it has not.
    fn reconcile(&mut self, now: Millis) -> Option<Millis> {
        self.waits = self.backoff.is_pausing(now);
        self.waits.then(|| self.backoff.until())
    }

    fn view(&self, now: Millis, what: &'static str, member: Option<MemberId>) -> Option<RetryView> {
        let failures = self.backoff.failures();
        (failures > 0).then(|| RetryView {
            what,
            member,
            agent: self.agent.clone(),
            failures,
            in_ms: self.backoff.until().since(now),
            reason: self.reason.clone(),
        })
    }
}

impl Relaunch {
    /// Whether no new member is to be launched for now.
    pub(super) const fn waits(&self) -> bool {
        self.new.waits
    }

    /// Whether this member is not to be run again for now.
    pub(super) fn is_held(&self, id: MemberId) -> bool {
        self.returns.get(&id).is_some_and(|attempts| attempts.waits)
    }

    /// When the next pause ends.
    pub(super) fn reconcile(&mut self, now: Millis) -> Option<Millis> {
        let all = std::iter::once(&mut self.new).chain(self.returns.values_mut());
        all.filter_map(|attempts| attempts.reconcile(now)).min()
    }

    /// What is tried again, and when; launches of new members only as long as some are `wanted`.
    pub(super) fn views(&self, now: Millis, wanted: bool) -> Vec<RetryView> {
        let returns = self.returns.iter().filter_map(|(id, attempts)| attempts.view(now, "return", Some(*id)));
        let new = self.new.view(now, "launch", None).filter(|_| wanted);
        new.into_iter().chain(returns).collect()
    }

    pub(super) fn forget(&mut self, id: MemberId) {
        self.returns.remove(&id);
    }
}

impl Cluster {
    /// What its members' fates say about their agents.
    pub(crate) fn poll_verdict(&mut self) -> Option<(AgentId, Verdict)> {
        self.relaunch.verdicts.pop_first()
    }

    /// A launch was refused.
    pub(super) fn launch_dropped(&mut self, now: Millis, id: MemberId, reason: &str) {
        if std::mem::replace(&mut self.relaunch.dropped, true) {
            self.note_failed_launch(now, id, reason);
        }
    }

    /// A member has failed before it was of any use, on an agent that may be the reason.
    pub(super) fn launch_failed(&mut self, now: Millis, id: MemberId, reason: &str) {
        if let Some(member) = self.state.members.get(&id) {
            self.relaunch.verdicts.insert(member.agent.clone(), Verdict::Failed(reason.to_owned()));
        }
        self.note_failed_launch(now, id, reason);
    }

    fn note_failed_launch(&mut self, now: Millis, id: MemberId, reason: &str) {
        let Some(member) = self.state.members.get(&id) else { return };
        let agent = Some(member.agent.clone());
        let returns = self.returns_to_its_data(now, id, member);
        let attempts = if returns { self.relaunch.returns.entry(id).or_default() } else { &mut self.relaunch.new };
        let pause = attempts.failed(now, agent, reason.to_owned());
        let failures = attempts.backoff.failures();
        if let Some(retry_ms) = pause {
            let reason = reason.to_owned();
            self.log(now, EventKind::LaunchFailed { member: id, reason, failures, retry_ms });
        }
    }

    fn returns_to_its_data(&self, now: Millis, id: MemberId, member: &Member) -> bool {
        member.leaving.is_none() && self.shall_return(now, id, member)
    }

    /// Takes note of members that have become of use: what failed before is forgotten.
    pub(super) fn note_successes(&mut self, now: Millis) {
        let works = |id: &MemberId| {
            let observed = self.observed.get(id).filter(|observed| !observed.proven)?;
            self.is_healthy(now, *id, observed).then_some(*id)
        };
        let works: Vec<MemberId> = self.state.members.keys().filter_map(works).collect();
        for id in works {
            if let Some(observed) = self.observed.get_mut(&id) {
                observed.proven = true;
            }
            self.relaunch.dropped = false;
            self.relaunch.new = Attempts::default();
            self.relaunch.returns.remove(&id);
            if let Some(member) = self.state.members.get(&id) {
                self.relaunch.verdicts.insert(member.agent.clone(), Verdict::Works);
            }
        }
    }

    /// Whether a member never was of any use, holds nothing that others lack, and will not get any further where it is.
    pub(super) fn why_hopeless(&self, id: MemberId) -> Option<Leaving> {
        use crate::protocol::Trouble;
        let member = self.state.members.get(&id)?;
        if member.joined || self.is_electable(id) || self.state.witnesses.contains(&id) {
            return None;
        }
        let report = self.observed.get(&id)?.report.as_ref()?;
        match &report.trouble {
            Some(Trouble::Unstable { .. }) => Some(Leaving::Unstable),
            Some(Trouble::Broken { .. }) => Some(Leaving::Broken),
            Some(Trouble::DataGone { .. }) => Some(Leaving::DataGone),
            Some(Trouble::Errant { .. }) => Some(Leaving::Errant), // somebody wrote there before it followed
            _ => (report.failed_copies >= FAILED_COPIES_MAX).then_some(Leaving::Stuck),
        }
    }

    /// A member is to leave because it does not get any further: that says the same as the end of its task.
    pub(super) fn note_hopeless(&mut self, now: Millis, id: MemberId, why: Leaving) {
        let failed =
            matches!(why, Leaving::Stuck | Leaving::Unstable | Leaving::Broken | Leaving::DataGone | Leaving::Errant);
        let proven = self.observed.get(&id).is_some_and(|observed| observed.proven);
        if failed && !proven {
            let trouble = self.observed.get(&id).and_then(|observed| observed.trouble()).map(ToString::to_string);
            self.launch_failed(now, id, &trouble.unwrap_or_else(|| why.reason().to_owned()));
        }
    }
}
