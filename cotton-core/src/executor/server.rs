//! What is known of the server: facts only, no decisions.

use super::forgotten::Forgotten;
use super::state::Rank;
use crate::ports::mysql::{Following, LinkState, Promotion, ServerStatus};
use crate::protocol::MemberRole;
use crate::{Epoch, GtidSet, Millis};
use std::collections::BTreeSet;

/// How many starts are remembered that have acknowledged nothing.
const UNATTACHED_MAX: usize = 8;

/// The server as a process with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// No data directory was made or checked in this incarnation.
    Absent,
    /// Not running; its data is there.
    Ready,
    /// Its data is being replaced.
    Copying,
    /// Running.
    Up,
}

/// Whether ordinary users may be able to write. What is not certainly closed counts as open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Read-only, as every start leaves it.
    Closed,
    /// A promotion in this epoch was begun and may or may not have opened it.
    Opening(Epoch),
    /// Open since a promotion in this epoch.
    Open(Epoch),
}

impl Gate {
    /// The epoch in which it is or may be open.
    pub(super) const fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Closed => None,
            Self::Opening(epoch) | Self::Open(epoch) => Some(epoch),
        }
    }
}

/// What the last accomplished order made of the running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing was asked of it since its start.
    Idle,
    /// Receives nothing.
    Frozen(Rank),
    /// Replicates.
    Following {
        epoch: Epoch,
        following: Following,
        /// Whether a probe since then saw the connection up.
        connected: bool,
        /// What a probe since then found wrong: it must be told again.
        broken: Option<String>,
    },
    /// Is the primary.
    Primary {
        epoch: Epoch,
        promotion: Promotion,
        /// Whether a probe since then found it read-only: it must be told again.
        closed: bool,
    },
    /// Was the primary, and is being made read-only; that may have failed half way.
    SteppingDown { epoch: Epoch },
    /// Was the primary: read-only, and nobody waits for an acknowledgement.
    SteppedDown(Rank),
}

/// A position, and what was heard from the scheduler before it was read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) position: GtidSet,
    pub(super) unapplied: u64,
    pub(super) nonce: u64,
}

/// Commits of a crashed primary that perhaps nobody acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The epoch in which it was, or was to be, primary.
    pub(super) epoch: Epoch,
    /// When it went down.
    pub(super) since: Millis,
}

/// Everything known of the server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Process,
    /// Counts its starts.
    pub(super) boot: u64,
    pub(super) gate: Gate,
    /// The promotion that opened this start for writes.
    pub(super) opened_by: Option<Promotion>,
    /// Acknowledgements that a commit needs since the last promotion.
    pub(super) acks: u32,
    /// Whether this start may have replicated or been opened.
    pub(super) attached: bool,
    /// Starts that have ended without that, the newest few.
    unattached: BTreeSet<u64>,
    pub(super) standing: Standing,
    /// Position read in this boot.
    pub(super) seen: Option<Seen>,
    /// What it had received, and has no more.
    pub(super) forgotten: Forgotten,
    /// Newest probe of this boot, and when it began.
    pub(super) status: Option<ServerStatus>,
    pub(super) looked: Millis,
    pub(super) probe_failures: u32,
    /// Whether all that was received is applied, and nothing was received since.
    pub(super) drained: bool,
    /// Last position ever seen, for reports while it is down.
    last_position: GtidSet,
    version: String,
    /// Set when it went down as a primary whose commits are acknowledged: what it has beyond the acknowledged ones may be
    /// dropped once another is primary.
    pub(super) tail: Option<Tail>,
    /// What to report as long as it is not up, or up but not looked at yet, and the start that this belongs to.
    away: (u64, MemberRole),
}

impl Server {
    /// Not started yet. `tail` is the epoch in which it may have been primary when the executor before this one ended.
    pub(super) fn new(tail: Option<Epoch>, now: Millis) -> Self {
        let down = || MemberRole::Down { reason: "its executor was started again".to_owned() };
        Self {
            process: Process::Absent,
            boot: 0,
            gate: Gate::Closed,
            opened_by: None,
            acks: 0,
            attached: false,
            unattached: BTreeSet::new(),
            standing: Standing::Idle,
            seen: None,
            forgotten: Forgotten::default(),
            status: None,
            looked: now,
            probe_failures: 0,
            drained: false,
            last_position: GtidSet::Empty,
            version: String::new(),
            tail: tail.map(|epoch| Tail { epoch, since: now }),
            away: (0, tail.map_or(MemberRole::Starting, |_| down())),
        }
    }

    /// From now on it can be heard that it is down: what it left before the executor was started again waits from now on.
    pub(super) const fn hold_from(&mut self, now: Millis) {
        if let Some(tail) = &mut self.tail {
            tail.since = now;
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.process == Process::Up
    }

    /// A new process runs: read-only, not replicating, not looked at yet.
    pub(super) fn on_up(&mut self, boot: u64) {
        assert!(boot > self.boot, "boot {boot} after {}", self.boot);
        self.clear(Process::Up);
        self.boot = boot;
        self.attached = false;
        self.tail = None;
    }

    /// Whether the running start certainly never was open for writes.
    pub(super) fn never_opened(&self) -> bool {
        self.is_up() && self.gate == Gate::Closed && self.opened_by.is_none()
    }

    /// The process is gone.
    pub(super) fn on_down(&mut self, now: Millis, reason: String) {
        self.tail = self.gate.epoch().filter(|_| self.acks > 0).map(|epoch| Tail { epoch, since: now });
        self.clear(Process::Ready);
        self.away = (self.boot, MemberRole::Down { reason });
    }

    /// Its data is about to be replaced.
    pub(super) fn on_copying(&mut self) {
        self.clear(Process::Copying);
        self.last_position = GtidSet::Empty;
        self.away = (self.boot, MemberRole::Starting);
    }

    /// There is no data any more.
    pub(super) fn on_data_lost(&mut self) {
        self.clear(Process::Absent);
    }

    /// A start failed.
    pub(super) fn on_start_failed(&mut self, reason: String) {
        assert!(!self.is_up(), "a running server is not started");
        if self.boot > 0 {
            self.away = (self.boot, MemberRole::Down { reason });
        }
    }

    /// Replication was set up.
    pub(super) fn on_attached(&mut self, epoch: Epoch, following: Following) {
        self.standing = Standing::Following { epoch, following, connected: false, broken: None };
        self.forgotten.on_attached(epoch);
    }

    /// Takes note of a position. True when something is gone that was there before, and that an earlier start may have
    /// acknowledged.
    ///
    /// A server that receives nothing any more has what it had: an answer that knows less, such as one of an applier that
    /// has failed since, takes nothing of that away.
    #[must_use]
    pub(super) fn on_position(&mut self, position: GtidSet, unapplied: u64, nonce: u64) -> bool {
        assert!(self.is_up(), "positions come from a running server");
        let frozen = matches!(self.standing, Standing::Frozen(_)) && self.forgotten.may_be_kept();
        let before = self.seen.take();
        let nonce = before.as_ref().map_or(nonce, |seen| seen.nonce.max(nonce));
        let lost = before.filter(|seen| !position.contains(&seen.position));
        let (position, unapplied, lost) = match lost {
            Some(seen) if frozen => (seen.position, seen.unapplied.max(1), None),
            lost => (position, unapplied, lost.map(|seen| seen.position)),
        };
        let is_lost = lost.is_some();
        self.forgotten.on_position(&position, lost);
        self.last_position = position.clone();
        self.seen = Some(Seen { position, unapplied, nonce });
        is_lost
    }

    /// The same as [`Self::on_position`], with all that a probe saw.
    #[must_use]
    pub(super) fn on_status(&mut self, status: ServerStatus, nonce: u64) -> bool {
        let is_lost = self.on_position(status.position.clone(), status.unapplied, nonce);
        self.version.clone_from(&status.version);
        self.status = Some(status);
        is_lost
    }

    /// Compares what a probe saw with what was last done, when nothing was done since. True when ordinary users may
    /// write although nobody opened it.
    pub(super) fn judge(&mut self) -> bool {
        let Some(status) = &self.status else { return false };
        match &mut self.standing {
            Standing::Idle | Standing::Frozen(_) | Standing::SteppingDown { .. } | Standing::SteppedDown(_) => {}
            Standing::Following { following, connected, broken, .. } => {
                let link = status.replication.as_ref().filter(|replication| replication.source == following.primary);
                *connected = link.is_some_and(|link| link.link == LinkState::Connected);
                *broken = match link {
                    None => Some("does not replicate from its primary".to_owned()),
                    Some(link) if link.link == LinkState::Stopped || !link.applying => {
                        Some(link.error.clone().unwrap_or_else(|| "replication has stopped".to_owned()))
                    }
                    Some(_) => None,
                };
            }
            Standing::Primary { closed, .. } => *closed = !status.writable,
        }
        status.writable && self.gate == Gate::Closed
    }

    /// The role, and the rank that gave it; `None` where no order did.
    pub(super) fn role(&self) -> (Option<Rank>, MemberRole) {
        if !self.is_up() || self.seen.is_none() {
            return (None, self.away.1.clone());
        }
        match &self.standing {
            Standing::Idle => (None, MemberRole::Idle),
            Standing::Frozen(rank) => (Some(*rank), MemberRole::Frozen),
            Standing::Following { epoch, connected, .. } => {
                (Some(Rank::decided(*epoch)), MemberRole::Following { connected: *connected })
            }
            Standing::Primary { epoch, .. } | Standing::SteppingDown { epoch } => {
                (Some(Rank::decided(*epoch)), MemberRole::Primary)
            }
            Standing::SteppedDown(rank) => (Some(*rank), MemberRole::SteppedDown),
        }
    }

    /// The start of the server that the role belongs to.
    pub(super) const fn role_boot(&self) -> u64 {
        match (self.process, &self.seen) {
            (Process::Up, Some(_)) => self.boot,
            (Process::Up | Process::Absent | Process::Ready | Process::Copying, _) => self.away.0,
        }
    }

    /// The position of this boot or, failing that, the last one known.
    pub(super) fn position(&self) -> &GtidSet {
        self.seen.as_ref().map_or(&self.last_position, |seen| &seen.position)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Whether something that was received is still to be applied before it can be opened.
    pub(super) fn must_drain(&self) -> bool {
        !self.drained && self.seen.as_ref().is_none_or(|seen| seen.unapplied > 0)
    }

    /// So much is not applied, whatever was said before.
    pub(super) fn on_unapplied(&mut self, unapplied: u64) {
        self.drained = false;
        if let Some(seen) = &mut self.seen {
            seen.unapplied = unapplied.max(1);
        }
    }

    /// Starts that have acknowledged nothing, for a report about [`Self::role_boot`].
    pub(super) fn unattached(&self) -> BTreeSet<u64> {
        let replaced = self.is_up() && self.attached; // perhaps by a start that is not reported yet
        self.unattached.iter().copied().filter(|boot| !replaced || *boot != self.role_boot()).collect()
    }

    fn clear(&mut self, process: Process) {
        if self.is_up() && !self.attached {
            self.unattached.insert(self.boot);
            if self.unattached.len() > UNATTACHED_MAX {
                self.unattached.pop_first();
            }
        }
        self.process = process;
        self.gate = Gate::Closed;
        self.opened_by = None;
        self.standing = Standing::Idle;
        self.seen = None;
        self.forgotten = Forgotten::default();
        self.status = None;
        self.probe_failures = 0;
        self.drained = false;
    }
}
