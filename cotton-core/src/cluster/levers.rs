//! What a person can decide of a cluster that decides everything else by itself. Each is an event of its log.

use super::Cluster;
use super::event::EventKind;
use super::state::Leaving;
use super::view::ReasonCode;
use crate::election::PromotionRule;
use crate::{MemberId, Millis};
use std::collections::BTreeSet;

/// A decision of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lever {
    /// Nothing is decided for the cluster until it is resumed.
    Pause,
    /// Decisions are made again; a failover that is needed begins at once.
    Resume,
    /// A replica is replaced by a fresh copy.
    Rebuild(MemberId),
    /// A member is preferred as primary, or not to be primary.
    Rule(MemberId, PromotionRule),
    /// An election that waits is decided.
    Elect {
        /// Who becomes primary.
        to: MemberId,
        /// What may be lost by that. If more may be lost, it is told, and nothing is done.
        accepted: AcceptedLoss,
    },
    /// The volumes that are kept of members that are gone are released.
    ReleaseKept {
        /// Whose may be lost. If there are others, it is told, and nothing is done.
        accepted: AcceptedLoss,
    },
}

/// What loss a person accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptedLoss {
    /// None: it is to be told what may be lost.
    #[default]
    None,
    /// Whatever may be lost.
    Any,
    /// What was told by [`LeverError::LossNotAccepted`] or [`LeverError::ReleaseNotAccepted`], as that error's text. It may
    /// have changed since.
    Told(String),
}

impl AcceptedLoss {
    /// Checks that what `refusal` tells of is accepted.
    ///
    /// # Errors
    /// Gives `refusal` back if it is not. Of what was told, it does not matter how long ago things were.
    pub fn covers(&self, refusal: LeverError) -> Result<(), LeverError> {
        let covers = match self {
            Self::None => false,
            Self::Any => true,
            Self::Told(told) => without_ages(told) == without_ages(&refusal.to_string()),
        };
        if covers { Ok(()) } else { Err(refusal) }
    }
}

/// The same text without how many seconds ago something was: those change while a person reads it.
fn without_ages(text: &str) -> String {
    let mut parts = text.split(" s ago");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.truncate(kept.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        kept.push_str(part);
    }
    kept
}

/// Why a person's decision was refused; nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeverError {
    /// No such member.
    #[error("there is no member {0}: see the cluster's members")]
    NoMember(MemberId),
    /// The cluster is paused.
    #[error("the cluster is paused: resume it first")]
    Paused,
    /// Something is under way that must come to its end.
    #[error("{0} is under way: try again when it is over")]
    UnderWay(&'static str),
    /// A member cannot be replaced now.
    #[error("member {member} cannot be rebuilt: {why}")]
    CannotRebuild {
        /// Which member.
        member: MemberId,
        /// What keeps it from that, and what to do.
        why: String,
    },
    /// The cluster does not need a person to choose its primary.
    #[error("no election waits: {0}")]
    NoElection(String),
    /// That member cannot become primary.
    #[error("member {member} cannot be elected: {why}")]
    CannotElect {
        /// Which member.
        member: MemberId,
        /// What keeps it from that.
        why: String,
    },
    /// What would be lost was not accepted.
    #[error("electing member {member} may lose: {loss}; it is done only if that is accepted (--accept-loss)")]
    LossNotAccepted {
        /// Which member.
        member: MemberId,
        /// What may be lost.
        loss: String,
    },
    /// The volumes that are kept cannot be released now.
    #[error("{0}")]
    CannotRelease(&'static str),
    /// That what only those volumes have is lost was not accepted.
    #[error(
        "the volumes of {} would be destroyed, with all transactions that only they have; nothing was released",
        members(.0)
    )]
    ReleaseNotAccepted(Vec<MemberId>),
}

/// Members in words.
pub(super) fn members(ids: &[MemberId]) -> String {
    let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("{} {}", if list.len() == 1 { "member" } else { "members" }, list.join(", "))
}

impl Cluster {
    /// Does what a person has decided. Asking again changes nothing.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn pull(&mut self, now: Millis, lever: Lever) -> Result<(), LeverError> {
        match lever {
            Lever::Pause => self.pause(now),
            Lever::Resume => {
                self.end_pause(now);
                Ok(())
            }
            Lever::Rebuild(member) => self.rebuild(now, member),
            Lever::Rule(member, rule) => self.set_rule(now, member, rule),
            Lever::Elect { to, accepted } => self.force(now, to, &accepted),
            Lever::ReleaseKept { accepted } => self.release_all_kept(now, &accepted),
        }
    }

    /// Replaces a replica, as one with errant transactions is replaced: another member takes a fresh copy, and it leaves, at
    /// once if another replica goes on to acknowledge commits, otherwise when the copy is complete.
    fn rebuild(&mut self, now: Millis, id: MemberId) -> Result<(), LeverError> {
        if self.state.paused {
            return Err(LeverError::Paused);
        }
        let member = self.state.members.get(&id).ok_or(LeverError::NoMember(id))?;
        if member.leaving == Some(Leaving::Rebuild) {
            return Ok(());
        }
        if let Some(why) = self.why_not_rebuilt(now, id) {
            return Err(LeverError::CannotRebuild { member: id, why });
        }
        self.log(now, EventKind::RebuildAsked { member: id });
        self.leave(now, &BTreeSet::from([id]), Leaving::Rebuild);
        self.reconcile(now);
        Ok(())
    }

    /// Why a replica cannot be replaced: a complete copy only beside others.
    fn why_not_rebuilt(&self, now: Millis, id: MemberId) -> Option<String> {
        let state = &self.state;
        if let Some(leaving) = state.members.get(&id).and_then(|member| member.leaving) {
            return Some(format!("it is being replaced already, since {}", leaving.reason()));
        }
        if state.primary == Some(id) {
            return Some("it is the primary: switch over to another member first".to_owned());
        }
        if state.outdated {
            return Some("the stored record is older than the cluster, and who has what is not known yet".to_owned());
        }
        if state.switchover.is_some() {
            return Some("a switchover is under way: wait for its end".to_owned());
        }
        if !self.is_open_for_sure(now) {
            return Some("no primary is open for writes from which a copy could be made".to_owned());
        }
        let others = || state.members.iter().filter(|(other, _)| **other != id);
        if let Some((other, _)) =
            others().find(|(other, member)| member.leaving.is_some() && !self.is_away(now, **other, member))
        {
            return Some(format!("member {other} is being replaced: wait for its end"));
        }
        if state.staying().count() < state.spec.size as usize {
            return Some("another member is missing: wait until it is there".to_owned());
        }
        // What fails itself can be replaced: it stays as long as its data may be needed, see `is_needed`.
        let mut staying = state.staying().map(|(other, _)| other).filter(|other| *other != id);
        if self.is_complete_now(now, id)
            && let Some(other) = staying.find(|other| !self.is_complete_now(now, *other))
        {
            return Some(format!(
                "member {other} is no complete copy now, and what is here may be needed: mend or rebuild that one first"
            ));
        }
        None
    }

    /// Says what each decision would do now.
    pub(super) fn explain_levers(&self, now: Millis, tell: &mut impl FnMut(String, Result<String, String>, &str)) {
        let name = self.name();
        let refused = |error: LeverError| error.to_string();
        let cools_down = self.cools_down(now).is_some();
        if self.state.paused || self.held.is_some() || cools_down {
            let held = self.held.is_some() || cools_down;
            let also = if held { ", and the failover that is needed begins at once" } else { "" };
            let may_lose = held && self.state.spec.durability.acks() == 0;
            let loses = if may_lose { "what nobody had received when the primary was lost" } else { "nothing" };
            tell(format!("cotton resume {name}"), Ok(format!("decisions are made again{also}")), loses);
        }
        if !self.state.paused {
            let pause = match self.is_under_way(now) {
                Some(what) => Err(refused(LeverError::UnderWay(what))),
                None => Ok("nothing is decided until it is resumed: no failover, launch or replacement".to_owned()),
            };
            tell(format!("cotton pause {name}"), pause, "nothing; a primary that is lost meanwhile is not replaced");
        }
        for id in self.state.members.keys().filter(|id| self.state.primary != Some(**id)) {
            let rebuild = match self.why_not_rebuilt(now, *id) {
                _ if self.state.paused => Err(refused(LeverError::Paused)),
                Some(why) => Err(refused(LeverError::CannotRebuild { member: *id, why })),
                None => {
                    Ok("another member takes its place, with a fresh copy; its volume is kept, unless two others are"
                        .to_owned())
                }
            };
            tell(format!("cotton rebuild {name} {id}"), rebuild, "nothing");
            let command = format!("cotton elect {name} --to {id} --accept-loss");
            match self.loss_if_elected(now, *id) {
                Ok(loss) => tell(command, Ok("it becomes primary, whatever others have".to_owned()), &loss),
                Err(error) => tell(command, Err(refused(error)), "nothing"),
            }
        }
        self.explain_kept(now, tell);
        self.explain_when_it_matters(now, tell);
    }

    /// Commands that are always there, where they help.
    fn explain_when_it_matters(&self, now: Millis, tell: &mut impl FnMut(String, Result<String, String>, &str)) {
        let (name, spec) = (self.name(), &self.state.spec);
        let ruled = self.state.members.iter().filter(|(_, member)| !member.rule.is_neutral());
        for (id, member) in ruled {
            let text = format!("member {id} counts as any other; now its promotion rule is '{}'", member.rule.name());
            tell(format!("cotton rule {name} {id} neutral"), Ok(text), "nothing");
        }
        let unless_paused =
            |text: String| if self.state.paused { Err(LeverError::Paused.to_string()) } else { Ok(text) };
        if self.why_blocked().is_some() {
            let text = "another replica takes a copy, and acknowledges commits then".to_owned();
            tell(format!("cotton scale {name} {}", spec.size + 1), unless_paused(text), "nothing");
        }
        let placed = u32::try_from(self.state.staying().count()).unwrap_or(u32::MAX);
        let least = if spec.durability.acks() > 0 { 2 } else { 1 };
        if self.state.opened && (least..spec.size).contains(&placed) {
            let text = "no other member is waited for".to_owned();
            tell(format!("cotton scale {name} {placed}"), unless_paused(text), "nothing; there are fewer copies");
        }
        if self.election_waits(now).is_some() || !self.state.opened {
            let loses = if self.state.opened { "everything" } else { "nothing: there is no data yet" };
            tell(
                format!("cotton delete {name}"),
                unless_paused("the cluster ends, with all its data".to_owned()),
                loses,
            );
        }
    }

    fn explain_kept(&self, now: Millis, tell: &mut impl FnMut(String, Result<String, String>, &str)) {
        if self.state.kept.is_empty() {
            return;
        }
        let kept: Vec<MemberId> = self.state.kept.iter().copied().collect();
        let whose = members(&kept);
        let done = match self.why_not_released(now) {
            Some(why) => Err(why.to_string()),
            None => Ok(format!("the volumes are released that are kept of {whose}, which left the cluster")),
        };
        tell(format!("cotton prune {}", self.name()), done, "the transactions that only those volumes have, if any");
    }

    /// Says what people have decided, as far as it keeps the cluster from doing things by itself.
    pub(super) fn tell_levers(&self, tell: &mut impl FnMut(ReasonCode, String)) {
        if self.state.paused {
            tell(
                ReasonCode::Paused,
                format!("nothing is decided while the cluster is paused: cotton resume {}", self.name()),
            );
        }
        if let Some(held) = &self.held {
            let text = format!("a failover is needed and held back: primary {}: {}", held.primary, held.reason);
            tell(ReasonCode::FailoverHeld, text);
        }
    }
}
