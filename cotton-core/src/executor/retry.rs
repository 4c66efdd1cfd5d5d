//! When to try again.

use super::config::ExecutorConfig;
use crate::backoff::{Backoff, Pauses, in_words};
use crate::{Endpoint, Millis};
use std::collections::VecDeque;

/// Pauses between the attempts at one goal: doubling, bounded, forgotten on success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry(Backoff);

impl Retry {
    pub(super) fn failed(&mut self, now: Millis, config: &ExecutorConfig) {
        self.0.failed(now, Pauses { first_ms: config.retry_ms_min, max_ms: config.retry_ms_max });
    }

    /// Failed in a way that something else than waiting will mend.
    pub(super) const fn counted(&mut self) {
        self.0.count();
    }

    /// Failed in a way that time alone will hardly change.
    pub(super) const fn refused(&mut self, now: Millis, config: &ExecutorConfig) {
        self.0.count();
        self.0.pause(now, config.recheck_ms);
    }

    pub(super) const fn failures(&self) -> u32 {
        self.0.failures()
    }

    /// The earliest next attempt.
    pub(super) const fn not_before(&self) -> Millis {
        self.0.until()
    }
}

/// Copies of the data that failed or did not help. Survives new orders: a copy fails for reasons that an election does not
/// mend. Forgotten once the member is connected to its primary.
#[derive(Debug, Default)]
pub(super) struct Copies {
    backoff: Backoff,
    /// Attempts in this incarnation: the donors take turns.
    attempts: usize,
    /// Why the last one failed.
    reason: Option<String>,
    /// The donor of a finished copy that has not been followed on yet.
    unproven: Option<Endpoint>,
    /// Whether one was made in this incarnation, or the server cannot make any.
    is_done: bool,
}

impl Copies {
    /// Who gives the next copy.
    pub(super) fn donor<'a>(&self, donors: &'a [Endpoint]) -> Option<&'a Endpoint> {
        donors.get(self.attempts % donors.len().max(1))
    }

    /// The earliest next attempt.
    pub(super) const fn not_before(&self) -> Millis {
        self.backoff.until()
    }

    /// A copy was made, and will show whether it helps.
    pub(super) fn made(&mut self, donor: &Endpoint) {
        self.attempts += 1;
        self.is_done = true;
        self.unproven = Some(donor.clone());
    }

    /// Whether a member without data is to begin with one.
    pub(super) fn may_begin(&self, config: &ExecutorConfig) -> bool {
        !self.is_done && self.attempts < config.first_copies_max
    }

    /// This server cannot make any.
    pub(super) const fn are_impossible(&mut self) {
        self.is_done = true;
    }

    /// A copy failed.
    pub(super) fn failed(&mut self, now: Millis, donor: &Endpoint, detail: &str, config: &ExecutorConfig) {
        self.attempts += 1;
        self.note(now, donor, detail, config);
    }

    /// The primary's logs do not reach back to what this member has: whatever copy it has did not help.
    pub(super) fn history_missing(&mut self, now: Millis, config: &ExecutorConfig) {
        if let Some(donor) = self.unproven.take() {
            self.note(now, &donor, "it is older than the primary's binary logs", config);
        }
    }

    /// The member follows.
    pub(super) fn succeeded(&mut self) {
        (self.backoff, self.reason, self.unproven) = (Backoff::default(), None, None);
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Why the last one failed, and when the next is made.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn note(&mut self, now: Millis, donor: &Endpoint, detail: &str, config: &ExecutorConfig) {
        let pauses = Pauses { first_ms: config.copy_pause_ms_min, max_ms: config.copy_pause_ms_max };
        let pause = in_words(self.backoff.failed(now, pauses));
        let failures = self.backoff.failures();
        self.reason = Some(format!(
            "copy from {donor} failed ({failures} failed in a row, the next one is made after {pause}): {detail}"
        ));
    }
}

/// Unplanned starts of the server: each crash, hang or failed start costs one, and there are only so many in a row.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    at: VecDeque<Millis>,
    not_before: Millis,
}

impl Restarts {
    /// Takes one; false when there was none left, and the next start has to rest.
    pub(super) fn take(&mut self, now: Millis, config: &ExecutorConfig) -> bool {
        while self.at.front().is_some_and(|at| now.since(*at) >= config.restart_window_ms) {
            self.at.pop_front();
        }
        if self.at.len() >= config.restarts_max {
            self.at.pop_front();
            self.at.push_back(now); // it goes on resting as long as it goes on failing
            self.rest(now, config);
            return false;
        }
        let earlier = u32::try_from(self.at.len()).unwrap_or(u32::MAX);
        self.at.push_back(now);
        let pauses = Pauses { first_ms: config.restart_pause_ms, max_ms: config.restart_rest_ms };
        self.not_before = now.after(pauses.after(earlier));
        true
    }

    /// Puts the next start off for long: one at once would fail again.
    pub(super) const fn rest(&mut self, now: Millis, config: &ExecutorConfig) {
        self.not_before = now.after(config.restart_rest_ms);
    }

    /// The earliest next start.
    pub(super) const fn not_before(&self) -> Millis {
        self.not_before
    }
}

/// Ends of the applier with an error, each of which was followed by an attempt to go on.
#[derive(Debug, Default)]
pub(super) struct Applier {
    failed_at: VecDeque<Millis>,
}

impl Applier {
    /// Counts one; true when there were too many within the window.
    pub(super) fn failed(&mut self, now: Millis, config: &ExecutorConfig) -> bool {
        self.failed_at.push_back(now);
        if self.failed_at.len() > config.applier_failures_max {
            self.failed_at.pop_front();
        }
        self.is_broken(now, config)
    }

    /// Whether there were too many, the last of them within the window.
    pub(super) fn is_broken(&self, now: Millis, config: &ExecutorConfig) -> bool {
        let recent = |at: &&Millis| now.since(**at) < config.applier_window_ms;
        self.failed_at.iter().filter(recent).count() >= config.applier_failures_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let (config, mut retry) = (ExecutorConfig::default(), Retry::default());
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                retry.failed(Millis(1000), &config);
                retry.not_before().since(Millis(1000))
            })
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn restarts_run_out_and_come_back() {
        let (config, mut restarts) = (ExecutorConfig::default(), Restarts::default());
        let pauses: Vec<Option<u64>> =
            (0..6).map(|_| restarts.take(Millis(7), &config).then(|| restarts.not_before().since(Millis(7)))).collect();
        assert_eq!(pauses, [Some(0), Some(100), Some(200), Some(400), Some(800), None]);
        assert_eq!(restarts.not_before(), Millis(60_007), "it rests");
        assert!(!restarts.take(Millis(600_006), &config), "and goes on resting");
        assert!(restarts.take(Millis(600_007), &config), "the window has passed");
        assert_eq!(restarts.not_before().since(Millis(600_007)), 100);
    }
}
