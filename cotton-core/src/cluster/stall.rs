//! Sessions that would wait for ever for an acknowledgement that was lost.
//!
//! A replica that reconnects is sent only what it does not have. When it had received the last commits and its
//! acknowledgement of them was lost with the connection, it acknowledges only the next commit, which never comes when all
//! writers wait (seen on MariaDB 10.11 and MySQL 9.7). The servers offer no harmless way out: switching semi-sync off would
//! answer the sessions, and a commit of our own waits behind them. So the primary is replaced by one that has it all.

use super::Cluster;
use crate::{Durability, GtidSet, MemberId, Millis};

/// A primary whose sessions wait although enough replicas have all that it has.
#[derive(Debug)]
pub(super) struct Stall {
    position: GtidSet,
    since: Millis,
}

impl Cluster {
    /// Why an open primary must be replaced although it is in good health.
    pub(super) fn why_stalled(&mut self, now: Millis, primary: MemberId) -> Option<String> {
        let stalled = self.stalled_at(now, primary);
        let Some(position) = stalled else {
            self.stall = None;
            return None;
        };
        let known = self.stall.as_ref().filter(|stall| stall.position == position).map(|stall| stall.since);
        let Some(since) = known else {
            self.stall = Some(Stall { position, since: now });
            return None; // its next reports tell
        };
        // An acknowledgement that is under way is there long before; it must be the primary that says that it is not.
        let due = since.after(self.timing.stall_ms);
        let heard = self.observed.get(&primary).is_some_and(|o| o.heard >= due);
        if !heard {
            return None;
        }
        if now < self.stall_pause_until {
            let until = self.stall_pause_until;
            self.wake_at(until);
            return None;
        }
        self.stall = None;
        self.stall_pause_until = now.after(self.timing.stall_pause_ms);
        Some("its sessions wait for acknowledgements that were lost: replicas have all that it has".to_owned())
    }

    /// The position of an open primary whose sessions wait, when as many replicas as must acknowledge have all of it.
    fn stalled_at(&self, now: Millis, primary: MemberId) -> Option<GtidSet> {
        let (epoch, silence) = (self.state.epoch, self.timing.silence_ms);
        let acks = self.state.spec.durability.acks() as usize;
        if self.state.spec.durability == Durability::Async || !self.is_open() {
            return None;
        }
        let report = self.observed.get(&primary)?.report_in(epoch)?;
        report.waiting.filter(|waiting| *waiting > 0)?;
        let followers = self.observed.iter().filter(|(id, observed)| {
            **id != primary && observed.following(epoch) == Some(true) && observed.silent_ms(now) < silence
        });
        let has_all =
            followers.filter_map(|(_, o)| o.report_in(epoch)).filter(|r| r.position.contains(&report.position));
        (has_all.count() >= acks).then(|| report.position.clone())
    }
}
