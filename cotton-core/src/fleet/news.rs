//! What Mesos tells: that it is there, how tasks fare, and what they report.

use super::{Effect, Fleet};
use crate::cluster;
use crate::ports::mesos::{MesosCall, MesosEvent, TaskState, TaskStatus};
use crate::protocol::{self, Report};
use crate::{ClusterName, FrameworkId, Millis, TaskId};

/// How long agents may take to register with a master that has just been elected, in milliseconds: Mesos' own default.
const AGENTS_BACK_MS: u64 = 600_000;

impl Fleet {
    pub(super) fn on_mesos(&mut self, now: Millis, event: MesosEvent) {
        match event {
            MesosEvent::Subscribed(framework) => self.on_subscribed(now, framework),
            MesosEvent::Disconnected => {
                self.connected = false;
                let names: Vec<ClusterName> = self.slots.keys().cloned().collect();
                for name in names {
                    self.tell(now, &name, cluster::Input::Disconnected);
                }
                self.accepts.clear();
                self.flow.disconnected();
            }
            MesosEvent::Offers(offers) => self.on_offers(now, offers),
            MesosEvent::Volume { volume, outcome } => self.on_volume(now, &volume, outcome),
            MesosEvent::AgentLost(agent) => {
                self.failing.forget_agent(&agent);
                self.end_maintenance(now, &agent); // the tasks' own states follow
            }
            MesosEvent::Maintenance { id, agent, starts_in_ms } => self.on_maintenance(now, id, &agent, starts_in_ms),
            // Every question is answered at once, so none is open.
            MesosEvent::Rescinded(_) | MesosEvent::MaintenanceRescinded(_) => {}
            MesosEvent::Status(status) => self.on_status(now, status),
            MesosEvent::Message { task, data } => self.on_message(now, &task, &data),
        }
    }

    fn on_subscribed(&mut self, now: Millis, framework: FrameworkId) {
        self.connected = true;
        self.subscribed_since = now;
        self.resume_maintenance(now);
        if self.config.volumes {
            self.releasing.connected(now);
        }
        if self.state.framework.as_ref() != Some(&framework) {
            self.state.framework = Some(framework);
            self.revision.0 += 1;
            self.gate = self.revision;
        }
        let mut tasks = Vec::new();
        for slot in self.slots.values() {
            let (name, state) = (slot.cluster.name(), slot.cluster.state());
            let running = state.members.iter().filter(|(_, member)| !member.resting);
            tasks.extend(running.map(|(id, m)| (TaskId::of(name, *id, m.run), m.agent.clone())));
        }
        self.reconciliation.begin(now, tasks);
        let names: Vec<ClusterName> = self.slots.keys().cloned().collect();
        for name in names {
            self.tell(now, &name, cluster::Input::Connected);
        }
        self.handle_timeout(now);
    }

    fn on_status(&mut self, now: Millis, status: TaskStatus) {
        let TaskStatus { task, agent, state, message, uuid } = status;
        let is_answer = uuid.is_none();
        let state = self.believe(now, state);
        if state != TaskState::Unknown {
            self.reconciliation.answered(&task);
        }
        let acknowledgement = match (&agent, uuid) {
            (Some(agent), Some(uuid)) => {
                Some(MesosCall::Acknowledge { task: task.clone(), agent: agent.clone(), uuid })
            }
            _ => None,
        };
        let owner = task.parse().ok();
        // An answer to our question, not news that were under way: the task runs now.
        if let Some((name, id, run)) = owner.as_ref().filter(|_| state == TaskState::Running && is_answer)
            && let Some(slot) = self.slots.get_mut(name)
            && slot.cluster.take_up(now, *id, *run)
        {
            self.unknown.remove(&task);
            self.to_run.insert(name.clone());
        }
        let known = owner.as_ref().filter(|(name, id, run)| self.run_of(name, *id) == Some(*run));
        let known = known.map(|(name, id, _)| (name, *id));
        let cluster = known.and_then(|(name, member)| Some((&self.slots.get(name)?.cluster, member)));
        self.count(state, cluster.is_none_or(|(cluster, member)| cluster.is_unreachable(member)));
        if let Some((name, member)) = known {
            self.tell(now, name, cluster::Input::Task { member, state, message });
            if let (Some(slot), Some(call)) = (self.slots.get_mut(name), acknowledgement) {
                slot.acknowledge(call);
                self.to_run.insert(name.clone());
            }
            if state.is_terminal() {
                self.cancel_launch(&task);
            }
            return self.ask_for_offers(now);
        }
        // Also of a member that is forgotten already, news are confirmed only when its forgetting is durable.
        match owner.as_ref().and_then(|(name, ..)| Some((name, self.slots.get_mut(name)?))) {
            Some((name, slot)) => {
                if let Some(call) = acknowledgement {
                    slot.acknowledge(call);
                }
                self.to_run.insert(name.clone());
            }
            None => self.calls.extend(acknowledgement.map(Effect::Mesos)),
        }
        if state.is_terminal() {
            self.forget_unknown(now, &task);
        } else if let Some(agent) = agent.filter(|_| state != TaskState::Unknown) {
            self.on_unknown(now, task, agent, state);
        }
    }

    /// A master that was started without what it knew before says so of every task until its agents are back. A task that
    /// is not known longer than agents take for that has ended, with its agent.
    fn believe(&self, now: Millis, state: TaskState) -> TaskState {
        let agents_are_back = now.since(self.subscribed_since) >= AGENTS_BACK_MS;
        if state == TaskState::Unknown && agents_are_back { TaskState::Lost } else { state }
    }

    fn on_message(&mut self, now: Millis, task: &TaskId, data: &[u8]) {
        let Ok((name, member, run)) = task.parse() else { return };
        if self.run_of(&name, member) != Some(run) {
            return self.on_unknown_message(task, data);
        }
        match protocol::decode::<Report>(data) {
            Ok(report) => {
                self.tell(now, &name, cluster::Input::Report { member, report: Box::new(report) });
                self.ask_for_offers(now);
            }
            Err(_) => self.counters.messages_malformed += 1,
        }
    }

    /// Counts how tasks end. One whose agent cannot be reached counts as lost, once, whatever is told of it later.
    fn count(&mut self, state: TaskState, unreachable: bool) {
        use TaskState as S;
        let counter = match state {
            S::Unreachable | S::Gone | S::Lost | S::Dropped if unreachable => return,
            S::Failed => &mut self.counters.tasks_failed,
            S::Unreachable | S::Gone | S::Lost | S::Dropped => &mut self.counters.tasks_lost,
            S::Finished => &mut self.counters.tasks_finished,
            S::Killed => &mut self.counters.tasks_killed,
            S::Staging | S::Starting | S::Running | S::Killing | S::Unknown => return,
        };
        *counter += 1;
    }
}
