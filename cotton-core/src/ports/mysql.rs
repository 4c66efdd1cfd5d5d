//! One MySQL or MariaDB server, as a process and as an SQL endpoint.
//!
//! Every call has a time limit of its own inside the adapter and may be repeated. Whoever calls runs one operation
//! at a time; only `probe`, `exited` and `kill` may run beside another.

use crate::account::Accounts;
use crate::protocol::LogPlace;
use crate::{Endpoint, GtidSet, PortError};
use async_trait::async_trait;

/// State of a replica's connection to its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Receiving.
    Connected,
    /// Trying to connect.
    Connecting,
    /// Not trying.
    Stopped,
}

/// How replication goes on a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Where it replicates from.
    pub source: Endpoint,
    /// The receiving side.
    pub link: LinkState,
    /// Whether received transactions are being applied.
    pub applying: bool,
    /// Seconds behind, where the server knows.
    pub lag_s: Option<u64>,
    /// How far it has read the primary's binary log.
    pub read_to: Option<LogPlace>,
    /// What the server says is wrong.
    pub error: Option<String>,
}

/// What a probe finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Version as the server tells it.
    pub version: String,
    /// Whether ordinary users may write.
    pub writable: bool,
    /// Received or executed.
    pub position: GtidSet,
    /// How many transactions are received and not applied yet.
    pub unapplied: u64,
    /// What marks the transactions that are written here: MySQL's `server_uuid`, MariaDB's `server_id`.
    pub origin: String,
    /// What of [`Self::position`] is applied.
    pub applied: GtidSet,
    /// Present on a replica.
    pub replication: Option<Replication>,
    /// Semi-synchronous replicas (or just replicas, where the server has no semi-sync) connected to it.
    pub replicas: u32,
    /// Sessions waiting for an acknowledgement.
    pub waiting: u32,
    /// Free bytes where the data is.
    pub disk_free_bytes: Option<u64>,
    /// Whether a commit waits for room on the disk, and with it all that follow. It goes on up to a minute after there is
    /// room; a session that is ended before breaks off what it writes, in the middle of the binary log.
    pub waits_for_room: bool,
    /// Whether its data directory was removed, and it runs on with the files that it has open.
    pub data_gone: bool,
}

/// What a server has that receives nothing any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Received or executed; cannot grow by replication.
    pub position: GtidSet,
    /// How many transactions are received and not applied yet: a promotion has to wait for them.
    pub unapplied: u64,
    /// Why they will not be applied as things are, in the server's words: the applier has stopped with an error. They
    /// are in `position` all the same, and stay where they are.
    pub obstacle: Option<String>,
}

/// How far a server has come with applying what it received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Received or executed.
    pub position: GtidSet,
    /// How many transactions of that are received and not applied yet.
    pub unapplied: u64,
    /// Whether all that was received is executed.
    pub done: bool,
    /// What stands in the way, if something does: an applier that has stopped with an error, or a lock that could not
    /// be freed.
    pub obstacle: Option<String>,
}

/// What a start found of what the process before it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Whether all that the process before it had received or executed is still here: it was stopped cleanly, or what
    /// it had received has survived, too, and counts in the position. Also true of the first start on new data, and of a
    /// copy that has all that the data had which it replaced. False in doubt, such as after a crash of the machine, in
    /// which relay logs are not durable.
    pub kept: bool,
}

/// How to open for writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// What the data must contain once all that was received is applied.
    pub must_contain: GtidSet,
    /// Replicas that must acknowledge a commit; 0 is asynchronous.
    pub acks: u32,
}

/// How to replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The primary.
    pub primary: Endpoint,
    /// Whether to acknowledge what is received.
    pub semi_sync: bool,
}

/// What became of an attempt to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Replication is running; `probe` tells whether it is connected yet.
    Attached,
    /// The server holds these transactions, which the primary lacks. Nothing was changed.
    Errant(String),
    /// The primary's binary logs do not reach back to what this server has. Nothing was received from it.
    HistoryMissing(String),
}

/// What became of a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// Open for writes; this was applied before.
    Writable(GtidSet),
    /// The data lacks some of what it must contain. Still read-only.
    Incomplete(String),
    /// Something that was received is not applied yet, so nothing was done. Still read-only; [`MySql::drain`] first.
    Applying {
        /// How many transactions.
        unapplied: u64,
    },
}

/// How a server process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For people: `signal 9`, `status 1`, with the last line of its error log where that tells more.
    pub description: String,
    /// Whether we had asked it to stop.
    pub expected: bool,
}

/// One server on this machine.
#[async_trait]
pub trait MySql: Send + Sync {
    /// Makes the data directory with all accounts, if there is none yet. Never leaves a half-made one behind.
    ///
    /// # Errors
    /// When the server's programs are missing or fail; says which and what to install.
    async fn provision(&self) -> Result<(), PortError>;

    /// Starts the server, read-only and not replicating, and returns when it answers. Starting a running one succeeds.
    ///
    /// # Errors
    /// When it does not answer in time or exits; it is then not running.
    async fn start(&self) -> Result<Started, PortError>;

    /// As [`MySql::start`], for a former primary that another one has replaced for good.
    ///
    /// Its last commits, which nobody acknowledged, may be cut off, so that it can follow without being rebuilt
    /// (MariaDB: `init-rpl-role=SLAVE`). That is only safe after the other primary has opened: crash recovery cuts what
    /// the engine has not made durable, and the very last acknowledged commits may be among that.
    ///
    /// # Errors
    /// As [`MySql::start`].
    async fn start_replaced(&self) -> Result<Started, PortError> {
        self.start().await
    }

    /// Waits until the running server's process has ended, however it ends. Each start is answered once.
    async fn exited(&self) -> Exit;

    /// Ends the process at once (SIGKILL); returns when it is gone. This is the fence: whatever waits for an
    /// acknowledgement is never answered. Killing what does not run succeeds.
    async fn kill(&self);

    /// Ends the process cleanly; after `grace_ms` with SIGKILL. Returns when it is gone.
    async fn stop(&self, grace_ms: u64);

    /// Looks at the server; an unanswered probe ends with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    ///
    /// # Errors
    /// When the server does not answer.
    async fn probe(&self) -> Result<ServerStatus, PortError>;

    /// Stops receiving, goes on applying. Must only be called on a read-only server. Nothing that was received is lost by
    /// it, whether it can be applied or not.
    ///
    /// # Errors
    /// When that is not certain.
    async fn freeze(&self) -> Result<Frozen, PortError>;

    /// Makes an open server read-only and waits until no commit is under way, so that nothing of it can change any more.
    /// Running transactions may go on for `grace_ms` if they hold this up, then they are broken off. Sessions of clients
    /// are ended. A read-only server just tells its position.
    ///
    /// A commit that waits for an acknowledgement is never answered by this, but waited for; its connection may be cut.
    ///
    /// # Errors
    /// When commits still wait at the end, or it is not certain to be read-only. It may be open or not then; nothing of
    /// this goes on once the call has returned, and [`MySql::promote`] opens it again.
    async fn step_down(&self, grace_ms: u64) -> Result<Frozen, PortError>;

    /// Stops receiving, ends sessions of clients that hold the applier back, and waits until all that was received is
    /// applied, for at most `budget_ms`. The server stays read-only, and nothing that was received is lost. Being slow
    /// is no failure, nor is an applier that cannot go on: the answer tells.
    ///
    /// # Errors
    /// When the server does not answer, or is open for writes.
    async fn drain(&self, budget_ms: u64) -> Result<Drained, PortError>;

    /// Forgets the old primary, sets semi-sync, opens for writes, once all that was received is applied.
    ///
    /// # Errors
    /// When it is not certain to be writable as asked; a repeated call mends a half-done one. All that was received is
    /// applied then: a server that is killed after that has lost nothing.
    async fn promote(&self, promotion: &Promotion) -> Result<Promoted, PortError>;

    /// Replicates from a primary, after making sure that nothing here is missing there. The server must be read-only.
    ///
    /// # Errors
    /// When replication could not be set up, for example because the primary cannot be reached yet.
    async fn follow(&self, following: &Following) -> Result<Followed, PortError>;

    /// Replaces this server's data by a copy of a donor's, taken while the donor works. The server is stopped before
    /// and started after, read-only and not replicating. A copy that lacks something of what the data had is refused.
    ///
    /// # Errors
    /// When no complete copy was made. The server is stopped then, and must be provisioned again where its data directory
    /// is gone.
    async fn copy_from(&self, donor: &Endpoint) -> Result<Started, PortError>;

    /// Says which accounts the cluster shall have. Returns at once: they are made and changed while, and as soon as, this
    /// server is primary and was told in this term. Lower revisions than one that was seen change nothing.
    fn set_accounts(&self, accounts: Accounts) {
        let _ = accounts;
    }
}
