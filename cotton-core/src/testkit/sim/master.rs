//! A model of Mesos: a master, its agents, offers, task states that are repeated until acknowledged, messages that get
//! lost.

use super::member::Member;
use super::plan::Plan;
use super::random::Random;
use super::world::{Event, World, trace};
use crate::ports::mesos::{Launch, MesosCall, MesosEvent, Offer, TaskState, TaskStatus};
use crate::protocol::{self, MemberTask};
use crate::resources::MIB;
use crate::testkit::invariants::Task;
use crate::{AgentId, FrameworkId, Millis, OfferId, Ports, Resources, TaskId, VolumeId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The master.
#[derive(Debug, Default)]
pub(super) struct Master {
    pub(super) framework: Option<FrameworkId>,
    /// The connection to the scheduler.
    pub(super) connection: Option<u64>,
    pub(super) away_until: Millis,
    pub(super) last_call: Millis,
    last_event: Millis,
    suppressed: bool,
    offers: BTreeMap<OfferId, usize>,
    filters: BTreeMap<usize, Millis>,
    /// Tasks that have not ended, or whose end was not acknowledged.
    tasks: BTreeMap<TaskId, (usize, TaskState)>,
    /// What news the scheduler may acknowledge.
    pub(super) told: BTreeMap<Bytes, TaskState>,
}

/// A machine with its agent process.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a trouble that comes and goes by itself")]
pub(super) struct Agent {
    pub(super) id: AgentId,
    host: String,
    zone: String,
    ports: Ports,
    /// Whether the machine works.
    pub(super) alive: bool,
    /// Whether time stands still for its processes.
    pub(super) frozen: bool,
    pub(super) thawed: Option<Millis>,
    pub(super) waiting: Vec<Event>,
    /// Whether master and agent can talk, and whether its servers can talk to those elsewhere.
    pub(super) control: bool,
    pub(super) links: bool,
    /// Whether executors can talk to the agent.
    pub(super) local: bool,
    /// Until then nothing can be started there.
    pub(super) bad_until: Millis,
    /// Whether the master counts on it.
    pub(super) registered: bool,
    /// Counts what happened to it, so that an end of one trouble does not end the next.
    pub(super) cut: u64,
}

impl Agent {
    pub(super) fn new(index: usize, plan: &Plan, random: &mut Random) -> Self {
        let first = 31_000 + u16::try_from(random.below(100)).unwrap_or(0);
        Self {
            id: AgentId::new(format!("agent-{index}")),
            host: format!("host{index}"),
            zone: format!("zone{}", index % plan.zones),
            ports: Ports::new([(first, first + plan.ports - 1)]),
            alive: true,
            frozen: false,
            thawed: None,
            waiting: Vec::new(),
            control: true,
            links: true,
            local: true,
            bad_until: Millis(0),
            registered: true,
            cut: 0,
        }
    }

    /// What is wrong with it, for the trace.
    pub(super) fn troubles(&self) -> Vec<&'static str> {
        let all = [
            (!self.alive, "dead"),
            (self.frozen, "frozen"),
            (!self.control, "control cut"),
            (!self.links, "links cut"),
            (!self.local, "agent process away"),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, text)| text).collect()
    }

    /// Whether master and agent reach each other now.
    pub(super) const fn reachable(&self) -> bool {
        self.alive && self.control && !self.frozen
    }
}

impl Master {
    pub(super) fn on_subscribed(&mut self, connection: u64, now: Millis) {
        self.connection = Some(connection);
        (self.last_call, self.last_event) = (now, now);
        self.suppressed = false;
        self.offers.clear();
        self.filters.clear();
    }

    /// Takes back what is offered of an agent.
    pub(super) fn rescind_offers(&mut self, agent: usize) -> Vec<OfferId> {
        let of_agent = self.offers.extract_if(.., |_, on| *on == agent);
        of_agent.map(|(offer, _)| offer).collect()
    }
}

impl World {
    /// Says something to the scheduler, in order, if it is connected.
    pub(super) fn send_to_scheduler(&mut self, event: MesosEvent) {
        let Some(connection) = self.master.connection else { return };
        let at = self.now.after(self.random.delay(self.plan.network_ms)).max(self.master.last_event);
        self.master.last_event = at;
        self.at(at, Event::ToScheduler { connection, event: Box::new(event) });
    }

    fn send_status(&mut self, task: &TaskId, agent: usize, state: TaskState, message: &str, uuid: Option<u64>) {
        trace!(self, "master: {task} is {state:?} {message} {uuid:?}");
        let uuid = uuid.map(|uuid| Bytes::copy_from_slice(&uuid.to_be_bytes()));
        if let Some(uuid) = &uuid {
            self.master.told.insert(uuid.clone(), state);
        }
        let agent = Some(self.agents[agent].id.clone());
        let status = TaskStatus { task: task.clone(), agent, state, message: message.to_owned(), uuid };
        if status.uuid.is_some() && self.mishap(self.plan.doubled) {
            self.send_to_scheduler(MesosEvent::Status(status.clone()));
        }
        self.send_to_scheduler(MesosEvent::Status(status));
    }

    pub(super) fn agent_of(&self, id: &AgentId) -> Option<usize> {
        self.agents.iter().position(|agent| agent.id == *id)
    }

    pub(super) fn tell_master(&mut self, connection: u64, call: MesosCall) {
        if self.master.connection != Some(connection) && self.random.chance(500) {
            return; // it was on the way when the connection broke
        }
        match call {
            MesosCall::Accept { offer, agent, launches, releases } => self.accept(&offer, &agent, launches, releases),
            MesosCall::Decline { offers, filter_ms } => {
                for offer in offers {
                    if let Some(agent) = self.master.offers.remove(&offer) {
                        self.master.filters.insert(agent, self.now.after(filter_ms));
                    }
                }
            }
            MesosCall::Kill { task, agent } => self.forward_kill(task, &agent),
            MesosCall::Acknowledge { task, agent, uuid } => self.forward_acknowledgement(task, &agent, &uuid),
            MesosCall::Message { task, agent, data } => {
                if let Some(agent) = self.agent_of(&agent) {
                    self.forward_message(agent, task, data);
                }
            }
            MesosCall::Reconcile(tasks) => self.reconcile(tasks),
            MesosCall::AnswerMaintenance { id, .. } => self.take_answer(&id),
            MesosCall::Suppress => self.master.suppressed = true,
            MesosCall::Revive => {
                self.master.suppressed = false;
                self.master.filters.clear();
                let soon = self.random.within(1, 100);
                self.after(soon, Event::AllocateSoon);
            }
        }
    }

    fn accept(&mut self, offer: &OfferId, agent: &AgentId, launches: Vec<Launch>, releases: Vec<VolumeId>) {
        let index = self.agent_of(agent).expect("the scheduler names agents that were offered");
        let valid = self.master.offers.remove(offer) == Some(index) && self.agents[index].registered;
        if valid {
            self.master.filters.insert(index, self.now.after(5_000));
        }
        self.release(valid, index, releases);
        for launch in launches {
            let known = self.master.tasks.contains_key(&launch.task);
            if !valid || known {
                self.send_status(&launch.task, index, TaskState::Dropped, "the offer is no longer valid", None);
                continue;
            }
            if !self.provide(index, &launch) {
                self.send_status(&launch.task, index, TaskState::Dropped, "its volume is not there", None);
                continue;
            }
            let why = "the scheduler's launches make sense: checked when they left";
            let spec: MemberTask = protocol::decode(&launch.data).expect(why);
            let place = (agent.clone(), launch.endpoint.port);
            let mut tasks = self.running(&spec.cluster);
            tasks.insert(launch.task.clone());
            let verdict =
                self.no_more.on_started(self.now, self.store.clusters.get(&spec.cluster), &launch.task, &place, &tasks);
            self.hold(verdict);
            trace!(self, "master: {} is launched on {agent} at {}", launch.task, launch.endpoint);
            self.master.tasks.insert(launch.task.clone(), (index, TaskState::Staging));
            let number = self.members.len();
            self.members.push(Member::new(launch.task.clone(), spec, index, &self.plan));
            self.mount(number, &launch.storage);
            let delay = self.delay(self.plan.network_ms);
            self.after(delay, Event::Launch { agent: index, task: number, launch: Box::new(launch) });
        }
    }

    fn forward_kill(&mut self, task: TaskId, agent: &AgentId) {
        trace!(self, "master: {task} is to be killed");
        let index = self.agent_of(agent).expect("the scheduler names agents that were offered");
        if !self.master.tasks.contains_key(&task) {
            let state = if self.agents[index].registered { TaskState::Lost } else { TaskState::Unreachable };
            return self.send_status(&task, index, state, "kill of an unknown task", None);
        }
        if !self.agents[index].registered {
            return self.send_status(&task, index, TaskState::Unreachable, "kill on an unreachable agent", None);
        }
        if self.agents[index].control {
            let delay = self.delay(self.plan.network_ms);
            self.after(delay, Event::Kill { agent: index, task });
        }
    }

    fn forward_acknowledgement(&mut self, task: TaskId, agent: &AgentId, uuid: &Bytes) {
        let Some(index) = self.agent_of(agent) else { return };
        let number = u64::from_be_bytes(uuid.as_ref().try_into().unwrap_or_default());
        if self.master.told.get(uuid).is_some_and(|state| state.is_terminal()) {
            self.master.tasks.remove(&task);
        }
        if self.agents[index].control {
            let delay = self.delay(self.plan.network_ms);
            self.after(delay, Event::Acknowledged { agent: index, task, uuid: number });
        }
    }

    /// Messages are lost, late, out of order, and come twice; and now and then an old one comes again.
    fn forward_message(&mut self, agent: usize, task: TaskId, data: Bytes) {
        if self.mishap(self.plan.replayed)
            && let Some((agent, task, data)) = self.random.pick(&self.replayable)
        {
            trace!(self, "FAULT an old message comes again: {task} {}", String::from_utf8_lossy(&data));
            self.deliver(agent, task, data);
        }
        if self.plan.replayed > 0 {
            self.replayable.push((agent, task.clone(), data.clone()));
        }
        if self.mishap(self.plan.doubled) {
            self.deliver(agent, task.clone(), data.clone());
        }
        self.deliver(agent, task, data);
    }

    fn deliver(&mut self, agent: usize, task: TaskId, data: Bytes) {
        let lost = self.mishap(self.plan.lost) || self.now < self.silent_until || !self.agents[agent].control;
        if !lost {
            let delay = self.delay(self.plan.network_ms);
            self.after(delay, Event::Message { agent, task, data });
        }
    }

    fn reconcile(&mut self, tasks: Vec<(TaskId, AgentId)>) {
        let tasks: Vec<(TaskId, usize)> = if tasks.is_empty() {
            self.master.tasks.iter().map(|(task, (agent, _))| (task.clone(), *agent)).collect()
        } else {
            tasks.into_iter().filter_map(|(task, agent)| Some((task, self.agent_of(&agent)?))).collect()
        };
        for (task, agent) in tasks {
            let registered = self.agents[agent].registered;
            let state = match self.master.tasks.get(&task) {
                Some((_, state)) if state.is_terminal() || registered => *state,
                None if registered => TaskState::Lost,
                _ => TaskState::Unreachable,
            };
            self.send_status(&task, agent, state, "reconciliation", None);
        }
    }

    pub(super) fn allocate(&mut self, again: bool) {
        if again {
            self.after(1_000, Event::Allocate);
        }
        if self.master.connection.is_none() || self.master.suppressed {
            return;
        }
        let offered: BTreeSet<usize> = self.master.offers.values().copied().collect();
        let mut offers = Vec::new();
        for index in 0..self.agents.len() {
            let agent = &self.agents[index];
            let filtered = self.master.filters.get(&index).is_some_and(|until| self.now < *until);
            if !agent.registered || !agent.reachable() || filtered || offered.contains(&index) {
                continue;
            }
            let mut ports = agent.ports.clone();
            for (task, (on, state)) in &self.master.tasks {
                if *on == index && !state.is_terminal() {
                    let member = self.members.iter().rev().find(|m| m.task == *task);
                    ports.remove(member.map_or(0, |m| m.spec.endpoint.port));
                }
            }
            self.without_reserved(index, &mut ports);
            let held = self.held_on(index);
            if ports.is_empty() && held.is_empty() {
                continue;
            }
            let agent = &self.agents[index];
            let resources = Resources { cpus_milli: 64_000, mem_bytes: 64 << 30, disk_bytes: 1 << 40 };
            let (id, host, zone) = (agent.id.clone(), agent.host.clone(), agent.zone.clone());
            self.numbers += 1;
            let offer = OfferId::new(format!("offer-{}", self.numbers));
            self.master.offers.insert(offer.clone(), index);
            let attributes = BTreeMap::from([("zone".to_owned(), zone)]);
            offers.push(Offer {
                id: offer,
                agent: id,
                host,
                resources,
                ports,
                attributes,
                held,
                maintenance_in_ms: self.windows.get(&index).map(|window| window.starts.since(self.now)),
            });
        }
        if !offers.is_empty() {
            self.send_to_scheduler(MesosEvent::Offers(offers));
        }
    }

    /// An agent was silent for too long.
    pub(super) fn give_up_agent(&mut self, agent: usize, cut: u64) {
        if self.agents[agent].cut != cut || self.agents[agent].reachable() {
            return;
        }
        trace!(self, "master: agent-{agent} is unreachable");
        self.agents[agent].registered = false;
        self.forget_agreement(agent);
        for offer in self.master.rescind_offers(agent) {
            self.send_to_scheduler(MesosEvent::Rescinded(offer));
        }
        for (task, state) in self.tasks_on(agent) {
            if !state.is_terminal() {
                self.send_status(&task, agent, TaskState::Unreachable, "agent unreachable", None);
            }
        }
        let id = self.agents[agent].id.clone();
        self.send_to_scheduler(MesosEvent::AgentLost(id));
    }

    /// An agent talks to the master again: what the one knows and the other does not is put right.
    pub(super) fn register_agent(&mut self, agent: usize) {
        let was_away = !self.agents[agent].registered;
        self.agents[agent].registered = true;
        for (task, state) in self.tasks_on(agent) {
            let here = self.members.iter().rposition(|m| m.task == task && m.agent == agent && m.arrived && !m.lost);
            match here {
                None if !state.is_terminal() => {
                    self.master.tasks.remove(&task);
                    let lost = if state == TaskState::Staging { TaskState::Dropped } else { TaskState::Lost };
                    self.end_member_of(&task);
                    self.send_status(&task, agent, lost, "not known to its agent", None);
                }
                Some(_) if was_away && !state.is_terminal() => {
                    self.send_status(&task, agent, state, "agent is back", None);
                }
                _ => {}
            }
        }
        for task in 0..self.members.len() {
            if self.members[task].agent == agent {
                self.forward_update(task);
            }
        }
    }

    fn end_member_of(&mut self, task: &TaskId) {
        if let Some(number) = self.members.iter().rposition(|m| m.task == *task) {
            self.end_task(number);
        }
    }

    fn tasks_on(&self, agent: usize) -> Vec<(TaskId, TaskState)> {
        let on = self.master.tasks.iter().filter(|(_, (on, _))| *on == agent);
        on.map(|(task, (_, state))| (task.clone(), *state)).collect()
    }

    // The agent's part: the first update of a task that is not acknowledged is sent again and again.

    pub(super) fn update(&mut self, task: Task, state: TaskState, message: &str) {
        let member = &mut self.members[task];
        if member.closed {
            return; // after the last word
        }
        member.closed = state.is_terminal();
        let uuid = self.number();
        let member = &mut self.members[task];
        member.updates.push_back((uuid, state, message.to_owned()));
        if member.updates.len() == 1 {
            self.forward_update(task);
        }
    }

    fn forward_update(&mut self, task: Task) {
        let member = &self.members[task];
        let Some((uuid, state, message)) = member.updates.front().cloned() else { return };
        let (id, agent) = (member.task.clone(), member.agent);
        if self.agents[agent].reachable() && self.agents[agent].registered {
            if let Some(known) = self.master.tasks.get_mut(&id) {
                known.1 = state;
            }
            self.send_status(&id, agent, state, &message, Some(uuid));
        }
        let again = self.random.within(2_000, 10_000);
        self.after(again, Event::UpdateAgain { task, uuid });
    }

    pub(super) fn update_again(&mut self, task: Task, uuid: u64) {
        if self.members[task].updates.front().is_some_and(|(first, ..)| *first == uuid) {
            self.forward_update(task);
        }
    }

    pub(super) fn acknowledged_update(&mut self, agent: usize, task: &TaskId, uuid: u64) {
        if !self.agents[agent].reachable() {
            return;
        }
        let of_task = |m: &Member| m.task == *task && m.updates.front().is_some_and(|(first, ..)| *first == uuid);
        let Some(number) = self.members.iter().position(of_task) else { return };
        self.members[number].updates.pop_front();
        self.forward_update(number);
    }

    pub(super) fn launch(&mut self, agent: usize, task: Task, launch: &Launch) {
        if !self.agents[agent].reachable() || self.members[task].ended {
            return; // found out when the agent is back
        }
        self.members[task].arrived = true;
        trace!(self, "agent-{agent}: starts the executor of {}", launch.task);
        self.start_executor(task);
    }

    pub(super) fn kill_task(&mut self, agent: usize, task: &TaskId) {
        if !self.agents[agent].reachable() {
            return;
        }
        match self.members.iter().rposition(|m| m.task == *task && m.agent == agent && !m.ended) {
            Some(number) => self.kill_executor(number),
            None => trace!(self, "agent-{agent}: nothing to kill for {task}"),
        }
    }

    pub(super) fn message(&mut self, agent: usize, task: &TaskId, data: &Bytes) {
        if self.agents[agent].reachable()
            && let Some(number) = self.members.iter().rposition(|m| m.task == *task && m.agent == agent && !m.ended)
        {
            self.tell_executor(number, data);
        }
    }
}

/// What each member asks for.
pub(super) const SIZE: Resources = Resources { cpus_milli: 1_000, mem_bytes: 256 * MIB, disk_bytes: 512 * MIB };
