//! When a member's copy of the data is complete: when it has applied all that the primary had when it was asked for that,
//! after the member had begun to follow it.
//!
//! What is only received is gone when the server restarts. So a member that has received everything may be elected (it
//! applies before it opens), for as long as nothing of what that start of its server had is lost; but it is no copy that another member may be
//! given up for, no donor, and nothing for clients to read.

use super::Cluster;
use super::event::EventKind;
use crate::{GtidSet, MemberId, Millis};

/// How far a member is on its way to a complete copy.
#[derive(Clone, Debug)]
pub(super) enum Joining {
    /// The primary was asked for its position.
    Asked { nonce: u64, at: Millis },
    /// This is what it had. When the member was last asked how far it is.
    Mark { position: GtidSet, asked: Option<Millis> },
}

impl Cluster {
    /// Asks for what is needed to know, and notes durably what each new member has.
    pub(super) fn reconcile_joining(&mut self, now: Millis) {
        let epoch = self.state.epoch;
        let Some(primary) = self.state.primary.filter(|_| self.is_open()) else { return };
        let new = |id: &MemberId| {
            let follows = self.observed.get(id).and_then(|o| o.following(epoch)) == Some(true);
            follows && *id != primary && self.state.members.get(id).is_some_and(|member| !member.joined)
        };
        let new: Vec<MemberId> = self.state.members.keys().copied().filter(new).collect();
        for id in new {
            self.reconcile_joining_of(now, primary, id);
        }
    }

    fn reconcile_joining_of(&mut self, now: Millis, primary: MemberId, id: MemberId) {
        let (epoch, resend) = (self.state.epoch, self.timing.resend_ms);
        let answer = self.observed.get(&primary).and_then(|o| o.report_in(epoch));
        let answer = answer.map(|report| (report.echo, report.position.clone()));
        let Some(observed) = self.observed.get_mut(&id) else { return };
        if let (Some(Joining::Asked { nonce, .. }), Some((echo, position))) = (&observed.joining, answer)
            && echo >= *nonce
        {
            observed.joining = Some(Joining::Mark { position, asked: None });
        }
        let asked = match &observed.joining {
            None => None,
            Some(Joining::Asked { at, .. }) => Some(*at),
            Some(Joining::Mark { position, asked }) => {
                let (position, asked) = (position.clone(), *asked);
                if self.note_copy(now, id, &position) {
                    return;
                }
                asked
            }
        };
        let due = asked.map_or(now, |at| at.after(resend));
        if now < due {
            return self.wake_at(due);
        }
        let is_marked = self.observed.get(&id).is_some_and(|o| matches!(o.joining, Some(Joining::Mark { .. })));
        let nonce = self.ask_for_report(if is_marked { id } else { primary });
        if let Some(observed) = self.observed.get_mut(&id) {
            match &mut observed.joining {
                Some(Joining::Mark { asked, .. }) => *asked = Some(now),
                // an answer to the first question is as good, and may be on its way for longer than the pause
                Some(Joining::Asked { at, .. }) => *at = now,
                joining @ None => *joining = Some(Joining::Asked { nonce, at: now }),
            }
        }
        self.wake_at(now.after(resend));
    }

    /// Notes what a member has of that; whether its copy is complete.
    fn note_copy(&mut self, now: Millis, id: MemberId, mark: &GtidSet) -> bool {
        let Some(observed) = self.observed.get(&id) else { return false };
        let (start, report) = (observed.start(id), observed.report.as_deref());
        let complete = report.is_some_and(|report| report.has_applied(mark));
        let received = report.is_some_and(|report| report.position.contains(mark));
        if complete {
            self.change(|state| {
                if let Some(member) = state.members.get_mut(&id) {
                    (member.joined, member.received) = (true, None);
                }
            });
            if let Some(observed) = self.observed.get_mut(&id) {
                observed.joining = None;
            }
            self.log(now, EventKind::Joined { member: id });
        } else if received && self.state.members.get(&id).is_some_and(|member| member.received != start) {
            self.change(|state| {
                if let Some(member) = state.members.get_mut(&id) {
                    member.received = start;
                }
            });
        }
        complete
    }

    /// Whether a member may be elected: it has, or once had, all that the primary had when it began to follow.
    pub(super) fn is_electable(&self, id: MemberId) -> bool {
        let Some(member) = self.state.members.get(&id) else { return false };
        let kept_since = self.observed.get(&id).and_then(|observed| observed.kept_since(id));
        let has_received = |received| kept_since.is_some_and(|kept| received >= kept);
        member.joined || member.received.is_some_and(has_received)
    }
}
