//! Agents are cut off from the scheduler, come back, or are lost with all that ran on them.

use crate::{Outcome, SOME, STEP, nothing_twice};
use cotton_core::AgentId;
use cotton_core::cluster::Timing;
use cotton_tests::{Client, Cluster, Failure, Flavour, InProcess, Wanted, Writer};
use std::time::Instant;

/// Four agents for three members; what cannot be reached is replaced after a second instead of half a minute.
async fn start() -> Result<Option<(InProcess, Client, Cluster)>, Failure> {
    start_on(4).await
}

async fn start_on(agents: u16) -> Result<Option<(InProcess, Client, Cluster)>, Failure> {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(None);
    }
    let cotton = InProcess::start(agents, Timing { unreachable_ms: 1_000, ..Timing::default() }).await?;
    let wanted = Wanted::small(3);
    let created = cotton.api().create("a", &wanted).await?;
    let cluster = cotton.api().until_healthy("a", STEP).await?;
    Ok(Some((cotton, Client::new(wanted.user, created.password), cluster)))
}

/// Whether a member is to leave, or has left.
fn leaves(cluster: &Cluster, member: u64) -> bool {
    cluster.member(member).is_none_or(|member| member.leaving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_primary_is_replaced_and_never_written_to_again() -> Outcome {
    let Some((cotton, client, seen)) = start().await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let old = seen.primary()?.clone();
    let agent = AgentId::new(old.agent.as_str());
    let cut = Instant::now();
    cotton.agents().cut_agent(&agent).await?;
    writer.first_elsewhere(old.endpoint.port, cut, STEP).await?;
    api.until("a", STEP, "whole without it", |c| c.is_healthy() && leaves(c, old.id)).await?;
    writer.progress(SOME, STEP).await?;
    cotton.agents().restore_agent(&agent).await?;
    let seen = api.until("a", STEP, "rid of it", |c| c.is_healthy() && c.member(old.id).is_none()).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_replica_is_replaced_without_an_election() -> Outcome {
    let Some((cotton, client, seen)) = start().await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let victim = seen.replicas().next().expect("it has replicas").clone();
    let agent = AgentId::new(victim.agent.as_str());
    cotton.agents().cut_agent(&agent).await?;
    writer.progress(SOME, STEP).await?;
    api.until("a", STEP, "whole without it", |c| c.is_healthy() && leaves(c, victim.id)).await?;
    cotton.agents().restore_agent(&agent).await?;
    let seen = api.until("a", STEP, "rid of it", |c| c.is_healthy() && c.member(victim.id).is_none()).await?;
    assert_eq!(seen.epoch, 1);
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Where there is no room for another, its copy of the data is the only one beside the others'.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_replica_that_nobody_could_replace_is_taken_back() -> Outcome {
    let Some((cotton, client, first)) = start_on(3).await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    let victim = first.replicas().next().expect("it has replicas").clone();
    let agent = AgentId::new(victim.agent.as_str());
    cotton.agents().cut_agent(&agent).await?;
    api.until("a", STEP, "without it", |c| leaves(c, victim.id)).await?;
    writer.progress(SOME, STEP).await?;
    cotton.agents().restore_agent(&agent).await?;
    let seen = api.until_healthy("a", STEP).await?;
    let tasks = |c: &Cluster| c.members.iter().map(|m| m.task.clone()).collect::<Vec<_>>();
    assert_eq!((seen.epoch, tasks(&seen)), (1, tasks(&first)));
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_comes_back_in_time_changes_nothing() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let cotton = InProcess::start(3, Timing::default()).await?;
    let wanted = Wanted::small(3);
    let api = cotton.api();
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    let agent = AgentId::new(first.primary()?.agent.as_str());
    cotton.agents().cut_agent(&agent).await?;
    cotton.agents().restore_agent(&agent).await?;
    writer.progress(SOME, STEP).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary));
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_agent_of_the_primary_is_made_good() -> Outcome {
    let Some((cotton, client, seen)) = start().await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let old = seen.primary()?.clone();
    let killed = Instant::now();
    cotton.agents().kill_agent(&AgentId::new(old.agent.as_str())).await?;
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let seen = api.until("a", STEP, "whole without it", |c| c.is_healthy() && c.member(old.id).is_none()).await?;
    assert_eq!(seen.epoch, 2);
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
