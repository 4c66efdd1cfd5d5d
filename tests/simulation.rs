//! Runs the deterministic simulator over many seeds, and puts old bugs back to see that it finds them.
//!
//! `COTTON_SIM_SEEDS` sets how many seeds are run (2,000), `COTTON_SIM_FIRST` with which to begin (0), and
//! `COTTON_SIM_SEED` which one the test `replay` runs, printing all that happens in it; `COTTON_SIM_WITHOUT` leaves parts of
//! its plan out, as `make soak` prints them for a failure that it has made small.

#![allow(clippy::print_stdout, reason = "what was run and replayed is for people to read")]

use cotton_core::testkit::sim::{self, Failure, Mutation, Summary, Without};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// Runs seeds on all processors until one fails, or all are done.
fn run_all(first: u64, count: u64, mutation: Option<Mutation>) -> Result<Vec<Summary>, Box<Failure>> {
    let (next, done, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failed.lock().expect("no test thread panics with it").is_some() {
                        return;
                    }
                    match sim::run(first + seed, mutation) {
                        Ok(summary) => done.lock().expect("no test thread panics with it").push(summary),
                        Err(failure) => *failed.lock().expect("no test thread panics with it") = Some(failure),
                    }
                }
            });
        }
    });
    match failed.into_inner().expect("all threads have ended") {
        Some(failure) => Err(failure),
        None => Ok(done.into_inner().expect("all threads have ended")),
    }
}

#[test]
fn every_seed_keeps_the_rules() {
    let count = from_environment("COTTON_SIM_SEEDS").unwrap_or(2_000);
    let first = from_environment("COTTON_SIM_FIRST").unwrap_or(0);
    let runs = run_all(first, count, None).unwrap_or_else(|failure| panic!("{failure}"));
    let sum = |of: fn(&Summary) -> u64| runs.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} events, {} s of virtual time, {} scheduler runs, {} promotions, {} tasks, {} commits acknowledged, \
         healing at most {} ms",
        runs.len(),
        sum(|s| s.events),
        sum(|s| s.virtual_ms) / 1000,
        sum(|s| s.scheduler_runs),
        sum(|s| s.promotions),
        sum(|s| s.tasks as u64),
        sum(|s| s.acknowledged as u64),
        runs.iter().map(|s| s.healing_ms).max().unwrap_or_default(),
    );
    // A world in which nothing happens would pass everything.
    if count >= 100 {
        assert!(sum(|s| s.promotions) > count, "the runs are too quiet to show anything");
        assert!(sum(|s| s.acknowledged as u64) > 10 * count, "clients hardly ever get to write");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 7, 42] {
        let (once, again) = (sim::trace(seed, None), sim::trace(seed, None));
        assert!(once.len() > 100, "seed {seed} is too quiet to show anything");
        assert!(once == again, "seed {seed} does not repeat itself");
    }
}

/// With `COTTON_SIM_SEED`: that seed, with all that happens in it.
#[test]
fn replay() {
    let Some(seed) = from_environment("COTTON_SIM_SEED") else { return };
    let without = std::env::var("COTTON_SIM_WITHOUT").unwrap_or_default();
    let without = without.parse::<Without>().unwrap_or_else(|error| panic!("COTTON_SIM_WITHOUT: {error}"));
    let (violation, trace) = sim::replay(seed, &without, None);
    for line in trace {
        println!("{line}");
    }
    if let Some(violation) = violation {
        panic!("seed {seed}: {violation}");
    }
}

/// A failure is only of use if a person can read what led to it.
#[test]
fn a_failing_seed_is_made_small() {
    let mutation = Some(Mutation::StopInsteadOfKill);
    let failure =
        run_all(2, 1, mutation).expect_err("it is found by this seed: see `answering_sessions_that_wait_is_found`");
    let small = sim::shrink(&failure, mutation);
    let rule = |failure: &Failure| failure.violation.split([':', ' ']).next().map(str::to_owned);
    assert_eq!(rule(&small), rule(&failure), "{small}");
    let (whole, left) = (failure.trace.len(), small.trace.len());
    println!("{whole} lines are made {left}, without {}", small.without);
    assert!(2 * left < whole, "{whole} lines, and {left} after it was made small");
    let written = small.without.to_string().parse::<Without>();
    assert_eq!(written.as_ref(), Ok(&small.without));
    assert_eq!(sim::replay(small.seed, &small.without, mutation), (Some(small.violation), small.trace));
    assert!("f1,x2".parse::<Without>().is_err());
}

/// Within so many seeds in a row each defect is found.
const FOUND_WITHIN: u64 = 2_000;

/// Puts a defect in, and expects a violation of one of these rules within the seeds from 0 on. `known` is the first seed that
/// found it when it was measured: the search begins there, and goes on from 0 when that has changed.
fn is_found(mutation: Mutation, known: u64, rules: &[&str]) {
    is_found_from(0, mutation, known, rules);
}

/// The same within the seeds from `first` on.
fn is_found_from(first: u64, mutation: Mutation, known: u64, rules: &[&str]) {
    let after = run_all(known, first + FOUND_WITHIN - known, Some(mutation)).err();
    let failure = after.or_else(|| run_all(first, known - first, Some(mutation)).err());
    let Some(failure) = failure else { panic!("{mutation:?} is not found within {FOUND_WITHIN} seeds") };
    println!("{mutation:?} is found by seed {}: {}", failure.seed, failure.violation);
    let found = rules.iter().any(|rule| failure.violation.starts_with(rule));
    assert!(found, "{mutation:?} is found by another rule than expected: {failure}");
}

#[test]
fn acting_before_persisting_is_found() {
    is_found(Mutation::EffectsBeforePersist, 0, &["R4"]);
    is_found(Mutation::ExecutorActsBeforeSaved, 0, &["R4"]);
}

#[test]
fn a_freeze_that_freezes_nothing_is_found() {
    // Or the cluster waits for ever: what was acknowledged after a member detached is never known to be elsewhere.
    is_found(Mutation::FreezeNotAwaited, 282, &["R1", "R2", "R5"]);
}

#[test]
fn promoting_without_freezing_is_found() {
    is_found_from(1_000, Mutation::UnfrozenCounted, 2_436, &["R1", "R2", "R5"]);
}

#[test]
fn counting_only_what_is_applied_is_found() {
    is_found_from(4_000, Mutation::ReceivedForgotten, 4_453, &["R2"]);
}

#[test]
fn mistaking_one_start_for_another_is_found() {
    is_found_from(1_000, Mutation::StartsNotCounted, 2_338, &["R2"]);
}

#[test]
fn withdrawing_what_nobody_has_heard_of_is_found() {
    is_found(Mutation::WithdrawnUnheard, 5, &["R3"]);
}

#[test]
fn answering_sessions_that_wait_is_found() {
    is_found(Mutation::StopInsteadOfKill, 2, &["R1", "R2"]);
}

#[test]
fn acknowledgements_of_strangers_are_found() {
    is_found(Mutation::StrangersAcknowledge, 75, &["R2"]);
}

#[test]
fn counting_what_somebody_wrote_on_a_replica_is_found() {
    is_found(Mutation::ErrantCounted, 366, &["R2", "R5"]);
}

#[test]
fn killing_who_is_slow_is_found() {
    is_found(Mutation::SlowWinnerKilled, 10, &["R9"]);
}

#[test]
fn making_an_empty_member_for_a_cluster_that_was_open_is_found() {
    // What is published goes first, since that scheduler believes that nothing was ever open.
    is_found(Mutation::OpeningForgotten, 5, &["R3", "R8"]);
}

#[test]
fn not_waiting_for_who_is_to_leave_is_found() {
    is_found_from(7_000, Mutation::LeavingNotAwaited, 8_158, &["R2", "R5", "R8"]);
}

#[test]
fn inventing_answers_is_found() {
    is_found(Mutation::AnswersInvented, 1, &["R2", "R5", "R8"]);
}

#[test]
fn denying_that_something_is_lost_is_found() {
    is_found(Mutation::LossOfReceivedDenied, 1_578, &["R2"]);
}

#[test]
fn forgetting_leases_is_found() {
    is_found(Mutation::LeasesForgotten, 19, &["R1"]);
}

#[test]
fn counting_a_copy_that_is_not_applied_is_found() {
    is_found(Mutation::ReceivedCountsAsApplied, 0, &["R8"]);
}
