//! Promotion rules of members.

use super::world::World;
use crate::cluster::event::EventKind;
use crate::cluster::levers::{Lever, LeverError};
use crate::cluster::switchover::SwitchoverError;
use crate::election::PromotionRule::{self, Never, Prefer};
use crate::{Epoch, MemberId};

fn rule(world: &mut World, id: u64, rule: PromotionRule) {
    assert_eq!(world.cluster.pull(world.now, Lever::Rule(MemberId(id), rule)), Ok(()));
    world.persist();
}

fn rules(world: &World) -> Vec<PromotionRule> {
    world.cluster.view(world.now).members.into_iter().map(|member| member.rule).collect()
}

#[test]
fn a_preferred_member_wins_among_those_that_have_the_same() {
    for restarts in [false, true] {
        let mut world = World::running(3);
        rule(&mut world, 2, Prefer);
        rule(&mut world, 2, Prefer);
        world.effects();
        assert_eq!(world.logged(|kind| matches!(kind, EventKind::RuleSet { rule: Prefer, .. })), 1);
        if restarts {
            world.recover();
            world.settle();
        }
        assert_eq!(rules(&world), [PromotionRule::Neutral, PromotionRule::Neutral, Prefer]);
        world.crash(0);
        world.settle();
        world.check_whole();
        assert_eq!(world.primary(), Some(2));
    }
}

#[test]
fn what_a_member_has_counts_for_more() {
    let mut world = World::running(3);
    rule(&mut world, 2, Prefer);
    rule(&mut world, 1, Never);
    world.toy(2).linked = false;
    world.replicate();
    world.hear_all();
    assert!(world.write(), "member 1 alone acknowledges it");
    world.kill(0);
    world.toy(2).linked = true;
    world.rounds(2);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(2), Epoch(3)), "it hands over");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::SwitchedOver { .. })), 1);
}

#[test]
fn who_is_never_to_be_primary_hands_over_and_takes_over_from_nobody() {
    let mut world = World::running(3);
    rule(&mut world, 1, Never);
    let refused = world.cluster.switchover(world.now, Some(MemberId(1))).expect_err("ruled out");
    assert!(matches!(&refused, SwitchoverError::NotReady { why, .. } if why.contains("promotion rule")), "{refused}");
    rule(&mut world, 0, Never);
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(2), Epoch(2)));
    // with nobody else there, it stays
    rule(&mut world, 2, Never);
    world.settle();
    assert_eq!((world.primary(), world.cluster.state().epoch), (Some(2), Epoch(2)));
    let refused = world.cluster.pull(world.now, Lever::Rule(MemberId(9), Never));
    assert_eq!(refused, Err(LeverError::NoMember(MemberId(9))));
}

#[test]
fn a_switchover_goes_to_who_is_preferred() {
    let mut world = World::running(3);
    rule(&mut world, 2, Prefer);
    assert_eq!(world.cluster.switchover(world.now, None), Ok((MemberId(0), MemberId(2))));
}

/// A preferred winner with much to apply is overtaken once, not again and again; never by one that is ruled out.
#[test]
fn a_slow_winner_is_overtaken_whatever_it_is() {
    for (other, overtaken) in [(PromotionRule::Neutral, true), (Never, false)] {
        let mut world = World::running(3);
        rule(&mut world, 2, Prefer);
        rule(&mut world, 1, other);
        (world.toy(2).slow, world.toy(2).unapplied) = (true, 9);
        world.kill(0);
        world.hear_all();
        world.rounds(30);
        let expected = if overtaken { (Some(1), Epoch(3)) } else { (None, Epoch(2)) };
        assert_eq!((world.primary(), world.cluster.state().epoch), expected, "{other:?}");
    }
}
