//! Members whose data outlives their tasks.

use super::world::{World, spec, status};
use crate::cluster::event::EventKind;
use crate::cluster::levers::{AcceptedLoss, Lever, LeverError};
use crate::cluster::state::Leaving;
use crate::cluster::volume::NOTHING_KEPT;
use crate::ports::mesos::TaskState;
use crate::{Limits, MemberId, TaskId};

fn running(size: u32) -> World {
    let mut world = World::new(spec(size));
    world.volumes = true;
    world.settle();
    assert!(world.write(), "{:?}", world.cluster.view(world.now));
    world.settle();
    world.check_whole();
    world
}

fn rests(world: &World, id: u64) -> bool {
    world.cluster.state().members.get(&MemberId(id)).is_some_and(|member| member.resting)
}

#[test]
fn a_replica_comes_back_as_the_same_member_and_another_task() {
    let mut world = running(3);
    world.end_task(2);
    world.hear_all();
    assert!(rests(&world, 2) && world.cluster.wanted().is_none(), "nobody takes its place");
    assert_eq!(world.reasons(), ["member_unhealthy"]);
    assert!(!world.offer_volume(1), "which has a task");
    assert!(world.offer_volume(2));
    assert_eq!(world.effects(), Vec::<String>::new(), "not before that is durable");
    world.settle();
    world.check_whole();
    let view = world.cluster.view(world.now);
    assert_eq!(view.members[2].task, TaskId::of(world.cluster.name(), MemberId(2), 1));
    assert_eq!((view.epoch.0, world.logged(|kind| matches!(kind, EventKind::Joined { .. }))), (1, 2), "no new copy");
}

#[test]
fn a_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut world = running(3);
    world.end_task(0);
    world.settle();
    assert_ne!(world.primary(), Some(0));
    assert!(world.write());
    assert!(world.offer_volume(0));
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().epoch.0, 2);
}

#[test]
fn the_only_member_keeps_its_place_until_it_is_back() {
    let mut world = running(1);
    world.end_task(0);
    for _ in 0..10 {
        world.settle();
        world.pass(600_000);
    }
    assert!(rests(&world, 0) && world.cluster.wanted().is_none(), "an empty one would not do");
    assert!(world.offer_volume(0));
    world.settle();
    assert_eq!(world.primary(), Some(0));
    world.check_whole();
}

#[test]
fn an_asynchronous_primary_gets_a_moment_to_return() {
    let mut world = running(2);
    world.toy(1).linked = false; // lags
    world.replicate();
    assert!(world.write());
    world.end_task(0);
    world.hear_all();
    world.persist();
    world.effects();
    assert_eq!(world.cluster.state().primary, None);
    assert!(world.offer_volume(0));
    world.toy(1).linked = true;
    world.settle();
    assert_eq!(world.primary(), Some(0));
    world.check_whole();
}

#[test]
fn who_does_not_come_back_is_replaced_and_its_volume_released() {
    let mut world = running(3);
    world.end_task(2);
    world.settle();
    world.pass(20_000);
    world.settle();
    assert!(rests(&world, 2));
    world.recover(); // which has not missed it for so long
    world.settle();
    world.pass(20_000);
    world.settle();
    assert!(rests(&world, 2));
    world.pass(120_000);
    assert!(rests(&world, 2), "the primary is silent, and may be dead");
    world.say_all();
    world.hear_all();
    world.persist();
    assert!(!world.effects().contains(&"release 2".to_owned()), "there is no other copy in its place yet");
    assert!(world.mended(30).contains(&"release 2".to_owned()));
    world.settle();
    world.check_whole();
    assert!(!world.offer_volume(2));
    let given_up =
        |kind: &EventKind| matches!(kind, EventKind::Leaving { reason, .. } if *reason == Leaving::Missing.reason());
    assert_eq!(world.logged(given_up), 1);
}

#[test]
fn while_there_is_no_primary_nobody_is_given_up() {
    let mut world = running(3);
    for id in 0..3 {
        world.end_task(id);
    }
    for _ in 0..10 {
        world.settle();
        world.pass(600_000);
    }
    for id in 0..3 {
        assert!(rests(&world, id) && world.offer_volume(id));
    }
    world.settle();
    world.check_whole();
}

#[test]
fn what_never_held_a_copy_and_what_is_gone_with_its_agent_does_not_come_back() {
    let mut world = running(3);
    world.hear(status(MemberId(2), TaskState::Gone));
    world.toys.remove(&MemberId(2));
    world.persist();
    let effects = world.effects();
    assert!(!rests(&world, 2) && !effects.iter().any(|effect| effect.starts_with("release")), "{effects:?}");
    world.place();
    world.persist();
    world.effects();
    world.end_task(3);
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"release 3".to_owned()), "it was just launched");
}

#[test]
fn members_that_rest_are_the_first_to_go() {
    let mut world = running(4);
    world.end_task(1);
    world.settle();
    world.cluster.scale(world.now, &Limits::default(), 3).expect("a fine size");
    world.persist();
    assert_eq!(world.effects(), ["ask 0"], "who is to stay is there");
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["release 1"]);
    world.settle();
    world.check_whole();
}

#[test]
fn a_deletion_does_not_wait_for_them() {
    let mut world = running(3);
    world.end_task(1);
    world.settle();
    world.cluster.delete(world.now);
    world.settle();
    assert!(world.gone);
}

#[test]
fn who_comes_back_before_another_took_its_place_returns_to_its_data() {
    let mut world = running(3);
    world.end_task(2);
    world.settle();
    world.rounds(125);
    assert!(world.reasons().contains(&"member_leaving") && world.cluster.wanted().is_some());
    world.place(); // which is not complete yet
    assert!(world.offer_volume(2));
    world.settle();
    let ids: Vec<u64> = world.cluster.state().members.keys().map(|id| id.0).collect();
    assert_eq!((ids.as_slice(), world.logged(|kind| matches!(kind, EventKind::Joined { .. }))), (&[0, 1, 2][..], 2));
    world.check_whole();
}

/// Otherwise what does not start any more would keep others from taking its place.
#[test]
fn who_returns_and_fails_is_replaced_all_the_same() {
    let mut world = running(3);
    world.end_task(2);
    world.settle();
    world.rounds(125);
    for _ in 0..3 {
        assert!(world.offer_volume(2));
        assert!(world.cluster.wanted().is_some(), "nothing was heard of it yet");
        world.persist();
        world.effects();
        world.toys.remove(&MemberId(2));
        world.hear(status(MemberId(2), TaskState::Failed));
        world.rounds(61);
    }
    assert!(world.mended(60).contains(&"release 2".to_owned()));
    world.check_whole();
}

/// As above, but first its agent could not be reached.
#[test]
fn a_task_that_ended_while_its_agent_was_away_returns_as_well() {
    let mut world = running(2);
    world.toy(1).reachable = false;
    world.hear(status(MemberId(1), TaskState::Unreachable));
    world.rounds(40);
    world.toy(1).reachable = true;
    assert!(world.cluster.state().members[&MemberId(1)].is_away());
    world.end_task(1);
    world.hear_all();
    world.persist();
    assert!(!world.effects().contains(&"release 1".to_owned()), "it is the only other copy");
    assert!(rests(&world, 1) && world.offer_volume(1));
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().members.len(), 2);
}

/// The one that is catching up is not complete yet, whatever its lag, and the one that returns says nothing yet.
#[test]
fn the_complete_copy_is_not_the_one_too_many() {
    let mut world = running(2);
    world.end_task(1);
    world.settle();
    world.rounds(125);
    world.place();
    world.persist();
    world.effects();
    world.toy(2).linked = false;
    world.rounds(3);
    world.toy(2).lag_s = Some(60);
    assert!(world.offer_volume(1));
    world.persist();
    world.effects();
    world.toy(1).linked = false;
    for _ in 0..20 {
        world.persist();
        let words = world.effects();
        assert!(!words.iter().any(|word| word == "kill 1" || word == "release 1"), "{words:?}");
        world.rounds(1);
    }
    assert!(world.toys.contains_key(&MemberId(1)));
    world.toy(1).linked = true;
    world.settle();
    let ids: Vec<u64> = world.cluster.state().members.keys().map(|id| id.0).collect();
    assert_eq!(ids, [0, 1]);
    world.check_whole();
}

/// Without acknowledgements, elections may leave commits behind that were answered.
#[test]
fn the_volume_of_a_former_primary_that_was_never_compared_is_kept() {
    let mut world = running(2);
    world.toy(1).linked = false;
    world.replicate();
    *world.toy(0).data.get_mut(&0).expect("it wrote before") += 1; // which nobody else has
    world.end_task(0);
    world.settle();
    assert_eq!(world.primary(), Some(1));
    world.toy(1).linked = true;
    world.rounds(125);
    let words = world.mended(60);
    assert!(!world.cluster.state().members.contains_key(&MemberId(0)), "it was replaced");
    assert!(!words.contains(&"release 0".to_owned()), "{words:?}");
    assert!(world.cluster.state().kept.contains(&MemberId(0)));
}

/// It is kept only where there is room beside those that certainly hold something.
#[test]
fn a_doubtful_volume_pushes_out_none_of_one_that_diverged() {
    let mut world = running(2);
    for _ in 0..2 {
        let errant = world.cluster.state().members.keys().copied().last().expect("two members");
        world.toy(errant.0).data.insert(errant.0, 90);
        world.settle();
    }
    let kept = world.cluster.state().kept.clone();
    assert_eq!(kept.len(), 2);
    let primary = world.primary().expect("a healthy cluster has one");
    world.end_task(primary);
    world.settle();
    world.rounds(125);
    assert!(world.mended(60).contains(&format!("release {primary}")));
    assert_eq!(world.cluster.state().kept, kept);
}

/// It may hold what nobody else has: with asynchronous replication, also what was acknowledged.
#[test]
fn volumes_of_those_that_diverged_are_kept_as_long_as_their_cluster_is() {
    let mut world = running(3);
    for round in 0..3 {
        let errant = world.cluster.state().members.keys().copied().last().expect("three members");
        world.toy(errant.0).data.insert(errant.0, 90 + round);
        world.settle();
        world.check_whole();
        assert!(!world.cluster.state().members.contains_key(&errant));
    }
    assert_eq!(world.cluster.state().kept.iter().map(|id| id.0).collect::<Vec<_>>(), [3, 4], "the newest two");
    world.cluster.delete(world.now);
    let mut effects = Vec::new();
    while !world.gone {
        world.persist();
        effects.extend(world.effects());
        world.hear_all();
        world.pass(1_000);
        world.gone |= effects.contains(&"withdraw".to_owned());
    }
    let released = |id: u64| effects.contains(&format!("release {id}"));
    assert!((0..5).filter(|id| *id != 2).all(released), "{effects:?}");
}

#[test]
fn a_person_can_have_kept_volumes_released() {
    let mut world = running(3);
    let pull = |world: &mut World, accept_loss| {
        let accepted = if accept_loss { AcceptedLoss::Any } else { AcceptedLoss::None };
        world.cluster.pull(world.now, Lever::ReleaseKept { accepted })
    };
    assert_eq!(pull(&mut world, true), Err(LeverError::CannotRelease(NOTHING_KEPT)));
    for errant in [2, 3] {
        world.toy(errant).data.insert(errant, 90 + errant);
        world.settle();
    }
    let lever = |world: &World| {
        let levers = world.cluster.explain(world.now).levers;
        levers.into_iter().find(|lever| lever.command.starts_with("cotton prune ")).expect("volumes are kept")
    };
    assert!(lever(&world).possible && lever(&world).text.contains("members 2, 3"), "{:?}", lever(&world));
    let refused = pull(&mut world, false).expect_err("nothing was accepted");
    assert_eq!(refused, LeverError::ReleaseNotAccepted(vec![MemberId(2), MemberId(3)]));
    world.crash(0);
    world.hear_all();
    assert!(matches!(pull(&mut world, true), Err(LeverError::CannotRelease(_))), "no primary is open");
    assert!(!lever(&world).possible);
    world.settle();
    world.pass(1_000);
    world.hear_all();
    world.cluster.pull(world.now, Lever::Pause).expect("nothing is under way");
    assert_eq!(pull(&mut world, true), Err(LeverError::Paused));
    world.cluster.pull(world.now, Lever::Resume).expect("it is paused");
    pull(&mut world, true).expect("all is well");
    assert!(world.effects().iter().all(|effect| !effect.starts_with("release")), "it is not durable yet");
    world.persist();
    let effects = world.effects();
    assert!(["release 2", "release 3"].iter().all(|release| effects.contains(&(*release).to_owned())), "{effects:?}");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::KeptReleased { members } if members.len() == 2)), 1);
    assert!(world.cluster.state().kept.is_empty());
}

/// Who went first goes first, whatever its number.
#[test]
fn the_latest_that_diverged_is_kept_also_if_it_is_the_oldest_member() {
    let mut world = running(3);
    for errant in [2, 3, 1] {
        world.toy(errant).data.insert(errant, 90 + errant);
        world.settle();
        assert!(!world.cluster.state().members.contains_key(&MemberId(errant)));
    }
    assert_eq!(world.cluster.state().kept.iter().map(|id| id.0).collect::<Vec<_>>(), [3, 1]);
}

/// A third one that diverged is no reason to destroy what the first may have kept, while it is not sure that others have it.
#[test]
fn no_number_of_kept_volumes_destroys_one_before_enough_complete_copies_are_there() {
    let mut world = running(3);
    for round in 0..3 {
        let errant = world.cluster.state().members.keys().copied().last().expect("three members");
        world.toy(errant.0).data.insert(errant.0, 90 + round);
        if round == 2 {
            world.toy(1).linked = false; // and its copy is not complete now
        }
        let released = world.mended(60).iter().filter(|words| words.starts_with("release")).count();
        assert!(!world.cluster.state().members.contains_key(&errant), "{:?}", world.reasons());
        assert_eq!(released, 0);
    }
    assert_eq!(world.cluster.state().kept.iter().map(|id| id.0).collect::<Vec<_>>(), [2, 3, 4]);
    world.toy(1).linked = true;
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().kept.iter().map(|id| id.0).collect::<Vec<_>>(), [3, 4]);
}

/// Its machine is dead, and nobody knows that yet: what is to leave may be the last to have what was acknowledged.
#[test]
fn a_member_that_leaves_keeps_its_volume_when_its_task_ends_and_the_primary_does_not_answer() {
    let mut world = running(3);
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), 2), Ok(()));
    let leaving = world.cluster.state().members.iter().find(|(_, member)| member.leaving.is_some()).map(|(id, _)| id.0);
    let leaving = leaving.expect("one is too many");
    let other = [1, 2].into_iter().find(|id| *id != leaving).expect("the other replica");
    world.toy(other).linked = false;
    world.replicate();
    assert!(world.write(), "only the one that is to leave has it");
    world.toy(0).reachable = false;
    world.toy(0).linked = false;
    world.down.clear();
    world.up.clear();
    world.end_task(leaving);
    world.hear_all();
    let mut words = Vec::new();
    for _ in 0..5 {
        words.extend(world.wanted());
        world.pass(1_000);
    }
    assert!(!words.contains(&format!("release {leaving}")), "{words:?}");
    assert!(rests(&world, leaving));
    world.kill(0);
    world.hear_all();
    world.toy(other).linked = true;
    world.rounds(10);
    assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
    assert!(world.offer_volume(leaving), "what the election waits for may come back");
    world.mended(20);
    assert_eq!(world.cluster.state().members[&MemberId(leaving)].run, 1);
    assert!(world.toys.contains_key(&MemberId(leaving)), "and is not ended again");
}

#[test]
fn launches_that_are_refused_again_and_again_are_made_less_often() {
    let mut world = World::new(spec(1));
    world.volumes = true;
    world.persist();
    world.effects();
    for round in 0..3 {
        world.place();
        world.persist();
        world.effects();
        world.toys.clear();
        world.up.clear();
        world.hear(status(MemberId(round), TaskState::Dropped));
        assert_eq!(world.cluster.wanted().is_some(), round == 0, "once is a stale offer");
        world.pass(10_000);
    }
    assert!(world.reasons().contains(&"launch_failed"));
}

/// What a person was told that it may be lost is kept: nobody else has it.
#[test]
fn what_a_decision_left_behind_is_not_destroyed() {
    let mut world = running(3);
    world.toy(1).linked = false;
    world.replicate();
    assert!(world.write());
    world.toy(1).linked = true;
    for id in [0, 2] {
        world.end_task(id);
    }
    world.hear_all();
    world.rounds(10);
    let lever = Lever::Elect { to: MemberId(1), accepted: AcceptedLoss::Any };
    assert_eq!(world.cluster.pull(world.now, lever), Ok(()));
    world.acknowledged = world.toys[&MemberId(1)].data.clone();
    world.rounds(130);
    let words = world.mended(200);
    world.settle();
    world.check_whole();
    assert!(!words.iter().any(|word| word.starts_with("release")), "{words:?}");
    let state = world.cluster.state();
    assert_eq!(state.left_behind.iter().map(|id| id.0).collect::<Vec<_>>(), [0, 2]);
    // Others come and go by number as ever.
    for round in 0..3 {
        let errant = world.cluster.state().members.keys().copied().last().expect("three members");
        world.toy(errant.0).data.insert(errant.0, 90 + round);
        world.settle();
    }
    let state = world.cluster.state();
    assert!(state.left_behind.iter().all(|id| state.kept.contains(id)) && state.kept.len() == 4, "{:?}", state.kept);
}
