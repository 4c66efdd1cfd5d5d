//! Random faults in the toy world: its assertions hold at every step, and once faults stop the cluster is whole again.

use super::world::{World, spec, status};
use crate::ports::mesos::TaskState;
use crate::{Durability, Limits, MemberId, Millis, Preference};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A message arrives: which of those under way, whether it stays under way to arrive once more.
    Up(usize, bool),
    Down(usize, bool),
    LoseUp(usize),
    LoseDown(usize),
    BeginSaving,
    EndSaving,
    FailSaving,
    Effects(usize),
    Place,
    Replicate,
    Write,
    WriteAt(usize),
    Apply(usize),
    Crash(usize),
    Restart(usize),
    Reachable(usize, bool),
    Linked(usize, bool),
    Unreachable(usize),
    Kill(usize),
    Say(usize),
    Pass(u64),
    Recover,
    Scale(u64),
    /// Somebody asks to hand over, to a certain member or to any.
    Switchover(Option<u64>),
    /// An agent is to be taken down, or none.
    Vacate(Option<u64>),
    StaysOpen(usize, bool),
    Settle,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..8usize;
    prop_oneof![
        12 => (n.clone(), any::<bool>()).prop_map(|(i, again)| Step::Up(i, again)),
        12 => (n.clone(), any::<bool>()).prop_map(|(i, again)| Step::Down(i, again)),
        2 => n.clone().prop_map(Step::LoseUp),
        2 => n.clone().prop_map(Step::LoseDown),
        6 => Just(Step::BeginSaving),
        6 => Just(Step::EndSaving),
        1 => Just(Step::FailSaving),
        8 => n.clone().prop_map(Step::Effects),
        4 => Just(Step::Place),
        6 => Just(Step::Replicate),
        4 => Just(Step::Write),
        4 => n.clone().prop_map(Step::WriteAt),
        2 => n.clone().prop_map(Step::Apply),
        3 => n.clone().prop_map(Step::Crash),
        4 => n.clone().prop_map(Step::Restart),
        3 => (n.clone(), any::<bool>()).prop_map(|(i, on)| Step::Reachable(i, on)),
        3 => (n.clone(), any::<bool>()).prop_map(|(i, on)| Step::Linked(i, on)),
        1 => n.clone().prop_map(Step::Unreachable),
        1 => n.clone().prop_map(Step::Kill),
        6 => n.clone().prop_map(Step::Say),
        6 => (1..20_000u64).prop_map(Step::Pass),
        2 => Just(Step::Recover),
        1 => (2..6u64).prop_map(Step::Scale),
        2 => prop::option::of(0..5u64).prop_map(Step::Switchover),
        1 => prop::option::of(0..5u64).prop_map(Step::Vacate),
        1 => (n, any::<bool>()).prop_map(|(i, on)| Step::StaysOpen(i, on)),
        3 => Just(Step::Settle),
        1 => Just(Step::Delete),
    ]
}

struct Run {
    world: World,
    kills: u32,
    deletions: bool,
}

impl Run {
    fn member(&self, index: usize) -> Option<MemberId> {
        let toys = &self.world.toys;
        toys.keys().nth(index.checked_rem(toys.len())?).copied()
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Up(i, again) => {
                if let Some(i) = i.checked_rem(world.up.len()) {
                    let input = if again { world.up[i].clone() } else { world.up.remove(i).expect("in range") };
                    world.hear(input);
                }
            }
            Step::Down(i, again) => {
                if let Some(i) = i.checked_rem(world.down.len()) {
                    let (id, message) =
                        if again { world.down[i].clone() } else { world.down.remove(i).expect("in range") };
                    world.obey(id, message);
                }
            }
            // Only what may get lost: task states are repeated until they are acknowledged.
            Step::LoseUp(i) => {
                if let Some(i) = i.checked_rem(world.up.len())
                    && matches!(world.up[i], crate::cluster::Input::Report { .. })
                {
                    world.up.remove(i);
                }
            }
            Step::LoseDown(i) => {
                if let Some(i) = i.checked_rem(world.down.len()) {
                    world.down.remove(i);
                }
            }
            Step::BeginSaving => world.begin_saving(),
            Step::EndSaving => world.end_saving(),
            Step::FailSaving => world.fail_saving(),
            Step::Effects(n) => {
                for _ in 0..n {
                    world.effect(&mut Vec::new());
                }
            }
            Step::Place => world.place(),
            Step::Replicate => world.replicate(),
            Step::Write => drop(world.write()),
            Step::WriteAt(i) => {
                if let Some(id) = self.member(i) {
                    self.world.write_at(id);
                }
            }
            Step::Pass(ms) => world.pass(ms),
            Step::Recover => world.recover(),
            Step::Scale(size) => {
                let refused = world.cluster.scale(world.now, &Limits::default(), size);
                assert_eq!(refused, Ok(()));
            }
            Step::Switchover(to) => drop(world.cluster.switchover(world.now, to.map(MemberId))),
            Step::Vacate(id) => {
                let agents = id.map(|id| (format!("a{id}").as_str().into(), Millis(id)));
                world.cluster.vacate(world.now, agents.into_iter().collect());
            }
            Step::Settle => {
                for _ in 0..3 {
                    world.place();
                    world.persist();
                    world.effects();
                    while let Some((id, message)) = world.down.pop_front() {
                        world.obey(id, message);
                    }
                    world.replicate();
                    while let Some(input) = world.up.pop_front() {
                        world.hear(input);
                    }
                }
            }
            Step::Delete if self.deletions => {
                self.deletions = false; // once is enough
                world.cluster.delete(world.now);
            }
            Step::Delete => {}
            Step::Apply(i)
            | Step::Crash(i)
            | Step::Restart(i)
            | Step::Reachable(i, _)
            | Step::Linked(i, _)
            | Step::StaysOpen(i, _)
            | Step::Unreachable(i)
            | Step::Kill(i)
            | Step::Say(i) => {
                if let Some(id) = self.member(i) {
                    self.disturb(step, id);
                }
            }
        }
    }

    fn disturb(&mut self, step: &Step, id: MemberId) {
        let world = &mut self.world;
        match *step {
            Step::Apply(_) => {
                let toy = world.toy(id.0);
                toy.applied = toy.data.clone();
            }
            Step::Crash(_) => world.crash(id.0),
            Step::Restart(_) => world.restart(id.0),
            Step::Reachable(_, on) => world.toy(id.0).reachable = on,
            Step::Linked(_, on) => world.toy(id.0).linked = on,
            Step::StaysOpen(_, on) => world.toy(id.0).stays_open = on,
            Step::Unreachable(_) => world.hear(status(id, TaskState::Unreachable)),
            Step::Say(_) => world.say(id),
            Step::Kill(_) if self.kills == 0 => {
                self.kills += 1;
                world.kill(id.0);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn faults_lose_nothing_and_heal(
        started: bool,
        size in 2..5u32,
        kills: bool,
        deletions in prop::bool::weighted(0.1),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut spec = spec(size);
        (spec.durability, spec.preference) = (Durability::SemiSync, Preference::Consistency);
        let world = if started { World::running_as(spec) } else { World::new(spec) };
        let mut run = Run { world, kills: u32::from(!kills), deletions };
        for step in &steps {
            run.step(step);
        }
        let Run { mut world, .. } = run;
        for toy in world.toys.values_mut() {
            (toy.reachable, toy.linked, toy.stays_open) = (true, true, false);
        }
        let deleting = world.cluster.state().deleting;
        world.settle();
        if deleting {
            prop_assert!(world.gone && world.toys.is_empty() && world.published.is_none());
        } else if kills && world.primary().is_none() {
            // A lost disk and a crash may together be too much; then it says what it waits for.
            let view = world.cluster.view(world.now);
            prop_assert_eq!(view.reasons[0].code.name(), "election_waits", "{:#?}", view);
        } else {
            world.check_whole();
        }
    }
}
