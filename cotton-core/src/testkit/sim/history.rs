//! What a data directory holds: transactions in the order of its binary log, and how a server names them.

use crate::GtidSet;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Whose notation and rules for GTIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    MariaDb,
}

/// The name of a transaction: where it was first written, and its number there (MySQL) or in the domain (MariaDB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gtid {
    pub(super) origin: u32,
    pub(super) seq: u64,
}

/// A transaction. Its `id` stands for what it does: servers see the name only, checkers see both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Txn {
    pub(super) gtid: Gtid,
    pub(super) id: u64,
}

/// How many marks a member may use up, with new data directories and cut logs; origins are numbered by it.
const GENERATIONS: u32 = 1000;

/// A data directory.
#[derive(Clone, Debug)]
pub(super) struct Data {
    dialect: Dialect,
    origin: u32,
    pub(super) log: Vec<Txn>,
    /// So many transactions at the beginning are no longer in the binary log.
    pub(super) purged: usize,
    /// So many are committed in the engine and visible.
    pub(super) committed: usize,
    /// So many would be found committed by the engine after a crash; the rest is prepared.
    pub(super) flushed: usize,
    /// Whether what is replicated cannot be applied to it, as where a row is missing.
    pub(super) broken: bool,
}

impl Data {
    pub(super) const fn new(dialect: Dialect, server_id: u32, generation: u32) -> Self {
        let origin = server_id * GENERATIONS + generation; // stands for server_uuid and server_id
        Self { dialect, origin, log: Vec::new(), purged: 0, committed: 0, flushed: 0, broken: false }
    }

    /// What a physical copy of `donor` makes of this directory.
    pub(super) fn copied_from(&self, donor: &Self) -> Self {
        let log = donor.log[..donor.committed].to_vec();
        let all = log.len();
        let (dialect, origin) = (self.dialect, self.origin);
        Self { dialect, origin, log, purged: all, committed: all, flushed: all, broken: donor.broken }
    }

    /// Writes a new transaction to the binary log; it is not committed yet.
    pub(super) fn write(&mut self, id: u64) -> Txn {
        let before = match self.dialect {
            Dialect::MySql => self.log.iter().rev().find(|t| t.gtid.origin == self.origin),
            Dialect::MariaDb => self.log.last(),
        };
        let seq = before.map_or(0, |t| t.gtid.seq) + 1;
        let txn = Txn { gtid: Gtid { origin: self.origin, seq }, id };
        self.prepare(txn);
        txn
    }

    /// Applies a replicated transaction. False when the server skips it: it has it already, or takes it for its own.
    pub(super) fn apply(&mut self, txn: Txn) -> bool {
        let own = self.dialect == Dialect::MySql && txn.gtid.origin == self.origin;
        if own || self.has(txn.gtid) {
            return false;
        }
        self.prepare(txn);
        self.committed = self.log.len();
        true
    }

    /// Whether a replicated transaction is out of order: what was written here stands in its place. MariaDB's strict mode
    /// refuses it.
    pub(super) fn refuses(&self, txn: Txn) -> bool {
        let last = self.log.last().map_or(0, |t| t.gtid.seq);
        self.dialect == Dialect::MariaDb && txn.gtid.seq <= last && !self.has(txn.gtid)
    }

    /// The prepare of one transaction makes the engine's commits before it durable.
    fn prepare(&mut self, txn: Txn) {
        self.flushed = self.committed;
        self.log.push(txn);
    }

    /// Crash recovery. What is in the binary log is committed, unless the server was told to cut off what the engine
    /// has only prepared.
    pub(super) fn recover(&mut self, cut: bool) {
        if cut {
            self.log.truncate(self.flushed);
            self.origin += 1; // what was cut off may come back
        }
        self.committed = self.log.len();
        self.flushed = self.log.len();
    }

    /// Whether `other` has transactions that were written here and are not here any more.
    pub(super) fn lacks_own(&self, other: &Self) -> bool {
        let mine = |t: &&Txn| t.gtid.origin == self.origin;
        other.log.iter().filter(mine).any(|t| !self.has(t.gtid))
    }

    /// What marks the transactions that are written here, as the server tells it.
    pub(super) fn origin(&self) -> String {
        match self.dialect {
            Dialect::MySql => format!("{:08x}-0000-0000-0000-000000000000", self.origin),
            Dialect::MariaDb => self.origin.to_string(),
        }
    }

    pub(super) fn has(&self, gtid: Gtid) -> bool {
        self.index_of(gtid).is_some()
    }

    pub(super) fn index_of(&self, gtid: Gtid) -> Option<usize> {
        self.log.iter().rposition(|t| t.gtid == gtid)
    }

    pub(super) fn has_id(&self, id: u64) -> bool {
        self.log.iter().rev().any(|t| t.id == id)
    }

    /// The position as the server tells it, with what was received and not applied.
    pub(super) fn position<'a>(&self, relay: impl DoubleEndedIterator<Item = &'a Txn>) -> GtidSet {
        let why = "the simulator writes valid positions";
        match self.dialect {
            Dialect::MySql => GtidSet::mysql(&uuids(self.log.iter()), &uuids(relay)).expect(why),
            Dialect::MariaDb => {
                let mut last: BTreeMap<u32, u64> = BTreeMap::new();
                for txn in &self.log {
                    last.insert(txn.gtid.origin, txn.gtid.seq);
                }
                let state: Vec<String> = last.iter().map(|(origin, seq)| format!("0-{origin}-{seq}")).collect();
                let name = |t: &Txn| format!("0-{}-{}", t.gtid.origin, t.gtid.seq);
                let applied = self.log.last().map(name).unwrap_or_default();
                let received = relay.last().map(name);
                GtidSet::mariadb(&state.join(","), &applied, received.as_deref()).expect(why)
            }
        }
    }
}

fn uuids<'a>(log: impl Iterator<Item = &'a Txn>) -> String {
    let mut sets: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for txn in log {
        let set = sets.entry(txn.gtid.origin).or_default();
        match set.last_mut() {
            Some((_, last)) if *last + 1 == txn.gtid.seq => *last += 1,
            _ => set.push((txn.gtid.seq, txn.gtid.seq)),
        }
    }
    let mut text = String::new();
    for (origin, intervals) in sets {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{origin:08x}-0000-0000-0000-000000000000").expect("strings take all");
        for (first, last) in intervals {
            write!(text, ":{first}-{last}").expect("strings take all");
        }
    }
    text
}
