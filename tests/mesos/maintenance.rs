//! Agents that an operator is going to take down.

use crate::scheduler::{SMALL, STEP};
use crate::{Outcome, mesos, subscribed};
use cotton_core::ports::mesos::{MesosCall, MesosEvent};
use cotton_tests::{Failure, RealMesos, within};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Says when all agents of the test will be taken down; never, without a time.
async fn schedule(mesos: &RealMesos, starts_in: Option<Duration>) -> Outcome {
    let machine = json!({ "hostname": "127.0.0.1", "ip": "127.0.0.1" });
    let window = |starts_in: Duration| {
        let start = SystemTime::now() + starts_in;
        let start = start.duration_since(UNIX_EPOCH).expect("later than 1970").as_nanos();
        let start = u64::try_from(start).expect("before 2554");
        json!({ "machine_ids": [machine], "unavailability": { "start": { "nanoseconds": start } } })
    };
    let windows: Vec<Value> = starts_in.into_iter().map(window).collect();
    let call = json!({ "type": "UPDATE_MAINTENANCE_SCHEDULE",
        "update_maintenance_schedule": { "schedule": { "windows": windows } } });
    mesos.operator(call).await.map(drop)
}

/// Waits until the operator sees an answer.
async fn answered(mesos: &RealMesos, answer: &str) -> Outcome {
    let seen = async {
        loop {
            let status = mesos.operator(json!({ "type": "GET_MAINTENANCE_STATUS" })).await?;
            let machines = &status["get_maintenance_status"]["status"]["draining_machines"];
            if machines[0]["statuses"][0]["status"] == answer {
                return Ok::<(), Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(STEP, answer, seen).await?
}

#[tokio::test]
async fn an_agent_is_let_go_when_it_can_be() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let mut scheduler = subscribed(&mesos).await?;
    let agent = scheduler.run("t", SMALL, "").await?;
    let offer = scheduler.offer(&SMALL).await?;
    assert_eq!(offer.maintenance_in_ms, None);
    schedule(&mesos, Some(Duration::from_hours(1))).await?;
    let asked = |event: &MesosEvent| match event {
        MesosEvent::Maintenance { id, agent, starts_in_ms } => Some((id.clone(), agent.clone(), *starts_in_ms)),
        _ => None,
    };
    let (id, of, starts_in_ms) = scheduler.wait("the request to leave", asked).await?;
    assert_eq!(of, agent);
    assert!((3_500_000..=3_600_000).contains(&starts_in_ms), "{starts_in_ms}");
    let offer = scheduler.offer_with("an offer that says so", |offer| offer.maintenance_in_ms.is_some()).await?;
    assert!(offer.maintenance_in_ms.is_some_and(|ms| (3_500_000..=3_600_000).contains(&ms)));

    scheduler.call(MesosCall::AnswerMaintenance { id, ready: false }).await?;
    answered(&mesos, "DECLINE").await?;
    // It is asked again.
    let (id, ..) = scheduler.wait("the request again", asked).await?;
    scheduler.call(MesosCall::AnswerMaintenance { id, ready: true }).await?;
    answered(&mesos, "ACCEPT").await?;

    // Another time: a question of its own, which the operator takes back.
    schedule(&mesos, Some(Duration::ZERO)).await?;
    let (id, _, starts_in_ms) = scheduler.wait("the new request", asked).await?;
    assert_eq!(starts_in_ms, 0);
    schedule(&mesos, None).await?;
    let taken_back = MesosEvent::MaintenanceRescinded(id);
    scheduler.wait("it is taken back", |event| (*event == taken_back).then_some(())).await?;
    scheduler.offer_with("an offer as before", |offer| offer.maintenance_in_ms.is_none()).await.map(drop)
}
