//! A scheduler that is started again finishes the work, from whatever was stored, and does nothing twice.

use super::super::state::State;
use super::super::{Cluster, Timing};
use super::world::{World, spec, status};
use crate::cluster::{Effect, Input};
use crate::ports::mesos::TaskState;
use crate::{Limits, MemberId};

/// What a life is made of: each step is followed by a crash of the scheduler in one of the runs.
const LIFE: [fn(&mut World); 12] = [
    World::place,
    |world| world.kill_if_there(2), // while it starts
    write,
    |world| world.crash_primary(),
    write,
    |world| drop(world.cluster.scale(world.now, &Limits::default(), 5)),
    |world| world.kill_primary(),
    write,
    |world| drop(world.cluster.scale(world.now, &Limits::default(), 2)),
    |world| world.crash_primary(),
    write,
    |world| world.pass(1_000),
];

fn write(world: &mut World) {
    world.write(); // acknowledged or not
}

/// One small move of the world; `false` when the life is over.
fn advance(world: &mut World, at: usize) -> bool {
    const MOVES: usize = 9;
    match at % MOVES {
        0 => match LIFE.get(at / MOVES / 3) {
            Some(step) if (at / MOVES).is_multiple_of(3) => step(world),
            Some(_) => {}
            None => return false,
        },
        1 => world.begin_saving(),
        2 => world.end_saving(),
        3 => drop(world.effects()),
        4 => world.obey_all(),
        5 => world.replicate(),
        6 => world.hear_all(),
        7 => world.place(),
        _ => {
            for id in world.toys.keys().map(|id| id.0).collect::<Vec<_>>() {
                world.restart(id);
            }
        }
    }
    true
}

#[test]
fn from_every_point_of_a_life_the_work_is_finished() {
    let mut length = 0;
    loop {
        let mut world = World::new(spec(3));
        for at in 0..length {
            if !advance(&mut world, at) {
                assert!(length > 300, "the life was lived");
                return;
            }
        }
        world.recover();
        let (size, members) = (world.cluster.state().spec.size, world.toys.len());
        world.settle();
        if world.durable.is_some() {
            world.check_whole();
            assert!(world.toys.len() == size as usize, "{members} tasks before");
        }
        length += 1;
    }
}

#[test]
fn every_checkpoint_of_a_life_can_be_read_and_resumed() {
    let mut world = World::new(spec(3));
    let mut checkpoints: Vec<State> = Vec::new();
    for at in 0.. {
        if !advance(&mut world, at) {
            break;
        }
        if checkpoints.last() != Some(world.cluster.state()) {
            checkpoints.push(world.cluster.state().clone());
        }
    }
    assert!(checkpoints.len() > 20, "{}", checkpoints.len());
    for state in checkpoints {
        let json = serde_json::to_string_pretty(&state).expect("representable");
        assert_eq!(serde_json::from_str::<State>(&json).expect("readable"), state);
        let epoch = state.epoch;
        let mut cluster = Cluster::recover(Timing::default(), state, 9 << 32, world.now);
        assert!(cluster.state().epoch >= epoch);
        let opened = cluster.state().opened;
        let told = std::iter::from_fn(|| cluster.poll_effect()).find(|effect| match effect {
            Effect::Publish(published) => published.primary.is_some() || opened,
            other => !matches!(other, Effect::Log(_)),
        });
        assert_eq!(told, None, "nobody is disturbed before there is news");
    }
}

#[test]
fn a_healthy_cluster_is_not_disturbed() {
    let mut world = World::running(3);
    let before = world.durable.clone();
    world.recover();
    let mut effects = world.wanted();
    world.obey_all();
    world.hear_all();
    effects.extend(world.wanted());
    assert_eq!(effects, ["ask 0", "ask 1", "ask 2", "publish 1 primary 0 members 0 1 2"]);
    world.settle();
    assert_eq!(world.durable, before, "nothing was changed");
}

#[test]
fn an_election_begins_anew_in_the_next_epoch() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    world.effects();
    world.obey_all();
    world.recover();
    assert_eq!(world.cluster.state().epoch.0, 3, "answers of the old election prove nothing in the new one");
    world.settle();
    world.check_whole();
}

#[test]
fn a_launch_that_may_not_have_left_is_asked_after() {
    let mut world = World::new(spec(3));
    world.place();
    world.persist(); // durable, but nothing was sent
    world.recover();
    world.settle();
    world.check_whole();
    assert_eq!(world.cluster.state().next_member, MemberId(6), "ids are not used twice");
}

#[test]
fn a_connection_that_comes_back_repeats_what_may_be_lost() {
    let mut world = World::running(3);
    world.crash(0);
    world.hear_all();
    world.persist();
    assert_eq!(world.effects(), ["freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"]);
    world.down.clear();
    world.hear(Input::Connected);
    assert_eq!(
        world.wanted(),
        ["ask 0", "ask 1", "ask 2", "freeze 0 in 2", "freeze 1 in 2", "freeze 2 in 2"],
        "without waiting for the time to send again"
    );
    world.hear(status(MemberId(1), TaskState::Running));
    world.settle();
    world.check_whole();
}
