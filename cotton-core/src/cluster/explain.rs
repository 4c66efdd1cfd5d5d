//! Explaining a cluster to a person who has to decide: who would be promoted, why not the others, what is waited for, and
//! what each command would do and lose now. Pure, and decided by the very election that would be held.

use super::Cluster;
use super::view::{ApplyingView, ClusterStatus, ClusterView, Reason, ReasonCode};
use crate::codes::codes;
use crate::election::{self, Ballot, MemberList, Merit, Undecided, WhyNot};
use crate::protocol::{MemberRole, Trouble};
use crate::{ClusterName, Durability, Epoch, MemberId, Millis, Preference, words};
use serde::Serialize;

/// What a person wants to know of a cluster before deciding anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its name.
    pub name: ClusterName,
    /// In one word.
    pub status: ClusterStatus,
    /// Current epoch.
    pub epoch: Epoch,
    /// The primary that is open for writes.
    pub primary: Option<MemberId>,
    /// Who would take the place of the primary.
    pub succession: Succession,
    /// All members, by number.
    pub members: Vec<MemberExplanation>,
    /// What is waited for.
    pub waits: Vec<Wait>,
    /// What a person can do.
    pub levers: Vec<LeverView>,
}

/// Who would be promoted if the primary were lost now with its data; without a primary, who is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Succession {
    /// Whether an election is under way; otherwise this is what would come of one.
    pub under_way: bool,
    /// Who is or would be promoted.
    pub winner: Option<MemberId>,
    /// For programs: `decided`, or why it would not be decided.
    pub code: &'static str,
    /// For people.
    pub text: String,
    /// What the winner would have to apply before it opens.
    pub applying: Option<ApplyingView>,
    /// What would be lost.
    pub loses: String,
}

/// One member, in the light of an election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberExplanation {
    /// Its number.
    pub id: MemberId,
    /// As in [`MemberView::role`](super::view::MemberView::role).
    pub role: &'static str,
    /// Whether it is, or would be, promoted.
    pub wins: bool,
    /// Everything that speaks against it.
    pub why_not: Vec<Against>,
}

/// Something that speaks against a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Against {
    /// For programs.
    pub code: NotPromoted,
    /// For people.
    pub text: String,
}

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// As in [`Reason::code`]; of an election that waits, why it does.
    pub code: &'static str,
    /// Which member is waited for, if it is one.
    pub member: Option<MemberId>,
    /// For people.
    pub text: String,
    /// For how long it has been waited for, in milliseconds, where that is known.
    pub since_ms: Option<u64>,
    /// How much longer at most, in milliseconds; `None` where there is no limit.
    pub until_ms: Option<u64>,
}

/// A command that a person can give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeverView {
    /// As it is typed.
    pub command: String,
    /// Whether it would be obeyed now.
    pub possible: bool,
    /// What it would do, or why it would be refused.
    pub text: String,
    /// What it would lose.
    pub loses: String,
}

codes! {
    /// Why a member is not the one that would be promoted.
    NotPromoted {
        /// Nobody is yet.
        FirstStart = "first_start",
        /// It is the primary.
        IsPrimary = "is_primary",
        /// It was never heard of, or not since the scheduler was started.
        NeverHeard = "never_heard",
        /// Its agent cannot be reached.
        Unreachable = "unreachable",
        /// It is not heard of.
        Silent = "silent",
        /// Its task has ended, and its data waits for another.
        Resting = "resting",
        /// Its server is down.
        Down = "down",
        /// Its server is being set up.
        Starting = "starting",
        /// It has not stopped receiving yet.
        NotFrozen = "not_frozen",
        /// Nobody can be promoted before it has answered.
        IsAwaited = "is_awaited",
        /// Nobody can be promoted.
        Undecided = "undecided",
        /// It is no complete copy.
        NotJoined = "not_joined",
        /// It lacks transactions.
        Lacks = "lacks_transactions",
        /// It has transactions that nobody acknowledged, and lacks others.
        Diverged = "diverged",
        /// It was primary, and its binary log could not be read to its end.
        Damaged = "damaged",
        /// It is on its way out.
        Leaving = "leaving",
        /// Its storage fails.
        Storage = "storage",
        /// Its agent is about to go.
        AgentGoes = "agent_goes",
        /// It cannot apply what it has received.
        Stuck = "stuck",
        /// It wrote transactions of its own.
        Errant = "errant",
        /// Another one shall win.
        NotPreferred = "not_preferred",
        /// A person wants it not to be primary, or another one to be.
        PromotionRule = "promotion_rule",
        /// It has more to apply.
        MoreToApply = "more_to_apply",
        /// It is as good, and has a higher number.
        HigherNumber = "higher_number",
    }
}

/// What an election comes to with what is known now.
struct Outcome {
    ballots: Vec<Ballot>,
    verdict: Result<MemberId, Undecided>,
    /// Who is promoted at the deadline although that is not sure to be right, as the cluster prefers.
    forced: Option<MemberId>,
}

impl Outcome {
    fn winner(&self) -> Option<MemberId> {
        self.verdict.as_ref().ok().copied().or(self.forced)
    }

    fn ballot(&self, member: MemberId) -> Option<&Ballot> {
        self.ballots.iter().find(|ballot| ballot.member == member)
    }
}

impl Cluster {
    /// Explains the cluster as it is now. Changes nothing.
    pub fn explain(&self, now: Millis) -> Explanation {
        self.explain_view(now, self.view(now))
    }

    /// The same, with all that keeps it from being healthy.
    pub(crate) fn explain_view(&self, now: Millis, view: ClusterView) -> Explanation {
        let outcome = self.outcome(now);
        let winner = outcome.winner().filter(|_| self.state.opened);
        let members = view.members.iter().map(|member| {
            let wins = winner == Some(member.id);
            let why_not = if wins { Vec::new() } else { self.why_not_promoted(now, member.id, &outcome) };
            MemberExplanation { id: member.id, role: member.role, wins, why_not }
        });
        Explanation {
            members: members.collect(),
            succession: self.succession(now, &outcome),
            waits: view.reasons.iter().map(|reason| self.wait_of(now, reason)).collect(),
            levers: self.lever_views(now),
            name: view.name,
            status: view.status,
            epoch: view.epoch,
            primary: view.primary,
        }
    }

    /// The election that is under way; while there is a primary, the one that would be held if that were lost: all who can
    /// be heard would be frozen with what they have.
    fn outcome(&self, now: Millis) -> Outcome {
        if let Some(election) = &self.election {
            let ballots = self.ballots(now);
            let verdict = if self.state.outdated {
                self.outdated_verdict(now).map(|(member, _)| member)
            } else if self.awaits_end(now) {
                Err(Undecided::MayWrite(self.state.last_primary.unwrap_or_default()))
            } else if let Some(held) = election.waiting.clone().filter(|_| self.cools_down(now).is_some()) {
                return Outcome { ballots, verdict: Err(held), forced: None };
            } else {
                self.elect_sound(now, &ballots, &self.rules(now >= election.deadline))
            };
            let is_forced = self.is_forced() && !self.awaits_end(now);
            let forced = self.elect_sound(now, &ballots, &self.rules(true)).ok().filter(|_| is_forced);
            return Outcome { ballots, verdict, forced };
        }
        let ballots = self.ballots_of(now, |id, observed| {
            let stays = self.state.primary != Some(id);
            observed.report.as_deref().filter(|report| stays && report.role.is_up())
        });
        if let Some(held) = self.why_held(now) {
            return Outcome { ballots, verdict: Err(held), forced: None };
        }
        let verdict = match (self.state.outdated, self.has_unknown) {
            (true, true) => Err(Undecided::Unknown),
            (true, false) => Err(Undecided::Outdated(MemberList(self.state.primary.into_iter().collect()))),
            (false, _) => self.elect_sound(now, &ballots, &self.rules(false)),
        };
        let forced = self.elect_sound(now, &ballots, &self.rules(true)).ok().filter(|_| self.is_forced());
        Outcome { ballots, verdict, forced }
    }

    /// Whether the election waits for the end of a primary that opened without a lease, however long that takes.
    fn awaits_end(&self, now: Millis) -> bool {
        let lease_until = self.election.as_deref().and_then(|election| election.lease_until);
        self.awaited_lease(now, lease_until) == Some(Millis(u64::MAX))
    }

    /// Whether an election decides at its deadline whatever it has.
    fn is_forced(&self) -> bool {
        self.state.spec.preference == Preference::Availability && !self.state.outdated
    }

    fn succession(&self, now: Millis, outcome: &Outcome) -> Succession {
        let winner = outcome.winner().filter(|_| self.state.opened);
        let applying = winner.and_then(|id| self.applying(now, id));
        let under_way = self.election.is_some() && self.state.opened;
        let mut this = Succession {
            under_way,
            winner,
            code: "first_start",
            text: "no primary was open yet: the first member to run becomes primary".to_owned(),
            applying,
            loses: "nothing: there is no data yet".to_owned(),
        };
        if !self.state.opened {
            return this;
        }
        let lost = self.state.primary.or(self.state.last_primary);
        let case = match lost {
            Some(lost) if !under_way => format!("if primary {lost} were lost now with its data, "),
            _ => String::new(),
        };
        (this.code, this.text, this.loses) = match &outcome.verdict {
            Ok(winner) => {
                let would = if under_way { "is about to" } else { "would" };
                let first =
                    applying.map_or_else(String::new, |applying| format!("; it has {applying} before it opens"));
                let text =
                    format!("{case}member {winner} {would} be promoted{}{first}", self.lease_words(now, under_way));
                ("decided", text, self.would_lose(lost, outcome.ballot(*winner)))
            }
            Err(undecided) => {
                let waits = if under_way { "the election waits" } else { "the election would wait" };
                let seconds = self.timing.election_ms / 1_000;
                let after = outcome.forced.map(|winner| {
                    format!("; {seconds} s after its begin, member {winner} is promoted all the same (availability is preferred)")
                });
                let loses = match outcome.forced {
                    Some(_) => "acknowledged commits that only members have who do not answer".to_owned(),
                    None => "nothing, as long as it waits".to_owned(),
                };
                (undecided.code().name(), format!("{case}{waits}: {undecided}{}", after.unwrap_or_default()), loses)
            }
        };
        this
    }

    /// How long an election may be held up because the old primary may still take writes.
    fn lease_words(&self, now: Millis, under_way: bool) -> String {
        if let Some(election) = self.election.as_deref().filter(|_| under_way) {
            let left = self.awaited_lease(now, election.lease_until).map(|until| until.since(now).div_ceil(1_000));
            let words = |seconds| format!(" in {seconds} s, when the lease of the old primary has run out");
            return left.map_or_else(String::new, words);
        }
        if self.state.spec.durability != Durability::Async {
            return String::new();
        }
        if !self.state.leased {
            return ", but only once its end is seen: it opened without a lease".to_owned();
        }
        let seconds = (self.timing.lease_ms + self.timing.desertion_ms) / 1_000;
        format!(" (up to {seconds} s later if nobody sees its end, when its lease has run out)")
    }

    /// What is lost with a primary when this one takes its place.
    fn would_lose(&self, lost: Option<MemberId>, winner: Option<&Ballot>) -> String {
        if self.state.spec.durability == Durability::SemiSync {
            return "no acknowledged commit".to_owned();
        }
        let report = lost.and_then(|id| self.observed.get(&id)).and_then(|observed| observed.report.as_ref());
        let (Some(lost), Some(report), Some(winner)) = (lost, report, winner) else {
            return "what nobody had received when the primary was lost".to_owned();
        };
        match report.position.count_beyond(&winner.position) {
            0 => format!("what member {lost} has committed since it was last heard of, and nobody has received"),
            count => {
                let count = words::transactions(count);
                format!("{count} of member {lost} that member {} has not received", winner.member)
            }
        }
    }

    /// All that speaks against a member.
    fn why_not_promoted(&self, now: Millis, id: MemberId, outcome: &Outcome) -> Vec<Against> {
        let mut why = Vec::new();
        let mut tell = |code, text| why.push(Against { code, text });
        if !self.state.opened {
            tell(
                NotPromoted::FirstStart,
                "no primary was open yet: the first member to run becomes primary".to_owned(),
            );
            return why;
        }
        let Some(ballot) = outcome.ballot(id) else {
            let (code, text) = self.why_no_ballot(now, id);
            tell(code, text);
            if let Err(
                Undecided::NoQuorum { waiting_for: missing, .. }
                | Undecided::BelowFloor { waiting_for: missing, .. }
                | Undecided::Outdated(missing),
            ) = &outcome.verdict
                && missing.0.contains(&id)
            {
                let text = "without it nobody can be sure to have every acknowledged commit".to_owned();
                tell(NotPromoted::IsAwaited, text);
            }
            return why;
        };
        if let Some(winner) = outcome.winner().and_then(|winner| outcome.ballot(winner)) {
            for reason in election::why_not(ballot, winner) {
                let (code, text) = self.why_less(id, ballot, winner, &reason);
                tell(code, text);
            }
        }
        if let Err(undecided) = &outcome.verdict {
            tell(NotPromoted::Undecided, undecided.to_string());
        }
        if self.is_damaged(id) && !why.iter().any(|against| against.code == NotPromoted::Damaged) {
            let (code, text) = why_not_damaged();
            why.push(Against { code, text });
        }
        why
    }

    /// Why a member takes no part in the election.
    fn why_no_ballot(&self, now: Millis, id: MemberId) -> (NotPromoted, String) {
        let member = self.state.members.get(&id);
        if self.election.is_none() && self.state.primary == Some(id) {
            return (NotPromoted::IsPrimary, "it is the primary, and its loss is what is looked at".to_owned());
        }
        if let Some(member) = member.filter(|member| member.resting) {
            let text = format!("its task has ended; its data waits for an offer of agent {}", member.agent);
            return (NotPromoted::Resting, text);
        }
        let Some(observed) = self.observed.get(&id) else {
            return (NotPromoted::NeverHeard, "it was never heard of".to_owned());
        };
        if observed.unreachable_since.is_some() {
            return (NotPromoted::Unreachable, "its agent cannot be reached".to_owned());
        }
        let Some(report) = &observed.report else {
            return (NotPromoted::NeverHeard, "it has not reported since it, or the scheduler, was started".to_owned());
        };
        let silent_ms = observed.silent_ms(now);
        if silent_ms >= self.timing.silence_ms {
            return (NotPromoted::Silent, format!("it has not been heard of for {} s", silent_ms / 1_000));
        }
        match &report.role {
            MemberRole::Down { reason } => (NotPromoted::Down, format!("its server is down: {reason}")),
            MemberRole::Starting => (NotPromoted::Starting, "its server is being set up".to_owned()),
            role @ (MemberRole::Idle
            | MemberRole::Frozen
            | MemberRole::Promoting
            | MemberRole::Following { .. }
            | MemberRole::Primary
            | MemberRole::SteppedDown) => {
                (NotPromoted::NotFrozen, format!("it has not stopped receiving yet: it is {}", role.name()))
            }
        }
    }

    /// What the election has against a member, in words.
    pub(super) fn why_less(&self, id: MemberId, own: &Ballot, winner: &Ballot, why: &WhyNot) -> (NotPromoted, String) {
        let other = winner.member;
        let report = self.observed.get(&id).and_then(|observed| observed.report.as_ref());
        let trouble = report.and_then(|report| report.trouble.as_ref());
        match why {
            WhyNot::NotJoined => (NotPromoted::NotJoined, "it is no complete copy yet".to_owned()),
            WhyNot::Lacks(count) => {
                (NotPromoted::Lacks, format!("it lacks {} that member {other} has", words::transactions(*count)))
            }
            WhyNot::Diverged => {
                let text = format!("it holds transactions that member {other} lacks, and nobody acknowledged them");
                (NotPromoted::Diverged, text)
            }
            WhyNot::Less(Merit::Stays) => {
                match (self.state.members.get(&id).and_then(|member| member.leaving), trouble) {
                    (Some(leaving), _) => (NotPromoted::Leaving, format!("it is leaving: {}", leaving.reason())),
                    (None, _) if self.is_damaged(id) => why_not_damaged(),
                    (None, Some(trouble)) if trouble.is_of_storage() => (NotPromoted::Storage, trouble.to_string()),
                    (None, _) => {
                        (NotPromoted::AgentGoes, "its agent wants it to end, or is to be taken down".to_owned())
                    }
                }
            }
            WhyNot::Less(Merit::CanApply) => (
                NotPromoted::Stuck,
                trouble.map_or_else(|| "it cannot apply what it has".to_owned(), ToString::to_string),
            ),
            WhyNot::Less(Merit::WroteNothing) => {
                (NotPromoted::Errant, "it wrote transactions of its own while it was a replica".to_owned())
            }
            WhyNot::Less(Merit::Preferred) => {
                (NotPromoted::NotPreferred, format!("member {other} is the candidate of the switchover"))
            }
            WhyNot::Less(Merit::MayLead) => {
                (NotPromoted::PromotionRule, "its promotion rule is 'never': see 'cotton rule'".to_owned())
            }
            WhyNot::Less(Merit::Rule) => {
                let text = format!("the promotion rule of member {other} is 'prefer', and its own is not");
                (NotPromoted::PromotionRule, text)
            }
            WhyNot::Less(Merit::LeastToApply) => {
                let (own, its) = (words::transactions(own.unapplied), winner.unapplied);
                (NotPromoted::MoreToApply, format!("it has {own} to apply, member {other} has {its}"))
            }
            WhyNot::Less(Merit::LowestNumber) => (
                NotPromoted::HigherNumber,
                format!("it is as good as member {other}; among equals the lowest number wins"),
            ),
        }
    }

    /// Since when, and until when, a reason for not being healthy holds.
    fn wait_of(&self, now: Millis, reason: &Reason) -> Wait {
        let observed = reason.member.and_then(|id| self.observed.get(&id));
        let timing = &self.timing;
        let limited = |since: Millis, ms: u64| (Some(since), Some(since.after(ms)));
        let election = self.election.as_deref();
        let mut code = reason.code.name();
        let (since, until) = match reason.code {
            ReasonCode::FailoverCooldown => (election.map(|election| election.started), self.cools_down(now)),
            ReasonCode::ElectionWaits | ReasonCode::Election => {
                if let Some(undecided) = election.and_then(|election| election.waiting.as_ref()) {
                    code = undecided.code().name();
                }
                let lease =
                    election.and_then(|election| election.lease_until).filter(|until| *until < Millis(u64::MAX));
                let is_forced = self.is_forced() && !self.awaits_end(now);
                let deadline = election.map(|election| election.deadline).filter(|_| is_forced);
                (election.map(|election| election.started), lease.max(deadline))
            }
            ReasonCode::Switchover => match (&self.switchover, self.reopening_since) {
                (Some(switchover), _) => (Some(switchover.started), Some(switchover.deadline)),
                (None, Some(since)) => limited(since, timing.reopen_ms),
                (None, None) => (None, None),
            },
            ReasonCode::Promotion => {
                let fails = self.state.primary.and_then(|id| self.observed.get(&id)).and_then(|o| o.trouble());
                let fails = fails.is_some_and(|t| t.is_of_storage() || matches!(t, Trouble::Failing { .. }));
                let until = self.appointed_at.after(timing.election_ms);
                (Some(self.appointed_at), Some(until).filter(|_| fails))
            }
            ReasonCode::WaitingForAck => (self.blocked_since(), None),
            ReasonCode::MemberLeaving => {
                observed.and_then(|o| o.to_leave_since).map_or((None, None), |at| (Some(at), None))
            }
            ReasonCode::MemberUnreachable => (observed.and_then(|o| o.unreachable_since), None),
            ReasonCode::MemberLagging => (reason.member.and_then(|id| self.behind_since(id)), None),
            ReasonCode::MemberUnhealthy => match observed {
                Some(o) if o.unreachable_since.is_some() => {
                    o.unreachable_since.map_or((None, None), |since| limited(since, timing.unreachable_ms))
                }
                Some(o) if o.missed_since.is_some() => {
                    o.missed_since.map_or((None, None), |since| limited(since, timing.return_ms))
                }
                Some(o) if o.report.is_none() => limited(o.heard.max(self.watching_since), timing.launch_ms),
                Some(o) if o.silent_ms(now) >= timing.silence_ms => (Some(o.heard), None),
                Some(o) => (o.applying.as_ref().map(|applying| applying.since()), None),
                None => (None, None),
            },
            ReasonCode::MemberMissing
            | ReasonCode::NotPlaced
            | ReasonCode::LaunchFailed
            | ReasonCode::CannotReturn
            | ReasonCode::MemberErrant
            | ReasonCode::MemberEnding
            | ReasonCode::Maintenance
            | ReasonCode::NotSaved
            | ReasonCode::Paused => (None, None),
            ReasonCode::FailoverHeld => (self.held.as_ref().map(|held| held.since), None),
        };
        Wait {
            code,
            member: reason.member,
            text: reason.text.clone(),
            since_ms: since.map(|since| now.since(since)),
            until_ms: until.map(|until| until.since(now)),
        }
    }

    /// What each command would do now, and what it would lose.
    fn lever_views(&self, now: Millis) -> Vec<LeverView> {
        let name = self.name();
        let mut levers = Vec::new();
        if self.state.deleting {
            return levers; // nothing is obeyed any more
        }
        let mut tell = |command: String, done: Result<String, String>, loses: &str| {
            let (possible, text) = match done {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            levers.push(LeverView { command, possible, text, loses: loses.to_owned() });
        };
        let switchover = self.who_takes_over(now, None);
        let switchover = switchover.map(|(from, to)| format!("member {from} hands over to member {to}"));
        let loses = "no commit; sessions on the primary end, and writes stop for a moment";
        tell(format!("cotton switchover {name}"), switchover.map_err(|refused| refused.to_string()), loses);
        if self.has_unknown {
            let text = "the tasks that run without a record become members, and the record is right again".to_owned();
            tell(format!("cotton adopt {name}"), Ok(text), "nothing");
            let text = "the tasks that run without a record are ended".to_owned();
            tell(format!("cotton discard {name}"), Ok(text), "what only those tasks have");
        }
        self.explain_levers(now, &mut tell);
        levers
    }
}

fn why_not_damaged() -> (NotPromoted, String) {
    let text = "it was primary, and its binary log could not be read to its end: it may lack what others have applied";
    (NotPromoted::Damaged, text.to_owned())
}
