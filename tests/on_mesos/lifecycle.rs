//! Made, used, broken, deleted without a trace.

use crate::{Outcome, SOME, STEP, cluster};
use cotton_tests::{Stock, Writer};
use std::collections::BTreeSet;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn created_failed_over_and_deleted() -> Outcome {
    let Some(stock) = Stock::start(3).await? else { return Ok(()) };
    let (client, seen) = cluster(&stock, "a", 3).await?;
    let agents: BTreeSet<_> = seen.members.iter().map(|member| member.agent.clone()).collect();
    assert_eq!(agents.len(), 3, "each on an agent of its own");
    let api = stock.api(0);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;

    let old = seen.primary()?.clone();
    let killed = Instant::now();
    stock.server(&old)?.1.kill();
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;

    api.delete("a", client.password()).await?;
    api.until_gone("a", STEP).await?;
    for (_, executor) in stock.executors(3) {
        executor.ended(STEP).await?;
    }
    for (_, server) in stock.servers(3) {
        server.ended(STEP).await?; // killed, and in the middle of a write to the disk
    }
    assert!(stock.executors(3).is_empty() && stock.servers(3).is_empty());
    Ok(())
}
