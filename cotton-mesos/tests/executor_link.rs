//! The executor's link against an agent that does what each test wants.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use cotton_core::ports::executor_link::{ExecutorLink, LinkEvent};
use cotton_core::ports::mesos::TaskState;
use cotton_core::testkit::contract::executor_link::{AgentSide, executor_link};
use cotton_core::{ErrorKind, TaskId};
use cotton_mesos::wire::executor::PATH;
use cotton_mesos::{ExecutorEnvironment, HttpExecutorLink, recordio};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const DEADLINE: Duration = Duration::from_secs(10);

struct Arrived {
    call: Value,
    authorization: Option<String>,
    answer: oneshot::Sender<Answer>,
}

enum Answer {
    Status(StatusCode),
    Stream(mpsc::Receiver<Bytes>),
}

struct Agent {
    endpoint: String,
    calls: mpsc::Receiver<Arrived>,
    /// Whether states and messages are taken at once.
    takes: Arc<AtomicBool>,
}

impl Agent {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = listener.local_addr().expect("bound").to_string();
        let (sender, calls) = mpsc::channel(16);
        let takes = Arc::new(AtomicBool::new(false));
        let router = Router::new().route(PATH, post(on_call)).with_state((sender, takes.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, calls, takes }
    }

    /// The next call, of the type that is expected.
    async fn next(&mut self, kind: &str) -> Arrived {
        let arrived = tokio::time::timeout(DEADLINE, self.calls.recv()).await.expect("a call in time").expect("open");
        assert_eq!(arrived.call["type"], kind, "{}", arrived.call);
        arrived
    }

    async fn refuse(&mut self, kind: &str, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status");
        assert!(self.next(kind).await.answer.send(Answer::Status(status)).is_ok());
    }

    async fn take(&mut self, kind: &str) -> Value {
        let arrived = self.next(kind).await;
        assert!(arrived.answer.send(Answer::Status(StatusCode::ACCEPTED)).is_ok());
        arrived.call
    }

    /// Accepts a subscription.
    async fn subscribed(&mut self) -> (Value, Events) {
        let arrived = self.next("SUBSCRIBE").await;
        let (sender, receiver) = mpsc::channel(16);
        assert!(arrived.answer.send(Answer::Stream(receiver)).is_ok());
        let events = Events(sender);
        events.send(&json!({ "type": "SUBSCRIBED", "subscribed": {} })).await;
        (arrived.call["subscribe"].clone(), events)
    }

    fn link(&self, settings: &[(&str, &str)]) -> HttpExecutorLink {
        let mut environment: BTreeMap<String, String> = [
            ("MESOS_AGENT_ENDPOINT", self.endpoint.as_str()),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_SANDBOX", "/"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "20ms"),
            ("MESOS_CHECKPOINT", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        HttpExecutorLink::start(ExecutorEnvironment::from_map(&environment).expect("complete")).expect("starts")
    }
}

struct Events(mpsc::Sender<Bytes>);

impl Events {
    async fn send(&self, event: &Value) {
        self.0.send(recordio::encode(event.to_string().as_bytes())).await.expect("connected");
    }

    async fn launch(&self, task: &str) {
        let task = json!({ "task_id": { "value": task }, "name": task, "data": "eA==", "invented": [1] });
        self.send(&json!({ "type": "LAUNCH", "launch": { "task": task } })).await;
    }

    async fn acknowledge(&self, update: &Value) {
        let acknowledged = json!({ "task_id": update["status"]["task_id"], "uuid": update["status"]["uuid"] });
        self.send(&json!({ "type": "ACKNOWLEDGED", "acknowledged": acknowledged })).await;
    }
}

type Shared = (mpsc::Sender<Arrived>, Arc<AtomicBool>);

async fn on_call(State((calls, takes)): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let (answer, answered) = oneshot::channel();
    let call: Value = serde_json::from_slice(&body).expect("json");
    let is_taken = takes.load(Ordering::Relaxed) && call["type"] != "SUBSCRIBE";
    let header = headers.get("authorization").map(|value| value.to_str().expect("text").to_owned());
    let sent = calls.send(Arrived { call, authorization: header, answer }).await;
    if is_taken {
        return StatusCode::ACCEPTED.into_response();
    }
    match answered.await {
        Ok(Answer::Stream(events)) if sent.is_ok() => {
            let stream = futures::stream::unfold(events, |mut events| async {
                events.recv().await.map(|event| (Ok::<_, Infallible>(event), events))
            });
            Body::from_stream(stream).into_response()
        }
        Ok(Answer::Status(status)) => status.into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn event(link: &HttpExecutorLink) -> LinkEvent {
    tokio::time::timeout(DEADLINE, link.next_event()).await.expect("an event in time").expect("open")
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_along_with_every_subscription() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[]);
    let (said, events) = agent.subscribed().await;
    assert_eq!(said, json!({ "unacknowledged_tasks": [], "unacknowledged_updates": [] }));
    assert_eq!(event(&link).await, LinkEvent::Connected);
    events.launch("t").await;
    let task = TaskId::from("t");
    assert_eq!(event(&link).await, LinkEvent::Launch { task: task.clone(), data: "x".into() });

    link.update(&task, TaskState::Starting, "").await.expect("open");
    link.update(&task, TaskState::Running, "here").await.expect("open");
    let starting = agent.take("UPDATE").await["update"].clone();
    let running = agent.take("UPDATE").await["update"].clone();
    assert_eq!(
        (&starting["status"]["state"], &running["status"]["state"]),
        (&json!("TASK_STARTING"), &json!("TASK_RUNNING"))
    );
    drop(events);
    assert_eq!(event(&link).await, LinkEvent::Disconnected);
    link.send("nobody hears this".into()).await.expect("dropped");

    let (said, events) = agent.subscribed().await;
    assert_eq!(said["unacknowledged_tasks"][0]["invented"], json!([1]), "tasks are given back as they came");
    assert_eq!(said["unacknowledged_updates"], json!([starting, running]));
    assert_eq!(event(&link).await, LinkEvent::Connected);
    events.acknowledge(&starting).await;
    events.acknowledge(&starting).await;
    assert_eq!(event(&link).await, LinkEvent::Acknowledged(TaskState::Starting));
    drop(events);
    assert_eq!(event(&link).await, LinkEvent::Disconnected);

    let (said, events) = agent.subscribed().await;
    assert_eq!(said, json!({ "unacknowledged_tasks": [], "unacknowledged_updates": [running] }));
    events.acknowledge(&running).await;
    assert_eq!(event(&link).await, LinkEvent::Connected);
    assert_eq!(event(&link).await, LinkEvent::Acknowledged(TaskState::Running));
}

#[tokio::test]
async fn a_state_that_was_not_taken_is_sent_again_before_later_ones() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[]);
    let (_, events) = agent.subscribed().await;
    assert_eq!(event(&link).await, LinkEvent::Connected);
    let task = TaskId::from("t");
    link.update(&task, TaskState::Starting, "").await.expect("open");
    agent.refuse("UPDATE", 500).await;
    link.update(&task, TaskState::Running, "").await.expect("open");
    let states =
        [agent.take("UPDATE").await, agent.take("UPDATE").await].map(|call| call["update"]["status"]["state"].clone());
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING"]);
    drop(events);
}

#[tokio::test]
async fn calls_carry_the_token_and_messages_come_and_go() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "s3cret")]);
    let arrived = agent.next("SUBSCRIBE").await;
    assert_eq!(arrived.authorization.as_deref(), Some("Bearer s3cret"));
    assert_eq!(
        (&arrived.call["executor_id"]["value"], &arrived.call["framework_id"]["value"]),
        (&json!("e"), &json!("f"))
    );
    let (sender, receiver) = mpsc::channel(16);
    assert!(arrived.answer.send(Answer::Stream(receiver)).is_ok());
    let events = Events(sender);
    events.send(&json!({ "type": "SUBSCRIBED", "subscribed": {} })).await;
    events.send(&json!({ "type": "MESSAGE", "message": { "data": "aGk=" } })).await;
    events.send(&json!({ "type": "SHUTDOWN" })).await;
    assert_eq!(event(&link).await, LinkEvent::Connected);
    assert_eq!(event(&link).await, LinkEvent::Message("hi".into()));
    assert_eq!(event(&link).await, LinkEvent::Shutdown { grace_ms: 5000 });
    let (sent, call) = tokio::join!(link.send("hi".into()), agent.take("MESSAGE"));
    sent.expect("taken");
    assert_eq!(call["message"]["data"], "aGk=");
    let (sent, ()) = tokio::join!(link.send("hi".into()), agent.refuse("MESSAGE", 500));
    assert!(sent.expect_err("refused").is_temporary());
    let error = link.update(&TaskId::from("t"), TaskState::Lost, "").await.expect_err("not for executors");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!format!("{link:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_kill_takes_its_grace_from_the_kill_the_task_or_the_environment() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "7secs")]);
    let (_, events) = agent.subscribed().await;
    let policy = |secs: u64| json!({ "grace_period": { "nanoseconds": secs * 1_000_000_000 } });
    let task = json!({ "task_id": { "value": "a" }, "kill_policy": policy(3) });
    events.send(&json!({ "type": "LAUNCH", "launch": { "task": task } })).await;
    for kill in [
        json!({ "task_id": { "value": "a" }, "kill_policy": policy(1) }),
        json!({ "task_id": { "value": "a" } }),
        json!({ "task_id": { "value": "b" } }),
    ] {
        events.send(&json!({ "type": "KILL", "kill": kill })).await;
    }
    assert_eq!(event(&link).await, LinkEvent::Connected);
    assert!(matches!(event(&link).await, LinkEvent::Launch { .. }));
    for (task, grace_ms) in [("a", 1000), ("a", 3000), ("b", 7000)] {
        assert_eq!(event(&link).await, LinkEvent::Kill { task: TaskId::from(task), grace_ms });
    }
}

#[tokio::test]
async fn an_agent_that_is_not_ready_or_talks_nonsense_is_asked_again() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[]);
    agent.refuse("SUBSCRIBE", 503).await;
    agent.refuse("SUBSCRIBE", 404).await;
    for nonsense in ["x", "5\nabcde", "99999999999\n", "3\n{}}"] {
        let (_, events) = agent.subscribed().await;
        assert_eq!(event(&link).await, LinkEvent::Connected);
        events.0.send(Bytes::from(nonsense)).await.expect("connected");
        assert_eq!(event(&link).await, LinkEvent::Disconnected, "{nonsense}");
    }
    let (_, events) = agent.subscribed().await;
    assert_eq!(event(&link).await, LinkEvent::Connected);
    events.0.send(Bytes::from("99\n{\"type\":")).await.expect("connected");
    drop(events); // in the middle of a record
    assert_eq!(event(&link).await, LinkEvent::Disconnected);
    let (_, events) = agent.subscribed().await;
    assert_eq!(event(&link).await, LinkEvent::Connected);
    events.launch("t").await;
    assert!(matches!(event(&link).await, LinkEvent::Launch { .. }), "nothing of the past is in the way");
}

#[tokio::test]
async fn a_refused_or_abandoned_executor_ends() {
    let mut agent = Agent::start().await;
    let link = agent.link(&[]);
    agent.refuse("SUBSCRIBE", 401).await;
    let error = link.next_event().await.expect_err("refused");
    assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Denied, false));
    assert!(link.update(&TaskId::from("t"), TaskState::Running, "").await.is_err());
    assert!(link.send("x".into()).await.is_err());

    let link = agent.link(&[]);
    agent.refuse("SUBSCRIBE", 400).await;
    assert_eq!(link.next_event().await.expect_err("unknown").kind, ErrorKind::Invalid);

    // Without checkpointing an executor goes when its agent does; with it, when it stays away for too long.
    for (checkpoint, timeout, least) in [("0", "1days", 0), ("1", "300ms", 300)] {
        let link = agent.link(&[("MESOS_CHECKPOINT", checkpoint), ("MESOS_RECOVERY_TIMEOUT", timeout)]);
        let (_, events) = agent.subscribed().await;
        assert_eq!(event(&link).await, LinkEvent::Connected);
        let began = Instant::now();
        drop(events);
        assert_eq!(event(&link).await, LinkEvent::Disconnected);
        while agent.calls.try_recv().is_ok() {}
        let refuse = async {
            loop {
                agent.refuse("SUBSCRIBE", 503).await;
            }
        };
        let error =
            tokio::select! { event = link.next_event() => event.expect_err("gone"), () = refuse => unreachable!() };
        assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Unreachable, false));
        assert!(began.elapsed() >= Duration::from_millis(least), "{:?}", began.elapsed());

        // It may be back all the same.
        link.reopen();
        let (_, _events) = agent.subscribed().await;
        assert_eq!(event(&link).await, LinkEvent::Connected);
    }
}

/// Plays the agent for the contract suite.
struct Played {
    agent: Agent,
    events: Option<Events>,
    unacknowledged: VecDeque<Value>,
}

impl AgentSide for Played {
    async fn connect(&mut self) -> usize {
        let (said, events) = self.agent.subscribed().await;
        self.events = Some(events);
        let brought = said["unacknowledged_updates"].as_array().expect("a list").clone();
        self.unacknowledged = brought.into();
        self.unacknowledged.len()
    }

    async fn disconnect(&mut self) {
        self.events = None;
    }

    async fn refuse(&mut self) {
        self.agent.refuse("SUBSCRIBE", 401).await;
    }

    async fn send(&mut self, event: LinkEvent) {
        let event = match event {
            LinkEvent::Launch { task, .. } => {
                let task = json!({ "task_id": { "value": task }, "data": "ZGF0YQ==" });
                json!({ "type": "LAUNCH", "launch": { "task": task } })
            }
            LinkEvent::Message(_) => json!({ "type": "MESSAGE", "message": { "data": "dG8gdGhlIGV4ZWN1dG9y" } }),
            LinkEvent::Kill { task, .. } => json!({ "type": "KILL", "kill": { "task_id": { "value": task } } }),
            LinkEvent::Shutdown { .. } => json!({ "type": "SHUTDOWN" }),
            LinkEvent::Connected | LinkEvent::Disconnected | LinkEvent::Acknowledged(_) => panic!("not to be sent"),
        };
        self.events.as_ref().expect("connected").send(&event).await;
    }

    async fn told(&mut self) -> TaskState {
        let update = self.agent.next("UPDATE").await.call["update"].clone();
        let state = match update["status"]["state"].as_str() {
            Some("TASK_STARTING") => TaskState::Starting,
            Some("TASK_RUNNING") => TaskState::Running,
            other => panic!("{other:?} is not expected"),
        };
        self.unacknowledged.push_back(update);
        state
    }

    async fn acknowledge(&mut self) {
        let update = self.unacknowledged.pop_front().expect("told before");
        self.events.as_ref().expect("connected").acknowledge(&update).await;
    }

    async fn heard(&mut self) -> Bytes {
        let data = self.agent.next("MESSAGE").await.call["message"]["data"].clone();
        assert_eq!(data, "dG8gdGhlIHNjaGVkdWxlcg==");
        "to the scheduler".into()
    }
}

#[tokio::test]
async fn the_link_keeps_its_contract() {
    let agent = Agent::start().await;
    agent.takes.store(true, Ordering::Relaxed);
    let link = agent.link(&[]);
    let mut played = Played { agent, events: None, unacknowledged: VecDeque::new() };
    let suite = executor_link(&link, &mut played);
    tokio::time::timeout(Duration::from_secs(30), suite).await.expect("the suite ends");
}
