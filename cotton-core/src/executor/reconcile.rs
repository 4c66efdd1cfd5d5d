//! The only place that decides: compares what is with what should be.

use super::server::{Gate, Process, Standing, Tail};
use super::state::Rank;
use super::{Executor, Goal, Killing, Operation};
use crate::ports::mysql::{Following, Promotion};
use crate::protocol::{Order, Stage, Trouble};
use crate::time::earliest;
use crate::{Endpoint, Epoch, Millis, Revision};

impl Executor {
    pub(super) fn reconcile(&mut self) {
        self.wake = None;
        self.out.operation = None; // what nobody fetched yet is decided afresh
        self.out.probe = false;
        self.leave_when_replaced();
        self.guard();
        self.advance();
        self.watch();
        if let Some(since) = self.killing.as_ref().map(|killing| killing.since) {
            self.has_come(since.after(self.config.hung_ms)); // wakes up to tell that it does not end
        }
        if self.report_due_at().is_some_and(|due| due <= self.now) {
            self.reports.owed = true;
        }
    }

    /// Wants the server process killed; `planned` when that is obedience and not misfortune.
    pub(super) fn kill_server(&mut self, reason: impl Into<String>, planned: bool) {
        if self.killing.is_none() {
            self.killing = Some(Killing { id: None, reason: reason.into(), planned, since: self.now });
        }
    }

    /// Wants an operation that obeys no order.
    pub(super) fn operate(&mut self, operation: Operation) {
        self.operate_after(Revision(0), operation);
    }

    /// Wants an operation once that revision is durable.
    fn operate_after(&mut self, needs: Revision, operation: Operation) {
        assert!(self.running.is_none() && self.killing.is_none(), "one operation at a time, none beside a kill");
        self.out.operation = Some((needs, operation));
    }

    /// The revision that makes the goal's rank durable; zero when it is.
    fn rank_revision(&self) -> Revision {
        self.ranks.back().map(|(revision, _)| *revision).unwrap_or_default()
    }

    /// Whether that moment has come; if not, wakes up then.
    pub(super) fn has_come(&mut self, at: Millis) -> bool {
        if at > self.now {
            self.wake = earliest(self.wake, Some(at));
        }
        at <= self.now
    }

    /// Sees to it that the server is not writable when it must not be, and that a hung one does not stay.
    fn guard(&mut self) {
        if !self.server.is_up() || self.killing.is_some() {
            return;
        }
        if let Some(open) = self.server.gate.epoch() {
            self.guard_open(open);
        }
        // One that is closed needs no fence, and what it has only received is better left alone while a disk stalls.
        let failures_max = match self.server.gate {
            Gate::Closed => self.config.probe_failures_closed_max,
            Gate::Opening(_) | Gate::Open(_) => self.config.probe_failures_max,
        };
        if self.server.probe_failures >= failures_max {
            self.kill_server(format!("it did not answer {} probes in a row", self.server.probe_failures), false);
        }
    }

    fn guard_open(&mut self, open: Epoch) {
        let (rank, lease_ms, boot) = match &self.goal {
            Some(Goal { rank, order: Order::Promote { lease_ms, .. }, boot, .. }) if rank.stage == Stage::Decided => {
                (rank, *lease_ms, boot)
            }
            // A turn is about the epoch in which it is open, and the start on which it was opened.
            Some(Goal {
                rank,
                order: Order::Promote { lease_ms, .. } | Order::StepDown { lease_ms, .. },
                boot,
                ..
            }) if rank.epoch == open && *boot == Some(self.server.boot) => (rank, *lease_ms, boot),
            Some(_) | None => {
                return self.kill_server(format!("it was primary of epoch {open} and is not any more"), true);
            }
        };
        let epoch = rank.epoch;
        assert!(epoch >= open && *boot == Some(self.server.boot), "only a promotion of this boot opens the server");
        if epoch > open && matches!(self.goal_trouble, Some(Trouble::Incomplete { .. })) {
            return self.kill_server(format!("it is open since epoch {open} and lacks data of epoch {epoch}"), true);
        }
        let Some(until) = lease_ms.map(|ms| self.lease.until(ms).unwrap_or_default()) else { return };
        if !self.has_come(until) {
            return;
        }
        if !self.has_all_replicas() {
            self.kill_server("its lease has run out and not all replicas are connected", true);
        }
    }

    /// Whether all replicas were connected a moment ago: then nobody else can have been elected from them. Each probe asks
    /// again.
    pub(super) fn has_all_replicas(&mut self) -> bool {
        let known = !self.has_come(self.server.looked.after(self.config.replicas_known_ms));
        let answering = self.server.status.as_ref().filter(|_| known && self.server.probe_failures == 0);
        answering.is_some_and(|status| status.replicas == self.lease.loyal())
    }

    fn advance(&mut self) {
        if self.ending.is_some() {
            return self.advance_ending();
        }
        if self.task.is_none() || self.running.is_some() || self.killing.is_some() {
            return;
        }
        let operation = match self.server.process {
            Process::Absent => Operation::Provision,
            Process::Ready => match self.replaced() {
                Some(replaced) => Operation::Start { boot: self.server.boot + 1, replaced },
                None => return,
            },
            Process::Copying => unreachable!("copying is an operation"),
            Process::Up => return self.obey(),
        };
        if self.has_come(self.restarts.not_before()) {
            let needs = if let Operation::Start { replaced, .. } = operation {
                if self.state.ended {
                    self.change(|state| state.ended = false);
                    self.start_needs = self.revision;
                }
                self.start_needs.max(if replaced { self.rank_revision() } else { Revision(0) })
            } else {
                Revision(0)
            };
            self.operate_after(needs, operation);
        }
    }

    /// Whether the server, about to be started, was a primary that another has replaced. `None` while that may still
    /// turn out: it then stays down for a moment.
    fn replaced(&mut self) -> Option<bool> {
        let Some(Tail { epoch, since }) = self.server.tail else { return Some(false) };
        let follows = |goal: &Goal| goal.rank.epoch > epoch && matches!(goal.order, Order::Follow { .. });
        if self.goal.as_ref().is_some_and(follows) {
            return Some(true);
        }
        self.has_come(since.after(self.config.restart_hold_ms)).then_some(false)
    }

    fn obey(&mut self) {
        let Some(goal) = self.goal.clone() else { return };
        let (rank, epoch) = (goal.rank, goal.rank.epoch);
        if goal.is_primary() && goal.boot != Some(self.server.boot) {
            return self.refuse(rank);
        }
        match goal.order {
            Order::Freeze | Order::Detach => {
                if self.server.standing != Standing::Frozen(goal.rank) {
                    self.obey_by(Operation::Freeze { rank: goal.rank });
                }
            }
            Order::Promote { must_contain, acks, lease_ms } => {
                let promotion = Promotion { must_contain, acks };
                let holds = lease_ms.is_none_or(|ms| self.lease.holds(ms, self.now));
                self.obey_promote(epoch, promotion, lease_ms, holds);
            }
            Order::StepDown { grace_ms, lease_ms, .. } => self.obey_step_down(rank, goal.since, grace_ms, lease_ms),
            Order::Reopen { .. } => unreachable!("a goal says so by a promotion of its own turn"),
            Order::Follow { primary, semi_sync, donors, copy, .. } => {
                if copy && self.server.seen.is_none() {
                    return; // whether it has something is seen in a moment
                }
                let donors = if self.needs_copy(copy) { donors } else { Vec::new() };
                self.obey_follow(epoch, Following { primary, semi_sync }, &donors);
            }
        }
    }

    /// An order to the primary that was not meant for this start.
    fn refuse(&mut self, rank: Rank) {
        let detail =
            format!("the server was restarted since it was promoted in epoch {}, and does not open again", rank.epoch);
        self.goal_trouble = Some(Trouble::Failing { detail });
        if !matches!(self.server.standing, Standing::Idle) && self.server.standing != Standing::Frozen(rank) {
            self.obey_by(Operation::Freeze { rank }); // it is reported as idle, so it must not replicate
        }
    }

    /// `holds`: whether nobody else can have been elected meanwhile.
    pub(super) fn obey_promote(&mut self, epoch: Epoch, promotion: Promotion, lease_ms: Option<u64>, holds: bool) {
        if let Standing::Primary { epoch: open, promotion: done, closed } = &self.server.standing {
            if *open == epoch && *done == promotion && !closed {
                return;
            }
            if *closed {
                let detail = "it was made read-only by somebody else, opening it again".to_owned();
                self.goal_trouble.get_or_insert(Trouble::Failing { detail });
            }
        }
        if !holds && self.server.gate == Gate::Closed {
            return; // it is reported to be promoting; the answer to that begins a lease
        }
        if let Some(until) = lease_ms.and_then(|ms| self.lease.until(ms)) {
            self.has_come(until); // it may run out before the promotion is answered
        }
        if self.server.gate == Gate::Closed && self.server.must_drain() {
            return self.obey_by(Operation::Drain { epoch, budget_ms: self.config.drain_ms });
        }
        self.obey_by(Operation::Promote { epoch, promotion });
    }

    fn obey_follow(&mut self, epoch: Epoch, following: Following, donors: &[Endpoint]) {
        if let Standing::Following { epoch: since, following: done, broken: None, .. } = &self.server.standing
            && *since == epoch
            && *done == following
        {
            return;
        }
        if let Some(donor) = self.copies.donor(donors) {
            let boot = self.server.boot + 1;
            if self.has_come(self.copies.not_before()) {
                self.obey_by(Operation::CopyFrom { epoch, donor: donor.clone(), boot });
            }
            return;
        }
        if self.history_missing.take().is_some() {
            self.retry.failed(self.now, &self.config);
        }
        self.obey_by(Operation::Follow { epoch, following });
    }

    /// Whether a copy is taken before it follows: because it cannot follow without, or because it has nothing yet and is
    /// `told` to begin with one. That is done without where it does not succeed.
    fn needs_copy(&self, told: bool) -> bool {
        let is_empty = || self.server.seen.as_ref().is_some_and(|seen| seen.position.is_empty());
        self.history_missing.is_some() || told && self.copies.may_begin(&self.config) && is_empty()
    }

    /// Wants an operation that obeys the goal, as soon as its rank is durable and the pause after a failure is over.
    pub(super) fn obey_by(&mut self, operation: Operation) {
        if self.has_come(self.retry.not_before()) {
            self.operate_after(self.rank_revision(), operation);
        }
    }

    fn watch(&mut self) {
        if !self.server.is_up() {
            // There is nothing to look at: what is known is as fresh as can be.
            self.reports.owed |= std::mem::take(&mut self.fresh_wanted);
            return;
        }
        if self.probing.is_none() && self.killing.is_none() && self.ending.is_none() {
            let due = self.fresh_wanted || self.has_come(self.next_probe);
            self.out.probe = due;
        }
    }
}
