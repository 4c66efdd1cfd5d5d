//! Replicas on which somebody wrote a transaction, as any user can with `ANALYZE TABLE`: they are replaced, and commits never
//! wait for that.

use crate::{Outcome, SOME, STEP, nothing_twice};
use cotton_tests::{Api, Client, Cluster, Failure, Flavour, Options, RealCotton, Wanted, Writer};
use mysql_async::prelude::Queryable;
use rustix::process::Signal;

/// Servers that write what fails, too. The applier of MariaDB stops at the number that such a statement has taken.
const FLAVOURS: [Flavour; 2] = [Flavour::MySql97, Flavour::MariaDb118];

/// A cluster whose commits are acknowledged.
async fn start(flavour: Flavour, size: u32, agents: u32) -> Result<Option<(RealCotton, Client, Cluster)>, Failure> {
    if flavour.programs().is_none() {
        return Ok(None);
    }
    let cotton = RealCotton::start(Options { flavour, agents, ..Options::default() }).await?;
    let resources = serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" });
    let wanted = Wanted { resources, durability: Some("semi_sync"), ..Wanted::small(size) };
    let created = cotton.api().create("a", &wanted).await?;
    let seen = cotton.api().until_healthy("a", 3 * STEP).await?;
    Ok(Some((cotton, Client::new(wanted.user, created.password), seen)))
}

/// Writes a transaction of its own on each of these.
async fn spoil(client: &Client, replicas: impl Iterator<Item = &cotton_tests::Member>) -> Outcome {
    for replica in replicas {
        let mut conn = client.connect(&replica.endpoint).await?;
        conn.query_drop("ANALYZE TABLE nosuch.nosuch").await?;
    }
    Ok(())
}

/// Members that left because of that, in the order of leaving. On MariaDB the applier may stop before the transaction of its
/// own is noticed.
async fn left(api: &Api) -> Result<Vec<u64>, Failure> {
    let events = api.events("a", 0).await?;
    let because = ["that the primary lacks", "cannot apply what the primary sends"];
    let is_because = |event: &&cotton_tests::Event| because.iter().any(|reason| event.text.contains(reason));
    let left = events.iter().filter(|event| event.kind == "leaving").filter(is_because);
    Ok(left.filter_map(cotton_tests::Event::member).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_replica_is_replaced_and_commits_do_not_wait() -> Outcome {
    for flavour in FLAVOURS {
        replicas_are_replaced(flavour, 2).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_are_replaced_and_commits_do_not_wait() -> Outcome {
    replicas_are_replaced(Flavour::MariaDb118, 3).await
}

async fn replicas_are_replaced(flavour: Flavour, size: u32) -> Outcome {
    let Some((cotton, client, first)) = start(flavour, size, size + 1).await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    spoil(&client, first.replicas()).await?;
    let old: Vec<u64> = first.replicas().map(|member| member.id).collect();
    let rid = |cluster: &Cluster| cluster.is_healthy() && old.iter().all(|id| cluster.member(*id).is_none());
    let seen = api.until("a", 3 * STEP, "rid of them", rid).await?;
    let mut gone = left(&api).await?;
    gone.sort_unstable();
    assert_eq!((seen.epoch, gone), (1, old));
    let events = api.events("a", 0).await?;
    assert!(events.iter().all(|event| event.kind != "commits_wait"), "{events:?}");
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Each replica has a transaction of its own, and the primary dies: one of them wins, and the other refuses to follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_diverged_before_a_failover_are_replaced_after_it() -> Outcome {
    for flavour in FLAVOURS {
        replaced_after_a_failover(flavour).await?;
    }
    Ok(())
}

async fn replaced_after_a_failover(flavour: Flavour) -> Outcome {
    let Some((cotton, client, first)) = start(flavour, 3, 4).await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    spoil(&client, first.replicas()).await?;
    cotton.server(&first.primary()?.task)?.kill();
    let seen = api.until("a", 3 * STEP, "whole again", |c| c.is_healthy() && c.epoch > 1).await?;
    let left = left(&api).await?;
    assert!(!left.is_empty(), "{seen:?}");
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// The former primary wins, since nobody else answers; the others acknowledge for it until they are replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_primary_wins_and_all_its_replicas_are_replaced() -> Outcome {
    for flavour in FLAVOURS {
        all_replaced_after_a_failover(flavour).await?;
    }
    Ok(())
}

async fn all_replaced_after_a_failover(flavour: Flavour) -> Outcome {
    let Some((cotton, client, first)) = start(flavour, 3, 4).await? else { return Ok(()) };
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    spoil(&client, first.replicas()).await?;
    let primary = first.primary()?.clone();
    let silent = first.replicas().map(|replica| cotton.executor(&replica.task)).collect::<Result<Vec<_>, _>>()?;
    for executor in &silent {
        executor.signal(Signal::STOP);
    }
    cotton.server(&primary.task)?.kill();
    let wins = |c: &Cluster| c.epoch == 2 && c.primary == Some(primary.id);
    let won = api.until("a", STEP, "won by the former primary", wins).await;
    for executor in &silent {
        executor.signal(Signal::CONT);
    }
    won?;
    let old: Vec<u64> = first.replicas().map(|member| member.id).collect();
    let rid = |c: &Cluster| c.is_healthy() && old.iter().all(|id| c.member(*id).is_none());
    let seen = api.until("a", 2 * STEP, "rid of them", rid).await?;
    assert_eq!((seen.epoch, seen.primary), (2, Some(primary.id)), "it has all that was acknowledged");
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
