//! A scheduler in miniature: takes events one by one, acknowledges news, and keeps those that nobody has asked for yet.

use crate::executor;
use bytes::Bytes;
use cotton_core::ports::mesos::{
    Launch, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, TaskStatus, VolumeOutcome,
};
use cotton_core::resources::MIB;
use cotton_core::{AgentId, Endpoint, FrameworkId, PortError, Resources, TaskId, VolumeId};
use cotton_mesos::{FrameworkConfig, HttpMesos, MasterList, SchedulerConfig};
use cotton_tests::{Failure, within};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const STEP: Duration = Duration::from_secs(90);
/// What a small task needs besides its executor.
pub(crate) const SMALL: Resources = Resources { cpus_milli: 100, mem_bytes: 32 * MIB, disk_bytes: 16 * MIB };

/// Who runs the test.
pub(crate) fn user() -> String {
    let user = std::process::Command::new("id").arg("-un").output().expect("id").stdout;
    String::from_utf8(user).expect("a name").trim().to_owned()
}

/// With the executor in miniature.
pub(crate) fn config() -> SchedulerConfig {
    let mut framework = FrameworkConfig::new("cotton-test", user());
    framework.roles = vec!["mysql".to_owned()];
    SchedulerConfig::new(framework, executor::config())
}

/// A connection that is not made yet.
pub(crate) fn connection(config: SchedulerConfig, masters: &str) -> HttpMesos {
    let masters: MasterList = masters.parse().expect("masters");
    HttpMesos::new(config, Arc::new(masters)).expect("a connection")
}

pub(crate) struct Scheduler {
    pub(crate) mesos: HttpMesos,
    pub(crate) framework: FrameworkId,
    backlog: VecDeque<MesosEvent>,
}

impl Scheduler {
    pub(crate) async fn start(mesos: HttpMesos, framework: Option<FrameworkId>) -> Result<Self, Failure> {
        mesos.subscribe(framework).await?;
        let mut this = Self { mesos, framework: FrameworkId::from(""), backlog: VecDeque::new() };
        this.framework = this.subscribed().await?;
        Ok(this)
    }

    /// Takes the next event into the backlog, and acknowledges it. Cancelling this loses nothing.
    async fn take(&mut self) -> Result<(), Failure> {
        let event = self.mesos.next_event().await?;
        if matches!(event, MesosEvent::Disconnected) {
            self.backlog.retain(|old| !matches!(old, MesosEvent::Offers(_)));
        }
        self.backlog.push_back(event.clone());
        if let MesosEvent::Status(TaskStatus { task, agent: Some(agent), uuid: Some(uuid), .. }) = event {
            // While there is no connection it is not taken; then the news comes again.
            let _lost = self.mesos.call(MesosCall::Acknowledge { task, agent, uuid }).await;
        }
        Ok(())
    }

    /// The first event that `pick` takes.
    pub(crate) async fn wait<T>(&mut self, what: &str, pick: impl Fn(&MesosEvent) -> Option<T>) -> Result<T, Failure> {
        let search = async {
            loop {
                if let Some(at) = self.backlog.iter().position(|event| pick(event).is_some()) {
                    let event = self.backlog.remove(at).expect("found");
                    return Ok(pick(&event).expect("found"));
                }
                self.take().await?;
            }
        };
        let found = within(STEP, what, search).await;
        found.map_err(|error| Failure::new(format!("{error}; there was {:#?}", self.backlog)))?
    }

    pub(crate) async fn subscribed(&mut self) -> Result<FrameworkId, Failure> {
        self.wait("subscribed", |event| match event {
            MesosEvent::Subscribed(framework) => Some(framework.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn disconnected(&mut self) -> Result<(), Failure> {
        self.wait("disconnected", |event| matches!(event, MesosEvent::Disconnected).then_some(())).await
    }

    pub(crate) async fn call(&self, call: MesosCall) -> Result<(), Failure> {
        Ok(self.mesos.call(call).await?)
    }

    /// An offer with so much at least.
    pub(crate) async fn offer(&mut self, least: &Resources) -> Result<Offer, Failure> {
        self.wait("an offer", |event| match event {
            MesosEvent::Offers(offers) => offers.iter().find(|offer| offer.resources.lacks(least).is_none()).cloned(),
            _ => None,
        })
        .await
    }

    /// Launches a task of that size, executor not counted, and waits until it runs.
    pub(crate) async fn run(&mut self, task: &str, size: Resources, data: &'static str) -> Result<AgentId, Failure> {
        let offer = self.offer(&size.plus(&Resources::EXECUTOR)).await?;
        let port = offer.ports.ranges().first().ok_or_else(|| Failure::new("no ports offered"))?.0;
        let launch = Launch {
            task: TaskId::from(task),
            endpoint: Endpoint::new(offer.host.clone(), port),
            task_resources: size,
            executor_resources: Resources::EXECUTOR,
            storage: Storage::Sandbox,
            data: Bytes::from_static(data.as_bytes()),
        };
        let agent = offer.agent.clone();
        self.call(MesosCall::Accept {
            offer: offer.id,
            agent: offer.agent,
            launches: vec![launch],
            releases: Vec::new(),
        })
        .await?;
        self.state(task, TaskState::Running).await?;
        Ok(agent)
    }

    /// Launches a task of that size on an offer that `pick` takes, and uses its first port.
    pub(crate) async fn launch_on(
        &mut self,
        offer: &Offer,
        port: u16,
        task: &str,
        size: Resources,
        storage: Storage,
        data: &str,
    ) -> Result<(), Failure> {
        let launch = Launch {
            task: TaskId::from(task),
            endpoint: Endpoint::new(offer.host.clone(), port),
            task_resources: size,
            executor_resources: Resources::EXECUTOR,
            storage,
            data: Bytes::copy_from_slice(data.as_bytes()),
        };
        let (offer, agent) = (offer.id.clone(), offer.agent.clone());
        self.call(MesosCall::Accept { offer, agent, launches: vec![launch], releases: Vec::new() }).await
    }

    /// The newest offer that `pick` takes; those that it does not take are given back, so that all of an agent comes in
    /// one offer sooner or later.
    pub(crate) async fn offer_with(&mut self, what: &str, pick: impl Fn(&Offer) -> bool) -> Result<Offer, Failure> {
        let search = async {
            loop {
                let offers = self.wait(what, |event| match event {
                    MesosEvent::Offers(offers) => Some(offers.clone()),
                    _ => None,
                });
                for offer in offers.await? {
                    let rescinded = MesosEvent::Rescinded(offer.id.clone());
                    if self.backlog.contains(&rescinded) {
                        continue;
                    }
                    if pick(&offer) {
                        return Ok::<Offer, Failure>(offer);
                    }
                    self.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 200 }).await?;
                }
            }
        };
        within(STEP, what, search).await?
    }

    /// What became of a volume.
    pub(crate) async fn volume(&mut self, volume: &VolumeId) -> Result<VolumeOutcome, Failure> {
        self.wait(&format!("news of {volume}"), |event| match event {
            MesosEvent::Volume { volume: found, outcome } if found == volume => Some(outcome.clone()),
            _ => None,
        })
        .await
    }

    /// Whether news of a volume that nobody has asked for yet has come.
    pub(crate) fn has_news_of(&self, volume: &VolumeId) -> bool {
        let is_news = |event: &MesosEvent| matches!(event, MesosEvent::Volume { volume: found, .. } if found == volume);
        self.backlog.iter().any(is_news)
    }

    /// Waits for news that a task is in a state.
    pub(crate) async fn state(&mut self, task: &str, state: TaskState) -> Result<TaskStatus, Failure> {
        let id = TaskId::from(task);
        self.wait(&format!("{task} is {state:?}"), |event| match event {
            MesosEvent::Status(status) if status.task == id && status.state == state => Some(status.clone()),
            _ => None,
        })
        .await
    }

    /// The state of a task that Mesos tells when it is asked.
    pub(crate) async fn reconciled(&mut self, task: &str, agent: &AgentId) -> Result<TaskStatus, Failure> {
        let id = TaskId::from(task);
        self.backlog.retain(|event| !matches!(event, MesosEvent::Status(status) if status.task == id));
        self.call(MesosCall::Reconcile(vec![(id.clone(), agent.clone())])).await?;
        self.wait(&format!("an answer about {task}"), |event| match event {
            MesosEvent::Status(status) if status.task == id && status.uuid.is_none() => Some(status.clone()),
            _ => None,
        })
        .await
    }

    /// Whether the executor of a task answers.
    pub(crate) async fn echo(&mut self, task: &str, agent: &AgentId) -> Result<(), Failure> {
        let task = TaskId::from(task);
        let call = MesosCall::Message { task: task.clone(), agent: agent.clone(), data: "there?".into() };
        let echoed = MesosEvent::Message { task, data: "echo there?".into() };
        loop {
            // Messages get lost while an executor is not connected with its agent.
            self.call(call.clone()).await?;
            let answer = self.wait("an echo", |event| (*event == echoed).then_some(()));
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), answer).await {
                return answer;
            }
        }
    }

    pub(crate) async fn kill(&mut self, task: &str, agent: &AgentId) -> Result<(), Failure> {
        self.call(MesosCall::Kill { task: TaskId::from(task), agent: agent.clone() }).await
    }

    /// The end of events.
    pub(crate) async fn end(&mut self) -> Result<PortError, Failure> {
        let search = async {
            loop {
                if let Err(error) = self.mesos.next_event().await {
                    return error;
                }
            }
        };
        within(STEP, "the end of events", search).await
    }
}
