//! When to try again.

use super::config::ExecutorConfig;
use crate::Millis;
use std::collections::VecDeque;

/// Pauses between the attempts at one goal: doubling, bounded, forgotten on success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    not_before: Millis,
}

impl Retry {
    pub(super) fn failed(&mut self, now: Millis, config: &ExecutorConfig) {
        let pause = doubled(config.retry_ms_min, self.failures).min(config.retry_ms_max);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.after(pause);
    }

    /// Failed in a way that something else than waiting will mend.
    pub(super) const fn counted(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Failed in a way that time alone will hardly change.
    pub(super) fn refused(&mut self, now: Millis, config: &ExecutorConfig) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.after(config.recheck_ms);
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// The earliest next attempt.
    pub(super) const fn not_before(&self) -> Millis {
        self.not_before
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
        let pause = earlier.checked_sub(1).map_or(0, |n| doubled(config.restart_pause_ms, n));
        self.not_before = now.after(pause);
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

fn doubled(ms: u64, times: u32) -> u64 {
    ms.saturating_mul(1 << times.min(20))
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
