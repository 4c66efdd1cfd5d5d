//! A primary in good health whose commits do not come to their end, and that is replaced for it.
//!
//! *Lost acknowledgements.* A replica that reconnects is sent only what it does not have. When it had received the last commits and its
//! acknowledgement of them was lost with the connection, it acknowledges only the next commit, which never comes when all
//! writers wait (seen on MariaDB 10.11 and MySQL 9.7). The servers offer no harmless way out: switching semi-sync off would
//! answer the sessions, and a commit of our own waits behind them. So the primary is replaced by one that has it all.
//!
//! *No room.* A server whose binary log finds no room waits, for up to a minute longer than there is none, and all commits
//! with it. It cannot step down: its sessions must not be broken off. A replica with room takes its place.
//!
//! *A binary log that nobody can read.* When such a session is broken off all the same (its user can say `KILL`), MariaDB
//! leaves a part of an event in its binary log and goes on behind it. No replica ever reads beyond. What was never
//! acknowledged is all that one of them lacks, so one of them takes its place. The former primary rolled back what it could
//! not write, of which replicas may have received some: it is replaced by a fresh copy.

use super::Cluster;
use super::observed::Observed;
use crate::protocol::{LogPlace, Trouble};
use crate::{Durability, Epoch, GtidSet, MemberId, Millis};
use std::collections::BTreeSet;

/// A primary whose sessions wait although enough replicas have all that it has.
#[derive(Debug)]
pub(super) struct Stall {
    position: GtidSet,
    since: Millis,
}

/// What a replica has received in one epoch, and since when it has not received more.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    epoch: Epoch,
    position: GtidSet,
    /// The furthest place: one that fails to go on reads from an earlier one again and again.
    read_to: Option<LogPlace>,
    since: Millis,
    /// When it was last known to be connected.
    connected: Option<Millis>,
}

/// A primary whose commits wait while no replica receives anything, and what its reports and theirs must echo to confirm it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    since: Millis,
    nonce: u64,
    asked: Millis,
}

/// Why a primary is replaced whose commits do not come to their end.
#[derive(Debug)]
pub(super) struct Stalled {
    pub(super) reason: String,
    /// Whether replicas were connected and could not read what they were sent.
    pub(super) damaged: bool,
    /// Who can take its place.
    pub(super) successor: Option<MemberId>,
}

impl Cluster {
    /// Takes note of what a replica has received.
    pub(super) fn observe_reading(&mut self, now: Millis, id: MemberId) {
        let epoch = self.state.epoch;
        let Some(observed) = self.observed.get_mut(&id) else { return };
        let Some(is_connected) = observed.following(epoch) else { return };
        let known = observed.reading.take().filter(|known| known.epoch == epoch);
        let Some(report) = observed.report_in(epoch) else { return };
        let connected = is_connected.then_some(now);
        observed.reading = Some(match known {
            Some(known) if known.position == report.position && report.read_to <= known.read_to => {
                Box::new(Reading { connected: connected.or(known.connected), ..*known })
            }
            known => {
                let (position, read_to) = (report.position.clone(), report.read_to.max(known.and_then(|k| k.read_to)));
                Box::new(Reading { epoch, position, read_to, since: now, connected })
            }
        });
    }

    /// Replicas that can take the place of an open primary, and answer; together they suffice to decide an election without
    /// it. Gives them, and since when none of all replicas has received anything.
    fn able_to_take_over(&self, now: Millis, primary: MemberId) -> Option<(BTreeSet<MemberId>, Millis)> {
        let (epoch, silence, acks) = (self.state.epoch, self.timing.silence_ms, self.state.spec.durability.acks());
        let sent = self.observed.get(&primary).and_then(|o| o.report_in(epoch)).map(|report| &report.position);
        // Without acknowledgements nothing but this says that a replica lacks nothing that was answered.
        let has_all = |observed: &Observed| {
            let report = observed.report_in(epoch).filter(|_| observed.following(epoch) == Some(true));
            acks > 0 || report.zip(sent).is_some_and(|(report, sent)| report.position.contains(sent))
        };
        let mut able = BTreeSet::new();
        let mut since = Millis(0);
        for (id, observed) in self.observed.iter().filter(|(id, _)| **id != primary) {
            let Some(reading) = observed.reading.as_ref().filter(|reading| reading.epoch == epoch) else { continue };
            since = since.max(reading.since);
            let stays = self.state.members.get(id).is_some_and(|m| m.leaving.is_none() && !m.resting && !m.damaged);
            let fine = matches!(observed.trouble(), None | Some(Trouble::Failing { .. }));
            let heard = observed.silent_ms(now) < silence && observed.unreachable_since.is_none();
            let follows = observed.following(epoch).is_some();
            if stays
                && fine
                && heard
                && follows
                && has_all(observed)
                && self.is_electable(*id)
                && !self.is_ruled_out(*id)
            {
                able.insert(*id);
            }
        }
        let others = self.state.ackers.iter().filter(|acker| !able.contains(&acker.member)).count();
        let decides = acks == 0 || others < acks as usize;
        (decides && !able.is_empty()).then_some((able, since))
    }

    /// Why a primary must be replaced whose commits wait for room on its disk.
    pub(super) fn why_out_of_room(&mut self, now: Millis, primary: MemberId) -> Option<Stalled> {
        let missed_since = self.room_missed_since.filter(|_| self.is_open())?;
        // Each of those that can take its place must have received all that it could send.
        let (able, received) = self.able_to_take_over(now, primary)?;
        let due = missed_since.max(received).after(self.timing.stall_ms);
        if now < due {
            self.wake_at(due);
            return None;
        }
        let heard = self.observed.get(&primary).is_some_and(|o| o.heard >= due);
        if !heard || self.pauses_stalls(now) {
            return None; // its next report tells whether they wait still
        }
        self.begin_stall_pause(now);
        let reason = "its commits wait for room on its disk".to_owned();
        Some(Stalled { reason, damaged: false, successor: able.first().copied() })
    }

    /// Why a primary must be replaced whose commits wait although replicas are there: they receive nothing from it.
    pub(super) fn why_unread(&mut self, now: Millis, primary: MemberId) -> Option<Stalled> {
        let waits_since = self.waits_since.filter(|_| self.is_open());
        let able = waits_since.and_then(|waits| Some((waits, self.able_to_take_over(now, primary)?)));
        let Some((waits_since, (able, received))) = able else {
            self.unread = None;
            return None;
        };
        let since = waits_since.max(received);
        let due = since.after(self.timing.unread_ms);
        if now < due {
            self.unread = None;
            self.wake_at(due);
            return None;
        }
        if self.pauses_stalls(now) {
            return None;
        }
        // Servers that stand still say nothing, and their executors go on to tell what they knew.
        let asked = self.unread.filter(|unread| unread.since == since);
        let due = asked.map_or(now, |unread| unread.asked.after(self.timing.resend_ms));
        let confirmed = asked.is_some_and(|unread| {
            let answers = |id: &MemberId| self.observed.get(id).and_then(|o| o.report.as_ref()).map(|r| r.echo);
            able.iter().chain([&primary]).all(|id| answers(id).is_some_and(|echo| echo >= unread.nonce))
        });
        if !confirmed {
            if now >= due {
                let nonces: Vec<u64> = able.iter().chain([&primary]).map(|id| self.ask_for_report(*id)).collect();
                // The first question's answers are as good.
                let nonce = asked.map(|unread| unread.nonce).or_else(|| nonces.into_iter().min()).unwrap_or_default();
                self.unread = Some(Unread { since, nonce, asked: now });
            }
            self.wake_at(due.max(now.after(self.timing.resend_ms)));
            return None;
        }
        self.unread = None;
        self.begin_stall_pause(now);
        // A connection that is cut is noticed long before.
        let late = since.after(self.timing.unread_ms / 2);
        let connected =
            |id: &MemberId| self.observed.get(id).and_then(|o| o.reading.as_ref()).and_then(|r| r.connected);
        let damaged = able.iter().filter_map(connected).any(|at| at >= late);
        let seconds = now.since(since) / 1_000;
        let cause = if damaged { "no replica can read its binary log" } else { "no replica can reach it" };
        let reason = format!("its commits wait, and for {seconds} s {cause}");
        Some(Stalled { reason, damaged, successor: able.first().copied() })
    }

    /// Whether a primary was replaced for such a reason a moment ago.
    fn pauses_stalls(&mut self, now: Millis) -> bool {
        let until = self.stall_pause_until;
        if now < until {
            self.wake_at(until);
        }
        now < until
    }

    fn begin_stall_pause(&mut self, now: Millis) {
        self.stall_pause_until = now.after(self.timing.stall_pause_ms);
    }

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
        if self.pauses_stalls(now) {
            return None;
        }
        self.stall = None;
        self.begin_stall_pause(now);
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
