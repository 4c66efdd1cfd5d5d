//! Elections that a person decides.

use super::world::{World, spec};
use crate::cluster::Input;
use crate::cluster::event::EventKind;
use crate::cluster::levers::{AcceptedLoss, Lever, LeverError};
use crate::protocol::Trouble;
use crate::{Epoch, Limits, MemberId};

fn elect(world: &mut World, to: u64, accept_loss: bool) -> Result<(), LeverError> {
    let accepted = if accept_loss { AcceptedLoss::Any } else { AcceptedLoss::None };
    world.cluster.pull(world.now, Lever::Elect { to: MemberId(to), accepted })
}

/// What would be lost, which is told and changes nothing.
fn loss(world: &mut World, to: u64) -> String {
    let revision = world.cluster.revision();
    let refused = elect(world, to, false).expect_err("nothing was accepted");
    assert_eq!(world.cluster.revision(), revision, "nothing was changed");
    match refused {
        LeverError::LossNotAccepted { member, loss } if member == MemberId(to) => loss,
        other => panic!("{other}"),
    }
}

/// Does it; what the winner lacks is not acknowledged any more.
fn force(world: &mut World, to: u64) {
    assert_eq!(elect(world, to, true), Ok(()));
    world.acknowledged = world.toys[&MemberId(to)].data.clone();
    let asked = |kind: &EventKind| matches!(kind, EventKind::ElectionForced { member, .. } if member.0 == to);
    world.persist();
    world.effects();
    assert_eq!(world.logged(asked), 1);
    world.rounds(3);
    assert_eq!(world.primary(), Some(to), "{:#?}", world.cluster.view(world.now));
}

/// The primary is gone, and so, as far as can be seen, is the only one that acknowledged its last commit.
fn without_a_quorum() -> World {
    let mut world = World::running(3);
    world.toy(1).linked = false;
    world.replicate();
    assert!(world.write());
    world.toy(1).linked = true;
    (world.toy(2).reachable, world.toy(2).linked) = (false, false);
    world.kill(0);
    world.hear_all();
    world.rounds(10);
    assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
    world
}

#[test]
fn who_has_the_last_commits_is_missing() {
    let mut world = without_a_quorum();
    let text = loss(&mut world, 1);
    assert!(text.starts_with("what member 2 has received is not known: it was last heard of "), "{text}");
    assert!(!text.contains("two servers may take writes"), "its task has ended: {text}");
    force(&mut world, 1);
    assert_eq!(world.cluster.state().epoch, Epoch(2));
    assert!(world.write() || world.cluster.state().spec.durability.acks() > 0);

    // it is back, with a commit that was acknowledged: it is set aside, with its data
    (world.toy(2).reachable, world.toy(2).linked) = (true, true);
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(1));
    assert!(!world.toys.contains_key(&MemberId(2)));
    let kept = |kind: &EventKind| matches!(kind, EventKind::Leaving { member: MemberId(2), reason } if reason.contains("its data is kept"));
    assert_eq!(world.logged(kept), 1, "{:#?}", world.log);
}

/// What is accepted is what was told, and not what may be lost by the time of the answer.
#[test]
fn more_may_be_lost_than_was_told() {
    let told =
        |world: &mut World| LeverError::LossNotAccepted { member: MemberId(1), loss: loss(world, 1) }.to_string();
    let elect = |world: &mut World, told: &str| {
        let accepted = AcceptedLoss::Told(told.to_owned());
        world.cluster.pull(world.now, Lever::Elect { to: MemberId(1), accepted })
    };
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).still = true;
        world.toy(id).data.insert(id, 1);
    }
    world.kill(0);
    world.hear_all();
    world.rounds(5);
    let first = told(&mut world);
    world.toy(2).data.insert(2, 2);
    world.rounds(2);
    let again = elect(&mut world, &first).expect_err("member 2 has more by now");
    assert!(matches!(&again, LeverError::LossNotAccepted { .. }), "{again}");
    assert_ne!(again.to_string(), first);
    assert_eq!(elect(&mut world, &again.to_string()), Ok(()));

    let mut world = without_a_quorum();
    let first = told(&mut world);
    world.rounds(5);
    assert_ne!(told(&mut world), first, "the seconds");
    assert_eq!(elect(&mut world, &first), Ok(()));
}

/// A person chooses a member that is heard of, and then it is not.
#[test]
fn a_choice_is_void_when_it_cannot_be_carried_out_in_time() {
    let mut world = World::running(3);
    for id in [0, 2] {
        world.toy(id).reachable = false;
    }
    world.rounds(10);
    assert_eq!(world.primary(), Some(0), "member 1 is connected to it");
    assert_eq!(elect(&mut world, 1, true), Ok(()));
    world.toy(1).reachable = false;
    world.rounds(150);
    let void =
        |kind: &EventKind| matches!(kind, EventKind::ElectionWaits { reason } if reason.contains("choose again"));
    assert_eq!((world.logged(void), world.primary()), (1, None), "{:#?}", world.log);
    world.toy(1).reachable = true;
    world.rounds(3);
    assert_eq!(world.primary(), None, "more may be lost by now than was accepted");
    assert_eq!(elect(&mut world, 1, true), Ok(()));
    world.rounds(3);
    assert_eq!(world.primary(), Some(1));
}

#[test]
fn a_scheduler_that_was_restarted_knows_nothing_of_who_is_missing() {
    let mut world = without_a_quorum();
    world.recover();
    world.rounds(10);
    let text = loss(&mut world, 1);
    assert!(text.contains("what member 2 has received is not known: it has not been heard of since"), "{text}");
    force(&mut world, 1);
}

#[test]
fn a_split_brain() {
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).still = true;
        world.toy(id).data.insert(id, 1);
    }
    world.kill(0);
    world.hear_all();
    world.rounds(5);
    let text = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(text.contains("split brain"), "{text}");
    let text = loss(&mut world, 2);
    assert_eq!(text, "member 1 has 3e11fa47-71ca-11e1-9e33-000000000001:1, which member 2 lacks");
    force(&mut world, 2);
    for id in [1, 2] {
        world.toy(id).still = false;
    }
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.toys.contains_key(&MemberId(1))), (Some(2), false));
}

#[test]
fn an_old_primary_that_may_take_writes() {
    let mut world = World::running(1);
    world.cluster.scale(world.now, &Limits::default(), 2).expect("room");
    world.settle();
    (world.toy(0).reachable, world.toy(0).linked) = (false, false);
    world.rounds(30);
    assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
    let text = loss(&mut world, 1);
    assert!(text.contains("member 0 was primary") && text.contains("two servers may take writes"), "{text}");
    force(&mut world, 1);
    (world.toy(0).reachable, world.toy(0).linked) = (true, true);
    world.settle();
    world.check_whole();
    assert_eq!(world.primary(), Some(1));
}

#[test]
fn a_record_that_is_older_than_the_cluster() {
    let mut world = World::running(3);
    world.hear(Input::Outdated { unknown: true });
    world.kill(0);
    world.hear_all();
    world.rounds(10);
    let text = loss(&mut world, 1);
    assert!(text.contains("the stored record is older than the cluster"), "{text}");
    force(&mut world, 1);
}

#[test]
fn only_a_member_that_is_no_complete_copy_is_left() {
    let mut world = super::health::lost_while_the_other_applies(true);
    let text = elect(&mut world, 1, true).expect_err("it has lost everything").to_string();
    assert_eq!(text, "member 1 cannot be elected: it has no data");
    world.toy(1).data.insert(1, 1); // a part of it
    world.rounds(1);
    let text = loss(&mut world, 1);
    assert!(text.contains("member 1 is no complete copy, and what it lacks is not known"), "{text}");
    force(&mut world, 1);
    world.toy(1).still = false;
    world.settle();
    assert_eq!(world.primary(), Some(1));
}

#[test]
fn a_winner_that_cannot_apply_what_it_has() {
    let mut world = World::running(3);
    world.toy(2).linked = false;
    world.replicate();
    assert!(world.write());
    let toy = world.toy(1);
    (toy.slow, toy.unapplied) = (true, 1);
    toy.trouble = Some(Trouble::Stuck { detail: "1062".to_owned() });
    world.toy(2).linked = true;
    world.kill(0);
    world.hear_all();
    world.rounds(2);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    assert_eq!(elect(&mut world, 2, false), Err(LeverError::UnderWay("a promotion")));
    world.rounds(3);
    let text = loss(&mut world, 2);
    assert!(text.contains("member 1 has"), "{text}");
    assert_eq!(elect(&mut world, 2, true), Ok(()));
    world.acknowledged = world.toys[&MemberId(2)].data.clone();
    world.rounds(5);
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(2), Epoch(3)));
}

#[test]
fn what_is_refused_whatever_is_accepted() {
    let mut world = World::running(3);
    let text = elect(&mut world, 1, true).expect_err("all is well").to_string();
    assert_eq!(text, "no election waits: member 0 is the primary: use 'cotton switchover'");
    assert_eq!(elect(&mut world, 7, true), Err(LeverError::NoMember(MemberId(7))));
    let mut world = without_a_quorum();
    let text = elect(&mut world, 2, true).expect_err("nobody knows what it has").to_string();
    assert_eq!(text, "member 2 cannot be elected: it is not heard of");
    world.crash(1);
    world.hear_all();
    let text = elect(&mut world, 1, true).expect_err("it is down").to_string();
    assert_eq!(text, "member 1 cannot be elected: its server does not run");
    world.restart(1);
    world.rounds(3);
    assert_eq!(world.cluster.pull(world.now, Lever::Pause), Ok(()));
    assert_eq!(elect(&mut world, 1, true), Err(LeverError::Paused));
    assert_eq!(world.cluster.pull(world.now, Lever::Resume), Ok(()));
    assert_eq!(elect(&mut world, 1, true), Err(LeverError::UnderWay("an election")), "it may help itself now");
    // an empty newcomer
    world.rounds(4);
    world.mended(3);
    assert!(world.toys.contains_key(&MemberId(3)) || world.cluster.wanted().is_none());
    let mut world = World::new(spec(2));
    assert!(elect(&mut world, 0, true).is_err());
}
