//! Launches that fail again and again: when the next one comes, what is told of it, and what ends the row.

use super::super::Verdict;
use super::world::{World, spec, status};
use crate::cluster::event::EventKind;
use crate::ports::mesos::TaskState;
use crate::protocol::Trouble;
use crate::{Limits, MemberId};

fn failed(world: &mut World, id: u64) {
    world.toys.remove(&MemberId(id));
    world.up.retain(|input| !matches!(input, super::super::Input::Task { member, .. } if member.0 == id));
    world.hear(status(MemberId(id), TaskState::Failed));
}

/// How long the next member is not wanted, in seconds.
fn pause(world: &mut World) -> u64 {
    for seconds in 0..100 {
        if world.cluster.wanted().is_some() {
            return seconds;
        }
        world.rounds(1);
    }
    panic!("no end of the pause: {:#?}", world.cluster.view(world.now));
}

fn grown(world: &mut World) -> u64 {
    assert_eq!(world.cluster.scale(world.now, &Limits::default(), 4), Ok(()));
    world.place();
    world.persist();
    world.effects();
    3
}

/// As one that is killed for its memory while it makes its copy: to run is no success.
#[test]
fn members_that_end_before_their_copy_is_complete_are_replaced_less_and_less_often() {
    let mut world = World::running(3);
    let mut id = grown(&mut world);
    let mut pauses = Vec::new();
    for round in 0..8 {
        world.hear(status(MemberId(id), TaskState::Running));
        world.say(MemberId(id));
        world.hear_all();
        failed(&mut world, id);
        let view = world.cluster.view(world.now);
        let retry = view.retries.first().expect("it is told");
        assert_eq!((retry.what, retry.failures, &*retry.reason), ("launch", round + 1, "failed"), "{retry}");
        assert!(world.reasons().contains(&"launch_failed"), "{:?}", view.reasons);
        pauses.push(pause(&mut world));
        world.place();
        world.persist();
        world.effects();
        id += 1;
    }
    assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 60], "from half a second to a minute");
    let told: Vec<(u32, u64)> = (world.log.iter())
        .filter_map(|kind| {
            let EventKind::LaunchFailed { failures, retry_ms, .. } = kind else { return None };
            Some((*failures, *retry_ms))
        })
        .collect();
    assert_eq!(told.last(), Some(&(8, 60_000)));
    // One that gets through ends the row.
    world.settle();
    world.check_whole();
    assert!(world.cluster.view(world.now).retries.is_empty());
    world.kill(id);
    world.hear_all();
    world.place();
    world.persist();
    world.effects();
    failed(&mut world, id + 1);
    assert_eq!(world.cluster.view(world.now).retries.first().map(|retry| retry.failures), Some(1));
}

#[test]
fn what_members_did_is_told_of_their_agents() {
    let mut world = World::running(3);
    let verdicts = |world: &mut World| std::iter::from_fn(|| world.cluster.poll_verdict()).collect::<Vec<_>>();
    let works: Vec<_> = ["a0", "a1", "a2"].map(|agent| (agent.into(), Verdict::Works)).into();
    assert_eq!(verdicts(&mut world), works);
    let id = grown(&mut world);
    failed(&mut world, id);
    assert_eq!(verdicts(&mut world), [("a3".into(), Verdict::Failed("failed".to_owned()))]);
    world.kill(2);
    world.hear_all();
    assert_eq!(verdicts(&mut world), [], "one that worked, and was killed");
}

/// It holds nothing that others lack, so that nobody else need be complete.
#[test]
fn an_unstable_member_that_never_was_complete_is_replaced_even_beside_others_that_are_not() {
    for trouble in
        [Trouble::Unstable { detail: "signal 6".to_owned() }, Trouble::Broken { detail: "error 1032".to_owned() }]
    {
        let mut world = World::running(3);
        world.volumes = true;
        assert_eq!(world.cluster.scale(world.now, &Limits::default(), 5), Ok(()));
        world.place();
        world.persist();
        world.effects();
        world.hear_all();
        for id in [3, 4] {
            world.toy(id).crash();
            world.toy(id).trouble = Some(trouble.clone());
            world.say(MemberId(id));
        }
        world.hear_all();
        let leaving = world.cluster.state().members.values().filter(|member| member.leaving.is_some()).count();
        assert_eq!(leaving, 2, "they do not wait for each other");
        assert!(world.reasons().contains(&"launch_failed"));
        world.settle();
        world.check_whole();
        assert_eq!(world.cluster.state().kept.len(), 0, "nothing of theirs is worth keeping");
    }
}

#[test]
fn one_that_gets_no_copy_is_replaced_after_some_that_failed() {
    let mut world = World::running(3);
    let id = grown(&mut world);
    world.hear_all();
    world.toy(id).still = true;
    for failures in 1..=4 {
        assert!(world.cluster.state().members[&MemberId(id)].leaving.is_none());
        world.toy(id).failed_copies = failures;
        world.toy(id).trouble = Some(Trouble::HistoryMissing { detail: "copy from h1 failed: no space".to_owned() });
        world.say(MemberId(id));
        world.hear_all();
        let view = world.cluster.view(world.now);
        let copy = view.retries.iter().find(|retry| retry.what == "copy").expect("it is told");
        assert_eq!((copy.failures, copy.member), (failures, Some(MemberId(id))));
        assert!(copy.reason.ends_with("no space"), "{copy}");
    }
    assert!(world.cluster.state().members[&MemberId(id)].leaving.is_some());
    world.settle();
    world.check_whole();
    assert!(!world.cluster.state().members.contains_key(&MemberId(id)));
}

/// Its copy is complete, though behind: a person, or another donor, may help.
#[test]
fn one_that_once_was_complete_stays_while_its_copies_fail() {
    let mut world = World::running(3);
    world.toy(2).failed_copies = 50;
    world.say(MemberId(2));
    world.hear_all();
    assert!(world.cluster.state().members[&MemberId(2)].leaving.is_none());
}

/// Whoever else wants to come back does not wait for one that fails.
#[test]
fn members_return_to_their_volumes_less_and_less_often_each_for_itself() {
    let mut world = World::new(spec(3));
    world.volumes = true;
    world.settle();
    assert!(world.write());
    world.settle();
    let volume_of = |world: &World, id| crate::VolumeId::of(world.cluster.name(), MemberId(id));
    let mut pauses = Vec::new();
    for _ in 0..4 {
        world.end_task(2);
        world.hear_all();
        let mut seconds = 0;
        while world.cluster.returning(&volume_of(&world, 2)).is_none() {
            world.rounds(1);
            seconds += 1;
        }
        pauses.push(seconds);
        assert!(world.offer_volume(2));
        world.persist();
        world.effects();
        world.up.clear();
    }
    assert_eq!(pauses, [0, 1, 1, 2], "the first time it had worked before");
    world.end_task(2);
    world.end_task(1);
    world.hear_all();
    assert_eq!(world.cluster.returning(&volume_of(&world, 2)), None);
    assert_eq!(world.cluster.returning(&volume_of(&world, 1)), Some(MemberId(1)));
    let view = world.cluster.view(world.now);
    assert_eq!(
        view.retries.iter().map(|retry| (retry.what, retry.member)).collect::<Vec<_>>(),
        [("return", Some(MemberId(2)))]
    );
}
