//! The local master and agents, with real processes as executors.

mod support;

use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, VolumeOutcome};
use cotton_core::resources::MIB;
use cotton_core::testkit::contract;
use cotton_core::{AgentId, FrameworkId, OfferId, Resources, TaskId, VolumeId};
use cotton_mesos::{Error, Local};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Behaviour, Scheduler, config, gone, process_state, signal, until};

/// Not a test: what agents start.
#[tokio::test]
#[ignore = "started by agents only"]
async fn executor_process() {
    if std::env::var_os("MESOS_EXECUTOR_ID").is_some() {
        support::run_executor().await;
    }
}

#[tokio::test]
async fn local_keeps_the_contract_of_mesos() {
    let dir = tempfile::tempdir().expect("dir");
    let local = Local::open(config(dir.path(), 2)).expect("opens");
    let size = Resources { cpus_milli: 500, mem_bytes: 64 * MIB, disk_bytes: 64 * MIB };
    let suite = contract::mesos::mesos(&local, size, "{}".into());
    tokio::time::timeout(Duration::from_secs(30), suite).await.expect("the suite ends");
}

#[tokio::test]
async fn a_task_runs_answers_and_is_killed() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 2)).await;
    scheduler.run("a0", "t").await;
    scheduler.say("a0", "t", b"hello").await;
    assert_eq!(scheduler.heard("t").await, "echo hello");
    assert_eq!(scheduler.reconcile("a0", "t").await, TaskState::Running);
    let pid = scheduler.pid("t");
    scheduler.kill("a0", "t").await;
    assert_eq!(scheduler.state("t", TaskState::Killed).await.message, "as told");
    gone(pid).await;
    until(|| !dir.path().join("agents/a0/tasks/t.json").exists()).await;
    assert!(dir.path().join("agents/a0/sandboxes/t/stdout").exists(), "logs are kept");
    assert_eq!(scheduler.reconcile("a0", "t").await, TaskState::Lost);
    scheduler.end().await;
}

#[tokio::test]
async fn a_dead_executor_fails_its_task_and_frees_its_port() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    let whole = scheduler.launch("a0", "t", Behaviour { listens: Some(0), ..Behaviour::default() }).await;
    scheduler.state("t", TaskState::Running).await;
    let rest = scheduler.offer("a0").await;
    assert_eq!(rest.ports.len(), whole.ports.len() - 1);
    scheduler.call(MesosCall::Decline { offers: vec![rest.id], filter_ms: 3_600_000 }).await;
    scheduler.say("a0", "t", b"spawn").await;
    let child: i32 = scheduler.heard("t").await.parse().expect("pid");
    signal(scheduler.pid("t"), rustix::process::Signal::KILL);
    let status = scheduler.state("t", TaskState::Failed).await;
    assert!(status.message.starts_with("executor terminated (signal: 9"), "{}", status.message);
    gone(child).await;
    let mut again = scheduler.offer("a0").await;
    while again.ports != whole.ports {
        scheduler.call(MesosCall::Decline { offers: vec![again.id], filter_ms: 3_600_000 }).await;
        again = scheduler.offer("a0").await;
    }
    assert_eq!(again.resources, whole.resources);
    assert_eq!(scheduler.starts("a0", "t"), 1);
    scheduler.end().await;
}

#[tokio::test]
async fn a_port_that_somebody_holds_is_not_offered() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path(), 1);
    let port = config.agents[0].ports.ranges()[0].0;
    let held = TcpListener::bind(("127.0.0.1", port)).expect("free");
    let mut scheduler = Scheduler::start(config).await;
    let offer = scheduler.offer("a0").await;
    assert!(!offer.ports.contains(port));
    drop(held);
    scheduler.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 0 }).await;
    assert!(scheduler.offer("a0").await.ports.contains(port));
    scheduler.end().await;
}

#[tokio::test]
async fn stale_or_greedy_launches_are_dropped_and_repeated_ones_ignored() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    let mut offer = scheduler.offer("a0").await;
    let port = offer.ports.clone().take(0).expect("ports");
    scheduler.accept(&offer, "t1", port, &Behaviour::default()).await;
    scheduler.accept(&offer, "t1", port, &Behaviour::default()).await;
    scheduler.accept(&offer, "t2", port, &Behaviour::default()).await;
    assert_eq!(scheduler.state("t2", TaskState::Dropped).await.message, "the offer is no longer valid");
    scheduler.state("t1", TaskState::Running).await;
    assert!(!scheduler.has(|event| matches!(event, MesosEvent::Status(s) if s.state == TaskState::Dropped)));
    offer = scheduler.offer("a0").await;
    scheduler.accept(&offer, "t3", port, &Behaviour::default()).await;
    assert_eq!(scheduler.state("t3", TaskState::Dropped).await.message, "its port was not offered");
    offer = scheduler.offer("a0").await;
    let port = offer.ports.clone().take(0).expect("ports");
    scheduler.accept(&offer, "../t4", port, &Behaviour::default()).await;
    scheduler.state("../t4", TaskState::Dropped).await;
    offer.id = OfferId::from("none");
    scheduler.accept(&offer, "t5", port, &Behaviour::default()).await;
    scheduler.state("t5", TaskState::Dropped).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_stubborn_executor_is_killed_after_its_grace_period() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    scheduler.launch("a0", "t", Behaviour { stubborn: true, ..Behaviour::default() }).await;
    scheduler.state("t", TaskState::Running).await;
    let (pid, began) = (scheduler.pid("t"), std::time::Instant::now());
    scheduler.kill("a0", "t").await;
    let status = scheduler.state("t", TaskState::Killed).await;
    assert!(status.message.contains("when killed"), "{}", status.message);
    assert!(began.elapsed() >= Duration::from_millis(500));
    gone(pid).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_kill_before_the_start_prevents_it() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    scheduler.launch("a0", "t", Behaviour::default()).await;
    scheduler.kill("a0", "t").await;
    scheduler.state("t", TaskState::Killed).await;
    assert!(!scheduler.has(|event| matches!(event, MesosEvent::Status(status) if status.state == TaskState::Running)));
    scheduler.end().await;
}

#[tokio::test]
async fn news_is_repeated_until_acknowledged_and_comes_in_order() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    scheduler.acknowledges = false;
    scheduler.launch("a0", "t", Behaviour::default()).await;
    let first = scheduler.state("t", TaskState::Starting).await;
    // A new subscription brings it again, and nothing that is later than it.
    scheduler.local.subscribe(None).await.expect("subscribes");
    assert_eq!(scheduler.state("t", TaskState::Starting).await, first);
    assert!(!scheduler.has(|event| matches!(event, MesosEvent::Status(status) if status.state == TaskState::Running)));
    let (task, agent) = (TaskId::from("t"), AgentId::from("a0"));
    let uuid = first.uuid.expect("to be acknowledged");
    scheduler.acknowledges = true;
    scheduler.call(MesosCall::Acknowledge { task, agent, uuid }).await;
    scheduler.state("t", TaskState::Running).await;
    scheduler.say("a0", "t", b"finish").await;
    scheduler.state("t", TaskState::Finished).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_cut_agent_is_silent_then_unreachable_then_back() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 2)).await;
    let agent = AgentId::from("a0");
    scheduler.run("a0", "t").await;
    scheduler.run("a0", "doomed").await;
    scheduler.say("a0", "t", b"spawn").await;
    let child: i32 = scheduler.heard("t").await.parse().expect("pid");
    let offer = scheduler.offer("a0").await;
    scheduler.local.cut_agent(&agent).await.expect("cuts");
    // Stopping them is asked for, and done when the kernel next looks at them.
    let pid = scheduler.pid("t");
    until(|| [pid, child].iter().all(|pid| process_state(*pid) == Some('T'))).await;
    scheduler.say("a0", "t", b"lost").await;
    scheduler.kill("a0", "doomed").await;
    scheduler.state("t", TaskState::Unreachable).await;
    scheduler.state("doomed", TaskState::Unreachable).await;
    scheduler.wait("rescinded", |event| (*event == MesosEvent::Rescinded(offer.id.clone())).then_some(())).await;
    assert_eq!(scheduler.reconcile("a0", "t").await, TaskState::Unreachable);
    scheduler.local.restore_agent(&agent).await.expect("restores");
    scheduler.state("t", TaskState::Running).await;
    scheduler.state("doomed", TaskState::Killed).await;
    scheduler.say("a0", "t", b"again").await;
    assert_eq!(scheduler.heard("t").await, "echo again");
    assert_eq!(scheduler.starts("a0", "t"), 1);
    scheduler.end().await;
    gone(child).await;
}

#[tokio::test]
async fn a_killed_agent_takes_its_tasks_along_and_comes_back_empty() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 2)).await;
    scheduler.run("a1", "t").await;
    let pid = scheduler.pid("t");
    scheduler.local.kill_agent(&AgentId::from("a1")).await.expect("kills");
    scheduler.wait("agent lost", |event| (*event == MesosEvent::AgentLost(AgentId::from("a1"))).then_some(())).await;
    scheduler.state("t", TaskState::Gone).await;
    gone(pid).await;
    scheduler.local.restore_agent(&AgentId::from("a1")).await.expect("restores");
    scheduler.run("a1", "u").await;
    assert!(matches!(scheduler.local.kill_agent(&AgentId::from("a9")).await, Err(Error::NoSuchAgent(_))));
    scheduler.end().await;
}

#[tokio::test]
async fn after_a_shutdown_tasks_start_again_in_their_sandboxes() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path(), 2);
    let mut scheduler = Scheduler::start(config.clone()).await;
    scheduler.run("a0", "t").await;
    scheduler.run("a1", "stubborn").await;
    let pids = [scheduler.pid("t"), scheduler.pid("stubborn")];
    scheduler.local.shutdown(Duration::from_secs(5)).await;
    assert!(pids.iter().all(|pid| process_state(*pid).is_none()), "all have ended");
    assert!(scheduler.local.next_event().await.is_err());
    scheduler.local.close().await;
    let mut scheduler = Scheduler::start(config).await;
    scheduler.state("t", TaskState::Running).await;
    assert_eq!(scheduler.starts("a0", "t"), 2);
    scheduler.kill("a0", "t").await;
    scheduler.kill("a1", "stubborn").await;
    scheduler.state("t", TaskState::Killed).await;
    scheduler.state("stubborn", TaskState::Killed).await;
    scheduler.end().await;
}

#[tokio::test]
async fn two_cannot_work_on_one_directory() {
    let dir = tempfile::tempdir().expect("dir");
    let _first = Local::open(config(dir.path(), 1)).expect("opens");
    let error = Local::open(config(dir.path(), 1)).expect_err("locked");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[tokio::test]
async fn a_taken_api_port_and_a_missing_agent_are_named() {
    let dir = tempfile::tempdir().expect("dir");
    let two = config(dir.path(), 2);
    Local::open(two.clone()).expect("opens").close().await;
    let file = dir.path().join("agents/a0/agent.json");
    let port: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("file")).expect("json");
    let port = u16::try_from(port["port"].as_u64().expect("number")).expect("port");
    let held = TcpListener::bind(("127.0.0.1", port)).expect("free");
    let error = Local::open(two.clone()).expect_err("taken");
    assert!(matches!(error, Error::PortTaken { .. }) && error.to_string().contains("agent.json"), "{error}");
    drop(held);
    let mut scheduler = Scheduler::start(two.clone()).await;
    scheduler.run("a1", "t").await;
    scheduler.local.close().await;
    let mut one = two.clone();
    one.agents.pop();
    assert!(matches!(Local::open(one), Err(Error::Config(_))));
    let mut scheduler = Scheduler::start(two).await;
    scheduler.kill("a1", "t").await;
    scheduler.state("t", TaskState::Killed).await;
    scheduler.end().await;
}

/// Not a test: a scheduler that is killed with SIGKILL.
#[tokio::test]
#[ignore = "started by a test only"]
async fn local_process() {
    let (Some(dir), Some(ports)) = (std::env::var_os("TEST_LOCAL_DIR"), std::env::var_os("TEST_LOCAL_PORTS")) else {
        return;
    };
    let mut config = config(dir.as_ref(), 1);
    config.agents[0].ports = serde_json::from_str(ports.to_str().expect("json")).expect("ports");
    let mut scheduler = Scheduler::start(config).await;
    scheduler.launch("a0", "t", Behaviour::default()).await;
    if std::env::var_os("TEST_LOCAL_WAIT").is_some() {
        scheduler.state("t", TaskState::Running).await;
        eprintln!("running");
    } else {
        eprintln!("accepted");
    }
    std::future::pending::<()>().await;
}

async fn killed_and_back(wait: bool, delay: Duration) {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path(), 1);
    let ports = serde_json::to_string(&config.agents[0].ports).expect("json");
    let mut command = Command::new(&config.executor.program);
    command.args(["--exact", "local_process", "--ignored", "--nocapture"]);
    command.env("TEST_LOCAL_DIR", dir.path()).env("TEST_LOCAL_PORTS", ports);
    if wait {
        command.env("TEST_LOCAL_WAIT", "1");
    }
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(first.stderr.take().expect("piped")).lines();
    let goal = if wait { "running" } else { "accepted" };
    assert!(lines.any(|line| line.expect("text").contains(goal)));
    tokio::time::sleep(delay).await;
    first.kill().expect("ours");
    first.wait().expect("ours");
    let mut scheduler = Scheduler::start(config).await;
    if wait || dir.path().join("agents/a0/tasks/t.json").exists() {
        if wait {
            until(|| scheduler.local.executor_pid(&TaskId::from("t")).is_some()).await;
        } else {
            scheduler.state("t", TaskState::Running).await;
        }
        loop {
            // The executor takes a moment to be back, and messages may get lost.
            scheduler.say("a0", "t", b"there?").await;
            let answer = tokio::time::timeout(Duration::from_millis(100), scheduler.heard("t")).await;
            if answer.is_ok_and(|answer| answer == "echo there?") {
                break;
            }
        }
        assert_eq!(scheduler.reconcile("a0", "t").await, TaskState::Running);
        assert_eq!(scheduler.starts("a0", "t"), 1, "neither lost nor doubled");
        scheduler.kill("a0", "t").await;
        scheduler.state("t", TaskState::Killed).await;
    }
    scheduler.end().await;
}

#[tokio::test]
async fn executors_outlive_a_sigkill_of_ours() {
    killed_and_back(true, Duration::ZERO).await;
}

#[tokio::test]
async fn a_sigkill_of_ours_amid_launches_neither_loses_nor_doubles_one() {
    // From before the record is written until after the executor has connected.
    for ms in 0..12 {
        killed_and_back(false, Duration::from_micros(ms * 700)).await;
    }
}

#[tokio::test]
async fn only_executors_of_ours_are_let_in() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    scheduler.run("a0", "t").await;
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.path().join(file)).expect("file")).expect("json")
    };
    let url = format!("http://127.0.0.1:{}/api/v1/executor", read("agents/a0/agent.json")["port"]);
    let token = read("framework.json")["token"].as_str().expect("text").to_owned();
    let call =
        r#"{"type":"MESSAGE","executor_id":{"value":"t"},"framework_id":{"value":"f"},"message":{"data":"aGk="}}"#;
    let unknown = call.replace("\"t\"", "\"u\"");
    let huge = "x".repeat(5_000_000);
    let client = reqwest::Client::new();
    for (token, body, status) in [
        (None, call, 401),
        (Some("wrong"), call, 401),
        (Some(token.as_str()), call, 202),
        (Some(token.as_str()), unknown.as_str(), 400),
        (Some(token.as_str()), "{", 400),
        (Some(token.as_str()), r#"{"type":"X","executor_id":{"value":"t"},"framework_id":{"value":"f"}}"#, 501),
        (Some(token.as_str()), huge.as_str(), 413),
    ] {
        let mut request = client.post(&url).body(body.to_owned());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        assert_eq!(request.send().await.expect("an answer").status().as_u16(), status, "{}", &body[..1]);
    }
    assert_eq!(scheduler.heard("t").await, "hi");
    let mode = |file: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.path().join(file)).expect("file").permissions())
            & 0o777
    };
    assert_eq!(
        (mode("framework.json"), mode("agents/a0/tasks/t.json"), mode("agents/a0/sandboxes/t")),
        (0o600, 0o600, 0o755)
    );
    scheduler.end().await;
}

#[tokio::test]
async fn old_sandboxes_are_removed() {
    let dir = tempfile::tempdir().expect("dir");
    let mut config = config(dir.path(), 1);
    config.sandboxes_kept = 2;
    let mut scheduler = Scheduler::start(config).await;
    for task in ["t1", "t2", "t3", "t4"] {
        scheduler.run("a0", task).await;
        scheduler.kill("a0", task).await;
        scheduler.state(task, TaskState::Killed).await;
        until(|| dir.path().join(format!("agents/a0/ended/{task}.json")).exists()).await;
    }
    let kept = || {
        let names = std::fs::read_dir(dir.path().join("agents/a0/sandboxes")).expect("dir");
        let mut names: Vec<_> = names.map(|name| name.expect("name").file_name()).collect();
        names.sort();
        names
    };
    until(|| kept() == ["t3", "t4"]).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_volume_outlives_its_task_and_is_offered_again() {
    let dir = tempfile::tempdir().expect("dir");
    let mut config = config(dir.path(), 1);
    config.sandboxes_kept = 0;
    let volume = VolumeId::from("mysos-x-0");
    let mut scheduler = Scheduler::start(config.clone()).await;
    let first = scheduler.offer("a0").await;
    let port = first.ports.clone().take(0).expect("ports");
    scheduler.accept_on(&first, "mysos-x-0", port, Storage::NewVolume(volume.clone())).await;
    scheduler.state("mysos-x-0", TaskState::Running).await;
    let data = dir.path().join("agents/a0/sandboxes/mysos-x-0/mysql/data");
    std::fs::write(&data, "precious").expect("the sandbox leads there");
    signal(scheduler.pid("mysos-x-0"), rustix::process::Signal::KILL);
    scheduler.state("mysos-x-0", TaskState::Failed).await;
    let held = |offer: &Offer| offer.held.iter().any(|held| held.exists && held.ports.contains(port));
    let offer = scheduler.offer_where("a0", held).await;
    assert_eq!(offer.resources.plus(&offer.held[0].resources), first.resources, "its room stays reserved");
    assert!(!offer.ports.contains(port), "and its port");
    until(|| !dir.path().join("agents/a0/sandboxes/mysos-x-0").exists()).await;

    // Also after everything was killed.
    scheduler.local.close().await;
    let mut scheduler = Scheduler::start(config).await;
    let offer = scheduler.offer_where("a0", held).await;
    scheduler.accept_on(&offer, "mysos-x-0-r1", port, Storage::Volume(volume.clone())).await;
    scheduler.state("mysos-x-0-r1", TaskState::Running).await;
    let again = dir.path().join("agents/a0/sandboxes/mysos-x-0-r1/mysql/data");
    assert_eq!(std::fs::read_to_string(again).expect("is there"), "precious");

    // It is removed when that is asked for, and not while a task has it.
    let offer = scheduler.offer("a0").await;
    assert!(offer.held.is_empty(), "{offer:?}");
    scheduler.release(&offer, &volume).await;
    let refused = |outcome: &VolumeOutcome| matches!(outcome, VolumeOutcome::Failed { .. });
    scheduler.volume(&volume, refused).await;
    scheduler.kill("a0", "mysos-x-0-r1").await;
    scheduler.state("mysos-x-0-r1", TaskState::Killed).await;
    let offer = scheduler.offer_where("a0", held).await;
    scheduler.release(&offer, &volume).await;
    scheduler.volume(&volume, |outcome| *outcome == VolumeOutcome::Released).await;
    assert_eq!(std::fs::read_dir(dir.path().join("agents/a0/volumes")).expect("dir").count(), 0);
    assert_eq!(scheduler.offer_where("a0", |offer| offer.resources == first.resources).await.ports, first.ports);
    scheduler.end().await;
}

#[tokio::test]
async fn a_volume_whose_data_is_gone_is_not_made_again() {
    let dir = tempfile::tempdir().expect("dir");
    let volume = VolumeId::from("mysos-x-0");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    let offer = scheduler.offer("a0").await;
    let port = offer.ports.clone().take(0).expect("ports");
    scheduler.accept_on(&offer, "mysos-x-0", port, Storage::NewVolume(volume.clone())).await;
    scheduler.state("mysos-x-0", TaskState::Running).await;
    scheduler.kill("a0", "mysos-x-0").await;
    scheduler.state("mysos-x-0", TaskState::Killed).await;
    let offer = scheduler.offer_where("a0", |offer| !offer.held.is_empty()).await;
    std::fs::remove_dir(dir.path().join("agents/a0/volumes/mysos-x-0")).expect("is there");
    scheduler.accept_on(&offer, "mysos-x-0-r1", port, Storage::Volume(volume)).await;
    let failed = scheduler.state("mysos-x-0-r1", TaskState::Failed).await;
    assert!(failed.message.contains("volumes/mysos-x-0"), "{}", failed.message);
    scheduler.end().await;
}

/// Earlier versions had the data in sandboxes, and removed them.
#[tokio::test]
async fn data_in_sandboxes_of_earlier_versions_is_made_volumes() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path(), 1);
    let mut scheduler = Scheduler::start(config.clone()).await;
    scheduler.run("a0", "mysos-x-0").await;
    scheduler.run("a0", "mysos-x-1").await;
    let sandbox = |task: &str| dir.path().join("agents/a0/sandboxes").join(task).join("mysql");
    for task in ["mysos-x-0", "mysos-x-1"] {
        std::fs::create_dir(sandbox(task)).expect("made");
        std::fs::write(sandbox(task).join("data"), task).expect("written");
    }
    scheduler.kill("a0", "mysos-x-0").await;
    scheduler.state("mysos-x-0", TaskState::Killed).await;
    let offer = scheduler.offer_where("a0", |offer| !offer.held.is_empty()).await;
    assert_eq!(offer.held[0].volume, VolumeId::from("mysos-x-0"));
    scheduler.local.shutdown(Duration::from_secs(5)).await;
    scheduler.local.close().await;

    let mut scheduler = Scheduler::start(config).await;
    scheduler.state("mysos-x-1", TaskState::Running).await;
    for task in ["mysos-x-0", "mysos-x-1"] {
        assert!(std::fs::symlink_metadata(sandbox(task)).expect("is there").is_symlink(), "{task}");
        let data = dir.path().join("agents/a0/volumes").join(task).join("data");
        assert_eq!(std::fs::read_to_string(data).expect("is there"), task);
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_scheduler_of_another_origin_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    let other = || Some(FrameworkId::from("other"));
    scheduler.local.subscribe(other()).await.expect("there is nothing to mistake for its own");
    scheduler.run("a0", "t").await;
    let error = scheduler.local.subscribe(other()).await.expect_err("there is now").chain();
    assert!(error.contains("'other'") && error.contains("'local-"), "{error}");
    scheduler.end().await;
}

#[tokio::test]
async fn declined_and_suppressed_offers_come_when_they_shall() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 1)).await;
    let offer = scheduler.offer("a0").await;
    let began = std::time::Instant::now();
    scheduler.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 200 }).await;
    let offer = scheduler.offer("a0").await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    scheduler.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 3_600_000 }).await;
    scheduler.call(MesosCall::Revive).await;
    let offer = scheduler.offer("a0").await;
    scheduler.call(MesosCall::Suppress).await;
    scheduler.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 0 }).await;
    let silence = tokio::time::timeout(Duration::from_millis(100), scheduler.local.next_event()).await;
    assert!(silence.is_err(), "{silence:?}");
    scheduler.call(MesosCall::Revive).await;
    scheduler.offer("a0").await;
}

#[tokio::test]
async fn twelve_launches_at_once_take_little_time() {
    let dir = tempfile::tempdir().expect("dir");
    let mut scheduler = Scheduler::start(config(dir.path(), 3)).await;
    let began = std::time::Instant::now();
    let mut tasks = Vec::new();
    for n in 0..12 {
        let task = format!("t{n}");
        scheduler.launch(&format!("a{}", n % 3), &task, Behaviour::default()).await;
        tasks.push(task);
    }
    let taken = began.elapsed();
    for task in &tasks {
        scheduler.state(task, TaskState::Running).await;
    }
    eprintln!("12 launches handed over after {taken:?}, all running after {:?}", began.elapsed());
    scheduler.local.kill_agent(&AgentId::from("a2")).await.expect("kills");
    scheduler.end().await;
}
