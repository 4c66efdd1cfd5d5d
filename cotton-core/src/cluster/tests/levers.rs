//! What a person can decide of a cluster.

use super::world::{World, spec};
use crate::cluster::event::EventKind;
use crate::cluster::levers::{Lever, LeverError};
use crate::cluster::view::ClusterStatus;
use crate::protocol::Trouble;
use crate::{Durability, Epoch, MemberId};

fn rebuild(world: &mut World, id: u64) -> Result<(), LeverError> {
    world.cluster.pull(world.now, Lever::Rebuild(MemberId(id)))
}

/// Why it is refused.
fn refused(world: &mut World, id: u64) -> String {
    let revision = world.cluster.revision();
    let why = rebuild(world, id).expect_err("it is refused").to_string();
    assert_eq!(world.cluster.revision(), revision, "nothing was changed");
    why
}

#[test]
fn a_replica_is_replaced_by_a_fresh_copy() {
    let mut world = World::running(3);
    assert_eq!(rebuild(&mut world, 1), Ok(()));
    assert_eq!(rebuild(&mut world, 1), Ok(()), "that was asked for before");
    assert_eq!(refused(&mut world, 2), "member 2 cannot be rebuilt: member 1 is being replaced: wait for its end");
    assert_eq!(world.reasons(), ["member_missing", "member_leaving"]);
    for _ in 0..40 {
        world.mended(1);
        let view = world.cluster.view(world.now);
        assert_ne!(view.status, ClusterStatus::Blocked, "{:?}", view.reasons);
        assert!(world.write());
    }
    world.settle();
    world.check_whole();
    assert!(!world.toys.contains_key(&MemberId(1)) && world.toys.contains_key(&MemberId(3)));
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(0), Epoch(1)));
    assert_eq!(world.logged(|kind| *kind == EventKind::RebuildAsked { member: MemberId(1) }), 1);
    let kept = |kind: &EventKind| matches!(kind, EventKind::Leaving { reason, .. } if reason.contains("is kept"));
    assert_eq!(world.logged(kept), 1);
}

#[test]
fn its_volume_is_kept() {
    let mut world = World::new(spec(3));
    world.volumes = true;
    world.settle();
    assert!(world.write());
    assert_eq!(rebuild(&mut world, 2), Ok(()));
    let words = world.mended(40);
    assert!(words.contains(&"kill 2".to_owned()) && !words.contains(&"release 2".to_owned()), "{words:?}");
    assert!(world.cluster.state().kept.contains(&MemberId(2)));
    world.check_whole();
}

#[test]
fn what_cannot_be_spared_is_not_rebuilt() {
    let mut world = World::running(3);
    assert_eq!(refused(&mut world, 9), "there is no member 9: see the cluster's members");
    assert!(refused(&mut world, 0).contains("it is the primary: switch over"));
    world.toy(2).linked = false;
    world.rounds(2);
    assert!(refused(&mut world, 1).contains("member 2 is no complete copy now"));
    assert_eq!(rebuild(&mut world, 2), Ok(()), "what is amiss can be replaced");
    world.toy(2).linked = true;
    world.settle();
    world.check_whole();
    // a member is missing
    world.kill(1);
    world.hear_all();
    assert!(refused(&mut world, 3).contains("another member is missing"));
    world.settle();
    // no primary
    world.crash(0);
    world.hear_all();
    assert!(refused(&mut world, 3).contains("no primary is open"));
    world.restart(0);
    world.settle();
    world.cluster.pull(world.now, Lever::Pause).expect("all is well");
    assert_eq!(rebuild(&mut world, 3), Err(LeverError::Paused));
}

#[test]
fn the_only_replica_stays_until_there_is_another() {
    for durability in [Durability::SemiSync, Durability::Async] {
        let mut world = World::running_as(crate::ClusterSpec { durability, ..spec(2) });
        assert_eq!(rebuild(&mut world, 1), Ok(()));
        world.rounds(20);
        assert!(world.toys.contains_key(&MemberId(1)) && world.write(), "nobody else is there yet");
        let text = world.cluster.view(world.now).reasons.pop().expect("it leaves").text;
        assert!(text.contains("it stays until another replica is complete"), "{text}");
        world.settle();
        world.check_whole();
        assert!(!world.toys.contains_key(&MemberId(1)));
        assert_eq!(world.logged(|kind| matches!(kind, EventKind::CommitsWait { .. })), 0);
    }
}

/// What makes one server fail may make the others fail, too; then nobody would ever be replaced if each waited for the rest.
#[test]
fn replicas_that_fail_in_different_ways_are_replaced_one_after_another() {
    let (detail, other) = ("no luck".to_owned(), "1032".to_owned());
    let unstable = Trouble::Unstable { detail: detail.clone() };
    for (troubles, asked) in [
        ([unstable.clone(), Trouble::Broken { detail: other.clone() }], false),
        ([Trouble::Broken { detail: other }, unstable.clone()], false),
        ([unstable.clone(), unstable], false),
        ([Trouble::Failing { detail: detail.clone() }, Trouble::Failing { detail }], true),
    ] {
        let mut world = World::running(3);
        world.toy(2).linked = false;
        world.rounds(1); // or the other one would be told first, while this one still is a complete copy
        for (id, trouble) in [1, 2].into_iter().zip(&troubles) {
            world.toy(id).trouble = Some(trouble.clone());
        }
        world.rounds(3);
        if asked {
            assert_eq!(rebuild(&mut world, 1), Ok(()), "nothing mends it by itself");
        }
        world.rounds(20);
        let there = world.toys.len();
        assert_eq!(there, 3, "{troubles:?}: each stays while its data may be needed, and no other has room");
        world.settle();
        if asked {
            assert!(!world.toys.contains_key(&MemberId(1)) && world.toys.contains_key(&MemberId(2)));
            assert_eq!(rebuild(&mut world, 2), Ok(()));
            world.settle();
        }
        world.check_whole();
        assert!(!world.toys.contains_key(&MemberId(1)) && !world.toys.contains_key(&MemberId(2)), "{troubles:?}");
        assert!(world.write());
    }
}

/// Whoever is needed when the primary is lost is not given up.
#[test]
fn a_failover_comes_before_a_rebuild() {
    let mut world = World::running(3);
    world.toy(2).linked = false;
    assert_eq!(rebuild(&mut world, 1), Ok(()));
    world.persist();
    assert!(world.write());
    world.kill(0);
    world.hear_all();
    world.toy(2).linked = true;
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(1), "it has what was acknowledged, and stays");
    let dropped = EventKind::RebuildDropped { member: MemberId(1) };
    assert_eq!(world.logged(|kind| *kind == dropped), 1, "whoever asked for it is told");
}
