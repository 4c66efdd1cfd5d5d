//! What the master and its agents know, and what follows from what happens. No I/O but a look at which ports are free:
//! things to be done are put into a queue of [`Action`]s.
//!
//! - A state of a task is told to the scheduler only after it was saved, one at a time, again until it is acknowledged;
//!   only then the executor gets its acknowledgement.
//! - A task keeps its resources and its port until its process has ended; the port until it can be bound again.
//! - What comes from or goes to an agent that is cut off waits until it is back.

use super::offers::{Cooling, Filter, Outstanding};
use super::store::{State, TaskRecord};
use super::task::{KILL_MARGIN, Process, Task, subscribed, task_info};
use super::{AgentConfig, LocalConfig};
use crate::wire::common::{Base64, TaskState as WireState, TaskStatus as WireStatus};
use crate::wire::executor::{Event, Launch as LaunchEvent, Message, Subscribe};
use bytes::Bytes;
use cotton_core::ports::mesos::{Launch, MesosCall, MesosEvent, TaskState, TaskStatus};
use cotton_core::{AgentId, FrameworkId, OfferId, TaskId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that may wait for the scheduler before those that may get lost are dropped.
const EVENTS_MAX: usize = 65_536;
/// Bytes of messages that may wait for the scheduler.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events that may wait for an executor; when there are more, its connection is ended.
pub(super) const LINK_EVENTS_MAX: usize = 256;
/// How long an executor may take to subscribe.
const REGISTER_TIMEOUT: Duration = Duration::from_mins(1);
/// Uuids of acknowledged states that are remembered for each task, in case the executor missed the acknowledgement.
const ACKNOWLEDGED_MAX: usize = 16;
/// Longest task id; it becomes a file name.
const TASK_ID_BYTES_MAX: usize = 200;

/// Something to be done outside.
#[derive(Debug)]
pub(super) enum Action {
    /// Save a task's record, then call [`World::saved`].
    Save { agent: AgentId, task: TaskId },
    /// Save a task's record, then start its executor.
    Start { agent: AgentId, task: TaskId },
    /// Kill a process and its descendants.
    KillTree { pid: i32 },
    /// Put the record of an ended task away.
    End { agent: AgentId, task: TaskId },
}

/// What to do with an executor that was just started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Kill,
    Stop,
}

/// Why an executor's call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// For now.
    Unavailable,
    /// For good.
    Unknown,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) config: Arc<LocalConfig>,
    pub(super) framework: FrameworkId,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    pub(super) events: VecDeque<MesosEvent>,
    message_bytes: usize,
    pub(super) subscribed: bool,
    pub(super) suppressed: bool,
    pub(super) phase: Phase,
    pub(super) offer_prefix: String,
    pub(super) offers_made: u64,
    pub(super) actions: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Executors are being shut down; their tasks are to be started again later.
    Stopping,
    /// Nothing is done any more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    /// Of its API.
    pub(super) port: u16,
    pub(super) health: Health,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) offer: Option<Outstanding>,
    pub(super) filter: Option<Filter>,
    /// Ports of ended tasks that could not be bound again yet.
    pub(super) cooling: BTreeMap<u16, Cooling>,
    /// Tasks launched while it was cut off: it never heard of them.
    lost: BTreeSet<TaskId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    /// Silent, and nobody has noticed yet.
    Cut {
        noticed_at: Instant,
    },
    Unreachable,
    /// Its processes are gone.
    Dead,
}

impl World {
    pub(super) fn new(config: Arc<LocalConfig>, framework: FrameworkId, offer_prefix: String) -> Self {
        Self {
            config,
            framework,
            agents: BTreeMap::new(),
            events: VecDeque::new(),
            message_bytes: 0,
            subscribed: false,
            suppressed: false,
            phase: Phase::Open,
            offer_prefix,
            offers_made: 0,
            actions: VecDeque::new(),
        }
    }

    /// Adds an agent with the tasks that it remembers, and the processes found of them.
    pub(super) fn add_agent(
        &mut self,
        now: Instant,
        config: AgentConfig,
        port: u16,
        tasks: Vec<(TaskRecord, Option<i32>)>,
    ) {
        let id = config.id.clone();
        let mut agent = Agent::new(config, port);
        for (record, pid) in tasks {
            let name = record.task.clone();
            let mut task = Task::new(record);
            task.process = pid.map_or(Process::Ended, Process::Running);
            match pid {
                Some(_) => task.register_by = Some(now + REGISTER_TIMEOUT),
                None if task.record.state.is_terminal() => {}
                None if task.record.kill_requested => {
                    let uuid = self.uuid();
                    task.add_update(uuid, State::Killed, "its executor ended when it was to be killed".into());
                }
                None => {
                    // The machine or this program was stopped: go on where it left off.
                    task.record.updates.clear();
                    (task.record.state, task.record.message) = (State::Staging, "started again with its data".into());
                    task.process = Process::Starting;
                    self.actions.push_back(Action::Start { agent: id.clone(), task: name.clone() });
                }
            }
            task.touch(true);
            self.actions.push_back(Action::Save { agent: id.clone(), task: name.clone() });
            agent.tasks.insert(name, task);
        }
        self.agents.insert(id, agent);
    }

    // The scheduler's side.

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
            MesosCall::Accept { offer, agent, launches } => self.on_accept(&offer, &agent, launches),
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
            MesosCall::Suppress => self.suppressed = true,
            MesosCall::Revive => {
                self.suppressed = false;
                self.agents.values_mut().for_each(|agent| agent.filter = None);
            }
        }
    }

    fn on_accept(&mut self, offer: &OfferId, agent_id: &AgentId, launches: Vec<Launch>) {
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
        let (mut left, mut ports) = (offered.resources, offered.ports);
        for launch in launches {
            let wanted = launch.task_resources.plus(&launch.executor_resources);
            let port = launch.endpoint.port;
            let refusal = if self.phase != Phase::Open {
                Some("the agent is shutting down")
            } else if !is_file_name(launch.task.as_str()) {
                Some("the task id cannot be the name of a directory")
            } else if left.lacks(&wanted).is_some() {
                Some("it needs more than was offered")
            } else if !ports.contains(port) {
                Some("its port was not offered")
            } else {
                None
            };
            if let Some(reason) = refusal {
                self.drop_launch(agent_id, &launch, reason);
                continue;
            }
            left = left.checked_sub(&wanted).unwrap_or_default();
            ports.remove(port);
            let mut task = Task::new(TaskRecord::new(launch.task.clone(), port, wanted, launch.data));
            task.touch(true);
            let Some(agent) = self.agents.get_mut(agent_id) else { return };
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
            return self.tell(task_id, Some(agent_id), TaskState::Gone, "there is no such agent");
        };
        let is_up = agent.health == Health::Up;
        let Some(task) = agent.tasks.get_mut(task_id) else {
            if is_up {
                self.tell(task_id, Some(agent_id), TaskState::Gone, "the agent does not know this task");
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
                self.tell(&task, Some(&agent_id), TaskState::Gone, "there is no such agent");
                continue;
            };
            let (state, message) = match (agent.health, agent.tasks.get(&task)) {
                (Health::Unreachable, _) => (TaskState::Unreachable, "its agent is unreachable".to_owned()),
                (_, Some(found)) => (found.record.state.to_port(), found.record.message.clone()),
                (Health::Cut { .. }, None) => continue,
                (Health::Up | Health::Dead, None) => (TaskState::Gone, "the agent does not know this task".to_owned()),
            };
            self.tell(&task, Some(&agent_id), state, &message);
        }
    }

    // The executors' side.

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
        task.register_by = Some(now + REGISTER_TIMEOUT);
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

    // Faults, for tests and demonstrations.

    /// The pids of an agent's executors.
    pub(super) fn pids(&self, agent: &AgentId) -> Option<Vec<i32>> {
        Some(self.agents.get(agent)?.tasks.values().filter_map(|task| task.process.pid()).collect())
    }

    pub(super) fn pid_of(&self, task: &TaskId) -> Option<i32> {
        self.agents.values().find_map(|agent| agent.tasks.get(task))?.process.pid()
    }

    pub(super) fn cut(&mut self, now: Instant, agent: &AgentId) {
        let noticed_at = now + self.config.unreachable_timeout;
        if let Some(agent) = self.agents.get_mut(agent).filter(|agent| agent.health == Health::Up) {
            agent.health = Health::Cut { noticed_at };
        }
    }

    /// An agent is gone with all its tasks.
    pub(super) fn agent_dead(&mut self, now: Instant, agent_id: &AgentId) {
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        agent.health = Health::Dead;
        let offer = agent.offer.take();
        let lost = std::mem::take(&mut agent.lost);
        let tasks = std::mem::take(&mut agent.tasks);
        for task in tasks.values() {
            agent.cool_later(now, task.record.port);
        }
        self.rescind(offer);
        self.events.push_back(MesosEvent::AgentLost(agent_id.clone()));
        let ids: BTreeSet<TaskId> = tasks.into_keys().chain(lost).collect();
        for task in ids {
            self.tell(&task, Some(agent_id), TaskState::Gone, "its agent is gone");
            self.actions.push_back(Action::End { agent: agent_id.clone(), task });
        }
    }

    pub(super) fn restore(&mut self, now: Instant, agent_id: &AgentId) {
        let grace = self.config.kill_grace;
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        agent.health = Health::Up;
        agent.filter = None;
        let lost = std::mem::take(&mut agent.lost);
        let mut told = Vec::new();
        for (id, task) in &mut agent.tasks {
            told.push((id.clone(), task.record.state.to_port(), task.record.message.clone()));
            task.resend_at = None;
            if task.record.kill_requested
                && let Some(pid) = task.kill(now, grace)
            {
                self.actions.push_back(Action::KillTree { pid });
            }
        }
        for (task, state, message) in told.into_iter().filter(|(_, state, _)| !state.is_terminal()) {
            self.tell(&task, Some(agent_id), state, &message);
        }
        for task in lost {
            self.tell(&task, Some(agent_id), TaskState::Dropped, "the launch did not reach the agent");
        }
    }

    /// Ends all executors, to be started again when this directory is opened the next time.
    pub(super) fn shut_down(&mut self, now: Instant, grace: Duration) {
        self.phase = Phase::Stopping;
        let offers: Vec<_> = self.agents.values_mut().map(|agent| agent.offer.take()).collect();
        for offer in offers {
            self.rescind(offer);
        }
        for agent in self.agents.values_mut() {
            for task in agent.tasks.values_mut().filter(|task| matches!(task.process, Process::Running(_))) {
                task.tell(&Event::Shutdown);
                task.kill_at = Some(now + grace);
            }
        }
    }

    /// Whether an executor runs.
    pub(super) fn has_processes(&self) -> bool {
        let mut tasks = self.agents.values().flat_map(|agent| agent.tasks.values());
        tasks.any(|task| task.process != Process::Ended)
    }

    /// Ends everything at once; executors live on.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        for agent in self.agents.values_mut() {
            agent.tasks.values_mut().for_each(|task| task.link = None);
        }
    }

    // Time and consequences.

    /// Does what follows from what is known now. To be called after every change, and at [`World::next_timeout`].
    pub(super) fn settle(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        let mut noticed = Vec::new();
        for (agent_id, agent) in &mut self.agents {
            if let Health::Cut { noticed_at } = agent.health
                && noticed_at <= now
            {
                noticed.push(agent_id.clone());
            }
            let mut over = Vec::new();
            for (id, task) in &mut agent.tasks {
                if let Some(pid) = task.overdue(now).filter(|_| agent.health == Health::Up) {
                    self.actions.push_back(Action::KillTree { pid });
                }
                if agent.health == Health::Up && self.subscribed {
                    self.events.extend(task.news(now, id, agent_id));
                }
                if task.is_over() {
                    over.push((id.clone(), task.record.port));
                }
            }
            for (id, port) in over {
                agent.tasks.remove(&id);
                agent.cool_later(now, port);
                self.actions.push_back(Action::End { agent: agent_id.clone(), task: id });
            }
            agent.cool(now);
        }
        for agent in noticed {
            self.on_unreachable(&agent);
        }
        self.make_offers(now);
    }

    /// When [`World::settle`] has something to do next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let mut times = Vec::new();
        for agent in self.agents.values() {
            match agent.health {
                Health::Cut { noticed_at } => times.push(noticed_at),
                Health::Unreachable | Health::Dead => {}
                Health::Up => {
                    times.extend(agent.next_offer_timeout().filter(|_| self.wants_offers()));
                    for task in agent.tasks.values() {
                        times.extend(task.kill_at);
                        times.extend(task.register_by);
                        times.extend(task.resend_at.filter(|_| self.subscribed));
                    }
                }
            }
            times.extend(agent.next_cooling());
        }
        times.into_iter().min().filter(|_| self.phase != Phase::Closed)
    }

    fn on_unreachable(&mut self, agent_id: &AgentId) {
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        agent.health = Health::Unreachable;
        let offer = agent.offer.take();
        let tasks = agent.tasks.iter().filter(|(_, task)| !task.record.state.is_terminal());
        let ids: Vec<TaskId> = tasks.map(|(id, _)| id.clone()).chain(agent.lost.iter().cloned()).collect();
        self.rescind(offer);
        for task in ids {
            self.tell(&task, Some(agent_id), TaskState::Unreachable, "its agent is unreachable");
        }
    }

    /// Tells the scheduler once. It asks again for what it misses.
    fn tell(&mut self, task: &TaskId, agent: Option<&AgentId>, state: TaskState, message: &str) {
        if self.subscribed && self.events.len() < EVENTS_MAX {
            let (task, agent, message) = (task.clone(), agent.cloned(), message.to_owned());
            self.events.push_back(MesosEvent::Status(TaskStatus { task, agent, state, message, uuid: None }));
        }
    }

    fn uuid(&self) -> Bytes {
        crate::new_uuid().unwrap_or_else(|_| Bytes::from(format!("{}-{}", self.offer_prefix, self.offers_made)))
    }
}

impl Agent {
    fn new(config: AgentConfig, port: u16) -> Self {
        Self {
            config,
            port,
            health: Health::Up,
            tasks: BTreeMap::new(),
            offer: None,
            filter: None,
            cooling: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    fn knows(&self, task: &TaskId) -> bool {
        self.tasks.contains_key(task) || self.lost.contains(task)
    }
}

fn is_file_name(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=TASK_ID_BYTES_MAX).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(allowed)
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
