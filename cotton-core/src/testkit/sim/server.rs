//! A model of one MySQL or MariaDB server: what it keeps over a crash, what it acknowledges when, and what it does not.
//!
//! Modelled after what was measured on real servers: the binary log is written before the wait for an acknowledgement
//! (`AFTER_SYNC`), a replica acknowledges what it has received and not yet applied, a restarted replica has forgotten
//! exactly that in some worlds and kept it in others, and crash recovery either commits the unacknowledged tail or cuts it off. The cut goes by what the
//! *engine* knows: also a transaction that was acknowledged to its client is cut off when its commit record in the
//! engine's log was not written out yet, which happens only with the next prepare, or within a second.

use super::history::{Data, Dialect, Txn};
use crate::ports::mysql::{LinkState, Replication, ServerStatus};
use crate::{Endpoint, Epoch, GtidSet, Millis};
use std::collections::{BTreeMap, VecDeque};

/// One server on one agent.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Server {
    dialect: Dialect,
    pub(super) mark: u32,
    generation: u32,
    pub(super) data: Option<Data>,
    /// Number of the running or last start, as the executor counts.
    pub(super) boot: u64,
    pub(super) up: bool,
    pub(super) hung: bool,
    pub(super) clean: bool,
    pub(super) writable: bool,
    /// In which epoch it was opened.
    pub(super) epoch: Epoch,
    pub(super) acks: u32,
    /// Places in the log whose sessions wait for an acknowledgement, and since when.
    pub(super) waiting: VecDeque<(usize, Millis)>,
    /// Whether what is received survives a crash of the process.
    pub(super) keeps_relay: bool,
    /// Whether something that was received is lost since the last start.
    relay_lost: bool,
    /// Whether this start gave up something that it had received.
    pub(super) gave_up: bool,
    /// Received and not applied.
    pub(super) relay: VecDeque<Txn>,
    pub(super) applying: bool,
    /// Until then each transaction takes long to apply, or clients hold the applier back.
    pub(super) slow_until: Millis,
    pub(super) blocked_until: Millis,
    pub(super) link: Option<Link>,
    /// Replicas that are connected, by connection.
    pub(super) dumps: BTreeMap<u64, Dump>,
}

/// The receiving side of replication.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) source: Endpoint,
    pub(super) semi_sync: bool,
    /// Whether the receiving thread runs.
    pub(super) receiving: bool,
    /// Connection and the member at its other end.
    pub(super) connection: Option<(u64, usize)>,
    pub(super) error: Option<String>,
    /// Seconds without a sign of life, and whether a part of the stream was lost.
    pub(super) silent: u32,
    pub(super) deaf: bool,
}

/// The sending side of replication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dump {
    pub(super) replica: usize,
    pub(super) semi_sync: bool,
    /// When the last thing sent arrives: what follows comes later.
    pub(super) last: Millis,
    pub(super) silent: u32,
}

impl Server {
    pub(super) const fn new(dialect: Dialect, mark: u32, keeps_relay: bool) -> Self {
        Self {
            keeps_relay,
            relay_lost: false,
            gave_up: false,
            dialect,
            mark,
            generation: 0,
            data: None,
            boot: 0,
            up: false,
            hung: false,
            clean: true,
            writable: false,
            epoch: Epoch(0),
            acks: 0,
            waiting: VecDeque::new(),
            relay: VecDeque::new(),
            applying: false,
            slow_until: Millis(0),
            blocked_until: Millis(0),
            link: None,
            dumps: BTreeMap::new(),
        }
    }

    pub(super) fn provision(&mut self) {
        if self.data.is_none() {
            self.generation += 100;
            self.data = Some(Data::new(self.dialect, self.mark, self.generation));
        }
    }

    /// Starts the process, and tells whether nothing is lost; `None` when there is nothing to start on.
    pub(super) fn start(&mut self, boot: u64, cut: bool) -> Option<bool> {
        let data = self.data.as_mut()?;
        let mut kept = true;
        if !self.up {
            let cut = cut && !self.clean && self.dialect == Dialect::MariaDb;
            if !self.clean {
                data.recover(cut);
            }
            kept = !cut && !self.relay_lost;
            (self.relay_lost, self.gave_up) = (false, false);
            (self.up, self.hung, self.clean, self.boot) = (true, false, false, boot);
        }
        Some(kept)
    }

    /// The process is gone, with all that it had not written down.
    pub(super) fn down(&mut self) {
        self.up = false;
        self.hung = false;
        self.writable = false;
        self.acks = 0;
        self.waiting.clear();
        if !self.keeps_relay {
            self.lose_relay();
        }
        self.applying = false;
        self.blocked_until = Millis(0); // its clients are gone as well
        self.link = None;
        self.dumps.clear();
    }

    /// What was received and not applied is gone.
    pub(super) fn lose_relay(&mut self) {
        self.keep_of_relay(0);
    }

    /// Of what was received and not applied, only so much is left.
    pub(super) fn keep_of_relay(&mut self, kept: usize) {
        self.relay_lost |= self.relay.len() > kept;
        self.relay.truncate(kept);
    }

    /// Numbers of all transactions that it has, applied or not.
    pub(super) fn held(&self) -> impl Iterator<Item = u64> {
        self.data.iter().flat_map(|data| &data.log).chain(&self.relay).map(|txn| txn.id)
    }

    /// Numbers of those that it has only received.
    pub(super) fn received(&self) -> impl Iterator<Item = u64> {
        let applied = |txn: &&Txn| self.data.as_ref().is_some_and(|data| data.has(txn.gtid));
        self.relay.iter().filter(move |txn| !applied(txn)).map(|txn| txn.id)
    }

    /// Numbers of those that crash recovery cuts off when another has replaced it.
    pub(super) fn tail(&self) -> impl Iterator<Item = u64> {
        self.data
            .iter()
            .filter(|_| !self.up && !self.clean)
            .flat_map(|data| &data.log[data.flushed..])
            .map(|txn| txn.id)
    }

    /// What stands in the way of applying, as the server tells it.
    pub(super) fn obstacle(&self) -> Option<String> {
        let broken = self.data.as_ref().is_some_and(|data| data.broken) && !self.relay.is_empty();
        broken.then(|| "1032: could not execute Update_rows event: row not found".to_owned())
    }

    /// It lies on a disk, without anybody to run it; the next executor counts its starts from the beginning.
    pub(super) fn rest(&mut self) {
        self.down();
        self.boot = 0;
    }

    /// An empty one in its place.
    pub(super) const fn successor(&self) -> Self {
        Self::new(self.dialect, self.mark, self.keeps_relay)
    }

    pub(super) fn answers(&self) -> bool {
        self.up && !self.hung
    }

    pub(super) fn position(&self) -> GtidSet {
        self.data.as_ref().map(|data| data.position(self.relay.iter())).unwrap_or_default()
    }

    /// Only what it has applied.
    pub(super) fn executed(&self) -> GtidSet {
        self.data.as_ref().map(|data| data.position([].iter())).unwrap_or_default()
    }

    /// How many transactions it has received and not applied.
    pub(super) fn unapplied(&self) -> u64 {
        self.relay.len() as u64
    }

    pub(super) fn status(&self) -> ServerStatus {
        let replication = self.link.as_ref().map(|link| Replication {
            source: link.source.clone(),
            link: match (&link.connection, link.receiving) {
                (_, false) => LinkState::Stopped,
                (Some(_), true) => LinkState::Connected,
                (None, true) => LinkState::Connecting,
            },
            applying: self.obstacle().is_none(),
            lag_s: Some(0),
            read_to: None,
            error: link.error.clone().or_else(|| self.obstacle()),
        });
        ServerStatus {
            version: "simulated".to_owned(),
            writable: self.writable,
            position: self.position(),
            unapplied: self.unapplied(),
            origin: self.data.as_ref().map(Data::origin).unwrap_or_default(),
            applied: self.executed(),
            replication,
            replicas: u32::try_from(self.dumps.len()).unwrap_or(u32::MAX),
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            disk_free_bytes: Some(1 << 40),
            waits_for_room: false,
            data_gone: false,
        }
    }

    /// Stops receiving and forgets the connection; what was received stays and is applied.
    pub(super) fn stop_receiving(&mut self) -> Option<(u64, usize)> {
        let link = self.link.as_mut()?;
        link.receiving = false;
        link.connection.take()
    }

    /// What a replica that asks must be sent first, and the place in the log up to which that goes.
    ///
    /// # Errors
    /// When it cannot be served from here, in the server's words.
    pub(super) fn backlog(&self, replica: &Self) -> Result<Vec<Txn>, &'static str> {
        let (Some(mine), Some(theirs)) = (&self.data, &replica.data) else { return Err("no data") };
        let has = |txn: &Txn| theirs.has(txn.gtid) || replica.relay.iter().any(|t| t.gtid == txn.gtid);
        match self.dialect {
            Dialect::MySql => {
                if mine.log[..mine.purged].iter().any(|t| !has(t)) {
                    return Err("1236: the source has purged required binary logs");
                }
                Ok(mine.log[mine.purged..].iter().filter(|t| !has(t)).copied().collect())
            }
            Dialect::MariaDb => {
                let last = replica.relay.back().or_else(|| theirs.log.last());
                let from = match last {
                    None => 0,
                    Some(txn) => {
                        mine.index_of(txn.gtid).ok_or("1236: requested GTID is not in the master's binlog")? + 1
                    }
                };
                if from < mine.purged {
                    return Err("1236: could not find GTID state requested by slave in any binlog files");
                }
                Ok(mine.log[from..].to_vec())
            }
        }
    }

    /// Whether its binary logs reach back to what `replica` has applied.
    pub(super) fn reaches_back_to(&self, replica: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (&self.data, &replica.data) else { return false };
        match self.dialect {
            Dialect::MySql => mine.log[..mine.purged].iter().all(|t| theirs.has(t.gtid)),
            Dialect::MariaDb => {
                let from = theirs.log.last().map_or(Some(0), |t| mine.index_of(t.gtid).map(|i| i + 1));
                from.is_none_or(|from| from >= mine.purged)
            }
        }
    }

    /// Applies so many of those that were received.
    pub(super) fn drain(&mut self, most: usize) -> Vec<Txn> {
        let mut applied = Vec::new();
        for _ in 0..most {
            let before = self.relay.len();
            applied.extend(self.apply());
            if self.relay.len() == before {
                break;
            }
        }
        applied
    }

    /// Applies the next that was received, if that goes; gives it when it was not there yet.
    pub(super) fn apply(&mut self) -> Option<Txn> {
        let (data, next) = (self.data.as_mut()?, *self.relay.front()?);
        data.broken |= data.refuses(next);
        if data.broken {
            return None;
        }
        self.relay.pop_front();
        data.apply(next).then_some(next)
    }

    /// Opens for writes in an epoch.
    pub(super) fn open(&mut self, epoch: Epoch, acks: u32) {
        self.link = None;
        self.acks = acks;
        self.epoch = epoch;
        self.writable = true;
        if let Some(data) = &mut self.data {
            data.broken = false; // what it has is right from now on
        }
    }

    /// Releases every session up to this place in the log; gives the transactions that their clients now know done.
    pub(super) fn release(&mut self, upto: usize) -> Vec<Txn> {
        let Some(data) = self.data.as_mut() else { return Vec::new() };
        let mut done = Vec::new();
        while let Some((place, _)) = self.waiting.pop_front_if(|(place, _)| *place <= upto) {
            data.committed = data.committed.max(place + 1);
            done.push(data.log[place]);
        }
        done
    }
}
