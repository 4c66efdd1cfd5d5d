//! `ZooKeeper` as an ensemble, with and without its quorum.

use crate::{Outcome, SOME, STEP, checks, cluster};
use cotton_tests::{Client, Cluster, Failure, MesosOptions, Stock, StockOptions, Writer, within};
use reqwest::{Method, StatusCode};
use std::time::{Duration, Instant};

/// What a scheduler says that leads no more, everywhere that it can be asked.
async fn says_what_it_waits_for(stock: &Stock) -> Outcome {
    let api = stock.api(0);
    let steps_down = async {
        while stock.is_ready(0).await {
            tokio::time::sleep(Duration::from_millis(50)).await; // it has no way to call us
        }
    };
    within(STEP, "it says that it does not lead", steps_down).await?;
    for path in ["/readyz", "/api/v1/clusters", "/api/v1/clusters/a"] {
        // the first reason is that its session is lost, the next that no other can be had
        let said = async {
            loop {
                let (status, said) = api.send(Method::GET, path, None).await?;
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {said}");
                let detail = said["detail"].as_str().unwrap_or_default().to_owned();
                assert!(detail.contains("no scheduler leads at the moment"), "{path}: {said}");
                if detail.contains("no ZooKeeper server") {
                    return Ok::<_, Failure>(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within(STEP, "it says what it waits for", said).await??;
    }
    let (status, _) = api.form(Method::POST, "/clusters/b", "num_nodes=1&cluster_user=app").await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "Cotton's API says so, too");
    let log = stock.log_end(0);
    assert!(log.contains("leads no more") && log.contains("no ZooKeeper server"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_quorum_databases_run_on_and_nothing_is_decided() -> Outcome {
    let mesos = MesosOptions { agents: 3, ..MesosOptions::default() };
    let options = StockOptions { mesos, ensemble: true, ..StockOptions::default() };
    let Some(mut stock) = Stock::start_with(options).await? else { return Ok(()) };
    let (client, first) = cluster(&stock, "a", 3).await?;
    let api = stock.api(0);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;

    // One server less is none too few.
    stock.zookeeper.kill(0).await?;
    stock.until_ready(0).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary));

    stock.zookeeper.kill(1).await?;
    says_what_it_waits_for(&stock).await?;
    writer.progress(SOME, STEP).await?;

    // A primary that is lost now is restarted in place, and stays read-only: nobody may decide.
    let old = first.primary()?.clone();
    let lost = Instant::now();
    stock.server(&old)?.1.kill();
    nobody_takes_writes(&client, &first, Duration::from_secs(3)).await?;

    stock.zookeeper.start(0)?;
    stock.zookeeper.start(1)?;
    stock.zookeeper.serving().await?;
    stock.until_ready(0).await?;
    let told = writer.first_elsewhere(0, lost, STEP).await;
    told.map_err(|failure| Failure::new(format!("{failure}\n{}", stock.log_end(0))))?;
    let seen = api.until("a", STEP, "whole", |c| c.epoch == 2 && c.is_healthy()).await?;

    // And an ordinary one afterwards.
    let old = seen.primary()?.clone();
    writer.progress(SOME, STEP).await?;
    let lost = Instant::now();
    stock.server(&old)?.1.kill();
    writer.first_elsewhere(old.endpoint.port, lost, STEP).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 3 && c.is_healthy()).await?;
    checks::whole(&stock, writer, &seen).await
}

/// No member is open for writes, for so long.
async fn nobody_takes_writes(client: &Client, cluster: &Cluster, time: Duration) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < time {
        for member in &cluster.members {
            // one that is being started does not answer
            let writable = client.is_writable(&member.endpoint).await.unwrap_or(false);
            assert!(!writable, "member {} takes writes {:?} after the primary was lost", member.id, start.elapsed());
        }
    }
    Ok(())
}
