//! Failover, creation and the executors' memory, on real servers.
//!
//! The client is one that follows the API: it keeps the event stream open, and connects to the member that it names once
//! it names it, so that its times contain the publication of the new primary and a fresh connection.

use crate::Effort;
use crate::measurement::{Measurement, ms};
use cotton_tests::{Client, Cluster, Event, Failure, Flavour, Options, RealCotton, Wanted, Writer, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NAME: &str = "bench";
/// Four writers that together commit some hundred rows a second, about as many as one that never pauses.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);
const ROWS_BETWEEN: usize = 300;
const STEP: Duration = Duration::from_mins(1);

/// Times of one failover.
struct Round {
    write: Duration,
    replica_row: Duration,
    /// Milliseconds since the kill, phase by phase.
    phases: [f64; 5],
}

const PHASES: [&str; 5] = [
    "failover.noticed_ms",
    "failover.epoch_durable_ms",
    "failover.frozen_ms",
    "failover.decided_ms",
    "failover.promoted_ms",
];

pub(crate) async fn failover(effort: Effort) -> Result<Vec<Measurement>, Failure> {
    Flavour::MariaDb.require()?;
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create(NAME, &wanted).await?;
    let mut cluster = api.until_healthy(NAME, STEP).await?;
    let client = Client::new(wanted.user, created.password);
    let writer = Writer::start_paced(&api, NAME, client.clone(), CONNECTIONS, PAUSE).await?;
    let mut rounds = Vec::new();
    for number in 1..=effort.rounds(40, 5) {
        writer.progress(ROWS_BETWEEN, STEP).await?;
        let round;
        (round, cluster) = one(&cotton, &cluster, &client, &writer).await?;
        let phases = round.phases.map(|ms| format!("{ms:.0}")).join(", ");
        println!(
            "failover {number:2}: write after {:.1} ms, row on the replica after {:.1} ms (phases: {phases})",
            ms(round.write),
            ms(round.replica_row)
        );
        rounds.push(round);
    }
    let executors = cotton.executors().into_values().map(|executor| resident_mb(executor.pid));
    let executors = executors.collect::<Result<Vec<_>, _>>()?;
    let acknowledged = writer.finish().await;
    let members = cluster.endpoints()?;
    Writer::compare(&client, &acknowledged, &members, STEP).await?;
    println!("failover: all {} acknowledged rows are on all members", acknowledged.len());
    let times = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let mut all = vec![
        Measurement::of("failover.kill_to_write_ms", &times(|round| ms(round.write))),
        Measurement::of("failover.kill_to_replica_row_ms", &times(|round| ms(round.replica_row))),
    ];
    for (at, name) in PHASES.into_iter().enumerate() {
        all.push(Measurement::of(name, &rounds.iter().map(|round| round.phases[at]).collect::<Vec<_>>()));
    }
    all.push(Measurement::of("memory.executor_mb", &executors));
    Ok(all)
}

async fn one(
    cotton: &RealCotton,
    cluster: &Cluster,
    client: &Client,
    writer: &Writer,
) -> Result<(Round, Cluster), Failure> {
    let api = cotton.api();
    let old = cluster.primary()?;
    let mut readers = BTreeMap::new();
    for replica in cluster.replicas() {
        readers.insert(replica.endpoint.port, client.connect(&replica.endpoint).await?);
    }
    // a member that was replaced a moment ago may have received everything and still be applying it: that is another case
    if let Some(last) = writer.last() {
        for reader in readers.values_mut() {
            until_there(reader, last.id).await?;
        }
    }
    let seen = api.events(NAME, 0).await?.last().map_or(0, |event| event.number);
    let server = cotton.server(&old.task)?;
    let killed_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
    let killed = Instant::now();
    server.kill();
    let first = writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    readers.remove(&first.port);
    let (_, mut reader) = readers.pop_first().ok_or_else(|| Failure::new("there is no other replica"))?;
    let replica_row = until_there(&mut reader, first.id).await?.duration_since(killed);
    let epoch = cluster.epoch;
    let after = api.until(NAME, STEP, "failed over and whole", |c| c.epoch > epoch && c.is_healthy()).await?;
    let timeline = after.last_failover.clone().ok_or_else(|| Failure::new("the API tells of no failover"))?;
    let events = api.events(NAME, seen).await?;
    let lost = events.iter().find(|event: &&Event| event.kind == "primary_lost");
    let lost = lost.ok_or_else(|| Failure::new("no event tells of the loss"))?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century are exact")]
    let since = |ms: u64| (lost.unix_ms as f64 - killed_unix_ms + ms as f64).max(0.0);
    let phases =
        [0, timeline.checkpointed_ms, timeline.frozen_ms, timeline.decided_ms, timeline.promoted_ms].map(since);
    Ok((Round { write: first.at.duration_since(killed), replica_row, phases }, after))
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

/// From the request to a cluster that is writable with two replicas attached.
pub(crate) async fn create(effort: Effort) -> Result<Measurement, Failure> {
    Flavour::MariaDb.require()?;
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let mut times = Vec::new();
    for number in 1..=effort.rounds(20, 3) {
        let name = format!("{NAME}{number}");
        let start = Instant::now();
        let created = api.create(&name, &Wanted::small(3)).await?;
        let cluster = api.until_healthy(&name, STEP).await?;
        times.push(ms(start.elapsed()));
        println!("create {number:2}: {:.0} ms", ms(start.elapsed()));
        let client = Client::new("app", created.password.clone());
        client.run(&cluster.primary()?.endpoint, "CREATE DATABASE it_is_writable").await?;
        api.delete(&name, &created.password).await?;
        api.until_gone(&name, STEP).await?;
    }
    Ok(Measurement::of("create.three_members_ms", &times))
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mb(pid: u32) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Failure::new(format!("process {pid} tells no resident memory")))
}
