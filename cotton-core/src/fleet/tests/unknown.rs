//! Tasks that no record accounts for.

use super::super::WhyUnknown;
use super::*;
use crate::Sealed;
use crate::account::Accounts;
use std::collections::BTreeMap;

fn unknown(bench: &Bench) -> Vec<(String, WhyUnknown)> {
    bench.fleet.unknown().map(|found| (found.task.to_string(), found.why)).collect()
}

/// A cluster of one member, open for writes.
fn open() -> Bench {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 9)]);
    bench.calls();
    bench.status("mysos-a-0", TaskState::Running);
    bench.report("mysos-a-0", MemberRole::Idle, 0);
    bench.calls();
    bench.now = bench.now.after(1);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.calls();
    bench
}

fn state(bench: &Bench) -> State {
    bench.fleet.cluster(&name("a")).expect("it exists").state().clone()
}

#[test]
fn tasks_of_clusters_that_are_not_known_are_left_alone_and_listed() {
    let mut bench = Bench::recover(Vec::new(), &["d"]);
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    bench.calls();
    for task in ["mysos-x-0", "nonsense", "mysos-d-0"] {
        bench.status(task, TaskState::Running);
        assert!(!names(&bench.calls()).contains(&"kill"));
    }
    let found = [
        ("mysos-d-0".to_owned(), WhyUnknown::Damaged),
        ("mysos-x-0".to_owned(), WhyUnknown::NoRecord),
        ("nonsense".to_owned(), WhyUnknown::Foreign),
    ];
    assert_eq!(unknown(&bench), found);
    assert_eq!(bench.create("x", 1), Err(CommandError::Unknown(name("x"))), "its members would pass for the new one's");
    bench.status("mysos-x-0", TaskState::Killed);
    assert_eq!(unknown(&bench).len(), 2);
    assert_eq!(bench.create("x", 1), Ok(()));
    assert_eq!(bench.create("d", 1), Err(CommandError::Damaged(name("d"))));
    assert_eq!(bench.fleet.delete(bench.now, &name("d")), Err(CommandError::Damaged(name("d"))));
    assert_eq!(bench.fleet.scale(bench.now, &name("d"), 2), Err(CommandError::Damaged(name("d"))));
    assert_eq!(bench.fleet.delete(bench.now, &name("e")), Err(CommandError::NotFound(name("e"))));
}

#[test]
fn tasks_of_clusters_that_were_deleted_are_killed() {
    let mut bench = open();
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    bench.calls();
    bench.status("mysos-a-0", TaskState::Gone);
    bench.calls();
    bench.fleet.handle(bench.now, Input::Withdrawn(name("a")));
    bench.calls();
    bench.status("mysos-a-0", TaskState::Running); // it was not gone, after all
    assert_eq!(names(&bench.calls()), ["acknowledge", "message", "kill"]);
    bench.status("mysos-a-1", TaskState::Running);
    assert!(!names(&bench.calls()).contains(&"kill"), "it cannot have been that one's");
}

/// A record that was restored from a copy of yesterday.
#[test]
fn tasks_that_are_newer_than_the_record_are_left_alone_and_nothing_is_killed() {
    let mut old = state(&open());
    old.next_member = MemberId(1);
    let mut bench = Bench::recover(vec![old], &[]).connect();
    for task in ["mysos-a-1", "mysos-a-0-r1"] {
        bench.status(task, TaskState::Running);
        assert!(!names(&bench.calls()).contains(&"kill"), "{task}");
    }
    assert!(unknown(&bench).iter().all(|(_, why)| *why == WhyUnknown::Newer) && unknown(&bench).len() == 2);
    assert!(state(&bench).outdated);
    bench.offer(&[("p", 9)]);
    assert_eq!(launched(&bench.calls()), [], "and nothing is made");
}

/// Mesos said that it was gone, and it was not: the member was replaced, or is not yet.
#[test]
fn tasks_of_members_that_were_given_up_are_killed_when_their_data_is_elsewhere() {
    let mut bench = Bench::connected();
    bench.create("a", 2).expect("a new name");
    bench.calls();
    bench.offer(&[("o", 1), ("p", 1)]);
    bench.calls();
    for (at, role) in [(1, MemberRole::Idle), (2, MemberRole::Primary)] {
        bench.now = Millis(1_000 + at);
        bench.report("mysos-a-0", role, at - 1);
        bench.calls();
    }
    let follows = MemberRole::Following { connected: true };
    bench.report("mysos-a-1", follows.clone(), 1);
    bench.calls();
    bench.status("mysos-a-1", TaskState::Gone);
    bench.calls();
    bench.status("mysos-a-1", TaskState::Running);
    assert_eq!(names(&bench.calls()), ["acknowledge"]);
    assert_eq!(unknown(&bench), [("mysos-a-1".to_owned(), WhyUnknown::GivenUp)]);
    bench.offer(&[("q", 1)]);
    bench.calls();
    bench.status("mysos-a-2", TaskState::Running);
    assert!(!names(&bench.calls()).contains(&"kill"), "it is empty");
    bench.now = bench.now.after(1_000);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.report("mysos-a-2", follows.clone(), 1);
    bench.calls();
    bench.now = bench.now.after(1_000);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.report("mysos-a-2", follows, 1);
    assert!(names(&bench.calls()).contains(&"kill"), "it is complete");
    assert_eq!(unknown(&bench), []);
}

#[test]
fn a_master_that_has_lost_its_registry_makes_nobody_forget_anybody() {
    let mut bench = open();
    bench.mesos(MesosEvent::Disconnected);
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    bench.calls();
    bench.status("mysos-a-0", TaskState::Unknown);
    bench.calls();
    assert_eq!(state(&bench).members.len(), 1);
    let asked = |calls: &[MesosCall]| calls.iter().any(|call| matches!(call, MesosCall::Reconcile(t) if t.len() == 1));
    let mut again = false;
    for _ in 0..60 {
        bench.pass(1_000);
        again |= asked(&bench.calls());
    }
    assert!(again, "until there is an answer");
    bench.status("mysos-a-0", TaskState::Running); // its agent has registered
    bench.calls();
    assert_eq!(state(&bench).members.len(), 1);
    // An agent that has not registered for long will not any more.
    bench.pass(600_000);
    bench.status("mysos-a-0", TaskState::Unknown);
    bench.calls();
    assert_eq!(state(&bench).members.len(), 0);
}

/// "Restore or remove the damaged record": if it is removed, tasks and volumes of that cluster may be anywhere.
#[test]
fn numbers_of_a_damaged_cluster_are_not_used_again() {
    let mut bench = Bench::recover(Vec::new(), &["d"]).connect();
    bench.begin_saving();
    let stored = bench.fleet.state.clone();
    assert!(stored.first_member >= MemberId(1_000));
    // ... and not skipped again at each start
    let fleet = |stored| Fleet::recover(Config::default(), Some(stored), Vec::new(), [name("d")].into(), Millis(0));
    assert_eq!(fleet(stored.clone()).state.first_member, stored.first_member);
    // removed by a person
    let fleet = Fleet::recover(Config::default(), Some(stored), Vec::new(), BTreeSet::new(), Millis(1_000));
    let mut bench = Bench { fleet, now: Millis(1_000), saving: Vec::new() }.connect();
    bench.create("d", 1).expect("it can be made");
    bench.calls();
    bench.offer(&[("o", 9)]);
    assert_eq!(launched(&bench.calls())[0].1, ["mysos-d-1000"]);
    bench.status("mysos-d-3", TaskState::Running);
    assert!(!names(&bench.calls()).contains(&"kill"), "it is another one's");
    assert_eq!(unknown(&bench), [("mysos-d-3".to_owned(), WhyUnknown::NoRecord)]);
}

/// What the executor of a member says that it was launched to run.
fn identify(bench: &mut Bench, cluster: &str, member: u64) {
    let spec = spec(cluster, 3);
    let identity = protocol::MemberTask {
        cluster: name(cluster),
        number: 1,
        member: MemberId(member),
        endpoint: crate::Endpoint::new(format!("host-{member}"), 31_000),
        resources: spec.task_resources(),
        user: "jane".to_owned(),
        secrets: spec.secrets,
        durability: spec.durability,
        backup_id: None,
        has_data: false,
    };
    let told = || Accounts {
        revision: 3,
        user: Some(Sealed::new("rotated")),
        others: BTreeMap::from([("dropped".to_owned(), None)]),
    };
    let accounts = (member == 5).then(told); // the primary
    let data = protocol::encode(&protocol::Identity { identity, accounts }).into();
    let task = TaskId::of(&name(cluster), MemberId(member), 0);
    bench.mesos(MesosEvent::Message { task, data });
}

/// Three tasks of which there is no record, and what they have said; member 5 is primary.
fn without_record() -> Bench {
    let mut bench = Bench::connected();
    for member in 4..7 {
        bench.status(&format!("mysos-x-{member}"), TaskState::Running);
        let asked = |call: &MesosCall| {
            let MesosCall::Message { data, .. } = call else { return false };
            matches!(protocol::decode(data), Ok(protocol::Question::Identify))
        };
        assert!(bench.calls().iter().any(asked), "it is asked what it is");
    }
    let follows = MemberRole::Following { connected: true };
    bench.report("mysos-x-4", follows.clone(), 7);
    bench.report("mysos-x-5", MemberRole::Primary, 7);
    bench.report("mysos-x-6", follows, 7);
    bench.calls();
    bench
}

#[test]
fn a_cluster_is_adopted_with_its_primary() {
    let mut bench = without_record();
    let x = name("x");
    identify(&mut bench, "x", 4);
    identify(&mut bench, "x", 5);
    let refused = bench.fleet.adopt(bench.now, &x);
    assert!(matches!(refused, Err(CommandError::NotIdentified { tasks, .. }) if tasks == ["mysos-x-6".into()]));
    assert_eq!(names(&bench.calls()), ["message"], "it is asked again");
    identify(&mut bench, "x", 6);
    let known = bench.fleet.unknown_spec(&x).expect("it is told");
    assert_eq!((known.user.as_str(), known.secrets.user), ("jane", Sealed::new("rotated")), "what was in force last");
    assert_eq!(bench.fleet.adopt(bench.now, &x), Ok(()));
    assert_eq!(bench.out(), [], "not before that is durable");
    assert!(!names(&bench.calls()).contains(&"kill"));
    bench.now = bench.now.after(1);
    let follows = MemberRole::Following { connected: true };
    for (member, role) in [(4, follows.clone()), (5, MemberRole::Primary), (6, follows)] {
        bench.report(&format!("mysos-x-{member}"), role, 7);
    }
    bench.calls();
    let view = bench.fleet.view(bench.now, &x).expect("it is there");
    assert_eq!((view.primary, view.epoch.0, view.size), (Some(MemberId(5)), 7, 3));
    assert!(view.reasons.is_empty(), "{:?}", view.reasons);
    let adopted = bench.fleet.cluster(&x).expect("it is there").state().clone();
    assert_eq!((adopted.next_member, adopted.first_member, adopted.outdated), (MemberId(1_006), MemberId(4), false));
    assert_eq!(adopted.ackers.iter().map(|acker| acker.member.0).collect::<Vec<_>>(), [4, 6]);
    let accounts: Vec<_> = adopted.accounts.keys().map(String::as_str).collect();
    assert_eq!((adopted.accounts_revision, accounts), (3, vec!["dropped"]), "later changes count on from there");
    assert_eq!(adopted.spec.secrets.user, Sealed::new("rotated"));
    assert_eq!(unknown(&bench), []);
    assert_eq!(bench.fleet.adopt(bench.now, &x), Err(CommandError::NotFound(x)), "once");
}

#[test]
fn an_adopted_cluster_without_a_primary_elects_only_when_all_are_frozen() {
    let mut bench = without_record();
    let x = name("x");
    bench.now = bench.now.after(1);
    bench.report("mysos-x-5", MemberRole::Idle, 7);
    for member in 4..7 {
        identify(&mut bench, "x", member);
    }
    assert_eq!(bench.fleet.adopt(bench.now, &x), Ok(()));
    bench.calls();
    bench.now = bench.now.after(1);
    for member in [4, 6] {
        bench.report(&format!("mysos-x-{member}"), MemberRole::Frozen, 8);
    }
    bench.calls();
    let state = |bench: &Bench| bench.fleet.cluster(&x).expect("it is there").state().clone();
    assert_eq!((state(&bench).epoch.0, state(&bench).primary, state(&bench).outdated), (8, None, true));
    bench.report("mysos-x-5", MemberRole::Frozen, 8);
    bench.calls();
    assert!(state(&bench).primary.is_some());
}

#[test]
fn tasks_are_added_to_an_older_record() {
    let mut bench = Bench::recover(vec![state(&open())], &[]).connect();
    bench.status("mysos-a-1", TaskState::Running);
    identify(&mut bench, "a", 1);
    bench.report("mysos-a-1", MemberRole::Following { connected: true }, 1);
    bench.calls();
    assert_eq!(bench.fleet.adopt(bench.now, &name("a")), Ok(()));
    let members: Vec<u64> = state(&bench).members.keys().map(|id| id.0).collect();
    assert_eq!((members, state(&bench).next_member, state(&bench).outdated), (vec![0, 1], MemberId(2), true));
    assert!(state(&bench).ackers.iter().any(|acker| acker.member == MemberId(1)), "it may acknowledge");
    assert_eq!(state(&bench).spec.size, 2, "whoever adopts a member wants it");
}

/// A master without its registry says of each task that it does not know it; a member on a volume then rests, although its
/// task runs on.
#[test]
fn a_task_that_was_thought_to_have_ended_and_runs_is_taken_up() {
    let mut record = state(&open());
    for member in record.members.values_mut() {
        (member.volume, member.resting) = (true, true);
    }
    let mut bench = Bench::recover(vec![record], &[]).connect();
    bench.status("mysos-a-0", TaskState::Running);
    assert!(!names(&bench.calls()).contains(&"kill"), "it is the member's own");
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    assert!(!names(&bench.calls()).contains(&"kill"));
    assert!(state(&bench).members[&MemberId(0)].resting, "both may have been under way when it ended");
    let (task, agent) = ("mysos-a-0".into(), Some("a".into()));
    let answer = TaskStatus { task, agent, state: TaskState::Running, message: String::new(), uuid: None };
    bench.mesos(MesosEvent::Status(answer));
    assert!(!names(&bench.calls()).contains(&"kill"));
    assert_eq!(unknown(&bench), []);
    let member = state(&bench).members[&MemberId(0)].clone();
    assert_eq!((member.resting, member.run), (false, 0));
}

#[test]
fn discarded_tasks_end_once_that_is_durable() {
    let mut bench = without_record();
    let x = name("x");
    assert_eq!(bench.fleet.discard(bench.now, &name("y")), Err(CommandError::NotFound(name("y"))));
    assert_eq!(bench.fleet.discard(bench.now, &x), Ok(()));
    assert!(!names(&bench.out()).contains(&"kill"));
    let kills = bench.calls().iter().filter(|call| call.name() == "kill").count();
    assert_eq!((kills, unknown(&bench)), (3, vec![]));
    assert_eq!(bench.create("x", 1), Ok(()));
}
