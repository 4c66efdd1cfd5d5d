//! What is known of one member at the moment; forgotten with the process.

use super::applying::{Applying, ToldApplying};
use super::errant::Errant;
use super::event::EventKind;
use super::joining::Joining;
use super::stall::Reading;
use super::state::Acker;
use crate::protocol::{MemberRole, Report, Stage, Trouble};
use crate::{Epoch, MemberId, Millis};

/// Facts about one member.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) report: Option<Box<Report>>,
    /// When the latest report arrived; before the first, when the member came to be known.
    pub(super) heard: Millis,
    pub(super) running: bool,
    /// Whether its present task was seen to run a healthy, complete copy.
    pub(super) proven: bool,
    /// Its present task is older than this run of the scheduler.
    pub(super) is_from_record: bool,
    pub(super) unreachable_since: Option<Millis>,
    pub(super) leaving_since: Option<Millis>,
    /// Since when it is to leave, although it may have to stay for now.
    pub(super) to_leave_since: Option<Millis>,
    /// What the primary was asked after that, and when: once it has echoed this, it was there after the decision.
    pub(super) asked_primary: Option<(u64, Millis)>,
    pub(super) killed_at: Option<Millis>,
    /// The last directive sent, and when.
    pub(super) sent: Option<((Epoch, Stage), Millis)>,
    /// How far it is on its way to a complete copy.
    pub(super) joining: Option<Joining>,
    /// What it has beyond the primary.
    pub(super) errant: Option<Box<Errant>>,
    pub(super) told: Told,
    /// How far it is with applying what it has received.
    pub(super) applying: Option<Box<Applying>>,
    /// How it goes on with receiving from the primary.
    pub(super) reading: Option<Box<Reading>>,
    /// Since when its task is missed; until it has reported again.
    pub(super) missed_since: Option<Millis>,
    /// When something was last sent that renews the lease of an asynchronous primary.
    pub(super) lease_renewed: Option<Millis>,
}

/// What people were told of it and not yet that it is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// That it is not heard of.
    pub(super) silent: bool,
    /// That it is far behind.
    pub(super) lag: bool,
    /// That it applies what it has received before it opens.
    pub(super) applying: Option<ToldApplying>,
}

/// What a report changed.
#[derive(Debug)]
pub(super) struct News {
    before: Option<Box<Report>>,
    after: Box<Report>,
}

impl Observed {
    pub(super) const fn new(now: Millis) -> Self {
        Self {
            report: None,
            heard: now,
            running: false,
            proven: false,
            is_from_record: false,
            unreachable_since: None,
            leaving_since: None,
            to_leave_since: None,
            asked_primary: None,
            killed_at: None,
            sent: None,
            joining: None,
            errant: None,
            told: Told { silent: false, lag: false, applying: None },
            applying: None,
            reading: None,
            missed_since: None,
            lease_renewed: None,
        }
    }

    /// Takes a report, unless a later one is known.
    pub(super) fn take(&mut self, now: Millis, report: Box<Report>) -> Option<News> {
        let newer = |known: &Report| (known.incarnation, known.seq) < (report.incarnation, report.seq);
        if !self.report.as_deref().is_none_or(newer) {
            return None;
        }
        self.heard = now;
        self.unreachable_since = None;
        self.missed_since = self.missed_since.filter(|_| !report.role.is_up());
        // What was asked about another primary, or another start, says nothing of this one, also when no report between the
        // two has arrived.
        let follows = |report: &Report| {
            let follows = matches!(report.role, MemberRole::Following { .. });
            follows.then_some((report.epoch, report.incarnation, report.boot))
        };
        if follows(&report).is_none() || self.report.as_deref().and_then(follows) != follows(&report) {
            self.joining = None;
            self.reading = None;
            self.errant = None;
        }
        Some(News { after: report.clone(), before: self.report.replace(report) })
    }

    pub(super) fn silent_ms(&self, now: Millis) -> u64 {
        now.since(self.heard)
    }

    pub(super) fn start(&self, member: MemberId) -> Option<Acker> {
        self.report.as_ref().map(|r| Acker { member, incarnation: r.incarnation, boot: r.boot })
    }

    /// The oldest start of its server of which nothing is lost that it had.
    pub(super) fn kept_since(&self, member: MemberId) -> Option<Acker> {
        let kept = self.report.as_ref().and_then(|r| r.kept_since);
        let kept = kept.map(|start| Acker { member, incarnation: start.incarnation, boot: start.boot });
        kept.or_else(|| self.start(member))
    }

    /// Its report, if it was made under this epoch.
    pub(super) fn report_in(&self, epoch: Epoch) -> Option<&Report> {
        self.report.as_deref().filter(|r| r.epoch == epoch)
    }

    /// Whether it follows in `epoch`, and if so, whether it is connected.
    pub(super) fn following(&self, epoch: Epoch) -> Option<bool> {
        match self.report_in(epoch)?.role {
            MemberRole::Following { connected } => Some(connected),
            MemberRole::Starting
            | MemberRole::Down { .. }
            | MemberRole::Idle
            | MemberRole::Frozen
            | MemberRole::Promoting
            | MemberRole::Primary
            | MemberRole::SteppedDown => None,
        }
    }

    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.report.as_ref().and_then(|r| r.trouble.as_ref())
    }
}

impl News {
    /// What people should know of it.
    pub(super) fn into_events(self, member: MemberId) -> Vec<EventKind> {
        let Self { before, after } = self;
        let mut events = Vec::new();
        let role_before = before.as_ref().map(|r| (r.epoch, &r.role));
        if role_before != Some((after.epoch, &after.role)) {
            match &after.role {
                MemberRole::Down { reason } => events.push(EventKind::ServerDown { member, reason: reason.clone() }),
                MemberRole::Frozen => events.push(EventKind::Frozen { member }),
                // One that fails again and again connects as often.
                MemberRole::Following { connected: true } if after.trouble.is_none() => {
                    events.push(EventKind::Following { member });
                }
                MemberRole::Starting
                | MemberRole::Idle
                | MemberRole::Promoting
                | MemberRole::Primary
                | MemberRole::SteppedDown
                | MemberRole::Following { .. } => {}
            }
        }
        if let Some(trouble) = &after.trouble
            && before.as_ref().and_then(|r| r.trouble.as_ref()) != Some(trouble)
        {
            events.push(EventKind::Trouble { member, detail: trouble.to_string() });
        }
        events
    }
}
