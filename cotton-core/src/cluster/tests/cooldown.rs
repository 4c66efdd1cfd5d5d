//! After several failovers that may have lost commits, the next one waits for the old primary, for a while.

use super::world::{World, spec};
use crate::cluster::event::EventKind;
use crate::cluster::levers::{AcceptedLoss, Lever};
use crate::cluster::view::{ClusterStatus, ReasonCode};
use crate::{Durability, MemberId};

const COOLDOWN_S: u64 = 600;

fn running(durability: Durability) -> World {
    World::running_as(crate::ClusterSpec { durability, ..spec(3) })
}

/// The primary's server ends, and is not started again for longer than is waited for.
fn lose(world: &mut World) -> u64 {
    let lost = world.primary().expect("somebody is primary");
    world.crash(lost);
    world.hear_all();
    world.rounds(6);
    lost
}

/// The primary is lost and replaced, and comes back as a replica.
fn fail_over(world: &mut World) {
    let lost = lose(world);
    assert!(world.primary().is_some_and(|primary| primary != lost), "not held");
    world.restart(lost);
    world.settle();
    world.check_whole();
}

fn after_three() -> World {
    let mut world = running(Durability::Async);
    for _ in 0..3 {
        fail_over(&mut world);
    }
    world
}

/// A cluster whose fourth failover is held.
pub(super) fn held() -> World {
    let mut world = after_three();
    lose(&mut world);
    world
}

fn is_held(world: &World) -> bool {
    let view = world.cluster.view(world.now);
    let told = view.reasons.iter().any(|reason| reason.code == ReasonCode::FailoverCooldown);
    assert_eq!(told, view.status == ClusterStatus::Waiting, "{view:?}");
    told
}

fn ended(world: &World, back: bool) -> usize {
    world.logged(|kind| matches!(kind, EventKind::CooldownEnded { back: member } if member.is_some() == back))
}

fn begun(world: &World) -> usize {
    world.logged(|kind| matches!(kind, EventKind::ElectionWaits { reason } if reason.contains("cool-down")))
}

#[test]
fn three_failovers_are_not_held_and_the_fourth_is_for_the_time() {
    let mut world = after_three();
    let foretold = world.cluster.explain(world.now).succession;
    assert_eq!(foretold.code, "failover_cooldown", "{foretold:?}");
    lose(&mut world);
    assert!(is_held(&world) && begun(&world) == 1);
    let explained = world.cluster.explain(world.now);
    assert_eq!((explained.succession.code, explained.succession.winner), ("failover_cooldown", None));
    let wait = explained.waits.iter().find(|wait| wait.code == "failover_cooldown").expect("it is told");
    let left_s = wait.until_ms.expect("it ends") / 1_000;
    assert!((300..COOLDOWN_S).contains(&left_s), "{wait:?}");
    world.rounds(left_s - 5);
    assert!(is_held(&world));
    world.rounds(10);
    assert!(!is_held(&world) && world.primary().is_some());
    assert_eq!((begun(&world), ended(&world, false), ended(&world, true)), (1, 1, 0));
}

#[test]
fn the_old_primary_ends_it_with_all_that_it_has() {
    let mut world = after_three();
    let primary = world.primary().expect("all is well");
    for replica in (0..3).filter(|id| *id != primary) {
        world.toy(replica).linked = false;
    }
    assert!(world.write(), "nobody has received that");
    let lost = lose(&mut world);
    world.rounds(30);
    assert!(is_held(&world));
    world.restart(lost);
    for replica in (0..3).filter(|id| *id != lost) {
        world.toy(replica).linked = true;
    }
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(lost));
    assert_eq!((ended(&world, true), ended(&world, false)), (1, 0));
}

#[test]
fn acknowledged_commits_are_never_held_back() {
    let mut world = running(Durability::SemiSync);
    for _ in 0..5 {
        fail_over(&mut world);
    }
    assert_eq!((begun(&world), world.cluster.state().failovers), (0, 0));
}

#[test]
fn failovers_that_are_long_ago_do_not_count() {
    let mut world = running(Durability::Async);
    for _ in 0..2 {
        fail_over(&mut world);
    }
    world.rounds(COOLDOWN_S);
    assert_eq!(world.cluster.state().failovers, 0);
    for _ in 0..3 {
        fail_over(&mut world);
    }
    assert_eq!(begun(&world), 0);
}

#[test]
fn nothing_is_held_for_one_that_never_comes_back() {
    let mut world = after_three();
    world.kill_primary();
    world.hear_all();
    world.rounds(6);
    assert!(world.primary().is_some() && begun(&world) == 0, "its data is gone with it");
}

#[test]
fn handing_over_and_a_restart_in_place_do_not_count() {
    let mut world = running(Durability::Async);
    for _ in 0..5 {
        world.cluster.switchover(world.now, None).expect("somebody takes over");
        world.settle();
        let primary = world.primary().expect("somebody is primary");
        world.crash(primary);
        world.hear_all();
        world.restart(primary);
        world.settle();
    }
    assert_eq!((begun(&world), world.cluster.state().failovers), (0, 0));
}

#[test]
fn a_restarted_scheduler_holds_it_as_well_and_only_that() {
    let mut world = after_three();
    world.recover();
    world.settle();
    lose(&mut world);
    world.rounds(30);
    assert!(is_held(&world));
    world.persist();
    world.recover();
    world.rounds(30);
    assert!(is_held(&world), "in the middle of it, too");

    let mut world = running(Durability::Async);
    fail_over(&mut world);
    world.recover();
    world.settle();
    lose(&mut world);
    assert_eq!(begun(&world), 0, "it is the second");
}

#[test]
fn a_person_ends_it() {
    for lever in [Lever::Resume, Lever::Elect { to: MemberId(9), accepted: AcceptedLoss::Any }] {
        let mut world = held();
        let replica =
            world.cluster.state().members.keys().copied().find(|id| world.cluster.state().last_primary != Some(*id));
        let lever = match lever {
            Lever::Elect { .. } => Lever::Elect { to: replica.expect("three members"), accepted: AcceptedLoss::Any },
            other => other,
        };
        let resume = world.cluster.explain(world.now).levers;
        let resume = resume.iter().find(|lever| lever.command == "cotton resume c").expect("it is told");
        assert!(resume.possible && resume.loses != "nothing", "{resume:?}");
        world.cluster.pull(world.now, lever.clone()).expect("it is held");
        world.rounds(6);
        assert!(world.primary().is_some() && !is_held(&world), "{lever:?}");
        assert_eq!((ended(&world, false), world.cluster.state().failovers <= 1), (1, true), "{lever:?}");
    }
}

#[test]
fn it_can_be_switched_off() {
    let mut world = World::running_as(crate::ClusterSpec { durability: Durability::Async, ..spec(3) });
    world.cluster.timing = crate::cluster::Timing { failover_cooldown_ms: 0, ..(*world.cluster.timing).clone() }.into();
    for _ in 0..5 {
        fail_over(&mut world);
    }
    assert_eq!((begun(&world), world.cluster.state().failovers), (0, 0));
}
