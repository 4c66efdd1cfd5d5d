//! What others see of a cluster while it lives, and that they see nothing of it afterwards.

use crate::{Outcome, SOME, STEP, checks, cluster, loaded};
use cotton_core::Endpoint;
use cotton_tests::{Cluster, Failure, Kazoo, Seen, Stock, Writer, tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Reads on until the reader tells this primary: it looks when something has changed, and may miss what is soon another.
async fn tells(watch: &mut Kazoo, told: &mut Vec<String>, primary: &Endpoint) -> Outcome {
    while told.last() != Some(&primary.to_string()) {
        match watch.next(STEP).await? {
            Seen::Master(at) => told.extend(at),
            Seen::Terminated => return Err(Failure::new(format!("it is told to be gone; before that: {told:?}"))),
        }
    }
    Ok(())
}

/// A reader that is not ours, from before the cluster is there until it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_one_primary_at_a_time_and_every_change() -> Outcome {
    let Some(stock) = Stock::start(4).await? else { return Ok(()) };
    let Some(mut watch) = Kazoo::start("watch", &stock.zookeeper.url("", "/mysos/discover/a"))? else { return Ok(()) };
    let api = stock.api(0);
    let (client, mut seen) = cluster(&stock, "a", 3).await?;
    let mut told = Vec::new();
    tells(&mut watch, &mut told, &seen.primary()?.endpoint).await?;
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    for round in 0..4 {
        writer.progress(SOME, STEP).await?;
        let (old, epoch) = (seen.primary()?.clone(), seen.epoch);
        let lost = Instant::now();
        let (_, process) = if round % 2 == 0 { stock.server(&old)? } else { stock.executor(&old)? };
        process.kill();
        writer.first_elsewhere(old.endpoint.port, lost, STEP).await?;
        seen = api.until("a", STEP, "failed over and whole", |c| c.epoch > epoch && c.is_healthy()).await?;
        tells(&mut watch, &mut told, &seen.primary()?.endpoint).await?;
    }
    let promoted = |event: cotton_tests::Event| (event.kind == "promoted").then(|| event.endpoint()).flatten();
    let wanted: Vec<Endpoint> = api.events("a", 0).await?.into_iter().filter_map(promoted).collect();
    assert!(wanted.len() >= 5, "{wanted:?}");
    checks::whole(&stock, writer, &seen).await?;
    api.delete("a", client.password()).await?;
    api.until_gone("a", STEP).await?;
    // It would have ended instead, had it ever seen two.
    let at_last = watch.until(&Seen::Terminated, STEP).await?;
    assert!(at_last.iter().all(|seen| *seen == Seen::Master(None)), "{at_last:?}");
    // All, in order; a round with more than one of them may have been too quick for it.
    let mut promoted = wanted.iter().map(ToString::to_string);
    assert!(told.len() >= 5 && told.iter().all(|at| promoted.any(|one| one == *at)), "{told:?} of {wanted:?}");
    Ok(())
}

/// What is in `ZooKeeper` stays as it is for so long, and rows are written all the while.
async fn stays_seen(stock: &Stock, writer: &Writer, seen: &BTreeMap<String, Vec<u8>>, time: Duration) -> Outcome {
    let client = stock.zookeeper.client().await?;
    let start = Instant::now();
    while start.elapsed() < time {
        assert_eq!(tree(&client, "/mysos/discover/a").await?, *seen, "{:?} after", start.elapsed());
        writer.progress(1, STEP).await?;
    }
    Ok(())
}

/// A scheduler that takes over hears nobody while the master is away, and not the primary while its agent is. Clients
/// write to a primary that is fine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_that_hears_nobody_withdraws_nothing() -> Outcome {
    let Some(mut stock) = Stock::start(3).await? else { return Ok(()) };
    let (writer, first) = loaded(&stock).await?;
    let seen = tree(&stock.zookeeper.client().await?, "/mysos/discover/a").await?;
    assert_eq!(seen.keys().filter(|path| path.contains("member_")).count(), 3, "{seen:?}");

    stock.mesos.kill_master()?;
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    let leads = async || Ok(stock.log_end(0).contains("this scheduler leads"));
    checks::until("it leads", &true, leads).await?;
    stays_seen(&stock, &writer, &seen, Duration::from_secs(10)).await?; // it withdrew after 3 s
    stock.mesos.start_master().await?;
    stock.until_ready(0).await?;
    stays_seen(&stock, &writer, &seen, Duration::from_secs(6)).await?; // agents are back after 5 s
    stock.mesos.until_active(3).await?;
    let whole = stock.api(0).until_healthy("a", STEP).await?;
    assert_eq!((whole.epoch, whole.primary), (1, first.primary));

    let (agent, _) = stock.executor(first.primary()?)?;
    stock.mesos.kill_agent(agent)?;
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    stays_seen(&stock, &writer, &seen, Duration::from_secs(12)).await?;
    stock.mesos.start_agent(agent)?;
    stock.mesos.until_active(3).await?;
    let whole = stock.api(0).until_healthy("a", STEP).await?;
    assert_eq!((whole.epoch, whole.primary), (1, first.primary));
    assert_eq!(tree(&stock.zookeeper.client().await?, "/mysos/discover/a").await?, seen);
    checks::whole(&stock, writer, &whole).await
}

/// What `ZooKeeper` holds for us; but for who leads, which changes with each session, and for one number, which grows with
/// each cluster that there ever was.
async fn znodes(stock: &Stock) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut all = tree(&stock.zookeeper.client().await?, "/mysos").await?;
    all.retain(|path, _| !path.starts_with("/mysos/leader/"));
    for data in all.values_mut() {
        if let Ok(Value::Object(mut record)) = serde_json::from_slice::<Value>(data)
            // what is remembered of clusters that were deleted: their tasks may still be somewhere
            && (record.remove("deleted").is_some() | record.remove("first_member").is_some())
        {
            *data = json!(record).to_string().into_bytes();
        }
    }
    Ok(all)
}

/// What Mesos has running and given away: tasks, executors, and by agent what is used and what is reserved.
async fn in_mesos(stock: &Stock) -> Result<Value, Failure> {
    let executors = stock.mesos.operator(json!({ "type": "GET_EXECUTORS" })).await?;
    let executors = executors["get_executors"]["executors"].as_array().map_or(0, Vec::len);
    let agents = stock.mesos.operator(json!({ "type": "GET_AGENTS" })).await?;
    let mut by_agent = BTreeMap::new();
    for agent in agents["get_agents"]["agents"].as_array().into_iter().flatten() {
        let amount = |what: &str| agent[what].as_array().cloned().unwrap_or_default();
        let reserved = |resource: &&Value| resource.get("reservations").is_some() || resource["disk"].is_object();
        let held: Vec<Value> = amount("total_resources").iter().filter(reserved).cloned().collect();
        by_agent.insert(agent["agent_info"]["id"]["value"].to_string(), (amount("allocated_resources"), held));
    }
    Ok(json!({ "tasks": checks::tasks(stock).await?, "executors": executors, "agents": by_agent }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_leaves_zookeeper_and_mesos_as_they_were() -> Outcome {
    let Some(stock) = Stock::start(3).await? else { return Ok(()) };
    let (znodes_before, mesos_before) = (znodes(&stock).await?, in_mesos(&stock).await?);
    assert_eq!((&mesos_before["tasks"], &mesos_before["executors"]), (&json!([]), &json!(0)));
    let api = stock.api(0);
    let (client, seen) = cluster(&stock, "a", 3).await?;
    // not only what a cluster has that never failed
    stock.executor(seen.primary()?)?.1.kill();
    let seen = api.until("a", STEP, "failed over and whole", |c: &Cluster| c.epoch == 2 && c.is_healthy()).await?;
    assert!(znodes(&stock).await?.len() > znodes_before.len() && in_mesos(&stock).await? != mesos_before);

    api.delete("a", client.password()).await?;
    api.until_gone("a", STEP).await?;
    checks::until("nothing in Mesos", &mesos_before, async || in_mesos(&stock).await).await?;
    checks::until("nothing in ZooKeeper", &znodes_before, async || znodes(&stock).await).await?;
    for (_, process) in stock.executors(3).into_iter().chain(stock.servers(3)) {
        process.ended(STEP).await?;
    }
    // and the name can be had again
    let (_, again) = cluster(&stock, "a", 3).await?;
    assert_eq!(again.epoch, 1);
    assert!(again.members.iter().all(|new| seen.members.iter().all(|old| old.task != new.task)), "{again:?}");
    Ok(())
}
