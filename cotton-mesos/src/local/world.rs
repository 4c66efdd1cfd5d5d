//! What the master and its agents know, and what follows from what happens. No I/O but a look at which ports are free:
//! things to be done are put into a queue of [`Action`]s.
//!
//! - A state of a task is told to the scheduler only after it was saved, one at a time, again until it is acknowledged;
//!   only then the executor gets its acknowledgement.
//! - A task keeps its resources and its port until its process has ended; the port until it can be bound again.
//! - What comes from or goes to an agent that is cut off waits until it is back.

use super::offers::{Cooling, Filter, Outstanding};
use super::store::{State, TaskRecord};
use super::task::{Process, Task};
use super::volume_files::VolumeRecord;
use super::volumes::Volume;
use super::{AgentConfig, LocalConfig};
use crate::wire::executor::Event;
use bytes::Bytes;
use cotton_core::ports::mesos::{MesosEvent, TaskState, TaskStatus};
use cotton_core::{AgentId, FrameworkId, TaskId, VolumeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Events that may wait for the scheduler before those that may get lost are dropped.
pub(super) const EVENTS_MAX: usize = 65_536;
/// How long an executor may take to subscribe.
pub(super) const REGISTER_TIMEOUT: Duration = Duration::from_mins(1);

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
    End { agent: AgentId, record: Box<TaskRecord> },
    /// Remove a volume, then call [`World::removed`].
    Remove { agent: AgentId, record: VolumeRecord },
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
    pub(super) message_bytes: usize,
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
    pub(super) volumes: BTreeMap<VolumeId, Volume>,
    pub(super) offer: Option<Outstanding>,
    pub(super) filter: Option<Filter>,
    /// Ports of ended tasks that could not be bound again yet.
    pub(super) cooling: BTreeMap<u16, Cooling>,
    /// Tasks launched while it was cut off: it never heard of them.
    pub(super) lost: BTreeSet<TaskId>,
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

    /// Adds an agent with the tasks and volumes that it remembers, and the processes found of the tasks.
    pub(super) fn add_agent(
        &mut self,
        now: Instant,
        config: AgentConfig,
        port: u16,
        tasks: Vec<(TaskRecord, Option<i32>)>,
        volumes: Vec<VolumeRecord>,
    ) {
        let id = config.id.clone();
        let mut agent = Agent::new(config, port);
        for record in volumes {
            let idle = tasks.iter().all(|(task, _)| task.volume.as_ref() != Some(&record.volume));
            agent.volumes.insert(record.volume.clone(), Volume { record, idle });
        }
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
        let ids: BTreeSet<TaskId> = tasks.keys().cloned().chain(lost).collect();
        for task in ids {
            self.tell(&task, Some(agent_id), TaskState::Gone, "its agent is gone");
        }
        for task in tasks.into_values() {
            self.actions.push_back(Action::End { agent: agent_id.clone(), record: Box::new(task.record) });
        }
    }

    pub(super) fn restore(&mut self, now: Instant, agent_id: &AgentId) {
        let grace = self.config.kill_grace;
        let Some(agent) = self.agents.get_mut(agent_id).filter(|agent| agent.health != Health::Up) else { return };
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

    /// Whether any task or volume is known.
    pub(super) fn has_tasks(&self) -> bool {
        self.agents.values().any(|agent| !agent.tasks.is_empty() || !agent.volumes.is_empty())
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
                let ended = agent.tasks.remove(&id);
                agent.cool_later(now, port);
                let end = |task: Task| Action::End { agent: agent_id.clone(), record: Box::new(task.record) };
                self.actions.extend(ended.map(end));
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
    pub(super) fn tell(&mut self, task: &TaskId, agent: Option<&AgentId>, state: TaskState, message: &str) {
        if self.subscribed && self.events.len() < EVENTS_MAX {
            let (task, agent, message) = (task.clone(), agent.cloned(), message.to_owned());
            self.events.push_back(MesosEvent::Status(TaskStatus { task, agent, state, message, uuid: None }));
        }
    }

    pub(super) fn uuid(&self) -> Bytes {
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
            volumes: BTreeMap::new(),
            offer: None,
            filter: None,
            cooling: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    pub(super) fn knows(&self, task: &TaskId) -> bool {
        self.tasks.contains_key(task) || self.lost.contains(task)
    }
}
