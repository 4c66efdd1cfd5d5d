//! Without acknowledgements: leases, and waiting for whoever has the data.

use super::world::World;
use crate::cluster::event::EventKind;
use crate::protocol::{Directive, MemberRole, Order, ToExecutor};
use crate::{Limits, MemberId};

/// Cuts a member off from the scheduler and from the others; its server runs on.
fn cut_off(world: &mut World, id: u64) {
    world.toy(id).reachable = false;
    world.toy(id).linked = false;
}

#[test]
fn a_crashed_primary_gets_a_moment_to_come_back_with_its_data() {
    let mut world = World::running(2);
    world.toy(1).linked = false; // lags
    world.replicate();
    assert!(world.write());
    world.crash(0);
    world.rounds(2);
    assert_eq!(world.cluster.state().primary, None);
    world.restart(0);
    world.toy(1).linked = true;
    world.settle();
    assert_eq!(world.primary(), Some(0));
    world.check_whole();
}

#[test]
fn and_not_longer() {
    let mut world = World::running(2);
    world.crash(0);
    world.rounds(5);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    world.settle();
    world.check_whole();
}

#[test]
fn a_silent_primary_is_replaced_when_its_lease_has_run_out() {
    let mut world = World::running(2);
    world.rounds(2);
    cut_off(&mut world, 0);
    let cut = world.now;
    while world.cluster.state().primary != Some(MemberId(1)) {
        world.rounds(1);
        assert!(world.now.since(cut) < 20_000, "it is replaced in the end");
    }
    assert!(world.now.since(cut) > 8_000, "its last answer let it write for so long");
    // What the toy's old primary does not do, a real one does: it stopped by itself.
    world.toy(0).restart();
    world.toy(0).reachable = true;
    world.toy(0).linked = true;
    world.settle();
    world.check_whole();
}

#[test]
fn one_whose_end_is_known_is_not_waited_for() {
    let mut world = World::running(2);
    world.kill(0);
    world.hear_all();
    world.rounds(1);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
}

#[test]
fn a_primary_that_opened_without_a_lease_is_waited_for() {
    let mut world = World::running(1);
    let order = world.toy(0).order.clone();
    assert!(matches!(order, Some(Order::Promote { lease_ms: None, .. })), "nobody could replace it");
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), 2), Ok(()));
    world.settle();
    cut_off(&mut world, 0);
    world.rounds(90);
    assert_eq!(world.cluster.state().primary, None, "it may still take writes");
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::ElectionWaits { .. })), 1);
    world.kill(0);
    world.hear_all();
    world.rounds(2);
    assert_eq!(world.cluster.state().primary, Some(MemberId(1)));
    world.persist();
    world.effects();
    let leased = |order: &Option<Order>| matches!(order, Some(Order::Promote { lease_ms: Some(_), .. }));
    assert!(leased(&world.toy(1).order), "the next one has a lease");
}

#[test]
fn questions_do_not_renew_a_lease() {
    let mut world = World::running(2);
    world.hear(crate::cluster::Input::Connected);
    world.persist();
    world.effects();
    for (_, message) in &world.down {
        assert!(!matches!(message, ToExecutor::Heard { seq: 1.., report_now: true, .. }), "{message:?}");
    }
    world.say(MemberId(0));
    world.hear_all();
    assert_eq!(world.wanted(), ["answer 0"], "reports of the primary do");
    world.say(MemberId(1));
    world.hear_all();
    assert_eq!(world.wanted(), Vec::<String>::new(), "nobody else needs an answer");
}

#[test]
fn a_cluster_of_one_restarts_in_place() {
    let mut world = World::running(1);
    world.crash(0);
    world.settle();
    world.check_whole();
    assert_eq!((world.primary(), world.cluster.state().epoch.0), (Some(0), 2));
    assert!(matches!(world.toy(0).role, MemberRole::Primary));
    let promote = world.down.iter().any(|(_, m)| matches!(m, ToExecutor::Directive(Directive { .. })));
    assert!(!promote, "and is not told again and again");
}

#[test]
fn a_cluster_of_one_whose_data_is_gone_says_so() {
    let mut world = World::running(1);
    world.kill(0);
    world.settle();
    let view = world.cluster.view(world.now);
    assert_eq!((view.primary, view.reasons[0].code.name()), (None, "election_waits"));
    assert_eq!(view.reasons[0].text, "no member with the cluster's data has answered");
}

#[test]
fn one_that_may_have_opened_unheard_is_waited_for() {
    let mut world = World::running(2);
    world.crash(0);
    while world.cluster.state().primary != Some(MemberId(1)) {
        world.rounds(1);
    }
    world.persist();
    world.effects();
    let told = world.now;
    world.obey_all();
    world.up.clear(); // what the scheduler has last heard of member 1 is that it was frozen
    cut_off(&mut world, 1);
    world.restart(0);
    while world.cluster.state().primary != Some(MemberId(0)) {
        world.rounds(1);
        assert!(world.now.since(told) < 20_000, "{:?}", world.reasons());
    }
    assert!(world.now.since(told) > 8_000, "member 1 may have taken writes for so long: {}", world.now.since(told));
}
