//! Who may have acknowledged what: counted before it can matter, forgotten only when others have it too.

use super::world::{World, status};
use crate::cluster::state::Acker;
use crate::ports::mesos::TaskState;
use crate::protocol::MemberRole;
use crate::{ClusterStatus, MemberId};

fn ackers(world: &World) -> Vec<(u64, u64)> {
    world.cluster.state().ackers.iter().map(|Acker { member, boot, .. }| (member.0, *boot)).collect()
}

#[test]
fn a_replica_that_ended_is_forgotten_when_another_has_what_it_may_have_had() {
    let mut world = World::running(3);
    assert_eq!(ackers(&world), [(1, 1), (2, 1)]);
    world.kill(1);
    world.hear_all();
    assert_eq!(world.decided(), ["ask 0", "publish 1 primary 0 members 0 2"]);
    assert_eq!(ackers(&world), [(1, 1), (2, 1)], "what member 1 acknowledged may be under way to a client");
    world.write();
    world.obey_all();
    world.hear_all();
    assert_eq!(ackers(&world), [(1, 1), (2, 1)], "member 2 has not told yet that it has all that");
    world.replicate();
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(ackers(&world), [(2, 1)]);
    world.settle();
    assert_eq!(ackers(&world), [(2, 1), (3, 1)]);
    world.check_whole();
}

#[test]
fn an_answer_from_before_the_question_is_no_answer() {
    let mut world = World::running(3);
    world.kill(1);
    world.hear_all();
    assert_eq!(world.decided()[0], "ask 0");
    world.say(MemberId(0));
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(ackers(&world), [(1, 1), (2, 1)]);
    world.down.clear(); // the question is lost
    world.pass(1_100);
    assert_eq!(world.wanted(), ["ask 0"], "asked again");
    world.obey_all();
    world.say(MemberId(2));
    world.hear_all();
    assert_eq!(ackers(&world), [(2, 1)]);
}

#[test]
fn a_restarted_replica_counts_twice_until_its_first_start_is_settled() {
    let mut world = World::running(3);
    world.toy(1).crash();
    world.restart(1); // follows again by itself
    world.hear_all();
    assert_eq!(ackers(&world), [(1, 1), (1, 2), (2, 1)]);
    world.settle();
    assert_eq!(ackers(&world), [(1, 2), (2, 1)]);
}

#[test]
fn the_last_acker_is_not_forgotten() {
    let mut world = World::running(3);
    world.kill(1);
    world.kill(2);
    world.hear_all();
    for _ in 0..5 {
        world.persist();
        world.effects();
        world.obey_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(ackers(&world), [(1, 1), (2, 1)]);
    assert!(!world.write(), "nobody is there to acknowledge");
    let view = world.cluster.view(world.now);
    assert_eq!((view.status, view.primary), (ClusterStatus::Blocked, Some(MemberId(0))), "it stays primary");
    assert_eq!(view.reasons[0].code.name(), "waiting_for_ack");
    world.settle();
    assert_eq!(ackers(&world), [(3, 1), (4, 1)]);
    assert!(world.write(), "and goes on by itself");
    world.check_whole();
}

#[test]
fn nobody_follows_before_it_is_counted_durably() {
    let mut world = World::running(3);
    world.kill(1);
    world.settle();
    world.check_whole(); // the world checks every order to follow against the durable state
    let durable = world.durable.clone().expect("saved");
    assert!(durable.ackers.iter().any(|acker| acker.member == MemberId(3)));
}

#[test]
fn the_start_of_a_crashed_primary_counts_until_its_next_one_is_known() {
    let mut world = World::running(3);
    world.crash(0);
    world.settle();
    assert_eq!(ackers(&world), [(0, 2), (2, 1)], "the start that ended is not among them any more");
    assert!(matches!(world.toy(0).role, MemberRole::Following { connected: true }));
}

#[test]
fn asynchronous_clusters_count_nobody() {
    let mut world = World::running(2);
    world.kill(1);
    world.settle();
    assert_eq!(ackers(&world), []);
    world.check_whole();
}

/// Member 1 found that the primary's logs do not reach back, and is being copied from another.
fn copied_over(world: &mut World) {
    world.toy(1).crash();
    world.toy(1).role = MemberRole::Starting;
    world.toy(1).unattached.insert(1);
    world.say(MemberId(1));
    world.hear_all();
}

#[test]
fn a_start_that_never_replicated_is_forgotten_as_soon_as_the_next_one_is_known() {
    let mut world = World::running(3);
    copied_over(&mut world);
    assert_eq!(ackers(&world), [(1, 1), (2, 1)], "it stands for the start that follows by itself after the copy");
    world.toy(1).restart();
    world.say(MemberId(1));
    world.hear_all();
    assert_eq!(ackers(&world), [(1, 2), (2, 1)]);
}

/// A new executor is told to follow before it has started a server. That start 0 counts until the first one is known, and
/// cannot have acknowledged anything.
#[test]
fn what_stood_for_the_first_start_of_an_executor_is_forgotten_with_it() {
    let mut world = World::running(3);
    world.crash(1);
    world.toy(1).incarnation += 1;
    world.toy(1).boot = 0;
    world.say(MemberId(1));
    world.hear_all();
    world.persist();
    assert_eq!(ackers(&world), [(1, 1), (1, 0), (2, 1)]);
    world.restart(1);
    world.hear_all();
    assert_eq!(ackers(&world), [(1, 1), (1, 1), (2, 1)]);
}

#[test]
fn an_election_does_not_wait_for_the_end_of_a_copy() {
    let mut world = World::running(3);
    copied_over(&mut world);
    world.kill_primary();
    world.hear_all();
    world.settle();
    assert_eq!(world.primary(), Some(2), "{:?}", world.reasons());
    world.toy(1).restart(); // the copy ends
    world.say(MemberId(1));
    world.settle();
    world.check_whole();
}

#[test]
fn an_election_waits_for_a_copied_member_that_may_follow_the_old_primary_by_now() {
    let mut world = World::running(3);
    copied_over(&mut world);
    world.toy(1).reachable = false; // its copy may have ended, and it may have acknowledged what member 2 lacks
    world.kill_primary();
    world.hear_all();
    world.settle();
    assert_eq!(world.primary(), None);
    assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
}

/// Such a replica was told nothing in the new epoch, and connects again to whom it followed.
#[test]
fn one_that_was_not_frozen_may_acknowledge_when_its_former_primary_leads_again() {
    let mut world = World::running(3);
    world.toy(2).reachable = false;
    for expected in [3, 5] {
        world.crash(0);
        world.hear_all();
        world.persist();
        world.effects();
        world.recover(); // a scheduler that has never heard of member 2 tells it nothing
        world.restart(0);
        world.toy(1).data.clear(); // so that it is no candidate
        world.rounds(20);
        assert_eq!((world.primary(), world.cluster.state().epoch.0), (Some(0), expected), "{:#?}", world.log);
        assert!(ackers(&world).contains(&(2, 1)), "{:?}", world.cluster.state());
    }
    world.toy(2).reachable = true;
    world.settle();
    assert_eq!(world.cluster.state().strays.len(), 0);
    world.check_whole();
}

/// It could not be asked afterwards whether it has, and the next election would wait for it.
#[test]
fn who_cannot_be_reached_is_told_to_follow_nobody_and_does_not_count() {
    let mut world = World::running(3);
    (world.toy(2).reachable, world.toy(2).linked) = (false, false);
    world.hear(status(MemberId(2), TaskState::Unreachable));
    world.cluster.switchover(world.now, Some(MemberId(1))).expect("it is ready");
    world.rounds(10);
    assert_eq!(world.primary(), Some(1), "{:#?}", world.log);
    assert!(world.write(), "the one that can be reached acknowledges");
    assert_eq!(ackers(&world), [(0, 1)]);
    world.kill(1);
    world.rounds(10);
    assert_eq!(world.primary(), Some(0), "nobody waits for member 2: {:#?}", world.log);
    world.settle();
    world.check_whole();
}
