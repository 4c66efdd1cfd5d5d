//! Members come and go under load.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice};
use cotton_tests::{Writer, admin};
use mysql_async::prelude::Queryable;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_and_down_under_load() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;

    api.scale("a", 5).await?;
    let five = api.until_healthy("a", STEP).await?;
    assert_eq!(five.members.len(), 5);
    assert_eq!((five.epoch, five.primary), (1, seen.primary));
    let agents: std::collections::BTreeSet<_> = five.members.iter().map(|m| m.agent.as_str()).collect();
    assert_eq!(agents.len(), 5, "each on an agent of its own");
    writer.progress(SOME, STEP).await?;

    // the primary is now one that a shrinking cluster would otherwise have let go
    let old = five.primary()?.clone();
    let killed = Instant::now();
    cotton.server(&old.task)?.kill();
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let moved = api.until("a", STEP, "whole again", |c| c.epoch == 2 && c.is_healthy()).await?;
    for size in [3, 2] {
        api.scale("a", size).await?;
        let fewer = api.until_healthy("a", STEP).await?;
        assert_eq!(fewer.members.len(), size as usize);
        assert_eq!((fewer.epoch, fewer.primary), (2, moved.primary), "the primary never leaves");
        writer.progress(SOME, STEP).await?;
    }
    let seen = api.until_healthy("a", STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// A new member starts with a copy of the data: the primary's binary logs do not have to reach back to the beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_members_copy_what_the_binary_logs_no_longer_hold() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 2).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let mut primary = admin::connect(&cotton, "a", &seen.primary()?.task).await?;
    loop {
        primary.query_drop("FLUSH BINARY LOGS").await?;
        primary.query_drop("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await?;
        let logs: Vec<mysql_async::Row> = primary.query("SHOW BINARY LOGS").await?;
        if logs.first().is_some_and(|row| row.get::<String, _>(0).is_some_and(|name| !name.ends_with(".000001"))) {
            break;
        }
        writer.progress(1, STEP).await?; // the replica may not have read the oldest one to its end
    }
    api.scale("a", 4).await?;
    let four = api.until_healthy("a", STEP).await?;
    assert_eq!((four.epoch, four.primary), (1, seen.primary));
    let events = api.events("a", 0).await?;
    let tried_without = events.iter().any(|event| event.text.contains("do not reach back"));
    assert!(!tried_without, "{events:#?}");
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&four.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&four]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_members_of_an_asynchronous_cluster_have_everything() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, _) = cluster(&cotton, "a", 1).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    api.scale("a", 2).await?;
    let seen = api.until_healthy("a", STEP).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
