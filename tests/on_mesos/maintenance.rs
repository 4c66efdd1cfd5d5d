//! Maintenance that an operator announces: Mesos asks whether a machine can be done without, and we answer as it is.

use crate::{Outcome, SOME, STEP, checks, loaded};
use cotton_tests::{Cluster, Failure, Member, MesosOptions, Stock, StockOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// As long as it may take until one machine after the other is let go; see there.
const ONE_AFTER_THE_OTHER: Duration = Duration::from_mins(5);

/// Says that these machines are taken down in half an hour; replaces what was said before.
async fn schedule(stock: &Stock, hosts: &[&str]) -> Outcome {
    let start = (SystemTime::now() + Duration::from_mins(30)).duration_since(UNIX_EPOCH).expect("later than 1970");
    let start = u64::try_from(start.as_nanos()).expect("before 2554");
    let machines: Vec<Value> = hosts.iter().map(|host| json!({ "hostname": host, "ip": "127.0.0.1" })).collect();
    let window = json!({ "machine_ids": machines, "unavailability": { "start": { "nanoseconds": start } } });
    let windows = if hosts.is_empty() { json!([]) } else { json!([window]) };
    let call = json!({ "type": "UPDATE_MAINTENANCE_SCHEDULE",
        "update_maintenance_schedule": { "schedule": { "windows": windows } } });
    stock.mesos.operator(call).await.map(drop)
}

/// The machines that are to be taken down, each with our answer.
async fn answers(stock: &Stock) -> Result<Vec<(String, String)>, Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_MAINTENANCE_STATUS" })).await?;
    let machines = said["get_maintenance_status"]["status"]["draining_machines"].as_array().cloned();
    let answer = |machine: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&machine["id"]["hostname"]), text(&machine["statuses"][0]["status"]))
    };
    let mut answers: Vec<_> = machines.unwrap_or_default().iter().map(answer).collect();
    answers.sort_unstable();
    Ok(answers)
}

/// Waits until the operator sees that answer for each of these.
async fn answered(stock: &Stock, hosts: &[&str], answer: &str, limit: Duration) -> Outcome {
    let mut wanted: Vec<_> = hosts.iter().map(|host| ((*host).to_owned(), answer.to_owned())).collect();
    wanted.sort_unstable();
    checks::until_within(limit, "the answers", &wanted, async || answers(stock).await).await
}

fn host(member: &Member) -> &str {
    &member.endpoint.host
}

async fn machines(agents: u16) -> Result<Option<Stock>, Failure> {
    let mesos = MesosOptions { agents, machines: true, ..MesosOptions::default() };
    Stock::start_with(StockOptions { mesos, ..StockOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_hands_over_before_its_machine_is_let_go() -> Outcome {
    let Some(stock) = machines(4).await? else { return Ok(()) };
    let (writer, before) = loaded(&stock).await?;
    let old = before.primary()?.clone();
    let asked = Instant::now();
    schedule(&stock, &[host(&old)]).await?;
    writer.first_elsewhere(old.endpoint.port, asked, STEP).await?;
    let handed_over = |c: &Cluster| c.epoch == 2 && c.is_healthy();
    let seen = stock.api(0).until("a", STEP, "handed over", handed_over).await?;
    answered(&stock, &[host(&old)], "ACCEPT", STEP).await?;
    writer.progress(SOME, STEP).await?;
    checks::tell_pause("the machine of a primary was announced to go", &writer, asked);
    let events = checks::no_primary_lost(&stock).await?;
    assert_eq!(checks::count(&events, "switched_over"), 1, "{events:#?}");
    let tasks = |c: &Cluster| c.members.iter().map(|member| member.task.clone()).collect::<Vec<_>>();
    assert_eq!(tasks(&seen), tasks(&before), "nothing ends before the operator ends it");

    // No new member goes there.
    let api = stock.api(0);
    stock.executor(seen.member(old.id).ok_or_else(|| Failure::new("it has left"))?)?.1.kill();
    let whole = |c: &Cluster| c.is_healthy() && c.member(old.id).is_none();
    let seen = api.until("a", STEP, "whole without it", whole).await?;
    assert!(seen.members.iter().all(|member| host(member) != host(&old)), "{seen:?}");
    answered(&stock, &[host(&old)], "ACCEPT", STEP).await?;

    // Called off, it is as before.
    schedule(&stock, &[]).await?;
    answered(&stock, &[], "", STEP).await?;
    api.scale("a", 4).await?;
    let full = api.until("a", STEP, "at its size", |c| c.size == 4 && c.is_healthy()).await?;
    let back = full.members.iter().find(|member| host(member) == host(&old)).expect("only that was free").id;
    api.until_switched_over("a", back, STEP).await?;
    let seen = api.until("a", STEP, "handed back", |c| c.epoch > 2 && c.is_healthy()).await?;
    writer.progress(SOME, STEP).await?;
    assert_eq!(seen.primary, Some(back));
    let events = checks::no_primary_lost(&stock).await?;
    assert_eq!(checks::count(&events, "switched_over"), 2, "{events:#?}");
    checks::whole(&stock, writer, &seen).await
}

/// Commits need a replica: with three members, one machine can be done without, and not that of the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_machines_at_once_only_one_is_let_go() -> Outcome {
    let Some(stock) = machines(3).await? else { return Ok(()) };
    let (writer, before) = loaded(&stock).await?;
    let mut hosts: Vec<&str> = before.members.iter().map(host).collect();
    schedule(&stock, &hosts).await?;
    let said = async || Ok(answers(&stock).await?.into_iter().map(|(_, answer)| answer).collect::<BTreeSet<_>>());
    hosts.sort_unstable();
    checks::until("all are answered", &["ACCEPT", "DECLINE"].map(str::to_owned).into(), said).await?;
    let seen = stock.api(0).until_healthy("a", STEP).await?;
    writer.progress(SOME, STEP).await?;
    let let_go: Vec<_> = answers(&stock).await?.into_iter().filter(|(_, answer)| answer == "ACCEPT").collect();
    assert_eq!(let_go.len(), 1, "{let_go:?}");
    assert_ne!(let_go[0].0, host(seen.primary()?));
    checks::no_primary_lost(&stock).await?;

    // One after the other is no problem: what is not asked for any more is forgotten after a minute.
    hosts = vec![host(seen.primary()?)];
    schedule(&stock, &hosts).await?;
    answered(&stock, &hosts, "ACCEPT", ONE_AFTER_THE_OTHER).await?;
    let seen = stock.api(0).until_healthy("a", STEP).await?;
    assert_ne!(host(seen.primary()?), hosts[0]);
    checks::whole(&stock, writer, &seen).await
}
