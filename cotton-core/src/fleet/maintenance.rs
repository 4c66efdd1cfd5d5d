//! Agents that operators are going to take down: primaries on them hand over first, then the agents are let go.
//!
//! Mesos asks whether an agent can be done without, as soon as its maintenance is scheduled, and asks again some seconds
//! after every answer. Each question is answered at once, by what is so at that moment; who is not asked after any more is
//! not to be taken down any more. What was agreed to is durable before it is said: a scheduler that is started again must
//! not let the next agent go as well.
//!
//! Only what goes soon counts: a maintenance of next week is no reason to move, nor to keep another agent from going.

use super::unknown;
use super::{Effect, Fleet};
use crate::cluster::{Cluster, SAME_START_MS};
use crate::placement::MAINTENANCE_AHEAD_MS;
use crate::ports::mesos::{MesosCall, Offer};
use crate::time::earliest;
use crate::{AgentId, Millis, OfferId};
use std::collections::{BTreeMap, BTreeSet};

/// For how long an agent counts as about to go after the latest question, in milliseconds. Mesos asks again earlier.
const ASKED_MS: u64 = 60_000;

/// Within how many milliseconds all questions of one schedule come.
const TOGETHER_MS: u64 = 1_000;

/// The agents that are to go.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    notices: BTreeMap<AgentId, Notice>,
    /// Those that go soon, as the clusters were told.
    told: BTreeMap<AgentId, Millis>,
}

/// What is known of one of them.
#[derive(Clone, Copy, Debug)]
struct Notice {
    /// When it goes.
    starts: Millis,
    /// From when on it counts: what is announced at once is heard of one after another.
    counts_at: Millis,
    /// When it is forgotten, unless it is asked after again.
    until: Millis,
}

impl Maintenance {
    /// What was agreed to before the scheduler was started again.
    pub(super) fn recover(agreed: &BTreeSet<AgentId>, now: Millis) -> Self {
        let notice = Notice { starts: now, counts_at: now, until: now.after(ASKED_MS) };
        let notices = agreed.iter().map(|agent| (agent.clone(), notice)).collect();
        Self { notices, told: agreed.iter().map(|agent| (agent.clone(), Millis(0))).collect() }
    }

    /// When something changes with time.
    pub(super) fn next(&self, now: Millis, connected: bool) -> Option<Millis> {
        let ends = self.notices.values().filter(|_| connected).map(|notice| notice.until).min();
        let begins = self.notices.values().map(|notice| notice.counts_at).filter(|at| *at > now).min();
        earliest(ends, begins)
    }

    /// Those that go soon, and when.
    pub(super) const fn soon(&self) -> &BTreeMap<AgentId, Millis> {
        &self.told
    }
}

impl Fleet {
    /// An agent is to be taken down in `starts_in_ms`: its primaries hand over, and it is let go when nobody needs it.
    pub(super) fn on_maintenance(&mut self, now: Millis, id: OfferId, agent: &AgentId, starts_in_ms: u64) {
        let known = self.maintenance.notices.get(agent);
        let asked_before = known.is_some();
        let starts = match known.filter(|_| starts_in_ms == 0) {
            Some(known) => known.starts.min(now), // since when, is not told
            None => now.after(starts_in_ms),
        };
        let together = now.after(TOGETHER_MS);
        let together = known.map_or(together, |known| known.counts_at.min(together));
        let counts_at = together.max(now.after(starts_in_ms.saturating_sub(MAINTENANCE_AHEAD_MS)));
        self.maintenance.notices.insert(agent.clone(), Notice { starts, counts_at, until: now.after(ASKED_MS) });
        let (soon, used) = (starts_in_ms <= MAINTENANCE_AHEAD_MS, self.has_members_on(agent));
        let ready = !used || soon && self.can_do_without(now, agent);
        // Where tasks are that no record accounts for is heard after the start, and that before anybody asks twice.
        let is_unknown = unknown::agents(self.unknown.values()).contains(agent);
        let nobody_else = !is_unknown && (self.damaged.is_empty() || asked_before);
        let ready = ready && nobody_else;
        let news =
            if ready && used { self.state.let_go.insert(agent.clone()) } else { self.state.let_go.remove(agent) };
        if news {
            self.revision.0 += 1;
        }
        self.update_maintenance(now);
        let durable = !self.state.let_go.contains(agent) || self.persisted == self.revision;
        let ready = ready && durable; // asked again in a few seconds
        self.calls.push_back(Effect::Mesos(MesosCall::AnswerMaintenance { id, ready }));
    }

    /// Agents that are offered without a time at which they go, stay.
    pub(super) fn note_maintenance(&mut self, now: Millis, offers: &[Offer]) {
        for offer in offers.iter().filter(|offer| offer.maintenance_in_ms.is_none()) {
            self.maintenance.notices.remove(&offer.agent);
        }
        self.update_maintenance(now);
    }

    /// An agent is gone.
    pub(super) fn end_maintenance(&mut self, now: Millis, agent: &AgentId) {
        self.maintenance.notices.remove(agent);
        self.update_maintenance(now);
    }

    /// Mesos is there again, and asks anew; whoever is not asked after by then is forgotten.
    pub(super) fn resume_maintenance(&mut self, now: Millis) {
        for notice in self.maintenance.notices.values_mut() {
            notice.until = notice.until.max(now.after(ASKED_MS));
        }
    }

    /// Forgets agents that were not asked after for long, and tells all clusters when others are about to go.
    pub(super) fn update_maintenance(&mut self, now: Millis) {
        if self.connected {
            self.maintenance.notices.retain(|_, notice| notice.until > now); // without a connection nobody could ask
        }
        let notices = &self.maintenance.notices;
        let known = self.state.let_go.len();
        self.state.let_go.retain(|agent| notices.contains_key(agent));
        if self.state.let_go.len() < known {
            self.revision.0 += 1;
        }
        let let_go = &self.state.let_go;
        let soon = notices.iter().filter(|(agent, notice)| notice.counts_at <= now || let_go.contains(*agent));
        let told = &self.maintenance.told;
        let starts = |agent: &AgentId, notice: &Notice| {
            if let_go.contains(agent) {
                return Millis(0); // any moment now: nobody should go there
            }
            // It is told anew with each question, and never quite the same.
            let same = told.get(agent).copied().filter(|at| at.0.abs_diff(notice.starts.0) < SAME_START_MS);
            same.unwrap_or(notice.starts)
        };
        let soon: BTreeMap<AgentId, Millis> =
            soon.map(|(agent, notice)| (agent.clone(), starts(agent, notice))).collect();
        if soon == *told {
            return;
        }
        self.maintenance.told.clone_from(&soon);
        let names: Vec<_> = self.slots.keys().cloned().collect();
        for name in names {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.cluster.vacate(now, soon.clone());
                self.settle(&name);
            }
        }
    }

    /// Why a cluster needs agents that are about to go, in words.
    pub(super) fn why_agents_stay(&self, now: Millis, cluster: &Cluster) -> Vec<String> {
        let text = |agent: &AgentId| {
            let why = cluster.why_needed(now, &self.without(agent)).filter(|_| is_on(cluster, agent))?;
            Some(format!("agent {agent} is to be taken down, and cannot be let go: {why}"))
        };
        self.maintenance.told.keys().filter_map(text).collect()
    }

    fn can_do_without(&self, now: Millis, agent: &AgentId) -> bool {
        let without = self.without(agent);
        let mut concerned = self.slots.values().map(|slot| &slot.cluster).filter(|cluster| is_on(cluster, agent));
        concerned.all(|cluster| cluster.why_needed(now, &without).is_none())
    }

    /// That agent, and those that were let go before.
    fn without(&self, agent: &AgentId) -> BTreeSet<AgentId> {
        self.state.let_go.iter().chain([agent]).cloned().collect()
    }

    fn has_members_on(&self, agent: &AgentId) -> bool {
        self.slots.values().any(|slot| is_on(&slot.cluster, agent))
    }
}

fn is_on(cluster: &Cluster, agent: &AgentId) -> bool {
    cluster.state().members.values().any(|member| member.agent == *agent)
}
