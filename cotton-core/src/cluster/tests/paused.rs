//! A paused cluster: everything is seen, nothing is decided.

use super::world::{World, spec};
use crate::cluster::Input;
use crate::cluster::event::EventKind;
use crate::cluster::levers::{Lever, LeverError};
use crate::cluster::view::ClusterStatus;
use crate::protocol::MemberRole;
use crate::{Epoch, MemberId};

fn pause(world: &mut World) {
    assert_eq!(world.cluster.pull(world.now, Lever::Pause), Ok(()));
    world.persist();
    assert!(world.durable.as_ref().is_some_and(|state| state.paused));
}

fn resume(world: &mut World) {
    assert_eq!(world.cluster.pull(world.now, Lever::Resume), Ok(()));
}

/// What is said to members beside questions and answers.
fn decisions(words: Vec<String>) -> Vec<String> {
    let talk = |word: &String| word.starts_with("ask ") || word.starts_with("answer ") || word.starts_with("publish ");
    words.into_iter().filter(|word| !talk(word)).collect()
}

fn status(world: &World) -> ClusterStatus {
    world.cluster.view(world.now).status
}

#[test]
fn a_lost_primary_is_not_replaced_before_the_cluster_is_resumed() {
    let mut world = World::running(3);
    pause(&mut world);
    assert_eq!((status(&world), world.reasons()), (ClusterStatus::Degraded, vec!["paused"]));
    world.crash(0);
    let lost = world.now;
    world.restart(0);
    assert_eq!(decisions(world.mended(120)), Vec::<String>::new());
    assert_eq!((world.cluster.state().epoch, world.primary()), (Epoch(1), None));
    assert_eq!(status(&world), ClusterStatus::Waiting);
    assert_eq!(world.reasons()[..2], ["paused", "failover_held"], "{:?}", world.cluster.view(world.now));
    let text = &world.cluster.view(world.now).reasons[1].text;
    assert!(text.contains("primary 0: its server "), "{text}");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::FailoverHeld { member: MemberId(0), .. })), 1);
    assert_eq!(world.published.as_ref().and_then(|p| p.primary), None, "clients are shown what is");

    resume(&mut world);
    let resumed = world.now;
    assert_eq!(world.decided(), ["freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"], "at once");
    world.settle();
    world.check_whole();
    let timeline = world.cluster.view(world.now).last_failover.expect("there was one");
    assert!(timeline.promoted_ms >= resumed.since(lost), "the outage began with the loss: {timeline:?}");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::Paused | EventKind::Resumed)), 2);
}

#[test]
fn a_primary_that_is_well_again_is_not_replaced() {
    let mut world = World::running(3);
    pause(&mut world);
    world.toy(0).reachable = false;
    for id in [1, 2] {
        world.toy(id).linked = false;
    }
    world.rounds(20);
    assert!(world.reasons().contains(&"failover_held"), "{:?}", world.reasons());
    world.toy(0).reachable = true;
    for id in [1, 2] {
        world.toy(id).linked = true;
    }
    world.rounds(10);
    assert_eq!(world.reasons(), ["paused"]);
    resume(&mut world);
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().epoch, Epoch(1));
}

#[test]
fn nobody_is_launched_replaced_or_killed() {
    let mut world = World::running(3);
    pause(&mut world);
    world.kill(2);
    world.crash(1);
    world.restart(1);
    world.toy(1).trouble = Some(crate::protocol::Trouble::Broken { detail: "1032".to_owned() });
    let words = decisions(world.mended(600));
    assert!(words.iter().all(|word| word == "follow 1 to 0 in 1"), "{words:?}");
    assert_eq!(world.cluster.wanted(), None);
    assert!(world.reasons().contains(&"member_missing"), "{:?}", world.reasons());
    world.toy(1).trouble = None;
    resume(&mut world);
    world.settle();
    world.check_whole();
    assert!(world.toys.contains_key(&MemberId(3)));
}

#[test]
fn a_new_member_takes_no_copy_and_an_old_one_follows_again() {
    let mut world = World::running(3);
    world.kill(2);
    world.hear_all();
    world.place();
    world.persist();
    world.effects(); // launched, and not told anything yet
    world.up.clear();
    pause(&mut world);
    world.crash(1);
    world.restart(1);
    world.toy(1).role = MemberRole::Idle; // as one that has forgotten its order
    let words = decisions(world.mended(60));
    assert!(!words.is_empty() && words.iter().all(|word| word == "follow 1 to 0 in 1"), "{words:?}");
    assert_eq!(world.toy(3).order, None);
    resume(&mut world);
    world.settle();
    world.check_whole();
}

#[test]
fn leases_are_renewed() {
    let mut world = World::running(2);
    pause(&mut world);
    world.effects();
    for _ in 0..30 {
        world.say(MemberId(0));
        world.hear_all();
        assert!(world.wanted().contains(&"answer 0".to_owned()));
        world.pass(1_000);
    }
}

#[test]
fn a_pause_outlives_the_scheduler() {
    let mut world = World::running(3);
    pause(&mut world);
    world.crash(0);
    world.restart(0);
    world.rounds(3);
    world.recover();
    world.hear_all();
    assert_eq!(decisions(world.mended(60)), Vec::<String>::new());
    assert_eq!((world.cluster.state().epoch, world.reasons()[0]), (Epoch(1), "paused"));
    resume(&mut world);
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().epoch, Epoch(2));
}

#[test]
fn an_election_that_waits_is_not_decided_either() {
    for restarts in [false, true] {
        let mut world = World::running(3);
        world.toy(2).reachable = false;
        world.kill(0);
        world.hear_all();
        world.rounds(10);
        assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
        pause(&mut world);
        if restarts {
            world.recover();
        }
        world.toy(2).reachable = true;
        let words = decisions(world.mended(60));
        assert!(words.iter().all(|word| word.starts_with("freeze ")), "{words:?}");
        assert_eq!((world.cluster.state().primary, status(&world)), (None, ClusterStatus::Waiting));
        resume(&mut world);
        world.mended(2);
        assert!(world.cluster.state().primary.is_some(), "{:?}", world.cluster.view(world.now));
        world.settle();
        world.check_whole();
    }
}

#[test]
fn what_is_under_way_comes_to_its_end_first() {
    let mut world = World::running(3);
    world.cluster.switchover(world.now, Some(MemberId(1))).expect("all is well");
    let refused = world.cluster.pull(world.now, Lever::Pause);
    assert_eq!(refused, Err(LeverError::UnderWay("a switchover")));
    world.settle();
    world.crash(1);
    world.hear_all();
    assert_eq!(world.cluster.pull(world.now, Lever::Pause), Err(LeverError::UnderWay("an election")));
    world.restart(1);
    world.settle();
    pause(&mut world);
    assert_eq!(world.cluster.pull(world.now, Lever::Pause), Ok(()), "it is already");
    assert_eq!(world.logged(|kind| *kind == EventKind::Paused), 0, "not told before");
    world.effects();
    assert_eq!(world.logged(|kind| *kind == EventKind::Paused), 1);
}

#[test]
fn a_new_cluster_can_be_paused_before_it_has_a_primary() {
    let mut world = World::new(spec(3));
    pause(&mut world);
    assert_eq!((world.cluster.wanted(), status(&world)), (None, ClusterStatus::Creating));
    world.hear(Input::Connected);
    resume(&mut world);
    world.settle();
    assert_eq!(world.primary(), Some(0));
}

#[test]
fn volumes_are_not_destroyed() {
    let mut world = World::new(spec(3));
    world.volumes = true;
    world.settle();
    pause(&mut world);
    world.end_task(2);
    world.hear_all();
    assert!(!world.offer_volume(2));
    assert_eq!(decisions(world.mended(600)), Vec::<String>::new());
    assert!(world.cluster.state().members[&MemberId(2)].resting);
    resume(&mut world);
    assert!(world.offer_volume(2));
    world.settle();
    world.check_whole();
}
