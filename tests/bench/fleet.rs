//! The fleet's machine alone: what offers cost. A save takes no time here, and nothing leaves the process.

use crate::measurement::{Measurement, ms};
use crate::{Effort, scheduler};
use cotton_core::cluster::state::State;
use cotton_core::fleet::{Config, Effect, Fleet, Input};
use cotton_core::ports::mesos::{MesosCall, MesosEvent, Offer};
use cotton_core::{FrameworkId, MemberId, Millis, Ports, Resources};
use cotton_tests::Failure;
use std::collections::BTreeSet;
use std::time::Instant;

const NOW: Millis = Millis(1_000);

pub(crate) fn fleet(effort: Effort) -> Result<Vec<Measurement>, Failure> {
    let idle = idle(effort.rounds(200, 20))?;
    let launches = (0..effort.rounds(20, 3)).map(|_| launch()).collect::<Result<Vec<f64>, _>>()?;
    Ok(vec![Measurement::of("fleet.offers_1000_idle_us", &idle), Measurement::of("fleet.launch_1000_ms", &launches)])
}

/// 1,000 offers into a fleet of 10,000 clusters that want nothing, in microseconds.
fn idle(rounds: usize) -> Result<Vec<f64>, Failure> {
    let mut fleet = connected((0..10_000).map(scheduler::state).collect());
    let mut times = Vec::new();
    for round in 0..rounds {
        let offers = offers(round);
        let started = Instant::now();
        fleet.handle(NOW, Input::Mesos(MesosEvent::Offers(offers)));
        let calls = drain(&mut fleet);
        times.push(ms(started.elapsed()) * 1_000.0);
        let declined = |call: &MesosCall| matches!(call, MesosCall::Decline { offers, .. } if offers.len() == 1_000);
        if calls.len() != 1 || !declined(&calls[0]) {
            return Err(Failure::new(format!("a satisfied fleet made {} calls", calls.len())));
        }
    }
    Ok(times)
}

/// 1,000 offers into 1,000 clusters that want three members each, all placed, until the last call to launch is out.
fn launch() -> Result<f64, Failure> {
    let wanting = |number: u64| {
        let healthy = scheduler::state(number);
        State::new(healthy.spec, number, MemberId(0))
    };
    let mut fleet = connected((0..1_000).map(wanting).collect());
    let offers = offers(0);
    let started = Instant::now();
    fleet.handle(NOW, Input::Mesos(MesosEvent::Offers(offers)));
    let calls = drain(&mut fleet);
    let took = started.elapsed();
    let launched: usize = calls.iter().map(launches).sum();
    if launched != 3_000 {
        return Err(Failure::new(format!("{launched} of 3000 members were launched")));
    }
    Ok(ms(took))
}

fn launches(call: &MesosCall) -> usize {
    if let MesosCall::Accept { launches, .. } = call { launches.len() } else { 0 }
}

fn connected(clusters: Vec<State>) -> Fleet {
    let mut fleet = Fleet::recover(Config::default(), None, clusters, BTreeSet::new(), NOW);
    fleet.handle(NOW, Input::Mesos(MesosEvent::Subscribed(FrameworkId::from("bench"))));
    drain(&mut fleet);
    fleet
}

/// What the driver does: saves everything, takes every effect, again until nothing is left.
fn drain(fleet: &mut Fleet) -> Vec<MesosCall> {
    let mut calls = Vec::new();
    loop {
        let before = calls.len();
        let mut saved = false;
        while let Some(checkpoint) = fleet.poll_checkpoint() {
            let (key, revision) = (checkpoint.key(), checkpoint.revision);
            fleet.handle_persisted(NOW, &key, revision);
            saved = true;
        }
        while let Some(effect) = fleet.poll_effect() {
            if let Effect::Mesos(call) = effect {
                calls.push(call);
            }
        }
        if !saved && calls.len() == before {
            return calls;
        }
    }
}

/// One offer of each of 1,000 agents, with room for four members.
fn offers(round: usize) -> Vec<Offer> {
    let offer = |agent: usize| Offer {
        id: format!("offer-{round}-{agent:03}").as_str().into(),
        agent: format!("agent-{agent:03}").as_str().into(),
        host: format!("host-{agent:03}.example"),
        resources: Resources::DEFAULT.times(4),
        ports: Ports::new([(31_000, 32_000)]),
        attributes: [("zone".to_owned(), format!("zone-{}", agent % 3))].into(),
        held: Vec::new(),
        maintenance_in_ms: None,
    };
    (0..1_000).map(offer).collect()
}
