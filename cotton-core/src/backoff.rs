//! Back-off: how long to wait before the next attempt at something that failed.
//!
//! The one piece of logic for all of them: launches of members, agents on which members fail, copies of the data, server
//! starts, switchovers that nobody asked for. It is deterministic, so that runs can be repeated.

use crate::Millis;

/// Pauses that double with each failure in a row, up to a ceiling, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// After the first failure.
    pub(crate) first_ms: u64,
    /// The longest.
    pub(crate) max_ms: u64,
}

impl Pauses {
    /// The pause after so many failures in a row; none before the first.
    pub(crate) fn after(self, failures: u32) -> u64 {
        let doublings = failures.checked_sub(1);
        doublings.map_or(0, |n| self.first_ms.saturating_mul(1 << n.min(20)).min(self.max_ms))
    }
}

/// Failures in a row, and when the pause after the last one ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    until: Millis,
}

impl Backoff {
    /// An attempt failed. Gives the pause.
    pub(crate) fn failed(&mut self, now: Millis, pauses: Pauses) -> u64 {
        self.count();
        let pause = pauses.after(self.failures);
        self.until = now.after(pause);
        pause
    }

    /// An attempt failed that may have been made together with others: failures during a pause count once. Gives the
    /// pause, if this failure began one.
    pub(crate) fn failed_together(&mut self, now: Millis, pauses: Pauses) -> Option<u64> {
        (!self.is_pausing(now)).then(|| self.failed(now, pauses))
    }

    /// An attempt failed, and something else than waiting mends it.
    pub(crate) const fn count(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Waits for so long, whatever the number of failures.
    pub(crate) const fn pause(&mut self, now: Millis, ms: u64) {
        self.until = now.after(ms);
    }

    /// Failures in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The earliest next attempt.
    pub(crate) const fn until(&self) -> Millis {
        self.until
    }

    pub(crate) const fn is_pausing(&self, now: Millis) -> bool {
        now.0 < self.until.0
    }
}

/// A length of time in words, rounded up: what is announced for later is then true.
pub(crate) fn in_words(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = Pauses { first_ms: 500, max_ms: 60_000 };

    #[test]
    fn pauses_double_up_to_a_ceiling() {
        let pauses: Vec<u64> = (0..10).map(|failures| PAUSES.after(failures)).collect();
        assert_eq!(pauses, [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(PAUSES.after(u32::MAX), 60_000);
        assert_eq!(Pauses { first_ms: u64::MAX, max_ms: u64::MAX }.after(9), u64::MAX, "saturates");
    }

    #[test]
    fn failures_at_once_count_once() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_pausing(Millis(0)));
        assert_eq!(backoff.failed_together(Millis(7), PAUSES), Some(500));
        assert_eq!(backoff.failed_together(Millis(8), PAUSES), None);
        assert_eq!((backoff.failures(), backoff.until()), (1, Millis(507)));
        assert!(backoff.is_pausing(Millis(506)) && !backoff.is_pausing(Millis(507)));
        assert_eq!(backoff.failed_together(Millis(507), PAUSES), Some(1_000));
    }

    #[test]
    fn times_are_told_rounded_up() {
        assert_eq!([0, 1, 1_000, 119_000, 119_001].map(in_words), ["0 s", "1 s", "1 s", "119 s", "2 min"]);
    }
}
