//! The scheduler is killed at any moment, and finishes its work after a restart: nothing twice, nothing disturbed.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice, server_pids};
use cotton_tests::{Client, Wanted, Writer};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// Moments after the beginning of something at which to kill, in milliseconds: close together where decisions are made,
/// and some while processes start.
const MOMENTS: [u64; 7] = [0, 2, 5, 11, 25, 80, 400];

/// Lets a moment pass. It is what these tests vary, not something that is waited for.
async fn moment(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_creating() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let mut body = json!(Wanted::small(2));
    body["password"] = json!("known-before");
    let (_, bystander) = cluster(&cotton, "bystander", 1).await?;
    let pids = server_pids(&cotton);
    for (round, ms) in MOMENTS.into_iter().enumerate() {
        let name = format!("c{round}");
        let path = format!("/api/v1/clusters/{name}");
        let asked = tokio::spawn({
            let (api, path, body) = (api.clone(), path.clone(), body.clone());
            async move { api.send(Method::POST, &path, Some(&body)).await }
        });
        moment(ms).await;
        cotton.kill().await?;
        let answered = asked.await.is_ok_and(|answer| answer.is_ok_and(|(status, _)| status.is_success()));
        cotton.start_again().await?;
        let is_there = api.cluster(&name).await?.is_some();
        assert!(is_there || !answered, "a cluster that was promised is forgotten");
        if !is_there {
            api.send(Method::POST, &path, Some(&body)).await?;
        }
        let seen = api.until_healthy(&name, STEP).await?;
        nothing_twice(&cotton, &api, &[&bystander, &seen]).await?;
        api.delete(&name, "known-before").await?;
        api.until_gone(&name, STEP).await?;
    }
    assert_eq!(server_pids(&cotton), pids, "the bystander was not disturbed");
    assert_eq!(api.until_healthy("bystander", STEP).await?.epoch, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_electing() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, mut seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    for ms in MOMENTS {
        writer.progress(SOME, STEP).await?;
        let old = seen.primary()?.clone();
        let others: Vec<_> = seen.replicas().map(|m| m.task.clone()).collect();
        let before = server_pids(&cotton);
        cotton.server(&old.task)?.kill();
        moment(ms).await;
        cotton.kill().await?;
        cotton.start_again().await?;
        let epoch = seen.epoch;
        seen = api.until("a", STEP, "failed over and whole", |c| c.epoch > epoch && c.is_healthy()).await?;
        writer.progress(SOME, STEP).await?;
        let after = server_pids(&cotton);
        for task in others {
            assert_eq!(after.get(&task), before.get(&task), "{task} was disturbed, killed after {ms} ms");
        }
        nothing_twice(&cotton, &api, &[&seen]).await?;
    }
    writer.finish_and_compare(&seen.endpoints()?, STEP).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_scaling() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, first) = cluster(&cotton, "a", 2).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    let pids = server_pids(&cotton);
    let mut seen = first.clone();
    for (round, ms) in MOMENTS.into_iter().enumerate() {
        let size = if round % 2 == 0 { 4 } else { 2 };
        api.scale("a", size).await?;
        moment(ms).await;
        cotton.kill().await?;
        cotton.start_again().await?;
        seen = api.until("a", STEP, "at its size", |c| c.size == size && c.is_healthy()).await?;
        nothing_twice(&cotton, &api, &[&seen]).await?;
        writer.progress(SOME, STEP).await?;
    }
    assert_eq!((seen.epoch, seen.primary), (1, first.primary));
    let primary = &first.primary()?.task;
    assert_eq!(server_pids(&cotton).get(primary), pids.get(primary), "the primary was disturbed");
    writer.finish_and_compare(&seen.endpoints()?, STEP).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_deleting() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let (_, bystander) = cluster(&cotton, "bystander", 1).await?;
    let pids = server_pids(&cotton);
    for (round, ms) in MOMENTS.into_iter().enumerate() {
        let name = format!("c{round}");
        let (client, _): (Client, _) = cluster(&cotton, &name, 2).await?;
        api.delete(&name, client.password()).await?;
        moment(ms).await;
        cotton.kill().await?;
        cotton.start_again().await?;
        api.until_gone(&name, STEP).await?;
        nothing_twice(&cotton, &api, &[&bystander]).await?;
    }
    assert_eq!(server_pids(&cotton), pids, "the bystander was not disturbed");
    Ok(())
}

/// Executors and databases live on without a scheduler, and are found again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_go_on_without_a_scheduler() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let pids = server_pids(&cotton);
    cotton.kill().await?;
    writer.progress(SOME, STEP).await?;
    cotton.start_again().await?;
    let after = api.until_healthy("a", STEP).await?;
    assert_eq!((after.epoch, after.primary), (seen.epoch, seen.primary));
    assert_eq!(server_pids(&cotton), pids);
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&after.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&after]).await
}
