//! What people can decide of a cluster, on real servers.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice};
use cotton_tests::{Api, Cluster, Failure, Writer};
use reqwest::Method;
use serde_json::{Value, json};

/// Asks for something of a cluster.
async fn pull(api: &Api, what: &str, body: Value) -> Result<Cluster, Failure> {
    api.change("a", Method::POST, &format!("/api/v1/clusters/a/{what}"), body).await
}

/// A replica leaves under load, and another takes its place; commits are acknowledged all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_rebuilt() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let (primary, old) = (seen.primary()?.id, seen.replicas().next().expect("two").id);
    let refused = pull(&api, &format!("members/{primary}/rebuild"), json!({})).await.expect_err("it is the primary");
    assert!(refused.to_string().contains("cannot_rebuild"), "{refused}");
    pull(&api, &format!("members/{old}/rebuild"), json!({})).await?;
    let seen = api.until("a", STEP, "whole without it", |c| c.is_healthy() && c.member(old).is_none()).await?;
    writer.progress(SOME, STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, Some(primary)));
    let events = api.events("a", 0).await?;
    assert!(events.iter().any(|event| event.kind == "rebuild_asked" && event.member() == Some(old)));
    assert!(!events.iter().any(|event| event.kind == "commits_wait"), "{events:#?}");
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// The server of a paused cluster's primary dies: it is started again and stays read-only, the scheduler may come and go,
/// and the failover begins when the cluster is resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_fails_over_when_it_is_resumed() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let paused = pull(&api, "pause", json!({})).await?;
    assert!(paused.waits_for("paused"), "{paused:?}");
    writer.progress(SOME, STEP).await?;
    let old = seen.primary()?.clone();
    cotton.server(&old.task)?.kill();
    let held = |c: &Cluster| c.status == "waiting" && c.waits_for("paused") && c.waits_for("failover_held");
    api.until("a", STEP, "held", held).await?;
    cotton.kill().await?;
    cotton.start_again().await?;
    let seen = api.until("a", STEP, "held after a restart", held).await?;
    assert_eq!((seen.epoch, seen.primary), (1, None));
    let password = json!({ "size": 4 });
    let refused = api.change::<Cluster>("a", Method::PATCH, "/api/v1/clusters/a", password).await;
    assert!(refused.is_err_and(|refused| refused.to_string().contains("cluster_paused")));
    let refused = api.change::<Value>("a", Method::DELETE, "/api/v1/clusters/a", json!({})).await;
    assert!(refused.is_err_and(|refused| refused.to_string().contains("cluster_paused")));

    pull(&api, "resume", json!({})).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Without acknowledgements, a primary is fenced when its lease ends: a paused cluster's goes on writing, also while its
/// replica is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_asynchronous_primary_keeps_its_lease() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 2).await?;
    let api = cotton.api();
    pull(&api, "pause", json!({})).await?;
    let replica = seen.replicas().next().expect("two").clone();
    cotton.executor(&replica.task)?.kill();
    let writer = Writer::start(&api, "a", client, 2).await?;
    // longer than two leases, by reports
    let mut events = api.stream("a", None).await?;
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(25) {
        writer.progress(SOME, STEP).await?;
    }
    let there = api.cluster("a").await?.expect("it is there");
    assert_eq!((there.epoch, there.primary), (1, seen.primary), "{there:?}");
    assert!(there.members.iter().filter(|member| member.role == "replica").count() == 0, "{there:?}");
    pull(&api, "resume", json!({})).await?;
    events.until(STEP, "resumed", |event| event.kind == "resumed").await?;
    let seen = api.until_healthy("a", STEP).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
