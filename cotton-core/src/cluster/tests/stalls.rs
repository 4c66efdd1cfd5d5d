//! Primaries in good health whose commits do not come to their end: no room on the disk, and binary logs that nobody can
//! read.

use super::world::World;
use crate::cluster::event::EventKind;
use crate::cluster::explain::NotPromoted;
use crate::cluster::levers::{AcceptedLoss, Lever};
use crate::cluster::state::LeavingCode;
use crate::protocol::{LogPlace, MemberRole, Trouble};
use crate::{ClusterStatus, Epoch, MemberId};

fn epoch(world: &World) -> Epoch {
    world.cluster.state().epoch
}

fn full(left_mib: u64) -> Trouble {
    Trouble::Storage { detail: format!("only {left_mib} MiB left for data") }
}

/// The primary's commits wait for room on its disk.
fn out_of_room(world: &mut World) {
    world.toy(0).waits_for_room = true;
    world.toy(0).trouble = Some(full(0));
}

#[test]
fn a_primary_whose_commits_wait_for_room_is_replaced_and_not_asked_to_step_down() {
    for size in [2, 3] {
        let mut world = World::running(size);
        out_of_room(&mut world);
        world.rounds(3);
        assert_eq!(epoch(&world), Epoch(1), "it is not so for a moment only");
        world.rounds(4);
        assert_ne!(world.cluster.state().primary, Some(MemberId(0)), "of {size} members");
        assert_eq!(world.logged(|kind| matches!(kind, EventKind::SwitchingOver { .. })), 0);
        let lost = |kind: &EventKind| matches!(kind, EventKind::PrimaryLost { reason, .. } if reason.contains("room"));
        assert_eq!(world.logged(lost), 1);
        world.settle();
        world.check_whole();
        assert_ne!(world.primary(), Some(0));
        assert_eq!(world.cluster.state().members.len(), size as usize, "it recovers, and stays");
    }
}

#[test]
fn without_a_replica_with_room_the_primary_stays() {
    let mut world = World::running(3);
    out_of_room(&mut world);
    for id in [1, 2] {
        world.toy(id).trouble = Some(full(1));
    }
    world.rounds(100);
    assert_eq!((world.primary(), epoch(&world)), (Some(0), Epoch(1)));
    let view = world.cluster.view(world.now);
    assert!(view.reasons.iter().any(|r| r.member == Some(MemberId(0)) && r.text.contains("MiB")), "{view:#?}");
    world.toy(0).waits_for_room = false;
    for id in 0..3 {
        world.toy(id).trouble = None;
    }
    world.rounds(3);
    world.check_whole();
}

/// Commits go on although there is little room: that is what a switchover is for.
#[test]
fn while_commits_go_on_a_scarce_disk_is_a_reason_to_hand_over() {
    let mut world = World::running(3);
    world.toy(0).trouble = Some(full(60));
    world.rounds(2);
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::SwitchingOver { .. })), 1);
}

/// Nothing but its position says that a replica of an asynchronous primary lacks nothing that was answered.
#[test]
fn without_acknowledgements_a_replica_that_lacks_something_does_not_take_over() {
    let mut world = World::running(2);
    world.toy(1).linked = false;
    world.replicate();
    for _ in 0..3 {
        assert!(world.write());
    }
    world.rounds(3);
    out_of_room(&mut world);
    world.rounds(60);
    assert_eq!((world.primary(), epoch(&world)), (Some(0), Epoch(1)), "it waits for room: {:?}", world.log);
    world.toy(1).linked = true;
    world.rounds(20);
    assert_ne!(epoch(&world), Epoch(1), "now the replica has everything");
}

/// A replica that is behind does not lead while the acknowledged rest may still come.
#[test]
fn whoever_still_receives_is_waited_for() {
    let mut world = World::running(2);
    out_of_room(&mut world);
    for offset in 0..20 {
        world.toy(1).read_to = Some(LogPlace { file: 1, offset });
        world.rounds(1);
    }
    assert_eq!(epoch(&world), Epoch(1));
    world.rounds(5);
    assert_eq!(epoch(&world), Epoch(2));
}

/// A part of an event is in the primary's binary log: replicas connect, and get no further.
fn unreadable() -> World {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).still = true;
        world.toy(id).read_to = Some(LogPlace { file: 3, offset: 700 });
    }
    *world.toy(0).data.entry(0).or_insert(0) += 1;
    world.toy(0).waiting = 2;
    world
}

/// What such a cluster looks like when its former primary is being replaced.
pub(super) fn damaged() -> World {
    let mut world = unreadable();
    world.rounds(24);
    for id in [1, 2] {
        world.toy(id).still = false;
    }
    let lacks = world.toy(1).data.clone();
    (world.toy(0).data, world.toy(0).applied) = (lacks.clone(), lacks); // cut off by its recovery
    for _ in 0..30 {
        if world.cluster.state().members.values().any(|member| member.leaving.is_some()) {
            break;
        }
        world.rounds(1);
    }
    world
}

#[test]
fn a_binary_log_that_nobody_can_read_costs_its_primary_the_place_and_the_data() {
    let mut world = unreadable();
    world.rounds(20);
    assert_eq!(world.cluster.view(world.now).status, ClusterStatus::Blocked);
    assert_eq!(epoch(&world), Epoch(1), "being slow is not being lost");
    world.rounds(4);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)), "{:#?}", world.log);
    let world = &mut damaged();
    let leaving: Vec<_> = world.cluster.view(world.now).members.iter().map(|m| (m.id.0, m.leaving_code)).collect();
    assert_eq!(leaving, [(0, Some(LeavingCode::Damaged)), (1, None), (2, None)]);
    world.settle();
    world.check_whole();
    assert!(!world.cluster.state().members.contains_key(&MemberId(0)), "a fresh copy has taken its place");
}

/// One that fails to go on reads from an earlier place again each time that it connects.
#[test]
fn reading_the_same_again_is_not_going_on() {
    let mut world = unreadable();
    for round in 0..24 {
        for id in [1, 2] {
            world.toy(id).read_to = Some(LogPlace { file: 3, offset: [700, 4, 300][round % 3] });
            world.toy(id).trouble = (round % 2 == 1).then(|| Trouble::Failing { detail: "1595".to_owned() });
        }
        world.rounds(1);
    }
    assert_eq!(epoch(&world), Epoch(2));
}

#[test]
fn a_long_transaction_on_its_way_is_waited_for() {
    let mut world = unreadable();
    for offset in 701..800 {
        world.toy(2).read_to = Some(LogPlace { file: 3, offset });
        world.rounds(1);
    }
    assert_eq!(epoch(&world), Epoch(1));
}

/// Their executors go on to tell what they knew.
#[test]
fn replicas_that_stand_still_are_no_sign_of_a_damaged_log() {
    let mut world = unreadable();
    for _ in 0..60 {
        for id in [1, 2] {
            world.toy(id).echo = 0;
        }
        world.persist();
        world.effects();
        world.down.retain(|(id, _)| *id == MemberId(0));
        world.obey_all();
        world.say_all();
        world.hear_all();
        world.pass(1_000);
    }
    assert_eq!(epoch(&world), Epoch(1));
}

/// A cut between the primary and its replicas is no damage.
#[test]
fn a_primary_that_replicas_cannot_reach_is_replaced_and_keeps_its_data() {
    let mut world = unreadable();
    for id in [1, 2] {
        world.toy(id).role = MemberRole::Following { connected: false };
    }
    world.rounds(24);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    assert!(world.cluster.state().members.values().all(|member| !member.damaged));
}

/// It has what nobody acknowledged, and would win by that.
#[test]
fn who_is_damaged_does_not_win_by_being_back_early() {
    let mut world = unreadable();
    while epoch(&world) == Epoch(1) {
        world.rounds(1);
    }
    world.toy(2).reachable = false; // it answers late
    world.rounds(1);
    assert_eq!(world.cluster.state().primary, None, "member 0 is frozen, and has more than member 1");
    world.rounds(20);
    assert_eq!(world.cluster.state().primary, None, "waiting makes it no better");
    let against = |world: &World, id: u64| {
        let explained = world.cluster.explain(world.now);
        let member = explained.members.into_iter().find(|member| member.id == MemberId(id)).expect("it is a member");
        member.why_not.into_iter().map(|against| against.code).collect::<Vec<_>>()
    };
    assert!(against(&world, 0).contains(&NotPromoted::Damaged), "{:?}", against(&world, 0));
    world.toy(2).reachable = true;
    world.rounds(2);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    assert!(world.cluster.state().members[&MemberId(0)].damaged);
}

/// Nobody else comes back, and a person takes what there is.
#[test]
fn who_is_damaged_wins_by_a_persons_decision_and_is_as_good_as_any_then() {
    let mut world = unreadable();
    while epoch(&world) == Epoch(1) {
        world.rounds(1);
    }
    for id in [1, 2] {
        world.toy(id).reachable = false;
    }
    world.rounds(20);
    let elect = |world: &mut World, accepted| world.cluster.pull(world.now, Lever::Elect { to: MemberId(0), accepted });
    let told = elect(&mut world, AcceptedLoss::None).expect_err("nothing was accepted").to_string();
    assert!(told.contains("the binary log of member 0 is damaged"), "{told}");
    assert_eq!(elect(&mut world, AcceptedLoss::Told(told)), Ok(()));
    world.rounds(3);
    let state = world.cluster.state();
    assert_eq!((state.primary, state.members[&MemberId(0)].damaged), (Some(MemberId(0)), false));
}
