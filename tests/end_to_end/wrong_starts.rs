//! Wrong starts, and ends that nobody of us brought about: members keep their data, whatever is missing for a while.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice};
use cotton_tests::{Client, Cluster, Failure, RealCotton, Writer};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Which members there are, whatever their tasks are called.
fn members(cluster: &Cluster) -> BTreeSet<u64> {
    cluster.members.iter().map(|member| member.id).collect()
}

/// The names below a directory with what is in the files; of volumes, which of them have data.
fn snapshot(dir: &Path) -> BTreeSet<String> {
    let list = |dir: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let agents = list(&dir.join("agents")).into_iter();
    let volumes = agents.flat_map(|agent| list(&agent.join("volumes"))).filter(|volume| volume.is_dir());
    let volumes = volumes.map(|volume| format!("{} {}", volume.display(), volume.join("data/ibdata1").exists()));
    let records = list(&dir.join("state/clusters")).into_iter();
    let records =
        records.map(|record| format!("{} {:?}", record.display(), std::fs::read(&record).unwrap_or_default()));
    volumes.chain(records).collect()
}

/// Two clusters with something in them, stopped cleanly.
async fn stopped() -> Result<Option<(RealCotton, Vec<(Client, Cluster, Writer)>)>, Failure> {
    let Some(mut cotton) = cotton().await? else { return Ok(None) };
    let mut clusters = Vec::new();
    for (name, size) in [("one", 1), ("three", 3)] {
        let (client, seen) = cluster(&cotton, name, size).await?;
        let writer = Writer::start(&cotton.api(), name, client.clone(), 2).await?;
        writer.progress(SOME, STEP).await?;
        clusters.push((client, seen, writer));
    }
    cotton.interrupt().await?;
    Ok(Some((cotton, clusters)))
}

/// All are back with everything.
async fn whole_again(cotton: &RealCotton, clusters: Vec<(Client, Cluster, Writer)>) -> Outcome {
    let mut seen = Vec::new();
    for (_, before, writer) in clusters {
        let now = cotton.api().until_healthy(&before.name, STEP).await?;
        assert_eq!(members(&now), members(&before), "nobody was replaced");
        writer.progress(SOME, STEP).await?;
        writer.finish_and_compare(&now.endpoints()?, STEP).await?;
        seen.push(now);
    }
    nothing_twice(cotton, &cotton.api(), &seen.iter().collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_start_is_refused_and_touches_nothing() -> Outcome {
    let Some((mut cotton, clusters)) = stopped().await? else { return Ok(()) };
    let (dir, before) = (cotton.path().to_owned(), snapshot(cotton.path()));
    let unchanged = |cotton: &RealCotton, why: &str| {
        assert!(cotton.members_processes().is_empty(), "{why}: nothing was started");
        assert_eq!(snapshot(&dir), before, "{why}");
    };

    let (key, away) = (dir.join("key"), dir.join("key.away"));
    std::fs::rename(&key, &away)?;
    let said = cotton.refused_with(&[]).await?;
    assert!(said.contains("key' is missing") && said.contains("nothing was started"), "{said}");
    assert!(!key.exists(), "no other key was made");
    unchanged(&cotton, "no key");

    std::fs::write(&key, [b'k'; 32])?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let said = cotton.refused_with(&[]).await?;
    assert!(said.contains("does not open the passwords of all 2 clusters ('one', 'three')"), "{said}");
    unchanged(&cotton, "another key");
    std::fs::remove_file(&key)?;
    std::fs::rename(&away, &key)?;

    let empty = dir.with_file_name("empty");
    std::fs::create_dir(&empty)?;
    let said = cotton.refused_with(&["--mysql-bin-dir", &empty.display().to_string()]).await?;
    assert!(said.contains("members could not run") && said.contains("mariadb-server-core"), "{said}");
    unchanged(&cotton, "no server");

    let broken = dir.with_file_name("executor");
    std::fs::write(&broken, "#!/bin/sh\necho no such library >&2\nexit 127\n")?;
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755))?;
    let said = cotton.refused_with(&["--executor", &broken.display().to_string()]).await?;
    assert!(said.contains("no such library"), "{said}");
    unchanged(&cotton, "a broken executor");

    // Records and members of different origin.
    let (state, agents) = (dir.join("state"), dir.join("agents"));
    for (part, said_of_it) in [(&state, "no framework"), (&agents, "nothing of their members in")] {
        let away = part.with_file_name("away");
        std::fs::rename(part, &away)?;
        let said = cotton.refused_with(&[]).await?;
        assert!(said.contains(said_of_it), "{said}");
        assert!(cotton.members_processes().is_empty());
        if part.exists() {
            std::fs::remove_dir_all(part)?;
        }
        std::fs::rename(&away, part)?;
    }
    unchanged(&cotton, "parts of different origin");

    // Records of a later version.
    let record = dir.join("state/clusters/one.json");
    let good = std::fs::read_to_string(&record)?;
    assert!(good.contains("\"version\": 1"), "{good}");
    std::fs::write(&record, good.replacen("\"version\": 1", "\"version\": 2", 1))?;
    let said = cotton.refused_with(&[]).await?;
    assert!(said.contains("cluster 'one' is of version 2") && said.contains("versions up to 1"), "{said}");
    assert!(record.exists() && cotton.members_processes().is_empty());
    std::fs::write(&record, good)?;
    unchanged(&cotton, "a later version");

    cotton.start_again().await?;
    whole_again(&cotton, clusters).await
}

/// The executors are ending when they are found, and nothing on disk says that a shutdown was begun: what they say then is
/// that they were killed, and it is news. Servers stand still meanwhile, so that their executors do not end before.
async fn found_while_they_end(how_it_ends: Signal) -> Outcome {
    let Some((mut cotton, clusters)) = stopped().await? else { return Ok(()) };
    cotton.start_again().await?;
    let (mut alone, mut ending) = (None, BTreeSet::new());
    for (_, before, _) in &clusters {
        let seen = cotton.api().until_healthy(&before.name, STEP).await?;
        if seen.size == 1 {
            alone = Some(seen.primary()?.endpoint.clone());
        } else {
            ending.extend(seen.members.iter().map(|member| member.task.clone()));
        }
    }
    let alone = alone.expect("one of them has one member");
    let (servers, executors) = (cotton.servers(), cotton.executors());
    for task in &ending {
        servers[task].signal(Signal::STOP);
    }
    cotton.process().expect("it runs").signal(Signal::INT);
    cotton.says("stopping the databases", 2).await?; // it was stopped once before
    while TcpStream::connect((&*alone.host, alone.port)).is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await; // a server that ends takes nobody; all executors are told at once
    }
    if how_it_ends == Signal::INT {
        cotton.interrupt().await?;
    } else {
        cotton.kill().await?;
    }
    let still = ending.iter().filter(|task| !executors[*task].has_ended()).count();
    assert!(still > 0, "some of their executors still end");
    cotton.start_again().await?;
    for task in &ending {
        servers[task].signal(Signal::CONT);
    }
    for task in &ending {
        // One that was not told before the kill goes on, and is the new start's.
        if executors[task].ended(STEP / 3).await.is_err() {
            assert_eq!(how_it_ends, Signal::KILL, "{task} was told to end");
        }
    }
    whole_again(&cotton, clusters).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_interrupts_and_a_start_lose_nobody() -> Outcome {
    found_while_they_end(Signal::INT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_it_stops_and_a_start_lose_nobody() -> Outcome {
    found_while_they_end(Signal::KILL).await
}

/// Servers that ended with their executors have forgotten nothing: two of them suffice when the primary's machine is gone
/// with all that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clean_stop_the_replicas_suffice() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, before) = cluster(&cotton, "three", 3).await?;
    let writer = Writer::start(&cotton.api(), "three", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    let primary = before.primary()?;
    cotton.interrupt().await?;
    let agent = cotton.path().join("agents").join(&primary.agent);
    std::fs::rename(&agent, cotton.path().join("agent.away"))?;
    cotton.start_again().await?;
    writer.progress(SOME, STEP).await?;
    let two = |cluster: &Cluster| cluster.members.iter().filter(|member| member.healthy).count() == 2;
    let now = cotton.api().until("three", STEP, "with two complete members", two).await?;
    let complete = now.members.iter().filter(|member| member.healthy);
    writer.finish_and_compare(&complete.map(|member| member.endpoint.clone()).collect::<Vec<_>>(), STEP).await?;
    Ok(())
}

/// The task of the only member ends, and its data is where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_that_are_killed_lose_nobody() -> Outcome {
    let Some((mut cotton, clusters)) = stopped().await? else { return Ok(()) };
    cotton.start_again().await?;
    for (_, before, _) in &clusters {
        cotton.api().until_healthy(&before.name, STEP).await?;
    }
    for executor in cotton.executors().into_values() {
        executor.kill();
        executor.ended(STEP).await?;
    }
    whole_again(&cotton, clusters).await
}

/// As when a package is removed, or disks are full, while cotton runs: each executor that is started fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_that_cannot_set_up_lose_nobody() -> Outcome {
    let Some((mut cotton, clusters)) = stopped().await? else { return Ok(()) };
    cotton.start_again().await?;
    for (_, before, _) in &clusters {
        cotton.api().until_healthy(&before.name, STEP).await?;
    }
    let (key, away) = (cotton.path().join("key"), cotton.path().join("key.away"));
    std::fs::rename(&key, &away)?;
    for executor in cotton.executors().into_values() {
        executor.kill();
        executor.ended(STEP).await?;
    }
    let api = cotton.api();
    for (_, before, _) in &clusters {
        let failing = |c: &Cluster| c.waits_for("launch_failed") && members(c) == members(before);
        api.until(&before.name, STEP, "without anybody who could be started", failing).await?;
    }
    std::fs::rename(&away, &key)?;
    whole_again(&cotton, clusters).await
}
