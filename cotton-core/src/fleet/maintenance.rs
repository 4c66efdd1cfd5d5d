//! Agents that operators are going to take down: primaries on them hand over first, then the agents are let go.
//!
//! Mesos asks whether an agent can be done without, and asks again some time after a refusal. So nothing needs to be
//! remembered but which agents are concerned: each question is answered at once, by what is so at that moment. Nothing
//! tells that a maintenance was called off after it was agreed to, but that the agent is offered without it.

use super::{Effect, Fleet};
use crate::ports::mesos::{MesosCall, Offer};
use crate::{AgentId, Millis, OfferId};
use std::collections::{BTreeMap, BTreeSet};

/// For how long an agent counts as about to go after a refusal, in milliseconds; Mesos asks again much earlier.
const REFUSED_MS: u64 = 60_000;
/// The same, after it was agreed to.
const AGREED_MS: u64 = 3_660_000;

/// The agents that are about to go.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    agents: BTreeMap<AgentId, Notice>,
}

/// What is known of one of them.
#[derive(Clone, Copy, Debug)]
struct Notice {
    /// When it is forgotten, unless it comes up again.
    until: Millis,
    /// Whether it was said that it can be done without.
    agreed: bool,
}

impl Maintenance {
    pub(super) fn next(&self) -> Option<Millis> {
        self.agents.values().map(|notice| notice.until).min()
    }

    pub(super) fn agents(&self) -> BTreeSet<AgentId> {
        self.agents.keys().cloned().collect()
    }
}

impl Fleet {
    /// An agent is to be taken down: its primaries hand over, and it is let go when nobody needs it.
    pub(super) fn on_maintenance(&mut self, now: Millis, id: OfferId, agent: &AgentId) {
        let notice = Notice { until: now.after(REFUSED_MS), agreed: false };
        if self.maintenance.agents.insert(agent.clone(), notice).is_none() {
            self.vacate(now);
        }
        let agreed = self.maintenance.agents.iter().filter(|(_, notice)| notice.agreed).map(|(agent, _)| agent.clone());
        let without: BTreeSet<AgentId> = agreed.chain([agent.clone()]).collect();
        let ready = self.slots.values().all(|slot| {
            let concerned = slot.cluster.state().members.values().any(|member| member.agent == *agent);
            !concerned || slot.cluster.can_do_without(now, &without)
        });
        if let Some(notice) = self.maintenance.agents.get_mut(agent).filter(|_| ready) {
            *notice = Notice { until: now.after(AGREED_MS), agreed: true };
        }
        self.calls.push_back(Effect::Mesos(MesosCall::AnswerMaintenance { id, ready }));
    }

    /// Agents that are offered without a time at which they go, stay.
    pub(super) fn note_maintenance(&mut self, now: Millis, offers: &[Offer]) {
        let before = self.maintenance.agents.len();
        for offer in offers.iter().filter(|offer| offer.maintenance_in_ms.is_none()) {
            self.maintenance.agents.remove(&offer.agent);
        }
        if self.maintenance.agents.len() < before {
            self.vacate(now);
        }
    }

    /// An agent is gone.
    pub(super) fn end_maintenance(&mut self, now: Millis, agent: &AgentId) {
        if self.maintenance.agents.remove(agent).is_some() {
            self.vacate(now);
        }
    }

    /// Forgets agents that have not come up for long.
    pub(super) fn expire_maintenance(&mut self, now: Millis) {
        let before = self.maintenance.agents.len();
        self.maintenance.agents.retain(|_, notice| notice.until > now);
        if self.maintenance.agents.len() < before {
            self.vacate(now);
        }
    }

    /// Tells all clusters which agents are about to go.
    fn vacate(&mut self, now: Millis) {
        let agents = self.maintenance.agents();
        let names: Vec<_> = self.slots.keys().cloned().collect();
        for name in names {
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.cluster.vacate(now, agents.clone());
                self.settle(&name);
            }
        }
    }
}
