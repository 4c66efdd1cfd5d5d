//! The loop around a real machine, with servers in memory and time that only passes when nothing else is left to do.

use super::*;
use crate::protocol::{Directive, MemberRole, Order, Report, ToExecutor, Trouble};
use crate::testkit::fake_mysql::{Commit, FakeMySql, FakeNetwork};
use crate::{Durability, Endpoint, Epoch, GtidSet, MemberId, Resources, Sealed, Secrets};
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An agent: what it says goes in, what it is told comes out.
struct FakeLink {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<LinkEvent>>,
    told: mpsc::UnboundedSender<Told>,
}

#[derive(Debug)]
enum Told {
    Update(TaskState, String),
    Report(Box<Report>, Instant),
}

#[async_trait]
impl ExecutorLink for FakeLink {
    async fn next_event(&self) -> Result<LinkEvent, PortError> {
        let event = self.events.lock().await.recv().await;
        event.ok_or_else(|| PortError::permanent(ErrorKind::Unreachable, "hear the agent", "it is gone"))
    }

    async fn update(&self, _task: &TaskId, state: TaskState, message: &str) -> Result<(), PortError> {
        let _ = self.told.send(Told::Update(state, message.to_owned()));
        Ok(())
    }

    async fn send(&self, data: Bytes) -> Result<(), PortError> {
        let report = Box::new(protocol::decode(&data).expect("reports are understood"));
        let _ = self.told.send(Told::Report(report, Instant::now()));
        Ok(())
    }
}

/// State that survives the executor, and a disk that may be full.
#[derive(Default)]
struct FakeMemory {
    state: Mutex<Option<ExecutorState>>,
    full: Mutex<bool>,
}

#[async_trait]
impl ExecutorMemory for FakeMemory {
    async fn load(&self) -> Result<Option<ExecutorState>, PortError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn save(&self, state: &ExecutorState) -> Result<(), PortError> {
        if *self.full.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(PortError::temporary(ErrorKind::Storage, "save", "no space left"));
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
        Ok(())
    }
}

/// One executor with its agent.
struct Agent {
    events: mpsc::UnboundedSender<LinkEvent>,
    told: mpsc::UnboundedReceiver<Told>,
    executor: JoinHandle<Result<ExitReason, PortError>>,
    server: FakeMySql,
    endpoint: Endpoint,
    memory: Arc<FakeMemory>,
}

fn task() -> TaskId {
    TaskId::from("mysos-a-0")
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new("127.0.0.1", port)
}

fn payload(endpoint: Endpoint) -> Bytes {
    let seal = || Sealed::new("x");
    let member = MemberTask {
        number: 0,
        cluster: "a".parse().expect("valid"),
        member: MemberId(0),
        endpoint,
        resources: Resources::DEFAULT,
        user: "jane".to_owned(),
        secrets: Secrets { user: seal(), admin: seal(), replication: seal() },
        durability: Durability::SemiSync,
        backup_id: None,
        has_data: false,
    };
    protocol::encode(&member).into()
}

impl Agent {
    fn start(network: &FakeNetwork, port: u16) -> Self {
        Self::start_with(network, port, Arc::new(FakeMemory::default()))
    }

    fn start_with(network: &FakeNetwork, port: u16, memory: Arc<FakeMemory>) -> Self {
        let endpoint = endpoint(port);
        let server = network.server(&endpoint);
        let (events, inbox) = mpsc::unbounded_channel();
        let (outbox, told) = mpsc::unbounded_channel();
        let link = Arc::new(FakeLink { events: tokio::sync::Mutex::new(inbox), told: outbox });
        let made: Arc<dyn MySql> = Arc::new(server.clone());
        let kept = Arc::clone(&memory) as Arc<dyn ExecutorMemory>;
        let executor = tokio::spawn(run(ExecutorConfig::default(), link, kept, move |_| Ok(made)));
        let agent = Self { events, told, executor, server, endpoint, memory };
        agent.say(LinkEvent::Connected);
        agent
    }

    async fn launched(network: &FakeNetwork, port: u16) -> Self {
        let mut agent = Self::start(network, port);
        agent.launch();
        agent.report(|report| report.role == MemberRole::Idle).await;
        agent
    }

    fn say(&self, event: LinkEvent) {
        self.events.send(event).expect("the executor listens");
    }

    fn launch(&self) {
        self.say(LinkEvent::Launch { task: task(), data: payload(self.endpoint.clone()) });
    }

    fn order(&self, epoch: u64, order: Order) {
        let message = ToExecutor::Directive(Directive { epoch: Epoch(epoch), order });
        self.say(LinkEvent::Message(protocol::encode(&message).into()));
    }

    /// Waits for a report like this, and says when it was sent.
    async fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> (Report, Instant) {
        loop {
            match self.told.recv().await.expect("the executor lives") {
                Told::Report(report, at) if wanted(&report) => return (*report, at),
                Told::Report(..) | Told::Update(..) => {}
            }
        }
    }

    async fn update(&mut self, wanted: TaskState) -> String {
        loop {
            match self.told.recv().await.expect("the executor lives") {
                Told::Update(state, message) if state == wanted => return message,
                Told::Report(..) | Told::Update(..) => {}
            }
        }
    }

    async fn primary(network: &FakeNetwork, port: u16) -> Self {
        let mut agent = Self::launched(network, port).await;
        agent.order(1, promote());
        agent.report(|report| report.role == MemberRole::Primary).await;
        agent
    }
}

fn promote() -> Order {
    Order::Promote { must_contain: GtidSet::Empty, acks: 1, lease_ms: None }
}

fn follow(port: u16, donors: &[u16]) -> Order {
    let donors = donors.iter().map(|port| endpoint(*port)).collect();
    Order::Follow { primary: endpoint(port), primary_id: MemberId(9), semi_sync: true, donors, copy: false }
}

fn connected(report: &Report) -> bool {
    report.role == MemberRole::Following { connected: true }
}

#[tokio::test(start_paused = true)]
async fn a_failover_over_the_wire() {
    let network = FakeNetwork::new();
    let mut old = Agent::primary(&network, 1).await;
    let mut new = Agent::launched(&network, 2).await;
    new.order(1, follow(1, &[]));
    new.report(connected).await;
    let Commit::Acknowledged(written) = network.write(&endpoint(1)) else { panic!("a replica has it") };

    let crashed = Instant::now();
    old.server.crash();
    let (down, told) = old.report(|report| matches!(report.role, MemberRole::Down { .. })).await;
    assert_eq!((down.boot, told), (1, crashed), "told at once");
    new.order(2, Order::Freeze);
    let (frozen, told) = new.report(|report| report.role == MemberRole::Frozen).await;
    assert_eq!((frozen.epoch, told), (Epoch(2), crashed));
    assert!(frozen.position.contains(&written));
    new.order(2, Order::Promote { must_contain: written.clone(), acks: 1, lease_ms: None });
    let (_, told) = new.report(|report| report.role == MemberRole::Primary).await;
    assert_eq!(told, crashed, "nothing waited for a clock");
    assert!(matches!(network.write(&endpoint(2)), Commit::Waiting(_)));

    old.report(|report| report.role == MemberRole::Idle).await;
    old.order(2, follow(2, &[]));
    let (rejoined, _) = old.report(connected).await;
    assert_eq!((rejoined.epoch, rejoined.boot), (Epoch(2), 2));
    assert!(matches!(network.write(&endpoint(2)), Commit::Acknowledged(_)));
    assert_eq!(old.server.executed(), new.server.executed());
    // Late copies of what was said in the old epoch change nothing.
    old.order(1, promote());
    old.report(|report| report.epoch == Epoch(2)).await;
    assert!(!old.server.is_writable());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_primary_is_killed_before_its_order_is_durable() {
    let network = FakeNetwork::new();
    let mut agent = Agent::primary(&network, 1).await;
    *agent.memory.full.lock().expect("not poisoned") = true;
    agent.order(2, follow(2, &[]));
    let (down, _) = agent.report(|report| matches!(report.role, MemberRole::Down { .. })).await;
    assert_eq!(down.epoch, Epoch(1));
    agent.report(|report| matches!(report.trouble, Some(Trouble::Storage { .. }))).await;
    assert!(!agent.server.calls().contains(&"follow"));
    *agent.memory.full.lock().expect("not poisoned") = false;
    agent.report(|report| report.epoch == Epoch(2)).await;
    assert_eq!(agent.server.calls().last(), Some(&"follow"));
}

#[tokio::test(start_paused = true)]
async fn a_hung_server_is_down_after_three_probes() {
    let network = FakeNetwork::new();
    let mut agent = Agent::primary(&network, 1).await;
    let hung = Instant::now();
    agent.server.hang(true);
    let (_, told) = agent.report(|report| matches!(report.role, MemberRole::Down { .. })).await;
    assert!((told - hung) <= Duration::from_secs(3), "{:?}", told - hung);
    agent.report(|report| report.role == MemberRole::Idle && report.boot == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_made_when_history_is_missing() {
    let network = FakeNetwork::new();
    let primary = Agent::primary(&network, 1).await;
    network.write(&endpoint(1));
    primary.server.purge();
    let mut agent = Agent::launched(&network, 2).await;
    agent.order(1, follow(1, &[7, 1])); // the first donor does not exist
    agent.report(|report| report.role == MemberRole::Starting).await;
    let (report, _) = agent.report(connected).await;
    assert_eq!(agent.server.executed(), primary.server.executed());
    let boot = report.boot;
    agent.server.crash();
    let (down, _) = agent.report(|report| matches!(report.role, MemberRole::Down { .. })).await;
    assert_eq!(down.boot, boot, "the end of each start is told with its number");
    agent.report(connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_executor_remembers_what_it_promised() {
    let network = FakeNetwork::new();
    let mut agent = Agent::primary(&network, 1).await;
    agent.say(LinkEvent::Shutdown { grace_ms: 1_000 });
    agent.update(TaskState::Killed).await;
    agent.say(LinkEvent::Acknowledged(TaskState::Killed));
    let reason = agent.executor.await.expect("no panic").expect("the link is there");
    assert_eq!(reason, ExitReason::Shutdown);
    let mut agent = Agent::start_with(&network, 1, agent.memory);
    agent.launch();
    let (report, _) = agent.report(|report| report.role == MemberRole::Idle).await;
    assert_eq!((report.incarnation, report.epoch), (2, Epoch(1)));
    agent.order(1, promote());
    agent.report(|report| report.trouble.is_some()).await;
    assert!(!agent.server.is_writable(), "a promotion is for one start of the server");
    agent.order(2, promote());
    agent.report(|report| report.role == MemberRole::Primary).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_understood_fails() {
    let network = FakeNetwork::new();
    let mut agent = Agent::start(&network, 1);
    agent.say(LinkEvent::Launch { task: task(), data: Bytes::from_static(b"{}") });
    assert!(agent.update(TaskState::Failed).await.starts_with("the task is not understood"));
    agent.say(LinkEvent::Acknowledged(TaskState::Failed));
    let reason = agent.executor.await.expect("no panic").expect("the link is there");
    assert!(matches!(reason, ExitReason::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_understood_are_ignored() {
    let network = FakeNetwork::new();
    let mut agent = Agent::launched(&network, 1).await;
    for bad in [&b"{"[..], b"", b"{\"version\":99}", b"{\"version\":1,\"type\":\"dance\"}"] {
        agent.say(LinkEvent::Message(Bytes::from_static(bad)));
    }
    agent.order(1, promote());
    agent.report(|report| report.role == MemberRole::Primary).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_before_the_launch_ends_the_executor() {
    let network = FakeNetwork::new();
    let mut agent = Agent::start(&network, 1);
    agent.say(LinkEvent::Kill { task: task(), grace_ms: 1_000 });
    agent.update(TaskState::Killed).await;
    let reason = agent.executor.await.expect("no panic").expect("the link is there");
    assert_eq!(reason, ExitReason::Killed, "also when nobody acknowledges");
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_the_server_is_stopped() {
    let network = FakeNetwork::new();
    let agent = Agent::launched(&network, 1).await;
    drop(agent.events);
    agent.executor.await.expect("no panic").expect_err("the agent is gone");
    assert_eq!(agent.server.calls().last(), Some(&"stop"));
}

/// It may be the last to have its data, and its agent may come back.
#[tokio::test(start_paused = true)]
async fn without_its_agent_a_member_that_may_have_data_serves_on() {
    let network = FakeNetwork::new();
    let mut agent = Agent::launched(&network, 1).await;
    agent.order(1, promote());
    agent.report(|report| report.role == MemberRole::Primary).await;
    let Agent { events, server, executor, .. } = agent;
    drop(events);
    timeout(Duration::from_hours(24), executor).await.expect_err("it runs on");
    assert!(!server.calls().contains(&"stop") && !server.calls().contains(&"kill"), "{:?}", server.calls());
}

#[tokio::test(start_paused = true)]
async fn reports_go_on_for_ever_and_only_so_often() {
    let network = FakeNetwork::new();
    let mut agent = Agent::launched(&network, 1).await;
    let start = Instant::now();
    for _ in 0..100 {
        agent.report(|_| true).await;
    }
    let passed = start.elapsed();
    assert!(passed > Duration::from_secs(190) && passed < Duration::from_secs(210), "{passed:?}");
}
