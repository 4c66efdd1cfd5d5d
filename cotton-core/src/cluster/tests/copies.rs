//! Nothing ends a copy on what was true a while ago: wishes that waited, words of the past, records that are old.

use super::world::{World, spec, status};
use crate::cluster::Input;
use crate::cluster::event::EventKind;
use crate::ports::mesos::TaskState;
use crate::{Limits, MemberId};

fn ids(world: &World) -> Vec<u64> {
    world.cluster.state().members.keys().map(|id| id.0).collect()
}

fn scale(world: &mut World, size: u64) {
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), size), Ok(()));
}

/// The store takes nothing for a moment, in which the primary is lost.
#[test]
fn a_kill_that_waited_for_the_store_is_decided_again() {
    let mut world = World::running(4);
    scale(&mut world, 3);
    world.decided();
    world.obey_all();
    world.hear_all();
    world.wanted();
    world.obey_all();
    world.say_all();
    world.hear_all();
    assert!(world.cluster.effects.iter().any(|(_, effect)| effect.name() == "kill"), "it waits");
    world.kill(0);
    world.hear_all();
    world.persist();
    let words = world.effects();
    assert!(!words.contains(&"kill 3".to_owned()), "it may have what nobody else has: {words:?}");
    world.settle();
    world.check_whole();
    assert_eq!(ids(&world).len(), 3);
}

/// Members 0 and 2 are behind the present primary, which the record that was restored does not know.
fn restored() -> World {
    let mut world = World::running(3);
    let old = world.durable.clone();
    world.crash(0);
    world.settle();
    assert_eq!(world.primary(), Some(1));
    world.toy(0).linked = false;
    world.replicate();
    for _ in 0..3 {
        assert!(world.write_at(MemberId(1)));
    }
    world.toy(0).linked = true;
    world.durable = old;
    world
}

#[test]
fn an_old_record_kills_nobody_and_elects_only_when_all_are_frozen() {
    let mut world = restored();
    world.toy(1).reachable = false; // the one that has everything
    world.recover();
    let words = world.mended(150);
    assert!(
        !words.iter().any(|word| ["kill", "promote", "launch"].iter().any(|verb| word.starts_with(verb))),
        "{words:?}"
    );
    assert!(world.reasons().contains(&"election_waits"), "{:?}", world.reasons());
    assert_eq!(world.logged(|kind| matches!(kind, EventKind::ElectionWaits { .. })), 1);
    world.toy(1).reachable = true;
    world.settle();
    world.check_whole();
    assert_eq!(ids(&world), [0, 1, 2]);
    assert!(!world.cluster.state().outdated, "it is right again");
}

/// A copy that was made during an election, and the epoch that follows it was decided otherwise since.
#[test]
fn an_old_record_decides_no_epoch_once_more() {
    let mut world = restored();
    world.durable.as_mut().expect("it was saved").primary = None;
    world.toy(1).reachable = false; // the one that has everything, and is primary
    world.recover();
    let words = world.mended(150);
    assert!(world.cluster.state().outdated, "{:?}", world.reasons());
    assert!(!words.iter().any(|word| word.starts_with("promote")), "{words:?}");
    world.toy(1).reachable = true;
    world.settle();
    world.check_whole();
    assert_eq!(ids(&world), [0, 1, 2]);
}

#[test]
fn an_old_record_waits_while_there_are_tasks_that_it_does_not_know() {
    let mut world = restored();
    world.recover();
    world.hear(Input::Outdated { unknown: true });
    let words = world.mended(100);
    assert!(!words.iter().any(|word| word.starts_with("kill") || word.starts_with("promote")), "{words:?}");
    world.hear(Input::Outdated { unknown: false });
    world.settle();
    world.check_whole();
}

/// Its data is elsewhere only as long as the others are complete.
#[test]
fn a_member_that_was_away_is_spared_while_another_is_broken() {
    let mut world = World::running(3);
    world.toy(1).reachable = false;
    world.hear(status(MemberId(1), TaskState::Unreachable));
    world.toy(2).linked = false; // joined once, and not complete now
    let words = world.mended(60);
    assert!(!words.iter().any(|word| word.starts_with("kill")), "{words:?}");
    assert!(ids(&world).contains(&3), "its place is taken: {:?}", ids(&world));
    world.toy(1).reachable = true;
    world.hear(status(MemberId(1), TaskState::Running));
    let words = world.mended(20);
    assert!(!words.contains(&"kill 1".to_owned()), "{words:?}");
    assert!(words.contains(&"kill 2".to_owned()), "it is the one too many now: {words:?}");
    world.settle();
    world.check_whole();
}

/// Scaling down waits for as many complete copies as are wanted.
#[test]
fn nobody_that_was_complete_leaves_while_others_are_not() {
    let mut world = World::running(3);
    world.toy(2).linked = false;
    world.replicate();
    world.hear_all();
    scale(&mut world, 2);
    let words = world.mended(60);
    assert!(!words.contains(&"kill 1".to_owned()), "{words:?}");
    assert!(words.contains(&"kill 2".to_owned()), "which has nothing that others lack: {words:?}");
    world.settle();
    world.check_whole();
}

/// One that is to leave ends within the moment in which the primary has died unheard.
#[test]
fn a_leaving_members_volume_is_kept_until_the_primary_has_spoken() {
    let mut world = World::new(spec(3));
    world.volumes = true;
    world.settle();
    assert!(world.write());
    world.settle();
    scale(&mut world, 2);
    world.rounds(1);
    world.toy(0).reachable = false;
    world.end_task(2);
    world.hear_all();
    world.persist();
    let words = world.effects();
    assert!(!words.contains(&"release 2".to_owned()), "{words:?}");
    world.toy(0).reachable = true;
    world.say_all();
    let words = world.mended(20);
    assert!(words.contains(&"release 2".to_owned()), "{words:?}");
    world.settle();
    world.check_whole();
}

/// Nobody may have written to it, but nobody knows.
#[test]
fn a_first_primary_that_opened_unheard_is_not_replaced_by_an_empty_one() {
    let mut world = World::new(spec(3));
    world.place();
    world.persist();
    world.effects();
    world.hear_all();
    world.persist();
    world.effects();
    let primary = world.cluster.state().primary.expect("the first to run");
    world.obey_all();
    world.up.clear(); // that it is open is not heard
    let toy = world.toy(primary.0);
    toy.data.insert(primary.0, 1);
    toy.applied = toy.data.clone();
    world.crash(primary.0);
    world.hear_all();
    world.persist();
    world.effects();
    world.restart(primary.0);
    world.settle();
    assert_eq!(world.primary(), Some(primary.0));
}
