//! Failovers whose winner has received much that it has not applied yet.

use crate::Effort;
use crate::load::{Load, NAME, STEP};
use crate::measurement::{Measurement, ms};
use cotton_core::Endpoint;
use cotton_tests::{Client, Cluster, Failure, Flavour, Options, RealCotton, Wanted, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Connections that make changes.
const CONNECTIONS: u64 = 4;
/// Every so many rows, some rows of a table without a key are changed, which costs appliers far more than the primary.
const CHANGE_EVERY: u64 = 20;
/// Rows of that table.
const KEYLESS: u64 = 2_000;
/// Far more than appliers need.
const APPLIED: Duration = Duration::from_mins(10);

/// Readers that rest on both replicas, and an `ALTER TABLE`.
pub(crate) async fn blocked(effort: Effort) -> Result<Measurement, Failure> {
    let cotton = start().await?;
    let mut load = Load::start(cotton.api()).await?;
    let mut times = Vec::new();
    for number in 1..=effort.rounds(40, 5) {
        let write = ms(load.fail_over_blocked_once(&|member| cotton.server(&member.task)).await?);
        println!("failover with blocked appliers {number:2}: write after {write:.0} ms");
        times.push(write);
    }
    load.finish().await?;
    Ok(Measurement::of("failover.blocked_applier_ms", &times))
}

/// Changes of 30 s are received by both replicas and applied by none. Once the applier of one is let go, and nothing else
/// happens; once both are, and the primary is killed at that moment and does not come back, as it would within two seconds,
/// with all that is to be applied. The time to the first acknowledged write of the latter, as
/// a multiple of what the applier needed in the former.
pub(crate) async fn backlog(effort: Effort) -> Result<Measurement, Failure> {
    let cotton = start().await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create(NAME, &wanted).await?;
    let client = Client::new(wanted.user, created.password);
    let mut cluster = api.until_healthy(NAME, STEP).await?;
    prepare(&client, &cluster.primary()?.endpoint).await?;
    let time = Duration::from_secs(if effort.quick { 5 } else { 30 });
    let mut ratios = Vec::new();
    let mut rows = 0;
    // the first one only makes files grow to the size that they have from then on
    for number in 0..=effort.rounds(5, 1) {
        let mut held = hold_up(&client, &cluster).await?;
        let primary = cluster.primary()?.endpoint.clone();
        let begun = Instant::now();
        let made = change(&client, &primary, rows, &|_| begun.elapsed() < time).await?;
        rows += made;
        let bare = apply(&mut held, &client, &cluster).await?;
        drop(held);
        api.until_healthy(NAME, APPLIED).await?;

        let held = hold_up(&client, &cluster).await?;
        let before = rows;
        rows += change(&client, &primary, rows, &|more| more < made / CONNECTIONS).await?;
        nothing_is_applied(&client, &cluster, before).await?;
        let (old, epoch) = (&cluster.primary()?.task, cluster.epoch);
        let (server, executor) = (cotton.server(old)?, cotton.executor(old)?);
        let killed = Instant::now();
        drop(held);
        server.kill();
        api.until(NAME, STEP, "an election", |c| c.epoch > epoch).await?;
        executor.signal(Signal::STOP);
        let opens = api.until(NAME, APPLIED, "open again", |c| c.epoch > epoch && c.endpoint.is_some()).await?;
        let open = opens.endpoint.ok_or_else(|| Failure::new("it has no endpoint"))?;
        client.run(&open, "INSERT INTO backlog.opened VALUES (NULL)").await?;
        let promotion = killed.elapsed();
        executor.signal(Signal::CONT);
        let there = client.numbers(&open, "SELECT COUNT(*) FROM backlog.rows").await?;
        if !there.contains(&rows) {
            return Err(Failure::new(format!("{there:?} rows are there of {rows} that were acknowledged")));
        }
        let ratio = promotion.as_secs_f64() / bare.as_secs_f64();
        println!(
            "backlog {number}: {made} rows, applied in {:.0} ms, and in a failover in {:.0} ms: {ratio:.2}",
            ms(bare),
            ms(promotion)
        );
        ratios.extend((number > 0).then_some(ratio));
        cluster = api.until(NAME, APPLIED, "failed over and whole", |c| c.epoch > epoch && c.is_healthy()).await?;
    }
    Ok(Measurement::of("failover.backlog_ratio", &ratios))
}

async fn start() -> Result<RealCotton, Failure> {
    Flavour::MariaDb.require()?;
    RealCotton::start(Options { agents: 3, ..Options::default() }).await
}

async fn prepare(client: &Client, primary: &Endpoint) -> Result<(), Failure> {
    for statement in [
        "CREATE DATABASE backlog",
        "CREATE TABLE backlog.rows (id BIGINT PRIMARY KEY, text VARCHAR(200))",
        "CREATE TABLE backlog.keyless (a INT, c INT)",
        "CREATE TABLE backlog.opened (id INT PRIMARY KEY AUTO_INCREMENT)",
    ] {
        client.run(primary, statement).await?;
    }
    let rows: Vec<String> = (0..KEYLESS).map(|n| format!("({n},0)")).collect();
    client.run(primary, &format!("INSERT INTO backlog.keyless VALUES {}", rows.join(","))).await
}

/// Sessions on replicas that hold all appliers up, as long as they live.
async fn hold_up(client: &Client, cluster: &Cluster) -> Result<Vec<Conn>, Failure> {
    let mut held = Vec::new();
    for replica in cluster.replicas() {
        let mut reader = client.connect(&replica.endpoint).await?;
        reader.query_drop("BEGIN").await?;
        let _: Option<u64> = reader.query_first("SELECT COUNT(*) FROM backlog.opened").await?;
        held.push(reader);
    }
    client.run(&cluster.primary()?.endpoint, "ALTER TABLE backlog.opened COMMENT = 'held up'").await?;
    Ok(held)
}

/// Writes rows after the first `from`, on each connection as long as it shall go on; gives their number.
async fn change(
    client: &Client,
    primary: &Endpoint,
    from: u64,
    goes_on: &(dyn Fn(u64) -> bool + Sync),
) -> Result<u64, Failure> {
    let writers = (0..CONNECTIONS).map(async |writer| {
        let mut conn = client.connect(primary).await?;
        let mut made = 0;
        while goes_on(made) {
            let id = from * 10 + made * CONNECTIONS + writer;
            conn.query_drop(format!("INSERT INTO backlog.rows VALUES ({id}, REPEAT('x', 200))")).await?;
            if made % CHANGE_EVERY == writer {
                let first = id % KEYLESS;
                let update = format!("UPDATE backlog.keyless SET c = c + 1 WHERE a BETWEEN {first} AND {first} + 9");
                conn.query_drop(update).await?;
            }
            made += 1;
        }
        Ok::<u64, Failure>(made)
    });
    Ok(futures::future::try_join_all(writers).await?.into_iter().sum())
}

/// Or there would be nothing to measure.
async fn nothing_is_applied(client: &Client, cluster: &Cluster, before: u64) -> Result<(), Failure> {
    for replica in cluster.replicas() {
        let there = client.numbers(&replica.endpoint, "SELECT COUNT(*) FROM backlog.rows").await?;
        if !there.contains(&before) {
            return Err(Failure::new(format!("{} is not held up: it has {there:?}, not {before} rows", replica.task)));
        }
    }
    Ok(())
}

/// Lets one applier go and waits until it has applied everything.
async fn apply(held: &mut Vec<Conn>, client: &Client, cluster: &Cluster) -> Result<Duration, Failure> {
    const POSITION: &str = "SELECT @@GLOBAL.gtid_binlog_pos";
    let replica = cluster.replicas().last().ok_or_else(|| Failure::new("there is no replica"))?;
    let mut primary = client.connect(&cluster.primary()?.endpoint).await?;
    let wanted: Option<String> = primary.query_first(POSITION).await?;
    let mut conn = client.connect(&replica.endpoint).await?;
    let applied = async {
        while conn.query_first::<String, _>(POSITION).await? != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await; // it tells nobody
        }
        Ok::<_, Failure>(())
    };
    let begun = Instant::now();
    drop(held.pop()); // that of the last replica
    within(APPLIED, "the replica has applied everything", applied).await??;
    Ok(begun.elapsed())
}
