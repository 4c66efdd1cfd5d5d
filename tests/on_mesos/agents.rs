//! Agents that an operator takes away.

use crate::{Outcome, SOME, STEP, checks, loaded};
use cotton_tests::{Cluster, Stock};
use serde_json::json;
use std::time::Instant;

/// Mesos then ends everything there, at once and for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_agents_that_are_marked_gone_are_made_again_elsewhere() -> Outcome {
    let Some(stock) = Stock::start(5).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let api = stock.api(0);
    let mark_gone = async |agent: &str| {
        let agent = json!({ "agent_id": { "value": agent } });
        stock.mesos.operator(json!({ "type": "MARK_AGENT_GONE", "mark_agent_gone": agent })).await
    };

    let old = seen.primary()?.clone();
    let (_, server) = stock.server(&old)?;
    let marked = Instant::now();
    mark_gone(&old.agent).await?;
    writer.first_elsewhere(old.endpoint.port, marked, STEP).await?;
    let without = |gone: u64| move |c: &Cluster| c.is_healthy() && c.member(gone).is_none();
    let seen = api.until("a", STEP, "whole without its old primary", without(old.id)).await?;
    assert_eq!(seen.epoch, 2);
    server.ended(STEP).await?;
    writer.progress(SOME, STEP).await?;

    let replica = seen.replicas().next().expect("there are two").clone();
    mark_gone(&replica.agent).await?;
    let after = api.until("a", STEP, "whole without a replica", without(replica.id)).await?;
    assert_eq!((after.epoch, after.primary), (2, seen.primary), "the primary is not touched");
    for gone in [&old, &replica] {
        assert!(after.members.iter().all(|member| member.agent != gone.agent), "{after:?}");
        let events = api.events("a", 0).await?;
        let ended = events.iter().find(|event| event.kind == "ended" && event.member() == Some(gone.id));
        let text = &ended.expect("an event tells its end").text;
        assert!(text.contains("marked gone"), "{text}");
    }
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &after).await
}
