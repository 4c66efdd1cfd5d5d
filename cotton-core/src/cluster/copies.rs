//! How many complete copies of the data there are now. That a member once was one says little: it may have been stopped,
//! broken or copied over since.

use super::Cluster;
use crate::protocol::MemberRole;
use crate::{MemberId, Millis};

impl Cluster {
    /// Whether a member holds a complete copy, as far as it has said lately: it is the open primary, or follows it.
    pub(super) fn is_complete_now(&self, now: Millis, id: MemberId) -> bool {
        let Some(member) =
            self.state.members.get(&id).filter(|member| member.joined && !member.resting && !member.damaged)
        else {
            return false;
        };
        let Some(observed) = self.observed.get(&id).filter(|o| o.silent_ms(now) < self.timing.silence_ms) else {
            return false;
        };
        let epoch = self.state.epoch;
        let is_primary = self.state.primary == Some(id);
        let role = match observed.report_in(epoch).map(|report| &report.role) {
            Some(MemberRole::Primary | MemberRole::SteppedDown) => is_primary,
            Some(MemberRole::Following { connected }) => *connected,
            _ => false,
        };
        role && member.attached == epoch && observed.unreachable_since.is_none() && observed.trouble().is_none()
    }

    /// How many members that are to stay hold a complete copy now.
    pub(super) fn complete_now(&self, now: Millis) -> usize {
        self.state.staying().filter(|(id, _)| self.is_complete_now(now, *id)).count()
    }

    /// Whether data can be destroyed that may be somebody's last copy: a primary is open for sure, and as many complete
    /// copies are there as are wanted; nor is the cluster paused.
    pub(crate) fn can_spare_data(&self, now: Millis) -> bool {
        let wanted = self.state.spec.size as usize;
        !self.state.outdated && !self.state.paused && self.is_open_for_sure(now) && self.complete_now(now) >= wanted
    }
}
