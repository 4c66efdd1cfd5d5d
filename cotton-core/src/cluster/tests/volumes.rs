//! Members whose data outlives their tasks.

use super::world::{World, spec, status};
use crate::cluster::event::EventKind;
use crate::cluster::state::Leaving;
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
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"release 2".to_owned()));
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
    assert_eq!(world.effects(), ["release 1"]);
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
