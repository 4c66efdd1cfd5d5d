//! How far replicas are behind, measured by what the primary had and when it was known to have it. What a server tells of
//! its own lag counts as well, but it knows of none while its receiver is behind or its applier is held up.

use super::Cluster;
use super::event::EventKind;
use crate::protocol::{MemberRole, Report};
use crate::{Epoch, GtidSet, MemberId, Millis};
use std::collections::VecDeque;

/// Positions kept; of more, every second one is dropped: what is measured with them gets coarser, not shorter.
const MARKS_MAX: usize = 32;

/// What the primary of one epoch had, and when that was known, oldest first, as far as somebody has not applied it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    epoch: Epoch,
    marks: VecDeque<(Millis, GtidSet)>,
}

impl Marks {
    fn note(&mut self, now: Millis, epoch: Epoch, position: &GtidSet) {
        if self.epoch != epoch {
            *self = Self { epoch, marks: VecDeque::new() };
        }
        if self.marks.back().is_some_and(|(_, last)| last == position) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            let mut number = 0;
            self.marks.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.marks.push_back((now, position.clone()));
    }

    /// When the oldest was known that this report, which came at `heard`, has not applied. Younger ones do not count: the
    /// report was made before.
    fn behind(&self, heard: Millis, report: &Report) -> Option<Millis> {
        let missing = |(at, mark): &&(Millis, GtidSet)| *at <= heard && !report.has_applied(mark);
        self.marks.iter().find(missing).map(|(at, _)| *at)
    }
}

impl Cluster {
    /// Takes note of what the primary has; forgets what every replica has applied.
    pub(super) fn observe_lag(&mut self, now: Millis, id: MemberId) {
        let epoch = self.state.epoch;
        let Some(primary) = self.state.primary else { return };
        if id == primary {
            let report = self.observed.get(&id).and_then(|o| o.report_in(epoch));
            if let Some(report) = report.filter(|report| report.role == MemberRole::Primary) {
                self.marks.note(now, epoch, &report.position);
            }
        }
        let replicas = self.observed.iter().filter(|(id, _)| **id != primary);
        let reports: Vec<&Report> =
            replicas.filter_map(|(_, o)| o.report_in(epoch).filter(|r| is_replica(r))).collect();
        while self.marks.marks.len() > 1
            && self.marks.marks.front().is_some_and(|(_, mark)| reports.iter().all(|report| report.has_applied(mark)))
        {
            self.marks.marks.pop_front();
        }
        self.tell_lag(now, id);
    }

    /// Tells people once when a replica falls too far behind, and once when it is back.
    fn tell_lag(&mut self, now: Millis, member: MemberId) {
        let applying = self.applying(now, member);
        let lag_ms = self.lag_s(member).unwrap_or_default().saturating_mul(1_000);
        let warning = self.timing.lag_warning_ms;
        let joined = self.state.members.get(&member).is_some_and(|member| member.joined);
        let Some(observed) = self.observed.get_mut(&member) else { return };
        if !observed.told.lag && joined && lag_ms > warning {
            observed.told.lag = true;
            let (left, per_second) = applying.map_or((0, None), |applying| (applying.left, applying.per_second));
            self.log(now, EventKind::Lagging { member, lag_s: lag_ms / 1_000, left, per_second });
        } else if observed.told.lag && lag_ms <= warning / 2 {
            observed.told.lag = false;
            self.log(now, EventKind::CaughtUp { member });
        }
    }

    /// Seconds that a replica is behind the primary, as far as is known.
    pub(super) fn lag_s(&self, id: MemberId) -> Option<u64> {
        let observed = self.observed.get(&id)?;
        let current = observed.report_in(self.state.epoch).filter(|report| is_replica(report));
        let Some(report) = current.filter(|_| self.state.primary.is_some_and(|primary| primary != id)) else {
            return observed.report.as_ref().and_then(|report| report.lag_s);
        };
        if self.marks.epoch != self.state.epoch || self.marks.marks.is_empty() {
            return report.lag_s;
        }
        match self.behind_since(id) {
            Some(at) => Some((observed.heard.since(at) / 1_000).max(report.lag_s.unwrap_or_default())),
            None => Some(0), // what the server tells then is about what it has done already
        }
    }

    /// Since when the primary has had what a replica has not applied.
    pub(super) fn behind_since(&self, id: MemberId) -> Option<Millis> {
        let observed = self.observed.get(&id)?;
        let report = observed.report_in(self.state.epoch).filter(|report| is_replica(report))?;
        self.marks.behind(observed.heard, report).filter(|_| self.marks.epoch == self.state.epoch)
    }

    /// Whether a replica is behind by more than the cluster may bear without a word.
    pub(super) fn is_lagging(&self, id: MemberId) -> bool {
        self.lag_s(id).is_some_and(|lag_s| lag_s.saturating_mul(1_000) > self.timing.lag_warning_ms)
    }
}

const fn is_replica(report: &Report) -> bool {
    matches!(report.role, MemberRole::Following { .. })
}
