//! Clusters are made, kept over restarts of the machine, and deleted without a trace.

use crate::{Outcome, SOME, STEP, cluster, cotton, nothing_twice, server_pids};
use cotton_tests::{Api, Cluster, Failure, RealCotton, Wanted, Writer, within};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_stops_everything_and_a_start_brings_it_back() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, _) = cluster(&cotton, "a", 3).await?;
    let (single, _) = cluster(&cotton, "b", 1).await?;
    let api = cotton.api();
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    let rows = writer.finish().await;
    let writer = Writer::start(&api, "b", single.clone(), 1).await?;
    writer.progress(SOME, STEP).await?;
    let single_rows = writer.finish().await;

    let status = cotton.interrupt().await?;
    assert!(status.success(), "{status}");
    for process in cotton.processes() {
        process.ended(STEP).await?; // killed, and in the middle of a write to the disk
    }
    let left: Vec<_> = cotton.processes().into_iter().map(|process| process.command).collect();
    assert!(left.is_empty(), "{left:?}");

    cotton.start_again().await?;
    let (a, b) = (api.until_healthy("a", STEP).await?, api.until_healthy("b", STEP).await?);
    Writer::compare(&client, &rows, &a.endpoints()?, STEP).await?;
    Writer::compare(&single, &single_rows, &b.endpoints()?, STEP).await?;
    let writer = Writer::start(&api, "a", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&a.endpoints()?, STEP).await?;
    nothing_twice(&cotton, &api, &[&a, &b]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_one_name_one_is_made() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let body = json!(Wanted::small(1));
    let ask = || api.send(Method::POST, "/api/v1/clusters/a", Some(&body));
    let ((first, one), (second, other)) = tokio::try_join!(ask(), ask())?;
    let mut statuses = [first, second];
    statuses.sort_unstable();
    assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT], "{one} {other}");
    let refused = if first == StatusCode::CONFLICT { one } else { other };
    assert_eq!(refused["code"], "cluster_exists");
    let seen = api.until_healthy("a", STEP).await?;
    let (status, _) = ask().await?;
    assert_eq!(status, StatusCode::CONFLICT);
    nothing_twice(&cotton, &api, &[&seen]).await
}

/// More than there is room for: each is taken, those that fit run, the others wait and say what for, and move up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_are_all_answered() -> Outcome {
    const FIT: usize = 10; // two on each of the five agents
    const TEN_STARTS: Duration = Duration::from_mins(5); // on two cores
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let wanted = Wanted { resources: json!({ "cpus": 0.1, "mem": "160mb", "disk": "500gb" }), ..Wanted::small(1) };
    let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    let asked = names.iter().map(|name| api.create(name, &wanted));
    let created = futures::future::try_join_all(asked).await?;
    assert_eq!(api.clusters().await?.len(), 50);
    let mut passwords: Vec<_> = created.iter().map(|created| created.password.as_str()).collect();
    passwords.sort_unstable();
    passwords.dedup();
    assert_eq!(passwords.len(), 50, "each has a password of its own");
    let settled = async {
        loop {
            let clusters = api.clusters().await?;
            let (healthy, others): (Vec<_>, Vec<_>) = clusters.into_iter().partition(Cluster::is_healthy);
            if healthy.len() >= FIT && others.iter().all(|c| c.status == "creating" && c.waits_for("member_missing")) {
                return Ok::<_, Failure>(healthy);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let running = within(TEN_STARTS, "as many as fit are healthy, the others wait", settled).await??;
    assert_eq!(running.len(), FIT);
    nothing_twice(&cotton, &api, &running.iter().collect::<Vec<_>>()).await?;

    // one goes, the next one gets its place: in the order of creation, which need not be that of the names
    let listed = api.clusters().await?;
    let next = &listed.iter().find(|cluster| !cluster.is_healthy()).expect("some wait").name;
    let (gone, password) = (running[0].name.clone(), |name: &str| {
        let at = names.iter().position(|n| n == name).expect("it was asked for");
        created[at].password.clone()
    });
    api.delete(&gone, &password(&gone)).await?;
    api.until_gone(&gone, STEP).await?;
    api.until_healthy(next, STEP).await?;

    let rest: Vec<&String> = names.iter().filter(|name| **name != gone).collect();
    futures::future::try_join_all(rest.iter().map(async |name| api.delete(name, &password(name)).await)).await?;
    for name in rest {
        api.until_gone(name, STEP).await?;
    }
    no_trace(&cotton, "c").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_and_delete_at_the_same_time() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let api = cotton.api();
    let mut body = json!(Wanted::small(2));
    body["password"] = json!("known-before");
    let password = json!({ "password": "known-before" });
    for round in 0..6 {
        let path = format!("/api/v1/clusters/r{round}");
        let create = api.send(Method::POST, &path, Some(&body));
        let delete = api.send(Method::DELETE, &path, Some(&password));
        let ((created, answer), (deleted, refusal)) = if round % 2 == 0 {
            tokio::try_join!(create, delete)?
        } else {
            let (deleted, created) = tokio::try_join!(delete, create)?;
            (created, deleted)
        };
        assert_eq!(created, StatusCode::CREATED, "{answer}");
        if deleted == StatusCode::NOT_FOUND {
            api.delete(&format!("r{round}"), "known-before").await?; // while it is being made
        } else {
            assert_eq!(deleted, StatusCode::ACCEPTED, "{refusal}");
        }
    }
    for round in 0..6 {
        api.until_gone(&format!("r{round}"), STEP).await?;
    }
    no_trace(&cotton, "r").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_wants_the_password_and_leaves_nothing() -> Outcome {
    let Some(cotton) = cotton().await? else { return Ok(()) };
    let (client, seen) = cluster(&cotton, "a", 3).await?;
    let api = cotton.api();
    let pids = server_pids(&cotton);
    let nearly = format!("{}x", client.password());
    for wrong in ["", "wrong", nearly.as_str(), &"y".repeat(64 * 1024)] {
        let (status, refusal) =
            api.send(Method::DELETE, "/api/v1/clusters/a", Some(&json!({ "password": wrong }))).await?;
        assert_eq!((status, &refusal["code"]), (StatusCode::FORBIDDEN, &json!("wrong_password")), "{refusal}");
    }
    assert!(api.until_healthy("a", STEP).await?.is_healthy());
    assert_eq!(server_pids(&cotton), pids, "nothing was changed");

    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    api.delete("a", client.password()).await?;
    api.until_gone("a", STEP).await?;
    drop(writer);
    no_trace(&cotton, "a").await?;
    assert!(!seen.members.is_empty());

    // the name is free again, and the new cluster has nothing of the old one
    let (client, again) = cluster(&cotton, "a", 1).await?;
    let schemas = client.numbers(
        &again.primary()?.endpoint,
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'cotton_test'",
    );
    assert_eq!(schemas.await?.into_iter().collect::<Vec<_>>(), [0]);
    nothing_twice(&cotton, &api, &[&again]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupt_state_is_named_and_kept_while_others_go_on() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let (client, whole) = cluster(&cotton, "whole", 2).await?;
    cluster(&cotton, "torn", 1).await?;
    let api = cotton.api();
    let pids = server_pids(&cotton);
    cotton.kill().await?;
    let file = files(cotton.path()).into_iter().find(|path| path.ends_with("clusters/torn.json"));
    let file = file.ok_or_else(|| Failure::new("no state file of 'torn'"))?;
    let good = std::fs::read(&file)?;
    std::fs::write(&file, &good[..good.len() / 2])?;

    cotton.start_again().await?;
    api.until_healthy("whole", STEP).await?;
    let writer = Writer::start(&api, "whole", client, 2).await?;
    writer.progress(SOME, STEP).await?;
    writer.finish_and_compare(&whole.endpoints()?, STEP).await?;
    assert_eq!(server_pids(&cotton), pids, "nobody touches the databases of a cluster whose state is unknown");
    let (status, refusal) = api.send(Method::POST, "/api/v1/clusters/torn", Some(&json!(Wanted::small(1)))).await?;
    assert_eq!((status, &refusal["code"]), (StatusCode::CONFLICT, &json!("cluster_damaged")), "{refusal}");
    let (_, listed) = api.send(Method::GET, "/api/v1/clusters", None).await?;
    assert_eq!(listed["damaged"], json!(["torn"]));
    let kept =
        files(cotton.path()).into_iter().any(|path| std::fs::read(path).is_ok_and(|b| b == good[..good.len() / 2]));
    assert!(kept, "the damaged file is kept");
    assert!(cotton.log_end().contains("torn"), "the log names it");
    Ok(())
}

/// No process, and no state of clusters whose names begin so.
async fn no_trace(cotton: &RealCotton, prefix: &str) -> Outcome {
    for process in cotton.members_processes() {
        process.ended(STEP).await?; // the last ones may be about to exit
    }
    let state = |path: &PathBuf| {
        let below = path.strip_prefix(cotton.path()).unwrap_or(path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_state = below.starts_with("state") || below.starts_with("discovery");
        is_state && name != "fleet.json" && name.starts_with(prefix)
    };
    let left: Vec<_> = files(cotton.path()).into_iter().filter(state).collect();
    if left.is_empty() { Ok(()) } else { Err(Failure::new(format!("left over: {left:?}"))) }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => vec![entry.path()],
        })
        .collect()
}

/// The disk of a deleted cluster is free at once; what belongs to a cluster stays, and what nobody knows, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_frees_what_was_deleted_and_nothing_else() -> Outcome {
    let Some(mut cotton) = cotton().await? else { return Ok(()) };
    let wanted = Wanted::small(2);
    let password = cotton.api().create("gone", &wanted).await?.password;
    let (client, stays) = cluster(&cotton, "stays", 1).await?;
    let api = cotton.api();
    api.until_healthy("gone", STEP).await?;
    let writer = Writer::start(&api, "stays", client.clone(), 1).await?;
    writer.progress(SOME, STEP).await?;
    let rows = writer.finish().await;
    cotton.executor(&stays.primary()?.task)?.kill(); // so that the one that stays has a sandbox of an earlier run, too
    let stays = api.until("stays", STEP, "run again", |c| c.is_healthy() && c.members[0].task.ends_with("-r1")).await?;

    let ids = |answer: &Value, what: &str| -> Vec<String> {
        let items = answer[what].as_array().into_iter().flatten();
        items.map(|item| format!("{} {}", item["kind"], item["id"]).replace('"', "")).collect()
    };
    assert_eq!(ids(&prune(&api, true).await?, "freed"), Vec::<String>::new(), "both are there");
    api.delete("gone", &password).await?;
    api.until_gone("gone", STEP).await?;

    // What is left of a cluster of which there is no record, and a link to where it should not lead.
    cotton.kill().await?;
    let agent = cotton.path().join("agents/agent-1");
    let elsewhere = tempfile::tempdir()?;
    std::fs::write(elsewhere.path().join("data"), "precious")?;
    let ended = agents_files(&cotton, "ended", "mysos-gone-").into_iter().next().expect("two members have ended");
    for unknown in ["mysos-unknown-0", "mysos-gone-0-r9"] {
        let record = std::fs::read_to_string(&ended)?;
        let name = ended.file_stem().and_then(|name| name.to_str()).expect("a task");
        std::fs::write(agent.join(format!("ended/{unknown}.json")), record.replace(name, unknown))?;
    }
    std::fs::create_dir(agent.join("sandboxes/mysos-unknown-0"))?;
    std::os::unix::fs::symlink(elsewhere.path(), agent.join("sandboxes/mysos-gone-0-r9"))?;
    cotton.start_again().await?;
    let api = cotton.api();
    let whole = api.until_healthy("stays", STEP).await?;
    assert_eq!(whole.primary()?.task, stays.primary()?.task);
    let looked = prune(&api, true).await?;
    let sandboxes = ["sandbox mysos-gone-0", "sandbox mysos-gone-1"].map(str::to_owned);
    assert!(sandboxes.iter().all(|id| ids(&looked, "freed").contains(id)), "{looked}");
    let answer = prune(&api, false).await?;
    let (freed, kept) = (ids(&answer, "freed"), ids(&answer, "kept"));
    assert!(sandboxes.iter().all(|id| freed.contains(id)), "{answer}");
    assert!(freed.iter().all(|id| id.contains("mysos-gone-")) && answer["freed_bytes"].as_u64() > Some(0), "{answer}");
    let stay = ["sandbox mysos-stays-0", "sandbox mysos-unknown-0", "sandbox mysos-gone-0-r9"];
    assert!(stay.iter().all(|id| kept.contains(&(*id).to_owned())), "{answer}");
    let words = answer.to_string();
    for why in ["its member belongs to a cluster", "there is no record of its cluster", "a link to elsewhere"] {
        assert!(words.contains(why), "{why}: {answer}");
    }
    assert!(elsewhere.path().join("data").exists() && agent.join("sandboxes/mysos-unknown-0").exists());
    for kind in ["volumes", "sandboxes", "ended"] {
        let left = agents_files(&cotton, kind, "mysos-gone-");
        assert!(left.iter().all(|path| path.to_string_lossy().contains("mysos-gone-0-r9")), "{left:?}");
    }
    assert_eq!(agents_files(&cotton, "sandboxes", "mysos-stays-0").len(), 2);
    assert_eq!(ids(&prune(&api, false).await?, "freed"), Vec::<String>::new());
    Writer::compare(&client, &rows, &whole.endpoints()?, STEP).await
}

async fn prune(api: &Api, dry_run: bool) -> Result<Value, Failure> {
    let (status, answer) = api.send(Method::POST, "/api/v1/prune", Some(&json!({ "dry_run": dry_run }))).await?;
    if status == StatusCode::OK { Ok(answer) } else { Err(Failure::new(format!("{status}: {answer}"))) }
}

/// Files and directories of all agents of that kind whose names begin so.
fn agents_files(cotton: &RealCotton, kind: &str, begin: &str) -> Vec<PathBuf> {
    let agents = std::fs::read_dir(cotton.path().join("agents")).into_iter().flatten().flatten();
    let files = agents.flat_map(|agent| std::fs::read_dir(agent.path().join(kind)).into_iter().flatten().flatten());
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with(begin));
    files.map(|file| file.path()).collect()
}
