//! What is posted and told, held against golden files of what a master of Mesos 1.11.0 sent and took.

use super::config::{Credential, ExecutorConfig, ExecutorUri, FrameworkConfig, SchedulerConfig};
use super::state::{Plan, State};
use super::translate;
use crate::wire::common::Id;
use crate::wire::scheduler::call::{Call, CallBody};
use crate::wire::scheduler::event::Event;
use crate::wire::scheduler::operation::OperationState;
use cotton_core::ports::mesos::{Launch, MesosCall, MesosEvent, Storage, TaskState, TaskStatus};
use cotton_core::resources::MIB;
use cotton_core::{AgentId, Endpoint, FrameworkId, OfferId, Resources, TaskId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// What a master sent, with shortened ids (the last four lines are made up).
const EVENTS: &str = include_str!("../wire/golden/scheduler-events.jsonl");
/// What we post. Written anew by this test with `COTTON_GOLDEN=write`.
const CALLS: &str = include_str!("../wire/golden/scheduler-calls.jsonl");

fn event(line: usize) -> Event {
    let line = EVENTS.lines().nth(line).expect("a line");
    serde_json::from_str(line).expect(line)
}

fn config() -> SchedulerConfig {
    let mut framework = FrameworkConfig::new("mysos", "mysql");
    framework.roles = vec!["mysql".to_owned()];
    framework.webui_url = Some("http://cotton:8080/".to_owned());
    framework.hostname = Some("cotton".to_owned());
    let mut executor = ExecutorConfig::new("./cotton-executor");
    executor.uris = vec![ExecutorUri::program("hdfs://nn/cotton-executor")];
    executor.environment = BTreeMap::from([("COTTON_KEY_FILE".to_owned(), "/etc/cotton/key".to_owned())]);
    executor.source_prefix = Some("prod".to_owned());
    let mut config = SchedulerConfig::new(framework, executor);
    config.credential = Some(Credential { principal: "cotton".to_owned(), secret: "s3cret".to_owned().into() });
    config
}

fn framework() -> FrameworkId {
    FrameworkId::from("F-0000")
}

fn plan(state: &mut State, call: MesosCall) -> Plan {
    state.plan(&config(), &framework(), call)
}

fn agent() -> AgentId {
    AgentId::from("F-S0")
}

fn launch(task: &str, port: u16, cpus_milli: u64) -> Launch {
    Launch {
        task: TaskId::from(task),
        endpoint: Endpoint::new("127.0.0.1", port),
        task_resources: Resources { cpus_milli, mem_bytes: 480 * MIB, disk_bytes: 2047 * MIB },
        executor_resources: Resources::EXECUTOR,
        storage: Storage::Sandbox,
        data: "{}".into(),
    }
}

fn accept(launches: Vec<Launch>) -> MesosCall {
    MesosCall::Accept { offer: OfferId::from("F-O2"), agent: agent(), launches, releases: Vec::new() }
}

/// A state to which the golden offer was made.
fn offered() -> State {
    let mut state = State::default();
    let Event::Offers { offers } = event(2) else { panic!("not OFFERS") };
    assert_eq!(state.on_offers(offers.offers, SystemTime::UNIX_EPOCH).events.len(), 1);
    state
}

fn dropped(event: &MesosEvent) -> (&str, &str) {
    let MesosEvent::Status(TaskStatus { task, state: TaskState::Dropped, message, uuid: None, .. }) = event else {
        panic!("not dropped, but {event:?}")
    };
    (task.as_str(), message)
}

#[test]
fn calls_are_what_masters_take() {
    let mut state = offered();
    let (task, uuid) = (TaskId::from("mysos-orders-7"), "0123456789abcdef");
    let end = serde_json::json!({ "status": {
        "task_id": { "value": task.as_str() }, "state": "TASK_KILLED", "agent_id": { "value": "F-S0" },
        "source": "SOURCE_EXECUTOR", "uuid": "MDEyMzQ1Njc4OWFiY2RlZg==",
    } });
    state.on_update(serde_json::from_value(end).expect("an update"));
    let subscribe =
        |framework: Option<&FrameworkId>| CallBody::Subscribe { subscribe: translate::subscribe(&config(), framework) };
    let call = |framework_id: Option<Id>, body| Call { framework_id, body };
    let mut calls = vec![call(None, subscribe(None)), call(Some(Id::new("F-0000")), subscribe(Some(&framework())))];
    for asked in [
        accept(vec![launch(task.as_str(), 31_004, 1490)]),
        MesosCall::Kill { task: task.clone(), agent: agent() },
        MesosCall::Message { task: task.clone(), agent: agent(), data: "hi".into() },
        MesosCall::Reconcile(vec![(task.clone(), agent())]),
        MesosCall::Reconcile(Vec::new()),
        MesosCall::Acknowledge { task, agent: agent(), uuid: uuid.into() },
        MesosCall::Suppress,
        MesosCall::Revive,
    ] {
        let plan = plan(&mut state, asked);
        assert!(plan.events.is_empty(), "{:?}", plan.events);
        calls.extend(plan.posts.into_iter().map(|body| call(Some(Id::new("F-0000")), body)));
    }
    let declined = plan(&mut offered(), MesosCall::Decline { offers: vec![OfferId::from("F-O2")], filter_ms: 5_500 });
    calls.extend(declined.posts.into_iter().map(|body| call(Some(Id::new("F-0000")), body)));
    calls.push(call(Some(Id::new("F-0000")), CallBody::Teardown));

    let lines: Vec<String> = calls.iter().map(|call| serde_json::to_string(call).expect("json")).collect();
    assert!(lines.iter().all(|line| !line.contains("s3cret")), "secrets are not in calls");
    if std::env::var_os("COTTON_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/golden/scheduler-calls.jsonl");
        std::fs::write(path, lines.join("\n") + "\n").expect("written");
        return;
    }
    let json = |line: &str| serde_json::from_str::<Value>(line).expect("json");
    let found: Vec<Value> = lines.iter().map(|line| json(line)).collect();
    let expected: Vec<Value> = CALLS.lines().map(json).collect();
    assert_eq!(found, expected);
}

#[test]
fn events_are_understood() {
    let Event::Subscribed { subscribed } = event(0) else { panic!("not SUBSCRIBED") };
    assert_eq!((subscribed.framework_id, subscribed.heartbeat_interval_seconds), (Id::new("F-0000"), Some(15.0)));
    assert_eq!(event(1), Event::Heartbeat);
    let Event::Offers { offers } = event(2) else { panic!("not OFFERS") };
    let MesosEvent::Offers(offers) = State::default().on_offers(offers.offers, SystemTime::UNIX_EPOCH).events.remove(0)
    else {
        panic!("no offers")
    };
    let all = Resources { cpus_milli: 3000, mem_bytes: 2560 * MIB, disk_bytes: 10_240 * MIB };
    assert_eq!((offers[0].resources, offers[0].ports.ranges()), (all, &[(31_000, 31_009)][..]));
    let attributes: Vec<String> = offers[0].attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(attributes, ["rack=a", "region=eu", "slots=[1-3,7-9]", "weight=1.5", "zone=eu-1"]);
    let statuses = [
        (3, TaskState::Running, "", true),
        (4, TaskState::Running, "Reconciliation: Latest task state (REASON_RECONCILIATION)", false),
        (5, TaskState::Failed, "Executor terminated (REASON_EXECUTOR_TERMINATED)", true),
        (6, TaskState::Unreachable, "health check timed out (REASON_AGENT_REMOVED)", false),
    ];
    for (line, state, message, has_uuid) in statuses {
        let Event::Update { update } = event(line) else { panic!("not UPDATE") };
        let status = translate::status(update.status);
        assert_eq!((status.state, status.message.as_str(), status.uuid.is_some()), (state, message, has_uuid));
        assert_eq!(status.agent, Some(agent()));
    }
    let Event::Update { update } = event(7) else { panic!("not UPDATE") };
    assert_eq!(translate::status(update.status).state, TaskState::Dropped);
    let Event::Message { message } = event(8) else { panic!("not MESSAGE") };
    assert_eq!((message.executor_id, &message.data.0[..]), (Id::new("t1"), &b"echo hello"[..]));
    let Event::Failure { failure } = event(9) else { panic!("not FAILURE") };
    assert_eq!((failure.executor_id, failure.status), (Some(Id::new("t2")), Some(9)));
    let Event::Failure { failure } = event(10) else { panic!("not FAILURE") };
    assert_eq!((failure.agent_id, failure.executor_id), (Some(Id::new("F-S0")), None));
    assert!(matches!(event(11), Event::Rescind { rescind } if rescind.offer_id == Id::new("F-O2")));
    assert!(matches!(event(12), Event::Error { error } if error.message == "Framework has been removed"));
    assert!(matches!(event(13), Event::InverseOffers { inverse_offers } if inverse_offers.inverse_offers.len() == 1));
    let Event::RescindInverseOffer { rescind_inverse_offer } = event(14) else { panic!("not RESCIND_INVERSE_OFFER") };
    assert_eq!((rescind_inverse_offer.inverse_offer_id, event(16)), (Id::new("F-I0"), Event::Unknown));
    let Event::UpdateOperationStatus { update_operation_status } = event(15) else { panic!("not of an operation") };
    let status = update_operation_status.status;
    assert_eq!((status.state, status.operation_id), (OperationState::OperationFinished, Some(Id::new("op"))));
    assert_eq!(EVENTS.lines().count(), 17);
}

#[test]
fn every_state_of_mesos_means_something() {
    for (name, state) in [
        ("TASK_STAGING", TaskState::Staging),
        ("TASK_STARTING", TaskState::Starting),
        ("TASK_RUNNING", TaskState::Running),
        ("TASK_KILLING", TaskState::Killing),
        ("TASK_FINISHED", TaskState::Finished),
        ("TASK_KILLED", TaskState::Killed),
        ("TASK_FAILED", TaskState::Failed),
        ("TASK_ERROR", TaskState::Dropped),
        ("TASK_DROPPED", TaskState::Dropped),
        ("TASK_UNREACHABLE", TaskState::Unreachable),
        ("TASK_LOST", TaskState::Lost),
        ("TASK_GONE", TaskState::Lost),
        ("TASK_GONE_BY_OPERATOR", TaskState::Gone),
        ("TASK_UNKNOWN", TaskState::Unknown),
    ] {
        let status = serde_json::json!({ "task_id": { "value": "t" }, "state": name, "uuid": "" });
        let status = translate::status(serde_json::from_value(status).expect("a status"));
        assert_eq!((status.state, status.uuid), (state, None), "{name}");
    }
}

#[test]
fn launches_that_cannot_be_right_are_dropped_here() {
    let mut state = offered();
    let launches = vec![launch("greedy", 31_000, 4000), launch("elsewhere", 80, 10), launch("good", 31_001, 10)];
    let plan_of_three = plan(&mut state, accept(launches));
    let dropped_ones: Vec<(&str, &str)> = plan_of_three.events.iter().map(dropped).collect();
    assert_eq!(dropped_ones, [("greedy", "it needs more than was offered"), ("elsewhere", "its port was not offered")]);
    let [CallBody::Accept { accept: posted }] = &plan_of_three.posts[..] else { panic!("one ACCEPT") };
    let again = plan(&mut state, accept(vec![launch("good", 31_001, 10), launch("late", 31_001, 10)]));
    assert!(again.posts.is_empty());
    let dropped_ones: Vec<(&str, &str)> = again.events.iter().map(dropped).collect();
    assert_eq!(dropped_ones, [("late", "the offer is no longer valid")], "what is launched already stays so");

    let refused = state.on_refused(&CallBody::Accept { accept: posted.clone() }, "why");
    assert_eq!(refused.iter().map(dropped).collect::<Vec<_>>(), [("good", "why")]);
    let after = plan(&mut state, accept(vec![launch("good", 31_001, 10)]));
    assert_eq!(after.events.len(), 1, "it is not launched any more");

    let none_fits = plan(&mut offered(), accept(vec![launch("greedy", 31_000, 4000)]));
    assert!(matches!(&none_fits.posts[..], [CallBody::Decline { .. }]), "an offer is always answered");
    let empty = plan(&mut offered(), accept(Vec::new()));
    assert!(matches!(&empty.posts[..], [CallBody::Decline { .. }]) && empty.events.is_empty());
    assert!(
        plan(&mut State::default(), MesosCall::Decline { offers: vec![OfferId::from("x")], filter_ms: 0 })
            .posts
            .is_empty()
    );
}

#[test]
fn executors_that_are_gone_are_not_ended_again() {
    let mut state = State::default();
    let Event::Update { update } = event(5) else { panic!("not UPDATE") };
    let MesosEvent::Status(status) = state.on_update(update) else { panic!("no status") };
    let (task, uuid) = (status.task, status.uuid.expect("to be acknowledged"));
    let plan = plan(&mut state, MesosCall::Acknowledge { task, agent: agent(), uuid });
    assert!(matches!(&plan.posts[..], [CallBody::Acknowledge { .. }]), "{:?}", plan.posts);
}
