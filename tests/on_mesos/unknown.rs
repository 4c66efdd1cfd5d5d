//! Tasks of which there is no record, as after an older `ZooKeeper` was restored: they are left alone, and a person decides.

use crate::{Outcome, SOME, STEP, checks, loaded};
use cotton_tests::{Cluster, Failure, Stock, within};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The record of cluster `a` is lost while no scheduler runs.
async fn lose_the_record(stock: &mut Stock) -> Outcome {
    stock.kill_scheduler(0).await?;
    let client = stock.zookeeper.client().await?;
    let lost = client.delete("/mysos/state/clusters/a", None).await;
    lost.map_err(|error| Failure::because("the record was not deleted", &error))?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    // Each has said what it is.
    checks::until("they are listed", &vec![true; 3], async || {
        let (_, said) = stock.api(0).send(Method::GET, "/api/v1/unknown", None).await?;
        let tasks = said["tasks"].as_array().cloned().unwrap_or_default();
        Ok(tasks.iter().map(|task| task["why"] == "no_record" && task["identified"] == json!(true)).collect())
    })
    .await
}

fn tasks(cluster: &Cluster) -> Vec<String> {
    cluster.members.iter().map(|member| member.task.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_its_record_runs_on_and_is_adopted_or_discarded() -> Outcome {
    let Some(mut stock) = Stock::start(3).await? else { return Ok(()) };
    let (writer, first) = loaded(&stock).await?;
    let api = stock.api(0);
    lose_the_record(&mut stock).await?;
    writer.progress(SOME, STEP).await?;
    let password = |password: &str| Some(json!({ "password": password }));
    let adopt = "/api/v1/unknown/a/adopt";
    let (status, said) = api.send(Method::POST, adopt, password("wrong").as_ref()).await?;
    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
    let right = password(writer.password());
    // They are asked what they are when they report, which they do every few seconds.
    let accepted = async {
        loop {
            let (status, said): (StatusCode, Value) = api.send(Method::POST, adopt, right.as_ref()).await?;
            if said["code"] != "not_identified" {
                return Ok::<_, Failure>((status, said));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // the API has no event for it
        }
    };
    let (status, said) = within(STEP, "they say what they are", accepted).await??;
    assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary, tasks(&seen)), (1, first.primary, tasks(&first)), "nobody was disturbed");
    let events = api.events("a", 0).await?;
    assert_eq!((checks::count(&events, "adopted"), checks::count(&events, "primary_lost")), (1, 0), "{events:#?}");

    // It is a cluster like any other: a primary that is lost is replaced.
    stock.executor(seen.primary()?)?.1.kill();
    let seen = api.until("a", STEP, "failed over and whole", |c: &Cluster| c.epoch == 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &seen).await?;

    lose_the_record(&mut stock).await?;
    let (status, said) = api.send(Method::DELETE, "/api/v1/unknown/a", right.as_ref()).await?;
    assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    checks::until("nothing runs", &Vec::<String>::new(), async || checks::tasks(&stock).await).await
}
