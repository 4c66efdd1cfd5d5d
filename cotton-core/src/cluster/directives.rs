//! Telling every member what to be, again and again until it is.

use super::Cluster;
use super::observed::Observed;
use crate::protocol::{Directive, MemberRole, Order, Stage, ToExecutor};
use crate::{Durability, Endpoint, MemberId, Millis};

impl Cluster {
    pub(super) fn direct(&mut self, now: Millis) {
        if self.state.epoch.0 == 0 {
            return;
        }
        let mut members: Vec<MemberId> = self.state.members.keys().copied().collect();
        members.sort_by_key(|id| Some(*id) != self.state.primary); // everybody waits for the primary
        let resend = self.timing.resend_ms;
        for id in members {
            let Some(stage) = self.unobeyed(id).filter(|_| self.is_told(id)) else { continue };
            let rank = (self.state.epoch, stage);
            let due = match self.observed.get(&id).and_then(|o| o.sent) {
                Some((sent, at)) if sent == rank => at.after(resend),
                _ => now,
            };
            if due > now {
                self.wake_at(due);
                continue;
            }
            let Some(order) = self.order(id, stage) else { continue };
            if matches!(order, Order::Follow { semi_sync: true, .. }) {
                self.count_acker(id);
            }
            let leased =
                matches!(order, Order::Promote { lease_ms: Some(_), .. } | Order::Reopen { lease_ms: Some(_), .. });
            if let Some(observed) = self.observed.get_mut(&id) {
                observed.sent = Some((rank, now));
                if leased {
                    observed.lease_renewed = Some(now);
                }
            }
            let epoch = self.state.epoch;
            self.send(id, ToExecutor::Directive(Directive { epoch, order }));
            self.wake_at(now.after(resend));
        }
    }

    /// The stage that a member shall be at and is not, if its executor is there to hear of it.
    pub(super) fn unobeyed(&self, id: MemberId) -> Option<Stage> {
        let observed = self.observed.get(&id)?;
        let report = observed.report.as_ref()?;
        let current = report.epoch == self.state.epoch;
        let member = self.state.members.get(&id)?;
        let (stage, obeyed) = match self.state.primary {
            None => (Stage::Freeze, current && matches!(report.role, MemberRole::Frozen | MemberRole::Starting)),
            Some(primary) if primary == id && self.state.turn > 0 => {
                let stage = Stage::Turn(self.state.turn);
                let (closed, open) = (
                    report.role == MemberRole::SteppedDown,
                    matches!(report.role, MemberRole::Primary | MemberRole::Promoting),
                );
                let fits = if self.state.turn % 2 == 1 { closed } else { open };
                (stage, current && fits && report.stage == Some(stage))
            }
            Some(primary) if primary == id => {
                (Stage::Decided, current && matches!(report.role, MemberRole::Primary | MemberRole::Promoting))
            }
            // A former primary may drop what nobody acknowledged when it follows: not before its successor has it all.
            Some(_) if self.state.witnesses.contains(&id) && self.state.spec.durability.acks() > 0 => return None,
            Some(_) if member.leaving.is_some() && !self.is_held(id, member) => {
                (Stage::Detach, current && report.stage == Some(Stage::Detach))
            }
            // It would count as one that may acknowledge, and could not be asked whether it did.
            Some(_) if observed.unreachable_since.is_some() || self.followers_wait == Some(self.state.epoch) => {
                return None;
            }
            Some(_) => (Stage::Decided, current && matches!(report.role, MemberRole::Following { .. })),
        };
        // A crashed primary stays down for a moment to hear that it follows now. The start that ended is then counted
        // among those that may acknowledge, and stands for the one to come until that has reported itself.
        let hears = match report.role {
            // One that is being copied must not follow an older primary after that, and says so.
            MemberRole::Starting => stage == Stage::Freeze && self.is_acker(id),
            MemberRole::Down { .. } => stage != Stage::Detach,
            MemberRole::Idle
            | MemberRole::Frozen
            | MemberRole::Promoting
            | MemberRole::Following { .. }
            | MemberRole::Primary
            | MemberRole::SteppedDown => true,
        };
        (hears && !obeyed).then_some(stage)
    }

    fn order(&self, id: MemberId, stage: Stage) -> Option<Order> {
        Some(match stage {
            Stage::Freeze => Order::Freeze,
            Stage::Detach => Order::Detach,
            Stage::Turn(turn) if turn % 2 == 1 => {
                let lease_ms = self.state.leased.then_some(self.timing.lease_ms);
                Order::StepDown { turn, grace_ms: self.timing.step_down_ms, lease_ms }
            }
            Stage::Turn(turn) => Order::Reopen {
                turn,
                must_contain: self.state.floor.clone(),
                acks: self.state.spec.durability.acks(),
                lease_ms: self.state.leased.then_some(self.timing.lease_ms),
            },
            Stage::Decided if self.state.primary == Some(id) => Order::Promote {
                must_contain: self.state.floor.clone(),
                acks: self.state.spec.durability.acks(),
                lease_ms: self.state.leased.then_some(self.timing.lease_ms),
            },
            Stage::Decided => {
                let primary_id = self.state.primary?;
                let primary = self.state.members.get(&primary_id)?.endpoint.clone();
                let semi_sync = self.state.spec.durability == Durability::SemiSync;
                let copy = self.state.members.get(&id).is_some_and(|member| member.late && !member.may_hold_data());
                Order::Follow { donors: self.donors(id, &primary), primary, primary_id, semi_sync, copy }
            }
        })
    }

    /// Who can give a copy: replicas first, to spare the primary. What is wrong with a replica's data would be wrong with
    /// the copy.
    pub(super) fn donors(&self, id: MemberId, primary: &Endpoint) -> Vec<Endpoint> {
        let epoch = self.state.epoch;
        let complete = self.state.staying().filter(|(other, m)| {
            // One that has just failed to apply something may be behind for ever.
            let follows = |o: &Observed| o.following(epoch) == Some(true) && o.trouble().is_none();
            *other != id
                && m.joined
                && !m.damaged
                && self.errant(*other).is_none()
                && self.observed.get(other).is_some_and(|o| follows(o))
        });
        complete.map(|(_, m)| m.endpoint.clone()).chain([primary.clone()]).collect()
    }

    /// Notes durably that a member replicates from the present primary.
    pub(super) fn observe_attachment(&mut self, id: MemberId) {
        let epoch = self.state.epoch;
        if self.state.primary.is_none_or(|primary| primary == id) {
            return;
        }
        if self.observed.get(&id).and_then(|o| o.following(epoch)) != Some(true) {
            return;
        }
        if self.state.members.get(&id).is_some_and(|member| member.attached < epoch) {
            self.change(|state| {
                if let Some(member) = state.members.get_mut(&id) {
                    member.attached = epoch;
                }
            });
        }
    }
}
