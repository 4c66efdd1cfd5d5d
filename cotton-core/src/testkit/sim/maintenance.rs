//! Operators who take agents down, and ask before: they wait for the answer, or give up after a while.

use super::plan::Victim;
use super::world::{Event, World, trace};
use crate::cluster::state::State;
use crate::ports::mesos::MesosEvent;
use crate::testkit::invariants::let_go;
use crate::{AgentId, Millis, OfferId};
use std::collections::BTreeSet;

/// How long operators wait after the time that they had in mind.
const PATIENCE_MS: u64 = 60_000;

/// An agent that is to be taken down.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) starts: Millis,
    /// For how long it will be down.
    down_ms: u64,
    /// The question that is open.
    asked: Option<OfferId>,
    /// Whether the latest answer was yes.
    agreed: bool,
}

impl World {
    pub(super) fn announce_maintenance(&mut self, victim: Victim, down_ms: u64) {
        let Some(agent) = self.victim(victim).map(|task| self.members[task].agent) else { return };
        let starts = self.now.after(self.random.within(1_000, 40_000));
        if self.windows.contains_key(&agent) {
            return;
        }
        self.windows.insert(agent, Window { starts, down_ms, asked: None, agreed: false });
        self.master
            .rescind_offers(agent)
            .into_iter()
            .for_each(|offer| self.send_to_scheduler(MesosEvent::Rescinded(offer)));
        self.after(1, Event::AskMaintenance { agent });
    }

    /// Asks whether an agent can be done without, or takes it down, or gives up.
    pub(super) fn ask_maintenance(&mut self, agent: usize) {
        let (now, connected) = (self.now, self.master.connection.is_some());
        let Some(window) = self.windows.get_mut(&agent) else { return };
        if now >= window.starts && window.agreed {
            let down_ms = window.down_ms;
            self.windows.remove(&agent);
            return self.take_down(agent, down_ms);
        }
        if now.since(window.starts) >= PATIENCE_MS {
            self.windows.remove(&agent);
            return;
        }
        let again = self.random.within(1_000, 5_000);
        self.after(again, Event::AskMaintenance { agent });
        let id = OfferId::new(format!("inverse-{}", self.number()));
        let Some(window) = self.windows.get_mut(&agent).filter(|window| window.asked.is_none() && connected) else {
            return;
        };
        window.asked = Some(id.clone());
        let starts_in_ms = window.starts.since(now);
        let agent = self.agents[agent].id.clone();
        self.send_to_scheduler(MesosEvent::Maintenance { id, agent, starts_in_ms });
    }

    /// The scheduler says what it thinks of that.
    pub(super) fn judge_answer(&mut self, id: &OfferId, ready: bool) {
        let window = self.windows.iter_mut().find(|(_, window)| window.asked.as_ref() == Some(id));
        let Some((&index, window)) = window else { return };
        window.agreed = ready;
        if !ready {
            return;
        }
        let agent = self.agents[index].id.clone();
        let agreed = self.windows.iter().filter(|(_, window)| window.agreed).map(|(agent, _)| *agent);
        let before: BTreeSet<AgentId> = agreed.map(|on| self.agents[on].id.clone()).filter(|on| *on != agent).collect();
        trace!(self, "scheduler: {agent} may be taken down");
        // Where a task has ended, nobody is taken anything, whether that is stored yet or not.
        let here = |state: &&State| {
            self.members.iter().any(|m| m.agent == index && !m.ended && m.spec.cluster == *state.name())
        };
        let verdict = let_go::on_agreed(self.store.clusters.values().filter(here), &agent, &before);
        self.hold(verdict);
    }

    /// The answer has arrived: the next question may follow.
    pub(super) fn take_answer(&mut self, id: &OfferId) {
        for window in self.windows.values_mut() {
            window.asked.take_if(|asked| asked == id);
        }
    }

    /// Questions are void with the connection.
    pub(super) fn forget_questions(&mut self) {
        for window in self.windows.values_mut() {
            window.asked = None;
        }
    }

    /// What was said of an agent that was lost meanwhile does not count any more.
    pub(super) fn forget_agreement(&mut self, agent: usize) {
        if let Some(window) = self.windows.get_mut(&agent) {
            window.agreed = false;
        }
    }
}
