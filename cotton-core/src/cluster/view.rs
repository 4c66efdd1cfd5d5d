//! What people and programs may see of a cluster: a snapshot, made on request, that decides nothing.

use crate::backoff::in_words;
use crate::cluster::event::Timeline;
use crate::cluster::state::LeavingCode;
use crate::codes::codes;
use crate::election::PromotionRule;
use crate::protocol::TroubleCode;
use crate::{AgentId, ClusterName, Durability, Endpoint, Epoch, MemberId, Preference, Resources, TaskId, words};
use serde::{Deserialize, Serialize};

/// How a cluster is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterStatus {
    /// Never had a primary that was open for writes.
    Creating,
    /// Writable, and every wanted member is in place.
    Healthy,
    /// Writable, but members are missing, behind or in trouble.
    Degraded,
    /// The primary is open but commits wait for a replica to acknowledge them.
    Blocked,
    /// Without a writable primary; one is being chosen or promoted.
    FailingOver,
    /// Without a primary, and what is left does not suffice to choose one safely: see the reasons.
    Waiting,
    /// Being deleted.
    Deleting,
}

impl ClusterStatus {
    /// The word used in JSON, tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Blocked => "blocked",
            Self::FailingOver => "failing_over",
            Self::Waiting => "waiting",
            Self::Deleting => "deleting",
        }
    }
}

codes! {
    /// What keeps a cluster from being healthy. The user guide has a line for each: what it means, and what ends it.
    ReasonCode {
        /// A person has paused the cluster.
        Paused = "paused",
        /// The latest change cannot be saved, and nothing that depends on it is done.
        NotSaved = "not_saved",
        /// A failover is needed and held back.
        FailoverHeld = "failover_held",
        /// An election is under way.
        Election = "election",
        /// An election cannot be decided.
        ElectionWaits = "election_waits",
        /// An election is held after several failovers that may have lost commits.
        FailoverCooldown = "failover_cooldown",
        /// A switchover is under way, or being taken back.
        Switchover = "switchover",
        /// The elected primary is not open yet.
        Promotion = "promotion",
        /// Commits wait for acknowledgements.
        WaitingForAck = "waiting_for_ack",
        /// Fewer members than wanted are placed.
        MemberMissing = "member_missing",
        /// No offer suits a member that is wanted.
        NotPlaced = "not_placed",
        /// The last launch failed.
        LaunchFailed = "launch_failed",
        /// A member cannot return to its volume yet.
        CannotReturn = "cannot_return",
        /// A member is on its way out.
        MemberLeaving = "member_leaving",
        /// A member was replaced because its agent cannot be reached.
        MemberUnreachable = "member_unreachable",
        /// A member has transactions that the primary lacks.
        MemberErrant = "member_errant",
        /// A replica is far behind.
        MemberLagging = "member_lagging",
        /// A member is not what it shall be.
        MemberUnhealthy = "member_unhealthy",
        /// A member of a cluster that is being deleted is being stopped.
        MemberEnding = "member_ending",
        /// An agent that is to be taken down is needed.
        Maintenance = "maintenance",
    }
}

/// Something that keeps a cluster from being healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable, for programs.
    pub code: ReasonCode,
    /// Which member it is about, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// For people.
    pub text: String,
}

/// One member, as far as the scheduler knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its number.
    pub id: MemberId,
    /// The task that runs it.
    pub task: TaskId,
    /// Where it runs.
    pub agent: AgentId,
    /// Where its server listens.
    pub endpoint: Endpoint,
    /// `primary`, `replica`, `idle`, `frozen`, `promoting`, `stepped_down`, `starting`, `down`, `resting` while its data
    /// waits on its volume for another task, or `unknown` before its first report.
    pub role: &'static str,
    /// Whether it is what it shall be, connected, not too far behind, without errant transactions, and heard of lately.
    pub healthy: bool,
    /// Whether it is on its way out.
    pub leaving: bool,
    /// Why, if it is.
    pub leaving_code: Option<LeavingCode>,
    /// Whether it is to be primary, as a person has decided.
    pub rule: PromotionRule,
    /// Epoch it obeys.
    pub epoch: Epoch,
    /// GTIDs received or executed, in the server's own notation.
    pub gtids: String,
    /// Seconds behind the primary.
    pub lag_s: Option<u64>,
    /// Transactions received and not applied yet.
    pub unapplied: u64,
    /// How it goes with applying them, while there are some.
    pub applying: Option<ApplyingView>,
    /// Transactions that it has and the primary lacks, in the server's own notation.
    pub errant: Option<String>,
    /// Milliseconds since it was last heard of.
    pub silent_ms: Option<u64>,
    /// Version of its server.
    pub server_version: String,
    /// Free bytes where its data is.
    pub disk_free_bytes: Option<u64>,
    /// Why it is not what it shall be.
    pub trouble: Option<String>,
    /// The same, for programs.
    pub trouble_code: Option<TroubleCode>,
}

/// What a member has left to apply of what it has received, and how fast it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ApplyingView {
    /// Transactions left.
    pub left: u64,
    /// Transactions applied in a second, over the last half minute; `None` until that is known.
    pub per_second: Option<PerSecond>,
    /// Seconds until all is applied if it goes on like this; `None` when it does not get less.
    pub rest_s: Option<u64>,
    /// For how long it has had something to apply, in milliseconds.
    pub since_ms: u64,
    /// How long ago the end of a transaction was last seen, in milliseconds.
    pub advanced_ms: u64,
}

impl ApplyingView {
    /// After how long without the end of a transaction that is worth a word.
    const STANDS_MS: u64 = 5_000;
}

impl std::fmt::Display for ApplyingView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { left, per_second, rest_s, advanced_ms, .. } = self;
        write!(f, "{} left to apply", words::transactions(*left))?;
        if *advanced_ms >= Self::STANDS_MS {
            return write!(f, ", none of them finished for {} s", advanced_ms / 1_000);
        }
        if let Some(rate) = per_second.filter(|rate| rate.milli > 0) {
            write!(f, ", {rate} a second")?;
        }
        rest_s.map_or(Ok(()), |seconds| write!(f, ", about {seconds} s to go"))
    }
}

/// How many in a second, with three decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerSecond {
    /// Thousandths.
    pub milli: u64,
}

impl PerSecond {
    /// So many in so many milliseconds; of no time at all, none.
    pub fn of(count: u64, ms: u64) -> Self {
        let milli = (u128::from(count) * 1_000_000).checked_div(u128::from(ms)).unwrap_or(0);
        Self { milli: u64::try_from(milli).unwrap_or(u64::MAX) }
    }
}

impl std::fmt::Display for PerSecond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, milli) = (self.milli / 1_000, self.milli % 1_000);
        if whole >= 10 { write!(f, "{whole}") } else { write!(f, "{whole}.{}", milli / 100) }
    }
}

impl Serialize for PerSecond {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "a rate of more than 2^52 a second there is not")]
        serializer.serialize_f64(self.milli as f64 / 1_000.0)
    }
}

impl<'de> Deserialize<'de> for PerSecond {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rate = f64::deserialize(deserializer)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast that saturates")]
        Ok(Self { milli: (rate * 1_000.0).round() as u64 })
    }
}

/// The latest planned change of the primary that the scheduler knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwitchoverView {
    /// The primary that hands over.
    pub from: MemberId,
    /// The member that takes over.
    pub to: MemberId,
    /// `under_way`, `done` or `failed`.
    pub state: &'static str,
    /// How long it took, in milliseconds, once it is done.
    pub ms: Option<u64>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl std::fmt::Display for SwitchoverView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to, ms, reason, .. } = self;
        match (ms, reason) {
            (Some(ms), _) => write!(f, "member {from} handed over to member {to} within {ms} ms"),
            (None, Some(reason)) => write!(f, "member {from} was to hand over to member {to}: {reason}"),
            (None, None) => write!(f, "member {from} hands over to member {to}"),
        }
    }
}

impl SwitchoverView {
    pub(super) const fn under_way(from: MemberId, to: MemberId) -> Self {
        Self { from, to, state: "under_way", ms: None, reason: None }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.state == "under_way"
    }

    pub(super) const fn succeed(&mut self, ms: u64) {
        self.state = "done";
        self.ms = Some(ms);
    }

    pub(super) fn fail(&mut self, reason: &str) {
        self.state = "failed";
        self.reason = Some(reason.to_owned());
    }
}

/// Something that has failed and is tried again, after longer and longer pauses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryView {
    /// `launch` of a new member, `return` of a member to its volume, `copy` of the data to a member, or `agent`: members of
    /// this cluster failed there, and it is used last.
    pub what: &'static str,
    /// Which member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Where it failed the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// How often it has failed in a row.
    pub failures: u32,
    /// In how many milliseconds it is tried again, at the earliest.
    pub in_ms: u64,
    /// How it failed the last time.
    pub reason: String,
}

impl std::fmt::Display for RetryView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, member, agent, failures, in_ms, reason } = self;
        match (*what, member) {
            ("launch", _) => f.write_str("the launch of a member has failed")?,
            (_, Some(member)) => write!(f, "the {what} of member {member} has failed")?,
            (_, None) => f.write_str("members have failed")?,
        }
        if let Some(agent) = agent {
            write!(f, " on agent {agent}")?;
        }
        let times = if *failures == 1 { String::new() } else { format!(" {failures} times in a row") };
        match in_ms {
            0 => write!(f, "{times}; it is tried again with the next offer that suits: {reason}"),
            ms => write!(f, "{times}; the next try is in {}: {reason}", in_words(*ms)),
        }
    }
}

/// An offer that is not used for a member that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedOffer {
    /// Its agent.
    pub agent: AgentId,
    /// Its host.
    pub host: String,
    /// Why, for programs: see [`Refusal::code`](crate::Refusal::code).
    pub code: &'static str,
    /// Why, for people.
    pub text: String,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// Its name.
    pub name: ClusterName,
    /// Account of its user.
    pub user: String,
    /// In one word.
    pub status: ClusterStatus,
    /// Why it is not healthy; empty when it is.
    pub reasons: Vec<Reason>,
    /// What has failed and is tried again later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retries: Vec<RetryView>,
    /// Offers of the latest rounds that were not used for it while it wants a member, at most
    /// [`REFUSALS_KEPT`](crate::placement::REFUSALS_KEPT).
    pub refusals: Vec<RefusedOffer>,
    /// Members wanted.
    pub size: u32,
    /// What each member gets.
    pub resources: Resources,
    /// When a commit counts as done.
    pub durability: Durability,
    /// What an election does when in doubt.
    pub preference: Preference,
    /// Current epoch.
    pub epoch: Epoch,
    /// The primary, once it reported to be open for writes in the current epoch.
    pub primary: Option<MemberId>,
    /// Where to write; changes only after the new primary is writable.
    pub endpoint: Option<Endpoint>,
    /// All members, by number.
    pub members: Vec<MemberView>,
    /// The latest failover, phase by phase.
    pub last_failover: Option<Timeline>,
    /// The latest switchover since the scheduler was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switchover: Option<SwitchoverView>,
}
