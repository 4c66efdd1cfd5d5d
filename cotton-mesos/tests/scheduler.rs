//! The scheduler's connection against a master that does what each test wants.
//!
//! What a real one does is in the tests of the whole, where there is one.

mod master;

use cotton_core::ports::mesos::{Launch, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, VolumeOutcome};
use cotton_core::{AgentId, Endpoint, ErrorKind, FrameworkId, OfferId, PortError, Resources, TaskId, VolumeId};
use cotton_mesos::{ExecutorConfig, FrameworkConfig, HttpMesos, MasterDetector, MasterList, SchedulerConfig};
use master::{DEADLINE, Events, Master};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

fn config() -> SchedulerConfig {
    let mut config =
        SchedulerConfig::new(FrameworkConfig::new("cotton", "root"), ExecutorConfig::new("exec ./executor"));
    config.backoff_max = Duration::from_millis(100);
    config.call_timeout = Duration::from_secs(5);
    config
}

fn connection(config: SchedulerConfig, masters: &str) -> HttpMesos {
    HttpMesos::new(config, Arc::new(masters.parse::<MasterList>().expect("masters"))).expect("a connection")
}

async fn event(mesos: &HttpMesos) -> MesosEvent {
    try_event(mesos).await.unwrap_or_else(|error| panic!("an event, not: {}", error.chain()))
}

async fn try_event(mesos: &HttpMesos) -> Result<MesosEvent, PortError> {
    tokio::time::timeout(DEADLINE, mesos.next_event()).await.expect("an event in time")
}

fn framework() -> FrameworkId {
    FrameworkId::from("F-0000")
}

/// A master, and a scheduler that is subscribed to it.
async fn subscribed(config: SchedulerConfig) -> (Master, HttpMesos, Events) {
    let mut master = Master::start().await;
    let mesos = connection(config, &master.endpoint);
    let (subscribed, events) = tokio::join!(mesos.subscribe(None), master.subscribed(15.0));
    subscribed.unwrap_or_else(|error| panic!("subscribed, not: {}", error.chain()));
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    (master, mesos, events)
}

fn offers(ids: &[&str]) -> Value {
    let scalar = |name, value| json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } });
    let ports = json!({ "name": "ports", "type": "RANGES", "ranges": { "range": [{ "begin": 31000, "end": 31001 }] } });
    let offer = |id: &&str| {
        json!({
            "id": { "value": id }, "agent_id": { "value": format!("agent-of-{id}") }, "hostname": "h",
            "resources": [scalar("cpus", 1.0), scalar("mem", 128.0), scalar("disk", 64.0), ports],
        })
    };
    json!({ "type": "OFFERS", "offers": { "offers": ids.iter().map(offer).collect::<Vec<_>>() } })
}

async fn offered(mesos: &HttpMesos, events: &Events, ids: &[&str]) -> Vec<Offer> {
    events.send(&offers(ids)).await;
    let MesosEvent::Offers(offers) = event(mesos).await else { panic!("not offers") };
    offers
}

fn accept(offer: &Offer, task: &str) -> MesosCall {
    let launch = Launch {
        task: TaskId::from(task),
        endpoint: Endpoint::new("h", 31_000),
        task_resources: Resources { cpus_milli: 100, ..Resources::default() },
        executor_resources: Resources::EXECUTOR,
        storage: Storage::Sandbox,
        data: "x".into(),
    };
    MesosCall::Accept {
        offer: offer.id.clone(),
        agent: offer.agent.clone(),
        launches: vec![launch],
        releases: Vec::new(),
    }
}

fn update(task: &str, state: &str, uuid: &str) -> Value {
    let (task, agent) = (json!({ "value": task }), json!({ "value": "a" }));
    let status = json!({
        "task_id": task, "state": state, "agent_id": agent, "uuid": uuid, "source": "SOURCE_EXECUTOR", "message": "m",
    });
    json!({ "type": "UPDATE", "update": { "status": status } })
}

#[tokio::test]
async fn a_starting_master_is_waited_for() {
    let mut master = Master::start().await;
    let mesos = connection(config(), &master.endpoint);
    let (result, ()) = tokio::join!(mesos.subscribe(Some(framework())), master.refuse("SUBSCRIBE", 503));
    result.expect("it goes on trying");
    let error = mesos.call(MesosCall::Revive).await.expect_err("not connected");
    assert!(error.is_temporary() && error.kind == ErrorKind::Unreachable, "{}", error.chain());
    master.refuse("SUBSCRIBE", 404).await;
    master.refuse("SUBSCRIBE", 500).await;
    let call = master.next("SUBSCRIBE").await;
    assert_eq!(call.call["framework_id"], json!({ "value": "F-0000" }));
    assert_eq!(call.call["subscribe"]["framework_info"]["id"], json!({ "value": "F-0000" }));
    let _events = call.subscribe(15.0).await;
    master.take("UPDATE_FRAMEWORK").await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
}

#[tokio::test]
async fn a_missed_heartbeat_ends_the_connection() {
    let mut master = Master::start().await;
    let mesos = connection(config(), &master.endpoint);
    let (result, events) = tokio::join!(mesos.subscribe(None), master.subscribed(0.1));
    result.expect("subscribed");
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        events.send(&json!({ "type": "HEARTBEAT" })).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Without them: a second and a half of the interval.
    assert_eq!(event(&mesos).await, MesosEvent::Disconnected);
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
    let call = master.next("SUBSCRIBE").await;
    assert_eq!(call.call["framework_id"], json!({ "value": "F-0000" }), "always the same framework");
    let _events = call.subscribe(0.1).await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
}

#[tokio::test]
async fn a_damaged_stream_is_given_up() {
    let (mut master, mesos, mut events) = subscribed(config()).await;
    for garbage in ["hello", "5\n{\"a\"}", "3\n{}", "9999999999\n", "2\n{}", "12\n{\"type\":true}", "1"] {
        events.send_raw(garbage.as_bytes()).await;
        drop(events);
        assert_eq!(event(&mesos).await, MesosEvent::Disconnected, "{garbage}");
        events = master.subscribed(15.0).await;
        assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    }
    let seen = offered(&mesos, &events, &["1"]).await;
    assert_eq!(seen[0].resources.cpus_milli, 1000, "the last one is good");
}

#[tokio::test]
async fn events_come_in_any_pieces() {
    let (_master, mesos, events) = subscribed(config()).await;
    let message = json!({ "agent_id": { "value": "a" }, "executor_id": { "value": "t" }, "data": "aGk=" });
    let all = [
        offers(&["1", "2"]),
        json!({ "type": "HEARTBEAT" }),
        json!({ "type": "INVENTED_LATER", "x": 1 }),
        json!({ "type": "RESCIND", "rescind": { "offer_id": { "value": "1" } } }),
        json!({ "type": "MESSAGE", "message": message }),
        json!({ "type": "FAILURE", "failure": { "agent_id": { "value": "a" }, "executor_id": { "value": "t" }, "status": 9 } }),
        json!({ "type": "FAILURE", "failure": { "agent_id": { "value": "a" } } }),
        update("t", "TASK_RUNNING", "AAAA"),
    ];
    let bytes: Vec<u8> =
        all.iter().flat_map(|event| cotton_mesos::recordio::encode(event.to_string().as_bytes())).collect();
    for piece in bytes.chunks(7) {
        events.send_raw(piece).await;
    }
    assert!(matches!(event(&mesos).await, MesosEvent::Offers(offers) if offers.len() == 2));
    assert!(matches!(event(&mesos).await, MesosEvent::Rescinded(id) if id.as_str() == "1"));
    assert_eq!(event(&mesos).await, MesosEvent::Message { task: TaskId::from("t"), data: "hi".into() });
    assert_eq!(event(&mesos).await, MesosEvent::AgentLost(AgentId::from("a")));
    assert!(matches!(event(&mesos).await, MesosEvent::Status(status) if status.state == TaskState::Running));
}

#[tokio::test]
async fn there_is_never_a_second_framework() {
    let mut master = Master::start().await;
    let mesos = connection(config(), &master.endpoint);
    let ours = FrameworkId::from("F-0001");
    let (result, events) = tokio::join!(mesos.subscribe(Some(ours)), master.subscribed(15.0));
    let error = result.expect_err("another one");
    assert!(!error.is_temporary() && error.chain().contains("refusing to become a second one"), "{}", error.chain());
    assert!(try_event(&mesos).await.is_err());
    drop(events);

    for (message, kind) in [
        ("Framework has been removed", ErrorKind::NotFound),
        ("Framework failed over", ErrorKind::Conflict),
        ("Not authorized to use role 'x'", ErrorKind::Invalid),
    ] {
        let (_master, mesos, events) = subscribed(config()).await;
        events.send(&json!({ "type": "ERROR", "error": { "message": message } })).await;
        assert_eq!(event(&mesos).await, MesosEvent::Disconnected);
        let error = try_event(&mesos).await.expect_err("the end");
        assert_eq!((error.kind, error.is_temporary()), (kind, false), "{}", error.chain());
        assert!(!mesos.call(MesosCall::Revive).await.expect_err("the end").is_temporary());
    }
}

#[tokio::test]
async fn what_is_not_a_master_is_not_believed() {
    let mut master = Master::start().await;
    let mesos = connection(config(), &master.endpoint);
    let first = async { master.next("SUBSCRIBE").await.answer_plain("hello") };
    let (result, ()) = tokio::join!(mesos.subscribe(None), first);
    result.expect("it goes on trying");
    let events = master.next("SUBSCRIBE").await.stream();
    events.send(&json!({ "type": "HEARTBEAT" })).await;
    events.send(&offers(&["1"])).await;
    let _events = master.subscribed(15.0).await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
}

#[tokio::test]
async fn a_stale_stream_id_means_to_subscribe_again() {
    let (mut master, mesos, _events) = subscribed(config()).await;
    for (status, text) in [
        (400, "The stream ID 'x' included in this request didn't match the stream ID currently associated"),
        (400, "Framework cannot be found"),
        (403, "Framework is not subscribed"),
        (503, ""),
        (307, ""),
    ] {
        let answer = async { master.next("REVIVE").await.answer(status, text) };
        let (result, ()) = tokio::join!(mesos.call(MesosCall::Revive), answer);
        assert!(result.expect_err("refused").is_temporary(), "{status} {text}");
        assert_eq!(event(&mesos).await, MesosEvent::Disconnected);
        let _events = Box::leak(Box::new(master.subscribed(15.0).await));
        assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    }
}

#[tokio::test]
async fn a_launch_that_the_master_refuses_is_dropped_and_the_connection_stays() {
    let (mut master, mesos, events) = subscribed(config()).await;
    let offer = offered(&mesos, &events, &["1"]).await.remove(0);
    let answer = async { master.next("ACCEPT").await.answer(400, "Failed to validate scheduler::Call: nonsense") };
    let (result, ()) = tokio::join!(mesos.call(accept(&offer, "t")), answer);
    let error = result.expect_err("refused");
    assert!(!error.is_temporary() && error.chain().contains("nonsense"), "{}", error.chain());
    let MesosEvent::Status(status) = event(&mesos).await else { panic!("not a status") };
    assert_eq!((status.task.as_str(), status.state, status.uuid), ("t", TaskState::Dropped, None));
    assert!(status.message.contains("nonsense"), "{}", status.message);
    let (result, _call) = tokio::join!(mesos.call(MesosCall::Suppress), master.take("SUPPRESS"));
    result.expect("taken");
}

#[tokio::test]
async fn a_call_without_an_answer_may_have_arrived() {
    let mut config = config();
    config.call_timeout = Duration::from_millis(300);
    let (mut master, mesos, events) = subscribed(config).await;
    let offer = offered(&mesos, &events, &["1"]).await.remove(0);
    let (result, call) = tokio::join!(mesos.call(accept(&offer, "t")), master.next("ACCEPT"));
    result.expect("nobody knows");
    assert_eq!(event(&mesos).await, MesosEvent::Disconnected, "then it is asked for with the next subscription");
    drop(call);
    let _events = master.subscribed(15.0).await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    mesos.call(accept(&offer, "t")).await.expect("repeating it is harmless");
    mesos.call(accept(&offer, "other")).await.expect("taken");
    let MesosEvent::Status(status) = event(&mesos).await else { panic!("not a status") };
    assert_eq!((status.task.as_str(), status.state), ("other", TaskState::Dropped), "its offer was of before");
}

#[tokio::test]
async fn calls_do_not_wait_for_a_connection_that_is_over() {
    let mut config = config();
    config.call_timeout = Duration::from_mins(1);
    let (mut master, mesos, events) = subscribed(config).await;
    let cut = async {
        let _unanswered = master.next("REVIVE").await;
        drop(events);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = mesos.call(MesosCall::Revive) => result.expect("nobody knows"),
        () = cut => unreachable!(),
        () = tokio::time::sleep(DEADLINE) => panic!("it waits"),
    }
}

#[tokio::test]
async fn redirections_are_followed_but_not_for_ever() {
    let mut standby = Master::start().await;
    let mut leading = Master::start().await;
    let mesos = connection(config(), &standby.endpoint);
    let to_leading = format!("//{}/api/v1/scheduler", leading.endpoint);
    let to_itself = format!("//{}/api/v1/scheduler", standby.endpoint);
    let play = async {
        standby.next("SUBSCRIBE").await.redirect("//user@nowhere/");
        for _ in 0..8 {
            standby.next("SUBSCRIBE").await.redirect(&to_itself);
        }
        standby.next("SUBSCRIBE").await.redirect(&to_leading);
        leading.subscribed(15.0).await
    };
    let (result, _events) = tokio::join!(mesos.subscribe(None), play);
    result.expect("it goes on trying");
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    let (result, _call) = tokio::join!(mesos.call(MesosCall::Revive), leading.take("REVIVE"));
    result.expect("calls go there, too");
}

/// Knows who leads because it is told.
#[derive(Debug)]
struct Told(watch::Receiver<Endpoint>);

#[async_trait::async_trait]
impl MasterDetector for Told {
    async fn leader(&self) -> Result<Endpoint, PortError> {
        Ok(self.0.borrow().clone())
    }

    async fn changed(&self, master: &Endpoint) {
        let mut leader = self.0.clone();
        if leader.wait_for(|leader| leader != master).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn failed(&self, _master: &Endpoint) {}
}

#[tokio::test]
async fn a_new_leader_is_followed_at_once() {
    let (mut first, mut second) = (Master::start().await, Master::start().await);
    let address = |master: &Master| {
        let (host, port) = master.endpoint.split_once(':').expect("host:port");
        Endpoint::new(host, port.parse().expect("a port"))
    };
    let (leader, told) = watch::channel(address(&first));
    let mesos = HttpMesos::new(config(), Arc::new(Told(told))).expect("a connection");
    let (result, events) = tokio::join!(mesos.subscribe(None), first.subscribed(15.0));
    result.expect("subscribed");
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    offered(&mesos, &events, &["1"]).await;
    leader.send_replace(address(&second));
    assert_eq!(event(&mesos).await, MesosEvent::Disconnected);
    let _events = second.subscribed(15.0).await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
}

#[tokio::test]
async fn maintenance_is_answered_by_whom_it_concerns() {
    let (mut master, mesos, events) = subscribed(config()).await;
    let unavailability = json!({ "start": { "nanoseconds": 1 } });
    let inverse = json!([{ "id": { "value": "i1" }, "agent_id": { "value": "a" }, "unavailability": unavailability }]);
    events.send(&json!({ "type": "INVERSE_OFFERS", "inverse_offers": { "inverse_offers": inverse } })).await;
    let (id, agent) = (OfferId::from("i1"), AgentId::from("a"));
    assert_eq!(event(&mesos).await, MesosEvent::Maintenance { id: id.clone(), agent, starts_in_ms: 0 });
    let answer = mesos.call(MesosCall::AnswerMaintenance { id: id.clone(), ready: false });
    let (result, call) = tokio::join!(answer, master.take("DECLINE_INVERSE_OFFERS"));
    result.expect("taken");
    assert_eq!(call["decline_inverse_offers"]["inverse_offer_ids"], json!([{ "value": "i1" }]));
    assert_eq!(call["decline_inverse_offers"]["filters"], json!({ "refuse_seconds": 5.0 }));
    mesos.call(MesosCall::AnswerMaintenance { id, ready: true }).await.expect("nothing is posted for it any more");
}

#[tokio::test]
async fn a_framework_that_is_back_says_who_it_is_and_asks_what_became_of_its_operations() {
    let mut master = Master::start().await;
    let mesos = connection(config(), &master.endpoint);
    let asked = async {
        let events = master.subscribed(15.0).await;
        let update = master.next("UPDATE_FRAMEWORK").await;
        assert_eq!(update.call["update_framework"]["framework_info"]["id"], json!({ "value": "F-0000" }));
        update.answer(400, "Updating 'FrameworkInfo.user' is unsupported");
        events
    };
    let (subscribed, events) = tokio::join!(mesos.subscribe(Some(framework())), asked);
    subscribed.unwrap_or_else(|error| panic!("subscribed, not: {}", error.chain()));
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    // It does not know what an earlier process has asked for, so it asks for all.
    let reconcile = master.take("RECONCILE_OPERATIONS").await;
    assert_eq!(reconcile["reconcile_operations"], json!({ "operations": [] }));
    let id = json!({ "value": "create.mysos-orders-3.ff.1" });
    let status = json!({
        "operation_id": id, "state": "OPERATION_FINISHED", "uuid": { "value": "AAAA" }, "agent_id": { "value": "a" },
    });
    events.send(&json!({ "type": "UPDATE_OPERATION_STATUS", "update_operation_status": { "status": status } })).await;
    let volume = VolumeId::from("mysos-orders-3");
    assert_eq!(event(&mesos).await, MesosEvent::Volume { volume, outcome: VolumeOutcome::Made });
    let call = master.take("ACKNOWLEDGE_OPERATION_STATUS").await;
    let expected = json!({ "agent_id": { "value": "a" }, "uuid": "AAAA", "operation_id": id });
    assert_eq!(call["acknowledge_operation_status"], expected);

    // What it asks for itself, it asks about until it is answered.
    let mut offer = offers(&["1"]);
    offer["offers"]["offers"][0]["allocation_info"] = json!({ "role": "mysql" });
    events.send(&offer).await;
    let MesosEvent::Offers(offered) = event(&mesos).await else { panic!("not offers") };
    let MesosCall::Accept { offer, agent, mut launches, releases } = accept(&offered[0], "t") else { unreachable!() };
    launches[0].storage = Storage::NewVolume(VolumeId::from("mysos-orders-4"));
    launches[0].task_resources.disk_bytes = 1 << 20;
    let call = mesos.call(MesosCall::Accept { offer, agent, launches, releases });
    let (result, call) = tokio::join!(call, master.take("ACCEPT"));
    result.expect("taken");
    let operations = call["accept"]["operations"].as_array().expect("operations").clone();
    let kinds: Vec<&Value> = operations.iter().map(|operation| &operation["type"]).collect();
    assert_eq!(kinds, ["RESERVE", "CREATE", "LAUNCH"]);
    drop(events);
    assert_eq!(event(&mesos).await, MesosEvent::Disconnected);
    let events = master.subscribed(15.0).await;
    assert_eq!(event(&mesos).await, MesosEvent::Subscribed(framework()));
    let reconcile = master.take("RECONCILE_OPERATIONS").await;
    let mut asked: Vec<Value> = reconcile["reconcile_operations"]["operations"].as_array().expect("some").clone();
    asked.sort_by_key(|operation| operation["operation_id"]["value"].as_str().map(str::to_owned));
    let question = |at: usize| json!({ "operation_id": operations[at]["id"], "agent_id": { "value": "agent-of-1" } });
    assert_eq!(asked, [question(1), question(0)], "create comes before reserve in the alphabet");
    drop(events);
}

#[tokio::test]
async fn an_end_that_was_acknowledged_ends_the_executor_too() {
    let (mut master, mesos, events) = subscribed(config()).await;
    events.send(&update("t", "TASK_KILLED", "AAAA")).await;
    let MesosEvent::Status(status) = event(&mesos).await else { panic!("not a status") };
    let acknowledge = MesosCall::Acknowledge {
        task: status.task,
        agent: status.agent.expect("known"),
        uuid: status.uuid.expect("to be acknowledged"),
    };
    let both = async {
        let acknowledged = master.take("ACKNOWLEDGE").await;
        (acknowledged, master.take("SHUTDOWN").await)
    };
    let (result, (acknowledged, shutdown)) = tokio::join!(mesos.call(acknowledge), both);
    result.expect("taken");
    assert_eq!(acknowledged["acknowledge"]["uuid"], "AAAA");
    assert_eq!(shutdown["shutdown"]["executor_id"], json!({ "value": "t" }));
    assert_eq!(shutdown["framework_id"], json!({ "value": "F-0000" }));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_trusts_only_the_authority_in_the_file() {
    let (ours, theirs) = (master::Authority::new(), master::Authority::new());
    let mut master = Master::start_tls(&ours).await;
    let with = |authority: &master::Authority| {
        let mut config = config();
        config.ca_file = Some(authority.file().to_owned());
        connection(config, &master.endpoint)
    };
    let (good, bad) = (with(&ours), with(&theirs));
    bad.subscribe(None).await.expect("not refused, but not connected either");
    assert!(bad.call(MesosCall::Revive).await.expect_err("no connection").is_temporary());
    drop(bad);
    let (result, _events) = tokio::join!(good.subscribe(None), master.subscribed(15.0));
    result.expect("subscribed");
    assert_eq!(event(&good).await, MesosEvent::Subscribed(framework()));
    let (result, _call) = tokio::join!(good.call(MesosCall::Revive), master.take("REVIVE"));
    result.expect("taken");

    let clear = connection(config(), &master.endpoint);
    clear.subscribe(None).await.expect("not refused, but not connected either");
    for text in ["", "no certificate"] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let mut config = config();
        config.ca_file = Some(file.path().to_owned());
        let masters: MasterList = master.endpoint.parse().expect("masters");
        let error = HttpMesos::new(config, Arc::new(masters)).expect_err("no authority");
        assert!(error.to_string().contains("PEM"), "{error}");
    }
}
