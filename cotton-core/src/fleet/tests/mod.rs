//! Tests of the fleet: offers, launches, task states, records.

mod failing;
mod maintenance;
mod unknown;
mod volumes;

use super::{Checkpoint, CommandError, Config, Counters, Effect, Fleet, Input, Record};
use crate::cluster::state::State;
use crate::ports::mesos::{Launch, MesosCall, MesosEvent, Offer, TaskState, TaskStatus};
use crate::ports::state_store::StateKey;
use crate::protocol::{self, MemberRole, Report};
use crate::{
    ClusterName, ClusterSpec, Durability, FrameworkId, GtidSet, MemberId, Millis, Ports, Preference, Resources, Sealed,
    Secrets, TaskId,
};
use std::collections::BTreeSet;

fn name(text: &str) -> ClusterName {
    text.parse().expect("a valid name")
}

fn key(text: &str) -> StateKey {
    StateKey::Cluster(name(text))
}

fn spec(text: &str, size: u32) -> ClusterSpec {
    let sealed = || Sealed::new("sealed");
    ClusterSpec {
        name: name(text),
        size,
        resources: Resources::DEFAULT,
        user: "app".to_owned(),
        secrets: Secrets { user: sealed(), admin: sealed(), replication: sealed() },
        durability: Durability::for_size(size),
        preference: Preference::Consistency,
        backup_id: None,
    }
}

fn offer(id: &str, room: u64) -> Offer {
    Offer {
        id: id.into(),
        agent: format!("agent-{id}").as_str().into(),
        host: format!("host-{id}"),
        resources: Resources::DEFAULT.times(room),
        ports: Ports::new([(31_000, 31_999)]),
        attributes: std::collections::BTreeMap::new(),
        held: Vec::new(),
        maintenance_in_ms: None,
    }
}

/// A fleet with a store in memory that saves what it is told to.
struct Bench {
    fleet: Fleet,
    now: Millis,
    saving: Vec<Checkpoint>,
}

impl Bench {
    fn recover(clusters: Vec<State>, damaged: &[&str]) -> Self {
        let now = Millis(1_000);
        let damaged = damaged.iter().map(|text| name(text)).collect();
        Self { fleet: Fleet::recover(Config::default(), None, clusters, damaged, now), now, saving: Vec::new() }
    }

    fn connected() -> Self {
        Self::recover(Vec::new(), &[]).connect()
    }

    fn connect(mut self) -> Self {
        let bench = &mut self;
        bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
        bench.calls();
        self
    }

    fn create(&mut self, text: &str, size: u32) -> Result<(), CommandError> {
        self.fleet.create(self.now, spec(text, size))
    }

    fn mesos(&mut self, event: MesosEvent) {
        self.fleet.handle(self.now, Input::Mesos(event));
    }

    fn offer(&mut self, offers: &[(&str, u64)]) {
        self.mesos(MesosEvent::Offers(offers.iter().map(|(id, room)| offer(id, *room)).collect()));
    }

    fn status(&mut self, task: &str, state: TaskState) {
        let uuid = Some(format!("{task} {state:?}").into_bytes().into());
        let status = TaskStatus { task: task.into(), agent: Some("a".into()), state, message: String::new(), uuid };
        self.mesos(MesosEvent::Status(status));
    }

    fn report(&mut self, task: &str, role: MemberRole, epoch: u64) {
        let report = Report {
            incarnation: 1,
            seq: self.now.0,
            echo: u64::MAX, // as good as heard of all
            epoch: crate::Epoch(epoch),
            stage: None,
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
        self.mesos(MesosEvent::Message { task: task.into(), data: protocol::encode(&report).into() });
    }

    /// Takes the records to save, which are not saved yet.
    fn begin_saving(&mut self) {
        while let Some(checkpoint) = self.fleet.poll_checkpoint() {
            self.saving.push(checkpoint);
        }
    }

    fn saved(&mut self, key: &StateKey) {
        let at = self.saving.iter().position(|one| one.key() == *key).expect("it is being saved");
        let checkpoint = self.saving.remove(at);
        self.fleet.handle_persisted(self.now, key, checkpoint.revision);
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.fleet.poll_effect()).collect()
    }

    /// Calls to Mesos that are out, without saving anything.
    fn out(&mut self) -> Vec<MesosCall> {
        let calls = self.effects().into_iter();
        calls.filter_map(|effect| if let Effect::Mesos(call) = effect { Some(call) } else { None }).collect()
    }

    /// Saves everything until nothing more comes out; gives the calls to Mesos.
    fn calls(&mut self) -> Vec<MesosCall> {
        let mut calls = Vec::new();
        loop {
            self.begin_saving();
            let keys: Vec<StateKey> = self.saving.iter().map(Checkpoint::key).collect();
            for key in &keys {
                self.saved(key);
            }
            let out = self.out();
            if keys.is_empty() && out.is_empty() {
                return calls;
            }
            calls.extend(out);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        while self.fleet.poll_timeout().is_some_and(|at| at <= self.now) {
            self.fleet.handle_timeout(self.now);
        }
    }
}

fn names(calls: &[MesosCall]) -> Vec<&'static str> {
    calls.iter().map(MesosCall::name).collect()
}

fn launched(calls: &[MesosCall]) -> Vec<(String, Vec<String>)> {
    let tasks = |launches: &[Launch]| launches.iter().map(|one| one.task.to_string()).collect();
    let accept = |call: &MesosCall| {
        let MesosCall::Accept { offer, launches, .. } = call else { return None };
        Some((offer.to_string(), tasks(launches)))
    };
    calls.iter().filter_map(accept).collect()
}

#[test]
fn nothing_leaves_before_the_run_is_numbered() {
    let mut bench = Bench::recover(Vec::new(), &[]);
    assert_eq!(bench.create("a", 1), Err(CommandError::NotConnected));
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    assert_eq!(bench.out(), []);
    bench.begin_saving();
    let Record::Fleet(state) = &bench.saving[0].record else { panic!("the fleet's own record") };
    assert_eq!((state.runs, state.framework.as_ref().map(FrameworkId::as_str)), (1, Some("f")));
    bench.saved(&StateKey::Fleet);
    assert_eq!(names(&bench.out()), ["reconcile", "suppress"]);
    assert_eq!(bench.create("a", 1), Ok(()));
    bench.mesos(MesosEvent::Disconnected);
    assert_eq!(bench.create("b", 1), Ok(()), "known to Mesos once, it takes commands");
}

#[test]
fn nothing_is_done_for_a_paused_cluster() {
    use crate::cluster::levers::Lever;
    let mut bench = Bench::connected();
    assert_eq!(bench.create("a", 1), Ok(()));
    let (now, a) = (bench.now, name("a"));
    bench.fleet.pull(now, &a, Lever::Pause).expect("nothing is under way");
    let paused = Err(CommandError::Paused(a.clone()));
    assert_eq!(bench.fleet.scale(now, &a, 2), paused);
    assert_eq!(bench.fleet.switchover(now, &a, None), paused);
    assert_eq!(bench.fleet.delete(now, &a), paused);
    assert_eq!(bench.fleet.pull(now, &a, Lever::Rebuild(MemberId(0))), paused);
    bench.fleet.pull(now, &a, Lever::Resume).expect("always possible");
    assert_eq!(bench.fleet.delete(now, &a), Ok(()));
    assert_eq!(bench.fleet.pull(now, &a, Lever::Pause), Err(CommandError::Deleting(a.clone())));
    assert_eq!(bench.fleet.pull(now, &name("b"), Lever::Pause), Err(CommandError::NotFound(name("b"))));
}

#[test]
fn names_are_taken_until_the_record_is_gone() {
    let mut bench = Bench::connected();
    assert_eq!(bench.create("a", 1), Ok(()));
    assert_eq!(bench.create("a", 2), Err(CommandError::Exists(name("a"))));
    bench.calls();
    bench.offer(&[("o", 9)]);
    assert_eq!(launched(&bench.calls()), [("o".to_owned(), vec!["mysos-a-0".to_owned()])]);
    assert_eq!(bench.fleet.delete(bench.now, &name("a")), Ok(()));
    assert_eq!(bench.fleet.delete(bench.now, &name("a")), Ok(()));
    assert_eq!(bench.fleet.scale(bench.now, &name("a"), 2), Err(CommandError::Deleting(name("a"))));
    assert_eq!(names(&bench.calls()), ["kill"]);
    bench.status("mysos-a-0", TaskState::Killed);
    bench.calls();
    assert_eq!(bench.create("a", 1), Err(CommandError::Deleting(name("a"))));
    bench.fleet.handle(bench.now, Input::Withdrawn(name("a")));
    bench.begin_saving();
    assert!(matches!(&bench.saving[0].record, Record::Gone(gone) if *gone == name("a")));
    assert_eq!(bench.create("a", 1), Err(CommandError::Deleting(name("a"))), "the removal may fail");
    bench.fleet.handle_not_persisted(&key("a"));
    bench.saving.clear();
    bench.begin_saving();
    bench.saved(&key("a"));
    assert_eq!(bench.fleet.delete(bench.now, &name("a")), Err(CommandError::NotFound(name("a"))));
    assert_eq!(bench.create("a", 1), Ok(()));
    bench.calls();
    bench.offer(&[("p", 9)]);
    assert_eq!(launched(&bench.calls()), [("p".to_owned(), vec!["mysos-a-1".to_owned()])], "no task id twice");
}

#[test]
fn task_ids_are_ruled_out_durably_before_a_cluster_is_out_of_sight() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.calls();
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    bench.status("mysos-a-0", TaskState::Killed);
    bench.begin_saving();
    bench.saved(&key("a"));
    assert!(!bench.effects().contains(&Effect::Withdraw(name("a"))));
    bench.saved(&StateKey::Fleet);
    assert!(bench.effects().contains(&Effect::Withdraw(name("a"))));
}

#[test]
fn first_come_first_served() {
    let mut bench = Bench::connected();
    for cluster in ["z", "a"] {
        bench.create(cluster, 1).expect("a new name");
    }
    bench.calls();
    bench.offer(&[("o", 1)]);
    assert_eq!(launched(&bench.calls()), [("o".to_owned(), vec!["mysos-z-0".to_owned()])]);
    let view = bench.fleet.view(bench.now, &name("a")).expect("it exists");
    assert_eq!(view.reasons.last().map(|reason| reason.code.name()), Some("not_placed"));
    let refusals: Vec<_> = view.refusals.iter().map(|offer| (offer.agent.as_str(), offer.code)).collect();
    assert_eq!(refusals, [("agent-o", "too_little_cpus")], "{:?}", view.refusals);
    bench.offer(&[("p", 1)]);
    assert_eq!(launched(&bench.calls()), [("p".to_owned(), vec!["mysos-a-0".to_owned()])]);
    assert!(bench.fleet.view(bench.now, &name("a")).expect("it exists").refusals.is_empty());
}

/// A store that takes nothing must not keep agents from everybody else.
#[test]
fn an_offer_is_given_back_when_nothing_becomes_durable() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.create("b", 1).expect("a new name");
    bench.begin_saving(); // and it stays that way
    bench.offer(&[("o1", 2)]);
    assert!(!names(&bench.out()).contains(&"decline"));
    bench.pass(9_000);
    assert!(!names(&bench.out()).contains(&"decline"), "it may be ready in a moment");
    bench.pass(1_000);
    assert!(names(&bench.out()).contains(&"decline"));
}

#[test]
fn an_offer_is_accepted_once_for_all_that_were_placed_on_it() {
    let mut bench = Bench::connected();
    for cluster in ["a", "b", "c"] {
        bench.create(cluster, 1).expect("a new name");
    }
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.begin_saving();
    bench.saved(&key("b"));
    assert_eq!(launched(&bench.out()), [], "the others may be ready in a moment");
    bench.saved(&key("a"));
    bench.pass(900);
    assert_eq!(launched(&bench.out()), []);
    bench.saved(&key("c"));
    let tasks = ["mysos-b-0", "mysos-a-0", "mysos-c-0"].map(str::to_owned).to_vec();
    assert_eq!(launched(&bench.out()), [("o".to_owned(), tasks)]);
}

#[test]
fn a_slow_record_holds_up_the_others_for_a_moment_only() {
    let mut bench = Bench::connected();
    for cluster in ["a", "b"] {
        bench.create(cluster, 1).expect("a new name");
    }
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.begin_saving();
    bench.pass(8_000);
    assert_eq!(launched(&bench.out()), [], "while none is ready, the offer is kept for a while");
    bench.saved(&key("b"));
    bench.out();
    bench.pass(1_000);
    assert_eq!(launched(&bench.out()), [("o".to_owned(), vec!["mysos-b-0".to_owned()])]);
    bench.saved(&key("a"));
    assert_eq!(launched(&bench.out()), [("o".to_owned(), vec!["mysos-a-0".to_owned()])], "Mesos will drop it");
    bench.status("mysos-a-0", TaskState::Dropped);
    assert!(names(&bench.calls()).contains(&"revive"));
    bench.offer(&[("p", 9)]);
    assert_eq!(launched(&bench.calls()), [("p".to_owned(), vec!["mysos-a-1".to_owned()])]);
}

#[test]
fn a_launch_does_not_follow_its_kill() {
    let mut bench = Bench::connected();
    for cluster in ["a", "b"] {
        bench.create(cluster, 1).expect("a new name");
    }
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.begin_saving();
    bench.saved(&key("a"));
    assert_eq!(launched(&bench.out()), []);
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    bench.begin_saving();
    bench.saved(&key("a"));
    assert_eq!(names(&bench.out()), ["kill"]);
    bench.saved(&key("b"));
    assert_eq!(launched(&bench.out()), [("o".to_owned(), vec!["mysos-b-0".to_owned()])]);
    assert!(bench.fleet.delete(bench.now, &name("b")).is_ok());
}

#[test]
fn offers_are_asked_for_only_while_somebody_wants_them() {
    let mut bench = Bench::connected();
    bench.offer(&[("o", 9), ("p", 9)]);
    let declined = bench.calls();
    assert!(
        matches!(&declined[..], [MesosCall::Decline { offers, filter_ms: 3_600_000 }] if offers.len() == 2),
        "{declined:?}"
    );
    bench.create("a", 2).expect("a new name");
    assert_eq!(names(&bench.calls()), ["revive"], "which forgets that");
    bench.offer(&[("o", 9), ("q", 0)]);
    let calls = bench.calls();
    assert!(matches!(calls[0], MesosCall::Decline { filter_ms: 5_000, .. }), "more is wanted: {calls:?}");
    assert_eq!(launched(&calls).len(), 1);
    bench.offer(&[("p", 9)]);
    assert_eq!(names(&bench.calls()), ["suppress", "accept"]);
    bench.fleet.scale(bench.now, &name("a"), 3).expect("in bounds");
    let early = bench.calls();
    bench.pass(200);
    let later = bench.calls();
    assert_eq!([names(&early), names(&later)].concat(), ["revive"], "not too often");
    let counters = Counters { resource_offers: 5, offers_unused: 3, tasks_launched: 2, ..Counters::default() };
    assert_eq!(*bench.fleet.counters(), counters);
}

#[test]
fn news_is_acknowledged_when_what_follows_from_it_is_durable() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.calls();
    bench.status("mysos-a-0", TaskState::Running);
    assert_eq!(names(&bench.out()), ["acknowledge"], "changes nothing that is kept");
    bench.status("mysos-a-0", TaskState::Failed);
    assert_eq!(bench.out(), []);
    bench.begin_saving();
    assert_eq!(bench.out(), []);
    bench.fleet.handle_not_persisted(&key("a"));
    bench.saving.clear();
    bench.begin_saving();
    bench.saved(&key("a"));
    assert_eq!(names(&bench.out()), ["acknowledge"]);
    bench.status("mysos-a-0", TaskState::Failed);
    assert_eq!(names(&bench.calls()), ["acknowledge"], "repeated news of what is gone");
}

/// A store may finish two that are under way in any order, and the older must not be the last.
#[test]
fn one_record_of_the_fleet_is_saved_at_a_time() {
    let mut bench = Bench::connected();
    for text in ["a", "b"] {
        bench.create(text, 1).expect("a new cluster");
    }
    bench.calls();
    bench.offer(&[("o0", 1), ("o1", 1)]);
    bench.calls();
    let fleets = |bench: &Bench| bench.saving.iter().filter(|one| one.key() == StateKey::Fleet).count();
    for text in ["a", "b"] {
        bench.fleet.delete(bench.now, &name(text)).expect("it is there");
        bench.begin_saving();
        assert_eq!(fleets(&bench), 1);
    }
    bench.fleet.handle_not_persisted(&StateKey::Fleet);
    bench.saving.retain(|one| one.key() != StateKey::Fleet);
    bench.begin_saving();
    assert_eq!(fleets(&bench), 1, "with both");
    bench.saved(&StateKey::Fleet);
    bench.begin_saving();
    assert_eq!(fleets(&bench), 0);
}

#[test]
fn a_task_whose_agent_cannot_be_reached_is_lost_once() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new cluster");
    bench.calls();
    bench.offer(&[("o", 1)]);
    bench.calls();
    for (state, lost) in [
        (TaskState::Running, 0),
        (TaskState::Unreachable, 1),
        (TaskState::Unreachable, 1),
        (TaskState::Running, 1),
        (TaskState::Unreachable, 2),
        (TaskState::Gone, 2),
    ] {
        bench.status("mysos-a-0", state);
        assert_eq!(bench.fleet.counters().tasks_lost, lost, "{state:?}");
    }
}

#[test]
fn tasks_are_asked_after_until_all_have_answered() {
    let mut bench = Bench::connected();
    bench.create("a", 2).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9), ("p", 9)]);
    bench.calls();
    bench.mesos(MesosEvent::Disconnected);
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    let asked = |calls: &[MesosCall]| {
        let tasks = |call: &MesosCall| if let MesosCall::Reconcile(tasks) = call { Some(tasks.len()) } else { None };
        calls.iter().filter_map(tasks).collect::<Vec<_>>()
    };
    bench.pass(0);
    assert_eq!(asked(&bench.calls()), [2, 0], "each by name, and then all that there may be");
    bench.status("mysos-a-0", TaskState::Running);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let before = bench.now;
        while bench.calls().iter().all(|call| call.name() != "reconcile") {
            bench.pass(500);
        }
        waits.push(bench.now.since(before) / 1_000);
    }
    assert_eq!(waits, [2, 4, 8, 16, 30], "less and less often");
    bench.status("mysos-a-1", TaskState::Unreachable);
    bench.calls();
    bench.pass(120_000);
    assert_eq!(asked(&bench.calls()), Vec::<usize>::new());
    bench.pass(3_600_000);
    assert_eq!(asked(&bench.calls()), [0]);
}

#[test]
fn a_launch_that_nobody_speaks_of_is_asked_after() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9)]);
    assert_eq!(names(&bench.calls()), ["suppress", "accept"]);
    bench.pass(9_000);
    assert_eq!(bench.calls(), []);
    bench.pass(1_000);
    assert_eq!(names(&bench.calls()), ["reconcile"]);
    bench.status("mysos-a-0", TaskState::Lost);
    bench.calls();
    bench.pass(1_000);
    bench.offer(&[("p", 9)]);
    assert_eq!(launched(&bench.calls()).len(), 1, "it never arrived: another one");
}

#[test]
fn fifty_at_once_are_all_placed() {
    let mut bench = Bench::connected();
    for number in 0..50 {
        bench.create(&format!("c{number}"), 3).expect("a new name");
    }
    bench.calls();
    let ids: Vec<String> = (0..10).map(|number| format!("o{number}")).collect();
    let offers: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 15)).collect();
    bench.offer(&offers);
    let accepts = launched(&bench.calls());
    assert_eq!(accepts.iter().map(|(_, tasks)| tasks.len()).sum::<usize>(), 150);
    assert_eq!(accepts.iter().map(|(offer, _)| offer).collect::<BTreeSet<_>>().len(), accepts.len(), "each offer once");
    assert_eq!(bench.fleet.clusters().map(|cluster| cluster.name().to_string()).nth(10), Some("c10".to_owned()));
}

#[test]
fn messages_reach_their_cluster_and_garbage_nobody() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.calls();
    bench.report("mysos-a-0", MemberRole::Idle, 0);
    let calls = bench.calls();
    let MesosCall::Message { task, agent, .. } = &calls[0] else { panic!("promoted: {calls:?}") };
    assert_eq!((task, agent.as_str()), (&TaskId::from("mysos-a-0"), "agent-o"));
    bench.report("mysos-b-0", MemberRole::Idle, 0);
    bench.report("other", MemberRole::Idle, 0);
    for garbage in [&b""[..], b"{", b"\xff\xfe", br#"{"version":99}"#, &vec![b' '; 2_000_000]] {
        bench.mesos(MesosEvent::Message { task: "mysos-a-0".into(), data: garbage.to_vec().into() });
    }
    assert_eq!(bench.calls(), []);
    assert_eq!(bench.fleet.counters().messages_malformed, 5);
}

#[test]
fn clusters_are_saved_apart() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.create("b", 1).expect("a new name");
    bench.begin_saving();
    bench.fleet.scale(bench.now, &name("b"), 2).expect("in bounds");
    let before = bench.saving.len();
    bench.begin_saving();
    assert_eq!(bench.saving.len(), before, "one save of a cluster at a time");
    bench.saved(&key("b"));
    bench.begin_saving();
    let Record::Cluster(state) = &bench.saving.last().expect("the next").record else { panic!("b again") };
    assert_eq!((state.spec.size, state.next_member), (2, MemberId(0)));
}

#[test]
fn a_restored_record_may_share_its_place_in_the_order() {
    let states = ["a", "b"].map(|text| State::new(spec(text, 1), 7, MemberId(0)));
    let mut bench = Bench::recover(states.to_vec(), &[]);
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    bench.calls();
    bench.offer(&[("o", 9)]);
    assert_eq!(launched(&bench.calls())[0].1.len(), 2, "nobody is forgotten");
}
