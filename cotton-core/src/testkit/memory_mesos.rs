//! A [`Mesos`] in memory: agents are numbers, and executors do what a test says, or obey by themselves.

use crate::ports::mesos::{Launch, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, TaskStatus, VolumeOutcome};
use crate::{AgentId, FrameworkId, OfferId, PortError, Ports, Resources, TaskId};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A master and agents in memory. Clones share them. Has no clock: a decline filter ends when the scheduler revives offers
/// or something becomes free.
#[derive(Clone, Debug)]
pub struct MemoryMesos {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Executors run, echo and end by themselves.
    obedient: bool,
    agents: BTreeMap<AgentId, Agent>,
    tasks: BTreeMap<TaskId, Task>,
    events: VecDeque<MesosEvent>,
    to_executors: VecDeque<(TaskId, Bytes)>,
    kills: VecDeque<TaskId>,
    subscribed: bool,
    suppressed: bool,
    /// Counts offers and uuids.
    count: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Agent {
    host: String,
    free: Resources,
    ports: Ports,
    offer: Option<OfferId>,
    filtered: bool,
}

#[derive(Debug)]
struct Task {
    agent: AgentId,
    launch: Launch,
    state: TaskState,
    news: VecDeque<TaskStatus>,
}

impl MemoryMesos {
    /// Without agents. With `obedient`, executors say that they run, send messages back with `echo ` before them, and end
    /// when killed; else they do what [`tell`](Self::tell) and [`say`](Self::say) say.
    pub fn new(obedient: bool) -> Self {
        let state = State {
            obedient,
            agents: BTreeMap::new(),
            tasks: BTreeMap::new(),
            events: VecDeque::new(),
            to_executors: VecDeque::new(),
            kills: VecDeque::new(),
            subscribed: false,
            suppressed: false,
            count: 0,
            waker: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Adds an agent with resources and inclusive ranges of ports.
    pub fn add_agent(&self, id: &str, host: &str, resources: Resources, ports: impl IntoIterator<Item = (u16, u16)>) {
        let agent =
            Agent { host: host.into(), free: resources, ports: Ports::new(ports), offer: None, filtered: false };
        self.change(|state| state.agents.insert(AgentId::from(id), agent));
    }

    /// Loses an agent for good, with its tasks.
    pub fn lose_agent(&self, id: &AgentId) {
        self.change(|state| {
            let Some(agent) = state.agents.remove(id) else { return };
            state.events.extend(agent.offer.map(MesosEvent::Rescinded));
            state.events.push_back(MesosEvent::AgentLost(id.clone()));
            let lost: Vec<_> = state.tasks.extract_if(.., |_, task| task.agent == *id).collect();
            for (task, _) in lost {
                state.answer(task, Some(id.clone()), TaskState::Lost);
            }
        });
    }

    /// An executor tells a state of its task.
    pub fn tell(&self, task: &TaskId, to: TaskState, message: &str) {
        self.change(|state| state.tell(task, to, message));
    }

    /// An executor says something to the scheduler.
    pub fn say(&self, task: &TaskId, data: Bytes) {
        self.change(|state| state.events.push_back(MesosEvent::Message { task: task.clone(), data }));
    }

    /// The tasks that were launched and have not ended.
    pub fn running(&self) -> Vec<Launch> {
        let state = self.state();
        state.tasks.values().filter(|task| !task.state.is_terminal()).map(|task| task.launch.clone()).collect()
    }

    /// Takes what was said to executors since the last time.
    pub fn take_messages(&self) -> Vec<(TaskId, Bytes)> {
        self.state().to_executors.drain(..).collect()
    }

    /// Takes the kills that were asked for since the last time.
    pub fn take_kills(&self) -> Vec<TaskId> {
        self.state().kills.drain(..).collect()
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        state.make_offers();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mesos for MemoryMesos {
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        let framework = framework.unwrap_or_else(|| FrameworkId::from("memory"));
        self.change(|state| {
            (state.subscribed, state.suppressed) = (true, false);
            state.events = VecDeque::from([MesosEvent::Subscribed(framework)]);
            state.agents.values_mut().for_each(|agent| (agent.offer, agent.filtered) = (None, false));
            let news: Vec<_> = state.tasks.values().filter_map(|task| task.news.front().cloned()).collect();
            state.events.extend(news.into_iter().map(MesosEvent::Status));
        });
        Ok(())
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(event) = state.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        self.change(|state| state.call(call));
        Ok(())
    }
}

impl State {
    fn call(&mut self, call: MesosCall) {
        match call {
            MesosCall::Accept { offer, agent, launches, releases } => {
                self.accept(&offer, &agent, launches);
                let outcome = VolumeOutcome::Failed { reason: "there are no volumes here".to_owned() };
                let failed = |volume| MesosEvent::Volume { volume, outcome: outcome.clone() };
                self.events.extend(releases.into_iter().map(failed));
            }
            MesosCall::Decline { offers, filter_ms } => {
                let declined = self.agents.values_mut();
                for agent in declined.filter(|agent| agent.offer.as_ref().is_some_and(|id| offers.contains(id))) {
                    (agent.offer, agent.filtered) = (None, filter_ms > 0);
                }
            }
            MesosCall::Kill { task, agent } => {
                if !self.tasks.contains_key(&task) {
                    return self.answer(task, Some(agent), TaskState::Lost);
                }
                if self.obedient {
                    self.tell(&task, TaskState::Killed, "as told");
                }
                self.kills.push_back(task);
            }
            MesosCall::Acknowledge { task, uuid, .. } => self.acknowledge(&task, &uuid),
            MesosCall::Message { task, data, .. } => {
                if self.obedient && self.tasks.contains_key(&task) {
                    let data = [b"echo ", data.as_ref()].concat().into();
                    return self.events.push_back(MesosEvent::Message { task, data });
                }
                self.to_executors.push_back((task, data));
            }
            MesosCall::Reconcile(mut tasks) => {
                if tasks.is_empty() {
                    tasks = self.tasks.iter().map(|(id, task)| (id.clone(), task.agent.clone())).collect();
                }
                for (id, agent) in tasks {
                    let state = self.tasks.get(&id).map_or(TaskState::Lost, |task| task.state);
                    self.answer(id, Some(agent), state);
                }
            }
            MesosCall::AnswerMaintenance { .. } => {} // never announced here
            MesosCall::Suppress => self.suppressed = true,
            MesosCall::Revive => {
                self.suppressed = false;
                self.agents.values_mut().for_each(|agent| agent.filtered = false);
            }
        }
    }

    fn accept(&mut self, offer: &OfferId, id: &AgentId, launches: Vec<Launch>) {
        let launches: Vec<_> = launches.into_iter().filter(|launch| !self.tasks.contains_key(&launch.task)).collect();
        let is_valid = self.agents.get_mut(id).is_some_and(|agent| agent.offer.take_if(|made| made == offer).is_some());
        for launch in launches {
            let wanted = launch.task_resources.plus(&launch.executor_resources);
            let is_fine = is_valid && launch.storage == Storage::Sandbox; // there are no volumes here
            let agent = self.agents.get_mut(id).filter(|agent| is_fine && agent.ports.contains(launch.endpoint.port));
            let Some((agent, left)) = agent.and_then(|agent| agent.free.checked_sub(&wanted).map(|left| (agent, left)))
            else {
                self.answer(launch.task, Some(id.clone()), TaskState::Dropped);
                continue;
            };
            agent.free = left;
            agent.ports.remove(launch.endpoint.port);
            let task = launch.task.clone();
            let made = Task { agent: id.clone(), launch, state: TaskState::Staging, news: VecDeque::new() };
            self.tasks.insert(task.clone(), made);
            if self.obedient {
                self.tell(&task, TaskState::Starting, "");
                self.tell(&task, TaskState::Running, "");
            }
        }
    }

    fn tell(&mut self, id: &TaskId, to: TaskState, message: &str) {
        self.count += 1;
        let uuid = Some(Bytes::from(format!("uuid-{}", self.count)));
        let Some(task) = self.tasks.get_mut(id).filter(|task| !task.state.is_terminal()) else { return };
        task.state = to;
        let (agent, message) = (Some(task.agent.clone()), message.to_owned());
        task.news.push_back(TaskStatus { task: id.clone(), agent, state: to, message, uuid });
        if let [only] = task.news.make_contiguous() {
            self.events.push_back(MesosEvent::Status(only.clone()));
        }
        if to.is_terminal()
            && let Some(agent) = self.agents.get_mut(&task.agent)
        {
            agent.free = agent.free.plus(&task.launch.task_resources).plus(&task.launch.executor_resources);
            let port = task.launch.endpoint.port;
            agent.ports = Ports::new(agent.ports.ranges().iter().copied().chain([(port, port)]));
            agent.filtered = false;
            // What was offered before was less.
            self.events.extend(agent.offer.take().map(MesosEvent::Rescinded));
        }
    }

    fn acknowledge(&mut self, id: &TaskId, uuid: &Bytes) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.news.front().is_none_or(|news| news.uuid.as_ref() != Some(uuid)) {
            return;
        }
        task.news.pop_front();
        self.events.extend(task.news.front().cloned().map(MesosEvent::Status));
        if task.news.is_empty() && task.state.is_terminal() {
            self.tasks.remove(id);
        }
    }

    fn answer(&mut self, task: TaskId, agent: Option<AgentId>, state: TaskState) {
        let status = TaskStatus { task, agent, state, message: String::new(), uuid: None };
        self.events.push_back(MesosEvent::Status(status));
    }

    fn make_offers(&mut self) {
        if !self.subscribed || self.suppressed {
            return;
        }
        let mut offers = Vec::new();
        let idle = self.agents.iter_mut().filter(|(_, agent)| agent.offer.is_none() && !agent.filtered);
        for (id, agent) in idle.filter(|(_, agent)| agent.free != Resources::default()) {
            self.count += 1;
            let offer = OfferId::from(format!("offer-{}", self.count).as_str());
            agent.offer = Some(offer.clone());
            offers.push(Offer {
                id: offer,
                agent: id.clone(),
                host: agent.host.clone(),
                resources: agent.free,
                ports: agent.ports.clone(),
                attributes: BTreeMap::new(),
                held: Vec::new(),
                maintenance_in_ms: None,
            });
        }
        if !offers.is_empty() {
            self.events.push_back(MesosEvent::Offers(offers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn a_lost_agent_takes_its_tasks_along() {
        let port = MemoryMesos::new(false);
        port.add_agent("a", "h", Resources::DEFAULT, [(1, 2)]);
        port.subscribe(None).await.expect("subscribes");
        port.lose_agent(&AgentId::from("a"));
        let mut events = BTreeSet::new();
        for _ in 0..4 {
            events
                .insert(format!("{:?}", port.next_event().await.expect("comes")).split('(').next().map(str::to_owned));
        }
        assert_eq!(events.len(), 4, "{events:?}");
    }
}
