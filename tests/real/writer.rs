//! A client that writes numbered rows for as long as it lives, follows the primary as the API tells it, and remembers
//! every row that was acknowledged.

use crate::{Api, Client, Failure, until_told, within};
use cotton_core::Endpoint;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

/// All numbers that were written.
const NUMBERS: &str = "SELECT id FROM cotton_test.rows";
/// A pause after a refused connection or statement: a busy loop would take the cores from what is being tested.
const PAUSE: Duration = Duration::from_millis(2);

/// A row that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Its number.
    pub id: u64,
    /// When the acknowledgement arrived.
    pub at: Instant,
    /// Port of the member that gave it.
    pub port: u16,
}

/// How long a statement may take that was under way when the writer was told to stop: a commit waits for the disks of two
/// members. Without it, what comes late is written all the same.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where to write, and since when that is known.
#[derive(Clone, Debug)]
struct Told {
    endpoint: Endpoint,
    since: Instant,
}

impl Told {
    fn now(endpoint: Endpoint) -> Self {
        Self { endpoint, since: Instant::now() }
    }
}

/// Writing connections; see the module.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    client: Client,
    told: watch::Sender<Told>,
    stop: watch::Sender<bool>,
    writers: JoinSet<()>,
    follower: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    acked: Notify,
    next: AtomicU64,
    /// See [`Writer::refused`].
    refused: AtomicU64,
}

impl Shared {
    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that member has acknowledged anything since it was told as primary.
    fn was_open(&self, told: &Told) -> bool {
        let acks = self.acks();
        acks.iter().rev().take_while(|ack| ack.at >= told.since).any(|ack| ack.port == told.endpoint.port)
    }
}

impl Writer {
    /// Makes the table and starts to write with that many connections, as fast as they can.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub async fn start(api: &Api, cluster: &str, client: Client, connections: usize) -> Result<Self, Failure> {
        Self::start_paced(api, cluster, client, connections, Duration::ZERO).await
    }

    /// As [`start`](Self::start), with a pause after each row: primary and replicas share the cores of one machine here,
    /// and writers without a pause take from replicas what they need to keep up.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub async fn start_paced(
        api: &Api,
        cluster: &str,
        client: Client,
        connections: usize,
        pause: Duration,
    ) -> Result<Self, Failure> {
        let primary = api.until(cluster, Duration::from_secs(90), "writable", |c| c.endpoint.is_some()).await?;
        let missing = || Failure::new("the cluster has no endpoint");
        let endpoint = primary.endpoint.ok_or_else(missing)?;
        client.run(&endpoint, "CREATE DATABASE IF NOT EXISTS cotton_test").await?;
        let table =
            "CREATE TABLE IF NOT EXISTS cotton_test.rows (id BIGINT PRIMARY KEY, text VARCHAR(100)) ENGINE=InnoDB";
        client.run(&endpoint, table).await?;
        let last = client.numbers(&endpoint, NUMBERS).await?.last().copied().unwrap_or_default();
        let shared = Arc::new(Shared { next: AtomicU64::new(last + 1), ..Shared::default() });
        let (told, stop) = (watch::Sender::new(Told::now(endpoint)), watch::Sender::new(false));
        let mut writers = JoinSet::new();
        for _ in 0..connections {
            let (shared, client) = (Arc::clone(&shared), client.clone());
            writers.spawn(write(shared, client, pause, told.subscribe(), stop.subscribe()));
        }
        let follower = tokio::spawn(follow(api.clone(), cluster.to_owned(), told.clone()));
        Ok(Self { shared, client, told, stop, writers, follower })
    }

    /// The newest acknowledged row.
    pub fn last(&self) -> Option<Ack> {
        self.shared.acks().last().copied()
    }

    /// Rows acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.acks().len()
    }

    /// Writes that a member told as primary refused because it was read-only, as long as it had not acknowledged any: it
    /// was told before it was open. (One that was killed refuses, too, when it is back before others have taken over.)
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Of the account that it writes with.
    pub fn password(&self) -> &str {
        self.client.password()
    }

    /// Where it writes now.
    pub fn endpoint(&self) -> Endpoint {
        self.told.borrow().endpoint.clone()
    }

    /// Waits until that many more rows are acknowledged.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn progress(&self, more: usize, limit: Duration) -> Result<(), Failure> {
        let wanted = self.count() + more;
        let what = format!("{more} more acknowledged rows");
        until_told(limit, &what, &self.shared.acked, || self.count() >= wanted).await
    }

    /// Waits for the first acknowledgement of another member than that with `port`.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn first_elsewhere(&self, port: u16, since: Instant, limit: Duration) -> Result<Ack, Failure> {
        let found = async {
            loop {
                let acked = self.shared.acked.notified();
                let newest =
                    self.shared.acks().iter().rev().take_while(|ack| ack.at >= since).copied().collect::<Vec<_>>();
                if let Some(ack) = newest.into_iter().rev().find(|ack| ack.port != port) {
                    return ack;
                }
                acked.await;
            }
        };
        within(limit, "a write on another member", found).await
    }

    /// The time without an acknowledgement until the first of another member than that which was written to at `at`.
    /// (Answers of one that was just killed may still be on their way.)
    pub fn outage(&self, at: Instant) -> Option<Duration> {
        let acks = self.shared.acks();
        let old = acks.iter().filter(|ack| ack.at <= at).max_by_key(|ack| ack.at)?.port;
        let first = acks.iter().filter(|ack| ack.at > at && ack.port != old).map(|ack| ack.at).min()?;
        let last = acks.iter().map(|ack| ack.at).filter(|at| *at < first).max()?;
        Some(first.duration_since(last))
    }

    /// The longest time without an acknowledgement from `since` to now.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let acks: Vec<Instant> = self.shared.acks().iter().map(|ack| ack.at).filter(|at| *at > since).collect();
        let ends = acks.iter().copied().chain([Instant::now()]);
        let begins = [since].into_iter().chain(acks.iter().copied());
        begins.zip(ends).map(|(begin, end)| end.saturating_duration_since(begin)).max().unwrap_or_default()
    }

    /// Stops, and tells the numbers of all acknowledged rows.
    pub async fn finish(mut self) -> BTreeSet<u64> {
        self.stop.send_replace(true);
        self.follower.abort();
        while self.writers.join_next().await.is_some() {}
        self.shared.acks().iter().map(|ack| ack.id).collect()
    }

    /// Stops, and makes sure that every acknowledged row is on all these members, and the same rows on each of them.
    ///
    /// # Errors
    /// When a row is missing in the end, or members differ.
    pub async fn finish_and_compare(self, members: &[Endpoint], limit: Duration) -> Result<usize, Failure> {
        let client = self.client.clone();
        let acknowledged = self.finish().await;
        Self::compare(&client, &acknowledged, members, limit).await?;
        Ok(acknowledged.len())
    }

    /// Makes sure that these rows are on all these members (the first of which is the primary), and the same rows on
    /// each of them.
    ///
    /// # Errors
    /// When a row is missing in the end, or members differ.
    pub async fn compare(
        client: &Client,
        acknowledged: &BTreeSet<u64>,
        members: &[Endpoint],
        limit: Duration,
    ) -> Result<(), Failure> {
        let Some((primary, replicas)) = members.split_first() else { return Ok(()) };
        let all = client.numbers(primary, NUMBERS).await?;
        let lost: Vec<_> = acknowledged.difference(&all).collect();
        if !lost.is_empty() {
            let words = format!("{} of {} acknowledged rows are lost: {lost:?}", lost.len(), acknowledged.len());
            return Err(Failure::new(words));
        }
        for replica in replicas {
            let found = client.until_has(replica, NUMBERS, &all, limit).await?;
            // A replica may have a row before the primary shows it, which waits for the replica's acknowledgement.
            if !found.is_subset(&all) {
                let same = client.until_has(primary, NUMBERS, &found, limit).await;
                same.map_err(|failure| Failure::new(format!("{replica} has rows that the primary lacks: {failure}")))?;
            }
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Keeps up with the endpoint that the API tells: by its event stream, and by a look at each start of one.
async fn follow(api: Api, cluster: String, told: watch::Sender<Told>) {
    let tell = |new: Endpoint| {
        told.send_if_modified(|old| {
            let differs = old.endpoint != new;
            if differs {
                *old = Told::now(new);
            }
            differs
        });
    };
    loop {
        if let Ok(mut events) = api.stream(&cluster, None).await {
            if let Ok(Some(found)) = api.cluster(&cluster).await
                && let Some(found) = found.endpoint
            {
                tell(found);
            }
            while let Some(event) = events.next().await {
                if event.kind == "promoted"
                    && let Some(new) = event.endpoint()
                {
                    tell(new);
                }
            }
        }
        tokio::time::sleep(PAUSE * 10).await; // it is being restarted
    }
}

async fn write(
    shared: Arc<Shared>,
    client: Client,
    pause: Duration,
    mut primary: watch::Receiver<Told>,
    stop: watch::Receiver<bool>,
) {
    let mut open: Option<(Conn, u16)> = None;
    loop {
        let told = primary.borrow_and_update().clone();
        // A commit may wait for an acknowledgement for ever; what becomes of it does not matter when the primary changes.
        let mut changes = primary.clone();
        let attempt = async {
            let endpoint = &told.endpoint;
            let (mut conn, port) = match open.take().filter(|(_, port)| *port == endpoint.port) {
                Some(open) => open,
                None => (client.try_connect(endpoint).await.ok()?, endpoint.port),
            };
            let id = shared.next.fetch_add(1, Ordering::SeqCst);
            match conn.query_drop(format!("INSERT INTO cotton_test.rows VALUES ({id}, 'row {id}')")).await {
                Ok(()) => {
                    shared.acks().push(Ack { id, at: Instant::now(), port });
                    shared.acked.notify_waiters();
                    Some((conn, port))
                }
                Err(mysql_async::Error::Server(error)) if matches!(error.code, 1290 | 1836) => {
                    shared.refused.fetch_add(u64::from(!shared.was_open(&told)), Ordering::SeqCst);
                    None
                }
                Err(_) => None,
            }
        };
        tokio::select! {
            done = attempt => {
                open = done;
                if open.is_none() {
                    tokio::select! {
                        _ = primary.changed() => {}
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
            _ = changes.changed() => open = None,
            () = overdue(stop.clone()) => return,
        }
        if *stop.borrow() {
            return;
        }
        if !pause.is_zero() && open.is_some() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// What is under way may end by itself, so that nothing is written later than the writer says.
async fn overdue(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        tokio::time::sleep(PATIENCE).await;
    }
}
