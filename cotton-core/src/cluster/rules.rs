//! Who is to be primary, as people have decided for each member: a preference among those that have the same data.

use super::Cluster;
use super::event::EventKind;
use super::levers::LeverError;
use crate::election::PromotionRule;
use crate::{MemberId, Millis};

impl Cluster {
    pub(super) fn set_rule(&mut self, now: Millis, id: MemberId, rule: PromotionRule) -> Result<(), LeverError> {
        let member = self.state.members.get(&id).ok_or(LeverError::NoMember(id))?;
        if member.rule == rule {
            return Ok(());
        }
        self.change(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.rule = rule;
            }
        });
        self.log(now, EventKind::RuleSet { member: id, rule });
        self.reconcile(now);
        Ok(())
    }

    /// Whether a member is not to be primary as long as another one can be.
    pub(super) fn is_ruled_out(&self, id: MemberId) -> bool {
        self.state.members.get(&id).is_some_and(|member| member.rule == PromotionRule::Never)
    }
}
