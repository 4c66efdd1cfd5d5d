//! A scheduler in miniature, and an executor in miniature, for tests of the local agents.
//!
//! The executor is this very test program, started again so that it runs just the ignored test `executor_process`.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the events that it waits for")]

use bytes::Bytes;
use cotton_core::ports::executor_link::{ExecutorLink, LinkEvent};
use cotton_core::ports::mesos::{
    Launch, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, TaskStatus, VolumeOutcome,
};
use cotton_core::resources::MIB;
use cotton_core::{AgentId, Endpoint, Ports, Resources, TaskId, VolumeId};
use cotton_mesos::{AgentConfig, ExecutorCommand, ExecutorEnvironment, HttpExecutorLink, Local, LocalConfig};
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const ONE: Resources = Resources { cpus_milli: 500, mem_bytes: 64 * MIB, disk_bytes: 64 * MIB };

/// What the executor in miniature shall be like.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Behaviour {
    /// Ignores kills and shutdowns.
    pub(crate) stubborn: bool,
    /// Holds the port of its task.
    pub(crate) listens: Option<u16>,
}

/// The executor: obeys, and answers messages. `spawn` starts a child, `finish` and `fail` end the task.
pub(crate) async fn run_executor() {
    let environment = ExecutorEnvironment::from_map(&std::env::vars().collect()).expect("started by an agent");
    let mut starts = std::fs::File::options().create(true).append(true).open("starts").expect("sandbox");
    writeln!(starts, "{}", std::process::id()).expect("sandbox");
    let link = HttpExecutorLink::start(environment).expect("link");
    let (mut task, mut behaviour, mut held) = (TaskId::from(""), Behaviour::default(), None);
    let mut children = Vec::new();
    while let Ok(event) = link.next_event().await {
        match event {
            LinkEvent::Launch { task: id, data } => {
                task = id;
                behaviour = serde_json::from_slice(&data).expect("behaviour");
                held = behaviour.listens.map(|port| TcpListener::bind(("127.0.0.1", port)).expect("its own port"));
                link.update(&task, TaskState::Starting, "").await.expect("open");
                link.update(&task, TaskState::Running, "it runs").await.expect("open");
            }
            LinkEvent::Kill { .. } | LinkEvent::Shutdown { .. } if behaviour.stubborn => {}
            LinkEvent::Kill { .. } => link.update(&task, TaskState::Killed, "as told").await.expect("open"),
            LinkEvent::Shutdown { .. } => break,
            LinkEvent::Acknowledged(state) if state.is_terminal() => break,
            LinkEvent::Acknowledged(_) | LinkEvent::Connected | LinkEvent::Disconnected => {}
            LinkEvent::Message(data) => match data.as_ref() {
                b"spawn" => {
                    let child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
                    link.send(Bytes::from(child.id().to_string())).await.expect("connected");
                    children.push(child);
                }
                b"finish" => link.update(&task, TaskState::Finished, "").await.expect("open"),
                b"fail" => link.update(&task, TaskState::Failed, "on demand").await.expect("open"),
                other => link.send([b"echo ", other].concat().into()).await.expect("connected"),
            },
        }
    }
    drop(held);
}

/// Configuration of agents `a0`, `a1`, ... below `dir`.
pub(crate) fn config(dir: &Path, agents: usize) -> LocalConfig {
    let agent = |n: usize| AgentConfig {
        id: AgentId::from(format!("a{n}").as_str()),
        host: "127.0.0.1".into(),
        resources: ONE.times(4),
        ports: Ports::new((0..4).map(|_| free_port()).map(|port| (port, port))),
        attributes: BTreeMap::new(),
    };
    let executor = ExecutorCommand {
        program: std::env::current_exe().expect("a test program"),
        args: ["--exact", "executor_process", "--ignored", "--nocapture"].map(String::from).to_vec(),
        environment: BTreeMap::new(),
    };
    let mut config = LocalConfig::new(dir, (0..agents).map(agent).collect(), executor);
    config.unreachable_timeout = Duration::from_millis(200);
    config.kill_grace = Duration::from_millis(500);
    config.executor_recovery_timeout = Duration::from_secs(10);
    config
}

/// A port that nobody else has, also not for an outgoing connection later: below those that the kernel gives out.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 97).expect("small") * 30;
    loop {
        let port = 29_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 3000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The scheduler: takes events one by one, and keeps those that nobody has asked for yet.
pub(crate) struct Scheduler {
    pub(crate) local: Local,
    backlog: VecDeque<MesosEvent>,
    pub(crate) acknowledges: bool,
}

impl Scheduler {
    pub(crate) async fn start(config: LocalConfig) -> Self {
        let local = Local::open(config).expect("opens");
        local.subscribe(None).await.expect("subscribes");
        let mut this = Self { local, backlog: VecDeque::new(), acknowledges: true };
        this.wait("subscribed", |event| matches!(event, MesosEvent::Subscribed(_)).then_some(())).await;
        this
    }

    /// The first event that `pick` takes.
    pub(crate) async fn wait<T>(&mut self, what: &str, pick: impl Fn(&MesosEvent) -> Option<T>) -> T {
        if let Some(at) = self.backlog.iter().position(|event| pick(event).is_some()) {
            return pick(&self.backlog.remove(at).expect("found")).expect("found");
        }
        let search = async {
            loop {
                let event = self.local.next_event().await.expect("open");
                if let MesosEvent::Status(TaskStatus { task, agent: Some(agent), uuid: Some(uuid), .. }) = &event
                    && self.acknowledges
                {
                    let (task, agent, uuid) = (task.clone(), agent.clone(), uuid.clone());
                    self.call(MesosCall::Acknowledge { task, agent, uuid }).await;
                }
                if let MesosEvent::Rescinded(id) = &event {
                    self.backlog.retain(|old| !matches!(old, MesosEvent::Offers(offers) if offers[0].id == *id));
                }
                // Offers one by one, so that each can be taken.
                let mut events = VecDeque::from([event]);
                if let MesosEvent::Offers(offers) = &events[0] {
                    events = offers.iter().map(|offer| MesosEvent::Offers(vec![offer.clone()])).collect();
                }
                let found = events.iter().position(|event| pick(event).is_some());
                let found = found.and_then(|at| events.remove(at));
                self.backlog.extend(events);
                if let Some(event) = found {
                    return pick(&event).expect("found");
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, search).await;
        found.unwrap_or_else(|_| panic!("no {what}; there was {:#?}", self.backlog))
    }

    /// Whether an event that `pick` takes has come already.
    pub(crate) fn has(&self, pick: impl Fn(&MesosEvent) -> bool) -> bool {
        self.backlog.iter().any(pick)
    }

    pub(crate) async fn call(&self, call: MesosCall) {
        self.local.call(call).await.expect("taken");
    }

    /// The next offer of an agent.
    pub(crate) async fn offer(&mut self, agent: &str) -> Offer {
        self.wait("offer", |event| match event {
            MesosEvent::Offers(offers) => offers.iter().find(|offer| offer.agent.as_str() == agent).cloned(),
            _ => None,
        })
        .await
    }

    /// The next offer of an agent that has something; others are declined.
    pub(crate) async fn offer_where(&mut self, agent: &str, has: impl Fn(&Offer) -> bool) -> Offer {
        self.call(MesosCall::Revive).await;
        loop {
            let offer = self.offer(agent).await;
            if has(&offer) {
                return offer;
            }
            self.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 10 }).await;
        }
    }

    pub(crate) async fn release(&self, offer: &Offer, volume: &VolumeId) {
        let (offer, agent) = (offer.id.clone(), offer.agent.clone());
        self.call(MesosCall::Accept { offer, agent, launches: Vec::new(), releases: vec![volume.clone()] }).await;
    }

    /// Waits for news of a volume.
    pub(crate) async fn volume(&mut self, volume: &VolumeId, is: impl Fn(&VolumeOutcome) -> bool) {
        self.wait("news of a volume", |event| match event {
            MesosEvent::Volume { volume: of, outcome } if of == volume && is(outcome) => Some(()),
            _ => None,
        })
        .await;
    }

    /// Launches a task; it need not start.
    pub(crate) async fn launch(&mut self, agent: &str, task: &str, mut behaviour: Behaviour) -> Offer {
        let offer = self.offer(agent).await;
        let mut ports = offer.ports.clone();
        let port = ports.take(0).expect("ports");
        behaviour.listens = behaviour.listens.map(|_| port);
        self.accept(&offer, task, port, &behaviour).await;
        offer
    }

    pub(crate) async fn accept(&self, offer: &Offer, task: &str, port: u16, behaviour: &Behaviour) {
        self.accept_as(offer, task, port, behaviour, Storage::Sandbox).await;
    }

    pub(crate) async fn accept_on(&self, offer: &Offer, task: &str, port: u16, storage: Storage) {
        self.accept_as(offer, task, port, &Behaviour::default(), storage).await;
    }

    async fn accept_as(&self, offer: &Offer, task: &str, port: u16, behaviour: &Behaviour, storage: Storage) {
        let launch = Launch {
            task: TaskId::from(task),
            endpoint: Endpoint::new(offer.host.clone(), port),
            task_resources: ONE.checked_sub(&Resources::EXECUTOR).expect("larger"),
            executor_resources: Resources::EXECUTOR,
            storage,
            data: serde_json::to_vec(behaviour).expect("json").into(),
        };
        let (offer, agent) = (offer.id.clone(), offer.agent.clone());
        self.call(MesosCall::Accept { offer, agent, launches: vec![launch], releases: Vec::new() }).await;
    }

    /// Launches a task and waits until it runs.
    pub(crate) async fn run(&mut self, agent: &str, task: &str) {
        self.launch(agent, task, Behaviour::default()).await;
        self.state(task, TaskState::Running).await;
    }

    /// Waits for news that a task is in a state.
    pub(crate) async fn state(&mut self, task: &str, state: TaskState) -> TaskStatus {
        let task = TaskId::from(task);
        self.wait(&format!("{task} {state:?}"), |event| match event {
            MesosEvent::Status(status) if status.task == task && status.state == state => Some(status.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn say(&self, agent: &str, task: &str, data: &'static [u8]) {
        let (task, agent) = (TaskId::from(task), AgentId::from(agent));
        self.call(MesosCall::Message { task, agent, data: Bytes::from_static(data) }).await;
    }

    /// The next message of an executor.
    pub(crate) async fn heard(&mut self, task: &str) -> String {
        let task = TaskId::from(task);
        self.wait("message", |event| match event {
            MesosEvent::Message { task: from, data } if *from == task => {
                Some(String::from_utf8(data.to_vec()).expect("text"))
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn kill(&self, agent: &str, task: &str) {
        self.call(MesosCall::Kill { task: TaskId::from(task), agent: AgentId::from(agent) }).await;
    }

    /// Asks for the state of a task.
    pub(crate) async fn reconcile(&mut self, agent: &str, task: &str) -> TaskState {
        self.backlog.clear();
        self.call(MesosCall::Reconcile(vec![(TaskId::from(task), AgentId::from(agent))])).await;
        let task = TaskId::from(task);
        self.wait("answer", |event| match event {
            MesosEvent::Status(status) if status.task == task && status.uuid.is_none() => Some(status.state),
            _ => None,
        })
        .await
    }

    /// Leaves nothing behind.
    pub(crate) async fn end(self) {
        for agent in ["a0", "a1"] {
            // Not every test has both.
            let _unknown = self.local.kill_agent(&AgentId::from(agent)).await;
        }
    }

    pub(crate) fn pid(&self, task: &str) -> i32 {
        let pid = self.local.executor_pid(&TaskId::from(task)).expect("it runs");
        i32::try_from(pid).expect("pids are small")
    }

    /// How often the executor of a task was started.
    pub(crate) fn starts(&self, agent: &str, task: &str) -> usize {
        let sandbox = self.local.sandbox(&AgentId::from(agent), &TaskId::from(task));
        std::fs::read_to_string(sandbox.join("starts")).map_or(0, |text| text.lines().count())
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it is there");
}

/// The state letter of a process; `None` when it is gone.
pub(crate) fn process_state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until a process is gone, or a zombie that nobody waits for.
pub(crate) async fn gone(pid: i32) {
    until(|| process_state(pid).is_none_or(|state| state == 'Z')).await;
}

/// Waits for something that has no event.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("it becomes true in time");
}
