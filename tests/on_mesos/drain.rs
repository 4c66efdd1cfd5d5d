//! Agents that an operator drains: Mesos kills what runs there, and a primary goes only when another has taken its place.

use crate::checks::{count, tell_pause};
use crate::{Outcome, SOME, STEP, checks, loaded, volumes};
use cotton_tests::{Cluster, Event, Failure, Member, Stock};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Ends everything on an agent, each task within its own grace period (of 30 s) or `grace`, whichever is shorter.
async fn drain(stock: &Stock, agent: &str, grace: Duration, mark_gone: bool) -> Outcome {
    let drain = json!({ "agent_id": { "value": agent }, "mark_gone": mark_gone,
        "max_grace_period": { "seconds": grace.as_secs() } });
    stock.mesos.operator(json!({ "type": "DRAIN_AGENT", "drain_agent": drain })).await.map(drop)
}

/// What the master tells of an agent, `null` when it knows of none.
async fn agent(stock: &Stock, id: &str) -> Result<Value, Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_AGENTS" })).await?;
    let agents = said["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
    Ok(agents.into_iter().find(|agent| agent["agent_info"]["id"]["value"] == *id).unwrap_or(Value::Null))
}

/// Waits until all is gone from an agent and the master says so.
async fn drained(stock: &Stock, id: &str) -> Outcome {
    let state = async || Ok(agent(stock, id).await?["drain_info"]["state"].as_str().unwrap_or_default().to_owned());
    checks::until("the agent is drained", &"DRAINED".to_owned(), state).await
}

/// Lets a drained agent be used again.
async fn reactivate(stock: &Stock, id: &str) -> Outcome {
    let agent = json!({ "agent_id": { "value": id } });
    stock.mesos.operator(json!({ "type": "REACTIVATE_AGENT", "reactivate_agent": agent })).await.map(drop)
}

/// Waits until a member has been replaced.
async fn without(stock: &Stock, old: &Member) -> Result<Cluster, Failure> {
    let whole = |c: &Cluster| c.is_healthy() && c.member(old.id).is_none();
    let seen = stock.api(0).until("a", STEP, "whole without it", whole).await;
    let seen = seen.map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))?;
    assert!(seen.members.iter().all(|member| member.agent != old.agent), "{seen:?}");
    Ok(seen)
}

/// How the task of a member ended, in words.
fn end_of<'a>(events: &'a [Event], member: &Member) -> &'a str {
    let ended = events.iter().find(|event| event.kind == "ended" && event.member() == Some(member.id));
    &ended.expect("an event tells its end").text
}

/// The primary has handed over, once, be it at the second attempt; and never was lost.
async fn handed_over(stock: &Stock) -> Result<Vec<Event>, Failure> {
    let events = checks::no_primary_lost(stock).await?;
    assert_eq!(count(&events, "switched_over"), 1, "{events:#?}");
    Ok(events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_hands_over_before_its_agent_is_drained() -> Outcome {
    let Some(stock) = Stock::start(4).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let old = seen.primary()?.clone();
    let (_, server) = stock.server(&old)?;
    let asked = Instant::now();
    drain(&stock, &old.agent, Duration::from_mins(1), false).await?;
    writer.first_elsewhere(old.endpoint.port, asked, STEP).await?;
    server.ended(STEP).await?;
    drained(&stock, &old.agent).await?;
    let seen = without(&stock, &old).await?;
    writer.progress(SOME, STEP).await?;
    tell_pause("the agent of a primary was drained", &writer, asked);
    assert_eq!(seen.epoch, 2);
    let events = handed_over(&stock).await?;
    assert!(end_of(&events, &old).contains("killed as asked"), "{}", end_of(&events, &old));

    // It can be had again, when the operator says so.
    assert_eq!(agent(&stock, &old.agent).await?["deactivated"], true);
    reactivate(&stock, &old.agent).await?;
    stock.api(0).scale("a", 4).await?;
    let larger = stock.api(0).until("a", STEP, "larger", |c| c.size == 4 && c.is_healthy()).await?;
    assert!(larger.members.iter().any(|member| member.agent == old.agent), "{larger:?}");
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &larger).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_replaced_when_its_agent_is_drained() -> Outcome {
    let Some(stock) = Stock::start(4).await? else { return Ok(()) };
    let (writer, before) = loaded(&stock).await?;
    let old = before.replicas().next().expect("there are two").clone();
    let asked = Instant::now();
    drain(&stock, &old.agent, Duration::from_mins(1), false).await?;
    drained(&stock, &old.agent).await?;
    let seen = without(&stock, &old).await?;
    writer.progress(SOME, STEP).await?;
    tell_pause("the agent of a replica was drained", &writer, asked);
    assert_eq!((seen.epoch, seen.primary), (1, before.primary), "the primary is not touched");
    let events = checks::no_primary_lost(&stock).await?;
    assert_eq!(count(&events, "switching_over"), 0, "{events:#?}");
    checks::whole(&stock, writer, &seen).await
}

/// With less time than the 30 s that it would have had. Mesos then says of the task that it is gone for good, before the agent is:
/// its volume is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_hands_over_before_its_agent_is_drained_for_good() -> Outcome {
    let Some(stock) = volumes::with_volumes(4).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let old = seen.primary()?.clone();
    let (_, server) = stock.server(&old)?;
    let asked = Instant::now();
    drain(&stock, &old.agent, Duration::from_secs(20), true).await?;
    writer.first_elsewhere(old.endpoint.port, asked, STEP).await?;
    server.ended(STEP).await?;
    checks::until("the agent is gone", &Value::Null, async || agent(&stock, &old.agent).await).await?;
    let seen = without(&stock, &old).await?;
    writer.progress(SOME, STEP).await?;
    tell_pause("the agent of a primary was drained for good", &writer, asked);
    assert_eq!(seen.epoch, 2);
    let events = handed_over(&stock).await?;
    assert_eq!(count(&events, "resting"), 0, "{events:#?}");
    checks::whole(&stock, writer, &seen).await
}

/// An agent that is drained to be mended and comes back: so does the member, with its data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_to_its_data_on_an_agent_that_was_drained() -> Outcome {
    let Some(stock) = volumes::with_volumes(3).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let old = seen.primary()?.clone();
    let asked = Instant::now();
    drain(&stock, &old.agent, Duration::from_mins(1), false).await?;
    writer.first_elsewhere(old.endpoint.port, asked, STEP).await?;
    drained(&stock, &old.agent).await?;
    writer.progress(SOME, STEP).await?;
    reactivate(&stock, &old.agent).await?;
    let seen = stock.api(0).until("a", STEP, "whole with it", |c| volumes::is_back(c, &old)).await?;
    writer.progress(SOME, STEP).await?;
    tell_pause("the agent of a primary was drained and came back", &writer, asked);
    assert_eq!(seen.epoch, 2);
    let events = handed_over(&stock).await?;
    assert_eq!((count(&events, "resting"), count(&events, "ended")), (1, 0), "{events:#?}");
    checks::whole(&stock, writer, &seen).await
}

/// An operator who does not want to wait: a failover then, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_given_no_time_is_failed_over() -> Outcome {
    let Some(stock) = Stock::start(4).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let old = seen.primary()?.clone();
    let asked = Instant::now();
    drain(&stock, &old.agent, Duration::ZERO, false).await?;
    writer.first_elsewhere(old.endpoint.port, asked, STEP).await?;
    drained(&stock, &old.agent).await?;
    let seen = without(&stock, &old).await?;
    writer.progress(SOME, STEP).await?;
    tell_pause("the agent of a primary was drained at once", &writer, asked);
    assert_eq!(seen.epoch, 2);
    checks::whole(&stock, writer, &seen).await
}
