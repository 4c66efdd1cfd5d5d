//! What people can decide of a cluster, on real servers.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice};
use cotton_tests::{Api, Cluster, Failure, Writer};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Asks for something of a cluster.
async fn pull(api: &Api, what: &str, body: Value) -> Result<Cluster, Failure> {
    api.change("a", Method::POST, &format!("/api/v1/clusters/a/{what}"), body).await
}

/// A replica leaves under load, and another takes its place; commits are acknowledged all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_rebuilt() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let (primary, old) = (seen.primary()?.id, seen.replicas().next().expect("two").id);
    let refused = pull(&api, &format!("members/{primary}/rebuild"), json!({})).await.expect_err("it is the primary");
    assert!(refused.to_string().contains("cannot_rebuild"), "{refused}");
    pull(&api, &format!("members/{old}/rebuild"), json!({})).await?;
    let seen = api.until("a", STEP, "whole without it", |c| c.is_healthy() && c.member(old).is_none()).await?;
    writer.progress(SOME, STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, Some(primary)));
    let events = api.events("a", 0).await?;
    assert!(events.iter().any(|event| event.kind == "rebuild_asked" && event.member() == Some(old)));
    assert!(!events.iter().any(|event| event.kind == "commits_wait"), "{events:#?}");
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// The server of a paused cluster's primary dies: it is started again and stays read-only, the scheduler may come and go,
/// and the failover begins when the cluster is resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_fails_over_when_it_is_resumed() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let paused = pull(&api, "pause", json!({})).await?;
    assert!(paused.waits_for("paused"), "{paused:?}");
    writer.progress(SOME, STEP).await?;
    let old = seen.primary()?.clone();
    cotton.server(&old.task)?.kill();
    let held = |c: &Cluster| c.status == "waiting" && c.waits_for("paused") && c.waits_for("failover_held");
    api.until("a", STEP, "held", held).await?;
    cotton.kill().await?;
    cotton.start_again().await?;
    let seen = api.until("a", STEP, "held after a restart", held).await?;
    assert_eq!((seen.epoch, seen.primary), (1, None));
    let password = json!({ "size": 4 });
    let refused = api.change::<Cluster>("a", Method::PATCH, "/api/v1/clusters/a", password).await;
    assert!(refused.is_err_and(|refused| refused.to_string().contains("cluster_paused")));
    let refused = api.change::<Value>("a", Method::DELETE, "/api/v1/clusters/a", json!({})).await;
    assert!(refused.is_err_and(|refused| refused.to_string().contains("cluster_paused")));

    pull(&api, "resume", json!({})).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Without acknowledgements, a primary is fenced when its lease ends: a paused cluster's goes on writing, also while its
/// replica is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_asynchronous_primary_keeps_its_lease() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 2).await?;
    let api = cotton.api();
    pull(&api, "pause", json!({})).await?;
    let replica = seen.replicas().next().expect("two").clone();
    cotton.executor(&replica.task)?.kill();
    let writer = Writer::start(&api, "a", client, 2).await?;
    // longer than two leases, by reports
    let mut events = api.stream("a", None).await?;
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(25) {
        writer.progress(SOME, STEP).await?;
    }
    let there = api.cluster("a").await?.expect("it is there");
    assert_eq!((there.epoch, there.primary), (1, seen.primary), "{there:?}");
    assert!(there.members.iter().filter(|member| member.role == "replica").count() == 0, "{there:?}");
    pull(&api, "resume", json!({})).await?;
    events.until(STEP, "resumed", |event| event.kind == "resumed").await?;
    let seen = api.until_healthy("a", STEP).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// The primary and the only replica that acknowledged its last commits stand still, and a person makes the other one
/// primary: what that one lacks is told before and kept afterwards, and nobody who has it follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_decides_an_election_that_waits() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let (primary, replicas) = (seen.primary()?.clone(), seen.replicas().cloned().collect::<Vec<_>>());
    let [winner, holder] = &replicas[..] else { return Err(Failure::new("not two replicas")) };
    for statement in ["CREATE DATABASE s", "CREATE TABLE s.k (a INT PRIMARY KEY)", "INSERT INTO s.k VALUES (1)"] {
        client.run(&primary.endpoint, statement).await?;
    }
    client.until_has(&winner.endpoint, "SELECT a FROM s.k", &[1].into(), STEP).await?;
    let to = json!({ "to": winner.id, "accept_loss": true });
    let refused = pull(&api, "elect", to.clone()).await.expect_err("a primary is open").to_string();
    assert!(refused.contains("no_election") && refused.contains("cotton switchover"), "{refused}");

    let executor = cotton.executor(&winner.task)?;
    executor.signal(Signal::STOP);
    let server = cotton.server(&winner.task)?;
    server.kill();
    server.ended(STEP).await?;
    client.run(&primary.endpoint, "INSERT INTO s.k VALUES (2)").await?;
    let mut still = Vec::new();
    for member in [&primary, holder] {
        still.extend([cotton.executor(&member.task)?, cotton.server(&member.task)?]);
    }
    for process in &still {
        process.signal(Signal::STOP);
    }
    executor.signal(Signal::CONT);
    let waits = |c: &Cluster| c.status == "waiting" && c.waits_for("election_waits");
    api.until("a", STEP, "waiting for who is missing", waits).await?;

    let asked = || pull(&api, "elect", json!({ "to": winner.id }));
    let mut refused = asked().await.expect_err("what is lost was not accepted").to_string();
    let start = std::time::Instant::now();
    while refused.contains("cannot_elect") && start.elapsed() < STEP {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await; // it is about to be frozen
        refused = asked().await.expect_err("what is lost was not accepted").to_string();
    }
    for member in [primary.id, holder.id] {
        // what the last one did may not have been reported before it stood still
        let told = [format!("member {member} had "), format!("what member {member} has received is not known")];
        assert!(told.iter().any(|words| refused.contains(words)), "{refused}");
    }
    assert!(refused.contains("loss_not_accepted") && refused.contains("two servers may take writes"), "{refused}");
    let frozen = pull(&api, "elect", json!({ "to": holder.id, "accept_loss": true })).await.expect_err("not heard of");
    assert!(frozen.to_string().contains("cannot_elect"), "{frozen}");
    pull(&api, "elect", to).await?;
    let seen = api.until("a", STEP, "with a primary", |c| c.primary == Some(winner.id)).await?;
    assert_eq!(client.numbers(&winner.endpoint, "SELECT a FROM s.k").await?, [1].into());
    for process in &still {
        process.signal(Signal::CONT);
    }
    let whole = api.until("a", 2 * STEP, "whole", Cluster::is_healthy).await?;
    assert_eq!((whole.epoch, whole.primary), (seen.epoch, Some(winner.id)));
    client.run(&winner.endpoint, "INSERT INTO s.k VALUES (3)").await?;
    let events = api.events("a", 0).await?;
    let forced = events.iter().find(|event| event.kind == "election_forced").expect("it is told");
    assert!(forced.member() == Some(winner.id) && forced.text.contains("accepts to lose"), "{forced:?}");
    Ok(())
}

/// Who would be promoted, as `explain` tells, and what speaks against each other member.
async fn foretold(api: &Api) -> Result<(Option<u64>, Value), Failure> {
    let (_, explained) = api.send(Method::GET, "/api/v1/clusters/a/explain", None).await?;
    Ok((explained["succession"]["winner"].as_u64(), explained["members"].clone()))
}

/// Members that have the same are promoted as people want it, and `explain` says so before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_decide_who_is_promoted() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, mut seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    client.run(&seen.primary()?.endpoint, "CREATE DATABASE s").await?;
    for (rule, is_promoted) in [("never", false), ("prefer", true)] {
        // By number alone it would be the first of the two with 'never', and the second one with 'prefer'.
        let replicas: Vec<u64> = seen.replicas().map(|member| member.id).collect();
        let [first, second] = replicas[..] else { return Err(Failure::new(format!("not two replicas: {seen:?}"))) };
        let (ruled, winner) = if is_promoted { (second, second) } else { (first, second) };
        for member in [first, second] {
            let rule = if member == ruled { rule } else { "neutral" };
            pull(&api, &format!("members/{member}/rule"), json!({ "rule": rule })).await?;
        }
        let (told, members) = foretold(&api).await?;
        assert_eq!(told, Some(winner), "{rule}: {members}");
        let loser = members.as_array().into_iter().flatten().find(|member| member["id"] == first);
        assert_eq!(loser.expect("it is a member")["why_not"][0]["code"], "promotion_rule", "{members}");
        let old = seen.primary()?.clone();
        cotton.server(&old.task)?.kill();
        let over = |c: &Cluster| c.epoch > seen.epoch && c.is_healthy();
        let next = api.until("a", STEP, "failed over and whole", over).await?;
        assert_eq!((next.epoch, next.primary), (seen.epoch + 1, Some(winner)), "{rule}: {next:?}");
        client.run(&next.primary()?.endpoint, &format!("CREATE DATABASE s_{rule}")).await?;
        seen = next;
    }
    nothing_twice(&cotton, &api, &[&seen]).await
}
