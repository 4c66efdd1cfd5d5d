//! The scheduler's connection to Mesos, held against a real Mesos 1.11.0: a master and agents as processes, which are killed.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the events that it waits for")]

mod executor;
mod maintenance;
mod scheduler;
mod volumes;
mod whole;

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use cotton_core::ports::mesos::{Mesos, MesosCall, MesosEvent, TaskState};
use cotton_core::resources::MIB;
use cotton_core::testkit::contract;
use cotton_core::{ErrorKind, Resources, TaskId};
use cotton_mesos::Credential;
use cotton_tests::{Failure, MesosOptions, RealMesos, Settings, within};
use rustix::process::Signal;
use scheduler::{SMALL, STEP, Scheduler, config, connection};
use serde_json::json;
use std::time::Duration;

type Outcome = Result<(), Failure>;

/// Not a test: what agents start.
#[tokio::test]
#[ignore = "started by agents only"]
async fn executor_process() {
    if std::env::var_os("MESOS_EXECUTOR_ID").is_some() {
        executor::run().await;
    }
}

/// A Mesos with so many agents; `None` when there is none.
async fn mesos(agents: u16) -> Result<Option<RealMesos>, Failure> {
    if !RealMesos::is_installed() {
        return Ok(None);
    }
    RealMesos::start(MesosOptions { agents, ..MesosOptions::default() }).await.map(Some)
}

/// A scheduler that is subscribed to it.
async fn subscribed(mesos: &RealMesos) -> Result<Scheduler, Failure> {
    Scheduler::start(connection(config(), &mesos.master().to_string()), None).await
}

#[tokio::test]
async fn it_keeps_the_contract_of_mesos() -> Outcome {
    let Some(mesos) = mesos(2).await? else { return Ok(()) };
    let port = connection(config(), &mesos.master().to_string());
    let size = Resources { cpus_milli: 500, mem_bytes: 64 * MIB, disk_bytes: 64 * MIB };
    within(STEP, "the end of the suite", contract::mesos::mesos(&port, size, "{}".into())).await
}

#[tokio::test]
async fn what_is_reserved_for_the_role_is_used_beside_what_is_not() -> Outcome {
    if !RealMesos::is_installed() {
        return Ok(());
    }
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = MesosOptions {
        resources: "cpus(mysql):1;cpus:1.5;mem(mysql):256;mem:512;disk:1024;cpus(other):8".to_owned(),
        agent: Settings::from([
            setting("ATTRIBUTES", "rack:r1;slots:[1-3,7-9];zone:own"),
            setting("DOMAIN", r#"{"fault_domain":{"region":{"name":"eu"},"zone":{"name":"eu-1"}}}"#),
        ]),
        master: Settings::from([setting(
            "DOMAIN",
            r#"{"fault_domain":{"region":{"name":"eu"},"zone":{"name":"eu-0"}}}"#,
        )]),
        ..MesosOptions::default()
    };
    let mesos = RealMesos::start(options).await?;
    let mut scheduler = subscribed(&mesos).await?;
    let all = Resources { cpus_milli: 2500, mem_bytes: 768 * MIB, disk_bytes: 1024 * MIB };
    let offer = scheduler.offer(&all).await?;
    assert_eq!(offer.resources, all);
    let attributes: Vec<String> = offer.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(attributes, ["rack=r1", "region=eu", "slots=[1-3,7-9]", "zone=own"]);
    scheduler.call(MesosCall::Decline { offers: vec![offer.id], filter_ms: 0 }).await?;
    let most = Resources { cpus_milli: 2000, mem_bytes: 700 * MIB, disk_bytes: 100 * MIB };
    scheduler.run("mysql-like", most, "").await?;
    let tasks = mesos.operator(json!({ "type": "GET_TASKS" })).await?;
    let resources = tasks["get_tasks"]["tasks"][0]["resources"].as_array().expect("resources").clone();
    let cpus: Vec<(f64, bool)> = resources
        .iter()
        .filter(|resource| resource["name"] == "cpus")
        .map(|resource| (resource["scalar"]["value"].as_f64().expect("a number"), resource["reservations"].is_array()))
        .collect();
    assert_eq!(cpus, [(0.99, true), (1.01, false)], "{resources:?}");
    let rest = scheduler.offer(&Resources { cpus_milli: 490, mem_bytes: 36 * MIB, disk_bytes: 900 * MIB }).await?;
    assert_eq!(rest.resources.cpus_milli, 490);
    Ok(())
}

#[tokio::test]
async fn a_lingering_executor_is_ended_with_its_task_and_a_killed_one_fails_it() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let mut scheduler = subscribed(&mesos).await?;
    let agent = scheduler.run("t1", SMALL, "linger").await?;
    scheduler.echo("t1", &agent).await?;
    let (task, data) = (TaskId::from("t1"), "finish".into());
    scheduler.call(MesosCall::Message { task, agent: agent.clone(), data }).await?;
    assert_eq!(scheduler.state("t1", TaskState::Finished).await?.message, "done");
    for process in mesos.task_processes(0) {
        process.ended(STEP).await?;
    }
    scheduler.run("t2", SMALL, "").await?;
    let executor = mesos.task_processes(0).into_iter().find(|process| process.task.as_deref() == Some("t2"));
    executor.ok_or_else(|| Failure::new("no executor runs"))?.kill();
    let failed = scheduler.state("t2", TaskState::Failed).await?;
    assert!(failed.message.contains("REASON_EXECUTOR_TERMINATED"), "{}", failed.message);
    Ok(())
}

#[tokio::test]
async fn a_master_that_dies_finds_the_framework_and_its_tasks_again() -> Outcome {
    let Some(mut mesos) = mesos(1).await? else { return Ok(()) };
    let mut scheduler = subscribed(&mesos).await?;
    let agent = scheduler.run("t", SMALL, "").await?;
    mesos.kill_master()?;
    scheduler.disconnected().await?;
    let call = MesosCall::Kill { task: TaskId::from("t"), agent: agent.clone() };
    let error = scheduler.mesos.call(call).await.expect_err("not connected");
    assert!(error.is_temporary(), "{}", error.chain());
    mesos.start_master().await?;
    assert_eq!(scheduler.subscribed().await?, scheduler.framework);
    mesos.until_active(1).await?;
    assert_eq!(scheduler.reconciled("t", &agent).await?.state, TaskState::Running);
    scheduler.echo("t", &agent).await?;
    scheduler.offer(&SMALL).await?;
    scheduler.kill("t", &agent).await?;
    scheduler.state("t", TaskState::Killed).await?;
    Ok(())
}

#[tokio::test]
async fn a_master_that_hangs_is_left_and_found_again() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let mut impatient = config();
    impatient.call_timeout = Duration::from_secs(1);
    let mut scheduler = Scheduler::start(connection(impatient, &mesos.master().to_string()), None).await?;
    let agent = scheduler.run("t", SMALL, "").await?;
    mesos.signal_master(Signal::STOP);
    scheduler.call(MesosCall::Revive).await?; // nobody knows whether it arrives
    scheduler.disconnected().await?;
    mesos.signal_master(Signal::CONT);
    assert_eq!(scheduler.subscribed().await?, scheduler.framework);
    scheduler.echo("t", &agent).await?;
    assert_eq!(scheduler.reconciled("t", &agent).await?.state, TaskState::Running);
    Ok(())
}

#[tokio::test]
async fn a_scheduler_that_comes_back_finds_its_tasks() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let mut first = subscribed(&mesos).await?;
    let agent = first.run("t", SMALL, "").await?;
    let framework = first.framework.clone();
    drop(first);
    let masters = mesos.master().to_string();
    let mut second = Scheduler::start(connection(config(), &masters), Some(framework.clone())).await?;
    assert_eq!(second.framework, framework);
    assert_eq!(second.reconciled("t", &agent).await?.state, TaskState::Running);
    second.call(MesosCall::Reconcile(Vec::new())).await?;
    second.state("t", TaskState::Running).await?;

    // It may have changed what it says of itself, but not who it is.
    let mut changed = config();
    changed.framework.failover_timeout = Duration::from_mins(1);
    changed.framework.user = "nobody".to_owned();
    let mut second = Scheduler::start(connection(changed, &masters), Some(framework.clone())).await?;
    let frameworks = mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
    let info = &frameworks["get_frameworks"]["frameworks"][0]["framework_info"];
    assert_eq!(info["failover_timeout"], 60.0, "{info}");
    second.echo("t", &agent).await?;
    assert_eq!(info["user"], config().framework.user, "that is not taken over; each task says its own");
    let mut changed = config();
    changed.framework.principal = Some("somebody else".to_owned());
    let error = connection(changed, &masters).subscribe(Some(framework.clone())).await.expect_err("refused");
    assert!(!error.is_temporary() && error.chain().contains("principal"), "{}", error.chain());

    // Two at the same time: the first one learns that it has to stop.
    let third = Scheduler::start(connection(config(), &masters), Some(framework)).await?;
    let error = second.end().await?;
    assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Conflict, false));
    assert!(error.chain().contains("another scheduler"), "{}", error.chain());
    drop(third);
    Ok(())
}

#[tokio::test]
async fn an_agent_that_dies_may_come_back_with_its_tasks() -> Outcome {
    let Some(mut mesos) = mesos(1).await? else { return Ok(()) };
    let mut scheduler = subscribed(&mesos).await?;
    let agent = scheduler.run("t", SMALL, "").await?;

    // Back soon: nobody notices.
    mesos.kill_agent(0)?;
    mesos.start_agent(0)?;
    scheduler.echo("t", &agent).await?;

    // Away for longer: its tasks are unreachable, which is not their end.
    mesos.kill_agent(0)?;
    let status = scheduler.state("t", TaskState::Unreachable).await?;
    assert!(status.message.contains("REASON_AGENT_REMOVED"), "{}", status.message);
    scheduler.wait("its agent is lost", |event| (*event == MesosEvent::AgentLost(agent.clone())).then_some(())).await?;
    assert_eq!(scheduler.reconciled("t", &agent).await?.state, TaskState::Unreachable);
    mesos.start_agent(0)?;
    scheduler.state("t", TaskState::Running).await?;
    scheduler.echo("t", &agent).await?;

    // Declared gone by an operator: that is final.
    let gone = json!({ "type": "MARK_AGENT_GONE", "mark_agent_gone": { "agent_id": { "value": agent.as_str() } } });
    mesos.operator(gone).await?;
    scheduler.state("t", TaskState::Gone).await?;
    assert!(scheduler.reconciled("t", &agent).await?.state.is_terminal());
    Ok(())
}

#[tokio::test]
async fn a_framework_that_was_removed_is_not_replaced_by_another() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let masters = mesos.master().to_string();
    let mut scheduler = subscribed(&mesos).await?;
    let framework = scheduler.framework.clone();
    scheduler.run("t", SMALL, "").await?;

    // By us.
    scheduler.mesos.teardown().await?;
    let error = scheduler.end().await?;
    assert!(error.chain().contains("torn down as asked for"), "{}", error.chain());
    for process in mesos.task_processes(0) {
        process.ended(STEP).await?;
    }
    let again = connection(config(), &masters);
    for _ in 0..2 {
        let error = again.subscribe(Some(framework.clone())).await.expect_err("refused");
        assert_eq!((error.kind, error.is_temporary()), (ErrorKind::NotFound, false));
        assert!(error.chain().contains("Mesos has removed framework"), "{}", error.chain());
        assert!(again.next_event().await.is_err() && again.call(MesosCall::Revive).await.is_err());
    }

    // By somebody else, while we are subscribed.
    let mut other = subscribed(&mesos).await?;
    assert_ne!(other.framework, framework);
    let url = format!("http://{masters}/teardown");
    let body = format!("frameworkId={}", other.framework);
    reqwest::Client::new().post(url).body(body).send().await?.error_for_status()?;
    assert_eq!(other.end().await?.kind, ErrorKind::NotFound);

    // By Mesos, because we were away for too long.
    let mut brief = config();
    brief.framework.failover_timeout = Duration::from_millis(100);
    let away = Scheduler::start(connection(brief, &masters), None).await?.framework;
    let removed = async {
        loop {
            let frameworks = mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
            if frameworks["get_frameworks"]["frameworks"].as_array().is_none_or(Vec::is_empty) {
                return Ok::<(), Failure>(());
            }
        }
    };
    within(STEP, "Mesos removes the framework", removed).await??;
    let error = again.subscribe(Some(away)).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::NotFound);
    let frameworks = mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
    let running = frameworks["get_frameworks"]["frameworks"].as_array().map_or(0, Vec::len);
    assert_eq!(running, 0, "{frameworks}");
    Ok(())
}

#[tokio::test]
async fn credentials_are_checked_and_refused_in_words() -> Outcome {
    if !RealMesos::is_installed() {
        return Ok(());
    }
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let credentials = r#"{"credentials":[{"principal":"cotton","secret":"s3cret"}]}"#;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), credentials)?;
    let options = MesosOptions {
        agents: 0,
        master: Settings::from([
            setting("AUTHENTICATE_HTTP_FRAMEWORKS", "true"),
            setting("HTTP_FRAMEWORK_AUTHENTICATORS", "basic"),
            setting("CREDENTIALS", &format!("file://{}", file.path().display())),
        ]),
        ..MesosOptions::default()
    };
    let mesos = RealMesos::start(options).await?;
    let masters = mesos.master().to_string();
    let with = |principal: &str, secret: &str| {
        let mut config = config();
        config.credential = Some(Credential { principal: principal.to_owned(), secret: secret.to_owned().into() });
        connection(config, &masters)
    };
    let good = Scheduler::start(with("cotton", "s3cret"), None).await?;
    good.call(MesosCall::Revive).await?;
    for (wrong, hint) in [
        (with("cotton", "wrong"), "the secret of principal 'cotton'"),
        (with("nobody", "s3cret"), "the secret of principal 'nobody'"),
        (connection(config(), &masters), "no principal and secret were given"),
    ] {
        let error = wrong.subscribe(None).await.expect_err("refused");
        assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Denied, false));
        assert!(error.chain().contains(hint) && !error.chain().contains("s3cret"), "{}", error.chain());
    }
    let mut config = config();
    config.framework.roles = vec!["bad role".to_owned()];
    config.credential = Some(Credential { principal: "cotton".to_owned(), secret: "s3cret".to_owned().into() });
    let error = connection(config, &masters).subscribe(None).await.expect_err("refused");
    assert!(error.chain().contains("invalid role"), "{}", error.chain());
    assert_eq!((error.kind, error.is_temporary()), (ErrorKind::Invalid, false));
    Ok(())
}

#[tokio::test]
async fn a_master_that_does_not_lead_points_to_the_one_that_does() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let leading = mesos.master();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let standby = listener.local_addr()?;
    let location = format!("//{leading}/api/v1/scheduler");
    let redirect = move || {
        let location = location.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]) }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(redirect)).await });
    // The first one of the list is down.
    let mut scheduler = Scheduler::start(connection(config(), &format!("127.0.0.1:1,{standby}")), None).await?;
    let agent = scheduler.run("t", SMALL, "").await?;
    scheduler.echo("t", &agent).await
}
