//! What happened to a cluster, for people to read: a log beside the machine, never an input to it.

use super::view::PerSecond;
use crate::backoff::in_words;
use crate::election::PromotionRule;
use crate::words::Counted;
use crate::{AgentId, Endpoint, Epoch, MemberId, Millis, TaskId, words};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One entry of a cluster's log. The driver adds the wall-clock time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, on the driver's clock.
    #[serde(skip)]
    pub at: Millis,
    /// Epoch of the cluster at that time.
    pub epoch: Epoch,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The cluster was asked for.
    Created {
        /// Members wanted.
        size: u32,
    },
    /// A member was placed and is being launched.
    Launching {
        /// Which member.
        member: MemberId,
        /// Where.
        agent: AgentId,
    },
    /// A member's server runs for the first time.
    Running {
        /// Which member.
        member: MemberId,
        /// Where it listens.
        endpoint: Endpoint,
    },
    /// A member's task has ended.
    Ended {
        /// Which member.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// A member has failed before it was a complete copy of the data.
    LaunchFailed {
        /// Which member.
        member: MemberId,
        /// How.
        reason: String,
        /// How many launches have failed in a row.
        failures: u32,
        /// In how many milliseconds the next one is made, at the earliest.
        retry_ms: u64,
    },
    /// Members of this cluster failed on an agent, which is used last for a while.
    AgentFailing {
        /// Which agent.
        agent: AgentId,
        /// How, the last time.
        reason: String,
        /// How many have failed there in a row.
        failures: u32,
        /// For how many milliseconds no other member of this cluster is launched there.
        retry_ms: u64,
    },
    /// A member's task has ended; the member is run again on its volume.
    Resting {
        /// Which member.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// A member that was away for too long is back before another took its place, and is not to leave any more.
    TakenBack {
        /// Which member.
        member: MemberId,
    },
    /// The volume of a member that is gone was destroyed, and its reservations ended.
    VolumeReleased {
        /// Whose it was.
        member: MemberId,
    },
    /// Making or releasing a member's volume failed; what is left of it is released later.
    VolumeFailed {
        /// Whose it is.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// Tasks of which there was no record are members now.
    Adopted {
        /// Which members.
        members: Vec<MemberId>,
    },
    /// Tasks of which there was no record are given up, with their data.
    Discarded {
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// The stored record was found to be older than the cluster.
    Outdated {
        /// How.
        reason: String,
    },
    /// A member's agent cannot be reached.
    Unreachable {
        /// Which member.
        member: MemberId,
    },
    /// A member's server went down; its executor restarts it in place.
    ServerDown {
        /// Which member.
        member: MemberId,
        /// What happened.
        reason: String,
    },
    /// The primary is lost; an election begins in this epoch.
    PrimaryLost {
        /// The old primary.
        member: MemberId,
        /// How it is known.
        reason: String,
    },
    /// A member stopped receiving and told its position.
    Frozen {
        /// Which member.
        member: MemberId,
    },
    /// The election cannot be decided yet.
    ElectionWaits {
        /// What for.
        reason: String,
    },
    /// The election is decided.
    Elected {
        /// The new primary.
        member: MemberId,
        /// Its position.
        gtids: String,
    },
    /// The new primary applies what it has received, before it opens.
    Applying {
        /// Which member.
        member: MemberId,
        /// Transactions left.
        left: u64,
    },
    /// The new primary still does. Told after ten seconds, and each time again when it has taken twice as long.
    ApplyingSlowly {
        /// Which member.
        member: MemberId,
        /// Transactions left.
        left: u64,
        /// For how long, in milliseconds.
        ms: u64,
        /// How many it applies in a second, as far as that is known.
        per_second: Option<PerSecond>,
        /// Seconds until all is applied if it goes on like this, as far as that can be said.
        rest_s: Option<u64>,
    },
    /// The new primary has applied all that it had received.
    Applied {
        /// Which member.
        member: MemberId,
        /// Transactions that were left when it began.
        transactions: u64,
        /// How long that took, in milliseconds.
        ms: u64,
    },
    /// The new primary is open for writes.
    Promoted {
        /// Which member.
        member: MemberId,
        /// Where to write.
        endpoint: Endpoint,
    },
    /// A primary begins to hand over to a replica.
    SwitchingOver {
        /// The primary.
        from: MemberId,
        /// The replica.
        to: MemberId,
        /// Why.
        reason: String,
    },
    /// The primary has handed over.
    SwitchedOver {
        /// The old primary.
        from: MemberId,
        /// The new one.
        to: MemberId,
        /// How long it took, from the decision until the new one was open for writes.
        ms: u64,
    },
    /// The primary did not hand over: it stays, or another one than wanted was elected.
    SwitchoverFailed {
        /// The primary.
        from: MemberId,
        /// Who was to take its place.
        to: MemberId,
        /// Why it did not.
        reason: String,
    },
    /// A failover has run to its end.
    FailedOver {
        /// How long each phase took.
        timeline: Timeline,
    },
    /// A replica is connected to the current primary.
    Following {
        /// Which member.
        member: MemberId,
    },
    /// A member has caught up for the first time and now counts as a full copy.
    Joined {
        /// Which member.
        member: MemberId,
    },
    /// A member is not heard of.
    Silent {
        /// Which member.
        member: MemberId,
        /// Whether it is the primary.
        primary: bool,
        /// Since when, in milliseconds.
        ms: u64,
    },
    /// A member that was silent is heard of again.
    HeardAgain {
        /// Which member.
        member: MemberId,
        /// How long it was silent, in milliseconds.
        ms: u64,
    },
    /// A replica is further behind the primary than the cluster may bear without a word.
    Lagging {
        /// Which member.
        member: MemberId,
        /// By how much.
        lag_s: u64,
        /// Transactions that it has received and not applied.
        #[serde(default)]
        left: u64,
        /// How many it applies in a second, as far as that is known.
        #[serde(default)]
        per_second: Option<PerSecond>,
    },
    /// A replica that was far behind is not any more.
    CaughtUp {
        /// Which member.
        member: MemberId,
    },
    /// Commits wait for an acknowledgement, and none comes.
    CommitsWait {
        /// Why, as far as is known.
        reason: String,
    },
    /// Commits are acknowledged again.
    CommitsGoOn {
        /// How long they waited, in milliseconds.
        ms: u64,
    },
    /// A replica has transactions that the primary lacks: somebody wrote there.
    ErrantSeen {
        /// Which member.
        member: MemberId,
        /// Those transactions.
        gtids: String,
    },
    /// A member is in trouble.
    Trouble {
        /// Which member.
        member: MemberId,
        /// What is wrong.
        detail: String,
    },
    /// A person has paused the cluster.
    Paused,
    /// A person has resumed the cluster.
    Resumed,
    /// A failover is needed and held back.
    FailoverHeld {
        /// The primary.
        member: MemberId,
        /// Why it must be replaced.
        reason: String,
    },
    /// A person wants a fresh copy in the place of a member.
    RebuildAsked {
        /// Which member.
        member: MemberId,
    },
    /// A member that was to be replaced by a fresh copy became primary instead, and stays.
    RebuildDropped {
        /// Which member.
        member: MemberId,
    },
    /// A person has decided whether a member is to be primary.
    RuleSet {
        /// Which member.
        member: MemberId,
        /// Whether it is.
        rule: PromotionRule,
    },
    /// An election is not held any more that was held after several failovers that may have lost commits.
    CooldownEnded {
        /// The old primary, if it is back with its data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        back: Option<MemberId>,
    },
    /// A person has chosen the primary.
    ElectionForced {
        /// Who becomes primary.
        member: MemberId,
        /// What may be lost by that, as the person was told.
        loss: String,
    },
    /// A person has decided that the volumes that were kept of members that are gone are released.
    KeptReleased {
        /// Whose they are.
        members: Vec<MemberId>,
    },
    /// Another number of members is wanted.
    Scaled {
        /// Before.
        from: u32,
        /// From now on.
        to: u32,
    },
    /// A member is to leave.
    Leaving {
        /// Which member.
        member: MemberId,
        /// Why.
        reason: String,
    },
    /// The cluster is to be deleted.
    Deleting,
    /// The cluster and all that belonged to it is gone.
    Deleted,
}

/// How long the phases of one failover took, each in milliseconds since the loss was noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The epoch that the failover began.
    pub epoch: Epoch,
    /// The primary that was lost.
    pub from: Option<MemberId>,
    /// The primary that was elected.
    pub to: MemberId,
    /// The new epoch was durable, and the freeze went out.
    pub checkpointed_ms: u64,
    /// Enough replicas were frozen.
    pub frozen_ms: u64,
    /// The decision was durable, and the promotion went out.
    pub decided_ms: u64,
    /// The new primary reported to be open for writes.
    pub promoted_ms: u64,
    /// The first replica reported to be connected to it.
    pub replica_ms: Option<u64>,
}

impl fmt::Display for EventKind {
    #[expect(clippy::too_many_lines, reason = "one arm an event")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { size } => write!(f, "created with {}", Counted(u64::from(*size), "member")),
            Self::Launching { member, agent } => write!(f, "member {member} is being launched on {agent}"),
            Self::Running { member, endpoint } => write!(f, "member {member} runs at {endpoint}"),
            Self::Ended { member, reason } => write!(f, "member {member} has ended: {reason}"),
            Self::LaunchFailed { member, reason, failures, retry_ms } => {
                let next = in_words(*retry_ms);
                write!(f, "the launch of member {member} failed ({failures} in a row, next try in {next}): {reason}")
            }
            Self::AgentFailing { agent, reason, failures, retry_ms } => {
                let next = in_words(*retry_ms);
                write!(f, "agent {agent} is used last ({failures} failed there in a row, next try in {next}): {reason}")
            }
            Self::Resting { member, reason } => {
                write!(f, "the task of member {member} has ended, it comes back on its volume: {reason}")
            }
            Self::TakenBack { member } => {
                write!(f, "member {member} is back before another took its place, and stays")
            }
            Self::VolumeReleased { member } => write!(f, "the volume of member {member} was released"),
            Self::VolumeFailed { member, reason } => {
                write!(f, "the volume of member {member} could not be made or released: {reason}")
            }
            Self::Adopted { members } => write!(f, "adopted, as a person has decided: members {}", list(members)),
            Self::Discarded { tasks } => write!(f, "discarded, as a person has decided: tasks {}", list(tasks)),
            Self::Outdated { reason } => write!(f, "the stored record is older than the cluster: {reason}"),
            Self::Unreachable { member } => write!(f, "the agent of member {member} cannot be reached"),
            Self::ServerDown { member, reason } => write!(f, "the server of member {member} is down: {reason}"),
            Self::PrimaryLost { member, reason } => write!(f, "primary {member} is lost: {reason}"),
            Self::Frozen { member } => write!(f, "member {member} is frozen"),
            Self::ElectionWaits { reason } => write!(f, "the election waits: {reason}"),
            Self::Elected { member, gtids } if gtids.is_empty() => {
                write!(f, "member {member} is elected, with no data yet")
            }
            Self::Elected { member, gtids } => write!(f, "member {member} is elected at {gtids}"),
            Self::Applying { member, left } => {
                write!(f, "member {member} applies what it has received before it opens for writes: {left} left")
            }
            Self::ApplyingSlowly { member, left, ms, per_second, rest_s } => {
                write!(f, "member {member} has been applying for {} s:", ms / 1_000)?;
                applying(f, "", *left, *per_second, *rest_s)
            }
            Self::Applied { member, transactions, ms } => {
                let (s, ms) = (ms / 1_000, ms % 1_000 / 100);
                let count = words::transactions(*transactions);
                write!(f, "member {member} has applied all that it had received, {count} in {s}.{ms} s")
            }
            Self::Promoted { member, endpoint } => {
                write!(f, "member {member} is primary, open for writes at {endpoint}")
            }
            Self::SwitchingOver { from, to, reason } => {
                write!(f, "primary {from} hands over to member {to}: {reason}")
            }
            Self::SwitchedOver { from, to, ms } => {
                write!(f, "primary {from} has handed over to member {to} within {ms} ms")
            }
            Self::SwitchoverFailed { from, to, reason } => {
                write!(f, "primary {from} did not hand over to member {to}: {reason}")
            }
            Self::FailedOver { timeline } => timeline.fmt(f),
            Self::Following { member } => write!(f, "member {member} follows the primary"),
            Self::Joined { member } => write!(f, "member {member} has caught up"),
            Self::Silent { member, primary, ms } => {
                let what = if *primary { "primary" } else { "member" };
                write!(f, "{what} {member} has not been heard of for {} s", ms / 1_000)
            }
            Self::HeardAgain { member, ms } => {
                write!(f, "member {member} is heard of again, after {} s", ms / 1_000)
            }
            Self::Lagging { member, lag_s, left, per_second } => {
                write!(f, "member {member} is {lag_s} s behind the primary")?;
                applying(f, ", with", *left, *per_second, None)
            }
            Self::CaughtUp { member } => write!(f, "member {member} is not far behind the primary any more"),
            Self::CommitsWait { reason } => f.write_str(reason),
            Self::CommitsGoOn { ms } => {
                write!(f, "commits are acknowledged again, after {}.{} s", ms / 1_000, ms % 1_000 / 100)
            }
            Self::ErrantSeen { member, gtids } => {
                write!(f, "member {member} has transactions that the primary lacks: {gtids}")
            }
            Self::Trouble { member, detail } => write!(f, "member {member} is in trouble: {detail}"),
            Self::Paused => f.write_str("paused, as a person has decided: nothing is decided until it is resumed"),
            Self::Resumed => f.write_str("resumed, as a person has decided"),
            Self::FailoverHeld { member, reason } => {
                write!(f, "primary {member} is lost, and its failover is held back: {reason}")
            }
            Self::RebuildAsked { member } => {
                write!(f, "a fresh copy in the place of member {member} was asked for")
            }
            Self::RebuildDropped { member } => write!(
                f,
                "member {member} is not rebuilt, as a person had asked: it is needed as primary; ask again when another \
                 member is primary"
            ),
            Self::RuleSet { member, rule } => {
                write!(f, "the promotion rule of member {member} is '{}' from now on", rule.name())
            }
            Self::CooldownEnded { back: Some(member) } => {
                write!(f, "the failover is not held any more: member {member} is back with its data")
            }
            Self::CooldownEnded { back: None } => {
                f.write_str("the failover is not held any more: the cool-down is over")
            }
            Self::ElectionForced { member, loss } => {
                write!(f, "a person has decided that member {member} becomes primary, and accepts to lose: {loss}")
            }
            Self::KeptReleased { members } => {
                write!(
                    f,
                    "the volumes kept of members that are gone are released, as a person has decided: {}",
                    list(members)
                )
            }
            Self::Scaled { from, to } => write!(f, "scaled from {from} to {}", Counted(u64::from(*to), "member")),
            Self::Leaving { member, reason } => write!(f, "member {member} is to leave: {reason}"),
            Self::Deleting => f.write_str("deletion was asked for"),
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checkpointed_ms, frozen_ms, decided_ms, promoted_ms, .. } = self;
        write!(
            f,
            "failover took {promoted_ms} ms (epoch durable at {checkpointed_ms} ms, replicas frozen at {frozen_ms} ms, \
             decision durable at {decided_ms} ms)"
        )?;
        self.replica_ms.map_or(Ok(()), |ms| write!(f, ", first replica connected at {ms} ms"))
    }
}

fn applying(
    f: &mut fmt::Formatter<'_>,
    begin: &str,
    left: u64,
    rate: Option<PerSecond>,
    rest_s: Option<u64>,
) -> fmt::Result {
    if left == 0 {
        return Ok(());
    }
    write!(f, "{begin} {} left to apply", words::transactions(left))?;
    if let Some(rate) = rate {
        write!(f, ", {rate} a second")?;
    }
    rest_s.map_or(Ok(()), |seconds| write!(f, ", about {seconds} s to go"))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
