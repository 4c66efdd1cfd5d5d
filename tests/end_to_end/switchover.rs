//! Handing over on purpose, under load.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice, server_pids};
use cotton_tests::Writer;

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
