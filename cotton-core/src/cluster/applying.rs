//! How far a member is with applying what it has received, and how fast it goes: by what its reports say, and when they
//! came. Being slow is not being lost; people are told how slow it is.

use super::Cluster;
use super::event::EventKind;
use super::view::{ApplyingView, PerSecond};
use crate::protocol::{MemberRole, Report, Trouble};
use crate::{Epoch, MemberId, Millis};
use std::collections::VecDeque;

/// Rates are those of the latest reports, as far back as this.
const WINDOW_MS: u64 = 30_000;
/// No rate is told of a shorter time.
const RATED_MS_MIN: u64 = 1_000;
/// Most reports that a rate is computed from; of more, every second one is dropped.
const SAMPLES_MAX: usize = 32;
/// After how long people are told that a new primary applies slowly; then after twice as long, and so on.
const SLOW_MS: u64 = 10_000;

/// A member applies what it has received. Ends with the start of its server.
#[derive(Clone, Debug)]
pub(super) struct Applying {
    since: Millis,
    /// When the end of a transaction was last seen.
    advanced: Millis,
    /// The latest reports of that.
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Millis,
    /// Transactions applied since it began.
    done: u64,
    left: u64,
}

/// What people were told of a new primary that applies what it has received before it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToldApplying {
    epoch: Epoch,
    since: Millis,
    left: u64,
    /// When they are told again.
    next: Millis,
}

impl Applying {
    fn begin(now: Millis, left: u64) -> Self {
        Self { since: now, advanced: now, samples: VecDeque::from([Sample { at: now, done: 0, left }]) }
    }

    /// Takes note of a report; `before` is the last one known until then.
    pub(super) fn note(known: Option<Self>, now: Millis, before: Option<&Report>, after: &Report) -> Option<Self> {
        if after.unapplied == 0 || !after.role.is_up() || after.role == MemberRole::Primary {
            return None;
        }
        let before = before.filter(|b| (b.incarnation, b.boot) == (after.incarnation, after.boot));
        let (Some(mut this), Some(before)) = (known, before) else { return Some(Self::begin(now, after.unapplied)) };
        let received = after.position.count_beyond(&before.position);
        let done = (before.unapplied + received).saturating_sub(after.unapplied);
        if done > 0 {
            this.advanced = now;
        }
        let done = this.samples.back().map_or(0, |last| last.done) + done;
        this.samples.push_back(Sample { at: now, done, left: after.unapplied });
        while this.samples.get(1).is_some_and(|second| now.since(second.at) >= WINDOW_MS) {
            this.samples.pop_front();
        }
        if this.samples.len() > SAMPLES_MAX {
            let mut number = 0;
            this.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        Some(this)
    }

    /// When it began.
    pub(super) const fn since(&self) -> Millis {
        self.since
    }

    pub(super) fn view(&self, now: Millis) -> ApplyingView {
        let (first, last) = (self.samples.front(), self.samples.back());
        let left = last.map_or(0, |last| last.left);
        let rated = first.zip(last).filter(|(first, last)| last.at.since(first.at) >= RATED_MS_MIN);
        let per = |count: u64, ms: u64| PerSecond::of(count, ms);
        // What is received meanwhile has to be applied, too.
        let shrinks = rated.map(|(first, last)| (first.left.saturating_sub(last.left), last.at.since(first.at)));
        let rest_s = shrinks.filter(|(fewer, _)| *fewer > 0).map(|(fewer, ms)| {
            let ms = u128::from(left) * u128::from(ms) / u128::from(fewer);
            u64::try_from(ms / 1_000).unwrap_or(u64::MAX)
        });
        ApplyingView {
            left,
            per_second: rated.map(|(first, last)| per(last.done - first.done, last.at.since(first.at))),
            rest_s,
            since_ms: now.since(self.since),
            advanced_ms: now.since(self.advanced),
        }
    }
}

impl Cluster {
    /// What a member has left to apply, if it has something.
    pub(super) fn applying(&self, now: Millis, id: MemberId) -> Option<ApplyingView> {
        let observed = self.observed.get(&id)?;
        let view = observed.applying.as_ref().map(|applying| applying.view(now))?;
        let stands = matches!(observed.trouble(), Some(Trouble::Stuck { .. } | Trouble::Broken { .. }));
        // It tries again and again, and comes no further.
        Some(if stands { ApplyingView { per_second: None, rest_s: None, ..view } } else { view })
    }

    /// Tells people that a new primary applies before it opens: once when that begins, now and then while it lasts, and once
    /// when it is over.
    pub(super) fn reconcile_applying(&mut self, now: Millis) {
        let epoch = self.state.epoch;
        let Some(member) = self.state.primary else { return };
        let applying = self.applying(now, member);
        let Some(observed) = self.observed.get_mut(&member) else { return };
        let Some(report) = observed.report_in(epoch) else { return };
        let (is_open, is_promoting) = (report.role == MemberRole::Primary, report.role == MemberRole::Promoting);
        let told = observed.told.applying.filter(|told| told.epoch == epoch);
        let kind = match (told, applying) {
            (Some(told), _) if is_open => {
                observed.told.applying = None;
                EventKind::Applied { member, transactions: told.left, ms: now.since(told.since) }
            }
            (None, Some(ApplyingView { left, .. })) if is_promoting => {
                let next = now.after(SLOW_MS);
                observed.told.applying = Some(ToldApplying { epoch, since: now, left, next });
                self.wake_at(next);
                EventKind::Applying { member, left }
            }
            (Some(told), Some(ApplyingView { left, per_second, rest_s, .. })) if is_promoting => {
                if now < told.next {
                    return self.wake_at(told.next);
                }
                let next = now.after(now.since(told.since));
                observed.told.applying = Some(ToldApplying { next, ..told });
                self.wake_at(next);
                EventKind::ApplyingSlowly { member, left, ms: now.since(told.since), per_second, rest_s }
            }
            _ => return,
        };
        self.log(now, kind);
    }
}
