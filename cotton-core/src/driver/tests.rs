//! The loop with ports in memory and a clock that stands still while there is work.

use super::scheduler::{Ports, Scheduler, start};
use super::{Handle, scheduler};
use crate::fleet::{CommandError, Config};
use crate::ports::discovery::{Discovery, Published};
use crate::ports::mesos::{Mesos, MesosCall, MesosEvent, Offer, TaskState, TaskStatus};
use crate::ports::state_store::{StateKey, StateStore, Stored};
use crate::protocol::{self, MemberRole, Report, Stage};
use crate::testkit::memory_store::MemoryStore;
use crate::{
    ClusterName, ClusterSpec, ClusterStatus, Durability, Epoch, ErrorKind, FrameworkId, GtidSet, PortError,
    Ports as TcpPorts, Preference, ReasonCode, Resources, Sealed, Secrets, TaskId,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// A Mesos whose events the test tells, and that remembers what it was told.
#[derive(Debug)]
struct FakeMesos {
    tell: mpsc::UnboundedSender<Option<MesosEvent>>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Option<MesosEvent>>>,
    calls: Mutex<Vec<MesosCall>>,
    called: Notify,
}

impl FakeMesos {
    fn new() -> Arc<Self> {
        let (tell, events) = mpsc::unbounded_channel();
        Arc::new(Self { tell, events: events.into(), calls: Mutex::default(), called: Notify::new() })
    }

    fn tell(&self, event: MesosEvent) {
        self.tell.send(Some(event)).expect("the receiver is here, too");
    }

    /// Waits for the next call of that name; earlier ones are forgotten.
    async fn next(&self, name: &str) -> MesosCall {
        loop {
            {
                let mut calls = self.calls.lock().expect("no panic while locked");
                if let Some(at) = calls.iter().position(|call| call.name() == name) {
                    return calls.drain(..=at).next_back().expect("up to there");
                }
            }
            timeout(Duration::from_mins(1), self.called.notified()).await.expect(name);
        }
    }
}

#[async_trait]
impl Mesos for FakeMesos {
    async fn subscribe(&self, framework: Option<FrameworkId>) -> Result<(), PortError> {
        self.tell(MesosEvent::Subscribed(framework.unwrap_or_else(|| FrameworkId::from("f"))));
        Ok(())
    }

    async fn next_event(&self) -> Result<MesosEvent, PortError> {
        let event = self.events.lock().await.recv().await.flatten();
        event.ok_or_else(|| PortError::permanent(ErrorKind::Denied, "subscribe", "removed"))
    }

    async fn call(&self, call: MesosCall) -> Result<(), PortError> {
        self.calls.lock().expect("no panic while locked").push(call);
        self.called.notify_one();
        Ok(())
    }
}

/// A store that takes its time, for the records whose name begins with `slow`.
#[derive(Clone, Debug, Default)]
struct SlowStore {
    store: MemoryStore,
    pause_ms: Arc<AtomicU64>,
}

#[async_trait]
impl StateStore for SlowStore {
    async fn load(&self) -> Result<Vec<Stored>, PortError> {
        self.store.load().await
    }

    async fn save(&self, key: &StateKey, value: &[u8]) -> Result<(), PortError> {
        if matches!(key, StateKey::Cluster(name) if name.as_str().starts_with("slow")) {
            sleep(Duration::from_millis(self.pause_ms.load(Ordering::Relaxed))).await;
        }
        self.store.save(key, value).await
    }

    async fn remove(&self, key: &StateKey) -> Result<(), PortError> {
        self.store.remove(key).await
    }

    async fn set_aside(&self, key: &StateKey) -> Result<String, PortError> {
        self.store.set_aside(key).await
    }
}

/// Remembers all publications, each of which takes a while; the first ones fail.
#[derive(Debug, Default)]
struct FakeDiscovery {
    failures: AtomicU32,
    history: Mutex<Vec<(ClusterName, Option<Published>)>>,
}

impl FakeDiscovery {
    async fn note(&self, name: &ClusterName, published: Option<Published>) -> Result<(), PortError> {
        sleep(Duration::from_millis(50)).await;
        let fails = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if fails {
            return Err(PortError::temporary(ErrorKind::Unreachable, "publish", ""));
        }
        self.history.lock().expect("no panic while locked").push((name.clone(), published));
        Ok(())
    }

    /// What clients see now.
    fn seen(&self) -> Option<Published> {
        self.history.lock().expect("no panic while locked").last().and_then(|(_, published)| published.clone())
    }
}

#[async_trait]
impl Discovery for FakeDiscovery {
    async fn publish(&self, cluster: &ClusterName, published: &Published) -> Result<(), PortError> {
        self.note(cluster, Some(published.clone())).await
    }

    async fn withdraw(&self, cluster: &ClusterName) -> Result<(), PortError> {
        self.note(cluster, None).await
    }
}

struct Bench {
    mesos: Arc<FakeMesos>,
    store: SlowStore,
    discovery: Arc<FakeDiscovery>,
    handle: Handle,
    ended: tokio::task::JoinHandle<Result<(), PortError>>,
}

impl Bench {
    async fn start() -> Self {
        Self::on(SlowStore::default()).await
    }

    async fn on(store: SlowStore) -> Self {
        let (mesos, discovery) = (FakeMesos::new(), Arc::new(FakeDiscovery::default()));
        let ports = Ports {
            mesos: Arc::clone(&mesos) as Arc<dyn Mesos>,
            state: Arc::new(store.clone()),
            discovery: Arc::clone(&discovery) as Arc<dyn Discovery>,
        };
        let clock: scheduler::WallClock = Arc::new(|| 0);
        let Scheduler { handle, ended } = start(Config::default(), ports, clock).await.expect("it starts");
        mesos.next("reconcile").await;
        Self { mesos, store, discovery, handle, ended }
    }

    /// Offers room and answers as a member that comes up and is promoted would; the cluster has one.
    async fn bring_up(&self, text: &str) {
        self.mesos.tell(MesosEvent::Offers(vec![offer(text)]));
        self.mesos.next("accept").await;
        self.say(text, 1, MemberRole::Idle, 0);
        self.mesos.next("message").await;
        self.say(text, 2, MemberRole::Primary, 1);
    }

    fn say(&self, text: &str, seq: u64, role: MemberRole, epoch: u64) {
        let report = Report {
            incarnation: 1,
            seq,
            echo: u64::MAX, // as good as heard of all
            epoch: Epoch(epoch),
            stage: (epoch > 0).then_some(if role == MemberRole::Frozen { Stage::Freeze } else { Stage::Decided }),
            role,
            boot: 1,
            unattached: BTreeSet::new(),
            never_opened: false,
            kept_since: None,
            origin: String::new(),
            position: GtidSet::Empty,
            unapplied: 0,
            applied: None,
            lag_s: None,
            read_to: None,
            replicas: None,
            waiting: None,
            disk_free_bytes: None,
            waits_for_room: false,
            asked_to_leave: false,
            accounts_wanted: false,
            accounts_revision: 0,
            server_version: String::new(),
            trouble: None,
            failed_copies: 0,
            next_copy_ms: None,
        };
        self.mesos.tell(MesosEvent::Message { task: task(text), data: protocol::encode(&report).into() });
    }

    async fn until(&self, text: &str, wanted: ClusterStatus) {
        for _ in 0..1_000 {
            let view = self.handle.view(&name(text)).await.expect("it runs");
            if view.is_some_and(|view| view.status == wanted) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{text} did not become {wanted:?}");
    }
}

fn name(text: &str) -> ClusterName {
    text.parse().expect("a valid name")
}

fn task(text: &str) -> TaskId {
    TaskId::of(&name(text), crate::MemberId(0), 0)
}

fn offer(id: &str) -> Offer {
    Offer {
        id: id.into(),
        agent: "agent".into(),
        host: "host".to_owned(),
        resources: Resources::DEFAULT.times(9),
        ports: TcpPorts::new([(31_000, 31_999)]),
        attributes: BTreeMap::new(),
        held: Vec::new(),
        maintenance_in_ms: None,
    }
}

fn spec(text: &str) -> ClusterSpec {
    let sealed = || Sealed::new("sealed");
    ClusterSpec {
        name: name(text),
        size: 1,
        resources: Resources::DEFAULT,
        user: "app".to_owned(),
        secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
        durability: Durability::Async,
        preference: Preference::Consistency,
        backup_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_life_from_creation_to_deletion() {
    let bench = Bench::start().await;
    assert_eq!(bench.handle.create(spec("a")).await, Ok(()));
    assert!(bench.store.store.get(&StateKey::Cluster(name("a"))).is_some(), "answered when it is durable");
    assert_eq!(bench.handle.create(spec("a")).await, Err(CommandError::Exists(name("a"))));
    bench.bring_up("a").await;
    bench.until("a", ClusterStatus::Healthy).await;
    sleep(Duration::from_secs(1)).await;
    assert!(bench.discovery.seen().is_some_and(|published| published.primary.is_some()));
    assert_eq!(bench.handle.delete(&name("a")).await, Ok(()));
    bench.mesos.next("kill").await;
    let status =
        TaskStatus { task: task("a"), agent: None, state: TaskState::Killed, message: String::new(), uuid: None };
    bench.mesos.tell(MesosEvent::Status(status));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.handle.view(&name("a")).await, Ok(None));
    assert_eq!(bench.discovery.seen(), None);
    assert!(bench.store.store.get(&StateKey::Cluster(name("a"))).is_none());
    bench.handle.stop().await;
    assert!(bench.ended.await.expect("no panic").is_ok());
    assert_eq!(bench.handle.create(spec("b")).await, Err(CommandError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_save_that_fails_is_said_and_repeated() {
    let bench = Bench::start().await;
    bench.store.store.refuse_writes(true);
    let refused = bench.handle.create(spec("a")).await;
    assert!(matches!(refused, Err(CommandError::NotSaved(_))), "{refused:?}");
    sleep(Duration::from_secs(30)).await;
    assert!(bench.store.store.get(&StateKey::Cluster(name("a"))).is_none());
    let view = bench.handle.view(&name("a")).await.expect("it runs").expect("it is there");
    let reason = view.reasons.first().expect("it is not well");
    assert_eq!(reason.code, ReasonCode::NotSaved);
    assert!(reason.text.contains("for 30 s") && reason.text.contains("could not save:"), "{}", reason.text);
    let explained = bench.handle.explain(&name("a")).await.expect("it runs").expect("it is there");
    assert_eq!((explained.waits[0].code, explained.waits[0].since_ms), ("not_saved", Some(30_000)));
    bench.store.store.refuse_writes(false);
    sleep(Duration::from_secs(6)).await;
    assert!(bench.store.store.get(&StateKey::Cluster(name("a"))).is_some(), "without being asked again");
    let view = bench.handle.view(&name("a")).await.expect("it runs").expect("it is there");
    assert!(view.reasons.iter().all(|reason| reason.code != ReasonCode::NotSaved), "{:?}", view.reasons);
}

#[tokio::test(start_paused = true)]
async fn a_slow_record_delays_nobody_else() {
    let bench = Bench::start().await;
    bench.store.pause_ms.store(20_000, Ordering::Relaxed);
    let slow = tokio::spawn({
        let handle = bench.handle.clone();
        async move { handle.create(spec("slow")).await }
    });
    tokio::task::yield_now().await;
    let started = Instant::now();
    assert_eq!(bench.handle.create(spec("fast")).await, Ok(()));
    bench.bring_up("fast").await;
    bench.until("fast", ClusterStatus::Healthy).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!slow.is_finished());
    assert_eq!(slow.await.expect("no panic"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn publications_are_repeated_and_the_latest_wins() {
    let bench = Bench::start().await;
    bench.discovery.failures.store(3, Ordering::Relaxed);
    bench.handle.create(spec("a")).await.expect("a new name");
    bench.bring_up("a").await;
    bench.until("a", ClusterStatus::Healthy).await;
    // Restarted in place at once: elected again while the first publication still fails.
    bench.say("a", 3, MemberRole::Down { reason: "signal 9".to_owned() }, 1);
    bench.say("a", 4, MemberRole::Frozen, 2);
    sleep(Duration::from_millis(100)).await;
    bench.say("a", 5, MemberRole::Primary, 2);
    sleep(Duration::from_secs(20)).await;
    let epochs: Vec<u64> = bench
        .discovery
        .history
        .lock()
        .expect("no panic while locked")
        .iter()
        .filter_map(|(_, published)| published.as_ref().map(|published| published.epoch.0))
        .collect();
    assert!(epochs.is_sorted() && epochs.last() == Some(&2), "{epochs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_kept_aside_and_the_others_go_on() {
    let store = SlowStore::default();
    {
        let bench = Bench::on(store.clone()).await;
        for text in ["a", "b", "c"] {
            bench.handle.create(spec(text)).await.expect("a new name");
        }
        bench.handle.stop().await;
        assert!(bench.ended.await.expect("no panic").is_ok());
    }
    store.store.save(&StateKey::Cluster(name("b")), b"{ half").await.expect("it takes writes");
    let wrong = store.store.get(&StateKey::Cluster(name("a"))).expect("saved");
    store.store.save(&StateKey::Cluster(name("c")), &wrong).await.expect("it takes writes");
    let bench = Bench::on(store.clone()).await;
    let names: Vec<String> =
        bench.handle.list().await.expect("it runs").iter().map(|view| view.name.to_string()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(bench.handle.create(spec("b")).await, Err(CommandError::Damaged(name("b"))));
    assert_eq!(bench.handle.metrics().await.expect("it runs")["clusters_damaged"], 2);
    bench.bring_up("a").await;
    bench.until("a", ClusterStatus::Healthy).await;
}

#[tokio::test(start_paused = true)]
async fn clusters_without_the_fleets_record_are_not_taken_for_a_new_framework() {
    let store = SlowStore::default();
    {
        let bench = Bench::on(store.clone()).await;
        bench.handle.create(spec("a")).await.expect("a new name");
        bench.handle.stop().await;
        assert!(bench.ended.await.expect("no panic").is_ok());
    }
    store.store.remove(&StateKey::Fleet).await.expect("it takes writes");
    let before = store.store.get(&StateKey::Cluster(name("a")));
    let (mesos, discovery) = (FakeMesos::new(), Arc::new(FakeDiscovery::default()));
    let ports = Ports { mesos: Arc::clone(&mesos) as Arc<dyn Mesos>, state: Arc::new(store.clone()), discovery };
    let error = start(Config::default(), ports, Arc::new(|| 0)).await.expect_err("refused");
    assert!(error.to_string().contains("restore that record"), "{error}");
    assert_eq!(mesos.calls.lock().expect("no panic while locked").len(), 0);
    assert_eq!((store.store.get(&StateKey::Fleet), store.store.get(&StateKey::Cluster(name("a")))), (None, before));
}

#[tokio::test(start_paused = true)]
async fn what_is_being_saved_is_finished_when_it_stops() {
    for stopped in [true, false] {
        let bench = Bench::start().await;
        bench.store.pause_ms.store(2_000, Ordering::Relaxed);
        let creating = tokio::spawn({
            let handle = bench.handle.clone();
            async move { handle.create(spec("slow")).await }
        });
        sleep(Duration::from_millis(100)).await;
        if stopped {
            bench.handle.stop().await;
        } else {
            bench.mesos.tell.send(None).expect("it listens"); // Mesos will have nothing of us any more
        }
        let ended = bench.ended.await.expect("no panic");
        assert_eq!(ended.is_ok(), stopped, "{ended:?}");
        assert_eq!(creating.await.expect("no panic"), Ok(()));
        assert!(bench.store.store.get(&StateKey::Cluster(name("slow"))).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_are_created_at_once_and_one_name_only_once() {
    let bench = Bench::start().await;
    let create = |text: String| {
        let handle = bench.handle.clone();
        tokio::spawn(async move { handle.create(spec(&text)).await })
    };
    let tasks: Vec<_> = (0..50).map(|number| create(format!("c{}", number % 25))).collect();
    let mut made = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, CommandError::Exists(_)), "{error}"),
        }
    }
    assert_eq!((made, bench.handle.list().await.expect("it runs").len()), (25, 25));
}
