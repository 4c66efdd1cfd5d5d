//! Members die, hang, and are cut off; the cluster goes on and loses nothing that was acknowledged.

use crate::{Outcome, SOME, STEP, came_back_or_was_errant, cluster, cotton, nothing_twice};
use cotton_core::Endpoint;
use cotton_tests::{Api, Client, Cluster, Failure, Member, Process, RealCotton, Wanted, Writer, admin, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Looks at the endpoint that the API tells, again and again; whenever it is another one, it must be writable already.
/// Also gives the one that was last found so: nobody must kill another, which could be read-only again when it is looked at.
fn watch_endpoint(
    api: Api,
    name: &'static str,
    client: Client,
) -> (JoinHandle<Failure>, watch::Receiver<Option<Endpoint>>) {
    let (writable, found) = watch::channel(None);
    let task = tokio::spawn(async move {
        loop {
            let seen = api.cluster(name).await.ok().flatten().and_then(|cluster| cluster.endpoint);
            if let Some(seen) = seen.filter(|seen| writable.borrow().as_ref() != Some(seen)) {
                match client.is_writable(&seen).await {
                    Ok(true) => {}
                    Ok(false) => return Failure::new(format!("{seen} is told as primary, but read-only")),
                    Err(failure) => return Failure::new(format!("{seen} is told as primary: {failure}")),
                }
                writable.send_replace(Some(seen));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    (task, found)
}

/// That it has not ended by itself.
async fn ended_well(watch: JoinHandle<Failure>) -> Outcome {
    if watch.is_finished() {
        return Err(failure_of(watch).await);
    }
    watch.abort();
    Ok(())
}

async fn failure_of(watch: JoinHandle<Failure>) -> Failure {
    watch.await.unwrap_or_else(|error| Failure::because("the watch ended", &error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_primary_is_replaced_and_comes_back_with_its_data() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, mut seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let (watch, mut writable) = watch_endpoint(api.clone(), "a", client.clone());
    let writer = Writer::start(&api, "a", client, 4).await?;
    for round in 1..=3 {
        writer.progress(SOME, STEP).await?;
        let old = seen.primary()?.clone();
        let was_looked_at = writable.wait_for(|seen| seen.as_ref() == Some(&old.endpoint));
        if within(STEP, "the endpoint is writable", was_looked_at).await?.is_err() {
            return Err(failure_of(watch).await);
        }
        let (server, executor) = (cotton.server(&old.task)?, cotton.executor(&old.task)?);
        let killed = Instant::now();
        server.kill();
        writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
        seen = api.until("a", STEP, "failed over and whole", |c| c.epoch > round && c.is_healthy()).await?;
        assert_eq!(seen.epoch, round + 1, "one election, not more: {seen:?}");
        assert_ne!(seen.primary, Some(old.id));
        came_back_or_was_errant(&api, &seen, &old).await?;
        if seen.member(old.id).is_some() {
            assert_eq!(cotton.executor(&old.task)?.pid, executor.pid, "restarted in place");
            assert_ne!(cotton.server(&old.task)?.pid, server.pid);
        }
        let timeline = seen.last_failover.clone().expect("there was a failover");
        assert_eq!((timeline.epoch.0, timeline.from.map(|m| m.0)), (round + 1, Some(old.id)));
        assert_eq!(Some(timeline.to.0), seen.primary);
    }
    writer.progress(SOME, STEP).await?;
    assert_eq!(writer.refused(), 0, "the endpoint was told before it was writable");
    ended_well(watch).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_executor_takes_its_server_along_and_both_come_back_to_their_data() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;

    // a replica's: no election
    let back = |c: &Cluster, old: &Member| c.is_healthy() && c.member(old.id).is_some_and(|now| now.task != old.task);
    let victim = seen.replicas().next().expect("it has replicas").clone();
    kill_executor(&cotton, &victim.task)?.ended(STEP).await?;
    let seen = api.until("a", STEP, "whole with another task", |c| back(c, &victim)).await?;
    assert_eq!(seen.epoch, 1, "a replica is no reason for an election");
    writer.progress(SOME, STEP).await?;

    // the primary's
    let victim = seen.primary()?.clone();
    let killed = Instant::now();
    kill_executor(&cotton, &victim.task)?.ended(STEP).await?;
    writer.first_elsewhere(victim.endpoint.port, killed, STEP).await?;
    let gone = |c: &Cluster| c.is_healthy() && c.member(victim.id).is_none(); // with what nobody acknowledged
    let seen = api.until("a", STEP, "whole with another task", |c| back(c, &victim) || gone(c)).await?;
    assert_eq!(seen.epoch, 2);
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Kills an executor and gives its server, which ends with it: as soon as it does not write to the disk any more.
fn kill_executor(cotton: &RealCotton, task: &str) -> Result<Process, Failure> {
    let server = cotton.server(task)?;
    cotton.executor(task)?.kill();
    Ok(server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_primary_is_found_out_and_killed() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let old = seen.primary()?.clone();
    let server = cotton.server(&old.task)?;
    let stopped = Instant::now();
    server.signal(Signal::STOP);
    server.ended(STEP).await?;
    writer.first_elsewhere(old.endpoint.port, stopped, STEP).await?;
    let seen = api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    assert_ne!(seen.primary, Some(old.id));
    came_back_or_was_errant(&api, &seen, &old).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replica_causes_no_election() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let mut events = api.stream("a", None).await?;
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    for victim in seen.replicas() {
        let server = cotton.server(&victim.task)?;
        server.kill();
        let about = |e: &cotton_tests::Event, kind: &str| e.kind == kind && e.member() == Some(victim.id);
        events.until(STEP, "its server is down", |e| about(e, "server_down")).await?;
        events.until(STEP, "it follows again", |e| about(e, "following")).await?;
        writer.progress(SOME, STEP).await?;
    }
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!(seen.epoch, 1);
    assert!(seen.last_failover.is_none());
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_replicas_commits_wait_and_go_on_by_themselves() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let primary = seen.primary()?.clone();
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    // executors, so that it takes a while until others are back; and all at once, before any of them is
    let killed = seen.replicas().map(|replica| kill_executor(&cotton, &replica.task));
    for server in killed.collect::<Result<Vec<_>, _>>()? {
        server.ended(STEP).await?;
    }
    let acknowledged = writer.count();
    let blocked = api.until("a", STEP, "blocked", |c| c.waits_for("waiting_for_ack")).await?;
    assert_eq!(blocked.status, "blocked");
    assert_eq!(blocked.primary, Some(primary.id));
    // a commit that was being acknowledged when the last replica died may still have been counted
    assert!(writer.count() <= acknowledged + 2, "commits were acknowledged without a replica");
    writer.progress(SOME, STEP).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert_eq!((seen.epoch, seen.primary), (1, Some(primary.id)), "the primary was in good health");
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// As after a connection that broke when a replica had received the last commits and not acknowledged them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_acknowledgement_was_lost_do_not_wait_for_ever() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(2) };
    let created = api.create("a", &wanted).await?;
    let seen = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 3).await?;
    writer.progress(SOME, STEP).await?;
    let replica = seen.replicas().next().expect("it has a replica");
    let mut there = admin::connect(&cotton, "a", &replica.task).await?;
    let mut here = admin::connect(&cotton, "a", &seen.primary()?.task).await?;
    // it receives what waits, and acknowledges nothing
    for statement in ["SET GLOBAL rpl_semi_sync_slave_enabled = OFF", "STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"] {
        there.query_drop(statement).await?;
    }
    let all_wait = async {
        let position = "SELECT @@GLOBAL.gtid_binlog_pos";
        while number(&mut here, "wait_sessions").await? < 1
            || here.query_first::<String, _>(position).await? != there.query_first::<String, _>(position).await?
        {
        }
        Ok::<_, Failure>(())
    };
    within(STEP, "all writers wait for what the replica has", all_wait).await??;
    // it would acknowledge, and is sent nothing any more
    for statement in ["SET GLOBAL rpl_semi_sync_slave_enabled = ON", "STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"] {
        there.query_drop(statement).await?;
    }
    let counted = async {
        while number(&mut here, "clients").await? < 1 {}
        Ok::<_, Failure>(())
    };
    within(STEP, "the replica is connected", counted).await??;
    assert!(number(&mut here, "wait_sessions").await? > 0, "the server does not help itself");
    drop((here, there));
    api.until("a", STEP, "failed over and whole", |c| c.epoch == 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    let seen = api.until_healthy("a", STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

async fn number(primary: &mut Conn, what: &str) -> Result<u64, Failure> {
    let row: Option<(String, u64)> =
        primary.query_first(format!("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_{what}'")).await?;
    row.map(|(_, number)| number).ok_or_else(|| Failure::new("the server has no semi-sync"))
}
