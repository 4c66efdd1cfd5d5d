//! Everything is killed once. After each fault the cluster is whole again, has lost nothing, and nothing runs that should
//! not.

use crate::{Outcome, SOME, STEP, checks, cluster};
use cotton_tests::{Cluster, Failure, Stock, Writer, within};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A cluster of three under load, on so many agents.
async fn loaded(agents: u16) -> Result<Option<(Stock, Writer, Cluster)>, Failure> {
    let Some(stock) = Stock::start(agents).await? else { return Ok(None) };
    let (writer, seen) = crate::loaded(&stock).await?;
    Ok(Some((stock, writer, seen)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_executors_are_replaced() -> Outcome {
    let Some((stock, writer, seen)) = loaded(4).await? else { return Ok(()) };
    let api = stock.api(0);
    let old = seen.primary()?.clone();
    let (_, executor) = stock.executor(&old)?;
    let killed = Instant::now();
    executor.kill();
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let seen = api.until("a", STEP, "whole without it", |c| c.is_healthy() && c.member(old.id).is_none()).await?;
    assert_eq!(seen.epoch, 2);
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &seen).await
}

/// Executors and databases live on without their agent, and are found again: checkpointing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_that_comes_back_changes_nothing() -> Outcome {
    let Some((mut stock, writer, first)) = loaded(3).await? else { return Ok(()) };
    let api = stock.api(0);
    for agent in 0..3 {
        writer.progress(SOME, STEP).await?;
        stock.mesos.kill_agent(agent)?;
        writer.progress(SOME, STEP).await?;
        stock.mesos.start_agent(agent)?;
        stock.mesos.until_active(3).await?;
    }
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary));
    let tasks = |c: &Cluster| c.members.iter().map(|m| m.task.clone()).collect::<Vec<_>>();
    assert_eq!(tasks(&seen), tasks(&first));
    checks::whole(&stock, writer, &seen).await
}

/// The agent, its executor and its database together, as a machine that loses its power. Mesos finds out much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_machine_is_made_good() -> Outcome {
    let Some((mut stock, writer, seen)) = loaded(4).await? else { return Ok(()) };
    let api = stock.api(0);
    let old = seen.primary()?.clone();
    let (agent, _) = stock.server(&old)?;
    let lost = Instant::now();
    stock.kill_machine(agent)?;
    writer.first_elsewhere(old.endpoint.port, lost, STEP).await?;
    // It is replaced on another agent, and remembered: Mesos does not say that it has ended, only that it cannot be reached.
    let replaced = |c: &Cluster| c.is_healthy() && c.member(old.id).is_none_or(|m| m.leaving);
    api.until("a", STEP, "whole without it", replaced).await?;
    writer.progress(SOME, STEP).await?;
    // The machine is back.
    stock.mesos.start_agent(agent)?;
    let seen = api.until("a", STEP, "without it", |c| c.is_healthy() && c.member(old.id).is_none()).await?;
    checks::whole(&stock, writer, &seen).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_disturbs_nobody() -> Outcome {
    let Some((mut stock, writer, first)) = loaded(3).await? else { return Ok(()) };
    let api = stock.api(0);
    stock.mesos.kill_master()?;
    writer.progress(SOME, STEP).await?;
    stock.mesos.start_master().await?;
    stock.mesos.until_active(3).await?;
    stock.until_ready(0).await?;
    // Work goes on under the new master: a failover needs it for its messages.
    let old = first.primary()?.clone();
    let killed = Instant::now();
    stock.server(&old)?.1.kill();
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    checks::whole(&stock, writer, &seen).await
}

/// At moments of all kinds, while something is being done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_scheduler_finishes_its_work() -> Outcome {
    let Some(mut stock) = Stock::start(4).await? else { return Ok(()) };
    let (client, mut seen) = cluster(&stock, "a", 3).await?;
    let api = stock.api(0);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    for (round, ms) in [0, 5, 20, 80, 300].into_iter().enumerate() {
        writer.progress(SOME, STEP).await?;
        let (epoch, size) = (seen.epoch, if round % 2 == 0 { 4 } else { 3 });
        stock.server(seen.primary()?)?.1.kill();
        api.scale("a", size).await?;
        tokio::time::sleep(Duration::from_millis(ms)).await; // this is what varies
        stock.kill_scheduler(0).await?;
        stock.start_scheduler(0)?;
        stock.until_ready(0).await?;
        let whole = |c: &Cluster| c.epoch > epoch && c.size == size && c.is_healthy();
        seen = api.until("a", STEP, "failed over and at its size", whole).await?;
        checks::nothing_else_runs(&stock, &[&seen]).await?;
    }
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &seen).await?;
    api.delete("a", client.password()).await?;
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    api.until_gone("a", STEP).await
}

/// A leader that is stopped loses its place; when it goes on, it changes nothing any more and points to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over() -> Outcome {
    let Some(mut stock) = Stock::start(3).await? else { return Ok(()) };
    let (client, first) = cluster(&stock, "a", 3).await?;
    let writer = Writer::start(&stock.api(0), "a", client, 2).await?;
    stock.start_scheduler(1)?;
    stock.until_following(1).await?;
    assert_eq!(stock.api(1).until_healthy("a", STEP).await?.primary, first.primary, "it points to the leader");

    stock.signal_scheduler(0, Signal::STOP);
    stock.until_ready(1).await?;
    let seen = stock.api(1).until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary), "nobody was disturbed");
    stock.signal_scheduler(0, Signal::CONT);
    let old = first.primary()?.clone();
    let killed = Instant::now();
    stock.server(&old)?.1.kill();
    // The writer asks the old leader, which points to the new one.
    let told = writer.first_elsewhere(old.endpoint.port, killed, STEP).await;
    told.map_err(|f| Failure::new(format!("{f}\n--- 0:\n{}\n--- 1:\n{}", stock.log_end(0), stock.log_end(1))))?;
    let seen = stock.api(1).until("a", STEP, "whole", |c| c.epoch == 2 && c.is_healthy()).await?;

    stock.kill_scheduler(1).await?;
    stock.until_ready(0).await?;
    let again = stock.api(0).until_healthy("a", STEP).await?;
    assert_eq!((again.epoch, again.primary), (seen.epoch, seen.primary));
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &again).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_zookeeper_databases_run_on() -> Outcome {
    let Some((mut stock, writer, first)) = loaded(3).await? else { return Ok(()) };
    let api = stock.api(0);
    stock.zookeeper.kill(0).await?;
    let steps_down = async {
        while stock.is_ready(0).await {
            tokio::time::sleep(Duration::from_millis(50)).await; // it has no way to call us
        }
    };
    within(STEP, "it says that it does not lead", steps_down).await?;
    // The writer keeps to the endpoint that it knows.
    writer.progress(SOME, STEP).await?;
    stock.zookeeper.start(0)?;
    stock.zookeeper.serving().await?;
    stock.until_ready(0).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary));
    checks::whole(&stock, writer, &seen).await
}
