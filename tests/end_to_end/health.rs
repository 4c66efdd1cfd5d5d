//! What a cluster says of itself while it works: complete copies, lag, commits that wait, silence, errant transactions.

use crate::{Outcome, STEP, cluster, cotton};
use cotton_tests::{Cluster, Flavour, Options, RealCotton, Wanted, admin};
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn has(seen: &Cluster, code: &str, words: &str) -> bool {
    seen.reasons.iter().any(|reason| reason.code == code && reason.text.contains(words))
}

/// What discovery shows to readers.
fn shown(cotton: &RealCotton, port: u16) -> bool {
    let dir = cotton.path().join("discovery");
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains(&port.to_string()))
}

/// An update without a key takes an applier some seconds for a moment of the primary. A new member has not caught up before
/// it has applied what came while its copy was made, whatever it has received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_counts_when_it_has_applied_everything() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 1).await?;
    let api = cotton.api();
    let primary = seen.primary()?.endpoint.clone();
    let mut conn = client.connect(&primary).await?;
    conn.query_drop("CREATE DATABASE s").await?;
    conn.query_drop("CREATE TABLE s.l (a INT, b VARCHAR(40), c INT)").await?;
    conn.query_drop("CREATE TABLE s.k (a INT PRIMARY KEY)").await?;
    conn.query_drop("INSERT INTO s.l SELECT seq, MD5(seq), 0 FROM s.seq_1_to_4000").await?;
    let mut events = api.stream("a", None).await?;
    api.scale("a", 2).await?;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let acknowledged = Arc::new(Mutex::new(Vec::new())); // when each round was, in milliseconds of Unix time
    let changes = tokio::spawn({
        let acknowledged = Arc::clone(&acknowledged);
        async move {
            let mut rounds = 0_u64;
            while stopped.try_recv().is_err() {
                conn.query_drop("UPDATE s.l SET c = c + 1").await?;
                conn.query_drop("DO SLEEP(0.3)").await?; // a load that a backup can keep up with
                conn.query_drop(format!("INSERT INTO s.k VALUES ({rounds})")).await?;
                rounds += 1;
                let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
                acknowledged.lock().expect("nobody panics with it").push(at);
            }
            Ok::<u64, mysql_async::Error>(rounds)
        }
    });
    let mut followed = 0;
    events
        .until(2 * STEP, "it follows", |event| {
            followed = u128::from(event.unix_ms);
            event.kind == "following"
        })
        .await?;
    let catching_up = api.until("a", STEP, "it applies", |c| has(c, "member_unhealthy", "left to apply")).await?;
    let _ = stop.send(());
    let rounds = changes.await.expect("no panic")?;
    let new = catching_up.replicas().next().expect("it is there").clone();
    assert!(!new.healthy && !shown(&cotton, new.endpoint.port), "{catching_up:?}");
    events.until(2 * STEP, "it has caught up", |event| event.kind == "joined").await?;
    let there = client.numbers(&new.endpoint, "SELECT a FROM s.k").await?;
    // the primary is asked what it has after the member follows
    let before = acknowledged.lock().expect("nobody panics with it").iter().filter(|at| **at < followed).count() as u64;
    assert!(before > 0 && there.is_superset(&(0..before).collect()), "of {before}, when it had caught up: {there:?}");
    api.until_healthy("a", 2 * STEP).await?;
    client.until_has(&new.endpoint, "SELECT a FROM s.k", &(0..rounds).collect(), STEP).await?;
    let begun = Instant::now();
    while !shown(&cotton, new.endpoint.port) {
        assert!(begun.elapsed() < STEP, "never shown");
        tokio::time::sleep(Duration::from_millis(20)).await; // a file is no event
    }
    Ok(())
}

/// An idle reader on a replica holds up `ALTER TABLE`, and all that comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_held_up_is_named() -> Outcome {
    for flavour in [Flavour::MariaDb, Flavour::MySql97] {
        if flavour.programs().is_none() {
            continue;
        }
        let arguments = vec!["--lag-warning".to_owned(), "2s".to_owned()];
        let cotton = RealCotton::start(Options { flavour, arguments, ..Options::default() }).await?;
        let wanted = match flavour {
            Flavour::MariaDb | Flavour::MariaDb118 => Wanted::small(2),
            Flavour::MySql97 | Flavour::MySql56 => Wanted {
                resources: serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" }),
                ..Wanted::small(2)
            },
        };
        let api = cotton.api();
        let created = api.create("a", &wanted).await?;
        let seen = api.until_healthy("a", 3 * STEP).await?;
        let client = cotton_tests::Client::new(wanted.user, created.password);
        let (primary, replica) = (seen.primary()?.endpoint.clone(), seen.replicas().next().expect("two").clone());
        let mut conn = client.connect(&primary).await?;
        conn.query_drop("CREATE DATABASE s").await?;
        conn.query_drop("CREATE TABLE s.k (a INT PRIMARY KEY)").await?;
        client.until_has(&replica.endpoint, "SELECT COUNT(*) FROM s.k", &[0].into(), STEP).await?;
        let mut reader = client.connect(&replica.endpoint).await?;
        reader.query_drop("BEGIN").await?;
        reader.query_drop("SELECT * FROM s.k").await?;
        let mut events = api.stream("a", None).await?;
        conn.query_drop("ALTER TABLE s.k ADD COLUMN b INT").await?;
        conn.query_drop("INSERT INTO s.k VALUES (1, 1)").await?;
        let id = replica.id;
        let words = format!("member {id}: it is ");
        let held = |c: &Cluster| c.status == "degraded" && has(c, "member_lagging", &words);
        let seen = api.until("a", STEP, "degraded, with the member's name", held).await?;
        assert!(!seen.member(id).expect("there").healthy && seen.primary.is_some(), "{seen:?}");
        events.until(STEP, "told", |event| event.kind == "lagging" && event.member() == Some(id)).await?;
        reader.query_drop("COMMIT").await?;
        api.until_healthy("a", STEP).await?;
        events.until(STEP, "its end is told", |event| event.kind == "caught_up").await?;
    }
    Ok(())
}

/// Both replicas stand still, with their executors: commits wait, and that is what the cluster says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_for_frozen_replicas_are_blocked() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let primary = seen.primary()?.endpoint.clone();
    client.run(&primary, "CREATE DATABASE s").await?;
    client.run(&primary, "CREATE TABLE s.k (a INT PRIMARY KEY)").await?;
    let mut frozen = Vec::new();
    for replica in seen.replicas() {
        frozen.extend([cotton.executor(&replica.task)?, cotton.server(&replica.task)?]);
    }
    let mut events = api.stream("a", None).await?;
    for process in &frozen {
        process.signal(Signal::STOP);
    }
    let writer = {
        let (client, primary) = (client.clone(), primary.clone());
        tokio::spawn(async move { client.run(&primary, "INSERT INTO s.k VALUES (1)").await })
    };
    let blocked = |c: &Cluster| c.status == "blocked" && has(c, "waiting_for_ack", "commits wait");
    let seen = api.until("a", STEP, "blocked", blocked).await?;
    assert_eq!(seen.epoch, 1);
    let mut told = std::collections::BTreeSet::new();
    events
        .until(STEP, "commits wait, and two are silent", |event| {
            if matches!(event.kind.as_str(), "commits_wait" | "silent") {
                told.insert((event.kind.clone(), event.member()));
            }
            told.len() == 3
        })
        .await?;
    assert!(!writer.is_finished(), "nobody has acknowledged it");
    for process in &frozen {
        process.signal(Signal::CONT);
    }
    events.until(STEP, "commits go on", |event| event.kind == "commits_go_on").await?;
    api.until_healthy("a", STEP).await?;
    writer.await.map_err(|error| cotton_tests::Failure::new(error.to_string()))??;
    Ok(())
}

/// `ANALYZE TABLE` of a table that is not there is a transaction of whoever runs it, read-only or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_on_a_replica_is_seen() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (_, seen) = cluster(&cotton, "a", 2).await?;
    let api = cotton.api();
    let replica = seen.replicas().next().expect("two").clone();
    let mut events = api.stream("a", None).await?;
    let mut there = admin::connect(&cotton, "a", &replica.task).await?;
    there.query_drop("CREATE DATABASE s").await?;
    let event = events.until(STEP, "told", |event| event.kind == "errant_seen").await?;
    assert_eq!(event.member(), Some(replica.id));
    // another member takes its place, and it goes on until that one can acknowledge
    let gone = |c: &Cluster| c.is_healthy() && c.member(replica.id).is_none();
    let seen = api.until("a", STEP, "whole without it", gone).await?;
    assert_eq!(seen.epoch, 1);
    Ok(())
}
