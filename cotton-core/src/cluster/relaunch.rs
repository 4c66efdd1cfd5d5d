//! Pausing between launches that fail: members that end before they ever ran would else be replaced without end.

use crate::Millis;

/// Pause after the first failure, in milliseconds; doubles with each further one in a row.
const PAUSE_MS_MIN: u64 = 500;
/// Longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 60_000;

/// Failed launches in a row; volatile, since a new scheduler may well try at once.
#[derive(Debug, Default)]
pub(super) struct Relaunch {
    failures: u32,
    /// Whether the last launch was dropped: once is a stale offer, twice is a reason to wait.
    dropped: bool,
    not_before: Option<Millis>,
    /// Whether nothing is to be launched for now.
    pub(super) waits: bool,
    /// Why the last one failed.
    pub(super) reason: Option<String>,
}

impl Relaunch {
    /// A launch was refused.
    pub(super) fn dropped(&mut self, now: Millis, reason: String) {
        if std::mem::replace(&mut self.dropped, true) {
            self.failed(now, reason);
        }
    }

    pub(super) fn failed(&mut self, now: Millis, reason: String) {
        // Members that were launched together fail together: that counts once.
        if self.not_before.is_none_or(|at| now >= at) {
            let pause = PAUSE_MS_MIN << self.failures.min(16);
            self.failures += 1;
            self.not_before = Some(now.after(pause.min(PAUSE_MS_MAX)));
        }
        self.waits = true;
        self.reason = Some(reason);
    }

    /// When the pause ends, if it has not.
    pub(super) fn reconcile(&mut self, now: Millis) -> Option<Millis> {
        let until = self.not_before.filter(|at| now < *at);
        self.waits = until.is_some();
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_failures_at_once_count_once() {
        let mut relaunch = Relaunch::default();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            relaunch.failed(now, "x".to_owned());
            relaunch.failed(now.after(1), "x".to_owned());
            let until = relaunch.reconcile(now).expect("it pauses");
            pauses.push(until.since(now));
            assert!(relaunch.waits);
            assert_eq!(relaunch.reconcile(until), None);
            assert!(!relaunch.waits);
            now = until;
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    }
}
