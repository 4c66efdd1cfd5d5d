//! What the scheduler is told, and when.
//!
//! A report is made at the moment it leaves, from durable facts only, so that it never waits for a checkpoint.

use super::Executor;
use super::server::Standing;
use super::state::Rank;
use crate::protocol::{MemberRole, Order, Report, ServerStart, Trouble};
use crate::{GtidSet, Millis};

/// What is reported at once when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headline {
    rank: Option<Rank>,
    role: MemberRole,
    boot: u64,
    trouble: Option<Trouble>,
    replicas: Option<u32>,
    asked_to_leave: bool,
}

/// What was reported.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Whether the link is up.
    pub(super) connected: bool,
    /// A report is owed, whether anything changed or not.
    pub(super) owed: bool,
    pub(super) last_at: Option<Millis>,
    headline: Option<Headline>,
    seq: u64,
}

impl Executor {
    /// When the next report is due for no other reason than the time.
    pub(super) fn report_due_at(&self) -> Option<Millis> {
        let last = self.reports.last_at.filter(|_| self.may_report())?;
        Some(last.after(self.config.report_interval_ms))
    }

    /// The report that should leave now, if any.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        if !self.may_report() {
            return None;
        }
        let headline = self.headline();
        let changed = self.reports.headline.as_ref().is_none_or(|last| {
            // While an order is being carried out, its result will tell the new rank within the moment; but a copy takes long.
            let idle = self.running.is_none() && self.out.operation.is_none();
            let settled = idle || !self.server.is_up();
            let same = headline.role == last.role
                && headline.boot == last.boot
                && headline.trouble == last.trouble
                && headline.replicas == last.replicas
                && headline.asked_to_leave == last.asked_to_leave;
            !same || (settled && headline.rank != last.rank)
        });
        if !changed && !self.reports.owed {
            return None;
        }
        self.reports.owed = false;
        self.reports.last_at = Some(self.now);
        self.reports.seq += 1;
        self.lease.on_sent(self.reports.seq, self.now);
        let report = self.report(&headline);
        self.reports.headline = Some(headline);
        Some(report)
    }

    /// The incarnation must be durable before the first report, or it could be used twice.
    fn may_report(&self) -> bool {
        self.reports.connected && self.task.is_some() && !self.over && self.persisted.0 > 0
    }

    /// The rank of an order to follow that is refused because of what is too much here: the refusal is an answer to that
    /// order, whatever was obeyed before it.
    fn refused_following(&self) -> Option<Rank> {
        let goal = self.goal.as_ref().filter(|goal| matches!(goal.order, Order::Follow { .. }))?;
        let refused = matches!(self.goal_trouble, Some(Trouble::Errant { .. }));
        let up = self.server.is_up() && self.server.seen.is_some();
        let durable = self.durable_rank.is_some_and(|durable| durable >= goal.rank);
        (refused && up && durable).then_some(goal.rank)
    }

    fn headline(&self) -> Headline {
        let (rank, role, boot) = if let Some(rank) = self.promoting() {
            (Some(rank), MemberRole::Promoting, self.server.boot)
        } else if let Some(rank) = self.refused_promotion().or_else(|| self.refused_following()) {
            (Some(rank), MemberRole::Idle, self.server.boot)
        } else {
            let (rank, role) = self.server.role();
            (self.open_turn().or(rank).or(self.durable_rank), role, self.server.role_boot())
        };
        let primary = role == MemberRole::Primary;
        let replicas = self.server.status.as_ref().filter(|_| primary).map(|status| status.replicas);
        Headline { rank, role, boot, trouble: self.trouble(), replicas, asked_to_leave: self.farewell.is_some() }
    }

    /// The turn by which an open primary is open again, or still.
    fn open_turn(&self) -> Option<Rank> {
        let goal = self.goal.as_ref().filter(|goal| matches!(goal.order, Order::Promote { .. }))?;
        let Standing::Primary { epoch, .. } = &self.server.standing else { return None };
        let durable = self.durable_rank.is_some_and(|durable| durable >= goal.rank);
        let here = self.server.is_up() && self.server.seen.is_some();
        (here && durable && goal.rank.epoch == *epoch).then_some(goal.rank)
    }

    /// The rank of a promotion that is durable, belongs to the running boot, and is still being obeyed. `Idle` in that
    /// epoch would say that the server was restarted, and make the scheduler elect again.
    fn promoting(&self) -> Option<Rank> {
        let goal = self.goal.as_ref().filter(|goal| matches!(goal.order, Order::Promote { .. }))?;
        let here = self.server.is_up() && goal.boot == Some(self.server.boot);
        let durable = self.durable_rank.is_some_and(|durable| durable >= goal.rank);
        let open = matches!(&self.server.standing, Standing::Primary { epoch, .. } if *epoch == goal.rank.epoch);
        let refused = matches!(self.goal_trouble, Some(Trouble::Incomplete { .. }));
        (here && durable && !open && !refused).then_some(goal.rank)
    }

    /// The rank of a promotion that is durable and was not meant for the running boot: whatever the server did before,
    /// `Idle` in that epoch tells the scheduler to elect again.
    fn refused_promotion(&self) -> Option<Rank> {
        let goal = self.goal.as_ref().filter(|goal| goal.is_primary())?;
        let known = self.server.is_up() && self.server.seen.is_some();
        let durable = self.durable_rank.is_some_and(|durable| durable >= goal.rank);
        (known && durable && goal.boot != Some(self.server.boot)).then_some(goal.rank)
    }

    fn report(&self, headline: &Headline) -> Report {
        let status = self.server.status.as_ref();
        // What is not running has nothing that could change unseen, so that whatever was heard is answered by it.
        let echo =
            if headline.role.is_up() { self.server.seen.as_ref().map_or(0, |seen| seen.nonce) } else { self.nonce };
        Report {
            incarnation: self.state.incarnation,
            seq: self.reports.seq,
            echo,
            epoch: headline.rank.map(|rank| rank.epoch).unwrap_or_default(),
            stage: headline.rank.map(|rank| rank.stage),
            role: headline.role.clone(),
            boot: headline.boot,
            unattached: self.server.unattached(),
            never_opened: headline.role.is_up() && headline.boot == self.server.boot && self.server.never_opened(),
            kept_since: self.kept_since().filter(|_| headline.role.is_up()),
            origin: status.map(|status| status.origin.clone()).unwrap_or_default(),
            position: self.server.position().clone(),
            unapplied: self.server.seen.as_ref().map_or(0, |seen| seen.unapplied),
            applied: self.applied(),
            lag_s: status.and_then(|status| status.replication.as_ref()).and_then(|replication| replication.lag_s),
            read_to: status.and_then(|status| status.replication.as_ref()).and_then(|replication| replication.read_to),
            replicas: headline.replicas,
            waiting: headline.replicas.and(status).map(|status| status.waiting),
            disk_free_bytes: status.and_then(|status| status.disk_free_bytes),
            waits_for_room: status.is_some_and(|status| status.waits_for_room),
            asked_to_leave: headline.asked_to_leave,
            accounts_wanted: self.wants_accounts(headline),
            accounts_revision: self.accounts_revision,
            server_version: self.server.version().to_owned(),
            trouble: headline.trouble.clone(),
            failed_copies: self.copies.failures(),
            next_copy_ms: (self.copies.failures() > 0).then(|| self.copies.not_before().since(self.now)),
        }
    }

    /// What an earlier term was told may not be true any more.
    fn wants_accounts(&self, headline: &Headline) -> bool {
        let epoch = headline.rank.map(|rank| rank.epoch);
        headline.role == MemberRole::Primary && self.told_accounts != epoch
    }

    /// A start that has forgotten what it may have acknowledged speaks for none, not for itself either, until it has
    /// received that again.
    fn kept_since(&self) -> Option<ServerStart> {
        let next = || ServerStart { incarnation: self.state.incarnation, boot: self.server.boot + 1 };
        if self.server.forgotten.is_any() { Some(next()) } else { self.state.kept_since }
    }

    /// What of its position is applied, as a probe of this start saw it, if something is not.
    fn applied(&self) -> Option<GtidSet> {
        let incomplete = self.server.seen.as_ref().is_some_and(|seen| seen.unapplied > 0);
        self.server.status.as_ref().filter(|_| incomplete).map(|status| status.applied.clone())
    }

    /// The trouble that most needs somebody's attention.
    fn trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = &self.given_up {
            return Some(trouble.clone()); // it is down: whatever else there was came before
        }
        let hung = |killing: &&super::Killing| self.now >= killing.since.after(self.config.hung_ms);
        if let Some(killing) = self.killing.as_ref().filter(hung) {
            return Some(Trouble::Hung { detail: killing.reason.clone() });
        }
        if let Some(trouble) = &self.data_gone {
            return Some(trouble.clone());
        }
        let storage = || self.storage.clone().map(|detail| Trouble::Storage { detail });
        match &self.goal_trouble {
            // Why a copy failed says more than that the disk it was made on is full.
            Some(Trouble::Failing { .. }) if self.copies.failures() > 0 => self.goal_trouble.clone(),
            Some(Trouble::Failing { .. }) | None => storage().or_else(|| self.goal_trouble.clone()),
            Some(
                Trouble::Errant { .. }
                | Trouble::HistoryMissing { .. }
                | Trouble::Unstable { .. }
                | Trouble::Broken { .. }
                | Trouble::Storage { .. }
                | Trouble::Stuck { .. }
                | Trouble::DataGone { .. }
                | Trouble::Hung { .. }
                | Trouble::Incomplete { .. },
            ) => self.goal_trouble.clone(),
        }
    }
}
