//! A pause in failovers that may lose commits. Without acknowledgements, each failover that goes on without the old
//! primary's data loses what nobody had received. One is worth that, and some in a row may be bad luck. More than
//! [`Timing::failovers_max`](super::Timing) of them within [`Timing::failover_cooldown_ms`](super::Timing) mend nothing, so the next one waits for the
//! old primary instead: it ends the wait as soon as it answers, since then nothing is lost. So do the end of its data for
//! good, the end of the time, and a person. See `docs/failover.md`.

use super::Cluster;
use super::event::EventKind;
use crate::election::Undecided;
use crate::{MemberId, Millis};
use std::collections::VecDeque;

/// When the latest failovers were decided that went on without the old primary's data; the record knows how many. After
/// a restart of the scheduler they count as decided then, since no clock outlives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failovers(VecDeque<Millis>);

impl Failovers {
    pub(super) fn recover(count: u32, now: Millis) -> Self {
        Self((0..count).map(|_| now).collect())
    }

    fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

impl Cluster {
    /// Until when a failover is held that would go on without the old primary's data.
    pub(super) fn cools_down(&self, now: Millis) -> Option<Millis> {
        let election = self.election.as_deref().filter(|e| !e.is_planned() && e.forced.is_none());
        let last = self.state.last_primary.filter(|last| self.state.members.contains_key(last));
        let (_, last) = election.zip(last)?;
        self.next_is_held(now).filter(|_| !self.has_answered(now, last))
    }

    /// Until when a failover would be held.
    fn next_is_held(&self, now: Millis) -> Option<Millis> {
        let state = &self.state;
        let may_lose = state.spec.durability.acks() == 0 && state.opened && !state.outdated;
        let cools_down = may_lose && self.failovers.count() >= self.timing.failovers_max;
        let until = self.failovers.0.front().filter(|_| cools_down)?.after(self.timing.failover_cooldown_ms);
        (now < until).then_some(until)
    }

    /// Why the failover of a primary that is lost with its data would be held.
    pub(super) fn why_held(&self, now: Millis) -> Option<Undecided> {
        let awaited = self.state.primary.filter(|_| self.next_is_held(now).is_some())?;
        Some(Undecided::CoolsDown { failovers: self.failovers.count(), awaited })
    }

    /// Holds the election, and says whether it does.
    pub(super) fn hold_failover(&mut self, now: Millis) -> bool {
        let Some(until) = self.cools_down(now) else {
            self.cooldown_ended(now);
            return false;
        };
        self.wake_at(until);
        let awaited = self.state.last_primary.unwrap_or_default();
        self.wait(now, Undecided::CoolsDown { failovers: self.failovers.count(), awaited });
        true
    }

    /// Tells that an election is not held any more, if it was.
    fn cooldown_ended(&mut self, now: Millis) {
        let Some(election) = &mut self.election else { return };
        let is_cool = |undecided: &Option<Undecided>| matches!(undecided, Some(Undecided::CoolsDown { .. }));
        if is_cool(&election.waiting) {
            election.waiting = None;
        }
        if is_cool(&election.announced) {
            election.announced = None;
            let back = self.state.last_primary.filter(|last| self.has_answered(now, *last));
            self.log(now, EventKind::CooldownEnded { back });
        }
    }

    /// A person has decided that no failover is held.
    pub(super) fn end_cooldown(&mut self, now: Millis) {
        if self.state.failovers > 0 {
            self.change(|state| state.failovers = 0);
        }
        self.failovers = Failovers::default();
        self.cooldown_ended(now);
    }

    /// Takes note of a failover when it is decided, before the record says so; gives how many there are.
    pub(super) fn note_failover(&mut self, now: Millis, winner: MemberId) -> u32 {
        let may_lose = self.state.last_primary.is_some_and(|last| {
            // What never opened has taken no commits.
            let opened = match self.state.members.get(&last) {
                Some(member) => member.attached == self.state.last_epoch,
                None => self.told_open == Some((self.state.last_epoch, last)),
            };
            last != winner && opened && !self.has_answered(now, last)
        });
        let unplanned = self.election.as_deref().is_some_and(|e| !e.is_planned() && e.forced.is_none());
        let on = self.timing.failover_cooldown_ms > 0 && self.state.spec.durability.acks() == 0;
        if on && may_lose && unplanned {
            if self.failovers.count() >= self.timing.failovers_max {
                self.failovers.0.pop_front();
            }
            self.failovers.0.push_back(now);
        }
        self.failovers.count()
    }

    /// Forgets failovers that are long ago.
    pub(super) fn forget_failovers(&mut self, now: Millis) {
        let window = self.timing.failover_cooldown_ms;
        while self.failovers.0.front().is_some_and(|at| now >= at.after(window)) {
            self.failovers.0.pop_front();
        }
        let count = self.failovers.count();
        if self.state.failovers != count {
            self.change(|state| state.failovers = count);
        }
        if let Some(at) = self.failovers.0.front() {
            let until = at.after(window);
            self.wake_at(until);
        }
    }

    /// Whether that member has stopped in this election, and said what it has.
    fn has_answered(&self, now: Millis, id: MemberId) -> bool {
        self.ballots(now).iter().any(|ballot| ballot.member == id)
    }
}
