//! Until when an asynchronous primary may believe that nobody has replaced it.
//!
//! A lease is counted from the moment when the answered report was *sent*: the scheduler counts from its answer, which
//! is later, so that the executor's lease always ends first, whatever the network does. For the same reason an order
//! alone starts no lease: it may have been under way for any time.

use crate::Millis;
use std::collections::VecDeque;

/// Reports whose answer is still of interest; an older one would not renew a lease anyway.
const REPORTS_MAX: usize = 64;

/// What is known of the reports and their answers.
#[derive(Debug, Default)]
pub(super) struct Lease {
    sent: VecDeque<(u64, Millis)>,
    answered: Option<Millis>,
    /// How many members there were beside this one when the latest answer was given.
    others: u32,
}

impl Lease {
    /// A report leaves.
    pub(super) fn on_sent(&mut self, seq: u64, now: Millis) {
        self.sent.push_back((seq, now));
        if self.sent.len() > REPORTS_MAX {
            self.sent.pop_front();
        }
    }

    /// A report was answered, at a time with so many other members; false when it is unknown or too old to be remembered.
    pub(super) fn on_heard(&mut self, seq: u64, others: u32) -> bool {
        let sent = self.sent.iter().find(|(sent, _)| *sent == seq).map(|(_, at)| *at);
        if sent > self.answered {
            (self.answered, self.others) = (sent, others);
        }
        sent.is_some()
    }

    /// When the newest report that was answered had left.
    pub(super) const fn answered(&self) -> Option<Millis> {
        self.answered
    }

    /// How many replicas must be connected for nobody else to be primary, when the lease has run out: whoever is elected
    /// has left its primary before. Fewer would do only if it were known which ones they are; more than there were show
    /// that what is known is old.
    pub(super) fn loyal(&self) -> u32 {
        self.others.max(1)
    }

    /// When a lease of this length ends; `None` while no report was ever answered.
    pub(super) fn until(&self, lease_ms: u64) -> Option<Millis> {
        self.answered.map(|at| at.after(lease_ms))
    }

    /// Whether a lease of this length holds.
    pub(super) fn holds(&self, lease_ms: u64, now: Millis) -> bool {
        self.until(lease_ms).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_sending_and_never_back() {
        let mut lease = Lease::default();
        assert!(!lease.holds(u64::MAX, Millis(0)), "nothing was answered yet");
        lease.on_sent(1, Millis(100));
        lease.on_sent(2, Millis(200));
        assert!(!lease.on_heard(3, 1));
        assert!(lease.on_heard(2, 1));
        assert_eq!(lease.until(50), Some(Millis(250)));
        assert!(lease.on_heard(1, 9), "late answers are known, but shorten nothing");
        assert_eq!(lease.until(50), Some(Millis(250)));
        assert_eq!(lease.loyal(), 1);
        assert!(lease.holds(50, Millis(249)) && !lease.holds(50, Millis(250)));
    }

    #[test]
    fn remembers_a_bounded_number_of_reports() {
        let mut lease = Lease::default();
        for seq in 0..1000 {
            lease.on_sent(seq, Millis(seq));
        }
        assert!(!lease.on_heard(1000 - 1 - REPORTS_MAX as u64, 1));
        assert!(lease.on_heard(1000 - REPORTS_MAX as u64, 1));
    }
}
