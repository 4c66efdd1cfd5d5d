//! Members that are confined to their size.

use crate::{Outcome, SOME, STEP, checks, cluster};
use cotton_tests::{Client, Cluster, Failure, MesosOptions, RealMesos, Stock, StockOptions, Writer, within};
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;

/// Three agents that confine; `None` when there is no Mesos, or this machine cannot.
async fn confined() -> Result<Option<Stock>, Failure> {
    if !RealMesos::can_isolate() {
        return Ok(None);
    }
    let mesos = MesosOptions { agents: 3, isolated: true, ..MesosOptions::default() };
    Stock::start_with(StockOptions { mesos, ..StockOptions::default() }).await
}

/// Fills the memory of the primary, as any user of it can, until its server is gone.
async fn overfill(client: &Client, cluster: &Cluster) -> Outcome {
    let mut conn = client.connect(&cluster.primary()?.endpoint).await?;
    for variable in 0..130 {
        let fill = format!("SET @v{variable} = REPEAT('x', 16000000)");
        match tokio::time::timeout(STEP, conn.query_drop(fill)).await {
            Ok(Err(mysql_async::Error::Server(refused))) => {
                return Err(Failure::new(format!("the server refused: {refused}")));
            }
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(()), // the connection broke, or the server is stopped while it is out of memory
        }
    }
    Err(Failure::new("2 GB fit into the member"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_wants_too_much_memory_is_ended_alone_and_made_again() -> Outcome {
    let Some(stock) = confined().await? else { return Ok(()) };
    let (client, first) = cluster(&stock, "a", 3).await?;
    let (neighbours, beside) = cluster(&stock, "b", 3).await?;
    let api = stock.api(0);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    let undisturbed = Writer::start(&api, "b", neighbours, 2).await?;
    writer.progress(SOME, STEP).await?;
    undisturbed.progress(SOME, STEP).await?;
    let before = pids(&stock, &beside)?;

    let old = first.primary()?.clone();
    assert!(beside.members.iter().any(|member| member.agent == old.agent), "each agent has one of both");
    let (_, executor) = stock.executor(&old)?;
    overfill(&client, &first).await?;
    executor.ended(STEP).await?;
    let whole = |c: &Cluster| c.is_healthy() && c.epoch > 1 && c.member(old.id).is_none();
    let seen = api.until("a", STEP, "whole without it", whole).await?;
    let events = api.events("a", 0).await?;
    let ended: Vec<_> = events.iter().filter(|event| event.kind == "ended").collect();
    assert!(ended.len() == 1 && ended[0].member() == Some(old.id), "it alone: {ended:#?}");
    let text = &ended[0].text;
    assert!(text.contains("Memory limit exceeded") && text.contains("REASON_CONTAINER_LIMITATION_MEMORY"), "{text}");
    assert!(text.lines().count() == 1, "{text}");
    writer.progress(SOME, STEP).await?;
    checks::nothing_lost(&stock, writer, &seen).await?;
    undisturbed.progress(SOME, STEP).await?;
    let after = api.until_healthy("b", STEP).await?;
    assert_eq!(
        (after.epoch, after.primary, pids(&stock, &after)?),
        (1, beside.primary, before),
        "neighbours notice nothing"
    );
    checks::nothing_lost(&stock, undisturbed, &after).await?;
    checks::nothing_else_runs(&stock, &[&seen, &after]).await
}

/// The smallest member that the tests use, with more data than three quarters of its size, and with as many sessions as it
/// takes, each of which sorts: none of it is more than its container has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_fits_its_size_when_idle_and_under_load() -> Outcome {
    const SESSIONS: usize = 14;
    let Some(stock) = confined().await? else { return Ok(()) };
    let (client, first) = cluster(&stock, "a", 3).await?;
    let before = pids(&stock, &first)?;
    let writer = Writer::start(&stock.api(0), "a", client.clone(), 8).await?;
    writer.progress(SOME * 10, STEP).await?;
    let primary = first.primary()?.endpoint.clone();
    let run = async |statement: String| {
        let mut conn = client.connect(&primary).await?;
        within(STEP, &statement, conn.query_drop(&statement)).await??;
        Ok::<_, Failure>(())
    };
    run("CREATE TABLE cotton_test.fill (id BIGINT PRIMARY KEY, text TEXT) ENGINE=InnoDB".to_owned()).await?;
    for chunk in 0..15 {
        let (from, rows) = (chunk * 10_000, "REPEAT('x', 1000) FROM cotton_test.seq_1_to_10000");
        run(format!("INSERT INTO cotton_test.fill SELECT seq + {from}, {rows}")).await?;
    }
    let sort = "SELECT text FROM cotton_test.fill WHERE id <= 20000 ORDER BY RAND() LIMIT 10000";
    let sorts = (0..SESSIONS).map(|_| run(format!("SELECT COUNT(*) FROM ({sort}) AS sorted")));
    for sorted in futures::future::join_all(sorts).await {
        sorted?;
    }
    let seen = stock.api(0).until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary, pids(&stock, &seen)?), (1, first.primary, before));
    checks::whole(&stock, writer, &seen).await
}

/// The server process of each member.
fn pids(stock: &Stock, cluster: &Cluster) -> Result<BTreeMap<u64, u32>, Failure> {
    cluster.members.iter().map(|member| Ok((member.id, stock.server(member)?.1.pid))).collect()
}
