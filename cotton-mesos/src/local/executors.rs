//! What executors say, and what becomes of their processes.

use super::store::{State, TaskRecord};
use super::task::{Process, subscribed, task_info};
use super::world::{Action, Agent, EVENTS_MAX, Health, Phase, REGISTER_TIMEOUT, Refusal, Verdict, World};
use crate::wire::common::{TaskState as WireState, TaskStatus as WireStatus};
use crate::wire::executor::{Event, Launch as LaunchEvent, Subscribe};
use bytes::Bytes;
use cotton_core::ports::mesos::MesosEvent;
use cotton_core::{AgentId, TaskId};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that may wait for an executor; when there are more, its connection is ended.
const LINK_EVENTS_MAX: usize = 256;
/// Bytes of messages that may wait for the scheduler.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl World {
    /// An executor subscribes: gives the stream of its events.
    pub(super) fn executor_subscribed(
        &mut self,
        now: Instant,
        agent_id: &AgentId,
        executor: &str,
        subscribe: Subscribe,
    ) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let (framework, grace, stopping) = (self.framework.clone(), self.config.kill_grace, self.phase != Phase::Open);
        let agent = self.reachable(agent_id)?;
        let task_id = TaskId::from(executor);
        let config = agent.config.clone();
        let task = agent.tasks.get_mut(&task_id).ok_or(Refusal::Unknown)?;
        let (sender, receiver) = mpsc::channel(LINK_EVENTS_MAX);
        (task.link, task.register_by) = (Some(sender), None);
        task.tell(&Event::Subscribed { subscribed: subscribed(&config, &framework, executor) });
        task.tell(&Event::Heartbeat);
        let heard_of =
            |id: &TaskId| subscribe.unacknowledged_tasks.iter().any(|task| task.task_id.value == id.as_str());
        let is_news = task.record.state == State::Staging && subscribe.unacknowledged_updates.is_empty();
        if is_news && !stopping && !task.record.kill_requested && !heard_of(&task_id) {
            task.tell(&Event::Launch { launch: LaunchEvent { task: task_info(&config, &task.record) } });
        }
        for update in subscribe.unacknowledged_updates {
            self.executor_update(agent_id, executor, update.status)?;
        }
        let task = self.reachable(agent_id)?.tasks.get_mut(&task_id).ok_or(Refusal::Unknown)?;
        if stopping {
            task.tell(&Event::Shutdown);
        } else if task.record.kill_requested
            && let Some(pid) = task.kill(now, grace)
        {
            self.actions.push_back(Action::KillTree { pid });
        }
        Ok(receiver)
    }

    /// An executor tells a state.
    pub(super) fn executor_update(
        &mut self,
        agent_id: &AgentId,
        executor: &str,
        status: WireStatus,
    ) -> Result<(), Refusal> {
        let stopping = self.phase != Phase::Open;
        let task_id = TaskId::from(executor);
        let task = self.reachable(agent_id)?.tasks.get_mut(&task_id).ok_or(Refusal::Unknown)?;
        let (Some(state), Some(uuid)) = (from_wire(status.state), status.uuid) else { return Err(Refusal::Unknown) };
        if status.task_id.value != executor {
            return Err(Refusal::Unknown);
        }
        let is_waiting = task.record.updates.iter().any(|update| update.uuid == uuid);
        if is_waiting {
            return Ok(());
        }
        let is_end_by_us = stopping && !task.record.kill_requested;
        if is_end_by_us || task.record.acknowledged.contains(&uuid) || task.record.state.is_terminal() {
            // Ended by our own shutdown, it is to be started again; and after the end there is no news.
            task.tell_acknowledged(uuid);
            return Ok(());
        }
        task.add_update(uuid, state, status.message.unwrap_or_default());
        self.actions.push_back(Action::Save { agent: agent_id.clone(), task: task_id });
        Ok(())
    }

    /// An executor says something to the scheduler.
    pub(super) fn executor_message(&mut self, agent_id: &AgentId, executor: &str, data: Bytes) -> Result<(), Refusal> {
        let task = TaskId::from(executor);
        if !self.reachable(agent_id)?.tasks.contains_key(&task) {
            return Err(Refusal::Unknown);
        }
        let has_room = self.events.len() < EVENTS_MAX && self.message_bytes + data.len() <= MESSAGE_BYTES_MAX;
        if self.subscribed && has_room {
            self.message_bytes += data.len();
            self.events.push_back(MesosEvent::Message { task, data });
        }
        Ok(())
    }

    fn reachable(&mut self, agent: &AgentId) -> Result<&mut Agent, Refusal> {
        let phase = self.phase;
        let agent = self.agents.get_mut(agent).ok_or(Refusal::Unknown)?;
        if agent.health == Health::Up && phase != Phase::Closed { Ok(agent) } else { Err(Refusal::Unavailable) }
    }

    // What came of actions.

    /// What is to be saved of a task: its record, the revision, and whether it must survive a crash of the machine.
    pub(super) fn to_save(&self, agent: &AgentId, task: &TaskId) -> Option<(TaskRecord, u64, bool)> {
        let is_open = self.phase != Phase::Closed;
        let task = self.agents.get(agent)?.tasks.get(task).filter(|task| is_open && task.saved < task.revision)?;
        Some((task.record.clone(), task.revision, task.saved < task.durable))
    }

    pub(super) fn saved(&mut self, agent: &AgentId, task: &TaskId, revision: u64) {
        if let Some(task) = self.agents.get_mut(agent).and_then(|agent| agent.tasks.get_mut(task)) {
            task.saved = task.saved.max(revision);
        }
    }

    /// Whether a task whose record has been saved shall be started now.
    pub(super) fn may_start(&mut self, agent: &AgentId, task_id: &TaskId) -> bool {
        let uuid = self.uuid();
        let is_open = self.phase == Phase::Open;
        let Some(task) = self.agents.get_mut(agent).and_then(|agent| agent.tasks.get_mut(task_id)) else {
            return false;
        };
        if task.record.kill_requested && !task.record.state.is_terminal() {
            task.process = Process::Ended;
            task.add_update(uuid, State::Killed, "killed before it was started".into());
            self.actions.push_back(Action::Save { agent: agent.clone(), task: task_id.clone() });
            return false;
        }
        if !is_open {
            task.process = Process::Ended;
        }
        is_open && task.process == Process::Starting
    }

    pub(super) fn started(&mut self, now: Instant, agent: &AgentId, task: &TaskId, pid: i32) -> Verdict {
        let is_open = self.phase == Phase::Open;
        let Some(agent) = self.agents.get_mut(agent) else { return Verdict::Kill };
        let health = agent.health;
        let Some(task) = agent.tasks.get_mut(task) else { return Verdict::Kill };
        task.process = Process::Running(pid);
        if task.link.is_none() {
            task.register_by = Some(now + REGISTER_TIMEOUT); // unless it has subscribed already
        }
        match health {
            _ if !is_open || task.record.kill_requested => Verdict::Kill,
            Health::Up => Verdict::Keep,
            Health::Cut { .. } | Health::Unreachable => Verdict::Stop,
            Health::Dead => Verdict::Kill,
        }
    }

    pub(super) fn start_failed(&mut self, agent: &AgentId, task: &TaskId, reason: String) {
        self.ended_with(agent, task, State::Failed, reason);
    }

    /// The process of a task has ended.
    pub(super) fn ended(&mut self, agent: &AgentId, task_id: &TaskId, pid: i32, how: &str) {
        let task = self.agents.get(agent).and_then(|agent| agent.tasks.get(task_id));
        let Some(task) = task.filter(|task| task.process == Process::Running(pid)) else { return };
        let (state, reason) = match task.kill_reason {
            Some(reason) => (State::Failed, format!("executor killed: {reason}")),
            None if task.record.kill_requested => (State::Killed, format!("executor terminated when killed ({how})")),
            None => (State::Failed, format!("executor terminated ({how}); its logs are in its sandbox")),
        };
        self.ended_with(agent, task_id, state, reason);
    }

    fn ended_with(&mut self, agent_id: &AgentId, task_id: &TaskId, state: State, reason: String) {
        let uuid = self.uuid();
        let phase = self.phase;
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let Some(task) = agent.tasks.get_mut(task_id) else { return };
        (task.process, task.link) = (Process::Ended, None);
        (task.kill_at, task.register_by) = (None, None);
        let is_to_go_on = match phase {
            Phase::Open => false,
            Phase::Stopping => !task.record.kill_requested,
            Phase::Closed => true,
        };
        if !task.record.state.is_terminal() && !is_to_go_on {
            task.add_update(uuid, state, reason);
            self.actions.push_back(Action::Save { agent: agent_id.clone(), task: task_id.clone() });
        }
    }
}

fn from_wire(state: WireState) -> Option<State> {
    match state {
        WireState::TaskStaging => Some(State::Staging),
        WireState::TaskStarting => Some(State::Starting),
        WireState::TaskRunning => Some(State::Running),
        WireState::TaskKilling => Some(State::Killing),
        WireState::TaskFinished => Some(State::Finished),
        WireState::TaskKilled => Some(State::Killed),
        WireState::TaskFailed | WireState::TaskError => Some(State::Failed),
        WireState::TaskLost
        | WireState::TaskDropped
        | WireState::TaskUnreachable
        | WireState::TaskGone
        | WireState::TaskGoneByOperator
        | WireState::TaskUnknown => None,
    }
}
