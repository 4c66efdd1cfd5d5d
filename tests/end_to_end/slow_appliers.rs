//! Primaries are lost while their replicas still apply what they have received, or are kept from it by readers.
//! Nothing that was acknowledged may be lost by that, however long it takes.

use crate::{Outcome, STEP};

use cotton_core::Endpoint;
use cotton_tests::{Client, Cluster, Failure, Flavour, Options, RealCotton, Wanted};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};

/// Each row of a table without a key is looked for in all of it.
const ROWS: u64 = 12_000;

async fn start(flavour: Flavour, size: u32) -> Result<Option<(RealCotton, Client, Cluster)>, Failure> {
    if flavour.programs().is_none() {
        return Ok(None);
    }
    let cotton = RealCotton::start(Options { flavour, ..Options::default() }).await?;
    let wanted = match flavour {
        Flavour::MariaDb | Flavour::MariaDb118 => Wanted::small(size),
        Flavour::MySql97 | Flavour::MySql56 => Wanted {
            resources: serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" }),
            ..Wanted::small(size)
        },
    };
    let created = cotton.api().create("a", &wanted).await?;
    let seen = cotton.api().until_healthy("a", 3 * STEP).await?;
    let client = Client::new(wanted.user, created.password);
    client.run(&seen.primary()?.endpoint, "CREATE DATABASE s").await?;
    client.run(&seen.primary()?.endpoint, "CREATE TABLE s.k (id BIGINT PRIMARY KEY, a INT)").await?;
    Ok(Some((cotton, client, seen)))
}

/// Makes a table without a key, and fills it; the session is given back.
async fn fill_without_a_key(client: &Client, primary: &Endpoint) -> Result<Conn, Failure> {
    client.run(primary, "CREATE TABLE s.l (a INT, b VARCHAR(40), c INT)").await?;
    let mut conn = client.connect(primary).await?;
    for first in (0..ROWS).step_by(1_000) {
        let rows: Vec<String> = (first..first + 1_000).map(|n| format!("({n},'row {n}',0)")).collect();
        conn.query_drop(format!("INSERT INTO s.l VALUES {}", rows.join(","))).await?;
    }
    Ok(conn)
}

async fn is_there(client: &Client, seen: &Cluster) -> Outcome {
    for member in &seen.members {
        client.until_has(&member.endpoint, "SELECT id FROM s.k", &[1, 2].into(), 2 * STEP).await?;
    }
    Ok(())
}

/// Kills the primary's executor and server at once. They are started again on their data.
async fn lose_primary(cotton: &RealCotton, seen: &Cluster) -> Outcome {
    let task = &seen.primary()?.task;
    let server = cotton.server(task)?;
    cotton.executor(task)?.kill();
    server.kill();
    server.ended(STEP).await
}

async fn update_without_a_key(flavour: Flavour) -> Outcome {
    let Some((cotton, client, seen)) = start(flavour, 3).await? else { return Ok(()) };
    let primary = seen.primary()?.endpoint.clone();
    let mut conn = fill_without_a_key(&client, &primary).await?;
    conn.query_drop("INSERT INTO s.k VALUES (1, 0)").await?;
    for replica in seen.replicas() {
        client.until_has(&replica.endpoint, "SELECT id FROM s.k", &[1].into(), 2 * STEP).await?;
    }
    conn.query_drop("UPDATE s.l SET c = c + 1").await?;
    conn.query_drop("INSERT INTO s.k VALUES (2, 0)").await?; // acknowledged
    lose_primary(&cotton, &seen).await?;
    let seen = cotton.api().until("a", 6 * STEP, "whole again", |c| c.epoch > 1 && c.is_healthy()).await?;
    is_there(&client, &seen).await?;
    let updated = client.numbers(&seen.primary()?.endpoint, "SELECT COUNT(*) FROM s.l WHERE c = 1").await?;
    assert_eq!(updated, [ROWS].into());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_applies_an_update_without_a_key() -> Outcome {
    update_without_a_key(Flavour::MariaDb).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_applies_an_update_without_a_key() -> Outcome {
    update_without_a_key(Flavour::MySql97).await
}

/// Each of many updates takes the replicas much longer than the primary: how many are left and how fast it goes is told
/// while they are behind, and again when one of them is to open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_to_apply_and_how_fast_is_told() -> Outcome {
    const UPDATES: u64 = 60;
    let Some((cotton, client, seen)) = start(Flavour::MariaDb, 3).await? else { return Ok(()) };
    let api = cotton.api();
    let primary = seen.primary()?.endpoint.clone();
    let mut conn = fill_without_a_key(&client, &primary).await?;
    conn.query_drop("INSERT INTO s.k VALUES (1, 0)").await?;
    for replica in seen.replicas() {
        client.until_has(&replica.endpoint, "SELECT id FROM s.k", &[1].into(), 2 * STEP).await?;
    }
    for _ in 0..UPDATES {
        conn.query_drop(format!("UPDATE s.l SET c = c + 1 WHERE a >= {}", ROWS - 100)).await?;
    }
    conn.query_drop("INSERT INTO s.k VALUES (2, 0)").await?; // acknowledged
    let knows_the_rate = |member: &cotton_tests::Member| {
        member.applying.as_ref().is_some_and(|it| {
            let behind = it.left > 0 && it.left <= UPDATES + 1;
            behind && it.per_second.is_some_and(|rate| rate > 0.0) && it.rest_s.is_some()
        })
    };
    let told = api.until("a", 2 * STEP, "telling its rate", |c| c.replicas().any(knows_the_rate)).await?;
    assert!(told.primary()?.applying.is_none(), "{told:?}");
    lose_primary(&cotton, &seen).await?;
    let mut events = api.stream("a", Some(0)).await?;
    let begins = events.until(STEP, "a winner that applies", |event| event.kind == "applying").await?;
    assert!(begins.fields["left"].as_u64().is_some_and(|left| left > 0), "{begins:?}");
    // The old primary may be back before, and open in its place.
    let seen = api.until("a", 6 * STEP, "whole again", |c| c.epoch > 1 && c.is_healthy()).await?;
    is_there(&client, &seen).await?;
    api.until("a", 2 * STEP, "through", |c| c.members.iter().all(|member| member.applying.is_none())).await?;
    Ok(())
}

/// Idle readers on both replicas hold a change of a table back; they are ended within two seconds.
async fn idle_readers(flavour: Flavour) -> Outcome {
    let Some((cotton, client, seen)) = start(flavour, 3).await? else { return Ok(()) };
    let primary = seen.primary()?.endpoint.clone();
    client.run(&primary, "INSERT INTO s.k VALUES (1, 0)").await?;
    let mut readers = Vec::new();
    for replica in seen.replicas() {
        client.until_has(&replica.endpoint, "SELECT id FROM s.k", &[1].into(), STEP).await?;
        let mut reader = client.connect(&replica.endpoint).await?;
        reader.query_drop("BEGIN").await?;
        let _: Vec<u64> = reader.query("SELECT id FROM s.k").await?;
        readers.push(reader);
    }
    client.run(&primary, "ALTER TABLE s.k ADD COLUMN b INT").await?;
    client.run(&primary, "INSERT INTO s.k VALUES (2, 0, 0)").await?; // acknowledged
    lose_primary(&cotton, &seen).await?;
    let lost = Instant::now();
    let open = cotton.api().until("a", STEP, "open again", |c| c.epoch > 1 && c.primary.is_some()).await?;
    // far from a minute; the bench tells how long it takes on a machine that does nothing else
    assert!(lost.elapsed() < Duration::from_secs(20), "{:?}", lost.elapsed());
    client.until_has(&open.primary()?.endpoint, "SELECT id FROM s.k", &[1, 2].into(), STEP).await?;
    let seen = cotton.api().until_healthy("a", 3 * STEP).await?;
    is_there(&client, &seen).await?;
    drop(readers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_does_not_wait_for_idle_readers() -> Outcome {
    idle_readers(Flavour::MariaDb).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_does_not_wait_for_idle_readers() -> Outcome {
    idle_readers(Flavour::MySql97).await
}

/// Without acknowledgements, whoever opens has all that the only replica had received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_has_all_that_was_received() -> Outcome {
    let Some((cotton, client, seen)) = start(Flavour::MariaDb, 2).await? else { return Ok(()) };
    let primary = seen.primary()?.endpoint.clone();
    let replica = seen.replicas().next().expect("it has one").clone();
    let mut conn = fill_without_a_key(&client, &primary).await?;
    conn.query_drop("INSERT INTO s.k VALUES (1, 0)").await?;
    client.until_has(&replica.endpoint, "SELECT id FROM s.k", &[1].into(), 2 * STEP).await?;
    conn.query_drop("UPDATE s.l SET c = c + 1 ORDER BY a").await?;
    for id in 2..=500 {
        conn.query_drop(format!("INSERT INTO s.k VALUES ({id}, 0)")).await?;
    }
    let last = conn.query_first::<String, _>("SELECT @@GLOBAL.gtid_binlog_pos").await?.expect("a position");
    let mut there = cotton_tests::admin::connect(&cotton, "a", &replica.task).await?;
    let received = Instant::now();
    loop {
        let row: mysql_async::Row = there.query_first("SHOW REPLICA STATUS").await?.expect("it replicates");
        if row.get::<String, _>("Gtid_IO_Pos").as_deref() == Some(last.as_str()) {
            break;
        }
        assert!(received.elapsed() < STEP, "it does not receive {last}");
    }
    drop(there);
    lose_primary(&cotton, &seen).await?;
    // The replica, or the old primary, which is run again on its data and has all that it had.
    let open = cotton.api().until("a", 6 * STEP, "open", |c| c.epoch > 1 && c.primary.is_some()).await?;
    let rows = client.numbers(&open.primary()?.endpoint, "SELECT COUNT(*) FROM s.k").await?;
    assert_eq!(rows, [500].into(), "all that was received is there when it opens");
    Ok(())
}
