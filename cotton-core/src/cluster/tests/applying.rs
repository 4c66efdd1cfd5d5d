//! What is told of a member that applies what it has received: how much is left, how fast it goes, when it is over.

use super::slow;
use super::world::World;
use crate::cluster::event::EventKind;
use crate::{ApplyingView, MemberId, PerSecond};

fn applying(world: &World, id: usize) -> ApplyingView {
    world.cluster.view(world.now).members[id].applying.expect("it has something to apply")
}

fn slow_events(world: &World) -> Vec<&EventKind> {
    world.log.iter().filter(|kind| matches!(kind, EventKind::ApplyingSlowly { .. })).collect()
}

#[test]
fn a_winner_tells_what_is_left_and_how_fast_it_goes() {
    let mut world = slow::applying();
    assert_eq!(world.logged(|kind| *kind == EventKind::Applying { member: MemberId(1), left: 900 }), 1);
    for _ in 0..25 {
        world.toy(1).unapplied -= 30;
        world.rounds(1);
    }
    let told = applying(&world, 1);
    assert_eq!((told.left, told.rest_s), (150, Some(5)), "{told:?}");
    let rate = told.per_second.expect("known").milli;
    assert!((26_000..=30_000).contains(&rate), "{told:?}");
    assert!(told.since_ms >= 25_000 && told.advanced_ms <= 1_000, "{told:?}");
    let reason = world.cluster.view(world.now).reasons[0].clone();
    assert_eq!(reason.code.name(), "promotion");
    assert!(reason.text.contains("member 1 has 150 transactions left to apply, 2"), "{}", reason.text);
    assert!(reason.text.ends_with(" a second, about 5 s to go"), "{}", reason.text);
    let slow = slow_events(&world);
    assert_eq!(slow.len(), 2, "after ten seconds, and after twenty: {slow:?}");
    let EventKind::ApplyingSlowly { member: MemberId(1), left, per_second: Some(_), rest_s: Some(_), .. } = slow[1]
    else {
        panic!("{slow:?}")
    };
    assert!((300..=400).contains(left), "{slow:?}");

    (world.toy(1).slow, world.toy(1).unapplied) = (false, 0);
    let acknowledged = world.acknowledged.clone();
    world.carry_out(MemberId(1), &acknowledged);
    world.rounds(3);
    assert_eq!(world.primary(), Some(1));
    assert!(world.cluster.view(world.now).members[1].applying.is_none());
    let end = |kind: &EventKind| matches!(kind, EventKind::Applied { member: MemberId(1), transactions: 900, ms } if *ms >= 25_000);
    assert_eq!(world.logged(end), 1, "{:?}", world.log);
}

#[test]
fn one_long_transaction_is_told_now_and_then() {
    let mut world = slow::applying();
    world.toy(1).unapplied = 1;
    world.rounds(3_600);
    let told = applying(&world, 1);
    assert_eq!((told.left, told.per_second, told.rest_s), (1, Some(PerSecond { milli: 0 }), None));
    assert!(told.advanced_ms >= 3_500_000, "{told:?}");
    let text = world.cluster.view(world.now).reasons[0].text.clone();
    assert!(text.contains("1 transaction left to apply, none of them finished for 3"), "{text}");
    assert_eq!(slow_events(&world).len(), 9, "10 s, 20 s, 40 s and so on");
}

#[test]
fn a_replica_that_receives_more_than_it_applies_has_no_end_in_sight() {
    let mut world = World::running(3);
    for second in 1..=60 {
        for _ in 0..4 {
            assert!(world.write());
        }
        // of four that it receives, it applies three
        world.toy(2).unapplied = second;
        world.rounds(1);
    }
    let told = applying(&world, 2);
    assert_eq!((told.left, told.rest_s), (60, None));
    assert_eq!(told.per_second, Some(PerSecond { milli: 3_000 }), "{told:?}");
    for _ in 0..10 {
        world.toy(2).unapplied -= 5;
        world.rounds(1);
    }
    let told = applying(&world, 2);
    assert!(told.left == 10 && told.rest_s.is_some_and(|seconds| seconds <= 30), "{told:?}");
    assert_eq!(slow_events(&world).len(), 0, "it does not keep anybody waiting");
    world.toy(2).unapplied = 0;
    world.rounds(1);
    assert!(world.cluster.view(world.now).members[2].applying.is_none());
}

#[test]
fn a_rate_ends_with_the_start_of_the_server() {
    let mut world = slow::applying();
    for _ in 0..5 {
        world.toy(2).unapplied -= 100;
        world.rounds(1);
    }
    assert!(applying(&world, 2).per_second.is_some_and(|rate| rate.milli > 50_000));
    world.crash(2);
    world.hear_all();
    assert!(world.cluster.view(world.now).members[2].applying.is_none(), "who knows");
    world.restart(2);
    world.toy(2).unapplied = 300;
    world.say(MemberId(2));
    world.hear_all();
    let told = applying(&world, 2);
    assert_eq!((told.left, told.per_second, told.since_ms), (300, None, 0));
}
