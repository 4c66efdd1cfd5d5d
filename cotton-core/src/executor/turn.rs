//! Stepping down as told, and opening again when nobody tells what comes next.
//!
//! A scheduler that asks a primary to step down decides the next step within seconds, or takes the step back. One that dies
//! in between, or loses its store, would leave the cluster without a primary for as long as no scheduler leads. So the primary
//! then takes the step back by itself.
//!
//! That cannot make two primaries out of one. An election never trusts a step-down: it counts a member that has stepped down as
//! one that may write (`MemberRole::may_write`), because the order to open again may be under way. Who is elected meanwhile
//! was elected under the rules that hold for a primary that nobody reaches:
//! - With acknowledgements, so many members are frozen in the later epoch that no commit of this server is acknowledged any
//!   more; what was acknowledged before, the winner has.
//! - With a lease, the election, also that of the switchover itself, waits until it has run out and the replicas have been gone for a moment. This server opens
//!   only under its lease, or with all replicas connected, and is killed as soon as neither holds (`Executor::guard`).

use super::server::Standing;
use super::state::Rank;
use super::{Executor, Operation};
use crate::Millis;

impl Executor {
    /// Steps down, or opens again; `since` is when the order was first heard.
    pub(super) fn obey_step_down(&mut self, rank: Rank, since: Millis, grace_ms: u64, lease_ms: Option<u64>) {
        if self.is_taken_back(rank, since)
            && let Some(promotion) = self.server.opened_by.clone()
        {
            let holds = lease_ms.is_none_or(|ms| self.lease.holds(ms, self.now)) || self.has_all_replicas();
            return self.obey_promote(rank.epoch, promotion, lease_ms, holds);
        }
        if self.server.standing != Standing::SteppedDown(rank) {
            self.obey_by(Operation::StepDown { rank, grace_ms });
        }
    }

    /// Whether nobody has decided anything in time. Once it is so, it stays so for this order.
    fn is_taken_back(&mut self, rank: Rank, since: Millis) -> bool {
        if self.taken_back == Some(rank) {
            return true;
        }
        let heard = self.lease.answered().map_or(since, |at| at.max(since));
        let due = heard.after(self.config.take_back_ms).min(since.after(self.config.take_back_ms_max));
        if !self.has_come(due) {
            return false;
        }
        self.taken_back = Some(rank);
        self.warn("no scheduler has decided what follows the step-down in time: this primary opens again".to_owned());
        true
    }
}
