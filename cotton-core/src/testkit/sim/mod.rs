//! A deterministic simulator: the real machines of scheduler and executors in a world that loses, repeats, delays and
//! kills, driven in the order of the real drivers, watched by a checker for each rule that must hold
//! (`invariants`).
//!
//! A run has two phases. First everything breaks that the seed says; safety must hold all the time (R1 to R4, R6, R7).
//! Then faults stop, what was cut is back, and every cluster must become healthy, writable and complete within a bounded
//! time (R5). One seed is one run, to the last line of its trace: a failure is repeated by its seed.
//!
//! What is real: [`Fleet`](crate::fleet::Fleet) and its clusters, [`Executor`](crate::executor::Executor), GTID algebra,
//! placement, the protocol as bytes, the stored records as bytes. What is modelled: Mesos, MySQL and MariaDB, the
//! store, the directory, the networks between them, users and clients. The drivers' loops are copied in their order,
//! not run: they are asynchronous.

mod chaos;
mod history;
mod maintenance;
mod master;
mod member;
mod operator;
mod plan;
mod random;
mod replication;
mod scheduler;
mod server;
mod shrink;
mod volumes;
mod watch;
mod world;

pub use shrink::{NoSuchPart, Without, shrink};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Lines of the trace that a failure shows, without reports of members.
const LINES_SHOWN: usize = 80;
/// Events of a run; more means that something goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;

/// A defect that is put in on purpose, to see that a checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The scheduler acts on states that are not durable yet.
    EffectsBeforePersist,
    /// A freeze is answered although the member goes on receiving and acknowledging.
    FreezeNotAwaited,
    /// A frozen member tells what it has applied, not what it has received.
    ReceivedForgotten,
    /// Reports do not tell one start of a server from the next.
    StartsNotCounted,
    /// A server that must go is stopped cleanly, which answers the sessions that wait for an acknowledgement.
    StopInsteadOfKill,
    /// Whoever reads the primary's binary logs may acknowledge.
    StrangersAcknowledge,
    /// Members that have not stopped receiving count in an election.
    UnfrozenCounted,
    /// What somebody wrote on a replica counts in an election.
    ErrantCounted,
    /// A copy counts as complete when all is received.
    ReceivedCountsAsApplied,
    /// Every report counts as an answer to the latest question.
    AnswersInvented,
    /// An executor acts on a state that is not on its disk yet.
    ExecutorActsBeforeSaved,
    /// Who is elected and takes long to apply what it has received is killed.
    SlowWinnerKilled,
    /// A server that lost what it had only received says that nothing is lost.
    LossOfReceivedDenied,
    /// Asynchronous primaries renew no lease.
    LeasesForgotten,
    /// A scheduler that starts takes clusters for new that were open before, and makes empty members for them.
    OpeningForgotten,
    /// Members that are to leave are killed before others have what they have.
    LeavingNotAwaited,
    /// A scheduler that starts withdraws what it has not heard of yet.
    WithdrawnUnheard,
}

/// What a run was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Events that happened.
    pub events: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// How often the scheduler was started.
    pub scheduler_runs: u64,
    /// How often a member was opened for writes.
    pub promotions: u64,
    /// Tasks that were launched.
    pub tasks: usize,
    /// Commits that were acknowledged under semi-synchronous replication.
    pub acknowledged: usize,
    /// How long healing took, in milliseconds.
    pub healing_ms: u64,
}

/// A broken rule, with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// What of the seed's plan was left out.
    pub without: Without,
    /// Which rule, and how.
    pub violation: String,
    /// The whole run, a line for each thing that happened.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        // Every member reports every two seconds, mostly the same.
        let told: Vec<&String> = self.trace.iter().filter(|line| !line.contains(": reports #")).collect();
        for line in &told[told.len().saturating_sub(LINES_SHOWN)..] {
            writeln!(f, "  {line}")?;
        }
        let without = if self.without == Without::default() {
            String::new()
        } else {
            format!("COTTON_SIM_WITHOUT={} ", self.without)
        };
        write!(
            f,
            "replay: COTTON_SIM_SEED={} {without}cargo test -p cotton-tests --test simulation -- replay --nocapture",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// Runs one seed.
///
/// # Errors
/// When a rule was broken, with the trace of a second, identical run.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Summary, Box<Failure>> {
    let without = Without::default();
    if let Ok(summary) = play(seed, mutation, &without, false).0 {
        return Ok(summary);
    }
    let (result, trace) = play(seed, mutation, &without, true);
    let violation = result.err().unwrap_or_else(|| "the run cannot be repeated".to_owned());
    Err(Box::new(Failure { seed, without, violation, trace }))
}

/// Runs one seed and gives all that happened, a line for each thing.
pub fn trace(seed: u64, mutation: Option<Mutation>) -> Vec<String> {
    replay(seed, &Without::default(), mutation).1
}

/// Runs one seed without some parts of its plan. Gives which rule was broken, if one was, and all that happened.
pub fn replay(seed: u64, without: &Without, mutation: Option<Mutation>) -> (Option<String>, Vec<String>) {
    let (result, trace) = play(seed, mutation, without, true);
    (result.err(), trace)
}

fn play(
    seed: u64,
    mutation: Option<Mutation>,
    without: &Without,
    traced: bool,
) -> (Result<Summary, String>, Vec<String>) {
    let mut world = World::new(seed, mutation, without, traced);
    // The machines assert what must hold within them: that is a rule like others.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        while !world.over && world.step() {
            if world.events > EVENTS_MAX {
                world.hold(Err("something goes round in circles".to_owned()));
            }
        }
    }));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        world.hold(Err(format!("panic: {text}")));
    }
    let summary = Summary {
        events: world.events,
        virtual_ms: world.now.0,
        scheduler_runs: world.runs,
        promotions: world.opened,
        tasks: world.members.len(),
        acknowledged: (0..world.lives.len()).map(|life| world.no_loss.count(life)).sum(),
        healing_ms: world.healed.map_or(0, |at| at.since(world.healing_since)),
    };
    let result = world.violation.take().map_or(Ok(summary), Err);
    (result, world.trace.take().unwrap_or_default())
}
