//! What the scheduler asks for, and what comes of it.

use super::store::TaskRecord;
use super::task::{KILL_MARGIN, Process, Task};
use super::world::{Action, Health, Phase, World};
use crate::wire::common::Base64;
use crate::wire::executor::{Event, Message};
use bytes::Bytes;
use cotton_core::ports::mesos::{Launch, MesosCall, MesosEvent, TaskState};
use cotton_core::{AgentId, OfferId, TaskId, VolumeId};
use tokio::time::Instant;

/// Uuids of acknowledged states that are remembered for each task, in case the executor missed the acknowledgement.
const ACKNOWLEDGED_MAX: usize = 16;
/// Longest task id; it becomes a file name.
const TASK_ID_BYTES_MAX: usize = 200;

impl World {
    pub(super) fn subscribe(&mut self) {
        self.events.clear();
        self.message_bytes = 0;
        (self.subscribed, self.suppressed) = (true, false);
        for agent in self.agents.values_mut() {
            (agent.offer, agent.filter) = (None, None);
            agent.tasks.values_mut().for_each(|task| task.resend_at = None);
        }
        self.events.push_back(MesosEvent::Subscribed(self.framework.clone()));
    }

    pub(super) fn pop_event(&mut self) -> Option<MesosEvent> {
        let event = self.events.pop_front()?;
        if let MesosEvent::Message { data, .. } = &event {
            self.message_bytes -= data.len();
        }
        Some(event)
    }

    pub(super) fn call(&mut self, now: Instant, call: MesosCall) {
        match call {
            MesosCall::Accept { offer, agent, launches, releases } => {
                self.on_accept(&offer, &agent, launches, releases);
            }
            MesosCall::Decline { offers, filter_ms } => self.on_decline(now, &offers, filter_ms),
            MesosCall::Kill { task, agent } => self.on_kill(now, &task, &agent),
            MesosCall::Acknowledge { task, agent, uuid } => self.on_acknowledge(now, &task, &agent, &uuid),
            MesosCall::Message { task, agent, data } => {
                let Some(agent) = self.agents.get_mut(&agent).filter(|agent| agent.health == Health::Up) else {
                    return;
                };
                let Some(task) = agent.tasks.get_mut(&task) else { return };
                task.tell(&Event::Message { message: Message { data: Base64(data) } });
            }
            MesosCall::Reconcile(tasks) => self.on_reconcile(tasks),
            MesosCall::AnswerMaintenance { .. } => {} // never announced here
            MesosCall::Suppress => self.suppressed = true,
            MesosCall::Revive => {
                self.suppressed = false;
                self.agents.values_mut().for_each(|agent| agent.filter = None);
            }
        }
    }

    fn on_accept(&mut self, offer: &OfferId, agent_id: &AgentId, launches: Vec<Launch>, releases: Vec<VolumeId>) {
        let is_known = |launch: &Launch| self.agents.values().any(|agent| agent.knows(&launch.task));
        let launches: Vec<Launch> = launches.into_iter().filter(|launch| !is_known(launch)).collect();
        let agent = self.agents.get_mut(agent_id);
        let Some((agent, offered)) = agent.and_then(|agent| agent.take_offer(offer).map(|offered| (agent, offered)))
        else {
            return launches
                .iter()
                .for_each(|launch| self.drop_launch(agent_id, launch, "the offer is no longer valid"));
        };
        if agent.health != Health::Up {
            return agent.lost.extend(launches.into_iter().map(|launch| launch.task));
        }
        self.release(agent_id, releases);
        let (mut left, mut ports) = (offered.resources, offered.ports.clone());
        for launch in launches {
            let Some(agent) = self.agents.get_mut(agent_id) else { return };
            let wanted = launch.task_resources.plus(&launch.executor_resources);
            let (port, needs) = (launch.endpoint.port, agent.needs(&launch, &offered));
            let (needed, port_is_held) = needs.unwrap_or_default();
            let refusal = if self.phase != Phase::Open {
                Some("the agent is shutting down")
            } else if !is_file_name(launch.task.as_str()) {
                Some("the task id cannot be the name of a directory")
            } else if let Err(reason) = needs {
                Some(reason)
            } else if left.lacks(&needed).is_some() {
                Some("it needs more than was offered")
            } else if !port_is_held && !ports.contains(port) {
                Some("its port was not offered")
            } else {
                None
            };
            if let Some(reason) = refusal {
                self.drop_launch(agent_id, &launch, reason);
                continue;
            }
            left = left.checked_sub(&needed).unwrap_or_default();
            ports.remove(port);
            let Some(agent) = self.agents.get_mut(agent_id) else { return };
            let volume = agent.use_volume(&launch);
            let mut record = TaskRecord::new(launch.task.clone(), port, wanted, launch.data);
            record.volume = volume;
            let mut task = Task::new(record);
            task.touch(true);
            agent.tasks.insert(launch.task.clone(), task);
            self.actions.push_back(Action::Start { agent: agent_id.clone(), task: launch.task });
        }
    }

    fn drop_launch(&mut self, agent: &AgentId, launch: &Launch, reason: &str) {
        self.tell(&launch.task, Some(agent), TaskState::Dropped, reason);
    }

    fn on_kill(&mut self, now: Instant, task_id: &TaskId, agent_id: &AgentId) {
        let grace = self.config.kill_grace;
        let Some(agent) = self.agents.get_mut(agent_id) else {
            return self.tell(task_id, Some(agent_id), TaskState::Lost, "there is no such agent");
        };
        let is_up = agent.health == Health::Up;
        if agent.health == Health::Unreachable {
            self.tell(task_id, Some(agent_id), TaskState::Unreachable, "its agent is unreachable");
        }
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let Some(task) = agent.tasks.get_mut(task_id) else {
            if is_up {
                self.tell(task_id, Some(agent_id), TaskState::Lost, "the agent does not know this task");
            }
            return;
        };
        if task.record.state.is_terminal() {
            return;
        }
        if !task.record.kill_requested {
            task.record.kill_requested = true;
            task.touch(true);
            self.actions.push_back(Action::Save { agent: agent_id.clone(), task: task_id.clone() });
        }
        if is_up && let Some(pid) = task.kill(now, grace) {
            self.actions.push_back(Action::KillTree { pid });
        }
    }

    fn on_acknowledge(&mut self, now: Instant, task_id: &TaskId, agent_id: &AgentId, uuid: &Bytes) {
        let grace = self.config.kill_grace;
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let Some(task) = agent.tasks.get_mut(task_id) else { return };
        if task.record.updates.front().is_none_or(|update| update.uuid.0 != *uuid) {
            return;
        }
        let Some(update) = task.record.updates.pop_front() else { return };
        task.resend_at = None;
        if task.record.acknowledged.len() >= ACKNOWLEDGED_MAX {
            task.record.acknowledged.pop_front();
        }
        task.record.acknowledged.push_back(update.uuid.clone());
        task.touch(update.state.is_terminal());
        task.tell_acknowledged(update.uuid);
        if update.state.is_terminal() && matches!(task.process, Process::Running(_)) {
            // Nothing is left for it to do.
            task.tell(&Event::Shutdown);
            task.kill_at = Some(now + grace + KILL_MARGIN);
        }
        self.actions.push_back(Action::Save { agent: agent_id.clone(), task: task_id.clone() });
    }

    fn on_reconcile(&mut self, mut tasks: Vec<(TaskId, AgentId)>) {
        if tasks.is_empty() {
            for (id, agent) in &self.agents {
                tasks.extend(agent.tasks.keys().map(|task| (task.clone(), id.clone())));
            }
        }
        for (task, agent_id) in tasks {
            let Some(agent) = self.agents.get(&agent_id) else {
                self.tell(&task, Some(&agent_id), TaskState::Lost, "there is no such agent");
                continue;
            };
            let (state, message) = match (agent.health, agent.tasks.get(&task)) {
                (Health::Unreachable, _) => (TaskState::Unreachable, "its agent is unreachable".to_owned()),
                (_, Some(found)) => (found.record.state.to_port(), found.record.message.clone()),
                (Health::Cut { .. }, None) => continue,
                (Health::Up | Health::Dead, None) => (TaskState::Lost, "the agent does not know this task".to_owned()),
            };
            self.tell(&task, Some(&agent_id), state, &message);
        }
    }
}

fn is_file_name(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=TASK_ID_BYTES_MAX).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(allowed)
}
