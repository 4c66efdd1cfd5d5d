//! A primary's crash and the failover, in the deterministic simulator: the real machines in a world that breaks.
//!
//! One seed is one run, to the letter. This prints what the first failover looked like in the first run that has
//! one; give the seed to begin with as the argument.

use cotton_core::testkit::sim;
use std::error::Error;

/// Lines to show before and after the loss of a primary.
const BEFORE: usize = 5;
const AFTER: usize = 40;
/// Seeds to try.
const SEEDS: u64 = 100;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn Error>> {
    let first = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse::<u64>())?;
    let loses_a_primary = |seed: u64| {
        let trace = sim::trace(seed, None);
        let lost = trace.iter().position(|line| line.contains("is lost:"))?;
        Some((seed, trace, lost))
    };
    let found = (first..first.saturating_add(SEEDS)).find_map(loses_a_primary);
    let (seed, trace, lost) = found.ok_or("no primary is lost in these runs: try another seed")?;
    println!("seed {seed}: {} things happened; around the first failover:", trace.len());
    for line in trace.iter().skip(lost.saturating_sub(BEFORE)).take(BEFORE + AFTER) {
        println!("{line}");
    }
    let summary = sim::run(seed, None)?;
    println!("every rule was kept: {summary:?}");
    Ok(())
}
