//! Handing over on purpose, under load.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice, server_pids};
use cotton_tests::{Cluster, Writer};
use mysql_async::prelude::Queryable;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primaries_hand_over_under_load() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, mut seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let servers = server_pids(&cotton);
    let writer = Writer::start(&api, "a", client, 2).await?;
    for round in 0..3 {
        writer.progress(SOME, STEP).await?;
        let to = seen.replicas().map(|member| member.id).last().expect("it has replicas");
        api.until_switched_over("a", to, STEP).await?;
        seen = api.until("a", STEP, "handed over", |c| c.epoch > seen.epoch && c.is_healthy()).await?;
        assert_eq!(seen.primary, Some(to), "round {round}");
        writer.progress(SOME, STEP).await?;
    }
    assert_eq!(server_pids(&cotton), servers, "no server was restarted");
    let events = api.events("a", 0).await?;
    let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count("switched_over"), count("primary_lost")), (3, 0), "{events:#?}");
    for event in events.iter().filter(|event| matches!(event.kind.as_str(), "switched_over" | "switchover_failed")) {
        eprintln!("{}", event.text);
    }
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// The scheduler dies after the primary has stepped down and before anybody has taken its place. A store that fails does the
/// same to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_opens_again_when_no_scheduler_is_left() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let primary = seen.primary()?.clone();
    client.run(&primary.endpoint, "CREATE DATABASE s").await?;
    client.run(&primary.endpoint, "CREATE TABLE s.k (id BIGINT PRIMARY KEY, a INT)").await?;
    client.run(&primary.endpoint, "INSERT INTO s.k VALUES (1, 0)").await?;
    // The candidate cannot apply everything as long as this reader is there.
    let to = seen.replicas().last().expect("it has replicas").clone();
    client.until_has(&to.endpoint, "SELECT id FROM s.k", &[1].into(), STEP).await?;
    let mut reader = client.connect(&to.endpoint).await?;
    reader.query_drop("BEGIN").await?;
    let _: Vec<u64> = reader.query("SELECT id FROM s.k").await?;
    client.run(&primary.endpoint, "ALTER TABLE s.k ADD COLUMN b INT").await?;
    api.switchover("a", Some(to.id)).await?;
    let stepped_down = |c: &Cluster| c.member(primary.id).is_some_and(|member| member.role == "stepped_down");
    api.until("a", STEP, "stepped down", stepped_down).await?;
    cotton.kill().await?;
    let alone = Instant::now();
    let mut tries = 0;
    while let Err(refused) = client.run(&primary.endpoint, "INSERT INTO s.k VALUES (2, 0, 0)").await {
        assert!(alone.elapsed() < STEP, "it takes no writes: {refused}");
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await; // nobody is there to tell when it opens
    }
    eprintln!("took writes again {:?} after the scheduler's end", alone.elapsed());
    assert!(tries > 0, "it was closed");
    cotton.start_again().await?;
    let back = api.until_healthy("a", STEP).await?;
    assert_eq!((back.epoch, back.primary), (seen.epoch, Some(primary.id)), "nobody was elected");
    client.run(&primary.endpoint, "INSERT INTO s.k VALUES (3, 0, 0)").await?;
    drop(reader);
    api.until_switched_over("a", to.id, STEP).await?;
    for member in &api.until_healthy("a", STEP).await?.members {
        client.until_has(&member.endpoint, "SELECT id FROM s.k", &[1, 2, 3].into(), STEP).await?;
    }
    Ok(())
}
