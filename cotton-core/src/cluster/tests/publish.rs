//! What clients see.

use super::world::World;
use crate::{Epoch, MemberId};

fn seen(world: &World) -> (u64, Option<u64>, Vec<u64>) {
    let published = world.published.as_ref().expect("published before");
    (published.epoch.0, published.primary.map(|id| id.0), published.members.keys().map(|id| id.0).collect())
}

#[test]
fn nobody_is_seen_before_the_first_primary_is_open_and_that_is_durable() {
    let mut world = World::new(super::spec(3));
    world.place();
    world.persist();
    world.effects();
    world.hear_all();
    world.persist();
    world.effects();
    assert_eq!(seen(&world), (0, None, vec![]), "but that it is there, and can be watched");
    world.obey_all();
    world.hear_all();
    assert_eq!(world.decided(), ["publish 1 primary 0 members 0"]);
    assert!(world.durable.as_ref().is_some_and(|state| state.opened));
}

#[test]
fn replicas_are_seen_once_they_have_caught_up() {
    let mut world = World::running(3);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
    world.toy(2).linked = false;
    world.replicate();
    world.hear_all();
    world.persist();
    world.effects();
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1]), "one that is not connected grows stale");
    world.toy(2).linked = true;
    world.settle();
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
}

#[test]
fn the_old_primary_is_shown_for_a_moment_and_not_for_long() {
    let mut world = World::running(3);
    world.toy(1).reachable = false;
    world.toy(2).reachable = false;
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.pass(2_900);
    world.persist();
    world.effects();
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
    world.pass(200);
    world.persist();
    world.effects();
    assert_eq!(seen(&world), (2, None, vec![]));
    world.toy(1).reachable = true;
    world.toy(2).reachable = true;
    world.settle();
    assert_eq!(seen(&world), (2, world.primary(), vec![0, 1, 2]));
}

#[test]
fn a_promotion_that_takes_long_does_not_keep_the_old_primary_in_sight() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.hear_all();
    world.persist();
    world.effects(); // promotes, and the promotion is lost
    world.down.clear();
    for _ in 0..4 {
        world.pass(900);
        world.persist();
        world.effects();
        world.down.clear();
    }
    assert_eq!(seen(&world), (2, None, vec![]));
}

#[test]
fn what_an_earlier_run_published_is_taken_back_when_it_is_not_true_any_more() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).reachable = false;
    }
    world.kill(0);
    world.hear_all();
    world.persist();
    world.effects();
    let shown = world.published.clone();
    world.recover();
    world.published = shown;
    for _ in 0..5 {
        world.pass(1_000);
        world.persist();
        world.effects();
        world.hear_all();
    }
    assert_eq!(world.published.as_ref().and_then(|p| p.primary), None);
}

/// As long as that takes: so many seconds in which nobody is told anything.
fn starts_deaf(world: &mut World, seconds: u64) {
    let shown = world.published.clone();
    let reachable: Vec<u64> = world.toys.iter().filter(|(_, toy)| toy.reachable).map(|(id, _)| id.0).collect();
    for id in &reachable {
        world.toy(*id).reachable = false;
    }
    world.recover();
    world.published = shown;
    world.mended(seconds);
    for id in &reachable {
        world.toy(*id).reachable = true;
    }
}

#[test]
fn a_new_leader_that_hears_nobody_withdraws_nothing() {
    let mut world = World::running(3);
    starts_deaf(&mut world, 120);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
    world.settle();
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
}

#[test]
fn a_new_leader_that_does_not_hear_the_primary_goes_on_showing_it() {
    let mut world = World::running(3);
    starts_deaf(&mut world, 5);
    world.toy(0).reachable = false;
    world.mended(120);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]), "its replicas replicate from it");
    assert_eq!(world.cluster.state().epoch, Epoch(1));
    world.kill(2); // as Mesos says
    world.mended(60);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1]), "what is known changes what is seen");
    world.toy(0).linked = false;
    world.mended(30);
    assert_eq!(seen(&world).1, world.primary(), "its replicas lost it, too");
    assert_ne!(world.primary(), Some(0));
}

#[test]
fn a_new_leader_shows_replicas_that_it_has_not_heard_of_yet() {
    let mut world = World::running(3);
    world.toy(1).reachable = false;
    let shown = world.published.clone();
    world.recover();
    world.published = shown;
    for _ in 0..60 {
        world.rounds(1);
        assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
    }
}

#[test]
fn a_new_leader_in_an_election_withdraws_the_old_primary_once_it_hears_somebody() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    starts_deaf(&mut world, 120);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]), "it may be open again by a switchover that failed, say");
    for id in [0, 2] {
        world.toy(id).reachable = false;
    }
    world.mended(2);
    assert_eq!(seen(&world).1, Some(0));
    world.mended(5);
    assert_eq!(seen(&world).1, None);
}

#[test]
fn a_switchover_that_a_new_leader_takes_back_is_told_when_it_is_known() {
    let mut world = World::running(3);
    world.cluster.switchover(world.now, None).expect("it begins");
    world.persist();
    starts_deaf(&mut world, 60);
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
    world.settle();
    assert_eq!(seen(&world), (1, Some(0), vec![0, 1, 2]));
}

#[test]
fn later_publications_replace_those_that_wait_for_the_store() {
    let mut world = World::running(3);
    world.begin_saving();
    for on in [false, true, false] {
        world.toy(2).linked = on;
        world.replicate();
        world.hear_all();
    }
    world.crash(0); // makes what follows wait
    world.hear_all();
    world.persist();
    let publications = world.effects().into_iter().filter(|words| words.starts_with("publish")).count();
    assert!(publications <= 1);
    world.toy(2).linked = true;
    world.settle();
    world.check_whole();
    let published = world.published.as_ref().expect("published");
    assert_eq!((published.epoch, published.members.len()), (Epoch(2), 3));
    assert!(published.members.contains_key(&MemberId(0)));
}
