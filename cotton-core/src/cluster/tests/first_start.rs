//! The first member to run is primary, no questions asked.

use super::{World, spec};

#[test]
fn nothing_leaves_before_it_is_durable() {
    let mut world = World::new(spec(3));
    world.place();
    assert_eq!(world.cluster.poll_effect(), None);
    world.begin_saving();
    assert_eq!(world.cluster.poll_effect(), None);
    world.end_saving();
    assert_eq!(world.effects(), ["publish 0 primary - members", "launch 0", "launch 1", "launch 2"]);
}

#[test]
fn the_first_to_run_is_primary() {
    for first in 0..3 {
        let mut world = World::new(spec(3));
        world.place();
        world.persist();
        world.effects();
        let reports = std::mem::take(&mut world.up);
        let (early, late): (Vec<_>, Vec<_>) = reports.into_iter().partition(|input| match input {
            crate::cluster::Input::Report { member, .. } => member.0 == first,
            _ => true,
        });
        for input in early {
            world.hear(input);
        }
        assert_eq!(world.effects(), Vec::<String>::new(), "the decision is not durable yet");
        world.persist();
        assert_eq!(world.effects(), [format!("promote {first} in 1")]);
        for input in late {
            world.hear(input);
        }
        world.persist();
        let others: Vec<String> =
            (0..3).filter(|id| *id != first).map(|id| format!("follow {id} to {first} in 1")).collect();
        assert_eq!(world.effects(), others, "at once, not only when the primary is open");
        world.settle();
        assert_eq!(world.primary(), Some(first));
    }
}

#[test]
fn clusters_of_every_size_come_up() {
    for size in 1..6 {
        World::running(size);
    }
}
