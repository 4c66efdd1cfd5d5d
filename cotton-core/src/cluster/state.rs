//! The checkpoint of one cluster: exactly what a restarted scheduler needs, and nothing that it can find out again.

use crate::account::Account;
use crate::codes::codes;
use crate::election::PromotionRule;
use crate::{AgentId, ClusterName, ClusterSpec, Endpoint, Epoch, GtidSet, MemberId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Version of the stored form; others are refused in words. It counts up with the first release whose records an earlier one
/// would misread: a new field that matters to decisions, or a new value of an enumeration. No release has been made yet.
pub const STATE_VERSION: u32 = 1;

/// One cluster, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct State {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// What is wanted.
    pub spec: ClusterSpec,
    /// Place in the order of creation.
    pub order: u64,
    /// Current epoch; 0 until the first primary is chosen.
    pub epoch: Epoch,
    /// The primary decided in `epoch`; `None` while an election is under way.
    pub primary: Option<MemberId>,
    /// The last primary decided, in this epoch or before.
    pub last_primary: Option<MemberId>,
    /// Epoch in which `last_primary` was decided.
    pub last_epoch: Epoch,
    /// Whether any primary of this cluster ever was open for writes.
    pub opened: bool,
    /// Members whose durable data together certainly hold every acknowledged commit: the last primary known to have
    /// opened, and those decided since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub witnesses: BTreeSet<MemberId>,
    /// What the last decided primary had received when it was chosen; every commit acknowledged before is in it.
    #[serde(default, skip_serializing_if = "GtidSet::is_empty")]
    pub floor: GtidSet,
    /// What marks the transactions of the last primary known to have opened, and of those decided since: what else a member
    /// has beyond the floor was written while it was not the one to write, and never acknowledged to anybody. Empty text
    /// stands for one that is not known, and then for anybody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub origins: BTreeSet<String>,
    /// The primary that was decided last, while it is not known to have opened: if it never did, it has written nothing that
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appointed: Option<Appointed>,
    /// Those before it, since a primary was last known to be open, of which nobody knows yet whether they opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubtful: Vec<Appointed>,
    /// Server starts that may have acknowledged a commit of the last decided primary.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ackers: BTreeSet<Acker>,
    /// Server starts that were told to follow an earlier primary and not seen to have stopped, by that primary: if it leads
    /// again, they may acknowledge before they are told anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strays: BTreeMap<MemberId, BTreeSet<Acker>>,
    /// Whether `last_primary` opened under a lease. One that did not, because nobody was there to replace it then, may
    /// take writes for as long as its task lives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leased: bool,
    /// How often the primary of this epoch was told to step down or to open again: it is to be open when this is even.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turn: u32,
    /// Who shall take its place, while it is to step down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover: Option<MemberId>,
    /// How many failovers went on lately without the data of the old primary.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failovers: u32,
    /// Members that have a task, or data that outlived it, by number.
    pub members: BTreeMap<MemberId, Member>,
    /// Members that are gone and whose volumes are kept, since they may hold commits that nobody else has: who went first
    /// comes first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub kept: VecDeque<MemberId>,
    /// Those of them that a person's decision has left behind, with what was lost by it: they are never released by number.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_behind: BTreeSet<MemberId>,
    /// The epoch in which a person last chose a primary, whatever others had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Epoch>,
    /// Further accounts by name; `None` for those that were dropped, which the primary may still have to be told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, Option<Account>>,
    /// How often they were changed, or the password of the cluster's own user.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub accounts_revision: u64,
    /// Number of the next member.
    pub next_member: MemberId,
    /// Number of its first member: what has a lower one belongs to an earlier cluster of that name.
    #[serde(default)]
    pub first_member: MemberId,
    /// Whether this record was found to be older than the world, as one that was restored: then nothing is killed or made,
    /// and nobody is elected before all members are frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Whether a person has decided that nothing is decided for it until further notice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Whether the cluster is to be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
}

/// How many revisions of the accounts a record passes over that is found to be older than the world.
const ACCOUNTS_SKIPPED: u64 = 1_000_000;

impl State {
    /// A cluster that was just asked for.
    pub fn new(spec: ClusterSpec, order: u64, first_member: MemberId) -> Self {
        Self {
            version: STATE_VERSION,
            spec,
            order,
            epoch: Epoch(0),
            primary: None,
            last_primary: None,
            last_epoch: Epoch(0),
            opened: false,
            witnesses: BTreeSet::new(),
            floor: GtidSet::Empty,
            origins: BTreeSet::new(),
            appointed: None,
            doubtful: Vec::new(),
            ackers: BTreeSet::new(),
            strays: BTreeMap::new(),
            leased: false,
            turn: 0,
            switchover: None,
            failovers: 0,
            members: BTreeMap::new(),
            kept: VecDeque::new(),
            left_behind: BTreeSet::new(),
            forced: None,
            accounts: BTreeMap::new(),
            accounts_revision: 0,
            next_member: first_member,
            first_member,
            outdated: false,
            paused: false,
            deleting: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.spec.name
    }

    /// This record was found to be older than the world: nobody knows who has written what since.
    pub(super) fn distrust(&mut self) {
        self.outdated = true;
        // Executors may know of later ones, and would take the next one for an old one.
        self.accounts_revision = self.accounts_revision.saturating_add(ACCOUNTS_SKIPPED);
        self.origins = BTreeSet::from([String::new()]);
    }

    /// Servers that were chosen to be primary, the last one at the end, and are not known to have opened.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &Appointed> {
        self.doubtful.iter().chain(&self.appointed)
    }

    /// Members that are to stay.
    pub fn staying(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.members.iter().filter(|(_, m)| m.leaving.is_none()).map(|(id, m)| (*id, m))
    }
}

/// One start of one member's server.
///
/// A replica that restarts loses what it had received but not applied, although it acknowledged it. Therefore not the
/// member counts as one that has seen an acknowledged commit, but this very start of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acker {
    /// Which member.
    pub member: MemberId,
    /// Which start of its executor.
    pub incarnation: u64,
    /// Which start of its server.
    pub boot: u64,
}

/// A server that was chosen to be primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointed {
    /// Its start that was chosen; another one does not obey.
    pub start: Acker,
    /// What marks its transactions.
    pub origin: String,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Member {
    /// Where its task is, or was.
    pub agent: AgentId,
    /// Which run of it that task is, counted from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run: u32,
    /// Where its server listens.
    pub endpoint: Endpoint,
    /// Zone of its agent, where agents have zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether it was placed after the cluster was open for writes. It begins with a copy: repeating all that was ever
    /// executed takes longer, and fails for ever where one statement of the past cannot be repeated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// Whether it once held a complete copy of the data, all of it applied; only such a member can become primary, or one
    /// whose present server start has received all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// The start of its server that has received a complete copy and not applied all of it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Acker>,
    /// Last epoch in which it replicated from that epoch's primary, or was it: its data then was a part of the
    /// primary's.
    #[serde(default)]
    pub attached: Epoch,
    /// Whether its data is on a volume, which outlives its tasks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volume: bool,
    /// Whether its last task has ended, and it is to be run again on its volume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resting: bool,
    /// Whether it is to be primary, as a person has decided.
    #[serde(default, skip_serializing_if = "PromotionRule::is_neutral")]
    pub rule: PromotionRule,
    /// Whether it was replaced as primary because no replica could read its binary log: its data may differ from that of the
    /// others by what it rolled back, and it is replaced by a fresh copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    /// Why it is to leave, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

/// Why a member is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Fewer members are wanted.
    ScaleDown,
    /// It holds transactions that the primary lacks: another member takes its place, with fresh data.
    Errant,
    /// No replica could read its binary log when it was primary: another member takes its place, with fresh data.
    Damaged,
    /// Its server failed too often in a short time.
    Unstable,
    /// It could not apply what the primary sends.
    Broken,
    /// Its data directory is not there.
    DataGone,
    /// Its agent could not be reached for too long.
    Unreachable,
    /// It did not start in time, or never got a copy of the data.
    Stuck,
    /// Its volume has not been offered for too long.
    Missing,
    /// A person wants a fresh copy in its place.
    Rebuild,
    /// The cluster is being deleted.
    Deleted,
}

impl Member {
    /// Whether it is to leave only because it was away for too long: its data is as good as it was.
    pub fn is_away(&self) -> bool {
        matches!(self.leaving, Some(Leaving::Unreachable | Leaving::Missing))
    }

    /// Whether it ever had a complete copy of the data, applied or only received.
    pub const fn may_hold_data(&self) -> bool {
        self.joined || self.received.is_some()
    }

    /// What becomes of its data when it leaves for this reason, as far as that is worth saying.
    pub const fn keepsake(&self, why: Leaving) -> &'static str {
        match (why, self.volume) {
            (Leaving::Errant | Leaving::Damaged | Leaving::Unstable | Leaving::Broken | Leaving::Rebuild, volume) => {
                match volume {
                    _ if !self.may_hold_data() => "",
                    false => "; its data is kept in its sandbox",
                    true if matches!(why, Leaving::Rebuild) => {
                        "; its volume is kept, unless two others are kept already"
                    }
                    true => "; its volume is kept",
                }
            }
            (
                Leaving::ScaleDown
                | Leaving::DataGone
                | Leaving::Unreachable
                | Leaving::Stuck
                | Leaving::Missing
                | Leaving::Deleted,
                true | false,
            ) => "",
        }
    }
}

codes! {
    /// Why a member is to leave, for programs. The user guide has a line for each: what it means, and what ends it.
    LeavingCode {
        /// [`Leaving::ScaleDown`]
        ScaleDown = "scale_down",
        /// [`Leaving::Errant`]
        Errant = "errant",
        /// [`Leaving::Damaged`]
        Damaged = "damaged",
        /// [`Leaving::Unstable`]
        Unstable = "unstable",
        /// [`Leaving::Broken`]
        Broken = "broken",
        /// [`Leaving::DataGone`]
        DataGone = "data_gone",
        /// [`Leaving::Unreachable`]
        Unreachable = "unreachable",
        /// [`Leaving::Stuck`]
        Stuck = "stuck",
        /// [`Leaving::Missing`]
        Missing = "missing",
        /// [`Leaving::Rebuild`]
        Rebuild = "rebuild",
        /// [`Leaving::Deleted`]
        Deleted = "deleted",
    }
}

impl Leaving {
    /// For programs.
    pub const fn code(self) -> LeavingCode {
        match self {
            Self::ScaleDown => LeavingCode::ScaleDown,
            Self::Errant => LeavingCode::Errant,
            Self::Damaged => LeavingCode::Damaged,
            Self::Unstable => LeavingCode::Unstable,
            Self::Broken => LeavingCode::Broken,
            Self::DataGone => LeavingCode::DataGone,
            Self::Unreachable => LeavingCode::Unreachable,
            Self::Stuck => LeavingCode::Stuck,
            Self::Missing => LeavingCode::Missing,
            Self::Rebuild => LeavingCode::Rebuild,
            Self::Deleted => LeavingCode::Deleted,
        }
    }

    /// For people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ScaleDown => "fewer members are wanted",
            Self::Errant => "it holds transactions that the primary lacks",
            Self::Damaged => "no replica could read its binary log when it was primary",
            Self::Unstable => "its server failed too often",
            Self::Broken => "it cannot apply what the primary sends",
            Self::DataGone => "its data is gone",
            Self::Unreachable => "it, or its agent, could not be reached for too long",
            Self::Missing => "its volume has not been offered for too long",
            Self::Rebuild => "a person asked for a fresh copy in its place",
            Self::Stuck => "it did not get ready",
            Self::Deleted => "the cluster is being deleted",
        }
    }
}
