//! Members that are not heard of, and commits that are not acknowledged: told once when it begins, and once when it ends.

use super::Cluster;
use super::event::EventKind;
use crate::protocol::MemberRole;
use crate::{Durability, GtidSet, MemberId, Millis};

/// Sessions of a primary wait, and the position at which they wait has not changed since.
#[derive(Debug)]
pub(super) struct AckWait {
    position: GtidSet,
    since: Millis,
}

/// Commits wait for a replica to acknowledge them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    since: Millis,
    told: bool,
}

impl Cluster {
    /// Tells whose reports are missing. While nobody can be heard, that says nothing about anybody.
    pub(super) fn reconcile_silence(&mut self, now: Millis) {
        if !self.is_watching {
            return;
        }
        let mut silent = Vec::new();
        let mut wake = None;
        for (id, member) in self.state.members.iter().filter(|(_, member)| !member.resting) {
            let Some(observed) = self.observed.get(id).filter(|o| o.unreachable_since.is_none()) else { continue };
            // A new one may take long until it can be heard of.
            let known = observed.report.is_some() || member.joined;
            if observed.told.silent || !known {
                continue;
            }
            let due = observed.heard.max(self.watching_since).after(self.timing.silence_ms);
            if now >= due {
                silent.push((*id, observed.silent_ms(now)));
            } else {
                wake = crate::time::earliest(wake, Some(due));
            }
        }
        self.timeout = crate::time::earliest(self.timeout, wake);
        for (member, ms) in silent {
            if let Some(observed) = self.observed.get_mut(&member) {
                observed.told.silent = true;
            }
            let primary = self.state.primary == Some(member);
            self.log(now, EventKind::Silent { member, primary, ms });
        }
    }

    /// Takes note of sessions that wait.
    pub(super) fn observe_waiting(&mut self, now: Millis, id: MemberId) {
        if self.state.primary != Some(id) {
            return;
        }
        let report = self.observed.get(&id).and_then(|o| o.report_in(self.state.epoch));
        let open = report.filter(|r| r.role == MemberRole::Primary);
        let since = |known: Option<Millis>, waits: bool| waits.then(|| known.unwrap_or(now));
        self.waits_since = since(self.waits_since, open.is_some_and(|r| r.waiting.is_some_and(|n| n > 0)));
        self.room_missed_since = since(self.room_missed_since, open.is_some_and(|r| r.waits_for_room));
        let waits = report.filter(|r| r.role == MemberRole::Primary && r.waiting.is_some_and(|waiting| waiting > 0));
        self.ack_wait = match (waits, self.ack_wait.take()) {
            (Some(report), Some(wait)) if wait.position == report.position => Some(wait),
            (Some(report), _) => Some(Box::new(AckWait { position: report.position.clone(), since: now })),
            (None, _) => None,
        };
    }

    /// Tells when commits begin to wait, unless it is for a moment only, and when that is over.
    pub(super) fn reconcile_blocked(&mut self, now: Millis) {
        let reason = self.why_blocked();
        match (&mut self.blocked, reason) {
            (None, None) => {}
            (None, Some(_)) => {
                let since = self.ack_wait.as_ref().map_or(now, |wait| wait.since);
                self.blocked = Some(Blocked { since, told: false });
                self.tell_blocked(now);
            }
            (Some(_), Some(_)) => self.tell_blocked(now),
            (Some(blocked), None) => {
                let (told, ms) = (blocked.told, now.since(blocked.since));
                self.blocked = None;
                if told && self.is_open() {
                    self.log(now, EventKind::CommitsGoOn { ms });
                }
            }
        }
    }

    fn tell_blocked(&mut self, now: Millis) {
        let Some(blocked) = self.blocked.filter(|blocked| !blocked.told) else { return };
        let due = blocked.since.after(self.timing.stall_ms);
        if now < due {
            return self.wake_at(due);
        }
        self.blocked = Some(Blocked { told: true, ..blocked });
        if let Some(reason) = self.why_blocked() {
            self.log(now, EventKind::CommitsWait { reason });
        }
    }

    /// Since when commits wait.
    pub(super) fn blocked_since(&self) -> Option<Millis> {
        self.blocked.map(|blocked| blocked.since)
    }

    /// Why the primary, which is open, cannot have commits acknowledged, if it cannot.
    pub(super) fn why_blocked(&self) -> Option<String> {
        let epoch = self.state.epoch;
        if self.state.spec.durability != Durability::SemiSync || !self.is_open() {
            return None;
        }
        if !self.observed.values().any(|o| o.following(epoch) == Some(true)) {
            let text = "commits wait: no replica is connected to acknowledge them; writes go on when one is back";
            return Some(text.to_owned());
        }
        let primary = self.state.primary.and_then(|id| self.observed.get(&id))?;
        let wait = self.ack_wait.as_ref()?;
        let ms = primary.heard.since(wait.since); // as far as it was heard of
        let sessions = primary.report.as_ref().and_then(|report| report.waiting).unwrap_or_default();
        (ms >= self.timing.stall_ms).then(|| {
            let (s, seconds) = (if sessions == 1 { "" } else { "s" }, ms / 1_000);
            format!(
                "commits wait: for {seconds} s no replica has acknowledged those of {sessions} session{s}, although replicas \
                 are connected; writes go on when one of them answers, or another is added"
            )
        })
    }
}
