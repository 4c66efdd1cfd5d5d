//! MySQL servers in memory, with GTIDs, replication and semi-sync, as far as the port shows them.
//!
//! Replication takes no time: what a replica can receive, it has. What it cannot (cut off, frozen, down) waits.

use crate::gtid::MySqlGtids;
use crate::ports::mysql::{
    Drained, Exit, Followed, Following, Frozen, LinkState, MySql, Promoted, Promotion, Replication, ServerStatus,
    Started,
};
use crate::{Endpoint, ErrorKind, GtidSet, PortError};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Servers that can reach each other; clones share them.
#[derive(Clone, Debug, Default)]
pub struct FakeNetwork {
    shared: Arc<Mutex<Shared>>,
}

/// One of them. See the module.
#[derive(Clone, Debug)]
pub struct FakeMySql {
    network: FakeNetwork,
    endpoint: Endpoint,
}

/// What became of a client's commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Acknowledged to the client.
    Acknowledged(GtidSet),
    /// In the server's log, but no replica has it: the client waits.
    Waiting(GtidSet),
    /// Nothing happened: no server, or a read-only one.
    Refused,
}

#[derive(Debug, Default)]
struct Shared {
    servers: BTreeMap<Endpoint, Server>,
    cuts: BTreeSet<(Endpoint, Endpoint)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Process {
    /// There is no data directory.
    #[default]
    NoData,
    Down,
    Up,
    /// Runs and answers nothing.
    Hung,
}

#[derive(Debug, Default)]
struct Server {
    /// Makes its transactions its own.
    number: usize,
    process: Process,
    writable: bool,
    acks: u32,
    executed: MySqlGtids,
    purged: MySqlGtids,
    committed: u64,
    waiting: u32,
    source: Option<Following>,
    receiving: bool,
    failures: VecDeque<(&'static str, ErrorKind)>,
    calls: Vec<&'static str>,
    exits: VecDeque<Exit>,
    watchers: Vec<Waker>,
}

impl FakeNetwork {
    /// No servers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server at this endpoint; made on first use, without data.
    pub fn server(&self, endpoint: &Endpoint) -> FakeMySql {
        let mut shared = self.shared();
        let number = shared.servers.len() + 1;
        shared.servers.entry(endpoint.clone()).or_insert_with(|| Server { number, ..Server::default() });
        drop(shared);
        FakeMySql { network: self.clone(), endpoint: endpoint.clone() }
    }

    /// A client commits one transaction.
    ///
    /// # Panics
    /// Never: what is made up here is a valid GTID.
    pub fn write(&self, endpoint: &Endpoint) -> Commit {
        let mut shared = self.shared();
        let Some(server) = shared.servers.get_mut(endpoint) else { return Commit::Refused };
        if server.process != Process::Up || !server.writable {
            return Commit::Refused;
        }
        server.committed += 1;
        let uuid = format!("{}:{}", server.origin(), server.committed);
        let transaction: MySqlGtids = uuid.parse().expect("a valid GTID");
        server.executed = server.executed.union(&transaction);
        server.waiting += u32::from(server.acks > 0);
        shared.replicate();
        let server = &shared.servers[endpoint];
        if server.waiting > 0 { Commit::Waiting(transaction.into()) } else { Commit::Acknowledged(transaction.into()) }
    }

    /// Cuts the connection between two servers, or mends it.
    pub fn cut(&self, a: &Endpoint, b: &Endpoint, cut: bool) {
        let mut shared = self.shared();
        for pair in [(a.clone(), b.clone()), (b.clone(), a.clone())] {
            if cut {
                shared.cuts.insert(pair)
            } else {
                shared.cuts.remove(&pair)
            };
        }
        shared.replicate();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeMySql {
    /// Ends the process as `SIGKILL` by somebody else would.
    pub fn crash(&self) {
        self.with(|server| server.end("signal 9", false));
    }

    /// Lets the process answer nothing any more, or go on.
    pub fn hang(&self, hung: bool) {
        self.with(|server| match server.process {
            Process::Up if hung => server.process = Process::Hung,
            Process::Hung if !hung => server.process = Process::Up,
            Process::NoData | Process::Down | Process::Up | Process::Hung => {}
        });
        self.network.shared().replicate();
    }

    /// Lets somebody else open or close the server for writes.
    pub fn set_writable(&self, writable: bool) {
        self.with(|server| server.writable = writable);
    }

    /// Throws away the binary logs up to here.
    pub fn purge(&self) {
        self.with(|server| server.purged = server.executed.clone());
    }

    /// Lets the next call of this name (`"start"`, `"promote"`, ...) fail.
    pub fn fail_next(&self, operation: &'static str, kind: ErrorKind) {
        self.with(|server| server.failures.push_back((operation, kind)));
    }

    /// The names of all calls so far, except probes.
    pub fn calls(&self) -> Vec<&'static str> {
        self.with(|server| server.calls.clone())
    }

    /// Whether its process runs and ordinary users may write.
    pub fn is_writable(&self) -> bool {
        self.with(|server| server.runs() && server.writable)
    }

    /// What it has executed.
    pub fn executed(&self) -> GtidSet {
        self.with(|server| server.executed.clone().into())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        let mut shared = self.network.shared();
        act(shared.servers.get_mut(&self.endpoint).expect("a handle is of a server"))
    }

    /// Notes the call, and fails when it shall or when the server does not answer.
    fn called(&self, operation: &'static str, needs_server: bool) -> Result<(), PortError> {
        self.with(|server| {
            server.calls.push(operation);
            if let Some((_, kind)) = server.failures.pop_front_if(|(name, _)| *name == operation) {
                return Err(PortError::temporary(kind, operation, "as the test wanted"));
            }
            server.answers(operation, needs_server)
        })
    }
}

impl Shared {
    fn connected(&self, a: &Endpoint, b: &Endpoint) -> bool {
        let up = |endpoint| self.servers.get(endpoint).is_some_and(|server| server.process == Process::Up);
        up(a) && up(b) && !self.cuts.contains(&(a.clone(), b.clone()))
    }

    /// Lets every replica receive what it can, over any number of hops, and answers the sessions that waited for it.
    fn replicate(&mut self) {
        for _ in 0..self.servers.len() {
            let endpoints: Vec<Endpoint> = self.servers.keys().cloned().collect();
            for replica in &endpoints {
                let Some(source) = self.receives_from(replica) else { continue };
                let executed = self.servers[&source].executed.clone();
                if let Some(replica) = self.servers.get_mut(replica) {
                    replica.executed = replica.executed.union(&executed);
                }
            }
        }
        let acks: Vec<(Endpoint, u32)> = self.servers.keys().map(|e| (e.clone(), self.replicas(e, true))).collect();
        for (endpoint, acks) in acks {
            if let Some(server) = self.servers.get_mut(&endpoint)
                && acks >= server.acks
            {
                server.waiting = 0;
            }
        }
    }

    fn receives_from(&self, replica: &Endpoint) -> Option<Endpoint> {
        let server = self.servers.get(replica).filter(|server| server.receiving)?;
        let source = server.source.as_ref()?.primary.clone();
        self.connected(replica, &source).then_some(source)
    }

    fn replicas(&self, source: &Endpoint, only_semi_sync: bool) -> u32 {
        let of = |(endpoint, server): &(&Endpoint, &Server)| {
            let counts = !only_semi_sync || server.source.as_ref().is_some_and(|following| following.semi_sync);
            counts && self.receives_from(endpoint).as_ref() == Some(source)
        };
        u32::try_from(self.servers.iter().filter(of).count()).unwrap_or(u32::MAX)
    }
}

impl Server {
    fn answers(&self, operation: &'static str, needs_server: bool) -> Result<(), PortError> {
        match self.process {
            Process::NoData | Process::Down if needs_server => {
                Err(PortError::temporary(ErrorKind::Unreachable, operation, "the server does not run"))
            }
            Process::Hung if needs_server => {
                Err(PortError::temporary(ErrorKind::Timeout, operation, "the server does not answer"))
            }
            Process::NoData | Process::Down | Process::Up | Process::Hung => Ok(()),
        }
    }

    fn origin(&self) -> String {
        format!("00000000-0000-0000-0000-{:012x}", self.number)
    }

    fn runs(&self) -> bool {
        matches!(self.process, Process::Up | Process::Hung)
    }

    fn must_be_read_only(&self, operation: &'static str) -> Result<(), PortError> {
        if self.writable {
            return Err(PortError::permanent(ErrorKind::Conflict, operation, "the server is writable"));
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.process = Process::Up;
        self.writable = false;
        self.acks = 0;
        self.waiting = 0;
        self.source = None;
        self.receiving = false;
    }

    fn end(&mut self, description: &str, expected: bool) {
        if !self.runs() {
            return;
        }
        self.process = Process::Down;
        self.writable = false;
        self.waiting = 0;
        self.receiving = false;
        self.exits.push_back(Exit { description: description.to_owned(), expected });
        self.watchers.drain(..).for_each(Waker::wake);
    }
}

#[async_trait]
impl MySql for FakeMySql {
    async fn provision(&self) -> Result<(), PortError> {
        self.called("provision", false)?;
        self.with(|server| {
            if server.process == Process::NoData {
                server.process = Process::Down;
            }
        });
        Ok(())
    }

    async fn start(&self) -> Result<Started, PortError> {
        self.called("start", false)?;
        self.with(|server| {
            if server.process == Process::NoData {
                return Err(PortError::permanent(ErrorKind::DataGone, "start", "there is no data directory"));
            }
            if !server.runs() {
                server.begin();
            }
            Ok(Started { kept: true }) // all that it receives is executed at once
        })
    }

    async fn exited(&self) -> Exit {
        poll_fn(|context| {
            self.with(|server| {
                if server.exits.is_empty() {
                    server.watchers.push(context.waker().clone());
                }
                server.exits.pop_front().map_or(Poll::Pending, Poll::Ready)
            })
        })
        .await
    }

    async fn kill(&self) {
        self.with(|server| {
            server.calls.push("kill");
            server.end("signal 9", true);
        });
        self.network.shared().replicate();
    }

    async fn stop(&self, _grace_ms: u64) {
        self.with(|server| {
            server.calls.push("stop");
            server.end("status 0", true);
        });
        self.network.shared().replicate();
    }

    async fn probe(&self) -> Result<ServerStatus, PortError> {
        let shared = self.network.shared();
        let server = &shared.servers[&self.endpoint];
        server.answers("probe", true)?;
        let link = |following: &Following| match shared.connected(&self.endpoint, &following.primary) {
            _ if !server.receiving => LinkState::Stopped,
            true => LinkState::Connected,
            false => LinkState::Connecting,
        };
        Ok(ServerStatus {
            version: "fake".to_owned(),
            writable: server.writable,
            position: server.executed.clone().into(),
            unapplied: 0,
            origin: server.origin(),
            applied: server.executed.clone().into(),
            replication: server.source.as_ref().map(|following| Replication {
                source: following.primary.clone(),
                link: link(following),
                applying: true,
                lag_s: Some(0),
                read_to: None,
                error: None,
            }),
            replicas: shared.replicas(&self.endpoint, false),
            waiting: server.waiting,
            disk_free_bytes: None,
            waits_for_room: false,
            data_gone: false,
        })
    }

    async fn freeze(&self) -> Result<Frozen, PortError> {
        self.called("freeze", true)?;
        self.with(|server| {
            server.must_be_read_only("freeze")?;
            server.receiving = false;
            Ok(Frozen { position: server.executed.clone().into(), unapplied: 0, obstacle: None })
        })
    }

    async fn step_down(&self, _grace_ms: u64) -> Result<Frozen, PortError> {
        self.called("step_down", true)?;
        self.with(|server| {
            if server.waiting > 0 {
                let context = format!("{} sessions wait for an acknowledgement", server.waiting);
                return Err(PortError::temporary(ErrorKind::Timeout, "step_down", context));
            }
            server.writable = false;
            Ok(Frozen { position: server.executed.clone().into(), unapplied: 0, obstacle: None })
        })
    }

    async fn drain(&self, _budget_ms: u64) -> Result<Drained, PortError> {
        self.called("drain", true)?;
        self.with(|server| {
            server.must_be_read_only("drain")?;
            server.receiving = false;
            Ok(Drained { position: server.executed.clone().into(), unapplied: 0, done: true, obstacle: None })
        })
    }

    async fn promote(&self, promotion: &Promotion) -> Result<Promoted, PortError> {
        self.called("promote", true)?;
        let promoted = self.with(|server| {
            let executed = GtidSet::from(server.executed.clone());
            if !executed.contains(&promotion.must_contain) {
                return Promoted::Incomplete(promotion.must_contain.to_string());
            }
            server.source = None;
            server.receiving = false;
            server.acks = promotion.acks;
            server.writable = true;
            Promoted::Writable(executed)
        });
        self.network.shared().replicate();
        Ok(promoted)
    }

    async fn follow(&self, following: &Following) -> Result<Followed, PortError> {
        self.called("follow", true)?;
        let mut shared = self.network.shared();
        let server = &shared.servers[&self.endpoint];
        server.must_be_read_only("follow")?;
        if !shared.connected(&self.endpoint, &following.primary) {
            let context = format!("primary {}", following.primary);
            return Err(PortError::temporary(ErrorKind::Unreachable, "follow", context));
        }
        let primary = &shared.servers[&following.primary];
        let errant = server.executed.subtract(&primary.executed);
        if !errant.is_empty() {
            return Ok(Followed::Errant(errant.to_string()));
        }
        let missing = primary.purged.subtract(&server.executed);
        if !missing.is_empty() {
            return Ok(Followed::HistoryMissing(missing.to_string()));
        }
        if let Some(server) = shared.servers.get_mut(&self.endpoint) {
            server.source = Some(following.clone());
            server.receiving = true;
        }
        shared.replicate();
        Ok(Followed::Attached)
    }

    async fn copy_from(&self, donor: &Endpoint) -> Result<Started, PortError> {
        let wanted = self.called("copy_from", false);
        let mut shared = self.network.shared();
        let copy = shared.servers.get(donor).filter(|donor| donor.process == Process::Up);
        let copy = copy.map(|donor| (donor.executed.clone(), donor.purged.clone()));
        let server = shared.servers.get_mut(&self.endpoint).expect("a handle is of a server");
        server.end("status 0", true);
        let had_data = server.process != Process::NoData;
        let had = std::mem::take(&mut server.executed);
        server.process = Process::NoData;
        wanted?;
        let Some((executed, purged)) = copy else {
            return Err(PortError::temporary(ErrorKind::Unreachable, "copy from", donor.to_string()));
        };
        if !executed.contains(&had) {
            (server.process, server.executed) = (Process::Down, had);
            return Err(PortError::temporary(ErrorKind::Other, "copy from", "it lacks what is here"));
        }
        // A copy has no binary logs of its own: it can give nothing that is older.
        server.purged = purged.union(&executed);
        server.executed = executed;
        server.begin();
        Ok(Started { kept: had_data })
    }
}
