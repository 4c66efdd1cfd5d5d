//! Deletion: a persisted intent, kills until nothing is left, discovery and record last; and all that at any moment.

use super::world::{World, spec, status};
use crate::cluster::Effect;
use crate::ports::discovery::Published;
use crate::ports::mesos::TaskState;
use crate::protocol::ToExecutor;
use crate::{ClusterStatus, MemberId};

#[test]
fn everything_goes_in_order() {
    let mut world = World::running(3);
    world.cluster.delete(world.now);
    assert_eq!(world.cluster.view(world.now).status, ClusterStatus::Deleting);
    let all = ["publish 1 primary - members", "let 0 go", "kill 0", "kill 1", "kill 2"];
    assert_eq!(world.decided(), all, "the intent is durable first");
    world.hear_all();
    assert_eq!(world.decided(), ["withdraw"], "clients see that it is there until it is gone");
    assert!(!world.cluster.is_gone());
    world.hear_all();
    assert!(world.cluster.is_gone(), "only now may the record go");
}

#[test]
fn kills_are_repeated_until_the_end_is_known() {
    let mut world = World::running(3);
    world.cluster.delete(world.now);
    world.persist();
    world.effects();
    world.up.clear(); // the news is lost
    world.pass(4_000);
    assert_eq!(world.wanted(), Vec::<String>::new());
    world.pass(1_000);
    assert_eq!(world.wanted(), ["let 0 go", "kill 0", "kill 1", "kill 2"]);
    world.hear(status(MemberId(1), TaskState::Unreachable));
    world.hear(status(MemberId(0), TaskState::Lost));
    world.hear(status(MemberId(2), TaskState::Failed));
    world.up.clear();
    world.pass(5_000);
    assert_eq!(world.wanted(), ["kill 1"], "it may come back");
    world.hear_all();
    assert_eq!(world.wanted(), ["withdraw"]);
    world.up.clear();
    world.pass(5_000);
    assert_eq!(world.wanted(), ["withdraw"], "repeated as well");
}

#[test]
fn a_launch_that_is_withheld_never_leaves() {
    let mut world = World::new(spec(3));
    world.place();
    world.cluster.delete(world.now);
    let all = ["publish 0 primary - members", "withdraw"];
    assert_eq!(world.decided(), all, "nothing was launched, so there is nothing to kill");
    world.hear_all();
    assert!(world.cluster.is_gone());
}

#[test]
fn a_launch_that_is_withheld_is_not_sent_for_a_member_that_ended() {
    let mut world = World::new(spec(3));
    world.place();
    world.hear(status(MemberId(1), TaskState::Dropped));
    world.persist();
    assert_eq!(world.effects(), ["publish 0 primary - members", "launch 0", "launch 2"]);
}

#[test]
fn asking_again_and_everything_else_changes_nothing() {
    let mut world = World::running(3);
    world.cluster.delete(world.now);
    let revision = world.cluster.revision();
    world.cluster.delete(world.now);
    assert_eq!(world.cluster.revision(), revision);
    assert!(world.cluster.wanted().is_none());
    world.crash(0);
    world.hear_all();
    world.persist();
    let effects = std::iter::from_fn(|| world.cluster.poll_effect());
    let fine = |effect: &Effect| {
        let nobody = |published: &Published| published.primary.is_none() && published.members.is_empty();
        matches!(effect, Effect::Kill { .. } | Effect::Log(_) | Effect::Send { message: ToExecutor::LetGo, .. })
            || matches!(effect, Effect::Publish(published) if nobody(published))
    };
    assert!(effects.into_iter().all(|effect| fine(&effect)), "no election");
}

#[test]
fn at_any_point_of_a_life() {
    for steps in 0..40 {
        let mut world = World::new(spec(3));
        live(&mut world, steps);
        world.cluster.delete(world.now);
        world.settle();
        assert!(world.gone && world.toys.is_empty() && world.published.is_none(), "after {steps} steps");
        let mut world = World::new(spec(3));
        live(&mut world, steps);
        world.cluster.delete(world.now);
        world.persist();
        world.recover();
        world.settle();
        assert!(world.gone && world.toys.is_empty() && world.published.is_none(), "recovered after {steps} steps");
    }
}

/// The beginning of a life, step by step, with a failover in the middle.
fn live(world: &mut World, steps: usize) {
    for step in 0..steps {
        match step % 7 {
            0 => world.place(),
            1 => world.persist(),
            2 => drop(world.effects()),
            3 => world.obey_all(),
            4 => world.replicate(),
            5 => world.hear_all(),
            _ if step == 27 && world.toys.contains_key(&MemberId(0)) => world.crash(0),
            _ => world.pass(300),
        }
    }
}
