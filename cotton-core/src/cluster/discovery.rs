//! What clients see: the primary once it is open for writes, and the replicas that can be read.
//!
//! Clients write to a primary that is fine also while nobody hears of it: a new leader may reach neither Mesos nor any
//! executor. So what is published is withdrawn only when the loss of the primary was decided by a scheduler that could
//! hear. Until a member was heard of in this run, what the record says of it holds.

use super::Cluster;
use crate::ports::discovery::Published;
use crate::{Endpoint, MemberId, Millis};
use std::collections::BTreeMap;

/// What clients should see of the primary.
enum Sight {
    Primary(MemberId),
    Nobody,
    /// What they see now.
    Same,
}

impl Cluster {
    /// Shows clients what they should see now.
    pub(super) fn publish(&mut self, now: Millis) {
        let primary = match self.sight(now) {
            Sight::Primary(id) => Some(id),
            Sight::Nobody => None,
            Sight::Same => return,
        };
        let epoch = self.state.epoch;
        let shown = |id: &MemberId| {
            let follows = self.observed.get(id).is_some_and(|o| o.following(epoch) == Some(true));
            Some(*id) == primary || follows || self.was_attached(*id)
        };
        let members = self.state.staying().filter(|(id, m)| shown(id) && (m.joined || Some(*id) == primary));
        let members = members.map(|(id, m)| (id, m.endpoint.clone())).collect();
        self.show(primary, members);
    }

    fn sight(&mut self, now: Millis) -> Sight {
        if let Some(primary) = self.state.primary.filter(|_| self.is_open()) {
            self.closed_since = None;
            return Sight::Primary(primary);
        }
        let closed_since = *self.closed_since.get_or_insert(now);
        match &self.published {
            Some(published) if published.primary.is_none() => return Sight::Same,
            // What is there from the beginning can be watched: also when it ends without ever having had a primary.
            None if !self.state.opened => return Sight::Nobody,
            Some(_) | None => {}
        }
        let heard_since = self.heard_since;
        if let Some(primary) = self.state.primary.filter(|id| self.was_attached(*id)) {
            // It opened, and nobody has decided that it is lost. After a switchover that was taken back it may be
            // read-only: then nothing is known before it says so.
            let known = heard_since.is_some() && self.state.turn == 0;
            return if known { Sight::Primary(primary) } else { Sight::Same };
        }
        let ended = self.state.last_primary.is_none_or(|id| !self.has_task(id));
        let able_since = heard_since.or_else(|| ended.then_some(self.watching_since));
        let Some(able_since) = able_since else { return Sight::Same };
        // The old primary stays visible for the moment that an ordinary failover takes, not longer. What an earlier run of
        // the scheduler published is not known here, and may be an old primary too.
        let lost_at = self.lost_at().unwrap_or(closed_since);
        let due = lost_at.max(able_since).after(self.timing.restart_grace_ms);
        if now < due {
            self.wake_at(due);
            return Sight::Same;
        }
        Sight::Nobody
    }

    /// Whether the record says that a member follows the present primary, or is it, and nobody has heard of that member
    /// since this run began.
    fn was_attached(&self, id: MemberId) -> bool {
        let unheard =
            self.observed.get(&id).is_some_and(|observed| observed.is_from_record && observed.report.is_none());
        unheard && self.state.members.get(&id).is_some_and(|m| !m.resting && m.attached == self.state.epoch)
    }

    pub(super) fn show(&mut self, primary: Option<MemberId>, members: BTreeMap<MemberId, Endpoint>) {
        let wanted = Published { epoch: self.state.epoch, primary, members };
        if self.published.as_ref() != Some(&wanted) {
            self.published = Some(wanted.clone());
            self.want(super::Effect::Publish(wanted));
        }
    }
}
