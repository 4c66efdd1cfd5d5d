//! What scheduler and executors say to each other: JSON, versioned, within a fixed size.
//!
//! Mesos delivers framework messages at most once and in no order, so nothing here is a step that must arrive: a
//! [`Directive`] is the whole of what a member shall be, ranked by `(epoch, stage)`, repeated until a [`Report`] shows
//! that it was obeyed; an executor obeys the highest rank it has seen and refuses lower ones.

use crate::account::{Account, Accounts};
use crate::codes::codes;
use crate::{ClusterName, Durability, Endpoint, Epoch, GtidSet, MemberId, Resources, Sealed, Secrets};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Version of this protocol; both sides refuse others in words.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest message, in bytes; GTID sets of very old clusters are the longest part.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Why a message could not be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Larger than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes is larger than {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not JSON of the right shape.
    #[error("message is not understood")]
    Malformed(#[from] serde_json::Error),
    /// Another version of the protocol.
    #[error(
        "message has protocol version {0}, this side speaks {PROTOCOL_VERSION}: use scheduler and executor of one release"
    )]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

/// Only the version, to be read before the rest is believed to have a known shape.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Writes a message.
///
/// # Panics
/// Never for the message types of this module: they all are representable in JSON.
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    let envelope = Envelope { version: PROTOCOL_VERSION, body };
    serde_json::to_vec(&envelope).expect("protocol types have only string keys")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

/// Reads a message.
///
/// # Errors
/// When it is too large, of another version, or not understood.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProtocolError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(ProtocolError::TooLarge(bytes.len()));
    }
    let VersionOnly { version } = serde_json::from_slice(bytes)?;
    if version != PROTOCOL_VERSION {
        return Err(ProtocolError::Version(version));
    }
    Ok(serde_json::from_slice::<Envelope<T>>(bytes)?.body)
}

/// The payload of a task: all that an executor must know to run one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberTask {
    /// Cluster it belongs to.
    pub cluster: ClusterName,
    /// Number of the cluster, which no other of its scheduler has; decides the account of the machine that its servers run as,
    /// where they are started as root.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u64,
    /// Which member it is; decides `server_id`.
    pub member: MemberId,
    /// Where the server shall listen, and be reached by the others.
    pub endpoint: Endpoint,
    /// What the MySQL server may use (the executor's share is already taken off).
    pub resources: Resources,
    /// Account made for the cluster's user.
    pub user: String,
    /// Passwords, sealed.
    pub secrets: Secrets,
    /// Whether to prepare for semi-synchronous replication.
    pub durability: Durability,
    /// Backup to start from instead of an empty data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Whether the member had data when it was launched: an empty directory would vouch for what it does not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_data: bool,
}

/// Rank of a [`Directive`] within its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The election of the epoch is under way.
    Freeze,
    /// The election is decided.
    Decided,
    /// Its primary is to step down (odd numbers), or to open again after all (even ones), and so on: each turn replaces
    /// those before it.
    Turn(u32),
    /// The member is to leave.
    Detach,
}

/// What a member shall be from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Read-only, receiving nothing, applying what it has received. Takes away the old primary's acknowledgements.
    Freeze,
    /// Apply all that was received, then open for writes.
    ///
    /// Obeyed only on the server start (incarnation and boot) on which an executor first accepted this rank: a server
    /// that restarted since then has lost its term, and a late copy of the order must not open it again. It stays
    /// [`MemberRole::Idle`], from which the scheduler knows to hold an election.
    Promote {
        /// What its data must contain; a member that lacks some of it refuses and says so.
        must_contain: GtidSet,
        /// How many replicas must acknowledge a commit; 0 is asynchronous.
        acks: u32,
        /// With `Some`, writes stop when the scheduler has answered no report for so long and not all replicas are
        /// connected.
        lease_ms: Option<u64>,
    },
    /// Read-only, replicating from the primary; after checking that it holds nothing that the primary lacks.
    Follow {
        /// Where the primary is.
        primary: Endpoint,
        /// Which member it is.
        primary_id: MemberId,
        /// Whether its acknowledgements count.
        semi_sync: bool,
        /// Members that can give a copy of their data, best first.
        donors: Vec<Endpoint>,
        /// Whether a member without data begins with a copy, if it can. Otherwise, copies are taken only where the primary's
        /// binary logs do not reach back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copy: bool,
    },
    /// To the primary of this epoch: become read-only, let the commits under way end, and tell the last position.
    ///
    /// Nobody else opens in this epoch; a [`Order::Reopen`] of a later turn takes it back. No session that waits for an
    /// acknowledgement may be answered by this: when some still wait at the end, it fails.
    StepDown {
        /// Its turn, an odd number.
        turn: u32,
        /// How long running transactions may take to end; what is left of them is broken off then.
        grace_ms: u64,
        /// As in [`Order::Promote`]: the lease goes on until it has stepped down.
        lease_ms: Option<u64>,
    },
    /// To a primary that was told to step down: be primary of this epoch again, or still. Obeyed only on the server
    /// start on which it was promoted.
    Reopen {
        /// Its turn, an even number.
        turn: u32,
        /// As in [`Order::Promote`].
        must_contain: GtidSet,
        /// As in [`Order::Promote`].
        acks: u32,
        /// As in [`Order::Promote`].
        lease_ms: Option<u64>,
    },
    /// As `Freeze`, before the member is stopped for good.
    Detach,
}

/// An [`Order`] under an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// The epoch that it belongs to.
    pub epoch: Epoch,
    /// What to be.
    #[serde(flatten)]
    pub order: Order,
}

impl Directive {
    /// Where it stands among all directives: later ones replace earlier ones, never the other way round.
    pub const fn rank(&self) -> (Epoch, Stage) {
        let stage = match self.order {
            Order::Freeze => Stage::Freeze,
            Order::Promote { .. } | Order::Follow { .. } => Stage::Decided,
            Order::StepDown { turn, .. } | Order::Reopen { turn, .. } => Stage::Turn(turn),
            Order::Detach => Stage::Detach,
        };
        (self.epoch, stage)
    }
}

/// From scheduler to executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToExecutor {
    /// What the member shall be.
    Directive(Directive),
    /// Answer to a report: renews a lease, and comes back in later reports as [`Report::echo`].
    Heard {
        /// Incarnation of the report that is answered.
        incarnation: u64,
        /// Sequence number of the report that is answered.
        seq: u64,
        /// A number that only grows, also over restarts of the scheduler.
        nonce: u64,
        /// Whether a fresh report is wanted at once.
        report_now: bool,
        /// How many other members may be connected to a primary whose report is answered.
        #[serde(default)]
        others: u32,
    },
    /// The accounts that the cluster shall have. To its primary.
    Accounts {
        /// Grows with every change.
        revision: u64,
        /// Password of the cluster's own user; `None` for the one that the task was launched with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Sealed>,
        /// The further ones by name; `None` for those that were dropped.
        accounts: BTreeMap<String, Option<Account>>,
    },
    /// A kill of this member's task need not wait for a successor: it is wanted, or nobody is there to take its place.
    LetGo,
}

/// A question of a scheduler that finds a task of which it has no record. Executors of earlier releases do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub enum Question {
    /// What were you launched to run?
    Identify,
}

/// The answer to [`Question::Identify`]: with it, and with a report, a lost record can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What the executor was launched with; its secrets are sealed.
    pub identity: MemberTask,
    /// The accounts that its server was told to keep, if it was primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Accounts>,
}

/// What a member's server is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum MemberRole {
    /// Being installed, initialised or copied; never ran in this incarnation.
    Starting,
    /// Its process is not running (it crashed, hung and was killed, or is being restarted).
    Down {
        /// What happened, for people.
        reason: String,
    },
    /// Running read-only since its start, told nothing yet.
    Idle,
    /// Running read-only, receiving nothing; the report's position is what it has received and applied.
    Frozen,
    /// Obeying a [`Order::Promote`] of the report's epoch, not yet open for writes.
    Promoting,
    /// Replicating from the primary of the report's epoch.
    Following {
        /// Whether the connection to the primary is up.
        connected: bool,
    },
    /// Open for writes in the report's epoch.
    Primary,
    /// Was primary of the report's epoch until it was told to step down: read-only, and nothing of it can change.
    SteppedDown,
}

impl MemberRole {
    /// A short name for tables and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Down { .. } => "down",
            Self::Idle => "idle",
            Self::Frozen => "frozen",
            Self::Promoting => "promoting",
            Self::Following { .. } => "replica",
            Self::Primary => "primary",
            Self::SteppedDown => "stepped_down",
        }
    }

    /// Whether it may be open for writes, now or without a further word of the scheduler than may be under way.
    pub const fn may_write(&self) -> bool {
        matches!(self, Self::Primary | Self::Promoting | Self::SteppedDown)
    }

    /// Whether the server process runs and answers.
    pub const fn is_up(&self) -> bool {
        !matches!(self, Self::Starting | Self::Down { .. })
    }
}

/// Why a member cannot be what it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trouble", rename_all = "snake_case")]
pub enum Trouble {
    /// It holds transactions that the primary lacks and must be rebuilt; its binary logs are kept.
    Errant {
        /// Those transactions.
        gtids: String,
    },
    /// The binary logs of the primary do not reach back far enough, so a copy is needed.
    HistoryMissing {
        /// What was tried.
        detail: String,
    },
    /// Its server has failed too often in a short time. It is still started again, but only after a rest.
    Unstable {
        /// How often, and how the last time.
        detail: String,
    },
    /// It could not apply what its primary sends, again and again; what it has received is kept, and tried again.
    Broken {
        /// What stands in the way, in the server's words.
        detail: String,
    },
    /// The disk is full or read-only.
    Storage {
        /// What the server said.
        detail: String,
    },
    /// It lacks data that it must contain to be promoted.
    Incomplete {
        /// What is missing.
        detail: String,
    },
    /// What it has received cannot be applied as things are; it is kept, and tried again.
    Stuck {
        /// What stands in the way, in the server's words.
        detail: String,
    },
    /// Its data directory is not there. A server that runs on with the files that it has open leaves nothing at its end.
    DataGone {
        /// Where it should be, or that the server runs on.
        detail: String,
    },
    /// Its server was killed and does not end: the kernel waits for a disk, for example.
    Hung {
        /// Why it was killed.
        detail: String,
    },
    /// Anything else; it is being tried again.
    Failing {
        /// What was tried and how it failed.
        detail: String,
    },
}

codes! {
    /// Why a member cannot be what it shall be, for programs. The user guide has a line for each: what it means, and what
    /// ends it.
    TroubleCode {
        /// [`Trouble::Errant`]
        Errant = "errant",
        /// [`Trouble::HistoryMissing`]
        HistoryMissing = "history_missing",
        /// [`Trouble::Unstable`]
        Unstable = "unstable",
        /// [`Trouble::Broken`]
        Broken = "broken",
        /// [`Trouble::Storage`]
        Storage = "storage",
        /// [`Trouble::Incomplete`]
        Incomplete = "incomplete",
        /// [`Trouble::Stuck`]
        Stuck = "stuck",
        /// [`Trouble::DataGone`]
        DataGone = "data_gone",
        /// [`Trouble::Hung`]
        Hung = "hung",
        /// [`Trouble::Failing`]
        Failing = "failing",
    }
}

impl Trouble {
    /// Whether it is about what the data lies on.
    pub(crate) const fn is_of_storage(&self) -> bool {
        matches!(self, Self::Storage { .. } | Self::DataGone { .. })
    }

    /// For programs.
    pub const fn code(&self) -> TroubleCode {
        match self {
            Self::Errant { .. } => TroubleCode::Errant,
            Self::HistoryMissing { .. } => TroubleCode::HistoryMissing,
            Self::Unstable { .. } => TroubleCode::Unstable,
            Self::Broken { .. } => TroubleCode::Broken,
            Self::Storage { .. } => TroubleCode::Storage,
            Self::Incomplete { .. } => TroubleCode::Incomplete,
            Self::Stuck { .. } => TroubleCode::Stuck,
            Self::DataGone { .. } => TroubleCode::DataGone,
            Self::Hung { .. } => TroubleCode::Hung,
            Self::Failing { .. } => TroubleCode::Failing,
        }
    }
}

/// One start of one member's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerStart {
    /// Which start of its executor.
    pub incarnation: u64,
    /// Which start of its server within that.
    pub boot: u64,
}

/// A place in a server's binary log: the number of its file, and the offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPlace {
    /// Number of the file.
    pub file: u64,
    /// Offset in that file.
    pub offset: u64,
}

/// What a member is and has, sent on every change and every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each told by its name")]
pub struct Report {
    /// Counts the starts of this member's executor.
    pub incarnation: u64,
    /// Counts the reports of this incarnation.
    pub seq: u64,
    /// Highest [`ToExecutor::Heard::nonce`] seen: the rest of the report was true after the scheduler sent that.
    pub echo: u64,
    /// Epoch of the highest directive it obeys; zero before the first.
    pub epoch: Epoch,
    /// Stage of that directive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// What its server is doing.
    #[serde(flatten)]
    pub role: MemberRole,
    /// Counts the starts of its server process within this incarnation.
    pub boot: u64,
    /// Starts of its server within this incarnation that have ended, and never replicated nor were opened: they have
    /// acknowledged nothing. The newest few; the start in [`Self::boot`] is among them only while no later one replicates.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unattached: BTreeSet<u64>,
    /// Whether this start of its server certainly never was open for writes: all that it has was there before, or was
    /// received.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_opened: bool,
    /// The oldest start of its server of which nothing is lost that it had received or executed. `None` stands for the
    /// present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_since: Option<ServerStart>,
    /// What marks the transactions that are written on this server: MySQL's `server_uuid`, MariaDB's `server_id`; empty
    /// while that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// What the server has received or executed.
    pub position: GtidSet,
    /// How many transactions of that are received and not applied yet; of two equals, the one with fewer opens sooner.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unapplied: u64,
    /// What of [`Self::position`] is applied, while something is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<GtidSet>,
    /// Seconds behind the primary, as its server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<u64>,
    /// How far it has read the primary's binary log, on a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<LogPlace>,
    /// Replicas connected to it, on a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Sessions that wait for an acknowledgement, on a semi-synchronous primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Free bytes where its data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
    /// Whether a commit waits for room on its disk, and with it all that follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits_for_room: bool,
    /// Whether the agent wants it to end, and it goes on until another member has taken its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_to_leave: bool,
    /// Whether its server is open, and waits to be told in this epoch which accounts it shall keep.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accounts_wanted: bool,
    /// Revision of the accounts that its server was told last; it takes no earlier ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub accounts_revision: u64,
    /// Version of its server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_version: String,
    /// Why it is not what it shall be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// How many copies of the data failed in a row.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub failed_copies: u32,
    /// In how many milliseconds the next one is made, after one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_copy_ms: Option<u64>,
}

impl Report {
    /// Whether all of `set` is applied, not only received; false in doubt.
    pub fn has_applied(&self, set: &GtidSet) -> bool {
        match &self.applied {
            Some(applied) => applied.contains(set),
            None => self.unapplied == 0 && self.position.contains(set),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errant { gtids } => write!(f, "holds transactions that the primary lacks: {gtids}"),
            Self::HistoryMissing { detail } => {
                write!(f, "the primary's binary logs do not reach back far enough: {detail}")
            }
            Self::Storage { detail } => write!(f, "storage fails: {detail}"),
            Self::Incomplete { detail } => write!(f, "lacks data that it must have to be promoted: {detail}"),
            Self::Broken { detail } => write!(f, "cannot apply what its primary sends: {detail}"),
            Self::Stuck { detail } => write!(f, "cannot apply what it has received: {detail}"),
            Self::DataGone { detail } => write!(f, "its data is gone: {detail}"),
            Self::Hung { detail } => write!(f, "its server was killed and does not end: {detail}"),
            Self::Unstable { detail } | Self::Failing { detail } => f.write_str(detail),
        }
    }
}
