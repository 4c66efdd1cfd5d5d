//! Runs the simulator over many seeds on all processors: `soak SEEDS [FROM]`.
//!
//! Says how far it is, names the seeds that break a rule, and ends with the first of them, made as small as it gets. The exit status is 1
//! when a rule was broken, 2 when the arguments make no sense.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a program for people")]

use cotton_core::testkit::sim::{self, Failure};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Failing seeds that are named; more are counted by their rule.
const NAMED_MAX: usize = 20;
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(count)), Ok(first), None) = (arguments.next(), arguments.next().unwrap_or(Ok(0)), arguments.next())
    else {
        eprintln!("usage: soak SEEDS [FROM]");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {})); // a failed assertion is a failure like others, and told as one
    let failures = run_all(first, count);
    let Some(failure) = failures.into_iter().min_by_key(|failure| failure.seed) else { return ExitCode::SUCCESS };
    println!("\nthe lowest of them, without what is not needed for it:\n{}", sim::shrink(&failure, None));
    ExitCode::FAILURE
}

/// Runs the seeds, and gives the first failures.
fn run_all(first: u64, count: u64) -> Vec<Failure> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let (done, results) = mpsc::channel();
    let (mut failures, mut by_rule, mut seen) = (Vec::new(), BTreeMap::<String, u64>::new(), 0_u64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || done.send(sim::run(first.wrapping_add(number), None)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut told = began;
        loop {
            match results.recv_timeout(PROGRESS_EVERY) {
                Ok(result) => {
                    seen += 1;
                    if let Err(failure) = result {
                        let rule = failure.violation.split([':', ' ']).next().unwrap_or_default().to_owned();
                        *by_rule.entry(rule).or_default() += 1;
                        if failures.len() < NAMED_MAX {
                            println!("seed {}: {}", failure.seed, failure.violation);
                            failures.push(*failure);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                eprintln!("{}", progress(seen, count, began, &by_rule));
            }
        }
    });
    println!("{}", progress(seen, count, began, &by_rule));
    failures
}

fn progress(seen: u64, count: u64, began: Instant, by_rule: &BTreeMap<String, u64>) -> String {
    let seconds = began.elapsed().as_secs().max(1);
    let failed: u64 = by_rule.values().sum();
    let rules: Vec<String> = by_rule.iter().map(|(rule, times)| format!("{rule} {times} times")).collect();
    let rules = if rules.is_empty() { String::new() } else { format!(" ({})", rules.join(", ")) };
    format!("{seen} of {count} seeds in {seconds} s, {} a second, {failed} failed{rules}", seen / seconds)
}
