//! A winner that takes long to apply what it has received, and members that wrote what was not theirs to write.

use super::world::World;
use crate::protocol::{MemberRole, ServerStart, Trouble};
use crate::{Epoch, MemberId};

/// Who was elected, open or not.
fn chosen(world: &World) -> Option<u64> {
    world.cluster.state().primary.map(|id| id.0)
}

/// The primary's server is lost for good, and the winner does not come to an end with applying.
pub(super) fn applying() -> World {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).slow = true;
        world.toy(id).unapplied = 900;
    }
    assert!(world.write());
    world.crash(0);
    world.hear_all();
    world.rounds(3);
    assert_eq!(chosen(&world), Some(1));
    assert_eq!(world.toy(1).role, MemberRole::Promoting);
    world
}

#[test]
fn being_slow_is_not_being_lost() {
    let mut world = applying();
    world.rounds(600);
    assert_eq!((chosen(&world), world.cluster.state().epoch), (Some(1), Epoch(2)));
    world.toy(1).slow = false;
    let acknowledged = world.acknowledged.clone();
    world.carry_out(MemberId(1), &acknowledged);
    world.rounds(5);
    assert_eq!(world.toy(1).role, MemberRole::Primary);
    let told = world.cluster.view(world.now).last_failover.expect("there was one");
    assert!(told.promoted_ms >= 600_000, "the outage that is told is the real one: {told:?}");
}

#[test]
fn who_cannot_apply_is_not_lost_either() {
    let mut world = applying();
    world.toy(1).trouble = Some(Trouble::Stuck { detail: "1062".to_owned() });
    world.toy(2).unapplied = 900;
    world.rounds(600);
    assert_eq!((chosen(&world), world.cluster.state().epoch), (Some(1), Epoch(2)), "nobody could do better");
}

#[test]
fn one_that_has_all_applied_takes_over() {
    let mut world = applying();
    world.restart(0);
    world.rounds(5);
    assert_eq!(world.primary(), Some(0), "the old primary is back with all it had");
    assert_eq!(world.toy(0).role, MemberRole::Primary);
    let told = world.cluster.view(world.now).last_failover.expect("there was one");
    assert!(told.promoted_ms >= 3_000, "counted from the first loss: {told:?}");
}

#[test]
fn one_that_has_all_applied_takes_over_although_it_fails_to_follow() {
    let mut world = applying();
    world.toy(1).trouble = Some(Trouble::Stuck { detail: "1062".to_owned() });
    world.restart(0);
    world.toy(0).trouble = Some(Trouble::Failing { detail: "follow: the primary is not open".to_owned() });
    world.rounds(5);
    assert_eq!(world.primary(), Some(0));
}

#[test]
fn a_winner_that_is_not_heard_of_for_a_while_keeps_what_it_has() {
    let mut world = applying();
    world.toy(1).reachable = false;
    world.rounds(10);
    assert_eq!(
        (chosen(&world), world.cluster.state().epoch),
        (None, Epoch(3)),
        "the other is asked, and lacks nothing less"
    );
    world.toy(1).reachable = true;
    world.toy(1).slow = false;
    world.toy(2).slow = false;
    world.rounds(10);
    assert!(world.primary().is_some());
}

#[test]
fn a_start_that_kept_all_answers_for_the_ones_before() {
    for kept in [true, false] {
        let mut world = World::running(3);
        assert!(world.write());
        world.rounds(2);
        world.crash(0);
        for id in [1, 2] {
            world.toy(id).applied = world.toy(id).data.clone();
            world.crash(id);
        }
        world.hear_all();
        for id in [1, 2] {
            world.restart(id);
            if kept {
                world.toy(id).kept_since = Some(ServerStart { incarnation: 1, boot: 1 });
            }
        }
        world.say_all();
        world.hear_all();
        world.rounds(5);
        assert_eq!(world.primary().is_some(), kept, "kept: {kept}");
    }
}

#[test]
fn what_replicas_wrote_by_themselves_decides_nothing() {
    let mut world = World::running(3);
    for id in [0, 1, 2] {
        world.toy(id).origin = format!("3e11fa47-71ca-11e1-9e33-{id:012}");
    }
    // The marks are known from the next election on.
    world.crash(0);
    world.settle();
    let primary = world.primary().expect("there is one");
    assert!(world.write());
    world.rounds(2);
    for id in (0..3).filter(|id| *id != primary) {
        world.toy(id).data.insert(id, 7);
        world.toy(id).applied.insert(id, 7);
    }
    world.say_all();
    world.hear_all();
    world.crash(primary);
    world.hear_all();
    world.rounds(5);
    assert!(world.primary().is_some(), "no split brain: {:?}", world.reasons());
    let floor = world.cluster.state().floor.to_string();
    assert!(!floor.contains(":1-7"), "nobody has to have that: {floor}");
    assert!(world.cluster.state().members.contains_key(&MemberId(primary)));
}

/// A winner may never open. What it wrote when it was not the one to write must not have spread by then: members that have it
/// would differ from all others for no good reason.
#[test]
fn nobody_follows_a_winner_of_whom_it_is_not_sure_that_it_opens() {
    let mut world = World::running(3);
    for id in [0, 1, 2] {
        world.toy(id).origin = format!("3e11fa47-71ca-11e1-9e33-{id:012}");
    }
    world.crash(0); // the marks are known from the next election on
    world.settle();
    let primary = world.primary().expect("there is one");
    let replicas: Vec<u64> = (0..3).filter(|id| *id != primary).collect();
    for id in &replicas {
        world.toy(*id).slow = true;
        world.toy(*id).unapplied = 9;
    }
    world.toy(replicas[0]).data.insert(replicas[0], 7);
    world.toy(replicas[1]).trouble = Some(Trouble::Stuck { detail: "1032".to_owned() });
    assert!(world.write());
    world.crash(primary);
    world.rounds(5);
    let winner = chosen(&world).expect("there is a quorum");
    let other = replicas.iter().copied().find(|id| *id != winner).expect("another");
    assert_eq!(world.toy(winner).role, MemberRole::Promoting);
    assert_eq!(world.toy(other).role, MemberRole::Frozen, "it waits");
    world.recover();
    world.rounds(5);
    assert_eq!(world.toy(other).role, MemberRole::Frozen, "it waits, also for a scheduler that was started since");
    world.toy(winner).slow = false;
    let acknowledged = world.acknowledged.clone();
    world.carry_out(MemberId(winner), &acknowledged);
    world.rounds(5);
    assert_eq!(world.toy(winner).role, MemberRole::Primary);
    assert_ne!(world.toy(other).role, MemberRole::Frozen, "now it is told to follow");
}

/// A winner that has errant transactions and never opens must not win again because of them.
#[test]
fn what_a_winner_wrote_before_decides_nothing_unless_it_may_have_opened() {
    for never_opened in [true, false] {
        let mut world = World::running(2);
        for id in [0, 1] {
            world.toy(id).origin = format!("3e11fa47-71ca-11e1-9e33-{id:012}");
        }
        world.crash(0); // the marks are known from the next election on
        world.hear_all();
        world.restart(0);
        world.settle();
        let (primary, replica) = if world.primary() == Some(0) { (0, 1) } else { (1, 0) };
        assert!(world.write());
        world.toy(replica).data.insert(replica, 7);
        world.toy(replica).trouble = Some(Trouble::Stuck { detail: "1032".to_owned() });
        world.toy(replica).slow = true;
        world.toy(replica).unapplied = 1;
        world.toy(replica).never_opened = never_opened;
        world.crash(primary);
        world.toy(primary).reachable = false;
        world.rounds(5);
        assert_eq!(chosen(&world), Some(replica), "{:?}", world.reasons());
        world.toy(primary).reachable = true;
        world.restart(primary);
        world.rounds(20);
        let expected = if never_opened { primary } else { replica };
        assert_eq!(chosen(&world), Some(expected), "never opened: {never_opened}, {:?}", world.log);
    }
}
