//! A cluster of three under load whose primary is lost again and again, on whatever runs it.
//!
//! The client is one that follows the API: it keeps the event stream open, and connects to the member that it names once
//! it names it, so that its times contain the publication of the new primary and a fresh connection.

use crate::measurement::ms;
use cotton_tests::{Api, Client, Cluster, Event, Failure, Member, Process, Wanted, Writer, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Of clusters that are measured.
pub(crate) const NAME: &str = "bench";
/// Far more than any step takes.
pub(crate) const STEP: Duration = Duration::from_mins(1);
/// Four writers that together commit some hundred rows a second, about as many as one that never pauses.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);
const ROWS_BETWEEN: usize = 300;

/// Finds the server of a member.
pub(crate) type ServerOf<'a> = &'a dyn Fn(&Member) -> Result<Process, Failure>;

/// See the module.
pub(crate) struct Load {
    api: Api,
    client: Client,
    writer: Writer,
    /// As it was seen last, healthy.
    pub(crate) cluster: Cluster,
}

/// Times of one failover.
pub(crate) struct Round {
    pub(crate) write: Duration,
    pub(crate) replica_row: Duration,
    /// Milliseconds since the kill, phase by phase.
    pub(crate) phases: [f64; 5],
}

impl Load {
    /// Makes the cluster and begins to write.
    pub(crate) async fn start(api: Api) -> Result<Self, Failure> {
        let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
        let created = api.create(NAME, &wanted).await?;
        let cluster = api.until_healthy(NAME, STEP).await?;
        let client = Client::new(wanted.user, created.password);
        let writer = Writer::start_paced(&api, NAME, client.clone(), CONNECTIONS, PAUSE).await?;
        Ok(Self { api, client, writer, cluster })
    }

    /// Kills the primary's server so many times.
    pub(crate) async fn fail_over(&mut self, rounds: usize, server_of: ServerOf<'_>) -> Result<Vec<Round>, Failure> {
        let mut all = Vec::new();
        for number in 1..=rounds {
            let round = self.fail_over_once(server_of).await?;
            let phases = round.phases.map(|ms| format!("{ms:.0}")).join(", ");
            println!(
                "failover {number:2}: write after {:.1} ms, row on the replica after {:.1} ms (phases: {phases})",
                ms(round.write),
                ms(round.replica_row)
            );
            all.push(round);
        }
        Ok(all)
    }

    async fn fail_over_once(&mut self, server_of: ServerOf<'_>) -> Result<Round, Failure> {
        self.settle().await?;
        let old = self.cluster.primary()?;
        let mut readers = BTreeMap::new();
        for replica in self.cluster.replicas() {
            readers.insert(replica.endpoint.port, self.client.connect(&replica.endpoint).await?);
        }
        // a member that was replaced a moment ago may have received everything and still be applying it: that is another case
        if let Some(last) = self.writer.last() {
            for reader in readers.values_mut() {
                until_there(reader, last.id).await?;
            }
        }
        let seen = self.api.events(NAME, 0).await?.last().map_or(0, |event| event.number);
        let server = server_of(old)?;
        let killed_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
        let killed = Instant::now();
        server.kill();
        let first = self.writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
        readers.remove(&first.port);
        let (_, mut reader) = readers.pop_first().ok_or_else(|| Failure::new("there is no other replica"))?;
        let replica_row = until_there(&mut reader, first.id).await?.duration_since(killed);
        self.until_whole().await?;
        let timeline = self.cluster.last_failover.as_ref();
        let timeline = timeline.ok_or_else(|| Failure::new("the API tells of no failover"))?;
        let events = self.api.events(NAME, seen).await?;
        let lost = events.iter().find(|event: &&Event| event.kind == "primary_lost");
        let lost = lost.ok_or_else(|| Failure::new("no event tells of the loss"))?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century are exact")]
        let since = |ms: u64| (lost.unix_ms as f64 - killed_unix_ms + ms as f64).max(0.0);
        let phases =
            [0, timeline.checkpointed_ms, timeline.frozen_ms, timeline.decided_ms, timeline.promoted_ms].map(since);
        Ok(Round { write: first.at.duration_since(killed), replica_row, phases })
    }

    /// Switches over once, and tells the longest pause between two acknowledged writes.
    pub(crate) async fn switch_over_once(&mut self) -> Result<Duration, Failure> {
        self.settle().await?;
        let old = self.cluster.primary()?.endpoint.port;
        let asked = Instant::now();
        self.api.switchover(NAME, None).await?;
        self.writer.first_elsewhere(old, asked, STEP).await?;
        self.until_whole().await?;
        Ok(self.writer.longest_pause(asked))
    }

    /// Readers that rest on both replicas hold up a change of the table that is written to, and all that comes after it;
    /// then the primary's server is killed. Gives the time to the first acknowledged write.
    pub(crate) async fn fail_over_blocked_once(&mut self, server_of: ServerOf<'_>) -> Result<Duration, Failure> {
        const HELD_UP: usize = 50;
        self.settle().await?;
        let old = self.cluster.primary()?;
        let mut readers = Vec::new();
        for replica in self.cluster.replicas() {
            let mut reader = self.client.connect(&replica.endpoint).await?;
            reader.query_drop("BEGIN").await?;
            let _: Option<u64> = reader.query_first("SELECT COUNT(*) FROM cotton_test.rows").await?;
            readers.push(reader);
        }
        let change = format!("ALTER TABLE cotton_test.rows COMMENT = 'epoch {}'", self.cluster.epoch);
        self.client.run(&old.endpoint, &change).await?;
        self.writer.progress(HELD_UP, STEP).await?;
        let server = server_of(old)?;
        let killed = Instant::now();
        server.kill();
        let first = self.writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
        self.until_whole().await?;
        drop(readers);
        Ok(first.at.duration_since(killed))
    }

    /// Waits until it has written for a while.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        self.writer.progress(ROWS_BETWEEN, STEP).await
    }

    /// The time from `since` to the first acknowledged write on another member than the primary that was.
    pub(crate) async fn first_elsewhere(&self, since: Instant) -> Result<Duration, Failure> {
        let port = self.cluster.primary()?.endpoint.port;
        Ok(self.writer.first_elsewhere(port, since, STEP).await?.at.duration_since(since))
    }

    /// Waits until it is healthy under another primary than before.
    pub(crate) async fn until_whole(&mut self) -> Result<(), Failure> {
        let epoch = self.cluster.epoch;
        let whole = |c: &Cluster| c.epoch > epoch && c.is_healthy();
        self.cluster = self.api.until(NAME, STEP, "failed over and whole", whole).await?;
        Ok(())
    }

    /// Stops writing; every acknowledged row must be on all members.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let rows = self.writer.finish_and_compare(&self.cluster.endpoints()?, STEP).await?;
        println!("all {rows} acknowledged rows are on all members");
        Ok(())
    }
}

/// Waits until a row is there; asks again at once, as fast as the server answers.
async fn until_there(conn: &mut Conn, id: u64) -> Result<Instant, Failure> {
    let query = format!("SELECT 1 FROM cotton_test.rows WHERE id = {id}");
    let found = async {
        while conn.query_first::<u8, _>(&query).await?.is_none() {}
        Ok::<_, Failure>(Instant::now())
    };
    within(STEP, "the row on the replica", found).await?
}
