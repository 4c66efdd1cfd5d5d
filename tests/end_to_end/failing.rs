//! What fails again and again in the same place: full disks, copies that are killed. It is tried less and less often, told
//! with its reason, and elsewhere first; the end of the reason is the end of it.

use crate::{Outcome, SOME, STEP, nothing_twice};
use cotton_tests::{
    Api, Client, Cluster, Directory, Event, Failure, Flavour, Options, RealCotton, SmallDisk, Wanted, Writer,
};
use mysql_async::prelude::Queryable;
use std::path::PathBuf;
use std::time::Duration;

/// A directory, and the place of an agent in it that has only so much room.
fn with_small_agent(agent: u32, mib: u32) -> Result<Option<(Directory, SmallDisk)>, Failure> {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(None);
    }
    let directory = Directory::new()?;
    let path: PathBuf = directory.path().join(format!("agents/agent-{agent}"));
    Ok(SmallDisk::mount(&path, mib)?.map(|disk| (directory, disk)))
}

async fn events_of(api: &Api, kind: &str) -> Result<Vec<Event>, Failure> {
    Ok(api.events("a", 0).await?.into_iter().filter(|event| event.kind == kind).collect())
}

fn agent_of(event: &Event) -> &str {
    event.fields.get("agent").and_then(|agent| agent.as_str()).unwrap_or_default()
}

/// It offers as much as the others: what it has left on its disk, nobody knows before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_full_disk_is_left_for_others_that_are_idle() -> Outcome {
    let Some((directory, disk)) = with_small_agent(1, 8)? else { return Ok(()) };
    let cotton = RealCotton::start_in(Options { agents: 4, ..Options::default() }, directory).await?;
    let api = cotton.api();
    let wanted = Wanted::small(3);
    let created = api.create("a", &wanted).await?;
    let seen = api.until_healthy("a", STEP).await?;
    assert!(seen.members.iter().all(|member| member.agent != "agent-1"), "{seen:?}");
    let failing = events_of(&api, "agent_failing").await?;
    assert!(failing.iter().all(|event| agent_of(event) == "agent-1") && failing.len() == 1, "{failing:?}");
    let launches = events_of(&api, "launching").await?;
    let there = launches.iter().filter(|event| agent_of(event) == "agent-1").count();
    assert_eq!(there, 1, "one attempt is enough while others are idle: {launches:?}");
    let told = seen.retries.iter().find(|retry| retry.what == "agent").expect("it is told");
    assert_eq!((told.agent.as_deref(), told.failures), (Some("agent-1"), 1), "{told:?}");

    // With no other agent it is used, less and less often, and works once somebody has made room.
    api.scale("a", 4).await?;
    let twice = |c: &Cluster| c.retries.iter().any(|retry| retry.what == "agent" && retry.failures >= 2);
    let seen = api.until("a", STEP, "failing there once more", twice).await?;
    assert!(seen.waits_for("launch_failed") && seen.primary.is_some(), "{seen:?}");
    disk.resize(1_000)?;
    let seen = api.until_healthy("a", STEP).await?;
    assert!(seen.retries.is_empty(), "success clears it: {:?}", seen.retries);
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// As where the copy needs more memory than the task has. Its server runs each time, which is no success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_killed_while_they_are_copied_come_less_and_less_often() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(2) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    api.scale("a", 3).await?;
    let old: Vec<u64> = first.members.iter().map(|member| member.id).collect();
    let mut killed = Vec::new();
    for _ in 0..4 {
        let new = |c: &Cluster| c.members.iter().any(|m| !old.contains(&m.id) && !killed.contains(&m.task));
        let seen = api.until("a", STEP, "with another member", new).await?;
        let member = seen.members.iter().find(|m| !old.contains(&m.id) && !killed.contains(&m.task));
        let task = member.expect("waited for").task.clone();
        let executor = loop {
            if cotton.servers().contains_key(&task) {
                break cotton.executor(&task)?; // its server runs, and the copy is next
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // processes have no events
        };
        executor.kill();
        executor.ended(STEP).await?;
        killed.push(task);
    }
    let seen = api.until_healthy("a", STEP).await?;
    assert!(seen.retries.is_empty(), "{:?}", seen.retries);
    let failures = events_of(&api, "launch_failed").await?;
    let number = |event: &Event, field: &str| event.fields.get(field).and_then(serde_json::Value::as_u64);
    let told: Vec<_> = failures.iter().map(|event| (number(event, "failures"), number(event, "retry_ms"))).collect();
    assert_eq!(
        told,
        [500, 1_000, 2_000, 4_000].into_iter().zip(1..).map(|(ms, n)| (Some(n), Some(ms))).collect::<Vec<_>>()
    );
    let launches = events_of(&api, "launching").await?;
    for failure in &failures {
        let next = launches.iter().find(|launch| launch.number > failure.number).expect("it was tried again");
        let pause = next.unix_ms - failure.unix_ms;
        assert!(pause + 20 >= number(failure, "retry_ms").unwrap_or_default(), "{pause} ms after {failure:?}");
    }
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// There is room for an empty server, and none for the data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_for_which_there_is_no_room_are_tried_again_until_there_is() -> Outcome {
    let Some((directory, disk)) = with_small_agent(3, ROOM_FOR_A_SERVER_MIB)? else { return Ok(()) };
    let cotton = RealCotton::start_in(Options { agents: 3, ..Options::default() }, directory).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(2) };
    let created = api.create("a", &wanted).await?;
    let seen = api.until_healthy("a", STEP).await?;
    let client = Client::new(wanted.user, created.password);
    let primary = seen.primary()?.endpoint.clone();
    client.run(&primary, "create database big").await?;
    client.run(&primary, "create table big.t (id int auto_increment primary key, b longblob)").await?;
    for _ in 0..BIG_MIB / 8 {
        client.run(&primary, "insert into big.t (b) values (repeat(uuid(), 8 * 1024 * 1024 / 36))").await?;
    }
    forget_history(&cotton, &seen).await?;
    api.scale("a", 3).await?;
    let copies = |c: &Cluster| c.retries.iter().any(|retry| retry.what == "copy" && retry.failures >= 3);
    let seen = api.until("a", 2 * STEP, "failing to copy", copies).await?;
    let copy = seen.retries.iter().find(|retry| retry.what == "copy").expect("waited for");
    assert!(copy.agent.as_deref() == Some("agent-3") && copy.in_ms <= 8_000, "{copy:?}");
    assert!(copy.reason.contains("copy from ") && copy.reason.contains(" failed"), "{copy:?}");
    assert!(copy.reason.contains("No space left"), "what matters, and not that a pipe broke: {copy:?}");
    let told = events_of(&api, "trouble").await?;
    assert!(
        told.iter().any(|event| event.text.contains("3 failed in a row, the next one is made after 4 s")),
        "{told:?}"
    );
    let failing = |c: &Cluster| c.retries.iter().any(|retry| retry.what == "agent");
    api.until("a", 2 * STEP, "given up there, for now", failing).await?;
    disk.resize(2_000)?;
    let seen = api.until_healthy("a", 2 * STEP).await?;
    assert!(seen.retries.is_empty(), "{:?}", seen.retries);
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Removes the binary logs that reach back to the beginning: replication alone does not do then.
async fn forget_history(cotton: &RealCotton, seen: &Cluster) -> Outcome {
    let mut admin = cotton_tests::admin::connect(cotton, "a", &seen.primary()?.task).await?;
    loop {
        admin.query_drop("FLUSH BINARY LOGS").await?;
        admin.query_drop("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await?;
        let logs: Vec<mysql_async::Row> = admin.query("SHOW BINARY LOGS").await?;
        if logs.len() == 1 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // replicas may still read them
    }
}

/// What an empty server takes, and a little more.
const ROOM_FOR_A_SERVER_MIB: u32 = 140;
/// More than that.
const BIG_MIB: u32 = 200;

/// Somebody removes the data of a server that runs. It goes on with the files that it has open, and nothing is left at its
/// end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_data_was_removed_hands_over() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    let primary = first.primary()?;
    let agent = cotton.path().join("agents").join(&primary.agent);
    std::fs::remove_dir_all(agent.join(format!("volumes/mysos-a-{}", primary.id)))?;
    let handed = |c: &Cluster| c.primary.is_some_and(|id| id != primary.id);
    api.until("a", STEP, "handed over", handed).await?;
    let events = api.events("a", 0).await?;
    assert!(events.iter().any(|event| event.text.contains("its data directory was removed")), "{events:#?}");
    writer.progress(SOME, STEP).await?;
    let healed = |c: &Cluster| c.is_healthy() && c.member(primary.id).is_none();
    let seen = api.until("a", 2 * STEP, "healed", healed).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    Ok(())
}

/// Only the primary's data are left, its commits wait, and its binary logs do not reach back: a copy of it must be made, and
/// waits for the same as the commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_lose_their_data() -> Outcome {
    for flavour in [Flavour::MariaDb, Flavour::MySql97] {
        only_the_primary_is_left(flavour).await?;
    }
    Ok(())
}

async fn only_the_primary_is_left(flavour: Flavour) -> Outcome {
    if flavour.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { flavour, agents: 3, ..Options::default() }).await?;
    let api = cotton.api();
    let resources = serde_json::json!({ "cpus": 0.5, "mem": "400mb", "disk": "512mb" });
    let wanted = Wanted { resources, durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    forget_history(&cotton, &first).await?;
    for replica in first.replicas() {
        let volume = cotton.path().join(format!("agents/{}/volumes/mysos-a-{}", replica.agent, replica.id));
        std::fs::rename(&volume, format!("{}.away", volume.display()))?;
        cotton.server(&replica.task)?.kill();
    }
    let old: Vec<u64> = first.replicas().map(|member| member.id).collect();
    let replaced = |c: &Cluster| c.is_healthy() && old.iter().all(|id| c.member(*id).is_none());
    let seen = api.until("a", 2 * STEP, "whole again", replaced).await?;
    assert_eq!((seen.epoch, seen.primary), (1, first.primary), "the primary was in good health");
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// Whoever takes over cannot be followed by the others, who have lost their replication's files: newcomers take their places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_and_a_replica_lose_their_data() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let cotton = RealCotton::start(Options { agents: 4, ..Options::default() }).await?;
    let api = cotton.api();
    let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
    let created = api.create("a", &wanted).await?;
    let first = api.until_healthy("a", STEP).await?;
    let writer = Writer::start(&api, "a", Client::new(wanted.user, created.password), 2).await?;
    writer.progress(SOME, STEP).await?;
    let replica = first.replicas().next().expect("two");
    let lost = [first.primary()?, replica];
    for member in lost {
        let data = cotton.path().join(format!("agents/{}/volumes/mysos-a-{}/data", member.agent, member.id));
        std::fs::rename(&data, data.with_extension("away"))?;
    }
    let replaced = |c: &Cluster| c.is_healthy() && lost.iter().all(|member| c.member(member.id).is_none());
    let seen = api.until("a", 2 * STEP, "whole again", replaced).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&seen.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&seen]).await
}
