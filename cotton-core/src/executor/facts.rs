//! Takes note of what happened. Nothing is decided here, see `reconcile`.

use super::ending::Ending;
use super::input::{CallId, Failure, Input, Outcome};
use super::server::{Gate, Process, Standing};
use super::state::Rank;
use super::{Executor, ExitReason, Goal, Operation, Probing, Running};
use crate::ports::mesos::TaskState;
use crate::ports::mysql::{Exit, Followed, Promoted, ServerStatus, Started};
use crate::protocol::{Directive, Order, ServerStart, Stage, ToExecutor, Trouble};
use crate::{ErrorKind, GtidSet, TaskId};

/// Shortest pause between the end of a failed probe and the next one.
const PROBE_PAUSE_MS: u64 = 50;

/// Pauses between probes that wait for a replica's connection to come up.
const ATTACH_PROBES_MS: [u64; 5] = [20, 50, 100, 200, 400];

impl Executor {
    pub(super) fn update_facts(&mut self, input: Input) {
        match input {
            Input::Connected => {
                self.reports.connected = true;
                self.reports.owed = true;
            }
            Input::Disconnected => self.reports.connected = false,
            Input::AgentGone { grace_ms } => self.on_agent_gone(grace_ms),
            Input::Launch { task } => self.on_launch(task),
            Input::Refused { task, reason } => self.on_refused(task, reason),
            Input::Kill { task, grace_ms } => self.on_kill(&task, grace_ms),
            Input::Shutdown { grace_ms } => self.on_shutdown(grace_ms),
            Input::Acknowledged(state) => match &mut self.ending {
                Some(ending) => ending.on_acknowledged(state),
                None => self.ignore(),
            },
            Input::Message(ToExecutor::Directive(directive)) => self.on_directive(directive),
            Input::Message(ToExecutor::Heard { incarnation, seq, nonce, report_now, others }) => {
                self.on_heard(incarnation, seq, others);
                self.nonce = self.nonce.max(nonce);
                self.fresh_wanted |= report_now;
            }
            // the driver hands them to the server
            Input::Message(ToExecutor::Accounts { revision, .. }) => {
                self.accounts_revision = self.accounts_revision.max(revision);
                self.told_accounts = self.durable_rank.map(|rank| rank.epoch);
            }
            Input::Message(ToExecutor::LetGo) => self.let_go = true,
            Input::Finished { id, outcome } => self.on_finished(id, outcome),
            Input::Probed { id, result } => self.on_probed(id, result),
            Input::Killed { id } => self.on_killed(id),
            Input::Exited { boot, exit } => self.on_exited(boot, &exit),
            Input::PersistFailed(failure) => self.storage = Some(failure.detail),
        }
    }

    fn on_launch(&mut self, task: TaskId) {
        if self.task.as_ref() == Some(&task) {
            if let Some((state, message)) = self.announced.clone() {
                self.tell(state, message); // the agent does not know that we have it
            }
        } else if self.task.is_some() || self.ending.is_some() {
            self.warn(format!("task '{task}' is refused: an executor runs one task only"));
            self.ignore();
        } else {
            self.task = Some(task);
            self.server.hold_from(self.now);
            self.tell(TaskState::Starting, "");
        }
    }

    fn on_refused(&mut self, task: TaskId, reason: String) {
        if self.task.is_none() && self.ending.is_none() {
            self.task = Some(task);
            self.fail(reason);
        } else {
            self.warn(format!("task '{task}' is refused: {reason}"));
            self.ignore();
        }
    }

    fn on_kill(&mut self, task: &TaskId, grace_ms: u64) {
        if self.task.get_or_insert_with(|| task.clone()) == task {
            if !self.stays_for_a_while(grace_ms) {
                self.end(ExitReason::Killed, grace_ms);
            }
        } else {
            self.warn(format!("task '{task}' cannot be killed here: it does not run here"));
            self.ignore();
        }
    }

    fn on_shutdown(&mut self, grace_ms: u64) {
        self.end(ExitReason::Shutdown, grace_ms);
    }

    /// Without its agent a member serves on: it may be the last to have its data, and who is primary depends on replicas and
    /// leases, not on agents. When the agent is back, it takes up its executors again, or ends them.
    fn on_agent_gone(&mut self, grace_ms: u64) {
        if self.state.obeyed.is_none() {
            self.on_shutdown(grace_ms); // it never was primary, nor followed one: nobody misses it
        } else {
            self.warn(
                "the agent is gone; this member serves on, and is not managed until the agent is back".to_owned(),
            );
        }
    }

    /// Begins to end; a repetition can only shorten the time that it may take.
    pub(super) fn end(&mut self, reason: ExitReason, grace_ms: u64) {
        let stop_by = self.now.after(grace_ms);
        match &mut self.ending {
            None => self.ending = Some(Ending::new(reason, self.now, stop_by)),
            Some(ending) => ending.hurry(stop_by),
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        if self.ending.is_none() {
            self.ending = Some(Ending::new(ExitReason::Failed(reason), self.now, self.now));
        }
    }

    fn on_directive(&mut self, directive: Directive) {
        if self.task.is_none() {
            return self.ignore();
        }
        let rank = Rank::of(&directive);
        let promotes = matches!(directive.order, Order::Promote { .. } | Order::Reopen { .. });
        let acknowledged =
            matches!(directive.order, Order::Promote { acks, .. } | Order::Reopen { acks, .. } if acks > 0);
        if self.state.obeyed.is_some_and(|obeyed| rank < obeyed) {
            self.reports.owed = true; // whoever sent this should know what is obeyed here
            return self.ignore();
        }
        if self.state.obeyed == Some(rank) {
            // An epoch has one primary for ever: which one it is cannot change within it.
            if rank.stage == Stage::Decided && promotes != (self.state.promoted == Some(rank.epoch)) {
                self.warn(format!("an order of {rank} contradicts the one that is obeyed"));
                self.reports.owed = true;
                return self.ignore();
            }
        } else {
            self.change(|state| {
                state.obeyed = Some(rank);
                if promotes {
                    state.promoted = Some(rank.epoch);
                    state.tail = acknowledged.then_some(rank.epoch);
                }
            });
            self.ranks.push_back((self.revision, rank));
        }
        self.set_goal(rank, directive.order);
    }

    fn set_goal(&mut self, rank: Rank, order: Order) {
        let order = match order {
            // The same, but for the rank and the start that it is meant for.
            Order::Reopen { must_contain, acks, lease_ms, .. } => Order::Promote { must_contain, acks, lease_ms },
            order @ (Order::Freeze
            | Order::Promote { .. }
            | Order::Follow { .. }
            | Order::StepDown { .. }
            | Order::Detach) => order,
        };
        match &mut self.goal {
            Some(goal) if goal.rank == rank && goal.order == order => self.reports.owed |= self.is_settled(),
            Some(goal) if goal.rank == rank => {
                goal.order = order; // keeps the boot that the promotion belongs to
                self.forget_trouble();
            }
            Some(_) | None if matches!(rank.stage, Stage::Turn(_)) => {
                // Belongs to the start on which this member was promoted, or to none.
                let promoted = self.goal.as_ref().filter(|goal| goal.rank.epoch == rank.epoch && goal.is_primary());
                let boot = promoted.and_then(|goal| goal.boot);
                self.goal = Some(Goal { rank, order, boot, since: self.now });
                self.forget_trouble();
            }
            Some(_) | None => {
                // Without a goal of this rank in memory, a promotion that was begun belongs to a start of the past.
                // So does one that arrives before the present start was ever reported.
                let is_new = self.ranks.back().is_some_and(|(_, new)| *new == rank);
                let is_here = self.server.is_up() && self.server.seen.is_some() && self.killing.is_none();
                let boot = (is_new && is_here).then_some(self.server.boot);
                self.goal = Some(Goal { rank, order, boot, since: self.now });
                self.forget_trouble();
            }
        }
    }

    /// Whether the goal has been reached, so that its repetition is answered at once.
    fn is_settled(&self) -> bool {
        self.running.is_none() && self.goal_trouble.is_none()
    }

    pub(super) fn forget_trouble(&mut self) {
        self.goal_trouble = None;
        self.history_missing = None;
        self.retry = super::retry::Retry::default();
    }

    fn on_heard(&mut self, incarnation: u64, seq: u64, others: u32) {
        if incarnation != self.state.incarnation || !self.lease.on_heard(seq, others) {
            self.ignore(); // renews nothing, but was said all the same
        }
    }

    fn on_finished(&mut self, id: CallId, outcome: Outcome) {
        let Some(running) = self.running.take_if(|running| running.id == id) else { return self.ignore() };
        self.stamp += 1;
        if let Outcome::Failed(failure) = &outcome
            && failure.kind == ErrorKind::Storage
        {
            self.storage = Some(failure.detail.clone());
        }
        match (&running.operation, outcome) {
            (Operation::Provision, Outcome::Done) => self.server.process = Process::Ready,
            (Operation::Start { boot, .. }, Outcome::Started(Started { kept })) => self.on_up(*boot, kept),
            (Operation::Provision, Outcome::Failed(failure)) => self.on_start_failed(failure, false),
            (Operation::Start { replaced, .. }, Outcome::Failed(failure)) => self.on_start_failed(failure, *replaced),
            (Operation::CopyFrom { boot, donor, .. }, Outcome::Started(Started { kept })) => {
                self.copies.made(donor);
                self.history_missing = None;
                self.on_up(*boot, kept);
            }
            (Operation::CopyFrom { donor, .. }, Outcome::Failed(failure)) => {
                self.copies.failed(self.now, donor, &failure.detail, &self.config);
                if failure.permanent {
                    self.copies.are_impossible();
                }
                self.server.on_data_lost();
                self.change(|state| state.kept_since = None);
                self.goal_trouble = Some(match self.history_missing.take() {
                    Some(_) => self.why_no_copy(),
                    None => Trouble::Failing { detail: self.copies.reason().unwrap_or_default().to_owned() },
                });
                self.retry.failed(self.now, &self.config);
            }
            (Operation::Stop { .. }, Outcome::Done | Outcome::Failed(_)) => self.on_gone("stopped".to_owned(), true),
            (
                Operation::Freeze { .. }
                | Operation::StepDown { .. }
                | Operation::Drain { .. }
                | Operation::Promote { .. }
                | Operation::Follow { .. },
                outcome,
            ) => {
                // An operation that outlived its process says nothing about the next one.
                if self.server.is_up() && self.server.boot == running.boot {
                    self.on_obeyed(running, outcome);
                }
            }
            (operation, outcome) => panic!("{} cannot end in {outcome:?}", operation.name()),
        }
    }

    fn on_up(&mut self, boot: u64, kept: bool) {
        (self.given_up, self.data_gone) = (None, None);
        self.server.on_up(boot);
        let start = ServerStart { incarnation: self.state.incarnation, boot };
        self.change(|state| {
            state.kept_since = Some(state.kept_since.filter(|_| kept).unwrap_or(start));
        });
        self.next_probe = self.now;
        if self.ending.is_none() && !matches!(self.announced, Some((TaskState::Running, _))) {
            self.tell(TaskState::Running, "");
        }
    }

    fn on_start_failed(&mut self, failure: Failure, replaced: bool) {
        if replaced {
            // What it was to drop could not be dropped, for example a DDL statement. It starts with all it has, and is
            // found to be errant, if it is.
            self.server.tail = None;
        }
        self.change(|state| state.kept_since = None); // it may have run, and what it found is not known
        self.server.on_start_failed(failure.detail.clone());
        if failure.permanent {
            self.restarts.rest(self.now, &self.config);
            let detail = failure.detail;
            let is_gone = failure.kind == ErrorKind::DataGone;
            self.give_up(if is_gone { Trouble::DataGone { detail } } else { Trouble::Unstable { detail } });
        } else {
            self.take_restart(&failure.detail);
        }
    }

    /// An unplanned start will be needed.
    fn take_restart(&mut self, reason: &str) {
        if !self.restarts.take(self.now, &self.config) {
            let (times, seconds) = (self.config.restarts_max, self.config.restart_window_ms / 1000);
            let detail = format!("server failed more than {times} times within {seconds} s; last: {reason}");
            self.give_up(Trouble::Unstable { detail });
        }
    }

    /// Data is never given up here: only the scheduler knows whether others have it. A server that never ran has none.
    fn give_up(&mut self, trouble: Trouble) {
        let is_gone = matches!(trouble, Trouble::DataGone { .. });
        if self.server.boot == 0 && self.state.obeyed.is_none() && !is_gone {
            self.fail(trouble.to_string()); // another agent may do better
        } else {
            self.given_up = Some(trouble);
        }
    }

    fn on_obeyed(&mut self, running: Running, outcome: Outcome) {
        let trouble = match (running.operation, outcome) {
            (Operation::Freeze { rank }, Outcome::Frozen(frozen)) => {
                self.server.standing = Standing::Frozen(rank);
                self.on_position(frozen.position, frozen.unapplied, running.nonce);
                // Frozen it is all the same; what stands in the way matters to who is chosen.
                let stuck = frozen.obstacle.map(|detail| Trouble::Stuck { detail });
                self.forget_trouble();
                self.goal_trouble = stuck;
                return;
            }
            (Operation::StepDown { rank, .. }, Outcome::Frozen(frozen)) => {
                self.server.gate = Gate::Closed;
                self.server.standing = Standing::SteppedDown(rank);
                self.on_position(frozen.position, frozen.unapplied, running.nonce);
                None
            }
            (Operation::Drain { .. }, Outcome::Drained(drained)) => {
                self.on_position(drained.position, drained.unapplied, running.nonce);
                self.server.drained = drained.done;
                // Being slow is no trouble: it is asked again at once.
                drained.obstacle.map(|detail| Trouble::Stuck { detail })
            }
            (Operation::Promote { .. }, Outcome::Promoted(Promoted::Applying { unapplied })) => {
                // Refused before anything was done.
                self.server.gate = running.gate;
                self.server.on_unapplied(unapplied);
                return self.retry.failed(self.now, &self.config); // what said that it was drained was wrong
            }
            (Operation::Promote { epoch, promotion }, Outcome::Promoted(Promoted::Writable(position))) => {
                self.server.gate = Gate::Open(epoch);
                self.server.opened_by = Some(promotion.clone());
                self.server.standing = Standing::Primary { epoch, promotion, closed: false };
                self.on_position(position, 0, running.nonce); // all was applied first
                self.next_probe = self.now; // how many replicas are connected matters to a lease
                None
            }
            (Operation::Promote { .. }, Outcome::Promoted(Promoted::Incomplete(detail))) => {
                // Refused before anything was done. A server that was open already is closed by `guard`.
                self.server.gate = running.gate;
                Some(Trouble::Incomplete { detail })
            }
            (Operation::Follow { epoch, following }, Outcome::Followed(Followed::Attached)) => {
                self.server.on_attached(epoch, following);
                self.attach_probes = 0;
                self.next_probe = self.now.after(ATTACH_PROBES_MS[0]);
                if self.state.tail.is_some() {
                    self.change(|state| state.tail = None);
                }
                // Forgotten when a probe finds it connected: setting up alone proves nothing.
                return;
            }
            (Operation::Follow { .. }, Outcome::Followed(Followed::Errant(gtids))) => {
                self.server.attached = running.attached;
                Some(Trouble::Errant { gtids })
            }
            (Operation::Follow { .. }, Outcome::Followed(Followed::HistoryMissing(detail))) => {
                self.server.attached = running.attached;
                self.history_missing = Some(detail.clone());
                self.copies.history_missing(self.now, &self.config);
                Some(self.why_no_copy())
            }
            (operation, Outcome::Failed(failure)) => {
                let detail = format!("{}: {}", operation.name(), failure.detail);
                let storage = failure.kind == ErrorKind::Storage;
                Some(if storage { Trouble::Storage { detail } } else { Trouble::Failing { detail } })
            }
            (operation, outcome) => panic!("{} cannot end in {outcome:?}", operation.name()),
        };
        match &trouble {
            None => self.forget_trouble(),
            Some(Trouble::Errant { .. } | Trouble::Incomplete { .. }) => self.retry.refused(self.now, &self.config),
            // The first copy is made at once; pauses come between the following ones.
            Some(Trouble::HistoryMissing { .. }) if self.retry.failures() == 0 => self.retry.counted(),
            Some(
                Trouble::HistoryMissing { .. }
                | Trouble::Unstable { .. }
                | Trouble::Broken { .. }
                | Trouble::Storage { .. }
                | Trouble::Stuck { .. }
                | Trouble::DataGone { .. }
                | Trouble::Hung { .. }
                | Trouble::Failing { .. },
            ) => {
                self.retry.failed(self.now, &self.config);
            }
        }
        self.goal_trouble = trouble;
    }

    fn on_position(&mut self, position: GtidSet, unapplied: u64, nonce: u64) {
        let lost = self.server.on_position(position, unapplied, nonce);
        self.on_lost(lost);
    }

    /// What earlier starts have acknowledged is not certainly there any more if something is lost that was.
    fn on_lost(&mut self, lost: bool) {
        let start = ServerStart { incarnation: self.state.incarnation, boot: self.server.boot };
        if lost && self.state.kept_since.is_some_and(|kept| kept < start) {
            self.warn("something that was received is gone, and is to be received again".to_owned());
            self.change(|state| state.kept_since = Some(start));
        }
    }

    /// That a copy is needed, or what keeps it from being made, which matters more.
    fn why_no_copy(&self) -> Trouble {
        let detail = self.copies.reason().map(|reason| format!("no copy could be had yet: {reason}"));
        Trouble::HistoryMissing { detail: detail.unwrap_or_else(|| "a copy is made".to_owned()) }
    }

    fn on_probed(&mut self, id: CallId, result: Result<ServerStatus, Failure>) {
        let Some(probe) = self.probing.take_if(|probe| probe.id == id) else { return self.ignore() };
        if !self.server.is_up() || self.server.boot != probe.boot {
            self.fresh_wanted |= probe.answers;
            return;
        }
        self.reports.owed |= probe.answers;
        match result {
            Ok(status) => self.on_status(&probe, status),
            Err(failure) => {
                self.next_probe =
                    probe.started.after(self.config.probe_interval_ms).max(self.now.after(PROBE_PAUSE_MS));
                if failure.kind == ErrorKind::Storage {
                    self.storage = Some(failure.detail); // a restart would not make room
                } else {
                    self.server.probe_failures += 1;
                    self.goal_trouble.get_or_insert(Trouble::Failing { detail: failure.detail });
                }
            }
        }
    }

    fn on_status(&mut self, probe: &Probing, status: ServerStatus) {
        if self.server.probe_failures > 0 {
            self.server.probe_failures = 0;
            if self.running.is_none() && self.retry.failures() == 0 {
                self.goal_trouble = None; // it was the probes' only
            }
        }
        if let Some(free) = status.disk_free_bytes {
            let scarce = free < self.config.disk_free_bytes_min;
            self.storage = scarce.then(|| format!("only {} MiB left for data", free / crate::resources::MIB));
        }
        self.data_gone = status.data_gone.then(|| {
            let detail = "the server runs on, but its data directory was removed".to_owned();
            Trouble::DataGone { detail }
        });
        if status.waits_for_room {
            let left = status.disk_free_bytes.unwrap_or_default() / crate::resources::MIB;
            self.storage = Some(format!("commits wait for room on the disk, {left} MiB are left"));
        }
        // What was read before an operation ended may be older than what that operation told.
        let ended = self.stamp - probe.stamp > u64::from(self.running.is_some());
        if ended {
            self.reports.owed &= !probe.answers;
            self.fresh_wanted |= probe.answers;
            self.next_probe = self.now;
            return;
        }
        let lost = self.server.on_status(status, probe.nonce);
        self.on_lost(lost);
        self.server.looked = probe.started;
        let quiet = !probe.beside && self.running.is_none();
        self.next_probe = probe.started.after(self.config.probe_interval_ms);
        if quiet {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let was_broken = matches!(self.server.standing, Standing::Following { broken: Some(_), .. });
        if self.server.judge() {
            self.kill_server("it was opened for writes by somebody else", false);
        }
        if let Standing::Following { connected, broken, .. } = &self.server.standing {
            if let Some(detail) = broken.clone() {
                if !was_broken {
                    // Once, or waiting would never end.
                    let applying = self.server.status.as_ref().and_then(|s| s.replication.as_ref()).map(|r| r.applying);
                    if applying == Some(false) && self.applier.failed(self.now, &self.config) {
                        self.goal_trouble = Some(Trouble::Broken { detail: detail.clone() });
                        self.retry.refused(self.now, &self.config);
                    } else {
                        self.retry.failed(self.now, &self.config);
                    }
                }
                self.goal_trouble.get_or_insert(Trouble::Failing { detail });
            } else if *connected && !self.applier.is_broken(self.now, &self.config) {
                self.copies.succeeded();
                self.forget_trouble();
            } else if let Some(pause) = ATTACH_PROBES_MS.get(self.attach_probes as usize + 1) {
                self.attach_probes += 1;
                self.next_probe = self.now.after(*pause);
            }
        }
    }

    fn on_killed(&mut self, id: CallId) {
        let Some(killing) = self.killing.take_if(|killing| killing.id == Some(id)) else { return self.ignore() };
        self.on_gone(killing.reason, killing.planned);
    }

    fn on_exited(&mut self, boot: u64, exit: &Exit) {
        if !self.server.is_up() || self.server.boot != boot {
            return self.ignore();
        }
        match &self.killing {
            Some(killing) => {
                let (reason, planned) = (killing.reason.clone(), killing.planned);
                self.on_gone(reason, planned);
            }
            None => self.on_gone(format!("server ended: {}", exit.description), exit.expected),
        }
    }

    fn on_gone(&mut self, reason: String, planned: bool) {
        if !self.server.is_up() {
            return;
        }
        if !planned && self.ending.is_none() {
            self.take_restart(&reason);
        }
        if self.server.forgotten.is_any() {
            self.change(|state| state.kept_since = None);
        }
        self.server.on_down(self.now, reason);
        if self.ending.is_some() {
            self.change(|state| state.ended = true); // whoever is told of it first, and whether it ended well or not
        }
        if self.killing.as_ref().is_some_and(|killing| killing.id.is_none()) {
            self.killing = None; // nothing is left to kill
        }
        // What was wrong with the old process is no trouble of the next one.
        if matches!(self.goal_trouble, Some(Trouble::Failing { .. } | Trouble::Storage { .. } | Trouble::Stuck { .. }))
        {
            self.forget_trouble();
        }
    }
}
