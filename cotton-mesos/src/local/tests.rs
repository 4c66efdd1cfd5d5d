//! The world without processes, on a clock that is only an argument.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the events that it waits for")]

use super::config::{AgentConfig, ExecutorCommand, LocalConfig};
use super::world::{Action, Verdict, World};
use crate::wire::common::{Base64, Id, TaskState as WireState, TaskStatus as WireStatus};
use crate::wire::executor::Subscribe;
use bytes::Bytes;
use cotton_core::ports::mesos::{Launch, MesosCall, MesosEvent, Storage, TaskState, TaskStatus};
use cotton_core::resources::MIB;
use cotton_core::{AgentId, Endpoint, FrameworkId, Ports, Resources, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SIZE: Resources = Resources { cpus_milli: 500, mem_bytes: 64 * MIB, disk_bytes: 64 * MIB };

struct Bench {
    world: World,
    now: Instant,
}

impl Bench {
    /// One agent, whose task `t` was started as process 7.
    fn new() -> Self {
        let agent = AgentConfig {
            id: agent_id(),
            host: "127.0.0.1".into(),
            resources: SIZE.times(2),
            ports: Ports::new([(2, 3)]),
            attributes: BTreeMap::new(),
        };
        let executor = ExecutorCommand { program: "/x".into(), args: Vec::new(), environment: BTreeMap::new() };
        let config = Arc::new(LocalConfig::new("/nowhere", vec![agent.clone()], executor));
        let mut world = World::new(config, FrameworkId::from("f"), "o".into());
        let now = Instant::now();
        world.add_agent(now, agent, 1, Vec::new(), Vec::new());
        world.subscribe();
        let mut this = Self { world, now };
        let offer = this.events().into_iter().find_map(|event| match event {
            MesosEvent::Offers(offers) => offers.into_iter().next(),
            _ => None,
        });
        let launch = Launch {
            task: task(),
            endpoint: Endpoint::new("127.0.0.1", 2),
            task_resources: SIZE,
            executor_resources: Resources::default(),
            storage: Storage::Sandbox,
            data: Bytes::new(),
        };
        let mut offer = offer.expect("an offer");
        // Whether ports 2 and 3 can be bound depends on who runs this.
        offer.ports = Ports::new([(2, 3)]);
        if let Some(made) = this.world.agents.get_mut(&agent_id()).and_then(|agent| agent.offer.as_mut()) {
            made.ports = offer.ports.clone();
        }
        let call =
            MesosCall::Accept { offer: offer.id, agent: agent_id(), launches: vec![launch], releases: Vec::new() };
        this.world.call(this.now, call);
        this.save();
        assert!(this.world.may_start(&agent_id(), &task()));
        assert_eq!(this.world.started(this.now, &agent_id(), &task(), 7), Verdict::Keep);
        this
    }

    fn events(&mut self) -> Vec<MesosEvent> {
        self.world.settle(self.now);
        std::iter::from_fn(|| self.world.pop_event()).collect()
    }

    fn news(&mut self) -> Vec<TaskStatus> {
        let events = self.events().into_iter();
        events.filter_map(|event| if let MesosEvent::Status(status) = event { Some(status) } else { None }).collect()
    }

    fn save(&mut self) {
        if let Some((_, revision, _)) = self.world.to_save(&agent_id(), &task()) {
            self.world.saved(&agent_id(), &task(), revision);
        }
    }

    fn tell(&mut self, state: WireState, uuid: &'static str) {
        let status = WireStatus {
            task_id: Id::new("t"),
            state,
            message: None,
            source: None,
            reason: None,
            agent_id: None,
            executor_id: None,
            timestamp: None,
            uuid: Some(Base64(uuid.into())),
        };
        self.world.executor_update(&agent_id(), "t", status).expect("known");
    }

    fn killed(&mut self) -> bool {
        self.world.settle(self.now);
        self.world.actions.drain(..).any(|action| matches!(action, Action::KillTree { pid: 7 }))
    }
}

fn agent_id() -> AgentId {
    AgentId::from("a")
}

fn task() -> TaskId {
    TaskId::from("t")
}

#[test]
fn news_waits_until_it_is_saved_and_is_told_again_every_ten_seconds() {
    let mut bench = Bench::new();
    bench.tell(WireState::TaskRunning, "1");
    bench.tell(WireState::TaskRunning, "1");
    assert_eq!(bench.news(), [], "not saved yet");
    bench.save();
    let first = bench.news();
    assert_eq!((first.len(), first[0].state), (1, TaskState::Running));
    bench.now += Duration::from_millis(9999);
    assert_eq!(bench.news(), []);
    bench.now += Duration::from_millis(1);
    assert_eq!(bench.world.next_timeout(), Some(bench.now));
    assert_eq!(bench.news(), first);
    for _ in 0..2 {
        let uuid = Bytes::from_static(b"1");
        bench.world.call(bench.now, MesosCall::Acknowledge { task: task(), agent: agent_id(), uuid });
    }
    bench.now += Duration::from_mins(1);
    assert_eq!(bench.news(), []);
}

#[test]
fn an_executor_that_does_not_subscribe_in_time_is_killed() {
    let mut bench = Bench::new();
    bench.now += Duration::from_secs(59);
    assert!(!bench.killed());
    bench.now += Duration::from_secs(1);
    assert!(bench.killed());
    bench.world.ended(&agent_id(), &task(), 7, "signal: 9");
    bench.save();
    let news = bench.news();
    assert_eq!((news.len(), news[0].state), (1, TaskState::Failed));
    assert!(news[0].message.contains("did not subscribe"), "{}", news[0].message);

    let mut bench = Bench::new();
    let _events = bench.world.executor_subscribed(bench.now, &agent_id(), "t", Subscribe::default()).expect("known");
    bench.now += Duration::from_hours(1);
    assert!(!bench.killed());

    // On a busy machine it subscribes before whoever started it has said so.
    let mut bench = Bench::new();
    let _events = bench.world.executor_subscribed(bench.now, &agent_id(), "t", Subscribe::default()).expect("known");
    assert_eq!(bench.world.started(bench.now, &agent_id(), &task(), 7), Verdict::Keep);
    bench.now += Duration::from_hours(1);
    assert!(!bench.killed());
}

#[test]
fn what_an_executor_lets_pile_up_ends_its_connection_only() {
    let mut bench = Bench::new();
    let mut events = bench.world.executor_subscribed(bench.now, &agent_id(), "t", Subscribe::default()).expect("known");
    for _ in 0..1000 {
        let data = Bytes::from_static(b"x");
        bench.world.call(bench.now, MesosCall::Message { task: task(), agent: agent_id(), data });
    }
    let mut count = 0;
    while events.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, 256);
    assert!(events.is_closed() && !bench.killed());
}

#[test]
fn messages_for_a_scheduler_that_does_not_read_are_bounded() {
    let mut bench = Bench::new();
    let data = Bytes::from(vec![0; 1024 * 1024]);
    for _ in 0..100 {
        bench.world.executor_message(&agent_id(), "t", data.clone()).expect("known");
    }
    let messages = bench.events().into_iter().filter(|event| matches!(event, MesosEvent::Message { .. })).count();
    assert_eq!(messages, 64);
    bench.world.executor_message(&agent_id(), "t", data).expect("known");
    assert_eq!(bench.events().len(), 1, "there is room again");
}

#[test]
fn launches_on_an_agent_that_is_cut_off_get_lost() {
    let mut bench = Bench::new();
    let offer = bench.events().into_iter().find_map(|event| match event {
        MesosEvent::Offers(offers) => offers.into_iter().next(),
        _ => None,
    });
    bench.world.cut(bench.now, &agent_id());
    let lost = Launch {
        task: TaskId::from("u"),
        endpoint: Endpoint::new("127.0.0.1", 3),
        task_resources: SIZE,
        executor_resources: Resources::default(),
        storage: Storage::Sandbox,
        data: Bytes::new(),
    };
    let call = MesosCall::Accept {
        offer: offer.expect("the rest").id,
        agent: agent_id(),
        launches: vec![lost],
        releases: Vec::new(),
    };
    bench.world.call(bench.now, call);
    assert_eq!(bench.news(), []);
    bench.now += Duration::from_secs(5);
    let states: Vec<_> = bench.news().into_iter().map(|status| (status.task, status.state)).collect();
    assert_eq!(states, [(task(), TaskState::Unreachable), (TaskId::from("u"), TaskState::Unreachable)]);
    bench.world.restore(bench.now, &agent_id());
    let states: Vec<_> = bench.news().into_iter().map(|status| (status.task, status.state)).collect();
    assert_eq!(states, [(task(), TaskState::Staging), (TaskId::from("u"), TaskState::Dropped)]);
}
