//! Makes a failing run small: what of its plan can be left out, and the same rule is still broken, is left out.
//!
//! What is left out shifts every random choice that comes after it, so that is another run, of which the plan is only where
//! it begins. The method is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002): large parts first, then smaller ones, until nothing more can go.

use super::plan::Plan;
use super::{Failure, Mutation, play};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Runs that making one failure small may take.
const RUNS_MAX: usize = 600;

/// A part of a plan that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// What goes wrong by chance: lost and repeated messages, operations and writes that fail.
    Noise(usize),
    Fault(usize),
    Trigger(usize),
    Order(usize),
}

/// Kinds of noise.
const NOISES: usize = 7;

/// The parts of a seed's plan that a run is without; empty for the whole run. Written as `f0,f3,t1,o2,n4`: faults, triggers,
/// orders of users, and noise, each by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without(BTreeSet<Part>);

/// A list of parts that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no part of a plan: write f0, t1, o2 or n3")]
pub struct NoSuchPart(String);

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            match part {
                Part::Fault(number) => write!(f, "f{number}")?,
                Part::Trigger(number) => write!(f, "t{number}")?,
                Part::Order(number) => write!(f, "o{number}")?,
                Part::Noise(number) => write!(f, "n{number}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Without {
    type Err = NoSuchPart;

    fn from_str(text: &str) -> Result<Self, NoSuchPart> {
        let part = |text: &str| {
            let (kind, number) = text.split_at_checked(1)?;
            let number = number.parse().ok()?;
            match kind {
                "f" => Some(Part::Fault(number)),
                "t" => Some(Part::Trigger(number)),
                "o" => Some(Part::Order(number)),
                "n" => Some(Part::Noise(number)),
                _ => None,
            }
        };
        let parts = text.split(',').filter(|text| !text.is_empty());
        parts.map(|text| part(text).ok_or_else(|| NoSuchPart(text.to_owned()))).collect::<Result<_, _>>().map(Self)
    }
}

impl Plan {
    /// All that can be left out. Clusters that nobody makes show nothing.
    fn parts(&self) -> Vec<Part> {
        let faults = (0..self.faults.len()).map(Part::Fault);
        let triggers = (0..self.triggers.len()).map(Part::Trigger);
        let orders = (0..self.orders.len()).map(Part::Order);
        (0..NOISES).map(Part::Noise).chain(triggers).chain(orders).chain(faults).collect()
    }

    /// The same without some parts.
    pub(super) fn without(mut self, parts: &Without) -> Self {
        let stays = |part: Part| !parts.0.contains(&part);
        let mut noises = [
            &mut self.lost,
            &mut self.doubled,
            &mut self.replayed,
            &mut self.operations_fail,
            &mut self.saves_fail,
            &mut self.publications_fail,
            &mut self.local_saves_fail,
        ];
        for (number, noise) in noises.iter_mut().enumerate() {
            if !stays(Part::Noise(number)) {
                **noise = 0;
            }
        }
        let mut number = 0..;
        self.faults.retain(|_| number.next().is_none_or(|number| stays(Part::Fault(number))));
        let mut number = 0..;
        self.triggers.retain(|_| number.next().is_none_or(|number| stays(Part::Trigger(number))));
        let mut number = 0..;
        self.orders.retain(|_| number.next().is_none_or(|number| stays(Part::Order(number))));
        self
    }
}

/// The rule that was broken.
fn rule(violation: &str) -> &str {
    violation.split([':', ' ']).next().unwrap_or_default()
}

/// A smaller run that breaks the same rule as `failure`, with its trace; the same one when nothing can be left out.
pub fn shrink(failure: &Failure, mutation: Option<Mutation>) -> Failure {
    let mut runs = 0;
    let mut fails = |without: &Without| {
        runs += 1;
        let (result, _) = play(failure.seed, mutation, without, false);
        result.err().is_some_and(|violation| rule(&violation) == rule(&failure.violation))
    };
    let mut left_out = failure.without.clone();
    let mut rest: Vec<Part> = Plan::new(failure.seed).parts();
    rest.retain(|part| !left_out.0.contains(part));
    let mut size = rest.len().div_ceil(2);
    let mut tries = 0;
    while size > 0 && tries < RUNS_MAX {
        let (mut at, mut smaller) = (0, false);
        while at < rest.len() && tries < RUNS_MAX {
            let chunk = at..rest.len().min(at + size);
            let mut candidate = left_out.clone();
            candidate.0.extend(&rest[chunk.clone()]);
            tries += 1;
            if fails(&candidate) {
                left_out = candidate;
                rest.drain(chunk);
                smaller = true;
            } else {
                at += size;
            }
        }
        if !(smaller && size == 1) {
            size /= 2;
        }
    }
    let (result, trace) = play(failure.seed, mutation, &left_out, true);
    match result {
        Err(violation) => Failure { seed: failure.seed, without: left_out, violation, trace },
        Ok(_) => failure.clone(),
    }
}
