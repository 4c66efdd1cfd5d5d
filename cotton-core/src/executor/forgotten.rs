//! What a start of the server had received, may have acknowledged, and has no more. A MariaDB server makes away with what it
//! has received and cannot apply when it is pointed at its primary anew.

use crate::{Epoch, GtidSet};

/// What is known of that for the running start.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// The epoch in which it replicated last.
    followed_in: Option<Epoch>,
    /// Whether the position was read before replication was set up: that may have made away with some of it.
    is_before_follow: bool,
    /// Whether it may have acknowledged what the position has, in the present epoch.
    has_acknowledged: bool,
    /// The position that it had.
    had: Option<GtidSet>,
}

impl Forgotten {
    /// Replication was set up, which may have made away with what was received before and not applied.
    pub(super) fn on_attached(&mut self, epoch: Epoch) {
        self.has_acknowledged = self.followed_in == Some(epoch);
        if !self.has_acknowledged {
            self.had = None; // the primary of this epoch has all that was acknowledged in those before
        }
        self.followed_in = Some(epoch);
        self.is_before_follow = true;
    }

    /// Whether a position that was read before still says what a server has that receives nothing since.
    pub(super) const fn may_be_kept(&self) -> bool {
        !self.is_before_follow
    }

    /// Takes note of a position that was read, and of the one before if that had more.
    pub(super) fn on_position(&mut self, position: &GtidSet, lost: Option<GtidSet>) {
        self.is_before_follow = false;
        if let Some(lost) = lost.filter(|_| self.has_acknowledged)
            && self.had.as_ref().is_none_or(|had| lost.contains(had))
        {
            self.had = Some(lost);
        }
        if self.had.as_ref().is_some_and(|had| position.contains(had)) {
            self.had = None; // it was received again
        }
        self.has_acknowledged = self.followed_in.is_some();
    }

    /// Whether it may have acknowledged something that it has no more.
    pub(super) const fn is_any(&self) -> bool {
        self.had.is_some()
    }
}
