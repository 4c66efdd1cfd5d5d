//! Who becomes primary, and whether that can be decided yet. Pure: facts in, verdict out.
//!
//! # The quorum rule
//! Let U be the server starts that may have acknowledged a commit of the old primary, w how many acknowledgements a
//! commit needs, and F those of U that are frozen: they receive nothing any more. When `|U \ F| < w`,
//! 1. the old primary can collect w acknowledgements no more: it is fenced, whether it lives or not, and
//! 2. every acknowledged commit was acknowledged by a member of F, so F as a whole has seen it.
//!
//! Commits acknowledged under still older primaries are in what the old one had received when it was chosen, the
//! *floor*; the winner must contain it. The rule is a reading of Vitess' and MOCO's reasoning about revocation, with
//! U counted by server start, since a replica that restarts may lose what it had received and not applied. A start that
//! has kept all that earlier ones had speaks for them, too.
//!
//! The other way to be sure are the *witnesses*: members whose durable data together hold every acknowledged commit
//! (the last primary that opened, and those chosen since). When all of them are frozen, nothing else is needed. The last
//! one alone suffices if it has the floor: what was acknowledged under it, it has written itself.
//!
//! # The winner
//! Members that were attached to the latest primary have data that is a prefix of its data, so they can be compared,
//! and whoever contains all others wins. A member attached only to an earlier primary may hold a tail that nobody
//! acknowledged: if it diverges, it is left out (and rebuilt later); if it contains all others, nothing speaks against
//! it. Two members attached to the same primary that diverge are a split brain: nothing is decided then.

use crate::cluster::state::Acker;
use crate::codes::codes;
use crate::{Epoch, GtidSet, MemberId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Whether a member is to be primary, as far as a person has decided that. What it has counts for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionRule {
    /// It is chosen before others that have the same.
    Prefer,
    /// It is as good as others.
    #[default]
    Neutral,
    /// It is chosen only when nobody else has all that it has, and hands over as soon as somebody has.
    Never,
}

impl PromotionRule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prefer, Self::Neutral, Self::Never];

    /// The word used in commands, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Neutral => "neutral",
            Self::Never => "never",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(crate) fn is_neutral(&self) -> bool {
        *self == Self::Neutral
    }
}

/// What one frozen member brings to an election.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each a place in the order of preference")]
pub struct Ballot {
    /// Which member.
    pub member: MemberId,
    /// The start of its server that is frozen.
    pub start: Acker,
    /// The oldest start of its server of which nothing is lost that it had received or executed: what any start from this
    /// one on has acknowledged is in `position`.
    pub kept_since: Acker,
    /// What it has received or executed, without what it wrote when it was not the one to write.
    pub position: GtidSet,
    /// Whether it wrote something then.
    pub errant: bool,
    /// How many transactions of that it has yet to apply before it can open for writes.
    pub unapplied: u64,
    /// Whether it cannot apply that as things are.
    pub stuck: bool,
    /// Last epoch in which it was attached to that epoch's primary.
    pub attached: Epoch,
    /// Whether it once held a complete copy, or has received one.
    pub joined: bool,
    /// Whether it is on its way out, or its storage fails: elected only when nobody else will do.
    pub leaving: bool,
    /// Whether it is to be primary, as a person has decided.
    pub rule: PromotionRule,
    /// Whether it shall win if others have no more than it: the candidate of a switchover.
    pub preferred: bool,
}

impl Ballot {
    /// Whether it has all that an acker had received.
    fn speaks_for(&self, acker: &Acker) -> bool {
        acker.member == self.start.member && (self.kept_since..=self.start).contains(acker)
    }
}

/// What an election must respect besides the ballots.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// U of the quorum rule.
    pub ackers: &'a BTreeSet<Acker>,
    /// w of the quorum rule; 0 means asynchronous: there is nothing to be sure of.
    pub acks: u32,
    /// What the winner must contain.
    pub floor: &'a GtidSet,
    /// Members that together hold every acknowledged commit.
    pub witnesses: &'a BTreeSet<MemberId>,
    /// The primary that was decided last.
    pub last: Option<MemberId>,
    /// Whether to decide without being sure.
    pub force: bool,
}

/// Why an election cannot be decided yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undecided {
    /// Nobody that has the data has answered.
    #[error("no member with the cluster's data has answered")]
    NoCandidate,
    /// Not enough answers to be sure that no acknowledged commit is lost.
    #[error("{}", no_quorum(.silent, .forgetful, .waiting_for))]
    NoQuorum {
        /// Members that may have acknowledged such commits, and do not answer.
        silent: MemberList,
        /// Members that answer, but with a later start of their servers, so that nobody knows whether they still have what
        /// they acknowledged.
        forgetful: MemberList,
        /// Members whose return can end this.
        waiting_for: MemberList,
    },
    /// The best candidate lacks commits that the last primary had when it was chosen.
    #[error(
        "the best candidate, member {best}, lacks commits that were acknowledged before; waiting for {waiting_for}"
    )]
    BelowFloor {
        /// The best candidate.
        best: MemberId,
        /// Members that would have them.
        waiting_for: MemberList,
    },
    /// The old primary cannot be told to stop, and nothing else stops it.
    #[error("member {0} cannot be reached and may still take writes: it opened without a lease; waiting for its end")]
    MayWrite(MemberId),
    /// There were several failovers that may have lost commits, and the old primary may come back with its data.
    #[error(
        "{failovers} failovers went on lately without the data of the old primary, so this one waits for member {awaited} \
         with its data, or for the end of the cool-down"
    )]
    CoolsDown {
        /// How many.
        failovers: u32,
        /// The old primary.
        awaited: MemberId,
    },
    /// What was stored is older than what there is: nobody knows who has everything before all have answered.
    #[error("the stored record is older than the cluster, so all of its members must be frozen first; waiting for {0}")]
    Outdated(MemberList),
    /// The same, and there are tasks that it does not know.
    #[error("the stored record is older than the cluster, and tasks run that it does not know: adopt or discard them")]
    Unknown,
    /// Two members hold what the other lacks.
    #[error("split brain: members {0} and {1} each hold transactions that the other lacks; a person must decide")]
    Split(MemberId, MemberId),
}

codes! {
    /// Why an election cannot be decided yet, for programs. The user guide has a line for each: what it means, and what ends
    /// it.
    UndecidedCode {
        /// [`Undecided::NoCandidate`]
        NoCandidate = "no_candidate",
        /// [`Undecided::NoQuorum`]
        NoQuorum = "no_quorum",
        /// [`Undecided::BelowFloor`]
        BelowFloor = "below_floor",
        /// [`Undecided::MayWrite`]
        MayWrite = "may_write",
        /// [`Undecided::CoolsDown`]
        CoolsDown = "failover_cooldown",
        /// [`Undecided::Outdated`]
        Outdated = "outdated",
        /// [`Undecided::Unknown`]
        Unknown = "unknown_tasks",
        /// [`Undecided::Split`]
        Split = "split_brain",
    }
}

impl Undecided {
    /// For programs.
    pub const fn code(&self) -> UndecidedCode {
        match self {
            Self::NoCandidate => UndecidedCode::NoCandidate,
            Self::NoQuorum { .. } => UndecidedCode::NoQuorum,
            Self::BelowFloor { .. } => UndecidedCode::BelowFloor,
            Self::MayWrite(_) => UndecidedCode::MayWrite,
            Self::CoolsDown { .. } => UndecidedCode::CoolsDown,
            Self::Outdated(_) => UndecidedCode::Outdated,
            Self::Unknown => UndecidedCode::Unknown,
            Self::Split(..) => UndecidedCode::Split,
        }
    }
}

/// Members, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList(pub BTreeSet<MemberId>);

impl std::fmt::Display for MemberList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.len() == 1 { "member " } else { "members " })?;
        for (i, member) in self.0.iter().enumerate() {
            write!(f, "{}{member}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl MemberList {
    fn is_one(&self) -> bool {
        self.0.len() == 1
    }
}

/// Why nobody is sure to have every acknowledged commit, and what would help.
fn no_quorum(silent: &MemberList, forgetful: &MemberList, waiting_for: &MemberList) -> String {
    let mut text = String::new();
    if !silent.0.is_empty() {
        let verb = if silent.is_one() { "does" } else { "do" };
        let _ = write!(text, "{silent} may have acknowledged commits that no other member has, and {verb} not answer");
    }
    if !forgetful.0.is_empty() {
        let (begin, verb, whose) = match (silent.0.is_empty(), forgetful.is_one()) {
            (true, true) => ("", "answers", "its server has"),
            (true, false) => ("", "answer", "their servers have"),
            (false, true) => ("; ", "answers", "its server has"),
            (false, false) => ("; ", "answer", "their servers have"),
        };
        let _ = write!(
            text,
            "{begin}{forgetful} {verb}, but {whose} been restarted since, and may lack commits that were \
             acknowledged before"
        );
    }
    if waiting_for.0.is_empty() {
        text + "; no returning member can settle this: a person must decide (cotton elect)"
    } else {
        text + &format!("; waiting for {waiting_for}")
    }
}

/// Decides an election.
///
/// # Errors
/// Why it cannot be decided with these ballots.
pub fn elect(ballots: &[Ballot], rules: &Rules<'_>) -> Result<MemberId, Undecided> {
    let best = best(ballots)?;
    if rules.acks == 0 || rules.force {
        return Ok(best.member);
    }
    let frozen: BTreeSet<MemberId> = ballots.iter().map(|b| b.member).collect();
    if !rules.witnesses.is_empty() && rules.witnesses.is_subset(&frozen) {
        return Ok(best.member);
    }
    let has_all = |b: &Ballot| Some(b.member) == rules.last && b.position.contains(rules.floor);
    let is_sure = ballots.iter().any(has_all);
    let unseen: Vec<&Acker> = rules.ackers.iter().filter(|a| !ballots.iter().any(|b| b.speaks_for(a))).collect();
    if !is_sure && unseen.len() >= rules.acks as usize {
        return Err(lacks_quorum(&unseen, &frozen, rules));
    }
    if !best.position.contains(rules.floor) {
        let waiting_for = MemberList(rules.witnesses.difference(&frozen).copied().collect());
        return Err(Undecided::BelowFloor { best: best.member, waiting_for });
    }
    Ok(best.member)
}

/// Says whose answers are missing when those of `frozen` members do not suffice.
fn lacks_quorum(unseen: &[&Acker], frozen: &BTreeSet<MemberId>, rules: &Rules<'_>) -> Undecided {
    let (forgetful, silent): (Vec<&Acker>, Vec<&Acker>) = unseen.iter().partition(|a| frozen.contains(&a.member));
    // A start that is gone does not come back. If too many are, the silent ones cannot make up for them.
    let may_suffice = forgetful.len() < rules.acks as usize;
    let members = |ackers: Vec<&Acker>| MemberList(ackers.into_iter().map(|acker| acker.member).collect());
    let (silent, forgetful) = (members(silent), members(forgetful));
    let mut waiting_for: BTreeSet<MemberId> = rules.witnesses.difference(frozen).copied().collect();
    if may_suffice {
        waiting_for.extend(&silent.0);
    }
    Undecided::NoQuorum { silent, forgetful, waiting_for: MemberList(waiting_for) }
}

/// The ballot that contains all that count; among equals one that can open and may be primary, that stays, that is to be
/// primary, has least to apply, has the lowest number.
fn best(ballots: &[Ballot]) -> Result<&Ballot, Undecided> {
    let trusted = ballots.iter().filter(|b| b.joined).map(|b| b.attached).max().ok_or(Undecided::NoCandidate)?;
    let mut best: Option<&Ballot> = None;
    for ballot in ballots.iter().filter(|b| b.joined && b.attached == trusted) {
        best = Some(match best {
            Some(best) if !best.position.contains(&ballot.position) => {
                if !ballot.position.contains(&best.position) {
                    return Err(Undecided::Split(best.member, ballot.member));
                }
                ballot
            }
            Some(best) => best,
            None => ballot,
        });
    }
    let mut best = best.ok_or(Undecided::NoCandidate)?;
    // Others may still be ahead without a known attachment: told to follow, attached, and the report of it lost.
    for ballot in ballots {
        if ballot.position.contains(&best.position) && !best.position.contains(&ballot.position) {
            best = ballot;
        }
    }
    let equals = ballots.iter().filter(|b| b.position.contains(&best.position));
    Ok(equals.min_by_key(|ballot| Merit::ALL.map(|merit| merit.of(ballot))).unwrap_or(best))
}

/// What decides between members that have the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merit {
    /// It can apply what it has received.
    CanApply,
    /// It is not one that a person wants never to be primary.
    MayLead,
    /// It is to stay, and its storage works.
    Stays,
    /// It wrote nothing when it was not the one to write.
    WroteNothing,
    /// It shall win if others have no more than it.
    Preferred,
    /// A person wants it to be primary.
    Rule,
    /// It has least to apply.
    LeastToApply,
    /// It has the lowest number.
    LowestNumber,
}

impl Merit {
    /// In the order in which they count.
    pub const ALL: [Self; 8] = [
        Self::CanApply,
        Self::MayLead,
        Self::Stays,
        Self::WroteNothing,
        Self::Preferred,
        Self::Rule,
        Self::LeastToApply,
        Self::LowestNumber,
    ];

    /// Less is better.
    fn of(self, ballot: &Ballot) -> u64 {
        match self {
            Self::CanApply => u64::from(ballot.stuck),
            Self::MayLead => u64::from(ballot.rule == PromotionRule::Never),
            Self::Stays => u64::from(ballot.leaving),
            Self::WroteNothing => u64::from(ballot.errant),
            Self::Preferred => u64::from(!ballot.preferred),
            Self::Rule => u64::from(ballot.rule != PromotionRule::Prefer),
            Self::LeastToApply => ballot.unapplied,
            Self::LowestNumber => ballot.member.0,
        }
    }
}

/// Why a frozen member does not win against the one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyNot {
    /// It never had a complete copy, so nobody knows what it lacks.
    NotJoined,
    /// It lacks so many transactions that the winner has.
    Lacks(u64),
    /// It holds what the winner lacks, and lacks what the winner has; nobody acknowledged what it holds.
    Diverged,
    /// It has the same data, and the winner is better in this.
    Less(Merit),
}

/// Why a member does not win against the one that [`elect`] has chosen, everything that speaks against it.
pub fn why_not(ballot: &Ballot, winner: &Ballot) -> Vec<WhyNot> {
    let mut why = Vec::new();
    if !ballot.joined {
        why.push(WhyNot::NotJoined);
    }
    if !ballot.position.contains(&winner.position) {
        let is_part = winner.position.contains(&ballot.position);
        let lacks = WhyNot::Lacks(winner.position.count_beyond(&ballot.position));
        why.push(if is_part { lacks } else { WhyNot::Diverged });
    }
    let less = |merit: &Merit| merit.of(ballot) > merit.of(winner);
    let less = Merit::ALL.into_iter().filter(less).map(WhyNot::Less);
    // A higher number says something only where nothing else does.
    why.extend(less.filter(|less| *less != WhyNot::Less(Merit::LowestNumber)));
    if why.is_empty() {
        why.push(WhyNot::Less(Merit::LowestNumber));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    /// From words such as `a:5,b:2`; `-` is nothing.
    fn gtids(text: &str) -> GtidSet {
        let set = text.replace("a:", &format!("{A}:1-")).replace("b:", &format!("{B}:1-"));
        let set = if text == "-" { String::new() } else { set };
        GtidSet::mysql(&set, "").expect("a valid set")
    }

    fn acker(member: u64, boot: u64) -> Acker {
        Acker { member: MemberId(member), incarnation: 1, boot }
    }

    /// From a line such as `2 e3 a:5 new leaving boot2 behind3`.
    fn ballot(line: &str) -> Ballot {
        let mut words = line.split_whitespace();
        let mut word = || words.next().expect("a member, an epoch and a position");
        let (member, attached) = (word().parse().expect("a member"), word()[1..].parse().expect("an epoch"));
        let position = gtids(word());
        let flags: Vec<&str> = words.collect();
        Ballot {
            member: MemberId(member),
            start: acker(member, if flags.contains(&"boot2") { 2 } else { 1 }),
            kept_since: acker(member, if flags.contains(&"boot2") && !flags.contains(&"kept") { 2 } else { 1 }),
            position,
            stuck: flags.contains(&"stuck"),
            errant: flags.contains(&"errant"),
            unapplied: flags.iter().find_map(|flag| flag.strip_prefix("behind")?.parse().ok()).unwrap_or_default(),
            attached: Epoch(attached),
            joined: !flags.contains(&"new"),
            leaving: flags.contains(&"leaving"),
            rule: match (flags.contains(&"prefer"), flags.contains(&"never")) {
                (true, _) => PromotionRule::Prefer,
                (false, true) => PromotionRule::Never,
                (false, false) => PromotionRule::Neutral,
            },
            preferred: flags.contains(&"preferred"),
        }
    }

    struct Case {
        ballots: &'static [&'static str],
        ackers: &'static [(u64, u64)],
        acks: u32,
        floor: &'static str,
        witnesses: &'static [u64],
        last: Option<u64>,
        force: bool,
    }

    impl Case {
        const fn semi_sync(ballots: &'static [&'static str]) -> Self {
            Self { ballots, ackers: &[(1, 1), (2, 1)], acks: 1, floor: "-", witnesses: &[0], last: None, force: false }
        }

        /// The winner's number, or the reason in words.
        fn elect(&self) -> Result<u64, String> {
            let ballots: Vec<Ballot> = self.ballots.iter().map(|line| ballot(line)).collect();
            let rules = Rules {
                ackers: &self.ackers.iter().map(|(member, boot)| acker(*member, *boot)).collect(),
                acks: self.acks,
                floor: &gtids(self.floor),
                witnesses: &self.witnesses.iter().map(|id| MemberId(*id)).collect(),
                last: self.last.map(MemberId),
                force: self.force,
            };
            let elected = elect(&ballots, &rules);
            let reversed: Vec<Ballot> = ballots.into_iter().rev().collect();
            match (&elected, elect(&reversed, &rules)) {
                (Err(Undecided::Split(a, b)), Err(Undecided::Split(c, d))) => assert_eq!((a, b), (&d, &c)),
                (elected, reversed) => assert_eq!(*elected, reversed, "the order of the answers does not matter"),
            }
            elected.map(|id| id.0).map_err(|undecided| undecided.to_string())
        }
    }

    #[test]
    fn the_one_with_most_wins_then_who_stays_then_who_opens_soonest_then_the_lowest() {
        for (ballots, winner) in [
            (&["1 e1 a:5", "2 e1 a:6"] as &[&str], 2),
            (&["1 e1 a:6", "2 e1 a:6"], 1),
            (&["1 e1 a:6", "2 e1 a:6 preferred behind4"], 2),
            (&["1 e1 a:7", "2 e1 a:6 preferred"], 1),
            (&["1 e1 a:6", "2 e1 a:6 preferred leaving"], 1),
            (&["1 e1 a:6 leaving", "2 e1 a:6"], 2),
            (&["1 e1 a:7 leaving", "2 e1 a:6"], 1),
            (&["1 e1 a:6 behind2", "2 e1 a:6 behind1"], 2),
            (&["1 e1 a:6 behind9", "2 e1 a:5"], 1),
            (&["1 e1 a:6 errant", "2 e1 a:6 behind9"], 2),
            (&["1 e1 a:6 stuck", "2 e1 a:6 behind9"], 2),
            (&["1 e1 a:6 stuck behind1", "2 e1 a:5"], 1),
            (&["1 e1 a:6 behind9", "2 e1 a:6 leaving"], 1),
            // rules of people decide among those that have the same:
            (&["1 e1 a:6", "2 e1 a:6 prefer behind4"], 2),
            (&["1 e1 a:7", "2 e1 a:6 prefer"], 1),
            (&["1 e1 a:6", "2 e1 a:6 prefer leaving"], 1),
            (&["1 e1 a:6 preferred", "2 e1 a:6 prefer"], 1),
            (&["1 e1 a:6 never", "2 e1 a:6 behind9 leaving"], 2),
            (&["1 e1 a:6 never", "2 e1 a:6 stuck"], 1),
            (&["1 e1 a:7 never", "2 e1 a:6", "3 e1 a:6 prefer"], 1),
            (&["1 e1 a:6 never", "2 e1 a:6 never"], 1),
            (&["0 e1 a:9", "1 e1 a:6", "2 e1 a:6"], 0),
            (&["1 e1 -", "2 e1 -"], 1),
            (&["1 e1 a:6", "2 e1 a:6", "3 e0 a:2 new"], 1),
            // told to follow, attached, and the report of it lost:
            (&["1 e1 a:6", "2 e0 a:7"], 2),
            // an old primary's tail that nobody acknowledged is left out:
            (&["0 e1 a:6,b:3", "1 e2 a:7", "2 e2 a:6"], 1),
        ] {
            assert_eq!(Case::semi_sync(ballots.to_vec().leak()).elect(), Ok(winner), "{ballots:?}");
        }
    }

    #[test]
    fn an_empty_newcomer_is_no_candidate() {
        let none = Err("no member with the cluster's data has answered".to_owned());
        assert_eq!(Case::semi_sync(&[]).elect(), none);
        assert_eq!(Case::semi_sync(&["1 e0 - new", "2 e0 - new"]).elect(), none);
        assert_eq!(Case { force: true, ..Case::semi_sync(&["1 e0 - new"]) }.elect(), none);
        assert_eq!(Case { acks: 0, ..Case::semi_sync(&["1 e0 - new"]) }.elect(), none);
    }

    #[test]
    fn a_quorum_is_all_but_fewer_than_acknowledge() {
        let alone = |member: &str| {
            let (members, do_not) = if member.len() == 1 { ("member", "does not") } else { ("members", "do not") };
            Err(format!(
                "{members} {member} may have acknowledged commits that no other member has, and {do_not} answer; waiting \
                 for members 0, {member}"
            ))
        };
        let forgot = |member: &str| {
            let (members, answer) = if member.len() == 1 {
                ("member", "answers, but its server has")
            } else {
                ("members", "answer, but their servers have")
            };
            Err(format!(
                "{members} {member} {answer} been restarted since, and may lack commits that were \
                 acknowledged before; waiting for member 0"
            ))
        };
        let cases: [(Case, Result<u64, String>); 16] = [
            (Case::semi_sync(&["1 e1 a:5"]), alone("2")),
            (Case::semi_sync(&["2 e1 a:5"]), alone("1")),
            (Case { ackers: &[(2, 1)], ..Case::semi_sync(&["2 e1 a:5"]) }, Ok(2)),
            (Case { ackers: &[], ..Case::semi_sync(&["2 e1 a:5"]) }, Ok(2)),
            // the old primary's data has every acknowledged commit, whoever acknowledged it:
            (Case::semi_sync(&["0 e1 a:5"]), Ok(0)),
            // so does the last one alone that was chosen, if it has what it was chosen for:
            (Case { last: Some(1), floor: "a:5", witnesses: &[0, 1], ..Case::semi_sync(&["1 e1 a:5"]) }, Ok(1)),
            (Case { last: Some(1), floor: "a:6", ..Case::semi_sync(&["1 e1 a:5"]) }, alone("2")),
            (Case { last: Some(1), floor: "a:5", ..Case::semi_sync(&["1 e1 a:6", "2 e2 a:5"]) }, Ok(1)),
            // a server that restarted lost what it had received:
            (Case::semi_sync(&["1 e1 a:5 boot2", "2 e1 a:5"]), forgot("1")),
            (Case::semi_sync(&["1 e1 a:5 boot2", "2 e1 a:5 boot2"]), forgot("1, 2")),
            // unless it has kept it:
            (Case::semi_sync(&["1 e1 a:5 boot2 kept", "2 e1 a:5"]), Ok(1)),
            (
                Case { ackers: &[(1, 1), (1, 2), (2, 1)], ..Case::semi_sync(&["1 e1 a:5 boot2 kept", "2 e1 a:5"]) },
                Ok(1),
            ),
            (Case { ackers: &[(1, 3), (2, 1)], ..Case::semi_sync(&["1 e1 a:5 boot2 kept", "2 e1 a:5"]) }, forgot("1")),
            (
                Case { ackers: &[(1, 1), (1, 2), (2, 1)], ..Case::semi_sync(&["1 e1 a:5 boot2", "2 e1 a:5"]) },
                forgot("1"),
            ),
            (Case { ackers: &[(1, 2), (2, 1)], ..Case::semi_sync(&["1 e1 a:5 boot2", "2 e1 a:5"]) }, Ok(1)),
            // two acknowledgements: one may be missing
            (Case { acks: 2, ..Case::semi_sync(&["1 e1 a:5"]) }, Ok(1)),
        ];
        for (number, (case, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(case.elect(), wanted, "case {number}");
        }
    }

    #[test]
    fn who_does_not_wait() {
        assert_eq!(Case { force: true, ..Case::semi_sync(&["1 e1 a:5"]) }.elect(), Ok(1));
        assert_eq!(Case { acks: 0, ..Case::semi_sync(&["1 e1 a:5"]) }.elect(), Ok(1));
    }

    #[test]
    fn the_floor_holds_what_was_acknowledged_before() {
        let below = Case { floor: "a:6", witnesses: &[0, 3], ..Case::semi_sync(&["1 e1 a:5", "2 e1 a:4", "3 e1 a:1"]) };
        assert_eq!(
            below.elect(),
            Err("the best candidate, member 1, lacks commits that were acknowledged before; waiting for member 0"
                .to_owned())
        );
        assert_eq!(Case { floor: "a:6", ..Case::semi_sync(&["1 e1 a:6", "2 e1 a:4"]) }.elect(), Ok(1));
        // all witnesses are here: what nobody of them has was never acknowledged
        let all = Case { floor: "a:6", witnesses: &[0], ..Case::semi_sync(&["0 e1 a:5", "1 e1 a:4"]) };
        assert_eq!(all.elect(), Ok(0));
    }

    #[test]
    fn a_split_is_not_decided() {
        let split = "split brain: members 1 and 2 each hold transactions that the other lacks; a person must decide";
        let ballots = &["1 e1 a:5", "2 e1 b:5"];
        assert_eq!(Case::semi_sync(ballots).elect(), Err(split.to_owned()));
        assert_eq!(Case { force: true, ..Case::semi_sync(ballots) }.elect(), Err(split.to_owned()));
    }
}
