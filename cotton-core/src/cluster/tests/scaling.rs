//! More members, fewer members, and members that must be replaced.

use super::world::{World, status};
use crate::cluster::Leaving;
use crate::cluster::event::EventKind;
use crate::ports::mesos::TaskState;
use crate::protocol::{Stage, Trouble};
use crate::{Limits, MemberId, SpecError};

fn scale(world: &mut World, size: u64) {
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), size), Ok(()));
}

fn ids(world: &World) -> Vec<u64> {
    world.cluster.state().members.keys().map(|id| id.0).collect()
}

#[test]
fn more_members_come_and_copy_from_replicas_first() {
    let mut world = World::running(3);
    scale(&mut world, 5);
    assert_eq!(world.cluster.wanted().map(|wanted| (wanted.count, wanted.first)), Some((2, MemberId(3))));
    world.settle();
    world.check_whole();
    assert_eq!(ids(&world), [0, 1, 2, 3, 4]);
}

#[test]
fn fewer_members_are_detached_before_they_are_killed() {
    let mut world = World::running(3);
    scale(&mut world, 2);
    assert_eq!(
        world.decided(),
        ["detach 2 in 1", "publish 1 primary 0 members 0 1", "ask 0"],
        "clients are told, and it may still hold what nobody else has"
    );
    world.obey_all();
    world.hear_all();
    assert_eq!(world.toys[&MemberId(2)].rank.map(|(_, stage)| stage), Some(Stage::Detach));
    assert_eq!(world.wanted(), ["ask 0"]);
    world.obey_all();
    world.say(MemberId(1));
    world.hear_all();
    assert_eq!(world.decided(), ["kill 2"]);
    world.settle();
    assert_eq!(ids(&world), [0, 1]);
    world.check_whole();
}

#[test]
fn one_that_does_not_detach_is_killed_in_the_end() {
    let mut world = World::running(3);
    scale(&mut world, 2);
    world.persist();
    world.effects();
    world.down.clear();
    for _ in 0..9 {
        world.pass(1_000);
        world.persist();
        assert!(world.effects().iter().all(|words| ["detach 2 in 1", "ask 0"].contains(&words.as_str())));
        world.down.clear();
    }
    world.pass(1_100);
    assert!(!world.effects().contains(&"kill 2".to_owned()), "the primary is silent: nobody is spared now");
    world.say(MemberId(0));
    world.hear_all();
    assert_eq!(world.effects(), ["ask 0"], "that may be its last word from before");
    world.obey_all();
    world.hear_all();
    assert!(world.effects().contains(&"kill 2".to_owned()));
    world.settle();
    world.check_whole();
}

/// It answered when the member was to leave, and has been asked nothing since.
#[test]
fn an_answer_of_the_primary_lets_nobody_be_killed_much_later() {
    let mut world = World::running(3);
    scale(&mut world, 2);
    world.persist();
    world.effects();
    world.down.retain(|(id, _)| *id == MemberId(0)); // the order to detach gets lost, each time
    world.obey_all();
    world.hear_all();
    for _ in 0..12 {
        world.persist();
        let words = world.effects();
        assert!(!words.contains(&"kill 2".to_owned()), "its answer is old: {words:?}");
        world.down.clear(); // so do questions
        world.say(MemberId(0));
        world.hear_all();
        world.pass(1_000);
    }
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all();
    assert!(world.wanted().contains(&"kill 2".to_owned()), "asked again, it answers");
    world.settle();
    world.check_whole();
}

/// It is the only copy then.
#[test]
fn one_that_is_to_leave_when_the_primary_has_just_died_takes_its_place() {
    let mut world = World::running(2);
    world.toy(0).reachable = false; // and nobody knows that yet
    scale(&mut world, 1);
    world.rounds(5);
    assert!(world.toys.contains_key(&MemberId(1)), "it was not killed");
    world.toys.remove(&MemberId(0));
    world.hear(status(MemberId(0), TaskState::Failed));
    world.settle();
    assert_eq!((world.primary(), ids(&world)), (Some(1), vec![1]));
    world.check_whole();
}

#[test]
fn the_primary_never_leaves() {
    let mut world = World::running(3);
    world.crash(0);
    world.settle();
    world.crash(1);
    world.settle();
    let primary = world.primary().expect("a primary");
    scale(&mut world, 5);
    world.settle();
    scale(&mut world, 2);
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(primary));
}

#[test]
fn nobody_leaves_in_an_election_and_one_that_was_leaving_can_win() {
    let mut world = World::running(3);
    world.toy(1).linked = false;
    world.replicate();
    assert!(world.write(), "only member 2 has it");
    scale(&mut world, 2);
    world.persist();
    assert!(world.effects().contains(&"detach 2 in 1".to_owned()));
    world.kill(0);
    world.hear_all();
    for _ in 0..30 {
        world.persist();
        assert!(!world.effects().contains(&"kill 2".to_owned()), "it holds the only copy");
        world.obey_all();
        world.pass(1_000);
        world.say(MemberId(2));
        world.hear_all();
        if world.cluster.state().primary.is_some() {
            break;
        }
    }
    world.toy(1).linked = true;
    world.settle();
    world.check_whole();
}

#[test]
fn scaling_waits_for_the_election() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    scale(&mut world, 2);
    assert_eq!(world.cluster.state().staying().count(), 3);
    world.settle();
    assert_eq!(ids(&world).len(), 2);
    world.check_whole();
}

#[test]
fn sizes_are_checked() {
    let mut world = World::running(3);
    for size in [0, 33, u64::MAX] {
        let refused = world.cluster.scale(world.now, &Limits::default(), size);
        assert_eq!(refused, Err(SpecError::Size { given: size, max: 32 }));
    }
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), 1), Err(SpecError::NoReplica));
    let revision = world.cluster.revision();
    scale(&mut world, 3);
    assert_eq!(world.cluster.revision(), revision, "as it is: nothing changes");
}

#[test]
fn an_errant_member_is_replaced() {
    let mut world = World::running(3);
    world.toy(2).data.insert(2, 9);
    world.replicate();
    world.hear_all();
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Trouble { .. })), 0, "not taken out yet");
    world.settle();
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Leaving { .. })), 1);
    assert_eq!(ids(&world), [0, 1, 3]);
    world.check_whole();
}

#[test]
fn an_unstable_member_is_replaced_once_another_is_primary() {
    let mut world = World::running(3);
    let rests = |world: &mut World, member: u64| {
        world.crash(member);
        world.toy(member).trouble = Some(Trouble::Unstable { detail: "it fails".to_owned() });
        world.say(MemberId(member));
    };
    rests(&mut world, 2);
    world.settle();
    assert_eq!(ids(&world), [0, 1, 3]);
    world.check_whole();
    rests(&mut world, 0);
    world.settle();
    assert_eq!(ids(&world), [1, 3, 4], "a former primary too");
    world.check_whole();
}

/// They take no place that others could have, and nobody waits for a copy that they cannot be.
#[test]
fn members_without_their_data_leave_at_once() {
    let mut world = World::running(3);
    for member in [1, 2] {
        world.crash(member);
        world.toy(member).trouble = Some(Trouble::DataGone { detail: "no directory".to_owned() });
        world.say(MemberId(member));
    }
    world.hear_all();
    let leaving = world.cluster.state().members.values().filter(|m| m.leaving == Some(Leaving::DataGone)).count();
    assert_eq!(leaving, 2);
    world.settle();
    assert_eq!((ids(&world), world.cluster.state().epoch.0), (vec![0, 3, 4], 1));
    world.check_whole();

    // while nobody is primary, a person decides: it may be there again
    let mut world = World::running(3);
    world.crash(1);
    world.toy(1).trouble = Some(Trouble::DataGone { detail: "no directory".to_owned() });
    world.kill(0);
    world.kill(2);
    world.say(MemberId(1));
    world.settle();
    assert!(world.cluster.state().members[&MemberId(1)].leaving.is_none(), "{:?}", world.cluster.state());
}

#[test]
fn members_that_cannot_apply_are_replaced_one_after_another() {
    let mut world = World::running(3);
    for member in [1, 2] {
        world.toy(member).trouble = Some(Trouble::Broken { detail: "1032".to_owned() });
        world.say(MemberId(member));
    }
    world.hear_all();
    let leaving = world.cluster.state().members.values().filter(|m| m.leaving.is_some()).count();
    assert_eq!(leaving, 1, "never both at once");
    world.settle();
    assert_eq!(ids(&world), [0, 3, 4]);
    world.check_whole();
}

/// It waits for a complete copy in its place, and the one that cannot apply is in the way of that.
#[test]
fn one_that_cannot_apply_is_replaced_although_another_is_away() {
    let mut world = World::running(4);
    world.toy(2).reachable = false;
    world.hear(status(MemberId(2), TaskState::Unreachable));
    world.toy(3).trouble = Some(Trouble::Broken { detail: "1032".to_owned() });
    world.mended(60);
    assert_eq!(ids(&world), [0, 1, 4, 5], "both are replaced");
    world.settle();
    world.check_whole();
}

#[test]
fn an_unstable_member_stays_while_it_may_have_the_only_copy() {
    let mut world = World::running(1);
    world.crash(0);
    world.toy(0).trouble = Some(Trouble::Unstable { detail: "it fails".to_owned() });
    world.say(MemberId(0));
    world.settle();
    world.pass(600_000);
    assert_eq!((ids(&world), world.logged(|kind| matches!(kind, EventKind::Leaving { .. }))), (vec![0], 0));
    world.restart(0);
    world.settle();
    world.check_whole();
}

#[test]
fn errant_in_an_earlier_epoch_is_not_errant_now() {
    let mut world = World::running(3);
    world.crash(0);
    let toy = world.toy(2);
    toy.trouble = Some(Trouble::Errant { gtids: "some".to_owned() });
    world.say(MemberId(2));
    let late = world.up.pop_back().expect("the report");
    world.settle();
    let leaving = world.logged(|kind| matches!(kind, EventKind::Leaving { .. }));
    world.hear(late);
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Leaving { .. })), leaving);
}

#[test]
fn an_unreachable_member_is_replaced_after_a_while() {
    let mut world = World::running(3);
    world.toy(2).reachable = false;
    world.toy(2).linked = false;
    world.replicate();
    world.hear(status(MemberId(2), TaskState::Unreachable));
    assert!(world.cluster.wanted().is_none(), "unreachable is not dead");
    world.rounds(45);
    assert!(world.toys.contains_key(&MemberId(2)) && world.reasons().contains(&"member_unreachable"));
    world.settle();
    assert_eq!(ids(&world), [0, 1, 3]);
    assert!(!world.toys.contains_key(&MemberId(2)), "killed, once another has a copy");
    world.check_whole();
}

/// Where there is no room for another, it is the only copy beside the primary's.
#[test]
fn one_that_is_back_before_another_took_its_place_stays() {
    for begun in [false, true] {
        let mut world = World::running(2);
        world.toy(1).reachable = false;
        world.hear(status(MemberId(1), TaskState::Unreachable));
        world.rounds(40);
        let gone = world.cluster.state().members[&MemberId(1)].leaving;
        assert_eq!(gone, Some(Leaving::Unreachable));
        if begun {
            world.place();
            assert_eq!(ids(&world), [0, 1, 2]);
        }
        world.hear(status(MemberId(1), TaskState::Running));
        assert!(world.cluster.state().members[&MemberId(1)].is_away(), "its agent is back, but it said nothing yet");
        world.toy(1).reachable = true;
        world.say(MemberId(1));
        world.hear_all();
        world.persist();
        world.effects();
        assert_eq!(world.logged(|kind| matches!(kind, EventKind::TakenBack { .. })), 1);
        world.settle();
        assert_eq!(ids(&world), [0, 1], "another was begun in its place: {begun}");
        assert!(world.logged(|kind| matches!(kind, EventKind::Joined { .. })) == 1, "no copy was made");
        world.check_whole();
    }
}

#[test]
fn one_that_comes_back_in_time_stays() {
    let mut world = World::running(3);
    world.hear(status(MemberId(2), TaskState::Unreachable));
    world.pass(20_000);
    world.say_all();
    world.hear_all();
    world.pass(20_000);
    world.settle();
    assert_eq!(ids(&world), [0, 1, 2]);
    world.check_whole();
}

#[test]
fn no_more_tasks_than_wanted_and_the_one_that_is_replaced() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).reachable = false;
        world.hear(status(MemberId(id), TaskState::Unreachable));
    }
    for _ in 0..35 {
        world.say(MemberId(0));
        world.hear_all();
        world.pass(1_000);
    }
    let wanted = world.cluster.wanted().map(|wanted| wanted.count);
    assert_eq!(wanted, Some(1), "one after another, and when it ends is not up to us");
    // Those that can be reached are replaced one at a time.
    let mut world = World::running(3);
    for member in [1, 2] {
        world.toy(member).data.insert(member, 9); // errant
    }
    world.replicate();
    world.hear_all();
    assert!(world.cluster.wanted().is_none_or(|wanted| wanted.count <= 1), "{:?}", world.cluster.wanted());
}

#[test]
fn what_cannot_be_reached_keeps_no_cluster_from_being_healthy() {
    let mut world = World::running(3);
    world.toy(2).reachable = false;
    world.toy(2).linked = false;
    world.replicate();
    world.hear(status(MemberId(2), TaskState::Unreachable));
    for _ in 0..35 {
        world.say(MemberId(0));
        world.say(MemberId(1));
        world.hear_all();
        world.pass(1_000);
    }
    assert!(world.reasons().contains(&"member_unreachable") && world.reasons().contains(&"member_missing"));
    world.place();
    for _ in 0..8 {
        world.persist();
        world.effects();
        for id in [0, 1, 3] {
            if world.toys.contains_key(&MemberId(id)) {
                world.say(MemberId(id));
            }
        }
        world.hear_all();
        world.obey_all();
        world.replicate();
        world.pass(1_000);
    }
    assert_eq!(world.reasons(), ["member_unreachable"]);
    assert_eq!(world.cluster.view(world.now).status, crate::ClusterStatus::Healthy);
}

#[test]
fn a_launch_that_is_not_heard_of_is_replaced() {
    let mut world = World::running(3);
    scale(&mut world, 4);
    world.place();
    world.persist();
    world.effects();
    world.toys.remove(&MemberId(3));
    world.up.clear();
    for _ in 0..302 {
        world.say_all();
        world.hear_all();
        world.pass(1_000);
        world.persist();
        world.effects();
        world.obey_all();
    }
    world.settle();
    assert_eq!(ids(&world), [0, 1, 2, 4]);
    world.check_whole();
}

#[test]
fn a_restarted_scheduler_does_not_kill_before_it_has_heard_who_has_what() {
    let mut world = World::running(3);
    assert!(world.write());
    world.up.clear();
    world.recover();
    world.say(MemberId(0)); // the primary is heard first
    world.hear_all();
    scale(&mut world, 2);
    let told = world.wanted();
    assert!(!told.iter().any(|words| words.starts_with("kill")), "{told:?}");
    world.settle();
    world.check_whole();
}
