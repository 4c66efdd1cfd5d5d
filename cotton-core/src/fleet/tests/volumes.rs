//! Whose a volume is that is found in an offer, and what becomes of it.

use super::super::Left;
use super::*;
use crate::VolumeId;
use crate::ports::mesos::{Held, Storage, VolumeOutcome};

fn held(volume: &str, exists: bool) -> Held {
    let ports = Ports::new([(31_500, 31_500)]);
    Held { volume: volume.into(), exists, resources: Resources::DEFAULT, ports }
}

fn with_volumes(clusters: Vec<State>, damaged: &[&str]) -> Bench {
    let damaged = damaged.iter().map(|text| name(text)).collect();
    let config = Config { volumes: true, ..Config::default() };
    let now = Millis(1_000);
    Bench { fleet: Fleet::recover(config, None, clusters, damaged, now), now, saving: Vec::new() }.connect()
}

/// Offers agents, each with so much room and a volume; gives what is accepted: launches with their storage, and releases.
fn offered(bench: &mut Bench, offers: Vec<(&str, u64, Held)>) -> Vec<(String, Vec<String>)> {
    let offers = offers.into_iter().map(|(id, room, held)| Offer { held: vec![held], ..offer(id, room) }).collect();
    bench.mesos(MesosEvent::Offers(offers));
    accepted(&bench.calls())
}

fn accepted(calls: &[MesosCall]) -> Vec<(String, Vec<String>)> {
    let storage = |launch: &Launch| match &launch.storage {
        Storage::Sandbox => format!("{} in its sandbox", launch.task),
        Storage::NewVolume(id) => format!("{} on new {id}", launch.task),
        Storage::Volume(id) => format!("{} on {id}", launch.task),
    };
    let accept = |call: &MesosCall| {
        let MesosCall::Accept { offer, launches, releases, .. } = call else { return None };
        let released = releases.iter().map(|volume| format!("release {volume}"));
        Some((offer.to_string(), launches.iter().map(storage).chain(released).collect()))
    };
    calls.iter().filter_map(accept).collect()
}

/// A cluster of one member with a volume, open for writes.
fn open() -> Bench {
    let mut bench = with_volumes(Vec::new(), &[]);
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.mesos(MesosEvent::Offers(vec![offer("o", 9)]));
    assert_eq!(accepted(&bench.calls()), [("o".to_owned(), vec!["mysos-a-0 on new mysos-a-0".to_owned()])]);
    bench.status("mysos-a-0", TaskState::Running);
    bench.report("mysos-a-0", MemberRole::Idle, 0);
    bench.calls();
    bench.now = bench.now.after(1);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.pass(60_000);
    assert!(names(&bench.calls()).contains(&"suppress"), "nothing was left from before");
    bench
}

fn state(bench: &Bench) -> State {
    bench.fleet.cluster(&name("a")).expect("it exists").state().clone()
}

#[test]
fn a_member_returns_to_its_volume_with_what_else_it_needs() {
    let mut bench = open();
    bench.status("mysos-a-0", TaskState::Failed);
    assert_eq!(names(&bench.calls()), ["revive", "acknowledge"]);
    let small = Held { resources: Resources { cpus_milli: 0, ..Resources::DEFAULT }, ..held("mysos-a-0", true) };
    assert_eq!(offered(&mut bench, vec![("p", 0, small.clone())]), [], "its cpus are not reserved");
    let view = bench.fleet.view(bench.now, &name("a")).expect("it exists");
    let reason = view.reasons.iter().find(|reason| reason.code.name() == "cannot_return").expect("it is told");
    assert!(reason.text.contains("too little cpus: 0 left, 1 wanted"), "{}", reason.text);
    let launched = offered(&mut bench, vec![("q", 1, small)]);
    assert_eq!(launched, [("q".to_owned(), vec!["mysos-a-0-r1 on mysos-a-0".to_owned()])]);
    assert_eq!(state(&bench).members[&MemberId(0)].endpoint.port, 31_000, "clients remember its port");
    bench.status("mysos-a-0", TaskState::Running);
    assert_eq!(names(&bench.calls()), ["message", "kill", "acknowledge"], "of the run before");
    bench.status("mysos-a-0-r1", TaskState::Running);
    assert_eq!(names(&bench.calls()), ["acknowledge"]);
}

#[test]
fn only_volumes_of_members_that_were_given_up_are_destroyed() {
    let stored = state(&open());
    let mut bench = with_volumes(vec![stored], &["b"]);
    for kept in ["mysos-a-0", "mysos-a-1", "mysos-b-0", "mysos-c-0", "else"] {
        assert_eq!(offered(&mut bench, vec![("o", 9, held(kept, true))]), [], "{kept}");
    }
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    bench.calls();
    bench.status("mysos-a-0", TaskState::Killed);
    // Not before its end is durable: a scheduler that starts on the old record would look for it.
    bench.mesos(MesosEvent::Offers(vec![Offer { held: vec![held("mysos-a-0", true)], ..offer("p", 9) }]));
    assert_eq!(accepted(&bench.out()), []);
    bench.calls();
    let given_up = [("q".to_owned(), vec!["release mysos-a-0".to_owned()])];
    assert_eq!(offered(&mut bench, vec![("q", 9, held("mysos-a-0", true))]), given_up);
    // Half of a sequence that failed, and a release that failed, come again.
    let again = [("r".to_owned(), vec!["release mysos-a-0".to_owned()])];
    assert_eq!(offered(&mut bench, vec![("r", 9, held("mysos-a-0", false))]), again);
    bench.fleet.handle(bench.now, Input::Withdrawn(name("a")));
    bench.calls();
    let gone = [("s".to_owned(), vec!["release mysos-a-0".to_owned()])];
    assert_eq!(offered(&mut bench, vec![("s", 9, held("mysos-a-0", true))]), gone, "also without a record");
    assert_eq!(offered(&mut bench, vec![("t", 9, held("mysos-c-1", true))]), [], "it never was deleted");
}

/// It may be the last copy.
#[test]
fn the_volume_of_a_member_that_was_given_up_stays_while_no_primary_is_open() {
    let mut stored = state(&open());
    stored.next_member = MemberId(2); // member 1 was given up
    let mut bench = with_volumes(vec![stored.clone()], &[]);
    assert_eq!(offered(&mut bench, vec![("o", 9, held("mysos-a-1", true))]), [], "nothing is known of the primary");
    bench.now = bench.now.after(1);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.calls();
    let released = [("p".to_owned(), vec!["release mysos-a-1".to_owned()])];
    assert_eq!(offered(&mut bench, vec![("p", 9, held("mysos-a-1", true))]), released);
    bench.pass(10_000); // silent
    assert_eq!(offered(&mut bench, vec![("q", 9, held("mysos-a-1", true))]), []);
    stored.first_member = MemberId(2);
    stored.next_member = MemberId(3);
    let mut bench = with_volumes(vec![stored], &[]);
    bench.now = bench.now.after(1);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.calls();
    assert_eq!(offered(&mut bench, vec![("o", 9, held("mysos-a-1", true))]), [], "it is an earlier cluster's");
}

/// What a person wants removed is judged as what is found in offers.
#[test]
fn what_is_left_is_free_on_durable_facts_only() {
    let mut stored = state(&open());
    stored.next_member = MemberId(4); // of members 1 to 3 nothing is left but data
    stored.kept = [MemberId(3)].into();
    let mut bench = with_volumes(vec![stored], &["b"]);
    let left = |bench: &Bench, cluster: &str, member| bench.fleet.left(bench.now, &name(cluster), MemberId(member));
    assert_eq!(left(&bench, "a", 1), Left::Awaited, "nothing is known of the primary");
    bench.now = bench.now.after(1);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    bench.calls();
    let of_a = [0, 1, 3, 4].map(|member| left(&bench, "a", member));
    assert_eq!(of_a, [Left::Member, Left::GivenUp, Left::Kept, Left::Newer]);
    assert_eq!([left(&bench, "b", 0), left(&bench, "c", 0)], [Left::Damaged, Left::NoRecord]);
    assert_eq!(bench.fleet.leftover_volumes().kept, [VolumeId::from("mysos-a-3")]);
    bench.pass(10_000); // silent
    assert_eq!(left(&bench, "a", 1), Left::Awaited);
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    assert_eq!(left(&bench, "a", 1), Left::NotSaved);
    bench.calls();
    assert_eq!([0, 1, 4].map(|member| left(&bench, "a", member)), [Left::Member, Left::Deleted, Left::Newer]);
    bench.status("mysos-a-0", TaskState::Killed);
    bench.calls();
    bench.fleet.handle(bench.now, Input::Withdrawn(name("a")));
    bench.calls();
    let gone = [0, 3, 4].map(|member| left(&bench, "a", member));
    assert_eq!(gone, [Left::Deleted, Left::Deleted, Left::NoRecord]);
    let kept: Vec<Left> = gone.into_iter().chain(of_a).filter(|left| left.is_free()).collect();
    assert_eq!(kept, [Left::Deleted, Left::Deleted, Left::GivenUp]);
}

#[test]
fn a_person_can_have_leftovers_looked_for() {
    let mut bench = open();
    bench.fleet.release_leftovers(bench.now);
    assert_eq!(names(&bench.calls()), ["revive"]);
    bench.pass(60_000);
    bench.report("mysos-a-0", MemberRole::Primary, 1);
    assert!(names(&bench.calls()).contains(&"suppress"), "and not for ever");
}

#[test]
fn offers_are_asked_for_until_the_volume_is_released() {
    let mut bench = open();
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    bench.calls();
    bench.status("mysos-a-0", TaskState::Killed);
    assert!(names(&bench.calls()).contains(&"revive"));
    let failed = VolumeOutcome::Failed { reason: "x".to_owned() };
    bench.mesos(MesosEvent::Volume { volume: VolumeId::from("mysos-a-0"), outcome: failed });
    assert_eq!(names(&bench.calls()), Vec::<&str>::new());
    bench.mesos(MesosEvent::Volume { volume: VolumeId::from("mysos-a-0"), outcome: VolumeOutcome::Released });
    assert_eq!(names(&bench.calls()), ["suppress"]);
}

#[test]
fn an_offer_whose_launch_never_comes_is_given_back() {
    let mut bench = with_volumes(Vec::new(), &[]);
    bench.create("a", 1).expect("a new name");
    bench.calls();
    bench.mesos(MesosEvent::Offers(vec![offer("o", 9)]));
    bench.fleet.delete(bench.now, &name("a")).expect("it exists");
    let calls = bench.calls();
    assert_eq!(accepted(&calls), [], "it was not durable when it was deleted");
    assert!(names(&calls).contains(&"decline"));
}
