//! The agent-side machine: one member of one cluster, from its launch to its end.
//!
//! [`Executor`] decides what happens to one MySQL server: it is provisioned, started, frozen, promoted, told to follow,
//! killed. It reads no clock and does no I/O; the driver feeds it [`Input`]s, makes its [`checkpoint`] durable, carries
//! out its [`Effect`]s and calls [`handle_timeout`] when [`poll_timeout`] says so.
//!
//! Inputs only update facts; after each, one function (`reconcile`) compares what is with what should be and decides.
//!
//! # Invariants
//! - At most one [`Operation`] is under way; only a probe and a kill run beside it.
//! - A [`Rank`] is durable before any operation that obeys it leaves, and lower ranks are refused from then on.
//! - This machine alone opens the server for writes, once per epoch and only in the boot in which the order to do so
//!   arrived: **after a crash a promotion is never repeated**, it takes a new election. A scheduler that sees another
//!   `(incarnation, boot)` than the one it promoted therefore knows that this member is not primary in that epoch.
//! - A server that may be writable under an older order is never demoted: it is killed (SIGKILL) and started again
//!   read-only, because switching semi-sync off would answer sessions that wait for an acknowledgement. The one
//!   exception is an order to step down that was carried out to its end: no session waits then.
//! - A primary that has stepped down opens again by itself when no scheduler decides anything in time (see `turn`).
//! - A primary that is killed while it serves goes on until it is replaced or let go, as far as its time allows.
//! - Killing waits for nothing: no checkpoint, no running operation. Nor does the report that a server is down.
//! - `Down` is only reported when the process is gone.
//! - A lease is counted from the sending of an answered report (see `lease`), never from the arrival of an order: a
//!   promotion with a lease that has run out, or never began, waits for an answer first.
//!
//! [`checkpoint`]: Executor::checkpoint
//! [`handle_timeout`]: Executor::handle_timeout
//! [`poll_timeout`]: Executor::poll_timeout

mod config;
mod effect;
mod ending;
mod facts;
mod forgotten;
mod input;
mod lease;
mod reconcile;
mod report;
mod retry;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod turn;

pub use config::ExecutorConfig;
pub use effect::{Effect, ExitReason, Operation};
pub use input::{CallId, Failure, Input, Outcome};
pub use state::{ExecutorState, Rank};

use crate::ports::mesos::TaskState;
use crate::protocol::{Order, Trouble};
use crate::time::earliest;
use crate::{Epoch, Millis, Revision, TaskId};
use ending::{Ending, Farewell};
use lease::Lease;
use report::Reports;
use retry::{Applier, Copies, Restarts, Retry};
use server::{Gate, Server, Standing};
use std::collections::VecDeque;

/// Warnings kept for a driver that does not fetch them.
const WARNINGS_MAX: usize = 16;

/// One member of one cluster, on its agent. See the [module](self) for its rules.
#[derive(Debug)]
pub struct Executor {
    config: ExecutorConfig,
    now: Millis,
    state: ExecutorState,
    /// Of `state`; grows with every durable change.
    revision: Revision,
    /// Newest revision known to be durable.
    persisted: Revision,
    /// Ranks that are not durable yet, with the revision that will make them so.
    ranks: VecDeque<(Revision, Rank)>,
    /// What must be durable before the server is started: that it no longer is the one that ended and was noted.
    start_needs: Revision,
    /// Highest rank known to be durable.
    durable_rank: Option<Rank>,

    task: Option<TaskId>,
    /// Last task state that was told.
    announced: Option<(TaskState, String)>,
    ending: Option<Ending>,
    /// Set while a primary that was killed waits to be replaced.
    farewell: Option<Farewell>,
    /// Whether the scheduler has said that no kill needs to wait.
    let_go: bool,
    /// In which epoch the server was told of accounts last.
    told_accounts: Option<Epoch>,
    /// The highest revision of them.
    accounts_revision: u64,
    over: bool,

    goal: Option<Goal>,
    goal_trouble: Option<Trouble>,
    /// The order to step down that was not followed by another in time, so that the primary is to be open all the same.
    taken_back: Option<Rank>,
    /// What is wrong with the disk.
    storage: Option<String>,
    /// Why the server, which failed too often or cannot be started, rests.
    given_up: Option<Trouble>,
    /// The server runs, and its data directory is not there.
    data_gone: Option<Trouble>,
    server: Server,
    lease: Lease,
    reports: Reports,
    /// Highest nonce heard.
    nonce: u64,
    /// A report with a position read from now on was asked for.
    fresh_wanted: bool,
    retry: Retry,
    restarts: Restarts,
    applier: Applier,
    copies: Copies,
    /// What the primary's binary logs lack; the next step is a copy.
    history_missing: Option<String>,

    calls: u64,
    running: Option<Running>,
    probing: Option<Probing>,
    killing: Option<Killing>,
    next_probe: Millis,
    /// Probes since following began, as long as none found it connected.
    attach_probes: u32,
    /// Operations begun or ended; unchanged over a probe, nothing happened beside it.
    stamp: u64,
    out: Outbox,
    wake: Option<Millis>,
    ignored: u64,
}

/// The directive that is obeyed.
#[derive(Clone, Debug)]
struct Goal {
    rank: Rank,
    order: Order,
    /// The running boot when a promotion arrived, also in the turns that follow it; `None` when nothing was running.
    /// Unused by other orders.
    boot: Option<u64>,
    /// When it was first heard.
    since: Millis,
}

impl Goal {
    /// Whether it is about being the primary of its epoch.
    const fn is_primary(&self) -> bool {
        matches!(self.order, Order::Promote { .. } | Order::StepDown { .. } | Order::Reopen { .. })
    }
}

/// An operation under way.
#[derive(Debug)]
struct Running {
    id: CallId,
    operation: Operation,
    /// Boot and gate when it began.
    boot: u64,
    gate: Gate,
    /// Whether that start might have replicated before.
    attached: bool,
    /// Highest nonce heard when it began.
    nonce: u64,
}

/// A probe under way.
#[derive(Debug)]
struct Probing {
    id: CallId,
    boot: u64,
    started: Millis,
    nonce: u64,
    stamp: u64,
    /// Whether an operation was running when it began.
    beside: bool,
    /// Whether a report with its result was asked for.
    answers: bool,
}

/// A kill, wanted or under way.
#[derive(Debug)]
struct Killing {
    /// `None` until the driver has taken it.
    id: Option<CallId>,
    reason: String,
    /// Whether the end of the process costs no restart.
    planned: bool,
    since: Millis,
}

/// What was decided and not yet fetched. Decided anew by every `reconcile`, except for what must not get lost.
#[derive(Debug, Default)]
struct Outbox {
    operation: Option<(Revision, Operation)>,
    probe: bool,
    updates: VecDeque<(TaskState, String)>,
    warnings: VecDeque<String>,
    exit: Option<ExitReason>,
}

impl Executor {
    /// Starts with what the last incarnation left behind (nothing: `ExecutorState::default()`). The incarnation is
    /// counted up; nothing is reported before that is durable.
    pub fn new(config: ExecutorConfig, mut state: ExecutorState, now: Millis) -> Self {
        state.incarnation += 1;
        if !state.ended {
            state.kept_since = None;
        }
        Self {
            config,
            now,
            durable_rank: state.obeyed,
            server: Server::new(state.tail, now),
            state,
            revision: Revision(1),
            persisted: Revision(0),
            ranks: VecDeque::new(),
            start_needs: Revision(0),
            task: None,
            announced: None,
            ending: None,
            farewell: None,
            let_go: false,
            told_accounts: None,
            accounts_revision: 0,
            over: false,
            goal: None,
            goal_trouble: None,
            taken_back: None,
            storage: None,
            given_up: None,
            data_gone: None,
            lease: Lease::default(),
            reports: Reports::default(),
            nonce: 0,
            fresh_wanted: false,
            retry: Retry::default(),
            restarts: Restarts::default(),
            applier: Applier::default(),
            copies: Copies::default(),
            history_missing: None,
            calls: 0,
            running: None,
            probing: None,
            killing: None,
            next_probe: now,
            attach_probes: 0,
            stamp: 0,
            out: Outbox::default(),
            wake: None,
            ignored: 0,
        }
    }

    /// Takes a fact. Never fails: what is stale, repeated or unknown is ignored and counted.
    pub fn handle(&mut self, now: Millis, input: Input) {
        self.now = self.now.max(now);
        if self.over {
            self.ignore();
            return;
        }
        self.update_facts(input);
        self.reconcile();
    }

    /// Lets time pass; call it when [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Millis) {
        self.now = self.now.max(now);
        if !self.over {
            self.reconcile();
        }
    }

    /// The state of this revision, and of all before it, is durable.
    ///
    /// # Panics
    /// When no such revision was ever offered by [`Self::checkpoint`].
    pub fn handle_persisted(&mut self, revision: Revision) {
        assert!(revision <= self.revision, "{revision:?} was never offered");
        self.persisted = self.persisted.max(revision);
        while let Some((_, rank)) = self.ranks.pop_front_if(|(needed, _)| *needed <= revision) {
            assert!(self.durable_rank.is_none_or(|durable| durable < rank), "ranks only grow");
            self.durable_rank = Some(rank);
        }
        if self.ending.is_some() && !self.over {
            self.reconcile(); // the end waits for this
        }
    }

    /// The next effect. Operations are withheld until what they follow from is durable; kills never are.
    ///
    /// # Panics
    /// When an invariant of this machine is broken, which is a defect of it or of the driver.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.over {
            return None;
        }
        if let Some(killing) = self.killing.as_mut().filter(|killing| killing.id.is_none()) {
            self.calls += 1;
            let id = CallId(self.calls);
            killing.id = Some(id);
            return Some(Effect::Kill { id, reason: killing.reason.clone() });
        }
        // That a server is down is urgent news; of one that is up, the results are.
        if !self.server.is_up()
            && let Some(report) = self.take_report()
        {
            return Some(Effect::Report(Box::new(report)));
        }
        if let Some((_, operation)) = self.out.operation.take_if(|(revision, _)| *revision <= self.persisted) {
            return Some(self.begin(operation));
        }
        if let Some(report) = self.take_report() {
            return Some(Effect::Report(Box::new(report)));
        }
        if let (Some((state, message)), Some(task)) = (self.out.updates.pop_front(), self.task.clone()) {
            return Some(Effect::Update { task, state, message });
        }
        if self.out.probe {
            return Some(self.begin_probe());
        }
        if let Some(warning) = self.out.warnings.pop_front() {
            return Some(Effect::Warn(warning));
        }
        let reason = self.out.exit.take()?;
        self.over = true;
        Some(Effect::Exit(reason))
    }

    /// State to make durable; then call [`Self::handle_persisted`]. `None` when the newest state is durable.
    pub fn checkpoint(&self) -> Option<(Revision, &ExecutorState)> {
        (self.persisted < self.revision).then_some((self.revision, &self.state))
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Millis> {
        if self.over { None } else { earliest(self.wake, self.report_due_at()) }
    }

    /// Whether [`Effect::Exit`] was fetched: nothing will happen any more.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it has begun to end.
    pub const fn is_ending(&self) -> bool {
        self.over || self.ending.is_some()
    }

    /// How many facts were ignored.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn begin(&mut self, operation: Operation) -> Effect {
        assert!(self.running.is_none(), "one operation at a time");
        let (boot, gate, attached) = (self.server.boot, self.server.gate, self.server.attached);
        match &operation {
            Operation::Promote { epoch, promotion } => {
                self.server.attached = true;
                self.server.gate = Gate::Opening(*epoch);
                self.server.acks = promotion.acks;
            }
            Operation::StepDown { rank, .. } => {
                if let Some(open) = gate.epoch() {
                    assert!(open == rank.epoch, "only the primary of that epoch steps down");
                    self.server.gate = Gate::Opening(open); // until it is certain
                    self.server.standing = Standing::SteppingDown { epoch: open };
                }
            }
            Operation::CopyFrom { .. } => {
                assert!(gate == Gate::Closed, "a writable server's data is never replaced");
                if self.server.forgotten.is_any() {
                    self.change(|state| state.kept_since = None); // the copy has what is here, not what was
                }
                self.server.on_copying();
            }
            Operation::Drain { .. } => assert!(gate == Gate::Closed, "what is open has applied all"),
            Operation::Freeze { .. } | Operation::Follow { .. } => {
                assert!(gate == Gate::Closed, "a writable server is killed, not demoted");
                self.server.attached |= matches!(operation, Operation::Follow { .. });
                self.server.drained &= matches!(operation, Operation::Freeze { .. });
            }
            Operation::Provision | Operation::Start { .. } | Operation::Stop { .. } => {}
        }
        self.calls += 1;
        self.stamp += 1;
        let id = CallId(self.calls);
        self.running = Some(Running { id, operation: operation.clone(), boot, gate, attached, nonce: self.nonce });
        Effect::Operate { id, operation }
    }

    fn begin_probe(&mut self) -> Effect {
        assert!(self.probing.is_none(), "one probe at a time");
        self.out.probe = false;
        self.calls += 1;
        let id = CallId(self.calls);
        self.probing = Some(Probing {
            id,
            boot: self.server.boot,
            started: self.now,
            nonce: self.nonce,
            stamp: self.stamp,
            beside: self.running.is_some(),
            answers: std::mem::take(&mut self.fresh_wanted),
        });
        Effect::Probe { id }
    }

    fn change(&mut self, edit: impl FnOnce(&mut ExecutorState)) {
        edit(&mut self.state);
        self.revision.0 += 1;
    }

    fn tell(&mut self, state: TaskState, message: impl Into<String>) {
        let news = (state, message.into());
        self.announced = Some(news.clone());
        if !self.out.updates.contains(&news) {
            self.out.updates.push_back(news);
        }
    }

    fn warn(&mut self, text: String) {
        if self.out.warnings.len() < WARNINGS_MAX {
            self.out.warnings.push_back(text);
        }
    }

    fn ignore(&mut self) {
        self.ignored += 1;
    }
}
