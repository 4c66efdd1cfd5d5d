//! Members come and go under load.

use crate::{Outcome, SOME, STEP, cluster, cotton, endpoints, nothing_twice};
use cotton_tests::Writer;
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
    writer.finish_and_compare(&endpoints(&seen)?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
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
    writer.finish_and_compare(&endpoints(&seen)?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
