//! A paused cluster: nothing is decided for it until a person resumes it, however long that takes.
//!
//! Everything is observed and told as ever. The leases of asynchronous primaries are renewed, acknowledgers are kept track
//! of, and what was decided before goes on being said: a primary that was chosen opens, and complete copies follow it.
//! No failover or switchover begins, no member is launched, told to take a copy, given up or killed, and no data is removed.

use super::Cluster;
use super::event::EventKind;
use super::levers::LeverError;
use super::view::SwitchoverView;
use crate::{MemberId, Millis};

/// A failover that is needed and held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Who must be replaced.
    pub(super) primary: MemberId,
    /// Since when.
    pub(super) since: Millis,
    /// Why.
    pub(super) reason: String,
}

impl Cluster {
    pub(super) fn pause(&mut self, now: Millis) -> Result<(), LeverError> {
        if self.state.paused {
            return Ok(());
        }
        if let Some(what) = self.is_under_way(now) {
            return Err(LeverError::UnderWay(what));
        }
        self.change(|state| state.paused = true);
        self.drop_kills();
        self.log(now, EventKind::Paused);
        self.reconcile(now);
        Ok(())
    }

    /// A person wants decisions to be made: neither a pause nor a cool-down holds them any more.
    pub(super) fn end_pause(&mut self, now: Millis) {
        let holds = self.state.paused || self.cools_down(now).is_some();
        if !holds {
            return;
        }
        self.change(|state| state.paused = false);
        self.log(now, EventKind::Resumed);
        self.end_cooldown(now);
        if let Some(election) = &mut self.election {
            // Nobody was waited for meanwhile.
            (election.started, election.deadline) = (now, now.after(self.timing.election_ms));
        }
        self.reconcile(now);
    }

    /// What is done for a paused cluster.
    pub(super) fn reconcile_paused(&mut self, now: Millis) {
        self.observe_loss(now);
        self.confirm_primary(now);
        self.reconcile_joining(now);
        self.reconcile_ackers(now);
        if self.later_epoch().is_none() {
            // Otherwise the record is older than the world, and what it says would mislead clients.
            self.direct(now);
            self.publish(now);
        }
        self.reconcile_blocked(now);
        self.reconcile_silence(now);
    }

    /// Whether a member is told what to be. In a paused cluster, one without a complete copy would begin to take one; one
    /// that is to leave stays as it is; and a primary that was lost is not opened again.
    pub(super) fn is_told(&self, id: MemberId) -> bool {
        let Some(member) = self.state.members.get(&id).filter(|_| self.state.paused) else { return true };
        match self.state.primary {
            None => true, // it is frozen, so that the election can go on
            Some(primary) if primary == id => self.held.is_none(),
            Some(_) => member.joined && member.leaving.is_none(),
        }
    }

    /// What must come to its end before the cluster can be paused.
    pub(super) fn is_under_way(&self, now: Millis) -> Option<&'static str> {
        if self.is_handing_over(now) {
            Some("a switchover")
        } else {
            (self.election.is_some() && self.election_waits(now).is_none()).then_some("an election")
        }
    }

    /// Whether a switchover is on its way, or being taken back.
    fn is_handing_over(&self, now: Millis) -> bool {
        let waits = self.election_waits(now).is_some();
        let under_way = self.latest_switchover.as_deref().is_some_and(SwitchoverView::is_under_way);
        let decided = self.switchover.is_some() || self.state.switchover.is_some() || self.reopening_since.is_some();
        decided || (under_way && !waits)
    }

    /// Takes note that the primary would have to be replaced, or not any more.
    fn observe_loss(&mut self, now: Millis) {
        let lost = self.state.primary.and_then(|primary| Some((primary, self.why_lost(now, primary)?)));
        let Some((primary, reason)) = lost else {
            self.held = None;
            return;
        };
        let known = self.held.take().filter(|held| held.primary == primary);
        if known.is_none() {
            self.log(now, EventKind::FailoverHeld { member: primary, reason: reason.clone() });
        }
        let since = known.map_or(now, |held| held.since);
        self.held = Some(Held { primary, since, reason });
    }
}
