//! What Mesos thinks of a scheduler that was away.

use crate::{Outcome, SOME, STEP, checks, cluster, loaded};
use cotton_tests::{Cluster, Failure, Link, MesosOptions, Stock, StockOptions};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How many frameworks Mesos has, and how many it has removed.
async fn frameworks(stock: &Stock) -> Result<(usize, usize), Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
    let count = |list: &str| said["get_frameworks"][list].as_array().map_or(0, Vec::len);
    Ok((count("frameworks"), count("completed_frameworks")))
}

/// Mesos has ended all tasks by then. A second framework would make every cluster anew, and empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_was_silent_for_too_long_stops_and_says_why() -> Outcome {
    let mesos = MesosOptions { agents: 2, ..MesosOptions::default() };
    let flags = vec![("framework_failover_timeout", "60s".to_owned())];
    let Some(mut stock) = Stock::start_with(StockOptions { mesos, flags, ..StockOptions::default() }).await? else {
        return Ok(());
    };
    let (_, seen) = cluster(&stock, "a", 2).await?;
    let servers = seen.members.iter().map(|member| Ok(stock.server(member)?.1));
    let servers = servers.collect::<Result<Vec<_>, Failure>>()?;

    // Shorter than that is no harm.
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    assert_eq!(api_tasks(&stock.api(0).until_healthy("a", STEP).await?), api_tasks(&seen));

    // Longer is. Mesos goes by what it was told last.
    stock.flag("framework_failover_timeout", "5s".to_owned());
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    stock.kill_scheduler(0).await?;
    checks::until("Mesos gives the framework up", &(0, 1), async || frameworks(&stock).await).await?;
    for server in servers {
        server.ended(STEP).await?;
    }
    for _ in 0..2 {
        stock.start_scheduler(0)?;
        let status = stock.scheduler_ended(0, STEP).await?;
        assert_eq!(status.code(), Some(1), "{}", stock.log_end(0));
        let log = stock.log_end(0);
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("cotton-scheduler: ") && last.contains("removed"), "{last}");
        assert_eq!(frameworks(&stock).await?, (0, 1), "there is no second one");
    }
    Ok(())
}

/// All its members would end while they are set up, and their clusters would be begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_with_another_key_does_not_lead() -> Outcome {
    let Some(mut stock) = Stock::start(2).await? else { return Ok(()) };
    let (_, seen) = cluster(&stock, "a", 2).await?;
    let other = stock.path().join("other-key");
    std::fs::copy(stock.path().join("key"), &other)?; // with its mode
    std::fs::write(&other, [8; 32])?;
    let key = stock.path().join("key").display().to_string();
    for number in [1, 0] {
        if number == 0 {
            stock.kill_scheduler(0).await?; // nobody leads now
        }
        stock.flag("scheduler_keypath", other.display().to_string());
        stock.start_scheduler(number)?;
        let status = stock.scheduler_ended(number, STEP).await?;
        let log = stock.log_end(number);
        assert_eq!(status.code(), Some(1), "{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("other-key' does not open the passwords of all 1 clusters ('a')"), "{last}");
    }
    stock.flag("scheduler_keypath", key);
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let after = stock.api(0).until_healthy("a", STEP).await?;
    assert_eq!((api_tasks(&after), after.epoch), (api_tasks(&seen), seen.epoch), "nothing had happened to it");
    Ok(())
}

fn api_tasks(cluster: &Cluster) -> BTreeSet<&str> {
    cluster.members.iter().map(|member| member.task.as_str()).collect()
}

/// While nobody is there to hear it, a task ends, and its agent dies and comes back: news that was never acknowledged is
/// told again, by the agent and in answer to reconciliation. It counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_a_task_that_nobody_acknowledged_is_told_again_and_counts_once() -> Outcome {
    let Some(mut stock) = Stock::start(3).await? else { return Ok(()) };
    let (writer, seen) = loaded(&stock).await?;
    let old = seen.replicas().next().expect("there are two").clone();
    let (agent, executor) = stock.executor(&old)?;
    stock.kill_scheduler(0).await?;
    executor.kill();
    let ended = vec!["TASK_FAILED".to_owned()];
    checks::until("Mesos has the news", &ended, async || states(&stock, &old.task).await).await?;
    stock.mesos.kill_agent(agent)?;
    stock.mesos.start_agent(agent)?;
    stock.mesos.until_active(3).await?;
    writer.progress(SOME, STEP).await?;

    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let api = stock.api(0);
    let whole = |c: &Cluster| c.is_healthy() && c.member(old.id).is_none();
    let after = api.until("a", STEP, "whole without it", whole).await?;
    assert_eq!((after.epoch, after.primary), (1, seen.primary));
    let log = std::fs::read_to_string(stock.mesos.agent_log(agent))?;
    let told = |how: &str| log.lines().any(|line| line.contains(how) && line.contains(&old.task));
    assert!(told("Resending task status update TASK_FAILED"), "it was told again");
    // Acknowledged, it is forgotten: another scheduler hears nothing of it.
    let forgotten = Vec::<String>::new();
    checks::until("Mesos forgets the task", &forgotten, async || states(&stock, &old.task).await).await?;
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let again = api.until_healthy("a", STEP).await?;
    assert_eq!(api_tasks(&again), api_tasks(&after), "one was replaced, once");
    writer.progress(SOME, STEP).await?;
    checks::whole(&stock, writer, &again).await
}

/// The states in which Mesos lists a task that we have not told it to forget.
pub(crate) async fn states(stock: &Stock, task: &str) -> Result<Vec<String>, Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_TASKS" })).await?;
    let all = said["get_tasks"]["tasks"].as_array().cloned().unwrap_or_default();
    let its = all.iter().filter(|found| found["task_id"]["value"] == *task);
    Ok(its.filter_map(|found| found["state"].as_str().map(str::to_owned)).collect())
}

/// Wherever the connection to `ZooKeeper` breaks while a scheduler begins, it gets there, and registers once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_is_cut_off_while_it_begins_tries_again() -> Outcome {
    let Some(mut stock) = Stock::prepare(StockOptions::default()).await? else { return Ok(()) };
    let link = Link::to(stock.zookeeper.address(0)).await?;
    stock.flag("zk_url", format!("zk://{}/mysos", link.address()));
    let mut answers = 0;
    loop {
        link.break_after(answers);
        stock.start_scheduler(0)?;
        stock.until_ready(0).await?;
        let all_passed = link.spare();
        stock.kill_scheduler(0).await?;
        if all_passed {
            break;
        }
        answers += 1;
    }
    eprintln!("a beginning takes {answers} answers");
    assert!(answers > 5, "{answers}");
    assert_eq!(frameworks(&stock).await?, (1, 0));
    Ok(())
}

/// A former leader that was stopped may subscribe once more before it hears that it leads no more. The one that leads
/// does not give way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_takes_back_its_framework_from_whoever_has_no_right_to_it() -> Outcome {
    let Some(stock) = Stock::start(2).await? else { return Ok(()) };
    let (_, seen) = cluster(&stock, "a", 2).await?;
    let known = stock.mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
    let info = &known["get_frameworks"]["frameworks"][0]["framework_info"];
    let call = json!({ "type": "SUBSCRIBE", "framework_id": info["id"], "subscribe": { "framework_info": info } });
    let url = format!("http://{}/api/v1/scheduler", stock.mesos.master());
    let sent = reqwest::Client::new().post(url).json(&call).send().await;
    let mut stream = sent.map_err(|error| Failure::because("the master was not reached", &error))?;
    assert_eq!(stream.status(), 200);
    let first = stream.chunk().await.map_err(|error| Failure::because("nothing came", &error))?;
    assert!(first.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains("SUBSCRIBED")));
    let noticed = async || Ok(stock.log_end(0).contains("it is this one that leads"));
    checks::until("the scheduler says that it goes on", &true, noticed).await?;
    drop(stream);
    stock.until_ready(0).await?;
    assert_eq!(api_tasks(&stock.api(0).until_healthy("a", STEP).await?), api_tasks(&seen));
    assert_eq!(frameworks(&stock).await?, (1, 0));
    Ok(())
}

/// It reaches `ZooKeeper`, and so it would lead for ever without being able to do anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_mesos_gives_way_to_one_that_has_it() -> Outcome {
    let mesos = MesosOptions { agents: 2, ..MesosOptions::default() };
    let Some(mut stock) = Stock::prepare(StockOptions { mesos, ..StockOptions::default() }).await? else {
        return Ok(());
    };
    let direct = stock.mesos.master().to_string();
    let link = Link::to(direct.clone()).await?;
    stock.flag("mesos_master", link.address().to_owned());
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let (_, seen) = cluster(&stock, "a", 2).await?;
    // It is no better off, so nobody gives way to it.
    let other = Link::to(direct.clone()).await?;
    other.cut();
    stock.flag("mesos_master", other.address().to_owned());
    stock.start_scheduler(1)?;
    stock.until_following(1).await?;
    link.cut();
    let noticed = async || Ok(stock.log_end(0).contains("no connection to Mesos"));
    checks::until("the scheduler has noticed", &true, noticed).await?;

    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(36) {
        tokio::time::sleep(Duration::from_millis(200)).await; // it gives way after 30 s, if it does
        assert!(!stock.log_end(0).contains("gave way"), "{}", stock.log_end(0));
    }

    stock.flag("mesos_master", direct);
    stock.start_scheduler(2)?;
    stock.until_ready(2).await?;
    stock.until_following(0).await?;
    assert!(!stock.log_end(1).contains("this scheduler leads"), "{}", stock.log_end(1));
    assert!(stock.log_end(0).contains("it gave way: no lasting connection to Mesos for "), "{}", stock.log_end(0));
    assert_eq!(api_tasks(&stock.api(2).until_healthy("a", STEP).await?), api_tasks(&seen));
    link.mend();
    stock.kill_scheduler(2).await?;
    stock.until_ready(0).await?;
    assert_eq!(api_tasks(&stock.api(0).until_healthy("a", STEP).await?), api_tasks(&seen));
    assert_eq!(frameworks(&stock).await?, (1, 0));
    Ok(())
}
