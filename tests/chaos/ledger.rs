//! Clients that move money between accounts, and a book of what was acknowledged to them.
//!
//! Every move has a number, and what it moves follows from its number: so each row that is found was attempted or was
//! not, and every balance follows from the rows. Most clients write where they are told the primary is; some write to
//! every member that they have ever known, as clients do that know nothing better. What is acknowledged to any of them
//! counts.

use crate::rng::mix;
use cotton_core::Endpoint;
use cotton_tests::{Api, Client, Failure, until_told};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, RwLock, watch};
use tokio::task::JoinSet;

/// How many accounts there are.
const ACCOUNTS: u64 = 40;
/// What each begins with.
const BALANCE: u64 = 1_000_000;
/// Clients that follow the primary.
const FOLLOWERS: usize = 3;
/// A pause after each move: three servers share the cores of this machine with it.
const PACE: Duration = Duration::from_millis(15);
/// A pause of a client that knows nothing better, and a look at where the primary is.
const LOOK: Duration = Duration::from_millis(150);
/// How long a client waits for an answer before it tries anew, and never learns what became of it.
const ANSWER: Duration = Duration::from_secs(20);
/// More members than this are not written to at a time.
const KNOWN: usize = 12;

/// What one number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) id: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) amount: u64,
}

impl Move {
    /// That with this number.
    pub(crate) fn number(id: u64) -> Self {
        let from = mix(id) % ACCOUNTS;
        let to = (from + 1 + mix(id ^ 0xabcd) % (ACCOUNTS - 1)) % ACCOUNTS;
        Self { id, from, to, amount: 1 + mix(id ^ 0x1234) % 100 }
    }
}

/// A move that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Ack {
    port: u16,
    begun: Instant,
    done: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    file: PathBuf,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    next: AtomicU64,
    acks: Mutex<Vec<Ack>>,
    acked: Notify,
    /// Held for reading by whoever writes a move; for writing, nobody does.
    quiet: RwLock<()>,
    told: watch::Sender<Option<Endpoint>>,
    known: watch::Sender<BTreeSet<u16>>,
    to_disk: mpsc::Sender<u64>,
}

impl Shared {
    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Makes the tables and begins to write.
    pub(crate) async fn start(
        api: &Api,
        cluster: &str,
        client: Client,
        primary: &Endpoint,
        dir: &Path,
    ) -> Result<Self, Failure> {
        for statement in [
            "CREATE DATABASE chaos".to_owned(),
            "CREATE TABLE chaos.moves (id BIGINT PRIMARY KEY, source INT, target INT, amount INT)".to_owned(),
            "CREATE TABLE chaos.accounts (id INT PRIMARY KEY, balance BIGINT)".to_owned(),
        ] {
            client.run(primary, &statement).await?;
        }
        let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id},{BALANCE})")).collect();
        client.run(primary, &format!("INSERT INTO chaos.accounts VALUES {}", rows.join(","))).await?;
        std::fs::create_dir_all(dir)?;
        let file = dir.join(format!("ledger-{}", std::process::id()));
        let (to_disk, acknowledged) = mpsc::channel();
        let disk = File::create(&file)?;
        std::thread::spawn(move || keep(disk, &acknowledged));
        let shared = Arc::new(Shared {
            client,
            next: AtomicU64::new(1),
            acks: Mutex::default(),
            acked: Notify::new(),
            quiet: RwLock::new(()),
            told: watch::Sender::new(Some(primary.clone())),
            known: watch::Sender::new(BTreeSet::new()),
            to_disk,
        });
        let mut clients = JoinSet::new();
        for _ in 0..FOLLOWERS {
            clients.spawn(follower(Arc::clone(&shared)));
        }
        clients.spawn(look(Arc::clone(&shared), api.clone(), cluster.to_owned()));
        clients.spawn(know_nothing_better(Arc::clone(&shared)));
        Ok(Self { shared, clients, file })
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.acks().len()
    }

    /// Where its clients write.
    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Waits for so many more.
    pub(crate) async fn progress(&self, more: usize, limit: Duration) -> Result<(), Failure> {
        let wanted = self.count() + more;
        let what = format!("{more} more acknowledged moves");
        until_told(limit, &what, &self.shared.acked, || self.count() >= wanted).await
    }

    /// Waits until nothing is being written, and keeps it so as long as the value lives.
    pub(crate) async fn quiet(&self) -> impl Drop + '_ {
        self.shared.quiet.write().await
    }

    /// Numbers of all acknowledged moves, as they are on disk.
    pub(crate) fn acknowledged(&self) -> Result<BTreeSet<u64>, Failure> {
        let wanted = self.count();
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.file)?;
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole); // the last line may be half there
            let found: BTreeSet<u64> = whole.lines().filter_map(|line| line.parse().ok()).collect();
            if found.len() >= wanted {
                return Ok(found);
            }
            if begun.elapsed() > ANSWER {
                return Err(Failure::new(format!("the ledger has {} of {wanted} rows", found.len())));
            }
            std::thread::sleep(Duration::from_millis(5)); // another thread writes it
        }
    }

    /// Whether a move with this number was tried.
    pub(crate) fn was_tried(&self, id: u64) -> bool {
        (1..self.shared.next.load(Ordering::SeqCst)).contains(&id)
    }

    /// How often another server than before acknowledged what it was asked for after the one before had acknowledged
    /// something. Each needs a promotion; a server that takes writes beside the primary makes more.
    pub(crate) fn switches(&self, since: Instant) -> usize {
        let mut acks: Vec<Ack> = self.shared.acks().iter().filter(|ack| ack.done >= since).copied().collect();
        acks.sort_by_key(|ack| ack.done);
        let Some(mut current) = acks.first().copied() else { return 0 };
        let mut switches = 0;
        for ack in acks {
            if ack.port != current.port && ack.begun > current.done {
                switches += 1;
                current = ack;
            }
        }
        switches
    }

    /// Every balance, as it follows from these moves.
    pub(crate) fn balances(moves: &[Move]) -> BTreeMap<u64, i128> {
        let mut all: BTreeMap<u64, i128> = (0..ACCOUNTS).map(|id| (id, i128::from(BALANCE))).collect();
        for one in moves {
            *all.entry(one.from).or_default() -= i128::from(one.amount);
            *all.entry(one.to).or_default() += i128::from(one.amount);
        }
        all
    }

    /// Stops, and forgets what is on disk.
    pub(crate) async fn finish(mut self) {
        self.clients.shutdown().await;
        let _gone = std::fs::remove_file(&self.file);
    }
}

/// Puts acknowledged numbers on disk, all that have come at once.
fn keep(mut disk: File, acknowledged: &mpsc::Receiver<u64>) {
    while let Ok(first) = acknowledged.recv() {
        let all = std::iter::once(first).chain(acknowledged.try_iter()).map(|id| id.to_string());
        let text = all.collect::<Vec<_>>().join("\n") + "\n";
        if let Err(error) = disk.write_all(text.as_bytes()).and_then(|()| disk.sync_data()) {
            eprintln!("chaos: the ledger cannot be written: {error}"); // it is missed when it is read
            return;
        }
    }
}

/// Keeps up with what the API says.
async fn look(shared: Arc<Shared>, api: Api, cluster: String) {
    loop {
        if let Ok(Some(seen)) = api.cluster(&cluster).await {
            shared.known.send_if_modified(|known| {
                let before = known.len();
                known.extend(seen.members.iter().map(|member| member.endpoint.port));
                while known.len() > KNOWN {
                    known.pop_first();
                }
                known.len() != before
            });
            if seen.endpoint.is_some() {
                shared.told.send_if_modified(|told| {
                    let differs = *told != seen.endpoint;
                    told.clone_from(&seen.endpoint);
                    differs
                });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes where it is told to, on a connection that it keeps.
async fn follower(shared: Arc<Shared>) {
    let mut told = shared.told.subscribe();
    let mut open: Option<(Conn, Endpoint)> = None;
    loop {
        tokio::time::sleep(PACE).await;
        let Some(endpoint) = told.borrow_and_update().clone() else { continue };
        let _writing = shared.quiet.read().await;
        let conn = open.take().filter(|(_, to)| *to == endpoint).map(|(conn, _)| conn);
        tokio::select! {
            done = write(&shared, &endpoint, conn) => open = done.map(|conn| (conn, endpoint)),
            _ = told.changed() => {} // what becomes of it does not matter here
        }
    }
}

/// Writes to every member that was ever heard of.
async fn know_nothing_better(shared: Arc<Shared>) {
    let mut clients: BTreeMap<u16, tokio::task::AbortHandle> = BTreeMap::new();
    let mut all = JoinSet::new();
    let mut known = shared.known.subscribe();
    loop {
        let ports = known.borrow_and_update().clone();
        clients.retain(|port, client| {
            let stays = ports.contains(port);
            if !stays {
                client.abort();
            }
            stays
        });
        for port in ports {
            clients.entry(port).or_insert_with(|| all.spawn(stays_with(Arc::clone(&shared), port)));
        }
        if known.changed().await.is_err() {
            return;
        }
    }
}

async fn stays_with(shared: Arc<Shared>, port: u16) {
    let Some(host) = shared.told.borrow().as_ref().map(|told| told.host.clone()) else { return };
    let endpoint = Endpoint { host, port };
    let mut open = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let _writing = shared.quiet.read().await;
        open = write(&shared, &endpoint, open.take()).await;
    }
}

/// Tries one move; gives the connection back when it can be used again.
async fn write(shared: &Shared, endpoint: &Endpoint, open: Option<Conn>) -> Option<Conn> {
    let tried = async {
        let mut conn = if let Some(conn) = open {
            conn
        } else {
            let mut conn = shared.client.connect(endpoint).await.ok()?;
            conn.query_drop("SET SESSION innodb_lock_wait_timeout = 5").await.ok()?;
            conn
        };
        let one = Move::number(shared.next.fetch_add(1, Ordering::SeqCst));
        let Move { id, from, to, amount } = one;
        let mut steps = [(from, format!("balance - {amount}")), (to, format!("balance + {amount}"))];
        steps.sort(); // in one order, so that no two wait for each other
        let begun = Instant::now();
        conn.query_drop("BEGIN").await.ok()?;
        for (account, balance) in steps {
            conn.query_drop(format!("UPDATE chaos.accounts SET balance = {balance} WHERE id = {account}"))
                .await
                .ok()?;
        }
        conn.query_drop(format!("INSERT INTO chaos.moves VALUES ({id}, {from}, {to}, {amount})")).await.ok()?;
        conn.query_drop("COMMIT").await.ok()?;
        shared.acks().push(Ack { port: endpoint.port, begun, done: Instant::now() });
        let _missed_when_read = shared.to_disk.send(id);
        shared.acked.notify_waiters();
        Some(conn)
    };
    tokio::time::timeout(ANSWER, tried).await.ok().flatten()
}
