//! How an executor ends: the server first, then the last word, then itself. Each step is bounded in time.

use super::server::{Gate, Process, Standing};
use super::state::Rank;
use super::{Executor, ExitReason, Goal, Operation};
use crate::Millis;
use crate::ports::mesos::TaskState;
use crate::ports::mysql::Following;
use crate::protocol::{Order, Stage};

/// How long a killed process may take to vanish before the executor ends without it (the process dies with it).
const KILL_MS_MAX: u64 = 2_000;

/// How much longer than that it may take until a clean stop is noted durably.
const NOTE_MS_MAX: u64 = 1_000;

/// How long an operation that is under way is waited for at most.
const PATIENCE_MS_MAX: u64 = 5_000;

/// How long a replica goes on to acknowledge commits when it is shut down, at most. Often its primary is shut down in the same
/// moment. A commit that no replica acknowledged would keep that primary from following another one.
const LINGER_MS_MAX: u64 = 1_000;

/// An end that was begun.
#[derive(Debug)]
pub(super) struct Ending {
    reason: ExitReason,
    /// When an operation that is still under way is not waited for any more.
    patience: Millis,
    /// Until when a replica goes on to acknowledge.
    linger: Millis,
    /// When the server must be gone.
    stop_by: Millis,
    /// Whether the process was killed because an operation or a stop took too long.
    forced: bool,
    /// Whether the primary was made to step down, so that it may be stopped cleanly.
    closing: bool,
    told_at: Option<Millis>,
    acknowledged: bool,
}

impl Ending {
    pub(super) fn new(reason: ExitReason, now: Millis, stop_by: Millis) -> Self {
        let patience = now.after((stop_by.since(now) / 2).min(PATIENCE_MS_MAX));
        let linger = match reason {
            ExitReason::Shutdown => now.after((stop_by.since(now) / 4).min(LINGER_MS_MAX)),
            ExitReason::Killed | ExitReason::Failed(_) => now,
        };
        Self { reason, patience, linger, stop_by, forced: false, closing: false, told_at: None, acknowledged: false }
    }

    /// A repeated order can only shorten the time.
    pub(super) fn hurry(&mut self, stop_by: Millis) {
        self.stop_by = self.stop_by.min(stop_by);
        self.patience = self.patience.min(self.stop_by);
        self.linger = self.linger.min(self.stop_by);
    }

    pub(super) fn on_acknowledged(&mut self, state: TaskState) {
        self.acknowledged |= self.told_at.is_some() && state == self.last_word().0;
    }

    fn last_word(&self) -> (TaskState, String) {
        match &self.reason {
            ExitReason::Killed => (TaskState::Killed, "killed as asked".to_owned()),
            ExitReason::Shutdown => (TaskState::Killed, "executor was shut down".to_owned()),
            ExitReason::Failed(reason) => (TaskState::Failed, reason.clone()),
        }
    }
}

/// The end that a primary was asked for, put off until somebody has taken its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    /// When it is not put off any longer.
    leave_by: Millis,
    /// When the server must be gone.
    stop_by: Millis,
}

impl Executor {
    /// Whether a kill is put off, because this is the primary and nobody has taken its place yet.
    pub(super) fn stays_for_a_while(&mut self, grace_ms: u64) -> bool {
        let serves = self.server.is_up() && self.goal.as_ref().is_some_and(Goal::is_primary);
        let asked_before = self.farewell.is_some();
        if self.ending.is_some() || self.let_go || !(serves || asked_before) {
            return false;
        }
        let stop_by = self.now.after(grace_ms);
        let reserve = self.config.stop_reserve_ms.min(grace_ms / 2);
        let leave_by = self.now.after(grace_ms - reserve);
        let farewell = self.farewell.get_or_insert(Farewell { leave_by, stop_by });
        farewell.leave_by = farewell.leave_by.min(leave_by);
        farewell.stop_by = farewell.stop_by.min(stop_by);
        true
    }

    /// Ends what was put off, once the time for it has come.
    pub(super) fn leave_when_replaced(&mut self) {
        let Some(Farewell { leave_by, stop_by }) = self.farewell else { return };
        let order = self.goal.as_ref().map(|goal| &goal.order);
        let replaced = matches!(order, Some(Order::Follow { .. } | Order::Detach));
        if replaced || self.let_go || self.has_come(leave_by) {
            self.farewell = None;
            self.end(ExitReason::Killed, stop_by.since(self.now));
        }
    }

    pub(super) fn advance_ending(&mut self) {
        let ending = self.ending.as_ref().expect("checked by the caller");
        if ending.told_at.is_none() {
            if !self.bring_down() {
                return;
            }
            // That it ended is worth a moment: the next executor may then answer for all that it has.
            let stop_by = self.ending.as_ref().expect("checked by the caller").stop_by;
            if self.state.ended && self.persisted < self.revision && !self.has_come(stop_by.after(NOTE_MS_MAX)) {
                return;
            }
            let ending = self.ending.as_mut().expect("checked by the caller");
            ending.told_at = Some(self.now);
            let (state, message) = ending.last_word();
            if self.task.is_some() {
                self.tell(state, message);
            } else {
                self.out.exit = Some(ExitReason::Shutdown); // there is nothing to tell of
            }
        }
        let ending = self.ending.as_ref().expect("checked by the caller");
        let told_at = ending.told_at.expect("set above");
        let (reason, acknowledged) = (ending.reason.clone(), ending.acknowledged);
        if acknowledged || self.has_come(told_at.after(self.config.farewell_ms)) {
            self.out.exit = Some(reason);
        }
    }

    /// Ends the server; true when nothing runs any more, or all that could be done was done.
    fn bring_down(&mut self) -> bool {
        let ending = self.ending.as_mut().expect("checked by the caller");
        let (patience, linger, stop_by) = (ending.patience, ending.linger, ending.stop_by);
        if self.killing.is_some() || ending.forced {
            // A kill was answered when nothing of it is left; an operation that it interrupted ends soon.
            let gone = self.killing.is_none() && !self.server.is_up() && self.running.is_none();
            return gone || self.has_come(stop_by.after(KILL_MS_MAX));
        }
        if self.running.is_none() && self.acknowledges() && !self.has_come(linger) {
            return false;
        }
        match self.running.as_ref().map(|running| &running.operation) {
            Some(Operation::Provision) => true, // no server runs, and a half-made directory is never used
            Some(Operation::Stop { .. }) => {
                self.has_come(stop_by.after(KILL_MS_MAX)) && self.force("it did not stop in time")
            }
            Some(
                Operation::Start { .. }
                | Operation::Freeze { .. }
                | Operation::StepDown { .. }
                | Operation::Drain { .. }
                | Operation::Promote { .. }
                | Operation::Follow { .. }
                | Operation::CopyFrom { .. },
            ) => self.has_come(patience) && self.force("the task is ending"),
            None if self.server.process != Process::Up => true,
            None if self.now >= stop_by => self.force("the task is ending"),
            None if self.deceives_when_stopped() => match self.closing() {
                Some(operation) => {
                    self.operate(operation);
                    false
                }
                None => self.force("the task is ending"),
            },
            None => {
                self.operate(Operation::Stop { grace_ms: stop_by.since(self.now) });
                self.has_come(stop_by.after(KILL_MS_MAX))
            }
        }
    }

    /// Kills the server, and says the same as `bring_down`.
    fn force(&mut self, reason: &str) -> bool {
        self.ending.as_mut().expect("checked by the caller").forced = true;
        self.kill_server(reason, true);
        self.bring_down()
    }

    /// A clean stop ends the wait of sessions for a replica's acknowledgement by telling them that their commit is
    /// done, which it may not be for anybody else. Killed, they learn nothing, and their commits are found again.
    fn deceives_when_stopped(&self) -> bool {
        self.server.gate != Gate::Closed && self.server.acks > 0 && self.goal.as_ref().is_some_and(Goal::is_primary)
    }

    /// Whether commits of a primary may wait for this server.
    fn acknowledges(&self) -> bool {
        let follows = |following: &Following| self.server.is_up() && following.semi_sync;
        matches!(&self.server.standing, Standing::Following { following, connected: true, .. } if follows(following))
    }

    /// What makes a primary safe to be stopped cleanly, once: then nobody commits any more, and nobody waits. Not worth
    /// trying when sessions had nobody to wait for when it was last looked at. That some waited then says little: under load
    /// some always do.
    fn closing(&mut self) -> Option<Operation> {
        let served = self.server.status.as_ref().is_some_and(|status| status.replicas > 0);
        // In the rank in which it opened, which is durable; it is by no order that this is done.
        let rank = Rank { epoch: self.server.gate.epoch()?, stage: Stage::Decided };
        let ending = self.ending.as_mut().filter(|ending| served && !ending.closing)?;
        ending.closing = true;
        Some(Operation::StepDown { rank, grace_ms: ending.patience.since(self.now) / 2 })
    }
}
